"""How both samples are drawn: flat outlines, painted back to front through a camera, and zips of the pictures.

Arithmetic on pixels is integer, and zips have no dates, so that they have the same bytes on every machine.
"""

from __future__ import annotations

import argparse
import math
import zipfile
from collections.abc import Iterable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

MAX_BYTES = 3_000_000
FULL = 240  # opacity 1.0; 4x4 subpixels make multiples of 15, so coverage is exact in integers
SUB = 4  # subpixels per pixel side when an outline is filled

Point = tuple[float, float]
Poly = list[Point]
Colour = tuple[int, int, int]  # blue, green, red, as OpenCV orders them
Image = NDArray[np.uint8]
Ints = NDArray[np.int32]
Rng = np.random.Generator


def bgr(*codes: str) -> list[Colour]:
    return [(int(code[4:6], 16), int(code[2:4], 16), int(code[0:2], 16)) for code in codes]


FABRICS = bgr(
    "f4f1ea",
    "20222a",
    "c8202f",
    "1f4fa8",
    "e8b820",
    "2e8b57",
    "7a3fa0",
    "ef7fa8",
    "e8702a",
    "8fd0ec",
    "24345c",
    "7b1e3a",
    "5b6b2f",
    "39b8b0",
    "b9a6dc",
    "8a5a34",
    "9aa0a8",
    "f0d9a8",
    "3d78d8",
    "a8d08d",
    "d94f70",
    "50545c",
    "146b6b",
    "f6c9c9",
)
SKINS = bgr("f3d3bd", "e6b894", "cf9a70", "a8714a", "7d5034", "5a3826")
HAIRS = bgr("2a1c14", "14110f", "5c3a1e", "a06a32", "d8b468", "8c2f1a", "8a8a8a")
BLACK, WHITE = (0, 0, 0), (255, 255, 255)


class Shape(NamedTuple):
    """A flat outline (the union of `polys`) with its paint; `owner` 0 belongs to no garment."""

    polys: list[Poly]
    colour: Colour
    owner: int = 0
    accent: Colour = WHITE
    pattern: str = "solid"
    angle: float = 0.0
    period: int = 30
    depth: int = 110  # how strongly the edges turn away from the light
    opacity: int = FULL
    clip: bool = False  # a detail drawn on what is visible of its owner; leaves the id map alone
    person: int = 0  # whom it is part of or worn or carried by; 0 for nobody, as on a mannequin


class Garment(NamedTuple):
    category: int
    owner: int
    colour: Colour
    accent: Colour
    pattern: str
    period: int
    neck: str
    sleeve: float  # length in arms: 0 none, 0.5 elbow, 1 wrist
    ease: float
    hem: float


class Scene(NamedTuple):
    shapes: list[Shape]
    garments: list[Garment]
    viewpoints: list[int]  # one per garment
    wearers: list[int]  # one per garment: the person, 0 for nobody
    frame: tuple[float, float, float, float]  # centre x, top y, bottom y, least width to show


class Camera(NamedTuple):
    scale: float
    cos: float
    sin: float
    flip: int
    x: float
    y: float

    def to_pixel(self, point: Point) -> Point:
        x, y = point[0] * self.flip, point[1]
        return (
            self.x + self.scale * (self.cos * x - self.sin * y),
            self.y + self.scale * (self.sin * x + self.cos * y),
        )


# ---------------------------------------------------------------- outlines


def pick(rng: Rng, options: list[Any]) -> Any:
    return options[int(rng.integers(len(options)))]


def smooth(points: Poly) -> Poly:
    """Two rounds of Chaikin corner cutting; a point given twice stays a corner."""
    for _ in range(2):
        points = [
            ((3 * a[0] + b[0]) / 4, (3 * a[1] + b[1]) / 4) if near else ((a[0] + 3 * b[0]) / 4, (a[1] + 3 * b[1]) / 4)
            for a, b in zip(points, points[1:] + points[:1], strict=True)
            for near in (True, False)
        ]
    return points


def ellipse(x: float, y: float, rx: float, ry: float, start: int = 0, stop: int = 360) -> Poly:
    turns = [math.radians(start + (stop - start) * k / 20) for k in range(21)]
    return [(x + rx * math.cos(t), y + ry * math.sin(t)) for t in turns]


def tube(p: Point, q: Point, wp: float, wq: float, round_end: bool = True) -> Poly:
    """A limb segment: round at p, round or cut off at q; convex, so that filling it is safe."""
    heading = math.atan2(q[1] - p[1], q[0] - p[0])
    back = [heading + math.pi / 2 + math.pi * k / 8 for k in range(9)]
    front = [heading - math.pi / 2 + math.pi * k / 8 for k in (range(9) if round_end else (0, 8))]
    return [(p[0] + wp * math.cos(t), p[1] + wp * math.sin(t)) for t in back] + [
        (q[0] + wq * math.cos(t), q[1] + wq * math.sin(t)) for t in front
    ]


def stroke(points: Poly, width: float) -> list[Poly]:
    return [tube(a, b, width / 2, width / 2) for a, b in pairwise(points)]


def between(p: Point, q: Point, share: float) -> Point:
    return (p[0] + (q[0] - p[0]) * share, p[1] + (q[1] - p[1]) * share)


def box(x0: float, y0: float, x1: float, y1: float) -> Poly:
    return [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]


def cloth(garment: Garment, polys: list[Poly], angle: float = 0.0, **changes: Any) -> Shape:
    return Shape(polys, garment.colour, garment.owner, garment.accent, garment.pattern, angle, garment.period)._replace(
        **changes
    )


def contrast(a: Colour, b: Colour) -> int:
    return sum(abs(p - q) for p, q in zip(a, b, strict=True))


def darker(colour: Colour) -> Colour:
    return (colour[0] * 6 // 10, colour[1] * 6 // 10, colour[2] * 6 // 10)


# ---------------------------------------------------------------- pictures


def noise(rng: Rng, height: int, width: int, grain: int, strength: int) -> Ints:
    """Soft noise around 0: random bytes on a coarse grid, enlarged and blurred."""
    coarse = rng.integers(0, 256, (height // grain + 2, width // grain + 2), dtype=np.uint8)
    big = np.repeat(np.repeat(coarse, grain, 0), grain, 1)[:height, :width]
    size = 2 * grain + 1
    return (cv2.GaussianBlur(big, (size, size), 0).astype(np.int32) - 128) * strength // 128


def backdrop(rng: Rng, kind: str, base: Colour, side: int = 400) -> Image:
    """A square wall, floor or view, larger than any photo, which takes a crop of it."""
    y, x = np.mgrid[0:side, 0:side].astype(np.int32)
    tones = rng.integers(-14, 15, 4096).astype(np.int32)
    tone = noise(rng, side, side, 24, 24)
    if kind == "brick":
        row = y // 16
        column = (x + (row & 1) * 18) // 36
        mortar = (y % 16 < 2) | ((x + (row & 1) * 18) % 36 < 2)
        tone = tone // 2 + np.where(mortar, 30, tones[(row * 64 + column) % 4096])
    elif kind == "planks":
        tone = tone // 2 + tones[x // 38] + np.where(x % 38 < 2, -45, 0) + ((x * 5 + y // 9) % 7)
    elif kind == "tiles":
        tone = tone // 2 + np.where((x % 44 < 2) | (y % 44 < 2), -34, tones[(y // 44) * 64 + x // 44] // 2)
    elif kind == "stripes":
        tone = tone // 2 + np.where((x // 22) % 2 == 0, 13, -13)
    elif kind == "curtain":
        tone = tone // 2 + np.abs(x % 30 - 15) * 3 - 22
    elif kind == "gradient":
        tone = tone // 2 + (y - side // 2) * int(rng.integers(-60, 61)) // side
    picture: Image = np.clip(np.array(base, np.int32) + tone[:, :, None], 0, 255).astype(np.uint8)
    if kind in ("city", "foliage"):
        for _ in range(110 if kind == "foliage" else 45):
            shift = int(rng.integers(-34, 35)) + rng.integers(-10, 11, 3)
            colour = [int(v) for v in np.clip(np.array(base) + shift, 0, 255)]
            cx, cy, w, h = (int(v) for v in rng.integers([0, 0, 9, 12], [side, side, 34, 70]))
            if kind == "city":
                cv2.rectangle(picture, (cx - w, cy - h), (cx + w, cy + h), colour, -1)
            else:
                cv2.ellipse(picture, (cx, cy), (w // 2 + 4, h // 2), int(rng.integers(180)), 0, 360, colour, -1)
        picture = cv2.GaussianBlur(picture, (15, 15) if kind == "city" else (5, 5), 0).astype(np.uint8)
    return picture


BACKDROPS = [
    ("brick", "b0705a"),
    ("brick", "d8d2c8"),
    ("planks", "b08a60"),
    ("planks", "7a6a58"),
    ("tiles", "c8d4d8"),
    ("tiles", "8fb0a8"),
    ("stripes", "d8c8b0"),
    ("stripes", "a8b8c8"),
    ("curtain", "9a8a9a"),
    ("gradient", "c8ccd4"),
    ("gradient", "88a0b8"),
    ("gradient", "e0b8a0"),
    ("city", "8a94a0"),
    ("city", "c0b0a0"),
    ("foliage", "5a8050"),
    ("foliage", "8aa860"),
    ("plaster", "d8d0c0"),
    ("plaster", "9c8f80"),
    ("plaster", "b8c8b8"),
]


def fill(polys: list[Poly], camera: Camera, width: int, height: int) -> tuple[Ints, int, int] | None:
    """Coverage 0..FULL of an outline over the part of its bounding box near the picture, and its corner."""
    pixels = [[camera.to_pixel(p) for p in poly] for poly in polys]
    xs, ys = [p[0] for poly in pixels for p in poly], [p[1] for poly in pixels for p in poly]
    x0, x1 = max(-24, math.floor(min(xs)) - 2), min(width + 24, math.ceil(max(xs)) + 2)
    y0, y1 = max(-24, math.floor(min(ys)) - 2), min(height + 24, math.ceil(max(ys)) + 2)
    if x1 <= max(x0, 0) or y1 <= max(y0, 0) or x0 >= width or y0 >= height:
        return None
    fine = np.zeros(((y1 - y0) * SUB, (x1 - x0) * SUB), np.uint8)
    for poly in pixels:
        fixed = [[round(((x - x0) * SUB - 0.5) * 16), round(((y - y0) * SUB - 0.5) * 16)] for x, y in poly]
        cv2.fillPoly(fine, [np.array(fixed, np.int32)], FULL, cv2.LINE_8, 4)
    return cv2.resize(fine, (x1 - x0, y1 - y0), interpolation=cv2.INTER_AREA).astype(np.int32), x0, y0


def weave(shape: Shape, camera: Camera, x0: int, y0: int, like: Ints) -> Ints:
    """Share 0..FULL of the accent colour at each pixel, in the cloth's own turned coordinates."""
    cos, sin = math.cos(shape.angle), math.sin(shape.angle)
    ax, ay = camera.flip * camera.cos / camera.scale, camera.flip * camera.sin / camera.scale
    bx, by = -camera.sin / camera.scale, camera.cos / camera.scale
    rows = []
    for kx, ky in ((cos * ax + sin * bx, cos * ay + sin * by), (-sin * ax + cos * bx, -sin * ay + cos * by)):
        fx, fy = round(kx * 65536), round(ky * 65536)  # 1/16 scene units, 12 bits below
        start = round(((x0 - camera.x) * kx + (y0 - camera.y) * ky) * 65536)
        xs, ys = np.arange(like.shape[1]) * fx, np.arange(like.shape[0]) * fy
        rows.append(((xs[None, :] + ys[:, None] + start) >> 12).astype(np.int32))
    (u, v), period, pixel = rows, shape.period * 16, round(16 / camera.scale)

    def bands(t: Ints) -> Ints:
        edge = np.abs(t % period - period // 2) - period // 4
        return np.asarray(np.clip(FULL // 2 + edge * FULL // pixel, 0, FULL), np.int32)

    if shape.pattern == "hstripes":
        return bands(v)
    if shape.pattern == "vstripes":
        return bands(u)
    if shape.pattern == "checks":
        return (bands(u) + bands(v)) // 2
    du, dv = u % period - period // 2, (v + (u // period & 1) * (period // 2)) % period - period // 2
    radius = period // 4
    edge = (radius * radius - du * du - dv * dv) // (2 * radius)
    return np.asarray(np.clip(FULL // 2 + edge * FULL // pixel, 0, FULL), np.int32)


class Painted(NamedTuple):
    picture: Image
    ids: Image  # the garment that owns each pixel, 0 for none
    people: Image  # the person whom each pixel shows, with all that is worn and carried; 0 for none
    whole: list[int]  # for each garment its area inside the frame if nothing hid it


def paint(scene: Scene, camera: Camera, canvas: Image, wrinkles: Ints) -> Painted:
    height, width = canvas.shape[:2]
    picture, ids = canvas.astype(np.int32), np.zeros((height, width), np.uint8)
    people = np.zeros((height, width), np.uint8)
    whole = [np.zeros((height, width), bool) for _ in range(len(scene.garments) + 1)]
    for shape in scene.shapes:
        filled = fill(shape.polys, camera, width, height)
        if filled is None:
            continue
        alpha, x0, y0 = filled
        cut = (slice(max(0, -y0), height - y0), slice(max(0, -x0), width - x0))
        there = (
            slice(max(y0, 0), min(height, y0 + alpha.shape[0])),
            slice(max(x0, 0), min(width, x0 + alpha.shape[1])),
        )
        colour = np.array(shape.colour, np.int32)[None, None, :]
        if shape.pattern in ("hstripes", "vstripes", "checks", "dots"):
            share = weave(shape, camera, x0, y0, alpha)[cut][:, :, None]
            colour = (colour * (FULL - share) + np.array(shape.accent, np.int32) * share) // FULL
        if shape.depth:
            reach = max(3, min(alpha.shape) // 3) | 1
            soft = cv2.GaussianBlur(alpha.astype(np.uint8), (reach, reach), 0).astype(np.int32)
            slope = soft - np.roll(soft, (reach // 4, reach // 4), (0, 1))
            light = 256 - (FULL - soft) * shape.depth // 200 - np.clip(-slope, -30, 60) // 3
            light = light[cut] + (wrinkles[there] if shape.owner else 0)
            colour = colour * light[:, :, None] >> 8
        alpha = alpha[cut]
        if shape.clip:
            alpha = np.where(ids[there] == shape.owner, alpha, 0)
        else:
            ids[there][alpha >= FULL // 2] = shape.owner
            people[there][alpha >= FULL // 2] = shape.person
            whole[shape.owner][there] |= alpha >= FULL // 2
        alpha = (alpha * shape.opacity // FULL)[:, :, None]
        mixed = np.clip(colour, 0, 255) * alpha + picture[there] * (FULL - alpha)
        picture[there] = (mixed + FULL // 2) // FULL
    return Painted(picture.astype(np.uint8), ids, people, [int(mask.sum()) for mask in whole])


def to_jpeg(picture: NDArray[np.integer], quality: int) -> bytes:
    """Values below 0 are black, above 255 white."""
    pixels = np.clip(picture, 0, 255).astype(np.uint8)
    ok, data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_OPTIMIZE, 1])
    if not ok:
        raise RuntimeError("OpenCV could not encode a JPEG")
    return bytes(data)


# ---------------------------------------------------------------- files


def write_zip(files: Mapping[str, bytes], out: Path) -> None:
    """Photos are stored as they are, all else is compressed."""
    partial = out.with_name(out.name + ".partial")
    with zipfile.ZipFile(partial, "w") as archive:
        for name, data in sorted(files.items()):
            info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            info.create_system, info.external_attr = 3, 0o100644 << 16
            info.compress_type = zipfile.ZIP_STORED if name.endswith(".jpg") else zipfile.ZIP_DEFLATED
            archive.writestr(info, data, compresslevel=9)
    if partial.stat().st_size > MAX_BYTES:
        raise SystemExit(f"{partial} has {partial.stat().st_size} bytes, more than {MAX_BYTES}")
    partial.replace(out)


def write_contact_sheet(pictures: Iterable[Image], out: Path, columns: int, rows: int, cell: int) -> None:
    """Pictures side by side, each at the corner of a square of `cell` pixels and made smaller where it does not fit."""
    sheet = np.full((rows * cell, columns * cell, 3), 255, np.uint8)
    for k, picture in enumerate(pictures):
        shrink = min(1.0, (cell - 2) / max(picture.shape[:2]))
        small = cv2.resize(picture, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
        y, x = k // columns * cell, k % columns * cell
        sheet[y : y + small.shape[0], x : x + small.shape[1]] = small
    cv2.imwrite(str(out), sheet)


def sample_parser(description: str | None, sample: Path) -> argparse.ArgumentParser:
    """What both scripts are called with."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("zip", nargs="?", type=Path, default=sample)
    parser.add_argument("--contact-sheet", type=Path, metavar="PNG", help="draw this sheet from the zip instead")
    parser.add_argument("--first", type=int, default=0, help="first picture of the sheet")
    return parser
