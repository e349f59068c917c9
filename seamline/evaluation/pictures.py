"""Pictures of judged images: the truth on the left, what was predicted on the right, mistakes by name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pycocotools.coco import COCO

from seamline.evaluation.mistakes import Judged, is_false
from seamline.images.colours import class_colour, hex_to_bgr
from seamline.images.overlays import in_a_row, overlay, record_to_shape, to_jpeg
from seamline.images.reading import Image, read_image


def write_pictures(judged: Sequence[Judged], truth: COCO, kind: str, images: Path, out: Path) -> None:
    """A JPEG of each image, named by the image's id, into `out`, which is made."""
    out.mkdir(parents=True, exist_ok=True)
    for image in judged:
        photo = read_image(images / truth.imgs[image.image_id]["file_name"])
        picture = truth_beside_prediction(image, truth, kind, photo)
        (out / f"{image.image_id}.jpg").write_bytes(to_jpeg(picture))


def truth_beside_prediction(judged: Judged, truth: COCO, kind: str, image: Image) -> Image:
    """Masks, or boxes, in the photo twice; a class has one colour in all pictures."""
    order = sorted(truth.cats)
    colour_of = {number: hex_to_bgr(class_colour(index)) for index, number in enumerate(order)}
    name_of = {number: truth.cats[number]["name"] for number in order}
    actual = [
        record_to_shape(
            {"segmentation": truth.annToRLE(record)} if kind == "mask" else {"bbox": record["bbox"]},
            colour_of[record["category_id"]],
            name_of[record["category_id"]],
            ": missed" if index in judged.missed else "",
        )
        for index, record in enumerate(judged.instances)
    ]
    found = [
        record_to_shape(
            record,
            colour_of[record["category_id"]],
            name_of[record["category_id"]],
            f" {record['score']:.2f}" + (f": {verdict}" if is_false(verdict) else ""),
        )
        for record, verdict in zip(judged.predictions, judged.verdicts, strict=True)
    ]
    return in_a_row([overlay(image, actual), overlay(image, found)])
