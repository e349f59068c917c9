"""The labels' certificate at the sizes of the trainer: at train.imgsz, and at that divided by train.mask_ratio.

At full size `seamline/dataset/conversion.py` certifies every label. The trainer never fills one there: it scales the
photo down to imgsz, fills, and shrinks what is filled for its loss. So much of a thin part is lost there, or added.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import msgspec
import numpy as np
import numpy.typing as npt

from seamline.base.coco import Coco, ImageRef, read_coco
from seamline.base.errors import SeamlineError
from seamline.dataset.conversion import Instance, instances_to_lines
from seamline.masks.filling import filled, line_to_trained_pixels
from seamline.masks.rle import Mask, mask_iou, rle_to_mask, segmentation_to_rle
from seamline.masks.yolo_labels import text_to_line

MEASURED = 1000  # instances, about; half a minute with photos of 12 megapixels
HALF = 0.5  # of a pixel that a mask has to cover


class Frame(NamedTuple):
    """Where ultralytics puts a photo on its square of imgsz x imgsz pixels."""

    height: int
    width: int
    left: int
    top: int


class Masks(NamedTuple):
    """One instance at imgsz, and at the size of the loss."""

    full: Mask
    small: Mask


def frame_of(height: int, width: int, imgsz: int) -> Frame:
    """Follows ultralytics' load_image (the longer side becomes imgsz, the other is rounded up) and LetterBox."""
    ratio = imgsz / max(height, width)
    scaled = [min(math.ceil(side * ratio), imgsz) for side in (height, width)]
    top, left = (round((imgsz - side) / 2 - 0.1) for side in scaled)
    return Frame(scaled[0], scaled[1], left, top)


def trained_masks(text: str, frame: Frame, imgsz: int, mask_ratio: int) -> Masks:
    """What ultralytics makes of a label line without augmentation (polygon2mask); a test holds it to that."""
    _, line = text_to_line(text)
    full = filled(line_to_trained_pixels(line, *frame), imgsz, imgsz)
    side = imgsz // mask_ratio
    return Masks(full, np.asarray(cv2.resize(full, (side, side)), dtype=np.uint8))


def true_masks(mask: Mask, frame: Frame, imgsz: int, mask_ratio: int) -> Masks:
    """The source's mask shrunk by area: a pixel belongs to it when at least half of the pixel is covered."""
    square = np.zeros((imgsz, imgsz), np.float32)
    area = cv2.resize(mask.astype(np.float32), (frame.width, frame.height), interpolation=cv2.INTER_AREA)
    square[frame.top : frame.top + frame.height, frame.left : frame.left + frame.width] = area
    side = imgsz // mask_ratio
    small = cv2.resize(square, (side, side), interpolation=cv2.INTER_AREA)
    return Masks((square >= HALF).astype(np.uint8), (small >= HALF).astype(np.uint8))


def labels_at_trained_sizes(split: Path, yolo: Path, imgsz: int, mask_ratio: int) -> dict[str, Any]:
    """What reports/train/labels.json certifies, of train and val.

    Of a large dataset about MEASURED instances are measured: those of every nth photo.

    Args:
        split: folder with train.json and val.json, whose masks are the source's.
        yolo: folder with the labels that convert made of them.

    Raises:
        SeamlineError: when the labels are of other data than the splits, or masks would have no pixel.
    """
    if mask_ratio > imgsz:
        raise SeamlineError(f"train.mask_ratio: {mask_ratio} leaves no pixel of train.imgsz {imgsz}; 4 is usual.")

    def measure(image: ImageRef, records: list[Instance], coco: Coco) -> list[tuple[float, float]]:
        return photo_to_ious(image, records, class_numbers(coco), yolo, imgsz, mask_ratio)

    return {"imgsz": imgsz, "mask_ratio": mask_ratio, **measured(split, measure, imgsz, imgsz // mask_ratio)}


def measured(
    split: Path,
    measure: Callable[[ImageRef, list[Instance], Coco], list[tuple[float, float]]],
    imgsz: int,
    loss_side: int,
) -> dict[str, Any]:
    """Of train and val, or of every nth photo of them: what measure() gives of each instance at the two sizes."""
    cocos = [read_coco(split / f"{part}.json") for part in ("train", "val")]
    step = max(1, sum(len(coco.annotations) for coco in cocos) // MEASURED)
    images, pairs = 0, []
    for coco in cocos:
        for image, records in photos(coco, step):
            images += 1
            pairs += measure(image, records, coco)
    ious = np.array(pairs, dtype=np.float64).reshape(-1, 2)
    return {
        "images": sum(len(coco.images) for coco in cocos),
        "images_measured": images,
        "instances_measured": len(ious),
        "at_imgsz": ious_to_record(ious[:, 0], imgsz),
        "at_loss_size": ious_to_record(ious[:, 1], loss_side),
    }


def class_numbers(coco: Coco) -> dict[int, int]:
    """category id -> number in the labels"""
    return {category.id: index for index, category in enumerate(coco.category_refs())}


def photos(coco: Coco, step: int) -> Iterator[tuple[ImageRef, list[Instance]]]:
    """Every `step`th photo of a split, in its order, with its annotations."""
    decoder = msgspec.json.Decoder(Instance)
    found: dict[int, list[Instance]] = {}
    refs = coco.image_refs()[::step]
    for ref in refs:
        found[ref.id] = []
    for raw, reference in zip(coco.annotations, coco.annotation_refs(), strict=True):
        if reference.image_id in found:
            found[reference.image_id].append(decoder.decode(raw))
    for ref in refs:
        yield ref, found[ref.id]


def photo_to_ious(
    image: ImageRef, records: list[Instance], numbers: dict[int, int], yolo: Path, imgsz: int, mask_ratio: int
) -> list[tuple[float, float]]:
    """IoU at imgsz and at the size of the loss of each label of a photo; NaN where the shrunk mask has no pixel."""
    path = (yolo / "labels" / image.file_name).with_suffix(".txt")
    lines, certified = instances_to_lines(records, numbers, image.height, image.width, Counter())
    if not path.is_file() or path.read_text(encoding="ascii").splitlines() != lines:
        raise SeamlineError(f"{path}: is not the label of the masks in the split; run the stages convert and split.")
    by_id = {record.id: record for record in records}
    frame = frame_of(image.height, image.width, imgsz)
    found = []
    for text, instance in zip(lines, certified, strict=True):
        rle = segmentation_to_rle(by_id[instance.annotation_id].segmentation, image.height, image.width)
        true = true_masks(rle_to_mask(rle), frame, imgsz, mask_ratio)
        trained = trained_masks(text, frame, imgsz, mask_ratio)
        found.append((iou_of(true.full, trained.full), iou_of(true.small, trained.small)))
    return found


def iou_of(true: Mask, trained: Mask) -> float:
    return mask_iou(true, trained) if true.any() else math.nan


def ious_to_record(ious: npt.NDArray[np.float64], side: int) -> dict[str, Any]:
    """Mean, lowest hundredth and lowest, of instances that still have a pixel at this size; null without any."""
    left = ious[~np.isnan(ious)]
    figures = (left.mean(), np.percentile(left, 1), left.min()) if len(left) else (None, None, None)
    mean, p1, lowest = (None if figure is None else round(float(figure), 4) for figure in figures)
    return {
        "side_px": side,
        "mean_iou": mean,
        "p1_iou": p1,
        "min_iou": lowest,
        "without_a_pixel": len(ious) - len(left),
    }
