"""A model of attributes: names what is seen of each garment, such as its neck, with a confidence; without torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.special import softmax

from seamline.base.errors import SeamlineError
from seamline.base.parallel import usable_cores
from seamline.images.cutouts import cut_out, squares_to_tensor, to_square
from seamline.images.files import MAX_PIXELS
from seamline.images.reading import Image, Source, read_image
from seamline.inference.lifetime import Lifetime
from seamline.models.attribute_facts import AttributeFacts, metadata_to_attribute_facts
from seamline.models.detections import Attribute, Detections
from seamline.models.engines.encoder import check_square, open_encoder

Floats = npt.NDArray[np.floating]


class AttributeClassifier:
    """An exported model of attributes. Safe to call from any number of threads, with the same result as alone."""

    def __init__(self, model: Path, threads: int | None = None, precision: str = "f32") -> None:
        """
        Args:
            model: an ONNX file, an OpenVINO folder, or a folder with model.onnx.
            threads: that it computes on; None: all usable cores.
            precision: see open_encoder.

        Raises:
            SeamlineError: when there is no such model, or it is another kind of model.
        """
        self.encoder = open_encoder(Path(model), threads or usable_cores(), precision)
        self.facts: AttributeFacts = metadata_to_attribute_facts(self.encoder.metadata, Path(model))
        check_square(self.encoder, self.facts.imgsz, Path(model))
        self.slices = self.facts.slices()
        self._lifetime = Lifetime("model of attributes")

    @property
    def precision(self) -> str:
        """What the engine computes in, read back from it."""
        return self.encoder.precision

    def classify(self, image: Image, found: Detections, names: Sequence[str]) -> list[dict[str, Attribute]]:
        """The attributes of each instance, in their order; none for those of classes that the model does not know.

        Args:
            image: (height, width, 3), BGR: the photo that the instances were found in.
            found: where a mask has no pixel, or the model finds boxes only, the background stays.
            names: of the detector's classes.

        Raises:
            SeamlineError: after close(), or in another process.
        """
        self._lifetime.check()
        facts, known = self.facts, self.facts.indices_of(names)
        chosen = [index for index, number in enumerate(found.classes.tolist()) if number in known]
        masks = [found.crop(index) if found.has_masks else None for index in chosen]
        parts = [
            cut_out(image, found.boxes[index], mask, facts.margin, facts.background)  # "mean" as where it was trained
            for index, mask in zip(chosen, masks, strict=True)
        ]
        named: list[dict[str, Attribute]] = [{} for _ in range(len(found))]
        for index, one in zip(chosen, self._named(parts), strict=True):
            named[index] = one
        return named

    def classify_photo(self, source: Source, max_pixels: int = MAX_PIXELS) -> dict[str, Attribute]:
        """The attributes of the garment that a photo is of, all of it.

        Raises:
            ImageError: when the photo cannot be used.
            SeamlineError: after close(), or in another process.
        """
        self._lifetime.check()
        [named] = self._named([read_image(source, max_pixels=max_pixels)])
        return named

    def logits(self, parts: Sequence[Image]) -> npt.NDArray[np.float32]:
        """The model's outputs for what was cut out of photos, (n, outputs), not calibrated.

        Raises:
            SeamlineError: after close(), or in another process, or where the model makes something else.
        """
        self._lifetime.check()
        facts = self.facts
        if not parts:
            return np.zeros((0, facts.outputs), np.float32)
        squares = [to_square(part, facts.imgsz, "pad", "bilinear", facts.mean) for part in parts]
        [found] = self.encoder.run(squares_to_tensor(squares, facts.mean, facts.std))
        if found.shape[1:] != (facts.outputs,) or not np.isfinite(found).all():
            raise SeamlineError(
                f"the model of attributes is broken: it does not make {facts.outputs} numbers of a garment, one for "
                "each value that it names."
            )
        return np.asarray(found, np.float32)

    def close(self) -> None:
        """What is asked after it is refused."""
        self._lifetime.end()

    def __enter__(self) -> AttributeClassifier:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _named(self, parts: Sequence[Image]) -> list[dict[str, Attribute]]:
        return [logits_to_attributes(row, self.facts, self.slices) for row in self.logits(parts)]


def logits_to_attributes(logits: Floats, facts: AttributeFacts, slices: dict[str, slice]) -> dict[str, Attribute]:
    """What a model's outputs (outputs,) for one garment say: a softmax of each attribute's, with its temperature."""
    named = {}
    for attribute, own in slices.items():
        probabilities = softmax(logits[own].astype(np.float64) / facts.temperatures[attribute])
        index = int(probabilities.argmax())
        best, confidence = facts.attributes[attribute][index], float(probabilities[index])
        threshold = facts.thresholds[attribute]
        sure = threshold is None or confidence >= threshold
        named[attribute] = Attribute(best if sure else None, confidence, best)
    return named
