"""What is served: facts of the model and the limits, as /v1/about gives them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from seamline import __version__
from seamline.models.exported import int8_gate
from seamline.people.detector import AnyDetector, PeopleDetector
from seamline.photos.predicting import model_sha256
from seamline.service.schemas import (
    About,
    AttributesAbout,
    CatalogueAbout,
    Category,
    EmbedderAbout,
    LimitsAbout,
    ModelAbout,
    ModelName,
    PeopleAbout,
)
from seamline.service.settings import Settings

if TYPE_CHECKING:  # most services have none of them
    from seamline.inference.classifier import AttributeClassifier
    from seamline.inference.embedder import Embedder
    from seamline.search.catalogue import Catalogue
    from seamline.service.describing import Described

REVISION_CHARACTERS = 12
FORMATS = {".pt": "pytorch", ".onnx": "onnx"}


def about(
    detector: AnyDetector, path: Path, settings: Settings, source: str | None, described: Described | None = None
) -> About:
    """
    Args:
        path: of the model.
        source: where the source of the model and its training is, for its users.
        described: the models that describe garments, and the catalogue.
    """
    path = path.absolute()  # "." has no name
    path = path / "model.onnx" if (path / "model.onnx").is_file() else path  # named by its folder: the same model
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
    made = About(model, limits, __version__, people_about(detector) if isinstance(detector, PeopleDetector) else None)
    return made if described is None else with_described(made, described)


def with_described(made: About, described: Described) -> About:
    describer, catalogue = described.describer, described.catalogue
    if describer.classifier is not None and described.attributes is not None:
        made.attributes = attributes_about(describer.classifier, described.attributes)
    if describer.embedder is not None:
        made.embedder = embedder_about(describer.embedder)
    if catalogue is not None:
        made.catalogue = catalogue_about(catalogue)
    return made


def attributes_about(classifier: AttributeClassifier, path: Path) -> AttributesAbout:
    return AttributesAbout(
        name=model_name(path.absolute()),
        revision=model_sha256(path)[:REVISION_CHARACTERS],
        precision=classifier.precision,
        attributes=classifier.facts.attributes,
        classes=classifier.facts.classes,
        licence=classifier.facts.licence,
    )


def embedder_about(embedder: Embedder) -> EmbedderAbout:
    facts = embedder.facts
    return EmbedderAbout(
        name=facts.name,
        revision=facts.revision,
        identity=embedder.identity,
        precision=embedder.precision,
        dimension=facts.dimension,
        background=facts.background,
        margin=facts.margin,
        has_text=facts.has_text,
        licence=facts.licence,
    )


def catalogue_about(catalogue: Catalogue) -> CatalogueAbout:
    facts = catalogue.facts
    contents = f"{facts.vectors_sha256} {facts.table_sha256}"
    return CatalogueAbout(
        photos=facts.photos,
        garments=facts.garments,
        classes=facts.classes,
        columns=facts.columns,
        index=facts.index,
        revision=hashlib.sha256(contents.encode()).hexdigest()[:REVISION_CHARACTERS],
    )


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
