"""Trainings that are stored: how many, for how long, and by whom; the stage in processes of its own."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import yaml
from ultralytics.utils import NUM_THREADS

from seamline.training import finished as trainings
from seamline.training.finished import (
    FINISHED,
    MAX_FINISHED,
    MAX_UNFINISHED,
    Training,
    discard_finished,
    discard_unfinished,
    holding,
    latest_first,
    store_training,
    stored_training,
    trainings_folder,
)
from tests.conftest import PARAMS, PROJECT, TINY, merged
from tests.training.test_run import SMALLEST


def key(number: int) -> str:
    return f"{number:016x}"


def make_finished(scratch: Path, number: int, size: int = 10, most: int = MAX_FINISHED) -> Path:
    """Trained `number` seconds after 1970."""
    made = scratch / key(number) / "best-00001.pt"
    made.parent.mkdir(parents=True)
    made.write_bytes(bytes(size))
    store_training(scratch, key(number), Training(made, {"number": number}, []), most)
    folder = scratch / FINISHED / key(number)
    os.utime(folder, (number, number))
    return folder


def numbers(folder: Path) -> list[int]:
    return [int(path.name, 16) for path in latest_first(folder)]


def test_the_latest_finished_trainings_are_stored_as_far_as_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(1, MAX_FINISHED + 3):
        make_finished(tmp_path, number)
    latest = list(range(MAX_FINISHED + 2, 2, -1))
    assert numbers(tmp_path / FINISHED) == latest
    used = stored_training(tmp_path, key(latest[-1]))  # the last one used is the latest
    assert used is not None
    assert used.facts == {"number": latest[-1]}
    size = sum(path.stat().st_size for path in used.weights.parent.iterdir())
    make_finished(tmp_path, MAX_FINISHED + 3, most=2)  # another number, as where there are more seeds
    assert numbers(tmp_path / FINISHED) == [latest[-1], MAX_FINISHED + 3]
    monkeypatch.setattr(trainings, "MAX_FINISHED_BYTES", 2 * size)
    discard_finished(tmp_path)
    assert numbers(tmp_path / FINISHED) == [latest[-1], MAX_FINISHED + 3]
    monkeypatch.setattr(trainings, "MAX_FINISHED_BYTES", 1)
    discard_finished(tmp_path)
    assert numbers(tmp_path / FINISHED) == [latest[-1]]


def test_the_latest_unfinished_trainings_are_stored(tmp_path: Path) -> None:
    for number in range(6):
        (tmp_path / key(number)).mkdir()
        os.utime(tmp_path / key(number), (number, number))
    (tmp_path / "weights").mkdir()
    with holding(tmp_path, key(1)):
        discard_unfinished(tmp_path, key(0))
    assert sorted(numbers(tmp_path)) == [0, 1, *range(6 - MAX_UNFINISHED, 6)]  # of 1 a process is at work
    assert (tmp_path / "weights").is_dir()


def test_what_a_process_uses_is_not_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_finished(tmp_path, 1)
    make_finished(tmp_path, 2)
    monkeypatch.setattr(trainings, "MAX_FINISHED_BYTES", 1)
    with holding(tmp_path, key(1)):
        discard_finished(tmp_path)
    assert numbers(tmp_path / FINISHED) == [2, 1]


def test_who_comes_second_waits_and_takes_what_the_first_has_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found: list[Training | None] = []

    def second() -> None:
        with holding(tmp_path, key(1)):
            found.append(stored_training(tmp_path, key(1)))

    with holding(tmp_path, key(1)):
        thread = threading.Thread(target=second)
        thread.start()
        said, given_up = "", time.monotonic() + 60
        while "another process is at work on the same training; waiting for it" not in said:
            assert time.monotonic() < given_up, said
            time.sleep(0.01)
            said += capsys.readouterr().out
        assert thread.is_alive()
        make_finished(tmp_path, 1)
    thread.join(60)
    assert found == [Training(tmp_path / FINISHED / key(1) / "best.pt", {"number": 1}, [])]


def test_a_process_that_was_forked_meanwhile_does_not_keep_it_held(tmp_path: Path) -> None:
    """As those that load images, which may end later than their training."""
    with holding(tmp_path, key(1)):
        child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
        child.start()
    try:
        with holding(tmp_path, key(1), wait=False) as free:
            assert free
    finally:
        child.kill()
        child.join()


@pytest.mark.parametrize("kind", ["file", "link", "dangling link"])
def test_what_somebody_put_in_the_place_of_a_stored_training_is_replaced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    (tmp_path / FINISHED).mkdir()
    place, elsewhere = tmp_path / FINISHED / key(1), tmp_path / "elsewhere"
    if kind == "file":
        place.touch()
    else:
        place.symlink_to(elsewhere)
    if kind == "link":
        elsewhere.mkdir()
        (elsewhere / "of somebody").touch()
    assert stored_training(tmp_path, key(1)) is None
    assert "is damaged; it is trained again" in capsys.readouterr().out
    place.symlink_to(elsewhere)  # and once more, while it was trained
    make_finished(tmp_path, 1)
    assert stored_training(tmp_path, key(1)) is not None
    assert not place.is_symlink()
    assert (elsewhere / "of somebody").exists() == (kind == "link")


def test_a_clock_that_was_wrong_does_not_keep_a_training_for_good(tmp_path: Path) -> None:
    to_come = int(time.time()) + 10 * 24 * 3600
    for number in range(1, MAX_FINISHED + 1):
        os.utime(make_finished(tmp_path, number), (to_come, to_come))
    make_finished(tmp_path, MAX_FINISHED + 1)
    make_finished(tmp_path, MAX_FINISHED + 2)
    assert set(numbers(tmp_path / FINISHED)) >= {MAX_FINISHED + 1, MAX_FINISHED + 2}


def test_what_a_kill_between_storing_and_deleting_leaves_goes_with_the_next_use(tmp_path: Path) -> None:
    make_finished(tmp_path, 1)
    (tmp_path / key(1)).mkdir()
    assert stored_training(tmp_path, key(1)) is not None
    assert [path.name for path in tmp_path.iterdir()] == [FINISHED]


KILLED = """
import sys
from pathlib import Path
from seamline.base import files
from seamline.training import finished
from tests.killed import killed, lines_of

scratch, key, tried = Path(sys.argv[1]), "0" * 16, 0

def store(text):
    made = scratch / key / "best-00001.pt"
    made.parent.mkdir(parents=True, exist_ok=True)
    made.write_text(text)
    finished.store_training(scratch, key, finished.Training(made, {"text": text}, []))

store("old")
left = set()
for module in (finished, files):
    for moment in range(1, lines_of(lambda: store("old"), module) + 1):
        assert killed(lambda: store("new"), module, moment)
        found = finished.stored_training(scratch, key)
        assert found is not None, (module.__name__, moment)
        assert found.weights.read_text() == found.facts["text"], (module.__name__, moment)
        left.add(found.facts["text"])
        store("old")
        tried += 1
assert left == {"old", "new"} and tried > 50, (left, tried)
"""


@pytest.mark.process
def test_a_kill_at_any_moment_leaves_the_old_training_or_the_new_one(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""  # none was damaged


@pytest.mark.parametrize(
    ("name", "content"),
    [("best.pt", None), ("facts.json", None), ("sha256.json", None), ("sha256.json", "{}"), ("sha256.json", "[]")],
)
def test_a_stored_training_that_lacks_a_file_or_a_hash_is_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, content: str | None
) -> None:
    folder = make_finished(tmp_path, 1)
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_text(content)
    assert stored_training(tmp_path, key(1)) is None
    assert capsys.readouterr().out == f"{folder}: the training that was stored here is damaged; it is trained again\n"
    assert not folder.exists()
    assert stored_training(tmp_path, key(1)) is None
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("copy", [".", ".dvc/tmp/exps/tmp1", ".dvc/tmp/exps/standalone/tmp2"])
def test_copies_that_dvc_makes_share_the_projects_trainings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, copy: str
) -> None:
    (tmp_path / copy).mkdir(parents=True, exist_ok=True)
    monkeypatch.chdir(tmp_path / copy)
    assert trainings_folder() == tmp_path / ".seamline" / "train"


def printed_by(module: str, folder: Path, *arguments: Path | str) -> str:
    """What a stage or tool prints that is run in this folder, with the folder's own code."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


TRAIN = ("split", "yolo", "models/train")
MADE = ("train/best.pt", "train/training.json", *(f"train-report/{name}" for name in (
    "losses.csv", "validation.csv", "summary.json", "labels.json",
)))  # fmt: skip


@pytest.mark.slow
@pytest.mark.process
def test_an_edit_outside_of_training_takes_over_and_one_of_training_trains_again(
    tmp_path: Path,
    data: tuple[Path, Path],
) -> None:
    project = tmp_path / "project"
    shutil.copytree(data[0].parent, project)
    for name in ("stages", "seamline"):
        shutil.copytree(PROJECT / name, project / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(TINY, project / "tiny-seg.yaml")
    values = yaml.safe_load(PARAMS.read_text())
    train = {**SMALLEST, "epochs": 2, "model": "tiny-seg.yaml"}
    (project / "params.yaml").write_text(yaml.safe_dump(merged(values, {"train": train})))
    (project / ".dvc" / "tmp" / "exps").mkdir(parents=True)
    copy = project / ".dvc" / "tmp" / "exps" / "tmp1"

    def made(folder: Path) -> list[bytes]:
        return [(folder / "models" / name).read_bytes() for name in MADE]

    def edit(folder: Path, module: str) -> None:
        with (folder / "seamline" / module).open("a") as stream:
            stream.write("# another line\n")

    assert "epoch 2/2" in printed_by("stages.train", project, *TRAIN)
    summary = json.loads((project / "models" / "train-report" / "summary.json").read_text())
    assert summary["device"].startswith("CPU, ")
    assert summary["threads"] == NUM_THREADS
    assert summary["resumed_after_epochs"] == []
    labels = json.loads((project / "models" / "train-report" / "labels.json").read_text())
    assert (labels["instances_measured"], labels["imgsz"]) == (10, train["imgsz"])
    assert labels["at_imgsz"]["mean_iou"] > labels["at_loss_size"]["mean_iou"] > 0.5
    left_out = {".seamline", ".dvc", "models"}
    shutil.copytree(project, copy, ignore=lambda folder, names: left_out if Path(folder) == project else set())
    for module in ("params/loader.py", "base/files.py", "models/nms.py"):
        edit(copy, module)
    said = printed_by("stages.train", copy, *TRAIN)
    assert "the same was trained before" in said
    assert "epoch 1/2" not in said
    assert made(copy) == made(project)

    edit(copy, "models/weights.py")
    assert "epoch 2/2" in printed_by("stages.train", copy, *TRAIN)
    assert made(copy) == made(project)  # another training all the same, of which the edit changed nothing
    listed = printed_by("seamline", project, "trainings")
    assert "2 finished trainings" in listed
    assert listed.count(" finished, ") == 2
    assert "deleted 2 finished trainings" in printed_by("seamline", project, "trainings", "--clear")
    assert printed_by("seamline", copy, "trainings").startswith("0 finished trainings")
