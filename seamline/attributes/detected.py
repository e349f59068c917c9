"""Attributes end to end: garments as the detector found them, where their true outlines are known.

A garment that was not found has no attributes, and counts as wrong in all of them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from seamline.attributes.labelled import MISSING, Example, Ints
from seamline.base.coco import Record, read_coco
from seamline.base.files import read_json
from seamline.images.cutouts import Background, cut_out
from seamline.images.reading import Image, read_image
from seamline.masks.rle import rle_to_crop
from seamline.models.attribute_facts import AttributeFacts
from seamline.models.boxes import Boxes, bboxes_to_boxes, box_ious

FOUND_IOU = 0.5  # of a garment's box with that of a detection that gets attributes, from which on it was found


def detected_parts(
    examples: Sequence[Example],
    records: Sequence[Record],
    file_names: dict[int, str],
    images: Path,
    margin: float,
    background: Background,
) -> tuple[list[Image], Ints]:
    """What is cut out around the detections of garments, and whose it is.

    Args:
        examples: garments with boxes.
        records: COCO results on their photos.
        file_names: of the photos, by the id that the results name.
        images: folder of the photos.

    Returns:
        The cut-outs of the garments that were found, and the position among them of each garment, (examples,), or
        MISSING.
    """
    found_in, shown_in = defaultdict(list), defaultdict(list)
    for record in records:
        found_in[file_names[record["image_id"]]].append(record)
    for index, example in enumerate(examples):
        shown_in[example.file_name].append(index)
    parts: list[Image] = []
    positions = np.full(len(examples), MISSING, np.int64)
    for file_name, indices in sorted(shown_in.items()):
        there = found_in[file_name]
        pairs = matched(
            np.array([examples[index].box for index in indices]), bboxes_to_boxes([one["bbox"] for one in there])
        )
        image = read_image(images / file_name) if pairs else None
        for own, other in pairs:
            mask = rle_to_crop(there[other]["segmentation"]) if "segmentation" in there[other] else None
            box = bboxes_to_boxes([there[other]["bbox"]])[0].astype(np.float32)
            positions[indices[own]] = len(parts)
            parts.append(cut_out(np.asarray(image), box, mask, margin, background))
    return parts, positions


def matched(boxes: Boxes, found: Boxes) -> list[tuple[int, int]]:
    """Which garment was found as which detection: those that overlap most first, each once."""
    ious = box_ious(boxes, found)
    pairs = []
    while ious.size and ious.max() >= FOUND_IOU:
        own, other = np.unravel_index(ious.argmax(), ious.shape)
        pairs.append((int(own), int(other)))
        ious[own], ious[:, other] = 0, 0
    return sorted(pairs)


def read_results(
    predictions: Path, split: Path, confidence: float, facts: AttributeFacts
) -> tuple[list[Record], dict[int, str]]:
    """A split's COCO results of at least this score and of classes that get attributes, and its photos' names by id.

    Args:
        predictions: folder of the evaluate stage.
        split: the split's COCO file, such as data/split/test.json.
        facts: of the model of attributes.

    Raises:
        SeamlineError: when they are not there.
    """
    path = predictions / f"{split.stem}_mask.json"
    records = read_json(path if path.is_file() else predictions / f"{split.stem}_box.json")
    coco = read_coco(split)
    categories = coco.category_refs()
    known = {categories[index].id for index in facts.indices_of([one.name for one in categories])}
    names = {ref.id: ref.file_name for ref in coco.image_refs()}
    return [one for one in records if one["score"] >= confidence and one["category_id"] in known], names
