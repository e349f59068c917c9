"""A tiny model of attributes, as ONNX, put together without torch: tests of what uses one need not train."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import helper

from seamline.models.attribute_facts import AttributeFacts, attribute_facts_to_metadata
from tests.tiny_encoder import IMGSZ, image_model

FACTS = AttributeFacts(
    attributes={"neck": ["round", "v", "collar", "high"], "sleeve": ["short", "long"]},
    imgsz=IMGSZ,
    mean=(0.4, 0.5, 0.6),
    std=(0.2, 0.25, 0.3),
    margin=0.1,
    background="keep",
    backbone="tiny",
    licence="Apache-2.0",
    training_revision="0123",
    data_sha256="4567",
    temperatures={"neck": 2.0, "sleeve": 0.5},
    thresholds={"neck": None, "sleeve": 0.9},
    names={
        "file": "filename",
        "columns": {"neck": "neck", "sleeve": "sleeve_length"},
        "codes": {"neck": {"round": "0", "v": "1", "collar": "2", "high": "3"}, "sleeve": {"short": "0", "long": "1"}},
    },
)


def save_classifier(folder: Path, facts: AttributeFacts = FACTS, seed: int = 3) -> Path:
    """A folder with model.onnx, whose input has IMGSZ pixels a side, whatever the facts say."""
    folder.mkdir(parents=True, exist_ok=True)
    model = image_model(seed)
    helper.set_model_props(model, attribute_facts_to_metadata(facts))
    onnx.save(model, folder / "model.onnx")
    return folder
