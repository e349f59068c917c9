"""What annotations say is in photos, as if a perfect detector had found it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from pycocotools.coco import COCO

from seamline.base.coco import Record
from seamline.inference.embedder import Embedder, Vectors
from seamline.masks.rle import rle_to_crop, segmentation_to_rle
from seamline.models.detections import Crop, Detections


class Photo(NamedTuple):
    record: Record  # of the image
    file: Path
    garments: list[Record]  # its annotations, without crowd regions
    found: Detections  # the same, in their order


def photos_of(truth: COCO, images: Path) -> Iterator[Photo]:
    """The photos of a COCO file that show a garment, in the order of their ids.

    Args:
        images: folder of the image files.
    """
    category_ids = sorted(truth.cats)
    for number in sorted(truth.imgs):
        record = truth.imgs[number]
        garments = [one for one in truth.imgToAnns[number] if not one.get("iscrowd")]
        if garments:
            found = annotations_to_detections(garments, category_ids, record["height"], record["width"])
            yield Photo(record, images / record["file_name"], garments, found)


def annotations_to_detections(
    annotations: Sequence[Record], category_ids: Sequence[int], height: int, width: int
) -> Detections:
    """In the order of the annotations, each with the score 1; all have masks.

    Args:
        annotations: COCO records of one photo.
        category_ids: of the classes, in their order.
        height, width: of the photo, in pixels.
    """
    boxes = np.array([record["bbox"] for record in annotations], np.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    position = {number: index for index, number in enumerate(category_ids)}
    shapes = [Crop(*rle_to_crop(segmentation_to_rle(record["segmentation"], height, width))) for record in annotations]
    classes = np.array([position[record["category_id"]] for record in annotations], np.int64)
    return Detections(boxes, np.ones(len(annotations), np.float32), classes, list(shapes), height, width)


def embed_truth(embedder: Embedder, photos: Iterable[Photo]) -> tuple[Vectors, npt.NDArray[np.int64]]:
    """A vector for each garment of photos, one after the other, and the id of each one's photo."""
    vectors, ids = [np.zeros((0, embedder.facts.dimension), np.float32)], []
    for photo in photos:
        vectors.append(embedder.embed(photo.file, photo.found))
        ids += [photo.record["id"]] * len(photo.found)
    return np.concatenate(vectors), np.array(ids, np.int64)
