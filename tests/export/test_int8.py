"""INT8: the same every time, and the rungs of its gate."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import pytest
from pycocotools.coco import COCO

from seamline.base.coco import Record, images_of_split
from seamline.base.files import sha256_of
from seamline.base.spacing import evenly_spaced
from seamline.export.drops import Drop, Gate, outcome_of
from seamline.export.int8 import (
    RUNGS,
    outcome_metadata,
    quantise,
    rungs_to_records,
    rungs_until_one_holds,
    why_no_int8,
    why_not_known,
)
from seamline.models.engines.engine import Engine, copied
from seamline.models.engines.opening import open_engine
from seamline.models.engines.openvino import rt_info
from tests.untrained import (
    Untrained,
    canvas_of,
)


def test_quantising_again_gives_the_same_bytes(untrained: Untrained, tmp_path: Path) -> None:
    images = evenly_spaced(images_of_split(untrained.split / "train.json", untrained.images_folder), 4)
    for name in ("first", "again"):
        (tmp_path / name).mkdir()
        quantise(untrained.exported / "openvino", tmp_path / name, images, "full", 1.0, lambda engine: 0.0, [])
    for name in ("model.xml", "model.bin"):
        assert sha256_of(tmp_path / "first" / name) == sha256_of(tmp_path / "again" / name), name


GATE = Gate("val", COCO(), np.arange(64), None, 0)


def near(value: float, half: float = 0.0) -> Drop:
    """A drop that is known to so much on either side."""
    return Drop(value, [value - half, value + half])


def climbed(drops: list[Drop], max_drop: float = 0.01) -> list[Record]:
    left = iter(drops)
    made: list[str] = []
    rungs = rungs_until_one_holds(made.append, lambda: (0.5, "int8", next(left)), "mask", 0.5, max_drop)
    assert made == [rung["rung"] for rung in rungs]
    return rungs


@pytest.mark.parametrize(
    ("drops", "outcomes"),
    [
        ([near(0.005)], ["accepted"]),
        ([near(-0.1, 0.05)], ["accepted"]),
        ([near(0.2, 0.1), near(0.01)], ["refused", "accepted"]),
        ([near(0.2, 0.1), near(0.1, 0.05), near(0.004, 0.006)], ["refused", "refused", "accepted"]),
        ([near(0.2, 0.1), near(0.005, 0.0051)], ["refused", "not known"]),  # its upper bound is beyond
        ([near(0.0004, 0.0102)], ["not known"]),
        ([near(0.02, 0.0101)], ["not known"]),  # seems to cost twice as much, and may cost less than is allowed
        ([near(0.02, 0.0099), near(0.0, 0.0)], ["refused", "accepted"]),
        ([Drop(0.3, None)], ["not known"]),
        ([Drop(None, None)], ["not known"]),
        ([near(0.3)] * 4, ["refused"] * 4),
    ],
)
def test_a_rung_is_left_only_when_it_is_known_to_cost_too_much(drops: list[Drop], outcomes: list[str]) -> None:
    rungs = climbed(drops)
    assert [rung["outcome"] for rung in rungs] == outcomes
    assert [rung["gate_drop"] for rung in rungs] == [drop.value for drop in drops]
    refused, not_known = why_no_int8(rungs, "mask", GATE, 0.01), why_not_known(rungs, "mask", GATE, 0.01)
    assert (refused is not None, not_known is not None) == (outcomes[-1] == "refused", outcomes[-1] == "not known")


def test_a_bound_at_the_limit_is_allowed() -> None:
    assert outcome_of(Drop(0.0, [-0.01, 0.01]), 0.01) == "accepted"
    assert outcome_of(Drop(0.02, [0.01, 0.03]), 0.01) == "not known"
    assert outcome_of(Drop(0.02, [0.010001, 0.03]), 0.01) == "refused"


def test_the_reasons_give_each_cost() -> None:
    rungs = climbed([near(0.03, 0.01), near(0.03, 0.01), near(0.02, 0.005), near(0.015, 0.001)])
    reason = why_no_int8(rungs, "mask", GATE, 0.01)
    assert reason is not None
    allows = "on val than export.int8.max_drop (0.01) allows"
    assert f"{allows}: it costs 0.0300 (0.0200 to 0.0400) with all layers" in reason
    assert "quantised, costs 0.0300 (0.0200 to 0.0400) with all layers quantised and zero points, costs 0.02" in reason
    assert "0.0150 (0.0140 to 0.0160) with layers put back to f32 by accuracy control; raise" in reason
    unsure = climbed([near(0.0004, 0.0102)])
    reason = why_not_known(unsure, "mask", GATE, 0.01)
    assert reason is not None
    assert "allows is not known: on 64 photos of val it costs 0.0004 (-0.0098 to 0.0106). Give val more" in reason
    assert "gate_on to val+test" in reason
    wide = GATE._replace(on="val+test", test=Path("test.json"))
    reason = why_not_known(unsure, "mask", wide, 0.01)
    assert reason is not None and "64 photos of val and test it costs" in reason and "gate_on" not in reason
    assert outcome_metadata(unsure[-1], GATE) == {
        "int8_gate": "not known", "int8_drop": "costs 0.0004 (-0.0098 to 0.0106) on 64 photos of val",
    }  # fmt: skip


def test_which_condition_of_an_interval_is_not_met_is_said() -> None:
    few = why_not_known(climbed([Drop(-0.00016, None, 43)]), "mask", GATE, 0.01)
    assert few is not None
    assert "on 64 photos of val it gains 0.0002, but these are only 43 groups that show an instance" in few
    assert "and an interval needs 50. Give val more photos" in few
    alike = why_not_known(climbed([Drop(0.0, None, 60)]), "mask", GATE, 0.01)
    assert alike is not None
    assert "it costs nothing measurable, but it is the same however the 60 groups of photos are drawn again" in alike
    assert "needs 50" not in alike


def test_figures_of_the_report_have_five_decimals() -> None:
    rung = {"rung": "full", "drop": 0.123456789, "gate_interval": [0.000004, 0.987654321], "gate_drop": None}
    assert rungs_to_records([rung]) == [
        {"rung": "full", "drop": 0.12346, "gate_interval": [0.0, 0.98765], "gate_drop": None}
    ]


# Operations whose activations are quantised with scales a hundred times too small, so that nothing is left of them.
SPOILED = {
    "full": r"nothing",
    "with zero points": r"/model\.1/",  # while there are none
    "head in f32": r"/model\.3/proto/cv1/",
    "accuracy control": r"/model\.1/",
    "none": r"/model\.1/",
}


@pytest.mark.slow
@pytest.mark.parametrize("expected", SPOILED)
def test_spoiled_quantisation_is_seen_and_the_next_rung_taken(
    untrained: Untrained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, expected: str
) -> None:
    """NNCF's own quantisation of a real model with the scales of some layers spoiled, wherever NNCF quantises.

    How near prototypes are to those of f32 stands for average precision, which random weights have none of.
    """
    import nncf
    from nncf.openvino.quantization import quantize_model

    original = quantize_model.quantize_impl

    def spoiling(*arguments: Any, **options: Any) -> Any:
        model = original(*arguments, **options)
        has_zero_points = nncf.QuantizationPreset.PERFORMANCE not in (*arguments, *options.values())
        if expected == "with zero points" and has_zero_points:
            return model
        for node in model.get_ops():
            if node.get_type_name() == "FakeQuantize" and re.search(SPOILED[expected], node.get_friendly_name()):
                for port in (3, 4):  # what the lowest and the highest level mean
                    values = node.input_value(port).get_node().get_data() / 100
                    node.input(port).replace_source_output(openvino.opset13.constant(values).output(0))
        return model

    monkeypatch.setattr(quantize_model, "quantize_impl", spoiling)
    images = untrained.images()[:6]
    source, out = untrained.models()["openvino"], tmp_path / "int8"
    out.mkdir()
    reference = open_engine(source, 1)
    exact = [reference.infer(canvas_of(image), copied)[1] for image in images]

    def likeness(engine: Engine) -> float:
        found = [engine.infer(canvas_of(image), copied)[1] for image in images]
        return float(np.corrcoef(np.ravel(found), np.ravel(exact))[0, 1])

    def measure() -> tuple[float, str, Drop]:
        engine = open_engine(out, 1)
        found = likeness(engine)
        return found, engine.precision, near(1.0 - found)

    max_drop = -1.0 if expected == "none" else 0.05
    rungs = rungs_until_one_holds(
        lambda rung: quantise(source, out, images, rung, max_drop, likeness, images), measure, "mask", 1.0, max_drop
    )
    names = list(RUNGS) if expected == "none" else list(RUNGS[: RUNGS.index(expected) + 1])
    assert [rung["rung"] for rung in rungs] == names
    for rung in rungs if expected == "none" else rungs[:-1]:
        assert rung["drop"] > max_drop
    refused = why_no_int8(rungs, "mask", GATE, max_drop)
    assert (refused is not None) == (expected == "none")
    if expected == "none":
        assert "which left nothing INT8" in str(refused)  # accuracy control puts everything back, and that is no INT8
    else:
        assert rungs[-1]["precision"] == "int8"
        assert rt_info(openvino.Core().read_model(out / "model.xml"))["int8"] == expected


def test_a_model_without_a_quantised_layer_is_refused() -> None:
    measured = iter([*[(0.1, "int8", near(0.4))] * 3, (0.5, "f32", near(0.0))])
    rungs = rungs_until_one_holds(lambda rung: None, measured.__next__, "mask", 0.5, 0.01)
    assert [rung["outcome"] for rung in rungs] == ["refused"] * 4
    assert [rung["drop"] for rung in rungs] == [0.4, 0.4, 0.4, 0.0]
    assert str(why_no_int8(rungs, "mask", GATE, 0.01)).count("which left nothing INT8") == 1
