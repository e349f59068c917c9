"""Which embedder, and which way of cutting garments out: measured on photos whose garments are known; prints Markdown.

Two questions, which have different answers: is the nearest garment of another photo of the same kind (its class), and,
where items are known (equal pair_id, class and style), is it the same item? Masks are those of the annotations.

Example: python -m bench.embedder_ways data/raw/annotations.json data/raw/images models/embedder/openvino
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
from pycocotools.coco import COCO
from scipy.special import stdtrit
from tqdm import tqdm

from seamline.base.coco import Record
from seamline.base.errors import SeamlineError
from seamline.base.process import run
from seamline.evaluation.average_precision import read_ground_truth
from seamline.images.cutouts import Background, squares_to_tensor
from seamline.images.reading import Image, read_image
from seamline.inference.embedder import Embedder, Vectors, garment_to_square, image_to_square
from seamline.inference.threads import limit_other_threads
from seamline.inference.truth import Photo, photos_of
from seamline.models.detections import Detections
from seamline.models.embedder_facts import EmbedderFacts

DECIMALS = 4
AMONG = 10
NONE = -1
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("truth", type=Path, help="COCO file, such as data/raw/annotations.json")
    parser.add_argument("images", type=Path, help="folder of its images, such as data/raw/images")
    parser.add_argument("models", type=Path, nargs="+", help="embedders, such as models/embedder/openvino")
    parser.add_argument("--margins", type=float, nargs="+", help="around boxes (default: each embedder's own)")
    parser.add_argument("--group", default="pair_id", help="field of photos that belong together (default: pair_id)")
    parser.add_argument("--without", nargs="*", default=[], help="classes to leave out, such as person")
    parser.add_argument("--threads", type=int, help="default: all cores")
    args = parser.parse_args()

    limit_other_threads()
    truth = without_classes(read_ground_truth(args.truth), args.without)
    embedders = {str(path): Embedder(path, args.threads) for path in args.models}
    print("\n".join(rows_to_table(compare(truth, args.images, embedders, args.margins, args.group))))


def without_classes(truth: COCO, names: Sequence[str]) -> COCO:
    """In place."""
    left_out = {number for number, category in truth.cats.items() if category["name"] in names}
    for number, own in truth.imgToAnns.items():
        truth.imgToAnns[number] = [one for one in own if one["category_id"] not in left_out]
    return truth


def rows_to_table(rows: Sequence[Record]) -> list[str]:
    """Markdown: each measure, and in brackets its difference from the first row with that one's interval."""
    lines = [
        "| model | garment | margin | " + " | ".join(Shares._fields) + " |",
        "| --- " * (3 + len(Shares._fields)) + "|",
    ]
    for row in rows:
        cells = []
        for measure in Shares._fields:
            value, apart = row[measure], (row.get("difference") or {}).get(measure)
            span = f" ({apart[0]:+.3f}; {apart[1]:+.3f} to {apart[2]:+.3f})" if apart and any(apart) else ""
            cells.append("" if value is None else f"{value:.3f}{span}")
        margin = "" if row.get("background") is None else f"{row['margin']:g}"
        lines.append(f"| {row['model']} | {row['way']} | {margin} | " + " | ".join(cells) + " |")
    return lines


class Way(NamedTuple):
    """How a garment is shown to an embedder."""

    name: str
    background: Background | None  # None: the whole photo
    margin: float = 0.0


WHOLE_PHOTO = Way("whole photo", None)


class Known(NamedTuple):
    """What is known of each garment, as numbers that are equal where it is."""

    photo: Ints
    group: Ints  # photos that belong together
    kind: Ints  # class
    item: Ints  # NONE where it is not known


class Shares(NamedTuple):
    """Of each garment, (n,): 0 to 1, or nan where it does not count."""

    kind_at_1: Floats  # whether the nearest garment of another photo is of its class
    kind_at_10: Floats  # the share of the ten nearest that is
    item_at_1: Floats  # whether the nearest is the same item; only garments whose item is in another photo count
    item_at_10: Floats  # whether one of the ten nearest is


def ways_of(margins: Sequence[float]) -> list[Way]:
    """The box with its background, both masks, and the whole photo."""
    backgrounds: list[tuple[str, Background]] = [("box", "keep"), ("mask, white", "white"), ("mask, mean", "mean")]
    return [*(Way(name, background, margin) for margin in margins for name, background in backgrounds), WHOLE_PHOTO]


def compare(
    truth: COCO, images: Path, embedders: Mapping[str, Embedder], margins: Sequence[float] | None, group: str
) -> list[Record]:
    """A row for each embedder and way, with its difference from the first row and that one's interval.

    Args:
        truth: photos with their garments.
        images: folder of the image files.
        embedders: by the names that they are to have.
        margins: around boxes; None: each embedder's own.
        group: field of the images' records; photos with one value are one observation, and may show one item.

    Raises:
        SeamlineError: when fewer than two photos show a garment.
        ImageError: when a photo cannot be read.
    """
    photos = list(photos_of(truth, images))
    if len(photos) < 2:
        raise SeamlineError("the embedders cannot be compared: fewer than two photos show a garment.")
    known = photos_to_known(photos, group)
    rows: list[Record] = []
    first: Shares | None = None
    for name, embedder in embedders.items():
        for way in ways_of(margins or [embedder.facts.margin]):
            vectors = vectors_of(embedder, photos, way, f"{name}, {way.name}")
            shares = shares_of(vectors, known)
            first = first or shares
            rows.append(
                {
                    "model": name,
                    "way": way.name,
                    "background": way.background,
                    "margin": way.margin,
                    **{measure: mean(values) for measure, values in shares._asdict().items()},
                    "difference": {
                        measure: difference(values, getattr(first, measure), known.group)
                        for measure, values in shares._asdict().items()
                    },
                }
            )
    chance = {measure: mean(values) for measure, values in chance_of(known)._asdict().items()}
    return [*rows, {"model": "chance", "way": "", **chance}]


def photos_to_known(photos: Sequence[Photo], group: str) -> Known:
    """DeepFashion2's truth of items: equal pair_id (the group), class and style above 0."""
    groups = [photo.record.get(group) for photo in photos]
    own = [
        ("photo", photo.record["id"]) if value is None else ("group", value)
        for photo, value in zip(photos, groups, strict=True)
    ]
    counts = [len(photo.found) for photo in photos]
    items: list[Any] = []
    for photo, value in zip(photos, groups, strict=True):
        for one in photo.garments:
            style = one.get("style")
            is_known = value is not None and isinstance(style, int) and style > 0
            items.append((value, one["category_id"], style) if is_known else None)
    return Known(
        np.repeat(np.arange(len(photos)), counts),
        np.repeat(numbered(own), counts),
        numbered([one["category_id"] for photo in photos for one in photo.garments]),
        np.where([item is None for item in items], NONE, numbered(items)),
    )


def numbered(values: Sequence[Any]) -> Ints:
    """A number for each value, the same for equal ones."""
    seen: dict[str, int] = {}
    return np.array([seen.setdefault(repr(value), len(seen)) for value in values], np.int64)


def vectors_of(embedder: Embedder, photos: Sequence[Photo], way: Way, label: str) -> Vectors:
    """(n, dimension) of all garments of the photos, shown that way."""
    facts = msgspec.structs.replace(embedder.facts, background=way.background or "keep", margin=way.margin)
    made = []
    for photo in tqdm(photos, label, unit="photo", disable=None):
        image = read_image(photo.file)
        squares = [square_of(image, photo.found, index, facts, way) for index in range(len(photo.found))]
        made.append(embedder.embed_tensor(squares_to_tensor(squares, facts.mean, facts.std)))
    return np.concatenate(made)


def square_of(image: Image, found: Detections, index: int, facts: EmbedderFacts, way: Way) -> Image:
    if way.background is None:
        return image_to_square(image, facts)
    return garment_to_square(image, found, index, facts)


def shares_of(vectors: Vectors, known: Known) -> Shares:
    """Ties are broken by the order of the garments."""
    likeness = vectors.astype(np.float64) @ vectors.T.astype(np.float64)
    likeness[known.photo[:, None] == known.photo[None]] = -np.inf
    nearest = np.argsort(-likeness, axis=1, kind="stable")[:, :AMONG]
    others = np.take_along_axis(likeness, nearest, axis=1) > -np.inf
    of_kind = (known.kind[nearest] == known.kind[:, None]) & others
    of_item = (known.item[nearest] == known.item[:, None]) & others
    counts = has_another(known)

    def counting(values: npt.NDArray[Any]) -> Floats:
        return np.where(counts, values, np.nan)

    return Shares(
        of_kind[:, 0].astype(np.float64),
        of_kind.sum(axis=1) / np.maximum(others.sum(axis=1), 1),
        counting(of_item[:, 0]),
        counting(of_item.any(axis=1)),
    )


def has_another(known: Known) -> npt.NDArray[np.bool_]:
    """Of which garments the item is in another photo."""
    same = (known.item[:, None] == known.item[None]) & (known.photo[:, None] != known.photo[None])
    found: npt.NDArray[np.bool_] = same.any(axis=1) & (known.item != NONE)
    return found


def chance_of(known: Known) -> Shares:
    """The same, expected of neighbours that are drawn from all garments of other photos."""
    elsewhere = known.photo[:, None] != known.photo[None]
    others = np.maximum(elsewhere.sum(axis=1), 1)
    kind = ((known.kind[:, None] == known.kind[None]) & elsewhere).sum(axis=1) / others
    items = ((known.item[:, None] == known.item[None]) & elsewhere).sum(axis=1)
    counts = has_another(known)
    at_10 = [1 - miss_of_all(int(n), int(right)) for n, right in zip(others, items, strict=True)]
    return Shares(kind, kind, np.where(counts, items / others, np.nan), np.where(counts, at_10, np.nan))


def miss_of_all(others: int, right: int) -> float:
    """How probable it is that ten drawn without replacement are all wrong."""
    return math.prod(max(others - right - drawn, 0) / (others - drawn) for drawn in range(min(AMONG, others)))


def mean(values: Floats) -> float | None:
    return None if np.isnan(values).all() else round(float(np.nanmean(values)), DECIMALS)


def difference(values: Floats, reference: Floats, groups: Ints) -> list[float] | None:
    """Mean difference, and the low and high end of its 95% interval; None where fewer than two groups count.

    Garments of one group are not independent: the interval is Student's, of sums over groups (Liang and Zeger 1986,
    Longitudinal data analysis using generalized linear models), as many degrees of freedom as groups less one.
    """
    differences = values - reference
    counts = ~np.isnan(differences)
    _, group = np.unique(groups[counts], return_inverse=True)
    number = int(group.max(initial=-1)) + 1
    if number < 2:
        return None
    value = float(differences[counts].mean())
    sums = np.bincount(group, weights=differences[counts] - value)
    half = float(stdtrit(number - 1, 0.975)) * math.sqrt(number / (number - 1) * float((sums**2).sum())) / counts.sum()
    return [round(one, DECIMALS) for one in (value, value - half, value + half)]


if __name__ == "__main__":
    run(main)
