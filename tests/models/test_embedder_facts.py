"""What embedders' files say, and which of them may share a catalogue."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from seamline.base.errors import SeamlineError
from seamline.models.embedder_facts import (
    BESIDE_THE_VECTORS,
    EmbedderFacts,
    facts_to_identity,
    facts_to_metadata,
    metadata_to_facts,
)
from tests.tiny_encoder import embedder_facts

CHANGES: dict[str, Any] = {
    "name": "other", "revision": "2", "weights_sha256": "1" * 64, "licence": "GPL", "dimension": 7, "imgsz": 25,
    "squaring": "crop", "interpolation": "bilinear", "mean": (0.5, 0.4, 0.31), "std": (0.2, 0.3, 0.41), "margin": 0.2,
    "background": "keep", "has_text": True, "cleaning": "canonical", "precision": "int8",
}  # fmt: skip


def test_facts_come_back_from_a_file() -> None:
    facts = embedder_facts(name="Größe/模型", has_text=True)
    metadata = facts_to_metadata(facts)
    assert metadata["kind"] == "embedder"
    assert metadata_to_facts(metadata, Path("m.onnx")) == facts


def test_vectors_may_be_compared_unless_what_makes_them_differs() -> None:
    """For each fact there is: a new one has to be thought of here."""
    assert set(CHANGES) == {field.name for field in structs.fields(EmbedderFacts)}
    facts = embedder_facts()
    assert facts_to_identity(facts) == facts_to_identity(embedder_facts())
    changed = {key: facts_to_identity(structs.replace(facts, **{key: value})) for key, value in CHANGES.items()}
    same = {key for key, identity in changed.items() if identity == facts_to_identity(facts)}
    assert same == set(BESIDE_THE_VECTORS) == {"licence", "has_text", "cleaning"}


@pytest.mark.parametrize(
    ("metadata", "sentence"),
    [
        ({}, "does not say that it is an embedder; the embed stage makes those"),
        ({"names": "[]", "imgsz": "1", "confidence": "0", "nms_iou": "0", "max_detections": "1"}, "is a detector"),
        ({"embedder": "{"}, "what it says of itself cannot be read"),
        ({"embedder": '{"name": 3}'}, "what it says of itself cannot be read"),
        (facts_to_metadata(embedder_facts(imgsz=0)), "says that it makes 6 numbers of 0 px a side"),
        (facts_to_metadata(embedder_facts(std=(0.1, 0.0, 0.1))), "all have to be above 0"),
        (facts_to_metadata(embedder_facts(dimension=10**9)), "at most 65536"),
        (facts_to_metadata(embedder_facts(name="a\x1b[2J")), "has a control character"),
    ],
)
def test_what_a_file_may_not_say(metadata: dict[str, str], sentence: str) -> None:
    with pytest.raises(SeamlineError, match=r"model\.onnx") as raised:
        metadata_to_facts(metadata, Path("model.onnx"))
    assert sentence in str(raised.value)
