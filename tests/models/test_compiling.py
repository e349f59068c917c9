"""A model that OpenVINO compiles once: what is imported computes the same, and only what belongs to it is imported."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import openvino
import pytest

from seamline.models.engines import compiling
from seamline.models.engines.compiling import Compiler, read_model
from seamline.models.families import family_of
from tests.untrained import Untrained, canvas_of

LATENCY = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1, "PERFORMANCE_HINT": "LATENCY"}
THROUGHPUT = {**LATENCY, "PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_NUM_THREADS": 2, "NUM_STREAMS": 2}


class Counting:
    """OpenVINO's Core, and how often it compiled and imported."""

    def __init__(self) -> None:
        self.core = openvino.Core()
        self.compiled = self.imported = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.core, name)

    def compile_model(self, *arguments: Any) -> Any:
        self.compiled += 1
        return self.core.compile_model(*arguments)

    def import_model(self, *arguments: Any) -> Any:
        made = self.core.import_model(*arguments)
        self.imported += 1
        return made


def opened(path: Path, folder: Path | None, precision: str = "f32") -> tuple[Counting, Compiler]:
    core = Counting()
    return core, Compiler(core, read_model(core, path, hashed=True), family_of("yolo", path), precision, folder)


def outputs_of(compiled: Any, canvases: Any) -> list[bytes]:
    return [np.array(output).tobytes() for output in compiled(canvases).values()]


@pytest.fixture
def model(untrained: Untrained) -> Path:
    return untrained.models()["openvino"]


def test_all_uses_compute_the_same_and_one_alone_is_compiled(model: Path, untrained: Untrained, tmp_path: Path) -> None:
    canvas = canvas_of(untrained.images()[0])
    whole = openvino.Core().compile_model(
        compiling.with_canvas_input(openvino.Core().read_model(model / "model.xml"), family_of("yolo", model), 1),
        "CPU",
        LATENCY,
    )
    expected = outputs_of(whole, canvas)
    for folder, compiled, imported in ((None, 1, 1), (tmp_path, 1, 1), (tmp_path, 0, 2)):
        core, compiler = opened(model, folder)
        both = [compiler.compiled(1, options) for options in (THROUGHPUT, LATENCY)]
        assert [one.get_property("NUM_STREAMS") for one in both] == [2, 1]
        assert [one.get_property("INFERENCE_NUM_THREADS") for one in both] == [2, 1]
        assert [outputs_of(one, canvas) for one in both] == [expected, expected]
        assert (core.compiled, core.imported) == (compiled, imported)
    assert len(list(tmp_path.iterdir())) == 1


def test_a_single_use_stores_nothing_and_batches_are_compiled_apart(model: Path, tmp_path: Path) -> None:
    core, compiler = opened(model, tmp_path / "none")
    assert compiler.compiled(1, LATENCY).input().shape[0] == 1
    assert compiler.compiled(3, THROUGHPUT).input().shape[0] == 3
    assert (core.compiled, core.imported) == (2, 0)
    assert not (tmp_path / "none").exists()
    compiler.compiled(3, LATENCY)
    compiler.compiled(1, LATENCY)
    assert (core.compiled, core.imported) == (2, 2)
    assert len(list((tmp_path / "none").iterdir())) == 2


def stored_once(model: Path, folder: Path) -> Path:
    _, compiler = opened(model, folder)
    for options in (THROUGHPUT, LATENCY):
        compiler.compiled(1, options)
    [file] = folder.iterdir()
    return file


def test_what_is_stored_belongs_to_one_model_precision_and_code(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "stored"
    stored_once(model, folder)
    retrained = tmp_path / "retrained"
    shutil.copytree(model, retrained)
    data = bytearray((retrained / "model.bin").read_bytes())
    data[len(data) // 2] ^= 1
    (retrained / "model.bin").write_bytes(data)
    for path, precision in ((retrained, "f32"), (model, "bf16")):
        core, compiler = opened(path, folder, precision)
        compiler.compiled(1, LATENCY)
        assert (core.compiled, core.imported) == (1, 0)
    monkeypatch.setattr(compiling, "code_below", lambda *_: [Path(__file__)])
    core, compiler = opened(model, folder)
    compiler.compiled(1, LATENCY)
    assert (core.compiled, core.imported) == (1, 0)


def test_a_model_that_is_replaced_meanwhile_is_never_taken_for_another(model: Path, tmp_path: Path) -> None:
    """Between its opening and its second use, hours later; and while it is read."""
    folder, path = tmp_path / "stored", tmp_path / "model"
    shutil.copytree(model, path)

    def replace() -> None:
        data = bytearray((model / "model.bin").read_bytes())
        data[len(data) // 2] ^= 1
        (path / "model.bin").unlink()
        (path / "model.bin").write_bytes(data)

    _, compiler = opened(path, folder)
    compiler.compiled(1, THROUGHPUT)
    replace()
    compiler.compiled(1, LATENCY)
    assert len(list(folder.iterdir())) == 1
    core, compiler = opened(path, folder)
    compiler.compiled(1, THROUGHPUT)
    assert (core.compiled, core.imported) == (1, 0)

    class Replacing(Counting):
        def read_model(self, file: Path) -> Any:
            made = self.core.read_model(file)
            replace()
            return made

    shutil.copy(model / "model.bin", path)
    slow = Replacing()
    compiler = Compiler(slow, read_model(slow, path, hashed=True), family_of("yolo", path), "f32", tmp_path / "none")
    for options in (THROUGHPUT, LATENCY):
        compiler.compiled(1, options)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("damage", ["cut", "changed", "empty", "of another program", "a folder"])
def test_what_is_damaged_is_compiled_again_and_replaced(model: Path, tmp_path: Path, damage: str) -> None:
    file = stored_once(model, tmp_path)
    good = file.read_bytes()
    file.unlink()
    if damage == "a folder":
        file.mkdir()
    else:
        other = b"something else" * 100
        middle = len(good) // 2  # among the weights, which would be other ones and no error
        changed = good[:middle] + bytes([good[middle] ^ 1]) + good[middle + 1 :]
        file.write_bytes(
            {
                "cut": good[: len(good) // 2],
                "changed": changed,
                "empty": b"",
                "of another program": hashlib.sha256(other).digest() + other,
            }[damage]
        )
    core, compiler = opened(model, tmp_path)
    compiler.compiled(1, THROUGHPUT)
    assert (core.compiled, core.imported) == (1, 0)
    assert compiler.compiled(1, LATENCY).get_property("NUM_STREAMS") == 1
    if damage != "a folder":
        core, compiler = opened(model, tmp_path)
        compiler.compiled(1, THROUGHPUT)
        assert (core.compiled, core.imported) == (0, 1)


def test_where_nothing_can_be_stored_it_is_compiled_all_the_same(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    full = OSError(errno.ENOSPC, "No space left on device")
    for folder, refusal in ((tmp_path / "file" / "below", None), (tmp_path / "full", full)):
        if refusal:
            monkeypatch.setattr(compiling, "whole_file", Mock(side_effect=refusal))
        core, compiler = opened(model, folder)
        for options in (THROUGHPUT, LATENCY):
            compiler.compiled(1, options)
        assert (core.compiled, core.imported) == (1, 1)


def test_only_the_last_ones_are_stored(tmp_path: Path) -> None:
    for number in range(compiling.MOST_STORED + 2):
        file = tmp_path / f"{number}.compiled"
        compiling.store(file, b"data")
        os.utime(file, (number, number))
    assert sorted(int(file.stem) for file in tmp_path.iterdir()) == list(range(2, compiling.MOST_STORED + 2))
    assert compiling.stored(tmp_path / "5.compiled") == b"data"
