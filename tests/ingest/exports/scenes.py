"""Photos with garments whose masks are known pixel by pixel, and what an export of them has to become."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]  # (height, width)
Outline = list[tuple[int, int]]  # corners (x, y)

WIDTH, HEIGHT = 112, 88  # not equal, so that a swap of the two is seen
LABELS = ("shirt", "skirt")


@dataclass(frozen=True)
class Garment:
    """One instance. Its parts and its hole have corners between pixels, at whole numbers."""

    label: str
    parts: tuple[Outline, ...]
    hole: Outline | None = None

    @property
    def mask(self) -> Mask:
        """Every pixel whose centre lies in a part and not in the hole: drawn by that rule, by no library."""
        mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
        for part in self.parts:
            mask |= inside(part)
        return mask if self.hole is None else mask & ~inside(self.hole)


@dataclass(frozen=True)
class Scene:
    """One photo: `name` without suffix."""

    name: str
    seed: int
    garments: tuple[Garment, ...]


@dataclass(frozen=True)
class Shown:
    """One instance that a photo shows, as it has to come out."""

    label: str
    mask: Mask
    crowd: bool = False


@dataclass
class Export:
    """What a writer has written, and what has to become of it."""

    source: Path  # folder or archive
    shown: dict[str, list[Shown]]  # sha256 of every photo -> what it shows
    dropped: dict[str, int] = field(default_factory=dict)  # reason -> how many, of pull
    unlisted: int | None = 0  # image files without a record; None: a matter of taste
    versions: list[set[str]] = field(default_factory=list)  # photos that are one photo's versions
    splits: dict[str, str] = field(default_factory=dict)  # sha256 of a photo -> train, val or test, where the tool says


def inside(outline: Sequence[tuple[int, int]]) -> Mask:
    """Whether each pixel's centre lies inside, by the even-odd rule."""
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    result = np.zeros((HEIGHT, WIDTH), dtype=bool)
    for (x0, y0), (x1, y1) in zip(outline, [*outline[1:], outline[0]], strict=True):
        if y0 == y1:
            continue
        crosses = (y > min(y0, y1)) & (y < max(y0, y1))
        result ^= crosses & (x < x0 + (y - y0) * (x1 - x0) / (y1 - y0))
    return result


def rectangle(left: int, top: int, right: int, bottom: int) -> Outline:
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def scenes(count: int = 10) -> list[Scene]:
    """Photos of a shirt and a skirt; the third shows a shirt in two parts, the fourth a skirt with a hole."""
    result = []
    for number in range(count):
        x, y = 4 + 3 * (number % 7), 3 + 2 * (number % 5)
        corners = [(0, 0), (44, 0), (44, 14), (30, 14), (30, 30), (0, 30)]
        shirt = Garment("shirt", ([(x + right, y + down) for right, down in corners],))
        skirt = Garment("skirt", ([(x + 20, y + 38), (x + 52, y + 38), (x + 68, y + 70), (x + 8, y + 70)],))
        if number == 2:
            shirt = Garment("shirt", (rectangle(x, y, x + 20, y + 30), rectangle(x + 28, y, x + 52, y + 30)))
        if number == 3:
            skirt = Garment("skirt", (rectangle(x, y + 36, x + 60, y + 74),), rectangle(x + 20, y + 48, x + 40, y + 62))
        result.append(Scene(f"look{number:02d}", 100 + number, (shirt, skirt)))
    return result


def pixels(scene: Scene) -> npt.NDArray[np.uint8]:
    """The photo: (height, width, 3). Blocks of noise, so that no two are near-duplicates, brighter on garments."""
    rng = np.random.default_rng(scene.seed)
    coarse = rng.integers(0, 150, (11, 14, 3), dtype=np.uint8)
    photo = cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_NEAREST)
    for garment in scene.garments:
        photo[garment.mask] += 60
    return np.asarray(photo, dtype=np.uint8)


def write_photo(path: Path, photo: npt.NDArray[Any]) -> str:
    """Returns its digest, by which it is known wherever it comes out."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(path.suffix, photo)[1].tobytes())
    return digest(path)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def shown_in(scene: Scene) -> list[Shown]:
    return [Shown(garment.label, garment.mask) for garment in scene.garments]


def flat(outline: Sequence[tuple[int, int]]) -> list[float]:
    """COCO's polygon: x, y, x, y, ..."""
    return [float(value) for corner in outline for value in corner]


def runs(mask: Mask) -> list[int]:
    """COCO's uncompressed RLE: lengths column by column, the first of background."""
    values = mask.ravel(order="F")
    changes = np.flatnonzero(np.diff(values)) + 1
    lengths = np.diff([0, *changes.tolist(), len(values)]).tolist()
    return [0, *lengths] if values[0] else lengths


def box_of(mask: Mask) -> list[int]:
    """Left, top, width, height of a mask's pixels."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return [int(columns[0]), int(rows[0]), int(columns[-1] - columns[0] + 1), int(rows[-1] - rows[0] + 1)]


def corners_box(outlines: Sequence[Sequence[tuple[int, int]]]) -> list[float]:
    """Left, top, width, height of corners."""
    points = np.array([corner for outline in outlines for corner in outline], dtype=float)
    low, high = points.min(axis=0), points.max(axis=0)
    return [*low.tolist(), *(high - low).tolist()]


def zipped(folder: Path, archive: Path, prefix: str = "") -> Path:
    """A folder's files as a zip, as tools hand exports out: no entries for folders."""
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as stream:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            stream.write(path, prefix + path.relative_to(folder).as_posix())
    return archive
