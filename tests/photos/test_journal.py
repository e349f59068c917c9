"""A run that was cut resumes from its journal, wherever it was cut, and ends in the same bytes."""

from __future__ import annotations

import fcntl
import itertools
import json
import signal
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.predicting import differences, files_of, write_photos
from seamline.base.errors import SeamlineError
from seamline.inference.detector import Detector
from seamline.photos import journal as journal_module
from seamline.photos import predicting, writing
from seamline.photos.journal import Done, Journal, open_journal
from seamline.verbs.predict import main
from tests.conftest import PROJECT
from tests.photos.test_predicting import file_names, rows_of
from tests.untrained import Untrained

CONFIDENCE = 0.3
OPTIONS = ("--crops", "--overlays", "5")


def predict(*arguments: Path | str) -> None:
    main([*map(str, arguments), "--confidence", str(CONFIDENCE)])


def done(key: str, **changes: Any) -> Done:
    return Done(key, f"stamp of {key}", f"{key}.jpg", **changes)


def test_lines_are_found_again_and_the_last_one_counts(tmp_path: Path) -> None:
    with open_journal(tmp_path, {"model": "a"}) as journal:
        journal.add(done("one", reason="lost", again=True))
        position = journal.add(done("two", height=3, width=4, instances=[{"score": 0.5}]))
        journal.add(done("three", reason="damaged"))
        assert journal.known().keys() == {"two", "three"}
        journal.add(done("one", height=1))
        journal.add(done("three", reason="lost", again=True))
    with open_journal(tmp_path, {"model": "a"}) as journal:
        assert journal.known().keys() == {"two", "one"}
        assert journal.at(position) == done("two", height=3, width=4, instances=[{"score": 0.5}])


def test_a_line_is_in_the_file_as_soon_as_it_is_added(tmp_path: Path) -> None:
    """A kill loses nothing that Python still held back."""
    with open_journal(tmp_path, {"model": "a"}) as journal:
        for count, key in enumerate(("one", "two"), 1):
            journal.add(done(key))
            assert (tmp_path / "unfinished" / "done.jsonl").read_bytes().count(b"\n") == count


def test_wherever_a_line_is_cut_the_others_stay(tmp_path: Path) -> None:
    path = tmp_path / "unfinished" / "done.jsonl"
    with open_journal(tmp_path, {"model": "a"}) as journal:
        ends = [journal.add(done(str(number))) for number in range(3)]
    whole = path.read_bytes()
    for length in range(0, len(whole), 3):
        path.write_bytes(whole[:length])
        with open_journal(tmp_path, {"model": "a"}) as journal:
            complete = sum(length >= end for end in [*ends[1:], len(whole)])
            assert list(journal.known()) == [str(number) for number in range(complete)]
            assert journal.add(done("x")) == ([*ends, len(whole)][complete])
        assert path.read_bytes().count(b"\n") == complete + 1


def test_what_lies_behind_damage_is_done_again(tmp_path: Path) -> None:
    with open_journal(tmp_path, {"model": "a"}) as journal:
        ends = [journal.add(done(str(number))) for number in range(3)]
    path = tmp_path / "unfinished" / "done.jsonl"
    data = bytearray(path.read_bytes())
    data[ends[1] + 3] = 0
    path.write_bytes(data)
    with open_journal(tmp_path, {"model": "a"}) as journal:
        assert list(journal.known()) == ["0"]


def test_another_run_is_refused_until_everything_is_delivered(tmp_path: Path) -> None:
    with open_journal(tmp_path, {"model": "a", "confidence": 0.2}) as journal:
        journal.add(done("one"))
    for other, said in [
        ({"model": "b", "confidence": 0.2}, "with another model; run its command again"),
        ({"model": "b", "confidence": 0.3}, "with another model, --confidence; "),
    ]:
        with pytest.raises(SeamlineError, match=said), open_journal(tmp_path, other):
            pass
    with open_journal(tmp_path, {"model": "a", "confidence": 0.2}) as journal:
        journal.finish(keep=True)
    with open_journal(tmp_path, {"model": "b", "confidence": 0.2}) as journal:
        assert not journal.known(), "two models' results were mixed"
        with pytest.raises(SeamlineError, match="another predict is at work there"):
            open_journal(tmp_path, {"model": "b", "confidence": 0.2}).__enter__()
        journal.finish(keep=False)
    assert not (tmp_path / "unfinished").exists()


def test_the_lines_of_another_version_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_journal(tmp_path, {"model": "a"}) as journal:
        journal.add(done("one"))
    monkeypatch.setattr(journal_module, "VERSION", 2)
    with pytest.raises(SeamlineError, match="of another Seamline"), open_journal(tmp_path, {"model": "a"}):
        pass


def test_two_at_once_are_refused(tmp_path: Path) -> None:
    with open_journal(tmp_path, {"model": "a"}) as journal:
        with pytest.raises(SeamlineError, match="another predict is at work there"):
            open_journal(tmp_path, {"model": "a"}).__enter__()
        journal.finish(keep=False)
    with open_journal(tmp_path, {"model": "a"}):
        pass


def test_a_lock_that_its_holder_takes_away_is_not_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the opening of the file and the lock on it, another run ends and removes its folder."""
    lock = fcntl.flock
    removed = iter([True])

    def flock(file: Any, operation: int) -> None:
        if next(removed, False):
            (tmp_path / "unfinished" / "lock").unlink()
        lock(file, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    with open_journal(tmp_path, {"model": "a"}), pytest.raises(SeamlineError, match="another predict"):
        open_journal(tmp_path, {"model": "a"}).__enter__()


def test_a_run_that_did_nothing_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyError), open_journal(tmp_path, {"model": "a"}):
        raise KeyError
    assert not list(tmp_path.iterdir())


def test_a_folder_of_that_name_that_is_somebodys_own_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "unfinished").mkdir()
    (tmp_path / "unfinished" / "novel.txt").touch()
    with pytest.raises(SeamlineError, match=r"novel\.txt: is not of an unfinished run"):
        open_journal(tmp_path, {"model": "a"}).__enter__()
    assert [path.name for path in (tmp_path / "unfinished").iterdir()] == ["novel.txt"]


class Killed(BaseException):
    pass


def cut_after(count: int, monkeypatch: pytest.MonkeyPatch, torn: bytes = b"") -> None:
    """Have the run end in the middle of its line number `count`."""
    add, left = Journal.add, itertools.count()

    def cut(self: Journal, done: Done) -> int:
        if next(left) == count:
            self._lines.write(torn)
            raise Killed
        return add(self, done)

    monkeypatch.setattr(Journal, "add", cut)


@pytest.mark.parametrize(("batch", "again"), [("1", 8 - 6), ("3", 8 - 3)])
def test_wherever_a_run_is_cut_it_ends_in_the_same_bytes(
    untrained: Untrained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch: str, again: int, capsys: Any
) -> None:
    """And photos that are done are not predicted again, but for those of a batch that was not whole."""
    photos = write_photos(tmp_path / "photos", 7)
    (photos / "000003x.jpg").write_bytes(b"damaged")
    arguments: list[Path | str] = [untrained.models()["openvino"], photos, *OPTIONS, "--batch", batch]
    with pytest.raises(SystemExit):
        predict(*arguments, "--out", tmp_path / "whole")
    assert len(files_of(tmp_path / "whole")) > 14 + 4

    seen: list[int] = []
    detect_all = Detector.detect_all

    def counted(self: Detector, sources: Any) -> Any:
        seen.append(0)
        for found in detect_all(self, sources):
            seen[-1] += 1
            yield found

    monkeypatch.setattr(Detector, "detect_all", counted)
    for count in (5, 1):
        with monkeypatch.context() as patch, pytest.raises(Killed):
            cut_after(count, patch, b'{"photo": "ab')
            predict(*arguments, "--out", tmp_path / "cut")
        assert [path.name for path in (tmp_path / "cut").iterdir()] == ["unfinished"]
    with pytest.raises(SystemExit):
        predict(*arguments, "--out", tmp_path / "cut")
    assert seen[-1] == again
    assert f"{8 - again} of 8 images are done already" in capsys.readouterr().out
    assert not differences(tmp_path / "cut", tmp_path / "whole")


# `seamline` that waits where it is to be killed, so that nobody comes too late for that.
HELD = """
import runpy, sys, time
from pathlib import Path
from seamline.photos.journal import Journal
add, replace, added = Journal.add, Path.replace, []
{hold}
sys.argv[0] = "seamline"
runpy.run_module("seamline", run_name="__main__")
"""
BEFORE_A_LINE = "Journal.add = lambda *words: (added.append(1), len(added) > 20 and time.sleep(600), add(*words))[2]"
BEFORE_A_NAME = (
    "Path.replace = lambda path, to: (path.name == '.results.json.tmp' and time.sleep(600)) or replace(path, to)"
)


def test_killed_it_ends_in_the_same_bytes(untrained: Untrained, tmp_path: Path) -> None:
    """By the system, while it predicts and while it writes."""
    photos = write_photos(tmp_path / "photos", 40)
    model = untrained.models()["openvino"]
    words = ["-m", "seamline", "predict", model, photos, *OPTIONS, "--confidence", CONFIDENCE, "--out"]
    command = [sys.executable, *map(str, words)]
    subprocess.run([*command, tmp_path / "whole"], cwd=PROJECT, check=True, capture_output=True)
    lines = tmp_path / "killed" / "unfinished" / "done.jsonl"

    def lines_at_least(count: int) -> Callable[[], bool]:
        return lambda: lines.exists() and lines.read_bytes().count(b"\n") >= count

    written = (tmp_path / "killed" / ".results.json.tmp").exists
    for moment, hold in ((lines_at_least(20), BEFORE_A_LINE), (written, BEFORE_A_NAME)):
        begun = [sys.executable, "-c", HELD.format(hold=hold), *command[3:], str(tmp_path / "killed")]
        process = subprocess.Popen(begun, cwd=PROJECT, stderr=subprocess.DEVNULL)
        while process.poll() is None and not moment():
            time.sleep(0.001)
        process.kill()
        process.wait()
        assert process.returncode == -signal.SIGKILL, "it had ended before"
    subprocess.run([*command, tmp_path / "killed"], cwd=PROJECT, check=True, capture_output=True)
    assert not differences(tmp_path / "killed", tmp_path / "whole")
    assert not list((tmp_path / "killed").glob(".*"))
    assert not (tmp_path / "killed" / "unfinished").exists()


def test_photos_that_changed_came_or_went_are_seen(
    untrained: Untrained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = write_photos(tmp_path / "photos", 8)
    model, out = untrained.models()["onnx"], tmp_path / "out"
    with monkeypatch.context() as patch, pytest.raises(Killed):
        cut_after(6, patch)
        predict(model, photos, "--out", out)
    (photos / "000001.jpg").write_bytes((photos / "000007.jpg").read_bytes())
    (photos / "000002.jpg").unlink()
    (photos / "0000009.jpg").write_bytes((photos / "000005.jpg").read_bytes())
    predict(model, photos, "--out", out)
    predict(model, photos, "--out", tmp_path / "undisturbed")
    assert not differences(out, tmp_path / "undisturbed")
    assert len(file_names(out)) == 8


def test_a_file_that_could_not_be_read_is_tried_again_and_a_damaged_one_is_not(
    untrained: Untrained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    photos = write_photos(tmp_path / "photos", 4)
    model, out = untrained.models()["onnx"], tmp_path / "out"
    (photos / "damaged.jpg").write_bytes(b"1")
    read_bytes = Path.read_bytes

    def refused(self: Path) -> bytes:
        if self.name == "000001.jpg":
            raise OSError(5, "Input/output error")
        return read_bytes(self)

    with monkeypatch.context() as patch, pytest.raises(SystemExit, match="1"):
        patch.setattr(Path, "read_bytes", refused)
        patch.setattr(predicting, "is_unreadable", lambda source: source.name == "000001.jpg")
        predict(model, photos, "--out", out)
    assert "1 of them could not be read; the same command tries those again" in capsys.readouterr().err
    assert len(rows_of(out / "errors.csv")) == 2
    assert len(file_names(out)) == 3
    (photos / "000002.jpg").write_bytes((photos / "000000.jpg").read_bytes())
    with pytest.raises(SystemExit, match="1"):
        predict(model, photos, "--out", out)
    assert "3 of 5 images are done already" in capsys.readouterr().out
    overlays = {path.name: path.read_bytes() for path in (out / "overlays").iterdir()}
    assert overlays["0003_000002.jpg"] == overlays["0001_000000.jpg"], "drawn before the photo changed"
    assert [Path(row["file_name"]).name for row in rows_of(out / "errors.csv")] == ["damaged.jpg"]
    assert len(file_names(out)) == 4
    assert not (out / "unfinished").exists()


def test_memory_does_not_grow_with_the_photos(
    untrained: Untrained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is held at the end of the tables, of 5 photos and of 30, is far less than what those have more in them."""
    held = []
    end = writing.Tables.end

    def measured(self: writing.Tables) -> None:
        held.append(tracemalloc.get_traced_memory()[0])
        end(self)

    monkeypatch.setattr(writing.Tables, "end", measured)
    for count in (5, 5, 30):  # once for what is read and kept at the first time
        photos = write_photos(tmp_path / str(count), count)
        tracemalloc.start()
        words = [untrained.models()["openvino"], photos, "--out", tmp_path / f"out-{count}", "--overlays", "0"]
        main([*map(str, words), "--confidence", "0.05"])
        tracemalloc.stop()
    few, many = ((tmp_path / name / "results.json").stat().st_size for name in ("out-5", "out-30"))
    more = many - few
    assert more > 200_000
    assert held[2] - held[1] < more / 4


def test_many_random_cuts_of_a_journal_never_give_a_line_that_was_not_written(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    with open_journal(tmp_path, {"model": "a"}) as journal:
        for number in range(20):
            journal.add(done(str(number), reason="x" * int(random.integers(100))))
    path = tmp_path / "unfinished" / "done.jsonl"
    whole = path.read_bytes()
    written = {json.loads(line)["photo"] for line in whole.splitlines()}
    for _ in range(100):
        data = bytearray(whole[: int(random.integers(len(whole)))])
        data += bytes(int(random.integers(3)) * 512)  # what some file systems leave after a loss of power
        path.write_bytes(data)
        with open_journal(tmp_path, {"model": "a"}) as journal:
            assert set(journal.known()) <= written
