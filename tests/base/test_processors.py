from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from seamline.base import processors
from seamline.base.files import read_json, write_json
from seamline.base.processors import note_processor, processor_kind, processor_of_training, times_written


def finish(folder: Path, at_ns: int) -> None:
    write_json(folder / "facts.json", {})
    os.utime(folder / "facts.json", ns=(at_ns, at_ns))


def test_a_training_names_the_processor_it_was_made_on_and_one_of_before_none(tmp_path: Path) -> None:
    assert times_written(tmp_path / "none") == {}
    finish(tmp_path / "before", 10**18)
    finish(tmp_path / "again", 10**18)
    times = times_written(tmp_path)
    finish(tmp_path / "again", 10**18 + 1)
    finish(tmp_path / "new", 10**18)
    found = {}
    for name in ("before", "again", "new"):
        note_processor(tmp_path / name, times)
        found[name] = processor_of_training(tmp_path / name, {})
    assert found == {"before": None, "again": processor_kind(), "new": processor_kind()}
    elsewhere = {"name": "another", "instructions": []}
    write_json(tmp_path / "new" / "processor.json", elsewhere)  # the folder came from there
    note_processor(tmp_path / "new", times_written(tmp_path))
    assert processor_of_training(tmp_path / "new", {}) == elsewhere


def test_weights_that_were_taken_over_have_the_processor_of_their_report(tmp_path: Path) -> None:
    finish(tmp_path / "new", 1)
    note_processor(tmp_path / "new", {})
    assert read_json(tmp_path / "new" / "processor.json") == processor_kind()
    other = {"name": "another", "instructions": ["avx2"]}
    assert processor_of_training(tmp_path / "new", {"taken_over": True, "processor": other}) == other
    assert processor_of_training(tmp_path / "new", {"taken_over": True}) is None


def test_the_kind_is_what_the_system_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = subprocess.run(["cat", "/proc/cpuinfo"], capture_output=True, text=True).stdout
    if "model name" in lines:
        assert processor_kind()["name"] in lines
    monkeypatch.setattr(processors, "CPUINFO", tmp_path / "cpuinfo")
    processors.processor_fields.cache_clear()
    (tmp_path / "cpuinfo").write_text("model name : A B\nflags : sse avx2 amx_int8\n")
    assert processor_kind() == {"name": "A B", "instructions": ["avx2", "amx_int8"]}
    processors.processor_fields.cache_clear()
    (tmp_path / "cpuinfo").unlink()
    assert processor_kind()["instructions"] is None
    processors.processor_fields.cache_clear()
