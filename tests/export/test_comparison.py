"""A model beside the reference: which way each figure goes."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from seamline.export import comparison
from seamline.export.comparison import Measured, Reference, Validation, compare, compared_to_record
from seamline.models.model_facts import Limits, ModelFacts

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
    monkeypatch.setattr(comparison, "measure", lambda model, on: Measured(detector, one, 0.5))
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
    monkeypatch.setattr(comparison, "predict_split", lambda *_: [])
    figures = SimpleNamespace(summary={"mAP50_95": np.float64(0.5)})
    monkeypatch.setattr(comparison, "average_precision", lambda *_: figures)
    validation: Any = Validation(None, Path("val.json"), Path("images"), LIMITS, None)  # type: ignore[arg-type]
    comparison.measure(Path("model"), validation)
    assert asked == [(Path("model"), 0.2, 0.6, 7)]
