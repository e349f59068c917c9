"""Detections: what a model has found in one image, in the image's own pixels, whatever the model's family."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from seamline.base.errors import SeamlineError
from seamline.masks.outlines import mask_to_corners
from seamline.masks.rle import Mask, Rle
from seamline.models.arrays import Floats

# Where the pixels of a mask begin and end, in turn, in the image's pixels counted down the columns (COCO's order).
Runs = npt.NDArray[np.int64]


class Crop(NamedTuple):
    """A mask inside its box: what lies outside is background."""

    mask: Mask  # (rows, columns)
    left: int
    top: int


class Persons(NamedTuple):
    """The people in an image, and which of them each instance belongs to."""

    boxes: Floats  # (m, 4) as those of instances
    scores: Floats  # (m,)
    of_instances: npt.NDArray[np.int64]  # (n,) index into the people, -1 for nobody

    def owner(self, index: int) -> int | None:
        """Whom an instance belongs to."""
        person = int(self.of_instances[index])
        return None if person < 0 else person


class Attribute(NamedTuple):
    """What a garment is in one respect, such as its neck."""

    value: str | None  # None where the model is not sure enough
    confidence: float  # of the likeliest value
    best: str  # the likeliest value in any case


@dataclass(frozen=True, eq=False)
class Detections:
    """What was found in one image, best score first. `len()` is the number of instances.

    Large masks are held as runs: as pixels, those of one large photo would fill the memory. Small ones are held as the
    pixels in their boxes, which take less time to make.
    """

    boxes: Floats  # (n, 4) as x1, y1, x2, y2 in pixels of the image
    scores: Floats  # (n,)
    classes: npt.NDArray[np.int64]  # (n,) index into the model's names
    shapes: list[Crop | Runs] | None  # n masks; None from a model that finds boxes only
    height: int  # of the image, in pixels
    width: int
    timings_ms: tuple[float, float, float] = (0.0, 0.0, 0.0)  # preprocess, inference, postprocess of its batch
    persons: Persons | None = None  # None where nobody looked for people
    attributes: Sequence[Mapping[str, Attribute]] | None = None  # n, by name; None where nobody asked for them
    vectors: Floats | None = None  # (n, numbers of the embedder), each of length 1; None where nobody asked for them

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def has_masks(self) -> bool:
        return self.shapes is not None

    @property
    def masks(self) -> list[Mask]:
        """n masks of the image's size, (height, width), 0 or 1."""
        return [self.mask(index) for index in range(len(self))]

    def mask(self, index: int) -> Mask:
        """One mask of the image's size, (height, width), 0 or 1."""
        crop, left, top = self.crop(index)
        mask = np.zeros((self.height, self.width), dtype=np.uint8)
        mask[top : top + crop.shape[0], left : left + crop.shape[1]] = crop
        return mask

    def crop(self, index: int) -> Crop:
        """The part of one mask that has all of its pixels."""
        shape = self._shape(index)
        return shape if isinstance(shape, Crop) else runs_to_crop(shape, self.height)

    def runs(self, index: int) -> Runs:
        """Where one mask's pixels begin and end in the image, column after column."""
        shape = self._shape(index)
        return crop_to_runs(shape, self.height) if isinstance(shape, Crop) else shape

    def rle(self, index: int) -> Rle:
        """Compressed RLE with text counts, as COCO results files hold it."""
        return runs_to_rle(self.runs(index), self.height, self.width)

    def polygon(self, index: int) -> list[float]:
        """One closed COCO polygon, x and y in turn, holes and parts joined by bridges of no width; or []."""
        return crop_to_polygon(self.crop(index))

    def _shape(self, index: int) -> Crop | Runs:
        if self.shapes is None:
            raise SeamlineError("the model finds boxes only, so there are no masks (Detections.has_masks).")
        return self.shapes[index]

    def chosen(self, indices: npt.NDArray[np.int64]) -> Detections:
        """Some of the instances, in the order of the indices."""
        return replace(
            self,
            boxes=self.boxes[indices],
            scores=self.scores[indices],
            classes=self.classes[indices],
            shapes=None if self.shapes is None else [self.shapes[index] for index in indices.tolist()],
            persons=self.persons and self.persons._replace(of_instances=self.persons.of_instances[indices]),
            attributes=self.attributes and [self.attributes[index] for index in indices.tolist()],
            vectors=None if self.vectors is None else self.vectors[indices],
        )

    def inside(self, left: int, top: int, height: int, width: int) -> Detections:
        """What was found in a part of an image, in the image's pixels.

        Args:
            left, top: where the part begins.
            height, width: of the image.
        """
        if (left, top, height, width) == (0, 0, self.height, self.width):
            return self
        shapes = self.shapes and [moved(shape, left, top, self.height, height) for shape in self.shapes]
        boxes = self.boxes + np.array([left, top, left, top], np.float32)
        return replace(self, boxes=boxes, shapes=shapes, height=height, width=width)

    def tied(self, persons: Persons) -> Detections:
        return replace(self, persons=persons)

    def described(self, attributes: Sequence[Mapping[str, Attribute]] | None, vectors: Floats | None) -> Detections:
        """With what was asked of each instance."""
        return replace(self, attributes=attributes, vectors=vectors)

    def with_timings(self, preprocess_ms: float, inference_ms: float, postprocess_ms: float) -> Detections:
        return replace(self, timings_ms=(preprocess_ms, inference_ms, postprocess_ms))

    def to_coco(self, image_id: int, category_ids: list[int]) -> list[dict[str, Any]]:
        """COCO results records: bbox as x, y, width, height; with masks, segmentation as compressed RLE.

        Where people were looked for, person is the index of the one that an instance belongs to, or None. Where
        attributes were asked for, each has its value, None where the model is not sure enough, and its confidence.
        """
        records: list[dict[str, Any]] = []
        for index, (box, score, number) in enumerate(zip(self.boxes, self.scores, self.classes, strict=True)):
            x1, y1, x2, y2 = (float(value) for value in box)
            record = {
                "image_id": image_id,
                "category_id": category_ids[int(number)],
                "bbox": [round(x1, 3), round(y1, 3), round(x2 - x1, 3), round(y2 - y1, 3)],
                "score": round(float(score), 6),
            }
            if self.persons is not None:
                record["person"] = self.persons.owner(index)
            if self.attributes is not None:
                record["attributes"] = attributes_to_record(self.attributes[index])
            if self.has_masks:
                record["segmentation"] = self.rle(index)
            records.append(record)
        return records


def attributes_to_record(attributes: Mapping[str, Attribute]) -> dict[str, dict[str, Any]]:
    return {
        name: {"value": one.value, "confidence": round(float(one.confidence), 6)} for name, one in attributes.items()
    }


def moved(shape: Crop | Runs, left: int, top: int, height: int, to_height: int) -> Crop | Runs:
    """A mask of a part of an image, of `height`, as one of the image, of `to_height`."""
    crop = shape if isinstance(shape, Crop) else runs_to_crop(shape, height)
    crop = crop._replace(left=crop.left + left, top=crop.top + top)
    return crop if isinstance(shape, Crop) else crop_to_runs(crop, to_height)


def toggles_to_runs(toggles: npt.NDArray[np.int64]) -> Runs:
    """Runs from the pixels where background and mask change, in any order; two at one pixel cancel each other."""
    pixels = np.sort(toggles)
    new = np.flatnonzero(np.diff(pixels, prepend=-1))
    if len(new) == len(pixels):
        return pixels
    counts = np.diff(new, append=len(pixels))
    runs: Runs = pixels[new[counts % 2 == 1]]
    return runs


def crop_to_runs(crop: Crop, height: int) -> Runs:
    mask, left, top = crop
    inside = np.zeros((mask.shape[1], mask.shape[0] + 1), dtype=np.uint8)  # every run ends in its own column
    inside[:, :-1] = mask.T
    column, row = np.divmod(np.flatnonzero(np.diff(inside.ravel(), prepend=0)), inside.shape[1])
    return toggles_to_runs((left + column) * height + top + row)


def runs_to_crop(runs: Runs, height: int) -> Crop:
    """The smallest part of the image that has all of a mask; one without a pixel for an empty mask."""
    if not len(runs):
        return Crop(np.zeros((0, 0), np.uint8), 0, 0)
    left, right = int(runs[0]) // height, int(runs[-1] - 1) // height + 1
    values = np.zeros(len(runs) + 1, np.uint8)
    values[1::2] = 1
    lengths = np.diff(runs, prepend=left * height, append=right * height)
    columns = np.repeat(values, lengths).reshape(right - left, height)
    first, last = runs[::2] % height, (runs[1::2] - 1) % height
    whole = runs[::2] // height != (runs[1::2] - 1) // height  # runs that reach into the next column
    top, bottom = (0, height) if whole.any() else (int(first.min()), int(last.max()) + 1)
    return Crop(np.ascontiguousarray(columns.T[top:bottom]), left, top)


def runs_to_rle(runs: Runs, height: int, width: int) -> Rle:
    """As pycocotools encodes the mask."""
    counts = np.diff(runs, prepend=0, append=height * width).tolist()
    if counts[-1] == 0:  # the mask reaches the last pixel
        counts.pop()
    rle = coco_mask.frPyObjects({"size": [height, width], "counts": counts}, height, width)
    return {"size": [height, width], "counts": rle["counts"].decode("ascii")}


def crop_to_polygon(crop: Crop) -> list[float]:
    """A polygon along the edges of the pixels, where COCO's rasterisation expects it.

    As in the labels that models are trained with, specks and parts that are too small for a bridge are left out: see
    outlines.mask_to_corners. RLE has every pixel.
    """
    mask, left, top = crop
    # At twice the size a pixel has a left and a right side of its own: 2x and 2x + 1, which is where x + 1 begins.
    corners = mask_to_corners(np.asarray(np.kron(mask, np.ones((2, 2), np.uint8))))
    return [] if corners is None else ((corners + 1) // 2 + [left, top]).ravel().astype(float).tolist()
