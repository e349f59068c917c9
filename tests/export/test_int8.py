"""INT8: the same every time, and the rungs of its gate."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import pytest

from seamline.base.coco import images_of_split
from seamline.base.files import sha256_of
from seamline.base.spacing import evenly_spaced
from seamline.export.int8 import RUNGS, quantise, rungs_until_one_holds, why_no_int8
from seamline.models.engines.engine import Engine, copied
from seamline.models.engines.opening import open_engine
from seamline.models.engines.openvino import rt_info
from tests.untrained import (
    Untrained,
    canvas_of,
)


def test_quantising_again_gives_the_same_bytes(small: Untrained, tmp_path: Path) -> None:
    images = evenly_spaced(images_of_split(small.split / "train.json", small.images_folder), 4)
    for name in ("first", "again"):
        (tmp_path / name).mkdir()
        quantise(small.exported / "openvino", tmp_path / name, images, "full", 1.0, lambda engine: 0.0, [])
    for name in ("model.xml", "model.bin"):
        assert sha256_of(tmp_path / "first" / name) == sha256_of(tmp_path / "again" / name), name


@pytest.mark.parametrize(
    ("drops", "tried"), [([0.005], ["full"]), ([0.2, 0.01], RUNGS[:2]), ([0.2, 0.1, 0.01], RUNGS), ([-0.1], ["full"])]
)
def test_first_rung_that_holds_is_taken(drops: list[float], tried: list[str]) -> None:
    made: list[str] = []
    rungs = rungs_until_one_holds(made.append, lambda: (0.5 - drops[len(made) - 1], "int8"), "mask", 0.5, 0.0101)
    assert made == list(tried) == [rung["rung"] for rung in rungs]
    assert [rung["drop"] for rung in rungs] == pytest.approx(drops)
    assert why_no_int8(rungs, "mask", 0.0101) is None


def test_where_no_rung_holds_the_reason_gives_each_drop() -> None:
    values = iter((0.47, 0.48, 0.485))
    rungs = rungs_until_one_holds(lambda rung: None, lambda: (next(values), "int8"), "mask", 0.5, 0.01)
    assert len(rungs) == len(RUNGS)
    reason = why_no_int8(rungs, "mask", 0.01)
    assert reason is not None
    assert "0.0300 with full, 0.0200 with head in f32, 0.0150 with accuracy control" in reason
    assert "export.int8.max_drop (0.01)" in reason
    assert why_no_int8(rungs, "mask", 0.03) is None


# Operations whose activations are quantised with scales a hundred times too small, so that nothing is left of them.
SPOILED = {
    "full": r"nothing",
    "head in f32": r"/model\.3/proto/cv1/",
    "accuracy control": r"/model\.1/",
    "none": r"/model\.1/",
}


@pytest.mark.slow
@pytest.mark.parametrize("expected", SPOILED)
def test_spoiled_quantisation_is_seen_and_the_next_rung_taken(
    small: Untrained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, expected: str
) -> None:
    """NNCF's own quantisation of a real model with the scales of some layers spoiled, wherever NNCF quantises.

    How near prototypes are to those of f32 stands for average precision, which random weights have none of.
    """
    from nncf.openvino.quantization import quantize_model

    original = quantize_model.quantize_impl

    def spoiling(*arguments: Any, **options: Any) -> Any:
        model = original(*arguments, **options)
        for node in model.get_ops():
            if node.get_type_name() == "FakeQuantize" and re.search(SPOILED[expected], node.get_friendly_name()):
                for port in (3, 4):  # what the lowest and the highest level mean
                    values = node.input_value(port).get_node().get_data() / 100
                    node.input(port).replace_source_output(openvino.opset13.constant(values).output(0))
        return model

    monkeypatch.setattr(quantize_model, "quantize_impl", spoiling)
    images = small.images()[:6]
    source, out = small.models()["openvino"], tmp_path / "int8"
    out.mkdir()
    reference = open_engine(source, 1)
    exact = [reference.infer(canvas_of(image), copied)[1] for image in images]

    def likeness(engine: Engine) -> float:
        found = [engine.infer(canvas_of(image), copied)[1] for image in images]
        return float(np.corrcoef(np.ravel(found), np.ravel(exact))[0, 1])

    def measure() -> tuple[float, str]:
        engine = open_engine(out, 1)
        return likeness(engine), engine.precision

    max_drop = -1.0 if expected == "none" else 0.05
    rungs = rungs_until_one_holds(
        lambda rung: quantise(source, out, images, rung, max_drop, likeness, images), measure, "mask", 1.0, max_drop
    )
    names = list(RUNGS) if expected == "none" else list(RUNGS[: RUNGS.index(expected) + 1])
    assert [rung["rung"] for rung in rungs] == names
    for rung in rungs if expected == "none" else rungs[:-1]:
        assert rung["drop"] > max_drop
    refused = why_no_int8(rungs, "mask", max_drop)
    assert (refused is not None) == (expected == "none")
    if expected == "none":
        assert "which left nothing INT8" in str(refused)  # accuracy control puts everything back, and that is no INT8
    else:
        assert rungs[-1]["precision"] == "int8"
        assert rt_info(openvino.Core().read_model(out / "model.xml"))["int8"] == expected


def test_a_model_without_a_quantised_layer_is_refused() -> None:
    rungs = rungs_until_one_holds(
        lambda rung: None, iter([(0.1, "int8"), (0.1, "int8"), (0.5, "f32")]).__next__, "mask", 0.5, 0.01
    )
    assert str(why_no_int8(rungs, "mask", 0.01)).count("which left nothing INT8") == 1
