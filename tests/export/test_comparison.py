"""A model beside the reference: which way each figure goes."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from seamline.base.errors import SeamlineError
from seamline.export import comparison
from seamline.export.comparison import (
    Measured,
    Reference,
    Validation,
    compare,
    compared_to_record,
    gate_records,
    measure_reference,
    read_validation,
)
from seamline.export.gates import matched_share
from seamline.models.engines.device import weights_on_device
from seamline.models.model_facts import Limits, ModelFacts
from seamline.params.evaluate import Evaluate
from seamline.params.loading.loader import load_params
from tests.conftest import PARAMS
from tests.untrained import Untrained

LIMITS = Limits(0.2, 0.6, 7)
FACTS = ModelFacts(["top"], 32)


def record(score: float) -> dict[str, Any]:
    return {"image_id": 1, "category_id": 1, "bbox": [0, 0, 10, 10], "score": score}


def test_a_model_that_finds_less_has_a_drop_and_what_it_lacks_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = SimpleNamespace(facts=FACTS)
    detector: Any = SimpleNamespace(precision="int8", engine=engine, has_masks=False)
    validation: Any = Validation(None, Path("val.json"), Path("images"), LIMITS, None)  # type: ignore[arg-type]
    both, one = [record(0.9), record(0.8) | {"image_id": 2}], [record(0.7)]
    reference = Reference(Measured(detector, both, 0.75), [], ["theirs"], validation)  # type: ignore[list-item]
    monkeypatch.setattr(comparison, "measure", lambda model, on: {id(validation): Measured(detector, one, 0.5)}[id(on)])
    monkeypatch.setattr(comparison, "raw_outputs", lambda found, images: ["ours"])
    asked: list[Any] = []

    def largest_differences(*arguments: Any) -> dict[str, float]:
        asked.append(arguments)
        return {"score": 0.1}

    exporter = SimpleNamespace(largest_differences=largest_differences)
    monkeypatch.setattr(comparison, "exporter_of", lambda family, model: exporter)
    found = compare(Path("model"), reference)
    assert (found.precision, found.average_precision, found.drop, found.matched) == ("int8", 0.5, 0.25, 0.5)
    assert asked == [(["ours"], ["theirs"], FACTS)]
    assert compared_to_record(found, "box", 1.5) == {
        "precision": "int8", "model_mb": 1.5, "val_box_mAP50_95": 0.5, "drop": 0.25, "matched": 0.5, "score": 0.1,
    }  # fmt: skip


def test_a_model_is_measured_with_the_limits_of_the_validation(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def detector(*arguments: Any) -> Any:
        asked.append(arguments)
        return SimpleNamespace(has_masks=False)

    monkeypatch.setattr(comparison, "Detector", detector)

    def predict_split(_: Any, *arguments: Any) -> Any:
        asked.append(arguments)
        return [record(0.9)]

    monkeypatch.setattr(comparison, "predict_split", predict_split)
    figures: Any = SimpleNamespace(summary={"mAP50_95": np.float64(0.0)})  # nothing found is a figure as well

    def average_precision(*arguments: Any) -> Any:
        asked.append(arguments)
        return figures

    monkeypatch.setattr(comparison, "average_precision", average_precision)
    validation: Any = Validation("truth", Path("val.json"), Path("images"), LIMITS, "thresholds")  # type: ignore[arg-type]
    found = comparison.measure(Path("model"), validation)
    assert asked == [
        (Path("model"), 0.2, 0.6, 7),
        (Path("val.json"), Path("images"), "val"),
        ("truth", [record(0.9)], "box", "thresholds"),
    ]
    assert (found.records, found.average_precision) == ([record(0.9)], 0.0)
    figures.summary["mAP50_95"] = None
    with pytest.raises(SeamlineError, match=r"val\.json: has no instances"):
        comparison.measure(Path("model"), validation)


def test_weights_alone_are_measured_on_the_gpu_that_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    devices = []

    def detector(*_: Any, device: str = "cpu") -> Any:
        devices.append(device)
        return SimpleNamespace(has_masks=False)

    monkeypatch.setattr(comparison, "Detector", detector)
    monkeypatch.setattr(comparison, "predict_split", lambda *_: [])
    figures = SimpleNamespace(summary={"mAP50_95": 0.5})
    monkeypatch.setattr(comparison, "average_precision", lambda *_: figures)
    validation = Validation(None, Path("val.json"), Path("images"), LIMITS, None, "cuda:1")  # type: ignore[arg-type]
    for model in ("best.pt", "model.onnx", "openvino"):
        comparison.measure(Path(model), validation)
    assert devices == ["cuda:1", "cpu", "cpu"]


def test_the_engine_for_gpus_passes_every_gate_as_the_one_for_cpus(untrained: Untrained) -> None:
    """On a CPU here: the same average precision within 0.001, every detection found again, the same raw outputs."""
    limits, thresholds = Limits(0.001, 0.7, 100), load_params(PARAMS)[Evaluate].iou_thresholds
    validation = read_validation(untrained.split / "val.json", untrained.images_folder, limits, thresholds)
    photos = untrained.images()[:3]
    reference = measure_reference(untrained.weights, validation, photos)
    measured = comparison.measure(weights_on_device(untrained.weights, 2, "cpu"), validation)
    assert measured.average_precision == pytest.approx(reference.measured.average_precision, abs=0.001)
    assert len(measured.records) == len(reference.measured.records) > 100
    confident = [record for record in reference.measured.records if record["score"] > 0.25]
    assert matched_share(measured.records, reference.measured.records) == (1 if confident else None)
    for ours, theirs in zip(comparison.raw_outputs(measured.detector, photos), reference.outputs, strict=True):
        for own, their in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(own, their, atol=1e-3)


def test_a_gate_on_val_and_test_has_predictions_on_both(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison, "predict_split", lambda *arguments: [arguments])
    measured: Any = Measured("detector", ["on val"], 0.5)  # type: ignore[arg-type, list-item]
    validation: Any = Validation(None, Path("val.json"), Path("images"), LIMITS, None)  # type: ignore[arg-type]
    gate: Any = SimpleNamespace(test=None)
    assert list[Any](gate_records(measured, gate, validation)) == ["on val"]
    gate.test = Path("test.json")
    on_test = ("detector", Path("test.json"), Path("images"), "test")
    assert list[Any](gate_records(measured, gate, validation)) == ["on val", on_test]


def test_raw_outputs_are_of_sixteen_photos_of_val(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photos = [tmp_path / f"{number:02}.png" for number in range(48)]
    for number, photo in enumerate(photos):
        cv2.imwrite(str(photo), np.full((12, 12, 3), number, np.uint8))

    def canvas(image: Any, facts: ModelFacts) -> tuple[Any, None]:
        assert facts is FACTS
        return image[0, 0], None

    def infer(canvases: Any, decode: Any) -> Any:
        return decode((canvases,))

    detector: Any = SimpleNamespace(
        engine=SimpleNamespace(facts=FACTS, infer=infer), family=SimpleNamespace(image_to_canvas=canvas)
    )
    measured = Measured(detector, [], 0.5)
    monkeypatch.setattr(comparison, "measure", lambda *_: measured)
    validation: Any = Validation(None, Path("val.json"), tmp_path, LIMITS, None)  # type: ignore[arg-type]
    reference = measure_reference(Path("best.pt"), validation, photos)
    assert reference.images == photos[::3] and len(reference.images) == 16
    assert [outputs[0].tolist() for outputs in reference.outputs] == [[[number] * 3] for number in range(0, 48, 3)]
    assert (reference.measured, reference.validation) == (measured, validation)
