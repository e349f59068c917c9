"""What a model file says of itself, so that nothing else is needed to predict with it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from seamline.base.errors import SeamlineError
from seamline.base.escaping import has_control_character

YOLO = "yolo"  # the family of model files that name none
MAX_IMGSZ = 8192
REQUIRED = ("names", "imgsz", "confidence", "nms_iou", "max_detections")
BOOLEANS = {"true": True, "false": False}


class ModelFacts(NamedTuple):
    names: list[str]
    imgsz: int  # side of the square input, in pixels
    confidence: float = 0.25
    nms_iou: float = 0.7
    max_detections: int = 100
    family: str = YOLO  # see families.py
    masks: bool = True  # False: it finds boxes only


class Limits(NamedTuple):
    """Which detections are reported."""

    confidence: float  # those of a lower score are left out, and of this score too
    nms_iou: float  # of two boxes of one class that overlap more than this the weaker one is left out
    max_detections: int  # at most this many in an image, the best ones


def facts_to_metadata(facts: ModelFacts) -> dict[str, str]:
    """As text, as model files hold it."""
    return {
        **{key: str(value) for key, value in facts._asdict().items()},
        "names": json.dumps(facts.names, ensure_ascii=False),
        "masks": "true" if facts.masks else "false",
    }


def metadata_to_facts(metadata: Mapping[str, str], path: Path) -> ModelFacts:
    """What the export stage stored inside a model; files made before there were families are of YOLO, with masks.

    Raises:
        SeamlineError: when it is not there, as in models that were exported by something else.
    """
    masks = metadata.get("masks", "true")
    if masks not in BOOLEANS:
        raise SeamlineError(f"{path}: says of itself masks: {masks!r}; it has to be true or false.")
    try:
        return ModelFacts(
            [str(name) for name in json.loads(metadata["names"])],
            int(metadata["imgsz"]),
            float(metadata["confidence"]),
            float(metadata["nms_iou"]),
            int(metadata["max_detections"]),
            metadata.get("family", YOLO),
            BOOLEANS[masks],
        )
    except (KeyError, ValueError, TypeError):
        raise SeamlineError(
            f"{path}: has no Seamline metadata ({', '.join(REQUIRED)}); the export stage writes it."
        ) from None


def check_facts(facts: ModelFacts, path: Path) -> None:
    """Raise SeamlineError where a model file says of itself what a terminal would obey, or no memory could hold."""
    for name in facts.names:
        if has_control_character(name):
            raise SeamlineError(f"{path}: the class {name!r} has a control character in its name; rename it.")
    if not 0 < facts.imgsz <= MAX_IMGSZ:
        raise SeamlineError(f"{path}: says that its input has {facts.imgsz} px a side; it has to be 1 to {MAX_IMGSZ}.")
