"""What more can be said of each garment than its class: attributes, and a vector that is near those of similar ones."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from seamline.images.reading import Image
from seamline.inference.classifier import AttributeClassifier
from seamline.inference.embedder import Embedder
from seamline.models.arrays import Floats
from seamline.models.attribute_facts import check_classes
from seamline.models.detections import Detections


class Description(NamedTuple):
    """Detections with what was asked for, and the milliseconds that it took; 0 for what was not asked for."""

    found: Detections
    attributes_ms: float
    embedding_ms: float


class Describer:
    """Safe to call from any number of threads, as both models are."""

    def __init__(self, classifier: AttributeClassifier | None, embedder: Embedder | None, names: Sequence[str]) -> None:
        """
        Args:
            names: of the detector's classes.
        """
        self.classifier, self.embedder, self.names = classifier, embedder, names
        self.attributes = [] if classifier is None else [*classifier.facts.attributes]  # their names
        self.dimension = 0 if embedder is None else embedder.facts.dimension  # numbers of a vector

    def describe(self, image: Image, found: Detections, attributes: bool = True, vectors: bool = True) -> Description:
        """
        Args:
            image: the photo in which all of `found` was found.
            attributes, vectors: whether they are asked for; what there is no model for is left out.
        """
        begun = time.perf_counter()
        classifier = self.classifier if attributes else None
        named = None if classifier is None else classifier.classify(image, found, self.names)
        classified = time.perf_counter()
        near = self.embedder.embed(image, found) if vectors and self.embedder is not None else None
        ended = time.perf_counter()
        return Description(found.described(named, near), 1000 * (classified - begun), 1000 * (ended - classified))

    def embed_photo(self, image: Image) -> Floats:
        """The vector of a photo as a whole: (dimension,), of length 1."""
        if self.embedder is None:
            raise ValueError("there is no embedder here")
        return self.embedder.embed_photo(image)

    def close(self) -> None:
        for model in (self.classifier, self.embedder):
            if model is not None:
                model.close()


def open_describer(
    attributes: Path | None, embed: Path | None, names: Sequence[str], threads: int | None = None
) -> Describer:
    """
    Args:
        names: of the detector's classes.

    Raises:
        SeamlineError: when a model cannot be opened, or knows none of these classes; the other one is closed.
    """
    with contextlib.ExitStack() as stack:
        classifier = AttributeClassifier(attributes, threads) if attributes is not None else None
        if classifier is not None and attributes is not None:
            stack.callback(classifier.close)
            check_classes(classifier.facts, names, attributes)
        embedder = Embedder(embed, threads) if embed is not None else None
        stack.pop_all()
    return Describer(classifier, embedder, names)
