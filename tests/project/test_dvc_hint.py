from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest
from dvc.repo import Repo

from dvc_hint.seamline_dvc_hint import NO_GIT, error_to_hint, pull_source, shown
from seamline.base import git
from seamline.base import urls as addresses
from tests import warm
from tests.conftest import PROJECT

HINT = PROJECT / "dvc_hint"


def missing(path: Path) -> FileNotFoundError:
    return FileNotFoundError(2, "No such file or directory", str(path))


@pytest.mark.parametrize("source", ["photos", "../photos", "~/photos"])
def test_a_missing_source_is_explained_and_another_file_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text(f"pull: {{source: '{source}'}}")
    error = ValueError("of DVC's")
    place = tmp_path.parent / "photos" if source.startswith("..") else tmp_path / source
    error.__cause__ = missing(place)
    assert error_to_hint(error).startswith(f"pull.source: {source} does not exist")
    assert error_to_hint(missing(tmp_path / "dvc.lock")) == error_to_hint(None) == ""


@pytest.mark.parametrize(
    ("source", "told"), [("s3://me:pw@bucket/data?sig=1", "just now: s3://bucket/data\n"), ("photos", ""), ("", "")]
)
def test_a_bucket_is_named_where_the_source_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, told: str
) -> None:
    """A client's error may also be about the remote that results are shared by."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text(f"pull: {{source: '{source}'}}")
    error = type("ClientError", (Exception,), {"__module__": "botocore.exceptions"})("denied")
    hint = error_to_hint(error)
    assert told in hint
    assert bool(hint) == bool(told)


@pytest.mark.parametrize(("source", "told"), [("null", True), ("shirts.zip", False)])
def test_a_source_of_attributes_that_is_null_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, told: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text(f"attributes: {{source: {source}}}")
    (tmp_path / "dvc.yaml").write_text("stages: {a: {cmd: x, deps: ['${attributes.source}']}}")
    error: BaseException | None = None
    with Repo.init(no_scm=True) as repo:
        try:
            _ = repo.index.stages
        except AssertionError as asserted:  # that a dependency is something
            error = asserted
    assert (error is not None) == told
    assert ("`attributes.enabled: false` switches attributes off" in error_to_hint(error)) == told
    assert error_to_hint(ValueError("else")) == ""


@pytest.mark.parametrize(
    "text",
    [None, "", "pull: [", "pull: 3", "subset: {}", "pull: {source: [photos]}", "[" * 2000, "a: 2001-99-99", "pull: []",
     'pull: {source: "\\e[2J"}'],
)  # fmt: skip
def test_where_params_cannot_be_read_it_adds_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None
) -> None:
    monkeypatch.chdir(tmp_path)
    if text is not None:
        (tmp_path / "params.yaml").write_text(text)
    assert pull_source() == ""
    assert error_to_hint(missing(tmp_path / "params.yaml")) == ""
    assert error_to_hint(missing(tmp_path)) == ""


@pytest.mark.parametrize(
    "address", ["s3://bucket/a b", "https://user:pa/ss@host/a.zip?X-Amz-Signature=abc#x", "s3://AKID:secret@bucket/a/b"]
)
def test_an_address_is_shown_as_stages_show_it(address: str) -> None:
    assert shown(address) == addresses.shown(address)
    assert "secret" not in shown(address.replace("://", "://me:secret@["))


# Run in a folder of somebody else's, nothing of that folder is executed.

# What setup copied before, and what made `dvc` and `pip` execute files of the current folder.
OLD = """
import os, sys; os.path.isfile('seamline/stage.py') and sys.path.insert(0, os.getcwd())
import os, sys; os.path.basename((sys.orig_argv[1:2] or [''])[0]) == 'dvc' and os.path.isfile('seamline/dvc_hint.py') and __import__('seamline.dvc_hint')
"""  # noqa: E501
HOSTILE = (
    "seamline/__init__", "seamline/base/__init__", "seamline/base/urls", "seamline/base/process", "seamline/dvc_hint",
    "seamline/stage", "seamline_dvc_hint",
    "dvc_hint/seamline_dvc_hint", "logging", "pathlib", "pip", "sitecustomize", "stages/pull", "usercustomize", "yaml",
)  # fmt: skip
# With PYTHONPATH Python and its programs take from the current folder what they import themselves.
HOSTILE_TO_THE_HINT = [name for name in HOSTILE if "custom" not in name and name != "pip"]
DVC_YAML = """
stages:
  pull:
    cmd: python -m stages.pull data/raw
    deps: ["${pull.source}"]
    outs: [data]
"""


def environment_with(folder: Path, *files: Path) -> Path:
    """The programs of an environment that has all of this one's packages, and these files in its site-packages."""
    venv.create(folder, symlinks=True)
    programs, version = folder / "bin", f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = folder / "lib" / version / "site-packages"
    (packages / "packages.pth").write_text(sysconfig.get_path("purelib"))  # their .pth files are not read
    for file in files:
        (packages / file.name).write_bytes(file.read_bytes())
    for name, module in (("dvc", "dvc.cli"), ("pip", "pip._internal.cli.main")):
        (programs / name).write_text(f"#!{programs}/python\nimport sys\nfrom {module} import main\nsys.exit(main())\n")
        (programs / name).chmod(0o755)
    return programs


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    files = (HINT / "seamline_dvc_hint.py", HINT / "seamline_dvc_hint.pth")
    return environment_with(tmp_path_factory.mktemp("environment") / "venv", *files)


def executed(
    folder: Path, *command: str, names: tuple[str, ...] | list[str] = HOSTILE, **environment: str
) -> list[str]:
    """Which files of a foreign folder a command run there executes, and what it says, at the end."""
    told = folder.parent / "executed"
    told.touch()
    (folder / ".dvc").mkdir(parents=True)
    (folder / ".dvc" / "config").write_text("[core]\n no_scm = true\n analytics = false\n")
    (folder / "dvc.yaml").write_text(DVC_YAML)
    (folder / "params.yaml").write_text(f"pull: {{source: '{environment.pop('SOURCE', 'photos')}'}}")
    for name in names:
        path = folder / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"open({str(told)!r}, 'a').write('{name}\\n')\n")
    clean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH" and not key.startswith("AWS_")}
    done = subprocess.run(command, cwd=folder, env={**clean, **environment}, capture_output=True, text=True)
    return [*told.read_text().split(), done.stdout + done.stderr]


@pytest.mark.parametrize("program", ["dvc", "pip"])
def test_the_old_file_had_the_current_folder_executed(tmp_path: Path, program: str) -> None:
    (tmp_path / "seamline-here.pth").write_text(OLD)
    programs = environment_with(tmp_path / "venv", tmp_path / "seamline-here.pth")
    names = [name for name in HOSTILE if name != "logging"]  # an empty one, and neither program starts
    assert len(executed(tmp_path / "foreign", str(programs / program), "--version", names=names)) > 1


@pytest.mark.process
@pytest.mark.parametrize(
    "command",
    [
        ("dvc", "--version"),
        ("pip", "--version"),
        ("python", "-c", "pass"),
        ("dvc", "repro"),
        ("dvc", "repro", "--pull"),
    ],
)
def test_nothing_of_the_current_folder_is_executed(tmp_path: Path, programs: Path, command: tuple[str, ...]) -> None:
    program, *arguments = command
    *files, said = executed(tmp_path / "foreign", str(programs / program), *arguments)
    assert files == []
    assert "rror processing line" not in said
    assert ("pull.source: photos does not exist" in said) == ("repro" in command), said


@pytest.mark.process
@pytest.mark.parametrize("path", [os.pathsep, f"{os.pathsep}/nowhere", ".", "./"])
@pytest.mark.parametrize("arguments", [("--version",), ("repro",), ("repro", "--pull")])
def test_nor_where_pythonpath_names_it(tmp_path: Path, programs: Path, path: str, arguments: tuple[str, ...]) -> None:
    command = [str(programs / "dvc"), *arguments]
    *files, said = executed(tmp_path / "foreign", *command, names=HOSTILE_TO_THE_HINT, PYTHONPATH=path)
    assert files == []
    assert ("pull.source: photos does not exist" in said) == ("repro" in arguments), said


@pytest.mark.process
def test_nor_by_a_status_that_fails(tmp_path: Path, programs: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # where connections are refused
        endpoint = f"http://127.0.0.1:{taken.getsockname()[1]}"
        *files, said = executed(
            tmp_path / "foreign", str(programs / "dvc"), "status", SOURCE="s3://bucket/data", AWS_ENDPOINT_URL=endpoint,
            AWS_MAX_ATTEMPTS="1", AWS_ACCESS_KEY_ID="x", AWS_SECRET_ACCESS_KEY="x",
        )  # fmt: skip
    assert files == []
    assert "pull.source cannot be read just now: s3://bucket/data\n" in said


def test_other_programs_do_not_import_it(tmp_path: Path, programs: Path) -> None:
    code = "import sys; print(sorted({'seamline_dvc_hint', 'logging', 'pathlib', 'urllib'} & set(sys.modules)))"
    assert executed(tmp_path / "foreign", str(programs / "python"), "-c", code) == ["[]\n"]


# `dvc repro --pull` pulls what a stage needs.

PULLED = """
stages:
  make: {cmd: mkdir models && cp params.yaml models/made, deps: [params.yaml], outs: [models]}
  measure:
    cmd: cp models/made report && echo measured >> measured
    deps: [models/made]
    outs: [report: {cache: false}]
"""


@pytest.mark.process
@pytest.mark.parametrize("remote", ["full", "empty"])
def test_repro_pulls_what_a_stage_needs_in_a_fresh_clone(tmp_path: Path, remote: str) -> None:
    """Also where its results are in git, and where it is run by force; DVC pulls for neither."""

    def run(folder: str, *command: str) -> subprocess.CompletedProcess[str]:
        if command[0] == "dvc":
            return warm.run(command, tmp_path / folder)
        return subprocess.run(command, cwd=tmp_path / folder, capture_output=True, text=True, check=True)

    first = tmp_path / "first"
    (first / ".dvc").mkdir(parents=True)
    (first / ".dvc" / ".gitignore").write_text("/tmp\n/cache\n")
    (first / ".dvc" / "config").write_text(
        f"[core]\nremote=a\nanalytics=false\n['remote \"a\"']\nurl={tmp_path}/remote\n"
    )
    (first / ".gitignore").write_text("/models\n/measured\n")
    (first / "dvc.yaml").write_text(PULLED)
    (first / "params.yaml").write_text("{}")
    run("first", "git", "init", "--quiet")
    assert run("first", "dvc", "repro").returncode == 0
    if remote == "full":
        assert run("first", "dvc", "push").returncode == 0
    run("first", "git", "add", "--all")
    run("first", "git", "-c", "user.name=test", "-c", "user.email=test@localhost", "commit", "--quiet", "-m", "x")
    run(".", "git", "clone", "--quiet", "first", "clone")
    made, measured = (tmp_path / "clone" / name for name in ("models/made", "measured"))

    assert "No such file" in run("clone", "dvc", "repro", "--single-item", "measure").stderr  # nobody asked for it
    done = run("clone", "dvc", "repro", "--single-item", "--pull", "measure")
    assert (done.returncode, made.exists(), measured.exists()) == (0, remote == "full", False)
    shutil.rmtree(tmp_path / "clone" / "models", ignore_errors=True)
    done = run("clone", "dvc", "repro", "--single-item", "--force", "--pull", "measure")
    assert (done.returncode == 0, made.exists(), measured.exists()) == ((remote == "full",) * 3)
    if remote == "empty":
        assert "failed to reproduce 'measure'" in done.stderr
        assert run("clone", "dvc", "repro", "--pull").returncode == 0  # what nobody has is made


@pytest.mark.parametrize("folder_is_dvcs", [True, False])
def test_a_folder_without_git_says_what_helps_where_it_is_a_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder_is_dvcs: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    if folder_is_dvcs:
        (tmp_path / ".dvc").mkdir()
        (tmp_path / "dvc.yaml").touch()
    hint = error_to_hint(ValueError(f"{tmp_path} is not a git repository"))
    assert hint == (NO_GIT if folder_is_dvcs else "")
    assert NO_GIT.replace("\n", " ") == git.NO_GIT
