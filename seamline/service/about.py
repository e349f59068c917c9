"""What is served: facts of the model and the limits, as /v1/about gives them."""

from __future__ import annotations

from pathlib import Path

from seamline import __version__
from seamline.models.exported import int8_gate
from seamline.people.detector import AnyDetector, PeopleDetector
from seamline.photos.predicting import model_sha256
from seamline.service.schemas import About, Category, LimitsAbout, ModelAbout, ModelName, PeopleAbout
from seamline.service.settings import Settings

REVISION_CHARACTERS = 12
FORMATS = {".pt": "pytorch", ".onnx": "onnx"}


def about(detector: AnyDetector, path: Path, settings: Settings, source: str | None) -> About:
    """
    Args:
        path: of the model.
        source: where the source of the model and its training is, for its users.
    """
    facts = detector.engine.facts
    model = ModelAbout(
        name=model_name(path),
        revision=model_sha256(path)[:REVISION_CHARACTERS],
        family=facts.family,
        format=FORMATS.get(path.suffix, "openvino"),
        precision=detector.precision,
        imgsz=facts.imgsz,
        classes=facts.names,
        has_masks=facts.masks,
        confidence=detector.confidence,
        nms_iou=detector.nms_iou,
        max_detections=detector.max_detections,
        int8_gate=int8_gate(path),
        licence=detector.family.LICENCE,
        source=source,
    )
    limits = LimitsAbout(
        body_bytes=settings.body_bytes,
        photos=min(settings.photos, settings.queue),
        pixels=settings.pixels,
        queue=settings.queue,
        fetches_urls=settings.fetch_urls,
    )
    return About(model, limits, __version__, people_about(detector) if isinstance(detector, PeopleDetector) else None)


def people_about(detector: PeopleDetector) -> PeopleAbout:
    people = detector.people
    return PeopleAbout(
        name=model_name(detector.people_model),
        revision=model_sha256(detector.people_model)[:REVISION_CHARACTERS],
        person_class=people.names[detector.person_class],
        confidence=people.confidence,
        margin=detector.settings.margin,
        most=detector.settings.most,
        licence=people.family.LICENCE,
    )


def model_name(path: Path) -> str:
    """The folder's name of an exported model, the file's of another."""
    return path.parent.name if path.name == "model.onnx" else path.stem if path.is_file() else path.name


def to_name(of: About) -> ModelName:
    return ModelName(of.model.name, of.model.revision)


def to_categories(of: About) -> list[Category]:
    return [Category(number, name) for number, name in enumerate(of.model.classes, 1)]
