"""What a training took is added up over its interruptions, and nothing is made up of what nobody counted."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from seamline.experiments import compute
from seamline.experiments.compute import compute_of, counted_compute
from seamline.training.finished import FINISHED

KEY = "0123456789abcdef"


def burn(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def test_a_training_that_was_interrupted_counts_whole(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), counted_compute(tmp_path, KEY):
        (tmp_path / KEY).mkdir()
        burn(0.3)
        raise KeyboardInterrupt
    with counted_compute(tmp_path, KEY):
        burn(0.3)
    found = compute_of(tmp_path, KEY)
    assert found is not None
    assert 0.5 <= found["processor_s"] <= 1.5
    assert found["wall_s"] >= 0.5
    (tmp_path / KEY).rmdir()  # discarded, and begun anew
    with counted_compute(tmp_path, KEY):
        burn(0.1)
    again = compute_of(tmp_path, KEY)
    assert again is not None
    assert again["processor_s"] < found["processor_s"]


def test_a_kill_loses_little(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compute, "NOTED_EVERY_S", 0.05)
    with counted_compute(tmp_path, KEY):
        burn(0.4)
        seen = None
        for _ in range(100):  # noted before the end
            seen = compute_of(tmp_path, KEY)
            if seen is not None and seen["processor_s"] >= 0.3:
                break
            time.sleep(0.05)
        assert seen is not None
        assert seen["processor_s"] >= 0.3


def test_processes_that_were_started_count(tmp_path: Path) -> None:
    code = "import time\nend = time.process_time() + 0.5\nwhile time.process_time() < end: pass"
    with counted_compute(tmp_path, KEY):
        subprocess.run([sys.executable, "-c", code], check=True)
    found = compute_of(tmp_path, KEY)
    assert found is not None
    assert found["processor_s"] >= 0.5


@pytest.mark.parametrize("folder", [KEY, f"{FINISHED}/{KEY}"])
def test_what_others_have_made_or_begun_is_not_known(tmp_path: Path, folder: str) -> None:
    (tmp_path / folder).mkdir(parents=True)
    with counted_compute(tmp_path, KEY):
        burn(0.01)
    assert compute_of(tmp_path, KEY) is None


def test_a_stored_training_keeps_its_note(tmp_path: Path) -> None:
    with counted_compute(tmp_path, KEY):
        burn(0.2)
    before = compute_of(tmp_path, KEY)
    (tmp_path / FINISHED / KEY).mkdir(parents=True)
    with counted_compute(tmp_path, KEY):
        burn(0.2)
    assert compute_of(tmp_path, KEY) == before
