"""The doctor as a user runs it, on projects that are well and on broken ones, and its checks of what is installed."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from seamline.base.errors import some
from seamline.doctor import checks, finding
from seamline.doctor.finding import Finding, attempt, conclusion, finding_lines
from seamline.doctor.reach import Size
from tests.conftest import PROJECT, Project
from tests.s3 import CREDENTIALS, Bucket, first, status


def levels_of(done: subprocess.CompletedProcess[str]) -> dict[str, str]:
    """Check -> its level, from what the script printed."""
    rows = re.findall(r"^(ok|note|FAIL) +(\S+(?: \S+)*?)  +\S", done.stdout, re.MULTILINE)
    return {name: level for level, name in rows}


def remedy_of(done: subprocess.CompletedProcess[str], name: str) -> str:
    """The first command below a check's line."""
    [remedy] = re.findall(rf"^(?:note|FAIL) +{re.escape(name)} .*\n +(.*)", done.stdout, re.MULTILINE)
    return str(re.findall(r"`([^`]*)`", remedy)[0])


def run_doctor(project: Project) -> subprocess.CompletedProcess[str]:
    return project.run("python", "-m", "seamline", "doctor", check=False)


# As a user runs it


def test_a_project_that_is_well_passes_and_is_left_as_it_was(project: Project) -> None:
    project.environment["PYTHONDONTWRITEBYTECODE"] = "1"

    def files() -> dict[str, tuple[int, int]]:
        found = [path for path in project.root.rglob("*") if path.is_file()]
        return {str(path): (path.stat().st_mtime_ns, path.stat().st_size) for path in found}

    before = files()
    done = run_doctor(project)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert len(levels_of(done)) == 22
    assert "FAIL" not in levels_of(done).values()
    assert re.search(r"^22 checks: nothing would fail", done.stdout.splitlines()[-1])
    assert "\x1b" not in done.stdout
    assert files() == before


def test_everything_broken_at_once_is_one_line_each(project: Project) -> None:
    root = project.root
    (root / "params.yaml").write_text("pull: {source: 3}\n")
    (root / "dvc.lock").write_text("schema: '2.0'\nstages:\n  pull:\n    cmd: x\n  sub")
    (root / "dvc.yaml").write_text("stages: 3\n")
    (root / ".dvc" / "tmp").mkdir(exist_ok=True)
    (root / ".dvc" / "tmp" / "rwlock").write_text('{"write": {"/a')
    shutil.rmtree(root / ".git")
    done = run_doctor(project)
    assert done.returncode == 1
    assert done.stderr == ""
    found = levels_of(done)
    failing = {name for name, level in found.items() if level == "FAIL"}
    assert failing == {"git", "dvc.yaml", "dvc.lock", "rwlock", "params"}
    assert found["not checked"] == "note"
    assert "pull.source: 3 is not allowed; expected text" in done.stdout
    assert "5 would fail (git, dvc.yaml, dvc.lock, rwlock, params)" in done.stdout.splitlines()[-1]


def test_outside_of_the_project_it_says_so(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-m", "seamline", "doctor"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stdout == ""
    assert f"seamline comes from {PROJECT} and not from this folder" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_without_any_package_it_says_what_to_run(tmp_path: Path) -> None:
    """As where .venv is gone and make takes the system's Python."""
    command = [sys.executable, "-I", "-S", "-c", "import sys; sys.path.insert(0, sys.argv.pop(1)); "
               "sys.argv[1:] = ['doctor']; import runpy; runpy.run_module('seamline', run_name='__main__')",
               str(PROJECT)]  # fmt: skip
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == ""
    assert levels_of(done)["packages"] == "FAIL"
    assert remedy_of(done, "packages") == "make -B setup"
    assert levels_of(done)["params"] == "note"


def test_a_bucket_that_refuses_is_pulls_own_sentence_without_secrets(project: Project, bucket: Bucket) -> None:
    bucket.put({"garments/a.jpg": b"x" * 1000})
    project.environment.update(bucket.environment)
    project.change({"pull": {"source": bucket.url("garments")}})
    done = run_doctor(project)
    assert levels_of(done)["source"] == "ok"
    assert "1.0 kB, 1 files" in done.stdout

    bucket.proxy.rules.append(first(99, status(403, "AccessDenied")))
    done = run_doctor(project)
    assert done.returncode == 1
    assert levels_of(done)["source"] == "FAIL"
    assert "is denied (AccessDenied); the AWS credentials in use" in done.stdout
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        assert CREDENTIALS[name] not in done.stdout + done.stderr

    (project.root / "data" / "raw").mkdir(parents=True)
    (project.root / "data" / "raw" / "annotations.json").write_text("{}")
    done = run_doctor(project)
    assert levels_of(done)["source"] == "note"
    assert remedy_of(done, "source") == "dvc repro --downstream subset"


def broken_lock(root: Path) -> None:
    text = (root / "dvc.lock").read_text()
    (root / "dvc.lock").write_text(text[: text.index("  subset:") + 5])


def cut_rwlock(root: Path) -> None:
    (root / ".dvc" / "tmp" / "rwlock").write_text("")


def reused_rwlock(root: Path) -> None:
    (root / ".dvc" / "tmp" / "rwlock").write_text(
        f'{{"write": {{"{root}/data/raw": {{"pid": 1, "cmd": "repro"}}}}}}'  # a number that the system's first has
    )


def no_git(root: Path) -> None:
    shutil.rmtree(root / ".git")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("breaks", "name"),
    [(broken_lock, "dvc.lock"), (cut_rwlock, "rwlock"), (reused_rwlock, "rwlock"), (no_git, "git")],
)
def test_what_fails_stops_dvc_and_its_remedy_mends_it(
    project: Project, breaks: Callable[[Path], None], name: str
) -> None:
    (project.root / ".dvc" / "tmp").mkdir(exist_ok=True)
    breaks(project.root)
    for role in ("AUTHOR", "COMMITTER"):  # whoever commits has given git a name
        project.environment |= {f"GIT_{role}_NAME": "someone", f"GIT_{role}_EMAIL": "someone@localhost"}
    assert project.run("dvc", "repro", "pull", check=False).returncode != 0
    done = run_doctor(project)
    assert levels_of(done)[name] == "FAIL"
    project.run("bash", "-c", remedy_of(done, name))
    assert levels_of(run_doctor(project))[name] == "ok"
    project.run("dvc", "repro", "pull")


def test_make_has_it_and_a_remedy_installs_again(project: Project) -> None:
    done = project.root / ".venv" / ".done"
    done.parent.mkdir()
    done.write_text(f"{project.root}\n")
    (done.parent / "bin").mkdir()
    (done.parent / "bin" / "python").symlink_to(sys.executable)
    assert "make doctor" in project.run("make", "help").stdout
    assert "python3 -m seamline doctor" in project.run("make", "--dry-run", "doctor").stdout
    assert "pip install" not in project.run("make", "--dry-run", "setup").stdout
    assert "pip install" in project.run("bash", "-c", f"{finding.AGAIN.strip('`')} --dry-run").stdout


# How findings are shown


def test_a_line_a_finding_and_one_for_its_remedy() -> None:
    assert finding_lines(Finding("ok", "git", "branch main")) == ["ok    git            branch main"]
    lines = finding_lines(Finding("FAIL", "shared memory", "64 MB", "more of it"))
    assert lines == ["FAIL  shared memory  64 MB", "                     more of it"]
    assert lines[0].index("64") == lines[1].index("more")


def test_the_conclusion_counts_and_names() -> None:
    well, known, failing = Finding("ok", "a", ""), Finding("note", "b", ""), Finding("FAIL", "c", "")
    assert conclusion([well]) == "1 checks: nothing would fail."
    assert conclusion([well, known]) == "2 checks: nothing would fail; 1 note."
    assert conclusion([failing, well, known]) == "3 checks: 1 would fail (c); 1 note."


def test_many_things_are_named_by_the_first_few() -> None:
    assert some(["a", "b"]) == "a, b"
    assert some(list("abcdef")) == "a, b, c, d and 2 more"


def test_a_check_that_cannot_be_made_ends_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    def check_this_thing() -> Finding:
        raise error

    error: Exception = ImportError("No module named 'x'")
    missing = Finding(
        "note", "this thing", "not checked, since a package is missing (No module named 'x')", "`make -B setup`"
    )
    assert attempt(check_this_thing) == missing
    error = PermissionError(13, "Permission denied", "dvc.lock")
    assert attempt(check_this_thing).found == "not checked ([Errno 13] Permission denied: 'dvc.lock')"
    assert capsys.readouterr().err == ""
    error = KeyError("x")
    mistake = attempt(check_this_thing)
    assert (mistake.level, mistake.name) == ("FAIL", "this thing")
    assert "KeyError" in capsys.readouterr().err  # in full


# Python and its packages


@pytest.mark.parametrize(("version", "level"), [((3, 10), "FAIL"), ((3, 11), "ok"), ((3, 14), "ok"), ((3, 15), "FAIL")])
def test_pythons(version: tuple[int, int], level: str) -> None:
    assert checks.python_finding(version).level == level


PINS = [
    "numpy==2.4.6 ; python_full_version >= '3.0'",
    "torch==2.14.1",
    "ruamel-yaml==1",
    "pywin32==3 ; sys_platform == 'no'",
]
INSTALLED = {"numpy": "2.4.6", "torch": "2.14.1+cpu", "ruamel-yaml": "1"}


def test_the_packages_of_the_pins_are_well() -> None:
    assert checks.packages_finding(PINS, ["opencv-python"], INSTALLED).level == "ok"
    assert checks.packages_finding(PINS, ["opencv-python"], INSTALLED).found == "the 3 of requirements.txt"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"numpy": "2.4.5"}, "numpy is 2.4.5 instead of 2.4.6"),
        ({"torch": "2.14.0"}, "torch is 2.14.0 instead of 2.14.1"),
        ({"opencv-python": "5"}, "requirements.exclude excludes it for a reason: opencv-python"),
    ],
)
def test_packages_that_are_others_fail(changes: dict[str, str], expected: str) -> None:
    found = checks.packages_finding(PINS, ["opencv-python"], {**INSTALLED, **changes})
    assert found.level == "FAIL"
    assert expected in found.found
    assert "make" in found.remedy


def test_packages_that_are_missing_fail() -> None:
    found = checks.packages_finding(PINS, [], {"numpy": "2.4.6"})
    assert (found.level, found.found) == (
        "FAIL",
        "differ from requirements.txt: torch is missing, ruamel-yaml is missing",
    )


def make_venv(folder: Path, version: str = "3.11.7") -> Path:
    venv = folder / ".venv"
    (venv / "bin").mkdir(parents=True)
    (venv / "bin" / "python").symlink_to(sys.executable)
    (venv / "bin" / "dvc").write_text(f"#!{venv}/bin/python\nimport dvc\n")
    (venv / "pyvenv.cfg").write_text(f"home = /usr/bin\nversion = {version}\n")
    return venv


def test_an_environment_of_this_folder_and_python_is_well(tmp_path: Path) -> None:
    venv = make_venv(tmp_path)
    assert checks.environment_finding(venv, venv, (3, 11)).level == "ok"
    assert checks.environment_finding(tmp_path / "none", tmp_path, (3, 11)).level == "ok"


def test_an_environment_of_another_python_fails(tmp_path: Path) -> None:
    venv = make_venv(tmp_path)
    found = checks.environment_finding(venv, venv, (3, 12))
    assert (found.level, found.found) == ("FAIL", ".venv was made with Python 3.11, and runs 3.12 now")
    assert found.remedy == "`rm -r .venv && make setup`"
    assert checks.environment_finding(venv, tmp_path, (3, 11)).level == "note"
    (venv / "bin" / "python").unlink()
    (venv / "bin" / "python").symlink_to(tmp_path / "gone")
    assert checks.environment_finding(venv, venv, (3, 11)).found == "the Python that .venv was made with is gone"


def test_an_environment_that_was_copied_with_its_folder_fails(tmp_path: Path) -> None:
    make_venv(tmp_path / "first")
    shutil.copytree(tmp_path / "first", tmp_path / "second", symlinks=True)
    venv = tmp_path / "second" / ".venv"
    found = checks.environment_finding(venv, venv, (3, 11))
    assert found.level == "FAIL"
    assert "was made in another folder" in found.found


def test_what_adds_to_dvcs_messages_is_missed_and_so_is_an_older_one_of_it(tmp_path: Path) -> None:
    ours = PROJECT / "dvc_hint"
    assert checks.dvc_hint_finding(tmp_path, ours).level == "FAIL"
    for file in ours.glob("seamline_dvc_hint.*"):
        shutil.copy(file, tmp_path)
    assert checks.dvc_hint_finding(tmp_path, ours).level == "ok"
    (tmp_path / "seamline_dvc_hint.py").write_text("# of an older version")
    assert checks.dvc_hint_finding(tmp_path, ours).level == "FAIL"


def test_what_ran_code_of_the_current_folder_has_to_go(tmp_path: Path) -> None:
    (tmp_path / "seamline-here.pth").touch()
    found = checks.dvc_hint_finding(tmp_path, tmp_path)
    assert (found.level, found.remedy) == ("FAIL", "`make -B setup`")
    assert "execute files of any folder" in found.found


# What params.yaml names


@pytest.mark.parametrize(
    ("source", "found", "pulled", "level"),
    [
        ("photos", Size(3, 3000), False, "ok"),
        ("s3://bucket/photos", Size(3, 3000), False, "ok"),
        ("s3://bucket/photos", "pull.source: no.", False, "FAIL"),
        ("s3://bucket/photos", "pull.source: no.", True, "note"),  # the network may be back, and the rest can run
        ("photos", "pull.source: no.", True, "FAIL"),
    ],
)
def test_sources(source: str, found: Size | str, pulled: bool, level: str) -> None:
    finding = checks.source_finding(source, found, pulled)
    assert finding.level == level
    assert finding.found == (found if isinstance(found, str) else f"{source}: 3.0 kB, 3 files")


def test_a_source_that_was_not_seen_to_its_end_is_at_least_that() -> None:
    found = checks.source_finding("s3://bucket/photos", Size(3000, 5_000_000, whole=False), False)
    assert found.found == "s3://bucket/photos: at least 5.0 MB, at least 3,000 files"


def test_a_source_is_shown_without_secrets_in_its_address() -> None:
    found = checks.source_finding("https://me:secret@host/a.zip?key=secret", Size(1, 10), False)
    assert found.found == "https://host/a.zip: 10 bytes, 1 files"


GB = 10**9


@pytest.mark.parametrize(
    ("free_gb", "source", "present_gb", "level"),
    [
        (100, Size(1000, 10 * GB), 0, "ok"),  # 15 needed
        (29, Size(1000, 10 * GB), 0, "note"),
        (14, Size(1000, 10 * GB), 0, "FAIL"),
        (14, Size(1000, 10 * GB), 10, "ok"),  # 4 more and the models
        (4, Size(1000, 10 * GB), 10, "FAIL"),
        (24, Size(1, 10 * GB, archive_bytes=10 * GB), 0, "FAIL"),  # an archive beside what is unpacked from it
        (1, Size(1, 1000), 10, "note"),
        (100, None, 0, "note"),
    ],
)
def test_disks(free_gb: int, source: Size | None, present_gb: int, level: str) -> None:
    found = checks.disk_finding(source, present_gb * GB, free_gb * GB + 1000, None)
    assert found.level == level
    assert f"{free_gb}.0 GB free" in found.found
    assert bool(found.remedy) == (level != "ok")


def test_a_disk_without_room_for_more_files_fails() -> None:
    assert checks.disk_finding(Size(1000, GB), 0, 100 * GB, 2000).level == "ok"
    found = checks.disk_finding(Size(1000, GB), 0, 100 * GB, 1999)
    assert (found.level, found.found) == ("FAIL", "room for 1,999 more files, and 2,000 will be made (`df -i .`)")


def test_the_size_of_the_last_pull_stands_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert checks.pulled_before() is None
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / "pull.json").write_text('{"source": {"objects": 3, "bytes": 70}}')
    assert checks.pulled_before() == Size(3, 70)


REPORT = {"dropped": {"image: file is missing": 3, "annotation: its image was dropped": 1200}, "repaired": {"x": 2}}


@pytest.mark.parametrize(
    ("report", "level", "found"),
    [
        (None, "ok", "nothing was pulled from this source yet"),
        ({"dropped": {}, "repaired": {"x": 2}}, "ok", "the last pull dropped 0 and repaired 2"),
        (
            REPORT,
            "note",
            "the last pull dropped 1,203 and repaired 2, most of them for one reason (1,200: annotation: its image was "
            "dropped)",
        ),
        ({"dropped": {"a": 1, "b": 1}, "repaired": {}}, "note", "the last pull dropped 2 and repaired 0"),
    ],
)
def test_records_that_the_last_pull_dropped_are_a_note(report: Any, level: str, found: str) -> None:
    finding = checks.records_finding(report)
    assert (finding.level, finding.found) == (level, found)
    assert ("reports/pull.csv" in finding.remedy) == (level == "note")


def test_the_records_are_those_of_reports_pull_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert checks.check_records("../photos") == checks.records_finding(None)
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / "pull.json").write_text(json.dumps(REPORT))
    assert checks.check_records("../photos") == checks.records_finding(None)  # it may be the sample's, as in a clone
    lock = "stages: {pull: {cmd: a, params: {params.yaml: {pull: {source: ../photos}}}}}"
    (tmp_path / "dvc.lock").write_text(lock)
    assert checks.check_records("../photos") == checks.records_finding(REPORT)
    assert checks.check_records("samples/garments.zip") == checks.records_finding(None)


KNOWN = {"yolov9t-seg.yaml", "yolov8-seg.yaml", "yolo11-seg.yaml"}


@pytest.mark.parametrize("model", ["yolov9t-seg.yaml", "yolov8n-seg.yaml", "yolo11x-seg.yaml"])
def test_descriptions_are_found(model: str, tmp_path: Path) -> None:
    assert checks.weights_finding(model, KNOWN, (tmp_path, tmp_path)).level == "ok"


@pytest.mark.parametrize("model", ["yolov9-seg.yaml", "yolov8q-seg.yaml", "model.onnx", "yolov9t"])
def test_models_that_are_not_there_fail(model: str, tmp_path: Path) -> None:
    found = checks.weights_finding(model, KNOWN, (tmp_path, tmp_path))
    assert found.level == "FAIL"
    assert found.found.startswith(f"train.model: {model!r} is" if ".yaml" not in model else "train.model: there is no")


def test_descriptions_are_found_as_the_training_finds_them() -> None:
    """All that ultralytics has, and what it has not, by the training's own search."""
    from seamline.base.errors import SeamlineError
    from seamline.training.yolo_weights import find_model

    for model in ("yolov9t-seg.yaml", "yolov9c-seg.yaml", "yolo11n-seg.yaml", "yolo26s-seg.yaml", "yolov7-seg.yaml"):
        try:
            find_model(model, Path("no weights"))
            level = "ok"
        except SeamlineError:
            level = "FAIL"
        assert checks.check_weights(model, "imagenet").level == level


@pytest.mark.parametrize(
    ("model", "start", "level"),
    [
        ("maskrcnn_efficientnet_lite0_fpn", "imagenet", "ok"),
        ("maskrcnn_resnet50_fpn_v2", "none", "ok"),
        ("maskrcnn_resnet50_fpn_v2", "coco", "note"),
        ("maskrcnn_resnet50_fpn_v2", "nothing.pt", "FAIL"),
        ("maskrcnn_resnet18", "none", "FAIL"),
    ],
)
def test_an_r_cnn_is_looked_for_by_its_name_and_start(model: str, start: str, level: str) -> None:
    assert checks.check_weights(model, start).level == level


def test_weights_are_looked_into_or_will_be_downloaded(tmp_path: Path) -> None:
    weights = tmp_path / "weights"
    weights.mkdir()
    found = checks.weights_finding("yolov9c-seg.pt", KNOWN, (tmp_path, weights))
    assert (found.level, found.remedy) == ("note", f"without internet access, put the file into {weights}/")
    (weights / "yolov9c-seg.pt").write_text("<html>not found</html>")
    assert checks.weights_finding("yolov9c-seg.pt", KNOWN, (tmp_path, weights)).level == "FAIL"
    shutil.copy(PROJECT / "samples" / "garments.zip", weights / "yolov9c-seg.pt")  # torch writes zip files
    assert checks.weights_finding("yolov9c-seg.pt", KNOWN, (tmp_path, weights)).level == "ok"
