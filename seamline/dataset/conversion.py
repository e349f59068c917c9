"""COCO instances become label lines, each certified by filling it again as the trainer will."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import numpy.typing as npt

from seamline.base.coco import link_image
from seamline.masks.filling import filled, line_to_trained_pixels
from seamline.masks.outlines import mask_to_corners
from seamline.masks.rle import rle_to_crop, segmentation_to_rle
from seamline.masks.yolo_labels import corners_to_line, corners_to_text, precision_px


class Instance(msgspec.Struct, gc=False):
    """What a label is made of."""

    id: int
    category_id: int
    segmentation: Any = None
    iscrowd: int = 0


class Fidelity(msgspec.Struct):
    """How much of one instance's mask its label keeps."""

    annotation_id: int
    category_id: int
    iou: float
    area_px: int
    lost_px: int
    added_px: int


class Converted(msgspec.Struct):
    """What became of some images' instances; arrays, since there may be hundreds of thousands."""

    ious: npt.NDArray[np.float64]  # (instances,)
    category_ids: npt.NDArray[np.int64]  # (instances,)
    below_0_5: list[Fidelity]
    dropped: dict[str, int]


def write_labels(
    images: Sequence[tuple[str, int, int, Sequence[bytes]]], class_index: Mapping[int, int], source: Path, out: Path
) -> Converted:
    """Write out/labels and link out/images for some images.

    Args:
        images: file name, height and width in pixels, and the annotations as JSON.
        class_index: category id -> number in the labels.
        source: folder of the canonical dataset.
        out: folder with labels/ and images/ in it.
    """
    cv2.setNumThreads(1)  # several of these run side by side
    decoder = msgspec.json.Decoder(Instance)
    certified: list[Fidelity] = []
    dropped: Counter[str] = Counter()
    for file_name, height, width, found in images:
        records = [decoder.decode(annotation) for annotation in found]
        lines, of_image = instances_to_lines(records, class_index, height, width, dropped)
        certified += of_image
        # Paths as plain text: with 192,000 files a tenth of the time went into pathlib.
        with open(f"{out}/labels/{file_name.rpartition('.')[0]}.txt", "wb") as stream:  # noqa: PTH123
            stream.write("".join(f"{line}\n" for line in lines).encode("ascii"))
        link_image(f"{source}/images/{file_name}", f"{out}/images/{file_name}", str(source))
    return Converted(
        ious=np.array([instance.iou for instance in certified], dtype=np.float64),
        category_ids=np.array([instance.category_id for instance in certified], dtype=np.int64),
        below_0_5=[instance for instance in certified if instance.iou < 0.5],
        dropped=dict(dropped),
    )


def instances_to_lines(
    records: Iterable[Instance], class_index: Mapping[int, int], height: int, width: int, dropped: Counter[str]
) -> tuple[list[str], list[Fidelity]]:
    """One label line an instance of an image, and how much of the mask it keeps; `dropped` counts the others."""
    lines: list[str] = []
    certified: list[Fidelity] = []
    for record in records:
        if record.iscrowd:
            dropped["crowd: marks a region and no instance"] += 1
            continue
        try:
            mask, left, top = rle_to_crop(segmentation_to_rle(record.segmentation, height, width))
        except ValueError as error:  # pull lets nothing like this through
            dropped[f"its segmentation {error}"] += 1
            continue
        corners = mask_to_corners(mask)
        if corners is None:
            dropped["its mask covers no pixel of the image"] += 1
            continue
        corners += np.array([left, top], dtype=np.int32)
        area = cv2.countNonZero(mask)
        off_px = precision_px(area, corners)
        line = corners_to_text(class_index[record.category_id], corners, height, width, off_px)
        if line in lines:  # ultralytics drops one of two equal lines, and says so in a warning
            dropped["the same mask and class as another instance of the image"] += 1
            continue
        lines.append(line)
        pixels = line_to_trained_pixels(corners_to_line(corners, height, width, off_px), height, width)
        trained = filled(pixels, mask.shape[0], mask.shape[1], left, top)
        filled_px = cv2.countNonZero(trained)
        common = cv2.countNonZero(cv2.bitwise_and(mask, trained))
        certified.append(
            Fidelity(
                annotation_id=record.id,
                category_id=record.category_id,
                iou=common / (area + filled_px - common),
                area_px=area,
                lost_px=area - common,
                added_px=filled_px - common,
            )
        )
    return lines, certified


def fidelity_report(parts: Sequence[Converted], names: Mapping[int, str]) -> dict[str, Any]:
    """What reports/fidelity.json certifies, over at least one instance.

    Args:
        parts: of the dataset, in its order.
        names: category id -> name.
    """
    ious = np.concatenate([part.ious for part in parts])
    category_ids = np.concatenate([part.category_ids for part in parts])
    dropped: Counter[str] = Counter()
    for part in parts:
        dropped.update(part.dropped)
    return {
        "instances": len(ious),
        "mean_iou": round(float(ious.mean()), 6),
        "p1_iou": round(float(np.percentile(ious, 1)), 6),
        "min_iou": round(float(ious.min()), 6),
        "below_0_5": [
            {
                "annotation_id": instance.annotation_id,
                "iou": round(instance.iou, 4),
                "area_px": instance.area_px,
                "reason": loss_to_reason(instance),
            }
            for part in parts
            for instance in part.below_0_5
        ],
        "classes": {
            name: {
                "instances": int((category_ids == number).sum()),
                "mean_iou": round(float(ious[category_ids == number].mean()), 6),
            }
            for number, name in names.items()
            if (category_ids == number).any()
        },
        "dropped": dict(sorted(dropped.items())),
    }


def loss_to_reason(instance: Fidelity) -> str:
    if instance.lost_px >= instance.added_px:
        return f"{instance.lost_px} of its pixels lie in parts smaller than the bridges to them, and were left out"
    return f"the bridges between its parts cover {instance.added_px} pixels more"
