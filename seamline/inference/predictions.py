"""A split's images through a detector: the records that every average precision is computed from."""

from __future__ import annotations

from pathlib import Path

from tqdm import tqdm

from seamline.base.coco import Record, read_coco
from seamline.base.errors import SeamlineError
from seamline.images.reading import ImageError
from seamline.inference.detector import Detector


def predict_split(detector: Detector, split_file: Path, images: Path, label: str) -> list[Record]:
    """COCO results of every image of a split, in the order of the image ids; without masks where the model has none.

    Args:
        detector: its confidence and limits decide what is reported.
        split_file: the split's COCO file.
        images: folder of the image files.
        label: what the progress bar says.

    Raises:
        SeamlineError: when the model's classes are not those of the split, in their order.
    """
    coco = read_coco(split_file)
    category_ids = [category.id for category in coco.category_refs()]
    names = [category.name for category in coco.category_refs()]
    if detector.names != names:
        raise SeamlineError(
            f"{split_file}: its classes are {', '.join(names)}, but those of the model {', '.join(detector.names)}; "
            "a model is evaluated on data of the classes it was trained on, in their order."
        )
    refs = sorted(coco.image_refs(), key=lambda ref: ref.id)
    found = detector.detect_all(images / ref.file_name for ref in refs)
    results: list[Record] = []
    for ref, detections in tqdm(zip(refs, found, strict=True), label, len(refs), unit="image", disable=None):
        if isinstance(detections, ImageError):
            raise detections
        results += detections.to_coco(ref.id, category_ids)
    return results
