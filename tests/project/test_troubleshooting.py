"""docs/troubleshooting.md: every message it names is provoked here, and reads as the page has it."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import importlib
import io
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import cv2
import numpy as np
import onnx
import pytest
import yaml
from dvc.utils.hydra import apply_overrides
from PIL import Image

from seamline.base import files
from seamline.base import process as stage
from seamline.base.errors import SeamlineError
from seamline.base.parallel import in_processes
from seamline.dataset.conversion import Instance, instances_to_lines
from seamline.images import reading as images
from seamline.inference.classifier import AttributeClassifier
from seamline.ingest.remote import cache as kept
from seamline.ingest.remote import retries as patience
from seamline.search.building import open_journal
from seamline.search.catalogue import open_catalogue
from tests import warm
from tests.attributes.drawn import write_drawn
from tests.attributes.shirts import write_source
from tests.base.test_parallel import square_of
from tests.benchmark.test_engine_process import die, hang, started
from tests.conftest import PROJECT, REPORTS, TINY, WORKSPACE, Project, checked_out, merged, square, write_dataset
from tests.hub import COMMIT
from tests.ingest.drawn import runs
from tests.ingest.test_archives import make_zip
from tests.s3 import CREDENTIALS, Bucket, Fault, first, status
from tests.search.made import directions
from tests.search.made import entry as catalogue_entry
from tests.search.made import write as write_catalogue
from tests.search.stand_in import StandIn
from tests.stages.test_stage import with_params
from tests.tiny_encoder import image_model, save_embedder

PAGE = PROJECT / "docs" / "troubleshooting.md"
NOT_OURS = "Not ours"
NOT_PRODUCED = {
    "permission denied while trying to connect to the Docker daemon socket at ...": "needs Docker's daemon",
    'could not select device driver "" with capabilities: [[gpu]].': "needs Docker's daemon",
    "The NVIDIA driver on your system is too old (found version ...).": "needs a GPU with an old driver",
    "CUDA out of memory. Tried to allocate ...": "needs a GPU",
}
SMALLEST = {
    "model": str(TINY), "epochs": 1, "imgsz": 32, "batch": 2, "val_period": 1, "device": "cpu",
}  # fmt: skip
TRIANGLE = "0.1 0.1 0.9 0.1 0.5 0.9"


class Entry(NamedTuple):
    section: str
    pattern: str  # the message; "..." stands for anything
    owner: str  # who says it; "" for us
    text: str


def entries() -> list[Entry]:
    found = []
    for section in PAGE.read_text().split("\n## ")[1:]:
        title, *parts = section.split("\n### ")
        for part in parts:
            heading, _, text = part.partition("\n")
            if head := re.fullmatch(r"`(.+)`(?: \((.+)'s\))?", heading):
                found.append(Entry(title.partition("\n")[0], head[1], head[2] or "", text.strip()))
    return found


def says(text: str, pattern: str) -> bool:
    """Whether one of the lines is the message, and nothing but it."""
    wanted = ".+".join(re.escape(part) for part in pattern.split("..."))
    return any(re.fullmatch(wanted, line.strip().removeprefix("error: ")) for line in text.splitlines())


class Said(NamedTuple):
    status: int
    text: str


class Bench:
    """A folder of its own, which is the current one, and ways to run things in it as a user does."""

    def __init__(self, request: pytest.FixtureRequest, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.request, self.folder, self.monkeypatch = request, folder, monkeypatch
        monkeypatch.chdir(folder)
        with_params(folder, {})
        monkeypatch.setattr(stage, "end_when", lambda over: None)
        monkeypatch.setattr(stage, "quiet_environment", lambda: None)

    def run(self, main: Callable[[], Any]) -> Said:
        """What a stage with this main() says, in this process."""
        code: Any = 0
        with contextlib.redirect_stderr(io.StringIO()) as stream:
            try:
                stage.run(main)
            except SystemExit as end:
                code = end.code
        return Said(code, stream.getvalue())

    def stage(self, name: str, *arguments: Path | str) -> Said:
        self.monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        return self.run(importlib.import_module(f"stages.{name}").main)

    def verb(self, name: str, *arguments: Path | str) -> Said:
        verb = importlib.import_module(f"seamline.verbs.{name}")
        return self.run(lambda: verb.main([str(argument) for argument in arguments]))

    def predict(self, *arguments: Path | str) -> Said:
        return self.verb("predict", *arguments)

    def pulled(self, **changes: Any) -> Bench:
        """With a dataset whose COCO file has these lists, pulled."""
        write_dataset(self.folder / "in", **changes)
        assert self.stage("pull", "data/raw", "--source", "in").status == 0
        return self

    def command(self, *words: str, folder: Path | None = None, **environment: str) -> Said:
        done = subprocess.run(
            words, cwd=folder or self.folder, env={**os.environ, **environment}, capture_output=True, text=True
        )
        return Said(done.returncode, done.stdout + done.stderr)

    def project(self, **changes: Any) -> Project:
        """A copy of the project, committed, with these changes to its parameters."""
        clean: Project = self.request.getfixturevalue("clean")
        project = clean.copy(self.folder / "project")
        if changes:
            project.change(changes)
            project.commit("changes")
        return project

    def repository(self, commit: bool = True, **changes: Any) -> str:
        """This folder as a git repository with what a sweep looks at; its commit."""
        self.monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
        with_params(self.folder, changes)
        (self.folder / ".dvc").mkdir()
        (self.folder / ".dvc" / "config").touch()
        (self.folder / "dvc.yaml").touch()
        shutil.copy(WORKSPACE / "dvc.lock", self.folder)
        self.command("git", "init", "--quiet")
        if commit:
            identity = ("-c", "user.name=test", "-c", "user.email=test@localhost")
            self.command("git", "add", ".dvc", "dvc.yaml", "dvc.lock", "params.yaml")
            assert self.command("git", *identity, "commit", "--quiet", "--message", "x").status == 0
        return self.command("git", "rev-parse", "HEAD").text.strip()

    def bucket(self) -> Bucket:
        """With a dataset in it; nobody waits long before trying again."""
        self.monkeypatch.setattr(patience, "FIRST_DELAY_S", 0.001)
        self.monkeypatch.setattr(patience, "LONGEST_DELAY_S", 0.001)
        bucket: Bucket = self.request.getfixturevalue("bucket")
        folder = write_dataset(self.folder / "in")
        files = [path for path in folder.rglob("*") if path.is_file()]
        bucket.put({f"data/{path.relative_to(folder).as_posix()}": path.read_bytes() for path in files})
        return bucket

    def train(self, labels: int = 2, **changes: Any) -> Said:
        """The training of a handful of images, in which each class is shown; `labels` lines of two are there."""
        with_params(self.folder, {"train": merged(SMALLEST, changes)})
        split, yolo = self.folder / "split", self.folder / "yolo"
        for folder in (split, yolo / "images", yolo / "labels"):
            folder.mkdir(parents=True)
        for name in "abcd":
            cv2.imwrite(str(yolo / "images" / f"{name}.png"), np.full((32, 32, 3), ord(name), np.uint8))
        coco = split_of_triangles()
        instances = [Instance(one["id"], one["category_id"], one["segmentation"]) for one in coco["annotations"][:2]]
        lines, _ = instances_to_lines(instances, {0: 0, 1: 1}, 32, 32, Counter())
        for name in "abcd":
            (yolo / "labels" / f"{name}.txt").write_text("".join(f"{line}\n" for line in lines[:labels]))
        for part in ("train", "val"):
            (split / f"{part}.txt").write_text("".join(f"./images/{name}.png\n" for name in "abcd"))
            (split / f"{part}.json").write_text(json.dumps(coco))
        (split / "data.yaml").write_text("names: {0: top, 1: trousers}\n")
        return self.stage("train", split, yolo, "models/train")


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """To be copied."""
    return checked_out(tmp_path_factory.mktemp("clean") / "project")


def split_of_triangles() -> dict[str, Any]:
    """Four images of 32 x 32 pixels, each with one triangle of either class."""
    images = [{"id": at, "file_name": f"{name}.png", "width": 32, "height": 32} for at, name in enumerate("abcd")]
    triangle = [[3, 3, 29, 3, 16, 29]]
    annotations = [
        {"id": 2 * image + number, "image_id": image, "category_id": number, "iscrowd": 0, "segmentation": triangle}
        for image in range(4)
        for number in range(2)
    ]
    categories = [{"id": 0, "name": "top"}, {"id": 1, "name": "trousers"}]
    return {"images": images, "annotations": annotations, "categories": categories}


Provocation = Callable[[Bench], Said]
CASES: dict[str, Provocation] = {}
SLOW: set[str] = set()


def produces(pattern: str, slow: bool = False) -> Callable[[Provocation], Provocation]:
    def enter(provocation: Provocation) -> Provocation:
        assert pattern not in CASES
        CASES[pattern] = provocation
        SLOW.update([pattern] if slow else [])
        return provocation

    return enter


def raising(error: Exception) -> Callable[..., Any]:
    def fail(*_: object, **__: object) -> None:
        raise error

    return fail


# Set-up and parameters


OLD_PYTHON = """#!/bin/sh
exec {python} -c 'import collections, sys
sys.version_info = collections.namedtuple("Version", "major minor")(3, 9)
exec(sys.argv[2])' "$@"
"""


@produces("Python 3.11 to 3.14 is needed, ... is ...; run make PYTHON=python3.11 ...")
def old_python(bench: Bench) -> Said:
    for name in ("Makefile", "requirements.txt", "pyproject.toml"):
        shutil.copy(PROJECT / name, bench.folder)
    shutil.copytree(PROJECT / "dvc_hint", bench.folder / "dvc_hint")
    python = bench.folder / "python3.9"
    python.write_text(OLD_PYTHON.format(python=sys.executable))
    python.chmod(0o755)
    return bench.command("make", "setup", f"PYTHON={python}")


@produces("...: python3...: command not found")
def python_that_is_not_on_the_path(bench: Bench) -> Said:
    for name in ("Makefile", "requirements.txt", "pyproject.toml"):
        shutil.copy(PROJECT / name, bench.folder)
    shutil.copytree(PROJECT / "dvc_hint", bench.folder / "dvc_hint")
    return bench.command("make", "setup", "PYTHON=python3.99")


@produces("ERROR: No matching distribution found for ...")
def no_package_for_this_machine(bench: Bench) -> Said:
    arguments = ["install", "--no-index", "--no-deps", "--disable-pip-version-check", "seamline-of-nowhere==1"]
    return bench.command(sys.executable, "-m", "pip", *arguments)


@produces("... dvc: command not found")
def no_environment(bench: Bench) -> Said:
    return bench.command(shutil.which("bash") or "bash", "-c", "dvc repro", PATH=str(bench.folder))


@produces("ModuleNotFoundError: No module named '...'")
def another_python(bench: Bench) -> Said:
    return bench.command(sys.executable, "-E", "-S", "-m", "stages.split", "in", "out")


@produces("...: No module named stages.compare")
def tool_by_its_name_of_before(bench: Bench) -> Said:
    return bench.command(sys.executable, "-m", "stages.compare", "main")


@produces(
    "seamline comes from ... and not from this folder; "
    "start it in the project's top folder: python -m stages.NAME, python -m seamline VERB"
)
def code_of_another_checkout(bench: Bench) -> Said:
    (bench.folder / "seamline").unlink()
    return bench.stage("pull", "data/raw", "--source", "in")


@produces("...: is the current folder or has it inside, and would be deleted; name another one.")
def out_of_everything(bench: Bench) -> Said:
    return bench.stage("subset", "data/raw", "..")


@produces("...: has ..., which this stage has not made and would delete; name another.")
def out_of_photos(bench: Bench) -> Said:
    write_dataset(bench.folder / "in")
    return bench.stage("convert", "data/subset", "in")


@produces("...: would be replaced, and ... is read from it; name another folder.")
def out_of_its_own_input(bench: Bench) -> Said:
    (bench.folder / "data" / "raw").mkdir(parents=True)
    return bench.stage("subset", "data/raw", "data/raw")


@produces("...: is there already, outside of the project, and would be deleted; name another.")
def out_of_a_dataset(bench: Bench) -> Said:
    (bench.folder.parent / f"{bench.folder.name}-photos" / "images").mkdir(parents=True)
    return bench.stage("subset", "data/raw", f"../{bench.folder.name}-photos")


@produces("...: is a link, and a folder has to be made there; name the folder that it leads to.")
def out_of_a_link(bench: Bench) -> Said:
    (bench.folder / "link").symlink_to("elsewhere")
    return bench.stage("subset", "data/raw", "link")


@produces("params.yaml: there is no such file; run stages from the project's top folder.")
def another_folder(bench: Bench) -> Said:
    (bench.folder / "params.yaml").unlink()
    return bench.stage("pull", "data/raw", "--source", "in")


@produces("params.yaml: is not YAML (...).")
def merge_conflict_in_params(bench: Bench) -> Said:
    path = bench.folder / "params.yaml"
    path.write_text(f"<<<<<<< HEAD\n{path.read_text()}")
    return bench.stage("pull", "data/raw", "--source", "in")


@produces("params.yaml: ...: unknown key; ...allowed here: ...")
def typing_error(bench: Bench) -> Said:
    with_params(bench.folder, {"train": {"epoch": 3}})
    return bench.stage("pull", "data/raw", "--source", "in")


@produces("params.yaml: ...: ... is not allowed; expected ...")
def number_for_text(bench: Bench) -> Said:
    with_params(bench.folder, {"train": {"device": 0}})
    return bench.stage("pull", "data/raw", "--source", "in")


@produces("... Could not override '...'.", slow=True)
def override_of_nothing(bench: Bench) -> Said:
    return dvc(bench.project(), "exp", "run", "-S", "train.mixup=0.1")


@produces("ERROR: unexpected error - LexerNoViableAltException: ...", slow=True)
def override_with_a_tilde(bench: Bench) -> Said:
    project = bench.project()
    quoted = dvc(project, "exp", "run", "-S", 'pull.source="/data/~old/photos"')
    assert "pull.source: /data/~old/photos does not exist" in quoted.text
    project.run("git", "checkout", "--quiet", ".")
    return dvc(project, "exp", "run", "-S", "pull.source=~/photos")


def queued(project: Project, *overrides: str) -> dict[str, Any]:
    """params.yaml of the experiment that DVC makes of them."""
    words = [word for override in overrides for word in ("-S", override)]
    project.run("dvc", "exp", "run", "--queue", *words)
    values: dict[str, Any] = yaml.safe_load(project.run("git", "show", "refs/exps/celery/stash:params.yaml").stdout)
    return values


@produces("ERROR: unexpected error - Error parsing override '...'", slow=True)
def override_with_parentheses(bench: Bench) -> Said:
    project = bench.project()
    found = queued(project, 'report.title="Garments (2026)"', 'subset.classes=["coat (long)", dress]')
    assert found["report"]["title"] == "Garments (2026)"
    assert found["subset"]["classes"] == ["coat (long)", "dress"]
    return dvc(project, "exp", "run", "-S", "report.title=Garments (2026)")


@produces("ERROR: unexpected error - mismatched input '...' expecting ...", slow=True)
def override_with_an_equals_sign(bench: Bench) -> Said:
    project = bench.project()
    assert queued(project, 'pull.source="year=2026"')["pull"]["source"] == "year=2026"
    return dvc(project, "exp", "run", "-S", "pull.source=s3://my-bucket/year=2026")


@produces("ERROR: Invalid ... value: Error merging override ...", slow=True)
def override_of_a_list(bench: Bench) -> Said:
    project, classes = bench.project(), {"skirt": ["skirt", "dress"]}
    override = "subset.classes={skirt: [skirt, dress]}"
    assert queued(project, "~subset.classes", f"+{override}")["subset"]["classes"] == classes
    return dvc(project, "exp", "run", "-S", override)


@pytest.mark.slow
def test_a_mapping_is_emptied_as_the_page_says(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = Bench(request, tmp_path, monkeypatch).project()
    slices = project.params()["evaluate"]["slices"]
    assert queued(project, "evaluate.slices={}")["evaluate"]["slices"] == slices  # what the page is about
    deleted = ("~evaluate.slices", "+evaluate.slices={}")
    assert queued(project, *deleted)["evaluate"]["slices"] == {}
    assert all(f"-S '{override}'" in PAGE.read_text() for override in deleted)
    apply_overrides(str(project.root / "params.yaml"), ["~evaluate.slices.scale"])
    assert project.params()["evaluate"]["slices"] == {key: slices[key] for key in slices if key != "scale"}


@produces("...: cannot be written to (...); name a folder that can in SEAMLINE_SCRATCH.")
def scratch_in_a_file(bench: Bench) -> Said:
    scratch = str(bench.folder / "params.yaml" / "scratch")
    return bench.command(sys.executable, "-m", "seamline", "summary", SEAMLINE_SCRATCH=scratch)


@produces("...: is a mount point, and a new folder has to take its place; name a folder below it.")
def volume_for_a_result(bench: Bench) -> Said:
    write_dataset(bench.folder / "in")
    bench.monkeypatch.setattr(Path, "is_mount", lambda path: path.name == "raw")
    return bench.stage("pull", "data/raw", "--source", "in")


@produces("...: No space left on device; nothing half-written is left.")
def full_disk(bench: Bench) -> Said:
    return pull_refused(bench, errno.ENOSPC)


def pull_refused(bench: Bench, number: int) -> Said:
    """What a pull says whose result the system does not let be put in its place."""
    write_dataset(bench.folder / "in")
    bench.monkeypatch.setattr(Path, "replace", raising(OSError(number, os.strerror(number), "data/raw")))
    return bench.stage("pull", "data/raw", "--source", "in")


# Source and S3


@produces("pull.source: ... does not exist; it has to be a folder, an archive or a URL.")
def no_source(bench: Bench) -> Said:
    return bench.stage("pull", "data/raw", "--source", "nowhere.zip")


@produces("...: is not a readable archive (...).")
def page_saved_as_archive(bench: Bench) -> Said:
    (bench.folder / "photos.zip").write_text("<html>404</html>")
    return bench.stage("pull", "data/raw", "--source", "photos.zip")


@produces("...: ... and ... are one file on this disk, which does not tell upper from lower case.")
def names_that_are_one(bench: Bench) -> Said:
    bench.monkeypatch.setattr(files, "tells_case", lambda folder: False)
    make_zip(bench.folder / "photos.zip", {"A.jpg": b"1", "a.jpg": b"2"})
    return bench.stage("pull", "data/raw", "--source", "photos.zip")


@produces("...: is protected by a password; put it into the environment variable SEAMLINE_ARCHIVE_PASSWORD.")
def protected_archive(bench: Bench) -> Said:
    path = make_zip(bench.folder / "photos.zip", {"a.json": b"{}"})
    data = bytearray(path.read_bytes())
    for at in (data.index(b"PK\x03\x04") + 6, data.index(b"PK\x01\x02") + 8):
        data[at] |= 1  # the flag in both headers
    path.write_bytes(data)
    bench.monkeypatch.delenv("SEAMLINE_ARCHIVE_PASSWORD", raising=False)
    return bench.stage("pull", "data/raw", "--source", path)


@produces("pull.source: no AWS credentials were found for ... (...); set AWS_PROFILE, or ...")
def no_credentials(bench: Bench) -> Said:
    bucket = bench.bucket()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        bench.monkeypatch.delenv(name)
    bench.monkeypatch.setenv("HOME", str(bench.folder))
    return bench.stage("pull", "data/raw", "--source", bucket.url("data"))


def pull_through(bench: Bench, fault: Fault, key: str) -> Said:
    bucket = bench.bucket()
    bucket.proxy.rules.append(first(1000, fault, key))
    return bench.stage("pull", "data/raw", "--source", bucket.url("data"))


@produces("pull.source: access to ... is denied (...); the AWS credentials in use ...")
def denied(bench: Bench) -> Said:
    return pull_through(bench, status(403, "AccessDenied"), "")


@produces("pull.source: there is nothing at ....")
def misspelt_prefix(bench: Bench) -> Said:
    return bench.stage("pull", "data/raw", "--source", bench.bucket().url("dat"))


@produces("pull.source: ... cannot be read: 8 attempts failed, the last with ...")
def overloaded(bench: Bench) -> Said:
    return pull_through(bench, status(503, "SlowDown"), "data/photos/001.png")


@produces("pull.source: ... cannot be reached (...); ...")
def unreachable(bench: Bench) -> Said:
    bucket = bench.bucket()
    with socket.socket() as taken:
        bench.monkeypatch.setenv("AWS_ENDPOINT_URL", refusing(taken))
        return bench.stage("pull", "data/raw", "--source", bucket.url("data"))


def refusing(taken: socket.socket) -> str:
    """An address at which connections are refused, as long as the socket is open."""
    taken.bind(("127.0.0.1", 0))
    return f"http://127.0.0.1:{taken.getsockname()[1]}"


@produces("pull.source cannot be read just now: ...", slow=True)
def unreachable_for_dvc(bench: Bench) -> Said:
    project = bench.project(pull={"source": "s3://bucket/data"})
    with socket.socket() as taken:
        project.environment |= {**CREDENTIALS, "AWS_ENDPOINT_URL": refusing(taken), "AWS_MAX_ATTEMPTS": "1"}
        return dvc(project, "status", "pull")


@produces("pull.source: another pull is at work in ...; let it end first.")
def two_pulls(bench: Bench) -> Said:
    url = bench.bucket().url("data")
    assert bench.stage("pull", "data/raw", "--source", url).status == 0
    bench.monkeypatch.setattr(kept, "LOCK_WAIT_S", 1)
    [lock] = (bench.folder / ".seamline" / "pull").glob("*/lock")
    with lock.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        return bench.stage("pull", "data/raw", "--source", url)


# Data


@produces("pull.source: has several COCO files (...); name in pull.annotations the one that is meant, ...")
def two_coco_files(bench: Bench) -> Said:
    folder = write_dataset(bench.folder / "in")
    shutil.copy(folder / "instances.json", folder / "others.json")
    return bench.stage("pull", "data/raw", "--source", "in")


@produces("pull.images: ... is not a folder of the source.")
def a_folder_that_is_not_there(bench: Bench) -> Said:
    write_dataset(bench.folder / "in")
    with_params(bench.folder, {"pull": {"images": "pictures"}})
    return bench.stage("pull", "data/raw", "--source", "in")


@produces("pull.source: has no folder with PNGImages/ and PedMasks/*_mask.png in it, as Penn-Fudan has.")
def another_layout_than_penn_fudan(bench: Bench) -> Said:
    write_dataset(bench.folder / "in")
    with_params(bench.folder, {"pull": {"layout": "penn-fudan"}})
    return bench.stage("pull", "data/raw", "--source", "in")


@produces(
    "pull.images: names the photos' folder of a COCO file, but the layout is ...; one has to be null, or pull.layout "
    "coco."
)
def a_folder_for_another_layout(bench: Bench) -> Said:
    write_dataset(bench.folder / "in")
    with_params(bench.folder, {"pull": {"images": "photos", "layout": "ccp"}})
    return bench.stage("pull", "data/raw", "--source", "in")


@produces(
    "...: the file_name ... fits ... files, such as ...; it has to name the folder as well, or pull.images the photos' "
    "folder."
)
def two_files_of_one_name(bench: Bench) -> Said:
    folder = write_dataset(bench.folder / "in")
    shutil.copytree(folder / "photos", folder / "copies")
    return bench.stage("pull", "data/raw", "--source", "in")


@produces(
    "...: file_names are addresses (...), such as ..., and no file of the source ends like them; download the photos "
    "into the source."
)
def addresses_alone(bench: Bench) -> Said:
    path = write_dataset(bench.folder / "in", count=1) / "instances.json"
    path.write_text(path.read_text().replace("001.png", "https://example.org/first.png"))
    return bench.stage("pull", "data/raw", "--source", "in")


def damaged(bench: Bench, change: Callable[[str], str]) -> Said:
    path = write_dataset(bench.folder / "in", count=1) / "instances.json"
    path.write_text(change(path.read_text()))
    return bench.stage("pull", "data/raw", "--source", "in")


@produces("pull.source: has no COCO annotation file (...); ...")
def cut_at_the_beginning(bench: Bench) -> Said:
    return damaged(bench, lambda text: text[:5])


@produces("...: ...; where it is not needed, pull.annotations names the files that are.")
def a_pointer_beside(bench: Bench) -> Said:
    write_dataset(bench.folder / "in")
    (bench.folder / "in" / "instances_train.json").write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:0"
    )
    return bench.stage("pull", "data/raw", "--source", "in")


@produces("...: is cut short: its JSON ends at byte ..., before it is complete; copy or export it again.")
def cut_in_the_middle(bench: Bench) -> Said:
    with_params(bench.folder, {"pull": {"annotations": "instances.json"}})
    return damaged(bench, lambda text: text[:150])


@produces("...: is not JSON from byte ... on; copy or export it again.")
def edited_by_hand(bench: Bench) -> Said:
    with_params(bench.folder, {"pull": {"annotations": "instances.json"}})
    return damaged(bench, lambda text: text.replace("400", "400 px"))


@produces("...: the images ... and ... have the same id ...; nothing says whose its annotations are.")
def two_images_with_one_id(bench: Bench) -> Said:
    change_dataset(bench.folder / "in", lambda coco: coco["images"][1].update(id=coco["images"][0]["id"]))
    return bench.stage("pull", "data/raw", "--source", "in")


@produces(
    "...: is not a COCO file (...); it has to be a JSON object with the lists images, annotations and categories."
)
def another_json_named(bench: Bench) -> Said:
    write_dataset(bench.folder / "in")
    (bench.folder / "in" / "about.json").write_text('{"license": "CC0"}')
    with_params(bench.folder, {"pull": {"annotations": "about.json"}})
    return bench.stage("pull", "data/raw", "--source", "in")


@produces("...: the record ... cannot be read (...).")
def a_class_that_is_only_a_name(bench: Bench) -> Said:
    change_dataset(bench.folder / "in", lambda coco: coco["categories"].append("skirt"))
    return bench.stage("pull", "data/raw", "--source", "in")


@produces("...: no image of it can be used (...).")
def annotations_alone(bench: Bench) -> Said:
    shutil.rmtree(write_dataset(bench.folder / "in") / "photos")
    return bench.stage("pull", "data/raw", "--source", "in")


@produces("...: no annotation of it can be used (...).")
def boxes_alone(bench: Bench) -> Said:
    boxes = [{"id": number, "image_id": number, "category_id": 1, "bbox": [8, 5, 20, 20]} for number in range(1, 7)]
    write_dataset(bench.folder / "in", annotations=boxes)
    said = bench.stage("pull", "data/raw", "--source", "in")
    assert "(6 annotations: has a box and no mask)" in said.text
    assert [path.name for path in (bench.folder / "data").iterdir()] == ["raw-changes.csv"]
    return said


@produces("...: no image of it can be used (...); pull.convention: scaled reads masks for photos of another size.")
def shrunk_photos(bench: Bench) -> Said:
    change_dataset(bench.folder / "in", lambda coco: [image.update(width=80, height=120) for image in coco["images"]])
    return bench.stage("pull", "data/raw", "--source", "in")


@produces(
    "...: annotation ...: ... of ... annotations have a box and a mask that contradict each other, this one first; "
    "they look like ..., which pull.convention: ... reads; pull.convention: drop leaves them out."
)
def y_before_x(bench: Bench) -> Said:
    change_dataset(bench.folder / "in", lambda coco: [record["segmentation"][0].reverse() for record in masks_of(coco)])
    return bench.stage("pull", "data/raw", "--source", "in")


@produces(
    "...: no image of it can be used (...); pull.convention: as_shown or as_stored says which way their masks lie."
)
def photos_upside_down(bench: Bench) -> Said:
    change_dataset(bench.folder / "in", lambda coco: None)
    exif = Image.Exif()
    exif[0x0112] = 3
    for path in (bench.folder / "in" / "photos").iterdir():
        Image.open(path).convert("RGB").save(path, exif=exif)
    return bench.stage("pull", "data/raw", "--source", "in")


@produces("...: ... of ... photos are ...; pull.convention: drop leaves them out.")
def most_photos_of_another_size(bench: Bench) -> Said:
    change_dataset(
        bench.folder / "in", lambda coco: [image.update(width=60, height=40) for image in coco["images"][:-1]]
    )
    return bench.stage("pull", "data/raw", "--source", "in")


@produces(
    "...: no image of it can be used (...); pull.convention: exchanged takes width and height for exchanged in the "
    "records."
)
def exchanged_sizes(bench: Bench) -> Said:
    change_dataset(bench.folder / "in", lambda coco: [image.update(width=60, height=40) for image in coco["images"]])
    return bench.stage("pull", "data/raw", "--source", "in")


@produces(
    "...: annotation ...: ... of ... annotations have no box, and a mask that cannot be right as it is, this one "
    "first; they look like ..., which pull.convention: ... reads; pull.convention: drop leaves them out."
)
def row_order_without_boxes(bench: Bench) -> Said:
    def change(coco: Any) -> None:
        mask = np.zeros((60, 40), np.uint8)
        mask[5:35, 10:30] = 1
        for record in masks_of(coco):
            del record["bbox"]
            record["segmentation"] = {"size": [60, 40], "counts": runs(mask.ravel())}

    change_dataset(bench.folder / "in", change)
    return bench.stage("pull", "data/raw", "--source", "in")


@produces(
    "...: annotation ...: ... of ... masks, this one first, reach beyond their photo, and all of them would lie in it "
    "with y before x, which pull.convention: ... reads; pull.convention: pixels takes them as they are."
)
def both_y_before_x(bench: Bench) -> Said:
    def change(coco: Any) -> None:
        for record in masks_of(coco):
            record.update(segmentation=[square(24, 8, 20)], bbox=[24, 8, 20, 20])

    change_dataset(bench.folder / "in", change)
    return bench.stage("pull", "data/raw", "--source", "in")


@produces(
    "...: annotation ...: ... of ... masks without box and area cover all four corners of their photo; they look like "
    "..., which pull.convention: ... reads; pull.convention: pixels takes them as they are."
)
def backgrounds(bench: Bench) -> Said:
    def change(coco: Any) -> None:
        for record in coco["annotations"]:
            mask = np.ones((60, 40), np.uint8)
            mask[record["bbox"][1] :, 10:30][:20] = 0
            del record["bbox"], record["area"]
            record["segmentation"] = {"size": [60, 40], "counts": runs(mask.ravel(order="F"))}

    change_dataset(bench.folder / "in", change)
    return bench.stage("pull", "data/raw", "--source", "in")


@produces(
    "...: annotation ...: ... of ... annotations have a box and a mask that contradict each other, this one first; no "
    "convention that pull.convention knows fits most of them; pull.convention: drop leaves them out."
)
def boxes_of_others(bench: Bench) -> Said:
    change_dataset(bench.folder / "in", lambda coco: [record.update(bbox=[1, 1, 7, 3]) for record in masks_of(coco)])
    return bench.stage("pull", "data/raw", "--source", "in")


@produces(
    "...: annotation ...: about ... of ... annotations have a box and a mask that agree much better in another way, "
    "this one first; they look like ..., which pull.convention: ... reads; pull.convention: pixels takes them as they "
    "are."
)
def a_little_above_the_middle(bench: Bench) -> Said:
    def change(coco: Any) -> None:
        for record in masks_of(coco):
            record |= {"segmentation": [square(8, 23, 20)], "bbox": [8, 17, 20, 20]}

    change_dataset(bench.folder / "in", change)
    return bench.stage("pull", "data/raw", "--source", "in")


@produces(
    "...: annotation ...: ... of ... annotations without a box have an area under half or over twice that of their "
    "mask, this one first, so that the masks may be written in another way; if they are right, pull.convention: pixels "
    "takes them as they are; pull.convention: drop leaves them out."
)
def areas_of_others(bench: Bench) -> Said:
    def change(coco: Any) -> None:
        for number, record in enumerate(coco["annotations"]):
            del record["bbox"]
            record["area"] = 20 + number

    change_dataset(bench.folder / "in", change)
    return bench.stage("pull", "data/raw", "--source", "in")


@produces(
    "...: ... of ... outlines reach beyond the right or lower edge of their photo, and ... beyond another; they look "
    "like masks for larger photos, which pull.convention: NUMBER scales, 0.5 to half the size, here ... at most; if "
    "garments reach beyond their photo, pull.convention: pixels keeps them."
)
def photos_shrunk(bench: Bench) -> Said:
    def change(coco: Any) -> None:
        for record in coco["annotations"]:
            record["segmentation"] = [[value * 1.3 for value in record["segmentation"][0]]]
            record["bbox"] = [value * 1.3 for value in record["bbox"]]

    change_dataset(bench.folder / "in", change)
    return bench.stage("pull", "data/raw", "--source", "in")


@produces(
    "...: its masks reach as far as ... along both sides, and not as far as their photos; they look like coordinates "
    "..., which pull.convention: ... reads; if the photos were enlarged or shrunk since, pull.convention: NUMBER "
    "scales the masks; pull.convention: pixels takes them as they are."
)
def percent(bench: Bench) -> Said:
    def change(coco: Any) -> None:
        for image in coco["images"]:
            image.update(width=200, height=200)
            cv2.imwrite(str(bench.folder / "in" / "photos" / image["file_name"]), np.zeros((200, 200), np.uint8))
        coco["annotations"][0].update(segmentation=[square(50, 50, 50)], bbox=[50, 50, 50, 50])

    change_dataset(bench.folder / "in", change)
    return bench.stage("pull", "data/raw", "--source", "in")


@produces(
    "...: ... of ... annotations have a category_id that no category has (...); all would have one if the ids ..., as "
    "pull.category_ids: ... reads them; own leaves those annotations out."
)
def classes_from_zero(bench: Bench) -> Said:
    def change(coco: Any) -> None:
        for record in coco["annotations"]:
            record["category_id"] -= 1

    change_dataset(bench.folder / "in", change)
    return bench.stage("pull", "data/raw", "--source", "in")


def change_dataset(folder: Path, change: Callable[[Any], object]) -> None:
    path = write_dataset(folder) / "instances.json"
    coco = json.loads(path.read_text())
    change(coco)
    path.write_text(json.dumps(coco))


def masks_of(coco: Any) -> list[Any]:
    return [record for record in coco["annotations"] if record["category_id"] == 2]


@produces("the dataset is not canonical (...); the pull stage makes it so.")
def a_name_edited_by_hand(bench: Bench) -> Said:
    path = bench.pulled().folder / "data" / "raw" / "annotations.json"
    path.write_text(path.read_text().replace("001.png", "../001.png"))
    return bench.stage("subset", "data/raw", "data/subset")


@produces("...: is a link to ..., outside of the dataset; put the file there itself.")
def a_link_in_place_of_an_image(bench: Bench) -> Said:
    image = bench.pulled().folder / "data" / "raw" / "images" / "001.png"
    image.rename(bench.folder / "elsewhere.png")
    image.symlink_to(bench.folder / "elsewhere.png")
    return bench.stage("subset", "data/raw", "data/subset")


@produces("subset.classes: the dataset has no category ...; it has ....")
def misspelt_class(bench: Bench) -> Said:
    bench.pulled()
    with_params(bench.folder, {"subset": {"classes": ["trouser"]}})
    return bench.stage("subset", "data/raw", "data/subset")


@produces(
    "subset.crowd: all ... annotations are crowds (iscrowd 1), which are not trained on; subset.crowd: instances takes "
    "them for instances."
)
def crowds_alone(bench: Bench) -> Said:
    crowd = {"category_id": 1, "iscrowd": 1, "segmentation": [square(8, 5, 20)]}
    bench.pulled(annotations=[{**crowd, "id": number, "image_id": number} for number in range(1, 7)])
    with_params(bench.folder, {"subset": {"classes": None}})
    return bench.stage("subset", "data/raw", "data/subset")


@produces("split: ... has no instance ...; use more images, or change split.ratios or split.official.")
def one_image_with_an_instance(bench: Bench) -> Said:
    record = {"id": 1, "image_id": 1, "category_id": 2, "segmentation": [square(8, 5, 20)]}
    bench.pulled(annotations=[record])
    with_params(bench.folder, {"split": {"group_by": None}})
    return bench.stage("split", "data/raw", "data/split")


@produces(
    "mean IoU of the labels is ..., below convert.min_mean_iou ...; leave specks out with subset.min_area_px, or ..."
)
def mask_with_a_speck(bench: Bench) -> Said:
    record = {"id": 1, "image_id": 1, "category_id": 2, "iscrowd": 0, "bbox": [8, 5, 24, 47], "area": 404}
    bench.pulled(annotations=[{**record, "segmentation": [square(8, 5, 20), square(30, 50, 2)]}])
    with_params(bench.folder, {"subset": {"classes": ["trousers"]}, "convert": {"min_mean_iou": 1.0}})
    assert bench.stage("subset", "data/raw", "data/subset").status == 0
    return bench.stage("convert", "data/subset", "data/yolo")


@produces("a process was killed, most likely for want of memory; run the stage again.")
def killed_worker(bench: Bench) -> Said:
    return bench.run(lambda: list(in_processes(square_of, [1, -1, 2], 2)))


# Attributes


def with_shirts(bench: Bench, rows: str, labels: Any = None, **files: str) -> Said:
    """The stage attributes on two photos and a CSV."""
    write_source(bench.folder / "shirts", rows, ["a.jpg", "b.jpg"])
    for name, text in files.items():
        (bench.folder / "shirts" / f"{name}.csv").write_text(text)
    with_params(bench.folder, {"attributes": {"source": "shirts"}})
    values = yaml.safe_load((bench.folder / "params.yaml").read_text())
    values["attributes"]["labels"] = labels
    (bench.folder / "params.yaml").write_text(yaml.safe_dump(values))
    return bench.stage("attributes", "out", "split")


@produces(
    "...: row ...: ... has the value ..., and attributes.labels....values does not name it; allowed are ..., and what "
    "attributes.missing lists."
)
def a_code_without_a_name(bench: Bench) -> Said:
    return with_shirts(bench, "filename,neck\na.jpg,7\n", {"neck": {"values": {"0": "round"}}})


@produces(
    "...: row ...: ... has the value ..., which a spreadsheet would take for a formula; give it a name in "
    "attributes.labels....values, or list it in attributes.missing."
)
def a_formula(bench: Bench) -> Said:
    return with_shirts(bench, "filename,neck\na.jpg,=1+1\n")


@produces("...: row ... has ... cells, and the header ...; put a cell that contains the delimiter into quotes.")
def a_ragged_row(bench: Bench) -> Said:
    return with_shirts(bench, "filename,neck\na.jpg,round, wide\n")


@produces("...: has no column ... (attributes.labels...); there are ....")
def a_column_that_is_not_there(bench: Bench) -> Said:
    return with_shirts(bench, "filename,neck\na.jpg,0\n", {"hem": {}})


@produces(
    "...: none of its ... names a photo of the source, such as ...; the first one names ... (attributes.file_column)."
)
def photos_of_somebody_else(bench: Bench) -> Said:
    return with_shirts(bench, "filename,neck\nx.jpg,0\n")


@produces("attributes.source: has several CSV files (...); name one in attributes.csv.")
def several_tables(bench: Bench) -> Said:
    return with_shirts(bench, "filename,neck\na.jpg,0\n", more="a,b\n1,2\n")


@produces(
    "attributes: ... of photos cannot fill 3 splits; use more photos, or see what attributes.group_by and "
    "attributes.near_duplicate_bits tie together."
)
def too_few_shirts(bench: Bench) -> Said:
    return with_shirts(bench, "filename,neck\na.jpg,0\nb.jpg,1\n")


def classifying(bench: Bench, empty: str = "", **values: Any) -> Said:
    """The stage classify on drawn garments, of which a split has no label of one attribute."""
    folder = write_drawn(bench.folder / "attributes")
    with_params(bench.folder, {"classify": {"device": "cpu", **values}})
    if empty:
        lines = (folder / "garments.csv").read_text().splitlines()
        emptied = [line.rpartition(",")[0] + "," if f",{empty}," in line else line for line in lines]
        (folder / "garments.csv").write_text("\n".join(emptied) + "\n")
    return bench.stage("classify", "attributes", "models")


@produces(
    "classify.backbone: there is no ...; efficientnet_lite0, a classifier of torchvision's (such as "
    "mobilenet_v3_large, resnet50, convnext_tiny) or timm/NAME is allowed."
)
def a_backbone_of_nobody(bench: Bench) -> Said:
    return classifying(bench, backbone="resnet1")


@produces("classify.backbone: timm/... needs timm, which is not installed; pip install timm.")
def no_timm(bench: Bench) -> Said:
    bench.monkeypatch.setattr("seamline.attributes.backbones.find_spec", lambda name: None)
    return classifying(bench, backbone="timm/resnet18", start="none")


@produces(
    "classify: no garment of ... has a value of ...; give it more of them, or leave the attribute out "
    "(attributes.labels)."
)
def an_attribute_that_val_lacks(bench: Bench) -> Said:
    return classifying(bench, empty="val")


@produces("...: is not a model of attributes: it does not say which it names; the classify stage makes them.")
def a_detector_for_attributes(bench: Bench) -> Said:
    onnx.save(image_model(), bench.folder / "model.onnx")
    return bench.run(lambda: AttributeClassifier(bench.folder / "model.onnx"))


# Training


@produces("...: is not the label of the masks in the split; run the stages convert and split.")
def labels_of_other_data(bench: Bench) -> Said:
    return bench.train(labels=1)


@produces("train.mask_ratio: ... leaves no pixel of train.imgsz ...; 4 is usual.")
def mask_ratio_too_large(bench: Bench) -> Said:
    return bench.train(mask_ratio=100)


@produces("train.device: ... is not there; this machine has ... GPUs: use auto or cpu.")
def no_gpu(bench: Bench) -> Said:
    bench.monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    return bench.train(device="0")


@produces("train.model: the weights ... are neither here nor in ..., and could not be downloaded; ...")
def no_internet(bench: Bench) -> Said:
    bench.monkeypatch.setattr(
        "seamline.training.yolo_weights.attempt_download_asset", raising(ConnectionError("no internet"))
    )
    return bench.train(model="yolov9c-seg.pt")


@produces(
    "rcnn.start: torchvision's weights are not in ..., and could not be downloaded (...); put the file of ... there, "
    "or take rcnn.start: none."
)
def no_internet_for_torchvision(bench: Bench) -> Said:
    bench.monkeypatch.setattr(
        "seamline.training.rcnn_pretrained.load_state_dict_from_url", raising(ConnectionError("no internet"))
    )
    return bench.train(model="maskrcnn_resnet50_fpn_v2")


@produces("train.model: ... is not a model of ultralytics' (...).")
def pointer_in_place_of_weights(bench: Bench) -> Said:
    (bench.folder / "mine.pt").write_text("version https://git-lfs.github.com/spec/v1\n")
    return bench.train(model="mine.pt")


@produces("...: is opened as data only, and it ...; set ULTRALYTICS_SAFE_LOAD=0 if you trust whoever made it: ...")
def weights_of_a_stranger(bench: Bench) -> Said:
    import torch

    torch.save({"model": os.system}, bench.folder / "mine.pt")
    return bench.train(model="mine.pt")


def train_with(bench: Bench, spoil: Callable[[dict[str, Any]], dict[str, Any]]) -> Said:
    """A training of which each batch is spoilt before the model sees it."""
    from seamline.training.yolo_trainer import Trainer

    original = Trainer.preprocess_batch
    bench.monkeypatch.setattr(Trainer, "preprocess_batch", lambda self, batch: spoil(original(self, batch)))
    return bench.train()


@produces("train: memory is too small for train.batch ... at train.imgsz ...; ...", slow=True)
def no_memory(bench: Bench) -> Said:
    import torch

    return train_with(bench, raising(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")))


@produces("train: the loss is NaN or infinite in epoch ...; train.lr0 ... may be too high. ...", slow=True)
def diverged(bench: Bench) -> Said:
    return train_with(bench, lambda batch: {**batch, "img": batch["img"] * np.nan})


@produces("train: ultralytics stopped with ...: ... (... has all of it).", slow=True)
def odd_batch(bench: Bench) -> Said:
    return train_with(bench, lambda batch: {**batch, "img": batch["img"][:, :1]})


@produces(
    "train: process ... of ... was killed (...); run dvc repro to resume after the last finished epoch (...).",
    slow=True,
)
def killed_process(bench: Bench) -> Said:
    return train_in_processes_that(bench, "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")


@produces("train: process ... of ... ended with code ...; ... says why.", slow=True)
def ended_process(bench: Bench) -> Said:
    return train_in_processes_that(bench, "raise SystemExit(3)")


def train_in_processes_that(bench: Bench, act: str) -> Said:
    """On two CPUs, with processes that run this code instead of training."""
    original = subprocess.Popen

    def start(command: list[str], **settings: Any) -> subprocess.Popen[bytes]:
        return original([command[0], "-c", act], **settings)

    bench.monkeypatch.setattr("seamline.training.processes.subprocess.Popen", start)
    return bench.train(device="cpu,cpu")


@produces(
    "train.compile: torch cannot compile here; a CPU needs a C++ compiler, a GPU Triton; set train.compile: false."
)
def no_compiler(bench: Bench) -> Said:
    bench.monkeypatch.setattr("torch._inductor.cpp_builder.get_cpp_compiler", raising(RuntimeError("no compiler")))
    return bench.train(compile=True)


@produces("...: the state of an interrupted training cannot be read (...); delete ... to train from the start.")
def damaged_state(bench: Bench) -> Said:
    def cut(overrides: dict[str, Any], folder: Path) -> None:
        (folder / "state.pt").write_bytes(b"PK\x03\x04")

    bench.monkeypatch.setattr("seamline.training.yolo.run_trainer", cut)
    return bench.train()


# Evaluation, export, benchmark, predict


def model_of_nothing(path: Path, **more: str) -> Path:
    """An ONNX file with our metadata that can be opened, and run on nothing."""
    import onnx
    from onnx import TensorProto, helper

    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, 32, 32]) for name in ("images", "output0")]
    graph = helper.make_graph([helper.make_node("Identity", ["images"], ["output0"])], "nothing", ends[:1], ends[1:])
    model = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 20)])
    facts = {"names": '["top", "trousers"]', "imgsz": "32", "confidence": "0.2", "nms_iou": "0.6"}
    helper.set_model_props(model, {**facts, "max_detections": "50", **more})
    onnx.save(model, path)
    return path


@produces("...: its classes are ..., but those of the model ...; ...")
def other_classes(bench: Bench) -> Said:
    write_dataset(bench.folder / "data")
    (bench.folder / "data" / "instances.json").rename("data/val.json")
    model = model_of_nothing(bench.folder / "model.onnx")
    return bench.stage("evaluate", model, "data", "data", "out", "--report", "reports")


@produces("...: there is no such file; run the stage that makes it (dvc repro), in the project's top folder.")
def report_of_nothing(bench: Bench) -> Said:
    (bench.folder / "reports").mkdir()
    return bench.stage("report", "reports")


@produces("...: its mask mAP50-95 on val differs by ... from PyTorch's, more than export.max_drift ...")
def drifting_export(bench: Bench) -> Said:
    from seamline.export.gates import check_drift

    return bench.run(lambda: check_drift("onnx", "mask", 0.0031, 0.002, 1.0, 0.99))


@produces("...: there is no model; INT8 costs more mask mAP50-95 on val than export.int8.max_drop (...) allows: ...")
def refused_int8(bench: Bench) -> Said:
    from pycocotools.coco import COCO

    from seamline.export.drops import Gate
    from seamline.export.int8 import SAID, why_no_int8

    (bench.folder / "photo.jpg").touch()
    (bench.folder / "openvino_int8").mkdir()
    rung = {
        "rung": "full", "said": SAID["full"], "precision": "int8", "outcome": "refused",
        "gate_drop": 0.03, "gate_interval": [0.02, 0.04],
    }  # fmt: skip
    reason = why_no_int8([rung], "mask", Gate("val", COCO(), np.zeros(0, np.int64), None, 0), 0.01)
    (bench.folder / "openvino_int8" / "no_model.txt").write_text(f"{reason}\n")
    return bench.predict("openvino_int8", "photo.jpg")


def ask(bench: Bench, function: Callable[[object], None], left_s: float) -> Said:
    process = started()
    process.left_s = left_s
    try:
        return bench.run(lambda: process.ask(function))
    finally:
        process.process.kill()
        process.stop()


@produces("...: took longer than benchmark.timeout_s (... s) and was stopped; ...")
def hanging_engine(bench: Bench) -> Said:
    return ask(bench, hang, 0)


@produces("...: its process ended by itself, exit code ... (-9: most likely out of memory); ...")
def dying_engine(bench: Bench) -> Said:
    return ask(bench, die, 60)


@produces("... of ... files cannot be used (...):")
def damaged_photo(bench: Bench) -> Said:
    (bench.folder / "photo.jpg").write_text("no photo")
    return bench.predict(model_of_nothing(bench.folder / "model.onnx"), "photo.jpg")


@produces("...: is an unfinished run with another ...; run its command again to finish it, ...")
def unfinished_run_of_another_model(bench: Bench) -> Said:
    from seamline.photos.journal import Done, open_journal

    with open_journal(bench.folder / "predictions", {"model": "another"}) as journal:
        journal.add(Done("photo", "stamp", "photo.jpg"))
    (bench.folder / "photo.jpg").touch()
    return bench.predict(model_of_nothing(bench.folder / "model.onnx"), "photo.jpg")


@produces("...: another predict is at work there; let it end, or name another folder with --out.")
def two_predictions_at_once(bench: Bench) -> Said:
    from seamline.photos.journal import open_journal

    (bench.folder / "photo.jpg").touch()
    with open_journal(bench.folder / "predictions", {}):
        return bench.predict(model_of_nothing(bench.folder / "model.onnx"), "photo.jpg")


@produces("...: cannot be read; addresses begin with s3://, https:// or http://.")
def address_of_another_kind(bench: Bench) -> Said:
    return bench.predict("model.onnx", "zip://photo.jpg::https://example.org/photos.zip")


@produces("...: is a video; save its frames as images and name their folder: ...")
def video(bench: Bench) -> Said:
    (bench.folder / "clip.mp4").touch()
    return bench.predict("model.onnx", "clip.mp4")


@produces("...: is a HEIC photo, and pillow-heif, which reads those, is not installed; pip install pillow-heif.")
def heic_photo(bench: Bench) -> Said:
    bench.monkeypatch.setattr(images, "FORMATS", [name for name in images.FORMATS if name != "HEIF"])
    (bench.folder / "iphone.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(100))
    return bench.predict(model_of_nothing(bench.folder / "model.onnx"), "iphone.heic")


@produces("--classes: the model has no class ...; it has ....")
def unknown_class(bench: Bench) -> Said:
    (bench.folder / "photo.jpg").touch()
    model = model_of_nothing(bench.folder / "model.onnx")
    return bench.predict(model, "photo.jpg", "--classes", "top,trouser")


@produces(
    "...: the model has no class ...; it has ...; people.person_class or --person-class names the one that people are "
    "of."
)
def a_model_without_people(bench: Bench) -> Said:
    (bench.folder / "photo.jpg").touch()
    model = model_of_nothing(bench.folder / "model.onnx")
    return bench.predict(model, "photo.jpg", "--people", model)


@produces("...: has no catalogue.json, so it is not a catalogue; seamline catalogue add makes one.")
def a_folder_without_a_catalogue(bench: Bench) -> Said:
    return bench.verb("catalogue", "show", ".")


@produces(
    "...: its vectors are of the embedder ... (...), and ... (...) makes others, which cannot be compared; open the "
    "embedder that it was made with, or make the catalogue again."
)
def a_catalogue_of_another_embedder(bench: Bench) -> Said:
    write_catalogue(bench.folder / "own", [catalogue_entry("a.jpg", directions(1))])
    return bench.run(lambda: open_catalogue(Path("own"), StandIn(8)))


@produces(
    "...: is an output of DVC, and its files are links into DVC's cache; seamline catalogue add makes one of your own "
    "in another folder."
)
def a_catalogue_of_dvcs(bench: Bench) -> Said:
    write_catalogue(bench.folder / "data" / "catalogue", [catalogue_entry("a.jpg", directions(1))])
    for path in (bench.folder / "data" / "catalogue").iterdir():
        path.chmod(0o444)
    return bench.verb("catalogue", "remove", "data/catalogue", "a.jpg")


@produces("...: another process is at work there; let it end.")
def a_catalogue_that_is_being_changed(bench: Bench) -> Said:
    write_catalogue(bench.folder / "own", [catalogue_entry("a.jpg", directions(1))])
    with open_journal(Path(".own.unfinished"), Path("own"), "key"):
        return bench.verb("catalogue", "remove", "own", "a.jpg")


@produces(
    "...: none of its columns is called file_name, filename, file, photo, image, path or url; name the one with the "
    "photos (catalogue.file_column, --file-column)."
)
def a_table_without_photos(bench: Bench) -> Said:
    (bench.folder / "items.csv").write_text("sku,colour\n1,red\n")
    return bench.verb("catalogue", "add", "own", "--csv", "items.csv")


@produces("...: the request to the Qdrant server failed (...).")
def a_server_that_is_not_there(bench: Bench) -> Said:
    write_catalogue(bench.folder / "own", [catalogue_entry("a.jpg", directions(1))])
    return bench.verb("catalogue", "push", "own", "--url", "http://127.0.0.1:9")


@produces("...: cannot be opened as a model (...).")
def damaged_model(bench: Bench) -> Said:
    for name in ("photo.jpg", "model.onnx"):
        (bench.folder / name).write_text("neither")
    return bench.predict("model.onnx", "photo.jpg")


@produces("...: device ... was asked for; a device is one of auto, cpu, cuda, cuda:1 (the second GPU), tensorrt.")
def unknown_device(bench: Bench) -> Said:
    (bench.folder / "photo.jpg").touch()
    return bench.predict(model_of_nothing(bench.folder / "model.onnx"), "photo.jpg", "--device", "gpu")


@produces("...: device ... was asked for, and torch ... sees no GPU.")
def weights_without_a_gpu(bench: Bench) -> Said:
    for name in ("photo.jpg", "best.pt"):
        (bench.folder / name).touch()
    bench.monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    return bench.predict("best.pt", "photo.jpg", "--device", "cuda")


@produces(
    "...: device ... was asked for, and onnxruntime ... is built without ...; install onnxruntime-gpu in its place."
)
def onnxruntime_without_a_gpu(bench: Bench) -> Said:
    (bench.folder / "photo.jpg").touch()
    bench.monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CPUExecutionProvider"])
    return bench.predict(model_of_nothing(bench.folder / "model.onnx"), "photo.jpg", "--device", "cuda")


@produces(
    "...: cannot be run in ... on ...; bf16 is for OpenVINO, f16 for TensorRT, and all of bf16, f16 and tf32 for "
    "weights (.pt) on a GPU."
)
def unknown_precision(bench: Bench) -> Said:
    (bench.folder / "photo.jpg").touch()
    return bench.predict(model_of_nothing(bench.folder / "model.onnx"), "photo.jpg", "--precision", "f16")


@produces("...: is a model of the family ...; this version of Seamline opens ....")
def unknown_family(bench: Bench) -> Said:
    (bench.folder / "photo.jpg").touch()
    return bench.predict(model_of_nothing(bench.folder / "model.onnx", family="detr"), "photo.jpg")


def embedder(bench: Bench, **settings: str | None) -> Said:
    """The embed stage's model by these settings."""
    from seamline.export.embedder import towers_of
    from seamline.params.embed import Embed
    from seamline.params.loading.loader import load_params

    with_params(bench.folder, {"embed": settings})
    return bench.run(lambda: towers_of(load_params()[Embed]))


@produces("embed: ... was fetched, and has to be pinned; write revision: ... and sha256: ... into params.yaml.")
def unpinned_embedder(bench: Bench) -> Said:
    from seamline.export import hub

    folder = bench.folder / "hub" / "acme--clip" / COMMIT
    folder.mkdir(parents=True)
    (folder / hub.FETCHED).write_text(json.dumps({"weights": "model.safetensors", "licence": "mit"}))
    (folder / "model.safetensors").write_bytes(b"weights")
    bench.monkeypatch.setattr(hub, "SCRATCH", bench.folder)
    return embedder(bench, model="acme/clip", revision=COMMIT)


@produces(
    "embed.model: ... cannot be fetched (...); without internet take efficientnet-lite0, or name a mirror in "
    "HF_ENDPOINT."
)
def no_internet_for_the_hub(bench: Bench) -> Said:
    bench.monkeypatch.setattr("seamline.export.hub.import_hub", raising(ConnectionError("no internet")))
    return embedder(bench, model="acme/clip")


@produces(
    "embed.model: ... has no weights as safetensors (...); others are pickles, which can run code, and are not opened."
)
def pickled_embedder(bench: Bench) -> Said:
    from seamline.export import hub

    files = [SimpleNamespace(rfilename=name) for name in ("config.json", "pytorch_model.bin")]
    info = SimpleNamespace(siblings=files, tags=[], sha=COMMIT)
    api = SimpleNamespace(model_info=lambda name, revision: info)
    bench.monkeypatch.setattr(hub, "import_hub", lambda: SimpleNamespace(HfApi=lambda: api))
    bench.monkeypatch.setattr(hub, "SCRATCH", bench.folder)
    return embedder(bench, model="acme/clip")


@produces("...: is a detector, which finds garments; an embedder is asked for here.")
def detector_for_an_embedder(bench: Bench) -> Said:
    from seamline.inference.embedder import Embedder

    model = model_of_nothing(bench.folder / "model.onnx")
    return bench.run(lambda: Embedder(model))


@produces("...: is an embedder, which makes vectors of garments; a detector is asked for here.")
def embedder_for_a_detector(bench: Bench) -> Said:
    (bench.folder / "photo.jpg").touch()
    return bench.predict(save_embedder(bench.folder)[0], "photo.jpg")


@produces("...: PyTorch does not work in process ..., a fork of one in which it has worked; ...")
def weights_in_a_fork(bench: Bench) -> Said:
    """As if another process, of which this one is a fork, had opened weights."""
    (bench.folder / "photo.jpg").touch()
    (bench.folder / "best.pt").touch()
    bench.monkeypatch.setattr("seamline.models.forks.torch_processes", {os.getppid()})
    return bench.predict("best.pt", "photo.jpg")


@produces("...: needs ..., which is not installed; the extra s3 brings it.")
def package_of_an_extra(bench: Bench) -> Said:
    bench.monkeypatch.setitem(sys.modules, "s3fs", None)
    return bench.predict("model.onnx", "s3://my-bucket/photos")


@produces("...: needs ..., which is not installed; docs/models.md says what brings it.")
def package_of_the_pipeline(bench: Bench) -> Said:
    bench.monkeypatch.setitem(sys.modules, "torch", None)
    for name in ("photo.jpg", "best.pt"):
        (bench.folder / name).write_text("neither")
    return bench.predict("best.pt", "photo.jpg")


# DVC and git


def dvc(project: Project, *arguments: str) -> Said:
    done = project.run("dvc", *arguments, check=False)
    return Said(done.returncode, done.stdout + done.stderr)


@produces("ERROR: failed to reproduce '...': failed to run: ..., exited with ...", slow=True)
def failing_stage(bench: Bench) -> Said:
    return dvc(bench.project(pull={"layout": "ccp"}), "repro", "pull")


NO_SUCH_FILE = "ERROR: failed to reproduce '...': [Errno 2] No such file or directory: "


@produces(f"{NO_SUCH_FILE}'...'", slow=True)
def missing_dependency(bench: Bench) -> Said:
    said = dvc(bench.project(pull={"source": "../nowhere.zip"}), "repro", "pull")
    assert (
        said.text.count("pull.source: ../nowhere.zip does not exist; it has to be a folder, an archive or a URL") == 1
    )
    return said


@produces(f"{NO_SUCH_FILE}'.../.dvc/tmp/exps/...'", slow=True)
def experiment_without_its_source(bench: Bench) -> Said:
    project = bench.project(pull={"source": "photos.zip"})
    shutil.copy(project.root / "samples" / "garments.zip", project.root / "photos.zip")
    return dvc(project, "exp", "run", "--temp", "pull")


@produces(
    "ERROR: Unable to acquire lock. Most likely another DVC process is running or was terminated abruptly. ...",
    slow=True,
)
def held_lock(bench: Bench) -> Said:
    project = bench.project()
    (project.root / ".dvc" / "tmp").mkdir(exist_ok=True)
    with (project.root / ".dvc" / "tmp" / "lock").open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        return dvc(project, "status")


@produces("ERROR: failed to reproduce '...': '...' is busy, it is being blocked by:", slow=True)
def busy_output(bench: Bench) -> Said:
    project = bench.project()
    (project.root / ".dvc" / "tmp").mkdir(exist_ok=True)
    info = {"pid": os.getpid(), "cmd": "dvc repro"}
    text = json.dumps({"write": {str(project.root / "data" / "raw"): info}, "read": {}})
    (project.root / ".dvc" / "tmp" / "rwlock").write_text(text)
    return dvc(project, "repro", "pull")


def status_with_lock(bench: Bench, change: Callable[[str], str]) -> Said:
    project = bench.project()
    lock = project.root / "dvc.lock"
    lock.write_text(change(lock.read_text()))
    return dvc(project, "status")


@produces("'./dvc.lock' is invalid.", slow=True)
def lock_cut_off(bench: Bench) -> Said:
    return status_with_lock(bench, lambda text: text[: text.index("size:") + 2])


@produces("'./dvc.lock' validation failed.", slow=True)
def lock_cut_off_behind_a_colon(bench: Bench) -> Said:
    return status_with_lock(bench, lambda text: text[: text.index("size:") + 6])


@produces("'./dvc.lock' is invalid (possible merge conflicts).", slow=True)
def conflict_in_lock(bench: Bench) -> Said:
    return status_with_lock(bench, lambda text: f"<<<<<<< HEAD\n{text}")


@produces("...: '...' does not exist as an output or a stage name in 'dvc.yaml': ...", slow=True)
def no_such_output(bench: Bench) -> Said:
    return dvc(bench.project(), "checkout", "models/exports")


@produces("ERROR: Checkout failed for following targets:", slow=True)
def empty_cache(bench: Bench) -> Said:
    return dvc(bench.project(), "checkout", "data/raw")


def small_split(bench: Bench) -> list[str]:
    """Options of a split of two images."""
    write_split_of_two(bench.folder / "split")
    return ["--split", str(bench.folder / "split")]


@produces("families: the models start from different weights (...), which is not a fair comparison; ...")
def families_of_two_starts(bench: Bench) -> Said:
    return bench.verb("families", "yolov9t-seg.yaml", "maskrcnn_mobilenet_v3_large_fpn", *small_split(bench))


@produces("--images-seen: ... are ... of ... train images, less than half of ...; at least ... are needed.")
def families_that_hardly_train(bench: Bench) -> Said:
    models = ("yolov9t-seg.yaml", "yolov9c-seg.yaml")
    return bench.verb("families", *models, "--images-seen", "2", *small_split(bench))


@produces("families: ... diverged with every train.lr0 that was tried (...); lower train.lr0, or raise --trials.")
def families_that_diverge(bench: Bench) -> Said:
    def diverge(*_: Any) -> Any:
        raise SeamlineError("train: the loss is NaN or infinite in epoch 1; train.lr0 0.002 may be too high.")

    bench.monkeypatch.setattr("seamline.experiments.family_trainings.train_alone", diverge)
    bench.monkeypatch.setattr(
        "seamline.experiments.family_trainings.identity_of_params", lambda *_: SimpleNamespace(key="0" * 16)
    )
    return bench.verb("families", "yolov9t-seg.yaml", "yolov9c-seg.yaml", *small_split(bench))


def write_split_of_two(split: Path) -> None:
    split.mkdir()
    images = [{"id": number, "file_name": f"{number}.png", "width": 9, "height": 9} for number in (1, 2)]
    annotation = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 5, 5], "area": 25, "iscrowd": 0,
                  "segmentation": [square(1, 1, 5)]}  # fmt: skip
    coco = {"images": images, "annotations": [annotation], "categories": [{"id": 1, "name": "top"}]}
    for name in ("train", "val", "test"):
        (split / f"{name}.json").write_text(json.dumps(coco))


@produces("this folder is not in a git repository (a downloaded zip is not), and DVC needs one: ...")
def folder_of_a_zip(bench: Bench) -> Said:
    said = bench.verb("sweep")
    assert said == bench.verb("compare", "main")
    assert not (bench.folder / ".seamline" / "sweep").exists()
    return said


@produces("ERROR: ... is not a git repository", slow=True)
def zip_and_dvc(bench: Bench) -> Said:
    project = bench.project()
    shutil.rmtree(project.root / ".git")
    sentence = "git init && git add --all && git commit -m start"
    assert sentence in dvc(project, "init").text
    assert sentence in dvc(project, "exp", "run").text
    said = dvc(project, "repro")
    assert sentence in said.text
    return said


@produces("ERROR: failed to initiate DVC - '.dvc' exists. ...", slow=True)
def second_init(bench: Bench) -> Said:
    said = dvc(bench.project(), "init")
    assert "set up for DVC already, go on with `dvc repro`; -f would delete" in said.text
    return said


@produces("this git repository has no commit yet; git add --all && git commit -m start makes the first.")
def nothing_committed(bench: Bench) -> Said:
    bench.repository(commit=False)
    done = warm.run(["dvc", "exp", "run"], bench.folder)
    assert "nothing has been committed yet: git add --all" in done.stderr
    return bench.verb("sweep")


def compare_with_experiments(bench: Bench, *starts: str) -> Said:
    """Of one name, started from these commits."""
    head = bench.repository()
    for start in starts:
        bench.command("git", "update-ref", f"refs/exps/{start[:2]}/{start[2:]}/quick-lynx", head)
    return bench.verb("compare", "quick-lynx")


@produces("...: is not a commit, branch, tag or experiment of this project, nor 'workspace'...")
def no_such_revision(bench: Bench) -> Said:
    return compare_with_experiments(bench)


@produces("...: is the name of ... experiments, none started from HEAD; write ....")
def experiments_of_one_name(bench: Bench) -> Said:
    return compare_with_experiments(bench, "1" * 40, "2" * 40)


@produces("sweep: another one is running in this project; wait for it or stop it.")
def two_sweeps(bench: Bench) -> Said:
    bench.repository()
    folder = bench.folder / ".seamline" / "sweep"
    folder.mkdir(parents=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return bench.verb("sweep")


@produces("sweep: trials run in copies of the project, where pull.source ... does not exist; write ....")
def sweep_of_photos_beside_git(bench: Bench) -> Said:
    (bench.folder / "photos").mkdir()
    bench.repository(pull={"source": "photos"})
    return bench.verb("sweep")


@produces("sweep: trials run in copies of the files in git, and ... is not; git add ....")
def sweep_without_a_lock_in_git(bench: Bench) -> Said:
    bench.repository()
    bench.command("git", "rm", "--quiet", "--cached", "dvc.lock")
    return bench.verb("sweep")


@produces(
    "sweep: git no longer has the commit ... it began with (...); begin another: make sweep SWEEP='--name other'."
)
def sweep_of_a_lost_commit(bench: Bench) -> Said:
    from seamline.experiments import snapshot

    bench.repository()
    return bench.run(lambda: snapshot.copy_of(snapshot.Snapshot("1" * 40, "2" * 40)))


@produces("HEAD detached at ...")
def no_branch(bench: Bench) -> Said:
    project = bench.project()
    project.run("git", "checkout", "--quiet", "--detach")
    return Said(0, project.run("git", "status").stdout)


@produces(
    "ERROR: unexpected error - the index is locked; this might be due to a concurrent or crashed process", slow=True
)
def killed_git(bench: Bench) -> Said:
    project = bench.project()
    (project.root / ".git" / "index.lock").touch()
    return dvc(project, "exp", "run", "-S", "train.epochs=3", "pull")


# Containers and reports


# A reader of images gets what the system sends where shared memory is used up.
DYING = """
import os, signal
from torch.utils.data import DataLoader

class Dying(list):
    def __getitem__(self, index):
        os.kill(os.getpid(), signal.SIGBUS)

list(DataLoader(Dying([0]), num_workers=1, multiprocessing_context="fork"))
"""


@produces("ERROR: Unexpected bus error encountered in worker. This might be caused by insufficient ...", slow=True)
def no_shared_memory(bench: Bench) -> Said:
    return bench.command(sys.executable, "-c", DYING)


@produces("...: Permission denied; nothing half-written is left.")
def folder_of_another_user(bench: Bench) -> Said:
    return pull_refused(bench, errno.EACCES)


@produces("...: lacks ..., which this version of Seamline writes; run dvc repro.")
def reports_without_a_figure(bench: Bench) -> Said:
    from seamline.report.summary import reports_to_lines

    shutil.copytree(REPORTS, bench.folder / "reports")
    (bench.folder / "reports" / "metrics.json").write_text('{"val": {"mask": {}}, "test": {"mask": {}}}')
    return bench.run(lambda: reports_to_lines(Path("reports"), Path("best.pt"), 0.01, {}))


@produces("...: its reports are of another version of Seamline; run dvc repro there.")
def old_reports(bench: Bench) -> Said:
    from seamline.experiments.comparing import read_model
    from seamline.experiments.revisions import WORKSPACE, Revision

    shutil.copytree(REPORTS / "evaluate", bench.folder / "reports" / "evaluate")
    (bench.folder / "reports" / "evaluate" / "settings.json").write_text("{}")
    return bench.run(lambda: read_model(Revision(WORKSPACE, None), Path("reports")))


# The page


@pytest.mark.parametrize(
    "pattern",
    [
        pytest.param(pattern, id=case.__name__, marks=[pytest.mark.slow] if pattern in SLOW else [])
        for pattern, case in CASES.items()
    ],
)
def test_a_message_is_said_as_the_page_has_it(
    pattern: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = CASES[pattern](Bench(request, tmp_path, monkeypatch))
    assert says(said.text, pattern), said.text
    [entry] = [entry for entry in entries() if entry.pattern == pattern]
    if not entry.owner:
        assert said.status != 0
        assert "Traceback" not in said.text


def test_every_entry_is_produced_and_nothing_else() -> None:
    found = entries()
    patterns = [entry.pattern for entry in found]
    assert len(set(patterns)) == len(patterns)
    assert {entry.pattern for entry in found if entry.section != NOT_OURS} == CASES.keys()
    assert {entry.pattern for entry in found if entry.section == NOT_OURS} == NOT_PRODUCED.keys()
    assert all(entry.owner for entry in found if entry.section == NOT_OURS)


def test_an_entry_says_enough_to_be_found_and_what_to_do() -> None:
    for entry in entries():
        assert len(entry.pattern.replace("...", "")) >= 15, entry.pattern
        assert len(entry.text) >= 40, entry.pattern


def test_a_pattern_is_a_whole_line() -> None:
    assert says("error: a.zip: is broken (why).", "...: is broken (...).")
    assert not says("error: a.zip: is broken (why), and more", "...: is broken (...).")
    assert not says("error: a.zip: is torn (why).", "...: is broken (...).")
