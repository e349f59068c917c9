"""What is handed to NNCF, and what comes of it. NNCF itself: tests/export/test_int8.py, which takes long."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import openvino
import pytest
from pycocotools.coco import COCO

from seamline.export import int8
from seamline.export.drops import Gate
from seamline.export.int8 import ACCURACY_CONTROL, RUNGS, CompiledEngine, operation_names, quantise, rungs_to_report
from seamline.export.openvino import save_openvino
from seamline.models.engines.openvino import rt_info

METADATA = {"precision": "f32", "classes": "top"}


class Dataset:
    """nncf.Dataset: items and how each becomes an input."""

    def __init__(self, items: Any, transform: Callable[[Any], Any]) -> None:
        self.items, self.transform = items, transform


class Nncf(SimpleNamespace):
    """What of NNCF is used. It notes what it is asked and hands the model back."""

    def __init__(self) -> None:
        super().__init__(
            Dataset=Dataset,
            IgnoredScope=lambda names: ("ignored", names),
            QuantizationPreset=SimpleNamespace(MIXED="mixed", PERFORMANCE="performance"),
            DropType=SimpleNamespace(ABSOLUTE="absolute", RELATIVE="relative"),
            set_log_level=lambda level: None,
        )
        self.asked: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    def quantize(self, model: Any, *arguments: Any, **options: Any) -> Any:
        print("progress")
        self.asked.append(("quantize", arguments, options))
        return model

    def quantize_with_accuracy_control(self, model: Any, *arguments: Any, **options: Any) -> Any:
        self.asked.append(("accuracy control", arguments, options))
        return model


def tiny_model() -> openvino.Model:
    """An input plus 1, times 2."""
    ops = openvino.opset13
    image = ops.parameter([1, 3, 4, 4], np.float32, name="image")
    added = ops.add(image, ops.constant(np.float32(1), name="one"), name="added")
    doubled = ops.multiply(added, ops.constant(np.float32(2), name="two"), name="doubled")
    return openvino.Model([ops.result(doubled, name="result")], [image], "tiny")


@pytest.fixture
def f32(tmp_path: Path) -> Path:
    (tmp_path / "f32").mkdir()
    save_openvino(tiny_model(), tmp_path / "f32", METADATA)
    return tmp_path / "f32"


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{number}.png" for number in (3, 1, 2)]
    for path in paths:
        cv2.imwrite(str(path), np.full((20, 30, 3), int(path.stem), np.uint8))
    return paths


@pytest.fixture
def nncf(monkeypatch: pytest.MonkeyPatch) -> Nncf:
    """NNCF, and a family whose canvas is an image's first value and whose tensor is ten times that."""
    fake = Nncf()
    facts = SimpleNamespace(family="tiny")

    def facts_of(metadata: Any, path: Path) -> Any:
        assert metadata == METADATA and path.name == "f32"
        return facts

    def canvas_of(image: Any, of: Any) -> tuple[Any, str]:
        assert of is facts
        return image[0, 0], "where the image lies on it"

    family = SimpleNamespace(image_to_canvas=canvas_of, canvases_to_tensor=lambda canvases: canvases * 10)
    exporter = SimpleNamespace(ignored_operations=lambda names, rung: [*names, rung])
    monkeypatch.setitem(sys.modules, "nncf", fake)
    monkeypatch.setattr(int8, "metadata_to_facts", facts_of)
    for name, found in (("family_of", family), ("exporter_of", exporter)):
        monkeypatch.setattr(int8, name, lambda family, path, found=found: {("tiny", "f32"): found}[family, path.name])
    return fake


def check_dataset(dataset: Any, photos: list[Path]) -> None:
    """All photos in their order, each as a batch of one."""
    assert list(dataset.items) == photos
    tensors = [dataset.transform(path) for path in dataset.items]
    assert [tensor.tolist() for tensor in tensors] == [[[int(path.stem) * 10] * 3] for path in photos]


def test_ranges_are_taken_from_all_calibration_photos_in_order(
    f32: Path, photos: list[Path], nncf: Nncf, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    quantise(f32, tmp_path, photos, "full", 0.01, lambda engine: 0.5, [])
    [(how, (dataset,), options)] = nncf.asked
    assert how == "quantize"
    check_dataset(dataset, photos)
    assert options == {
        "preset": "performance",
        "subset_size": 3,
        "ignored_scope": ("ignored", ["added", "doubled", "full"]),
    }
    assert rt_info(openvino.Core().read_model(tmp_path / "model.xml")) == {
        "precision": "int8", "int8": "full", "classes": "top",
    }  # fmt: skip
    assert capsys.readouterr().out == ""  # NNCF's progress is no output of a stage


@pytest.mark.parametrize("rung", RUNGS[1:-1])
def test_only_the_first_rung_is_without_zero_points(f32: Path, nncf: Nncf, tmp_path: Path, rung: str) -> None:
    quantise(f32, tmp_path, [], rung, 0.01, lambda engine: 0.5, [])
    [(how, _, options)] = nncf.asked
    assert (how, options["preset"]) == ("quantize", "mixed")


def test_accuracy_control_may_lose_as_much_as_is_allowed_of_what_validate_measures(
    f32: Path, photos: list[Path], nncf: Nncf, tmp_path: Path
) -> None:
    engines: list[Any] = []

    def validate(engine: Any) -> float:
        engines.append(engine)
        return 0.25

    quantise(f32, tmp_path, photos[:1], ACCURACY_CONTROL, 0.01, validate, photos[1:])
    [(how, (calibration, validation, measured), options)] = nncf.asked
    assert how == "accuracy control"
    check_dataset(calibration, photos[:1])
    check_dataset(validation, photos[1:])
    assert (options["max_drop"], options["drop_type"], options["subset_size"]) == (0.01, "absolute", 1)
    items = iter(photos)
    assert measured(openvino.Core().compile_model(tiny_model(), "CPU"), items) == 0.25
    assert next(items, None) is None  # NNCF counts what is taken
    assert engines[0].facts.family == "tiny"
    assert rt_info(openvino.Core().read_model(tmp_path / "model.xml"))["int8"] == ACCURACY_CONTROL


def test_the_compiled_model_of_accuracy_control_is_an_engine() -> None:
    compiled = openvino.Core().compile_model(tiny_model(), "CPU")
    family: Any = SimpleNamespace(canvases_to_tensor=lambda canvases: canvases.astype(np.float32))
    facts: Any = SimpleNamespace()
    engine = CompiledEngine(compiled, facts, family)
    canvases = np.full((1, 3, 4, 4), 5, np.uint8)
    for infer in (engine.infer, engine.infer_beside):
        found = infer(canvases, lambda outputs: [np.array(one) for one in outputs])
        assert len(found) == 1 and (found[0] == 12).all()
    assert (engine.precision, engine.streams, engine.callers, engine.facts) == ("int8", 1, 1, facts)


def test_operations_are_what_computes() -> None:
    assert operation_names(tiny_model()) == ["added", "doubled"]


def test_the_report_has_every_rung_with_five_decimals() -> None:
    gate = Gate("val", COCO(), np.array([0, 0, 1]), None, 2)
    rungs = [
        {"rung": "full", "drop": 0.1234567, "outcome": "refused", "gate_drop": 0.1, "gate_interval": [0.0123456, 0.2]},
        {
            "rung": "head in f32", "drop": 0.0, "outcome": "not known", "gate_drop": None, "gate_interval": None,
            "precision": "int8",
        },
    ]  # fmt: skip
    assert rungs_to_report(rungs, "mask", gate, 0.01) == {
        "int8_outcome": "not known",
        "int8_refused": None,
        "int8_not_known": (
            "Whether INT8 costs more mask mAP50-95 than export.int8.max_drop (0.01) allows is not known: 3 photos of "
            "val show no instance to measure it on. Give val more photos (split.ratios), or set export.int8.gate_on to "
            "val+test."
        ),
        "int8_gate": {"on": "val", "images": 3, "groups": 2, "left_out": 2},
        "int8_rungs": [
            {**rungs[0], "drop": 0.12346, "gate_interval": [0.01235, 0.2]},
            rungs[1],
        ],
    }
