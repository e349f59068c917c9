"""Draw Seamline's second sample: some 760 pictures of T-shirts with a CSV of their attributes, in one zip.

It has the form of a student project's data: a folder of photos that a T-shirt fills, and attributes.csv with the
columns filename, neck, sleeve_length and pattern, whose values are codes. `#N/A` is a value that nobody gave, about
every third. As in real ones, rows are repeated, some contradict each other, some name a photo that is not there, some
photos have no row, one photo is damaged, and some were saved twice under two names.

What a T-shirt is was drawn, never written: the attributes are shapes, in two styles (painted and inked), laid flat,
hung or worn, from skewed cameras, in colours that have nothing to do with them, with folds, noise and things in front.
Shapes, cameras and painting are those of the garments, so the zip has the same bytes on every machine.

    python -m samples.make_tshirts [OUT.zip]               # default: tshirts.zip beside this script
    python -m samples.make_tshirts --complete all.zip      # the same photos, and every value in the CSV
    python -m samples.make_tshirts --contact-sheet x.png   # look at pictures of the zip
"""

from __future__ import annotations

import csv
import io
import math
import zipfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from samples.drawing import (
    BACKDROPS,
    BLACK,
    FABRICS,
    FULL,
    HAIRS,
    SKINS,
    WHITE,
    Camera,
    Colour,
    Garment,
    Image,
    Point,
    Poly,
    Rng,
    Scene,
    Shape,
    backdrop,
    between,
    bgr,
    box,
    cloth,
    contrast,
    darker,
    ellipse,
    noise,
    paint,
    pick,
    sample_parser,
    smooth,
    stroke,
    to_jpeg,
    tube,
    write_contact_sheet,
    write_zip,
)
from samples.make_garments import SHORT_TOP

SEED = 20281
JPEG_QUALITY = 52
SIZES = [(160, 176), (160, 176), (152, 184), (168, 168), (176, 160)]  # width, height
MISSING = "#N/A"

# Value, its code and how many T-shirts have it, of the SHIRTS.
Values = tuple[tuple[str, int, int], ...]
ATTRIBUTES: dict[str, Values] = {
    "neck": (("round", 0, 270), ("v", 1, 215), ("collar", 2, 160), ("high", 3, 95)),
    "sleeve_length": (("sleeveless", 0, 120), ("short", 1, 300), ("elbow", 2, 105), ("long", 3, 215)),
    "pattern": (("solid", 0, 180), ("striped", 1, 200), ("checked", 2, 130), ("dotted", 3, 95), ("printed", 4, 135)),
}
SHIRTS = 740
# Photos saved a second time under another name: the same bytes, or a little brighter and smaller.
COPIES, RESAVED = 6, 18
REPEATED_ROWS, CONTRADICTIONS, COMPLETIONS = 54, 14, 8
ROWS_WITHOUT_PHOTO, PHOTOS_WITHOUT_ROW = 17, 9

INK = (46, 40, 38)
PAPERS = bgr("f6f2e8", "ffffff", "e8eef2", "f2e6e0", "e4efe2", "30343c", "4a3c48", "d8c8a8", "7f93a8", "b86a5c")


class Shirt(NamedTuple):
    """What is drawn; lengths in scene units, of which a T-shirt is some 200 wide."""

    values: dict[str, str]
    inked: bool
    presented: str  # flat, hanger or worn
    garment: Garment
    shoulder: float  # half of the width, as the next ones
    neck: float
    chest: float
    hem_width: float
    drop: float  # of the shoulders
    arms: list[tuple[Point, Point, Point]]  # shoulder, elbow, wrist of the +x side, then of the -x side
    ink_width: float


# ---------------------------------------------------------------- T-shirts


def make_shirt(rng: Rng, values: dict[str, str]) -> Shirt:
    inked = bool(rng.random() < 0.45)
    colour, accent = two_colours(rng)
    word = {"striped": pick(rng, ["hstripes", "hstripes", "vstripes"]), "checked": "checks", "dotted": "dots"}
    period = {"striped": (16, 34), "checked": (20, 36), "dotted": (20, 32)}.get(values["pattern"], (20, 21))
    reach = {"sleeveless": (0, 0), "short": (0.26, 0.38), "elbow": (0.55, 0.66), "long": (0.96, 1.0)}
    garment = Garment(
        SHORT_TOP,
        1,
        colour,
        accent,
        word.get(values["pattern"], "solid"),
        int(rng.integers(*period)),
        values["neck"],
        float(rng.uniform(*reach[values["sleeve_length"]])),
        float(rng.uniform(0, 10)),
        float(rng.uniform(178, 226)),
    )
    shoulder, chest = float(rng.uniform(70, 88)), float(rng.uniform(60, 80))
    presented = pick(rng, ["flat", "hanger", "worn", "worn"])
    half_neck = float(rng.uniform(29, 38))
    hem_width = chest + float(rng.uniform(-6, 14))
    drop = float(rng.uniform(10, 24))
    arms = make_arms(rng, shoulder, drop, presented, garment.sleeve)
    width = float(rng.uniform(3.2, 5.2))
    return Shirt(values, inked, presented, garment, shoulder, half_neck, chest, hem_width, drop, arms, width)


def two_colours(rng: Rng) -> tuple[Colour, Colour]:
    """Of the cloth and of what is printed on it, so far apart that the pattern is seen in grey too."""
    while True:
        first, second = (jittered(rng, pick(rng, FABRICS)) for _ in range(2))
        if contrast(first, second) > 90 and abs(sum(first) - sum(second)) > 130:
            return first, second


def jittered(rng: Rng, colour: Colour) -> Colour:
    blue, green, red = (int(np.clip(channel + int(rng.integers(-18, 19)), 0, 255)) for channel in colour)
    return blue, green, red


def make_arms(
    rng: Rng, shoulder: float, drop: float, presented: str, sleeve: float
) -> list[tuple[Point, Point, Point]]:
    """Each side at an angle of its own; those of worn T-shirts bend, long ones hang, so that the trunk stays large."""
    arms = []
    both = float(rng.uniform(0.7 + 0.4 * sleeve, 1.42))
    for side in (1, -1):
        down = both + float(rng.uniform(-0.16, 0.16))
        bend = float(rng.uniform(-0.15, 0.2)) if presented != "worn" else float(rng.uniform(-0.1, 0.55))
        upper, lower = float(rng.uniform(88, 104)), float(rng.uniform(80, 96))
        start = (side * (shoulder - 17), drop + 22)
        elbow = (start[0] + side * upper * math.cos(down), start[1] + upper * math.sin(down))
        turned = down + bend
        wrist = (elbow[0] + side * lower * math.cos(turned), elbow[1] + lower * math.sin(turned))
        arms.append((start, elbow, wrist))
    return arms


def shirt_shapes(rng: Rng, shirt: Shirt) -> list[Shape]:
    """Back to front: what is behind or in the T-shirt, its sleeves, trunk, neck, folds, print, and what hides it."""
    g = shirt.garment
    skin, hair = pick(rng, SKINS), pick(rng, HAIRS)
    shapes = behind(rng, shirt, skin, hair)
    for arm in shirt.arms:
        shapes += sleeve_shapes(rng, shirt, arm)
    shapes += [cloth(g, [trunk(shirt)], depth=0 if shirt.inked else int(rng.integers(80, 140)))]
    shapes += contour(shirt, trunk(shirt))
    shapes += neck_shapes(rng, shirt)
    if g.sleeve > 0:  # the armhole's seam
        for side, arm in zip((1, -1), shirt.arms, strict=True):
            seam: Poly = [
                (side * (shirt.shoulder - 3), shirt.drop),
                (side * (shirt.chest - 6), 52),
                (side * shirt.chest, 82),
            ]
            shapes += [line(shirt, seam, 2.6, 90 if arm[0][0] > 0 else 80)]
    shapes += folds(rng, shirt)
    if shirt.values["pattern"] == "printed":
        shapes += print_shapes(rng, shirt)
    elif rng.random() < 0.2:  # a pocket, which is not a pattern
        x, y = float(rng.choice([-1, 1])) * shirt.chest * 0.45, float(rng.uniform(72, 86))
        shapes += [
            line(
                shirt, [(x - 15, y), (x - 15, y + 30), (x, y + 36), (x + 15, y + 30), (x + 15, y), (x - 15, y)], 3, 110
            )
        ]
    hem: Poly = [(-shirt.hem_width, g.hem - 10), (0, g.hem - 6), (shirt.hem_width, g.hem - 10)]
    shapes += [line(shirt, hem, 2.6, 80)]
    return shapes + in_front(rng, shirt, skin, hair)


def trunk(shirt: Shirt) -> Poly:
    """The outline with its neckline."""
    g = shirt.garment
    n = shirt.neck
    sleeveless = g.sleeve == 0
    tip = shirt.shoulder - (18 if sleeveless else 4)
    if g.neck == "v":
        neckline: Poly = [(0, neck_depth(shirt)), (0, neck_depth(shirt)), (n, 0), (n, 0)]
    elif g.neck == "round":
        depth = neck_depth(shirt)
        neckline = [(0, depth), (n * 0.62, depth * 0.86), (n * 0.97, depth * 0.35), (n, 0), (n, 0)]
    else:
        neckline = [(0, 6), (n * 0.8, 4), (n, 0), (n, 0)]
    sides: Poly = [
        (tip, shirt.drop),
        (tip, shirt.drop + 4),
        (shirt.chest - (16 if sleeveless else 2), 56),
        (shirt.chest, 86),
        (shirt.chest - 3, 130),
        (shirt.hem_width, g.hem),
        (shirt.hem_width, g.hem),
        (0, g.hem + 5),
    ]
    half = neckline + sides
    return smooth(half + [(-x, y) for x, y in reversed(half)])


def neck_depth(shirt: Shirt) -> float:
    """How far the neckline reaches down: a V is as deep as a deep round one, or deeper."""
    share = (shirt.neck - 29) / 9
    return 46 + 26 * share if shirt.garment.neck == "v" else 20 + 22 * share


def line(shirt: Shirt, points: Poly, width: float, opacity: int) -> Shape:
    """A line on the T-shirt: a soft shadow where it is painted, ink where it is inked."""
    colour = INK if shirt.inked else BLACK
    return Shape(
        stroke(points, width), colour, 1, depth=0, opacity=min(opacity * 2, FULL) if shirt.inked else opacity, clip=True
    )


def contour(shirt: Shirt, outline: Poly) -> list[Shape]:
    """An ink line around an outline; nothing where the T-shirt is painted."""
    if not shirt.inked:
        return []
    return [Shape(stroke([*outline, outline[0]], shirt.ink_width), INK, depth=0)]


def sleeve_shapes(rng: Rng, shirt: Shirt, arm: tuple[Point, Point, Point]) -> list[Shape]:
    g = shirt.garment
    start, elbow, wrist = arm
    if g.sleeve == 0:
        return []
    wide = 22 + g.ease * 0.8
    end = between(start, elbow, g.sleeve * 2) if g.sleeve <= 0.5 else between(elbow, wrist, g.sleeve * 2 - 1)
    parts = (
        [(start, end, wide + 3, wide)]
        if g.sleeve <= 0.5
        else [(start, elbow, wide + 3, wide - 3), (elbow, end, wide - 3, wide - 8)]
    )
    plain = {"pattern": "solid"} if g.pattern == "dots" and rng.random() < 0.2 else {}
    shapes: list[Shape] = []
    inks: list[Shape] = []
    depth = 0 if shirt.inked else 110
    for index, (p, q, wp, wq) in enumerate(parts):
        last = index == len(parts) - 1
        outline = tube(p, q, wp, wq, round_end=not last)
        angle = math.atan2(p[0] - q[0], q[1] - p[1])
        inks += contour(shirt, outline)
        shapes.append(cloth(g, [outline], angle, depth=depth, **plain))
        if last:
            across = (-(q[1] - p[1]), q[0] - p[0])
            length = math.hypot(*across)
            dx, dy = across[0] / length * 40, across[1] / length * 40
            for share in (0.9,) if g.sleeve < 0.9 else (0.84, 0.9):
                near = between(p, q, share)
                shapes.append(line(shirt, [(near[0] - dx, near[1] - dy), (near[0] + dx, near[1] + dy)], 2.8, 90))
        middle = between(p, q, 0.62)
        shapes.append(line(shirt, [between(p, q, 0.3), (middle[0] + 7, middle[1] - 3)], 4, 44))
    return inks + shapes  # a line lies around both halves, not between them


def neck_shapes(rng: Rng, shirt: Shirt) -> list[Shape]:
    g, n = shirt.garment, shirt.neck
    depth = neck_depth(shirt)
    trim = g.accent if rng.random() < 0.25 else darker(g.colour)
    if g.neck == "round":
        bow: Poly = [(-n - 3, -1), (-n * 0.9, depth * 0.5), (-n * 0.5, depth * 0.94), (0, depth * 1.06)]
        bow += [(-x, y) for x, y in reversed(bow[:-1])]
        return rib(shirt, smooth_open(bow), trim)
    if g.neck == "v":
        return rib(shirt, [(-n - 2, -1), (0, depth + 3), (n + 2, -1)], trim)
    if g.neck == "high":
        top = -float(rng.uniform(20, 34))
        tube_: Poly = [
            (-n * 0.86, top),
            (-n * 0.86, top),
            (0, top - 5),
            (n * 0.86, top),
            (n * 0.86, top),
            (n * 1.05, 5),
            (n * 1.05, 5),
            (0, 15),
        ]
        outline = smooth([*tube_, (-n * 1.05, 5), (-n * 1.05, 5)])
        shapes = [
            cloth(g, [outline], depth=0 if shirt.inked else 150, pattern="solid" if rng.random() < 0.5 else g.pattern)
        ]
        shapes += contour(shirt, outline)
        return [*shapes, line(shirt, [(-n, top * 0.4), (0, top * 0.4 + 6), (n, top * 0.4)], 3, 90)]
    return collar_shapes(rng, shirt)


def smooth_open(points: Poly) -> Poly:
    """Corners cut off, ends as they are."""
    cut = [point for a, b in pairwise(points) for point in (between(a, b, 0.25), between(a, b, 0.75))]
    return [points[0], *cut, points[-1]]


def rib(shirt: Shirt, bow: Poly, trim: Colour) -> list[Shape]:
    """The band along a neckline."""
    edge = Shape(stroke(bow, 9), trim, 1, depth=0, opacity=FULL if shirt.inked else 150, clip=True)
    return [
        edge,
        *([Shape(stroke(bow, shirt.ink_width * 0.8), INK, depth=0)] if shirt.inked else [line(shirt, bow, 3, 70)]),
    ]


def collar_shapes(rng: Rng, shirt: Shirt) -> list[Shape]:
    """Two flaps, and below them a placket with buttons."""
    g, n = shirt.garment, shirt.neck
    long = float(rng.uniform(34, 50))
    end = float(rng.uniform(72, 104))
    plain = g.colour if rng.random() < 0.7 else g.accent
    placket = box(-7, 10, 7, end)
    shapes = [Shape([placket], plain, 1, depth=0, clip=True)]
    shapes += [line(shirt, [*placket, placket[0]], 2.4, 100)]
    shapes += [
        Shape([ellipse(0, y, 3.2, 3.2)], WHITE if sum(plain) < 380 else INK, 1, depth=0, clip=True)
        for y in (long + 8, end - 12)
    ]
    for side in (-1, 1):
        flap: Poly = [
            (side * 2, 14),
            (side * n * 0.8, -12),
            (side * (n + 9), 2),
            (side * (n + 3), long),
            (side * (n + 3), long),
            (side * 14, long * 0.86),
        ]
        shapes += [Shape([flap], plain, 1, depth=0 if shirt.inked else 170)]
        ink = shirt.ink_width * 0.8 if shirt.inked else 2.6
        shapes += [
            Shape(
                stroke([*flap, flap[0]], ink),
                INK if shirt.inked else BLACK,
                depth=0,
                opacity=FULL if shirt.inked else 90,
            )
        ]
    return shapes


def folds(rng: Rng, shirt: Shirt) -> list[Shape]:
    """Creases that start at the armholes and sides, some light, some dark."""
    shapes = []
    for _ in range(int(rng.integers(3, 9))):
        side = float(rng.choice([-1, 1]))
        y = float(rng.uniform(60, shirt.garment.hem - 12))
        reach, fall = float(rng.uniform(0.25, 0.85)), float(rng.uniform(-26, 40))
        x = side * (shirt.chest - 2)
        bow: Poly = [(x, y), (x * (1 - reach * 0.5), y + fall * 0.7), (x * (1 - reach), y + fall)]
        if shirt.inked:
            shapes.append(line(shirt, smooth_open(bow), float(rng.uniform(1.6, 2.8)), 100))
        else:
            light = bool(rng.random() < 0.4)
            shapes.append(
                Shape(
                    stroke(smooth_open(bow), float(rng.uniform(4, 9))),
                    WHITE if light else BLACK,
                    1,
                    depth=0,
                    opacity=int(rng.integers(28, 60)),
                    clip=True,
                )
            )
    return shapes


def print_shapes(rng: Rng, shirt: Shirt) -> list[Shape]:
    """One picture on the chest."""
    size, y = float(rng.uniform(27, 40)), float(rng.uniform(98, 124))
    colour = shirt.garment.accent
    kind = pick(rng, ["star", "ring", "bolt", "face", "mountain", "words"])
    second = jittered(rng, pick(rng, FABRICS))
    if kind == "star":
        arms = int(rng.integers(5, 8))
        turns = [(k * math.pi / arms, size if k % 2 == 0 else size * 0.45) for k in range(2 * arms)]
        found = [([[(r * math.sin(t), y - r * math.cos(t)) for t, r in turns]], colour)]
    elif kind == "ring":
        found = [([ellipse(0, y, size, size)], colour), ([ellipse(0, y, size * 0.55, size * 0.55)], second)]
    elif kind == "bolt":
        found = [
            (
                [
                    [
                        (-4, y - size),
                        (size * 0.5, y - size),
                        (6, y - 8),
                        (size * 0.6, y - 8),
                        (-size * 0.4, y + size),
                        (-2, y + 6),
                        (-size * 0.55, y + 6),
                    ]
                ],
                colour,
            )
        ]
    elif kind == "face":
        eyes = [ellipse(side * size * 0.36, y - size * 0.2, 5, 6) for side in (-1, 1)]
        mouth = stroke([(-size * 0.45, y + size * 0.25), (0, y + size * 0.5), (size * 0.45, y + size * 0.25)], 5)
        found = [
            ([ellipse(0, y, size, size * 0.95)], colour),
            (eyes, shirt.garment.colour),
            (mouth, shirt.garment.colour),
        ]
    elif kind == "mountain":
        found = [
            ([ellipse(size * 0.4, y - size * 0.5, size * 0.35, size * 0.35)], second),
            (
                [
                    [
                        (-size, y + size * 0.7),
                        (-size * 0.3, y - size * 0.5),
                        (size * 0.1, y + size * 0.1),
                        (size * 0.45, y - size * 0.2),
                        (size, y + size * 0.7),
                    ]
                ],
                colour,
            ),
        ]
    else:
        found = []
        for row in range(int(rng.integers(2, 4))):
            x, top = -size, y - size * 0.6 + row * 20
            while x < size - 6:
                wide = float(rng.uniform(6, 14))
                found.append(([box(x, top, min(x + wide, size), top + 13)], colour))
                x += wide + 4
    return [Shape(polys, paint_, 1, depth=0, clip=True) for polys, paint_ in found]


# ---------------------------------------------------------------- around the T-shirt


def behind(rng: Rng, shirt: Shirt, skin: Colour, hair: Colour) -> list[Shape]:
    """The wearer, or the hanger, or the inside of what lies flat."""
    g, n = shirt.garment, shirt.neck
    depth = 0 if shirt.inked else 110
    inside = Shape([ellipse(0, 2, n + 1, 9)], darker(g.colour), depth=0)
    if shirt.presented == "worn":
        shapes = (
            [Shape([smooth([(-44, -130), (44, -130), (62, 70), (-62, 70)])], hair, depth=depth)]
            if rng.random() < 0.3
            else []
        )
        for start, elbow, wrist in shirt.arms:
            hand = between(elbow, wrist, 1.13)
            limbs = [tube(start, elbow, 19, 16), tube(elbow, hand, 16, 13)]
            shapes += [shape for limb in limbs for shape in contour(shirt, limb)] + [
                Shape([limb], skin, depth=depth) for limb in limbs
            ]
        neck = tube((0, 30), (0, -60), n * 0.72, n * 0.66)
        chest = ellipse(0, 30, n + 4, 58)
        face = ellipse(0, -92, 40, 54)
        return [
            *shapes,
            Shape([chest], skin, depth=0),
            *contour(shirt, neck),
            Shape([neck], skin, depth=depth),
            *contour(shirt, face),
            Shape([face], skin, depth=depth),
        ]
    if shirt.presented == "hanger":
        metal = pick(rng, bgr("5a606a", "b08a5a", "e8e8e8", "2a2a2e"))
        rod: Poly = [(0, -66), (13, -57), (0, -44), (0, -14)]
        bar: Poly = [(-shirt.shoulder + 12, shirt.drop + 8), (0, -14), (shirt.shoulder - 12, shirt.drop + 8)]
        return [Shape(stroke(rod, 6), metal, depth=0), Shape(stroke(bar, 9), metal, depth=0), inside]
    return [*contour(shirt, ellipse(0, 2, n + 1, 9)), inside]


def in_front(rng: Rng, shirt: Shirt, skin: Colour, hair: Colour) -> list[Shape]:
    """What hides part of the T-shirt, never its neck or print as a whole."""
    kind = pick(rng, ["none"] * 8 + ["strap", "strap", "lanyard", "tag", "tag", "plant", "phone", "locks"])
    colour = jittered(rng, pick(rng, FABRICS))
    side = float(rng.choice([-1, 1]))
    hem = shirt.garment.hem
    depth = 0 if shirt.inked else 90
    if kind == "strap":
        polys = stroke([(-side * 54, -2), (-side * 6, 92), (side * 70, hem - 20)], float(rng.uniform(9, 15)))
        return [Shape(polys, colour, depth=depth)]
    if kind == "lanyard":
        cords = stroke([(-25, 0), (0, 104)], 4) + stroke([(25, 0), (0, 104)], 4)
        return [
            Shape(cords, colour, depth=0),
            Shape([box(-13, 104, 13, 138)], WHITE, depth=depth),
            Shape([box(-8, 112, 8, 124)], colour, depth=0),
        ]
    if kind == "tag":
        x, y = side * float(rng.uniform(24, 58)), float(rng.uniform(70, hem - 20))
        return [
            Shape([ellipse(x, y, 20, 20)], colour, depth=0),
            Shape([box(x - 12, y - 4, x + 12, y + 4)], WHITE, depth=0),
        ]
    if kind == "plant":
        x, y = side * float(rng.uniform(50, 90)), hem + 26
        tips = [(x - side * 50, y - 96), (x - side * 20, y - 120), (x + side * 22, y - 104), (x - side * 74, y - 50)]
        return [
            Shape([smooth([(x - 8, y), tip, tip, (x + 16, y)])], (60, 118 + 16 * k, 52), depth=depth)
            for k, tip in enumerate(tips)
        ]
    if kind == "phone" and shirt.presented == "worn":
        x, y = side * float(rng.uniform(10, 40)), float(rng.uniform(128, 160))
        arm = tube((side * 120, y + 50), (x + side * 12, y + 6), 18, 13)
        return [
            *contour(shirt, arm),
            Shape([arm], skin, depth=depth),
            Shape([box(x - 13, y - 30, x + 13, y + 18)], (36, 34, 34), depth=depth),
        ]
    if kind == "locks" and shirt.presented == "worn":
        return [
            Shape(
                [
                    smooth(
                        [
                            (one * 26, -120),
                            (one * 48, -90),
                            (one * 60, 20),
                            (one * 46, 96),
                            (one * 34, 50),
                            (one * 38, -40),
                        ]
                    )
                ],
                hair,
                depth=depth,
            )
            for one in (-1, 1)
        ]
    return []


# ---------------------------------------------------------------- pictures


def make_photo(number: int, values: dict[str, str]) -> Image:
    """One T-shirt; each has a seed of its own."""
    rng = np.random.default_rng([SEED, number])
    shirt = make_shirt(rng, values)
    shapes = shirt_shapes(rng, shirt)
    width, height = pick(rng, SIZES)
    camera = framing(rng, shapes, width, height)
    picture = paint(
        Scene(shapes, [shirt.garment], [1], [0], (0, 0, 0, 0)),
        camera,
        ground(rng, shirt, width, height),
        noise(rng, height, width, 9, 0 if shirt.inked else 30),
    ).picture
    return developed(rng, picture, shirt.inked)


def framing(rng: Rng, shapes: list[Shape], width: int, height: int) -> Camera:
    """A camera askew, in whose picture the T-shirt just fits, or nearly."""
    angle = math.radians(float(np.clip(rng.normal(0, 8), -24, 24)))
    cos, sin = math.cos(angle), math.sin(angle)
    owned = [point for shape in shapes if shape.owner and not shape.clip for poly in shape.polys for point in poly]
    turned = [(cos * x - sin * y, sin * x + cos * y) for x, y in owned]
    left, right = min(x for x, _ in turned), max(x for x, _ in turned)
    top, bottom = min(y for _, y in turned), max(y for _, y in turned)
    scale = min(width / (right - left), height / (bottom - top)) * float(rng.uniform(0.95, 1.08))
    x = width / 2 - scale * (left + right) / 2 + float(rng.uniform(-0.06, 0.06)) * width
    y = height / 2 - scale * (top + bottom) / 2 + float(rng.uniform(-0.04, 0.05)) * height
    return Camera(scale, cos, sin, int(rng.choice([-1, 1])), x, y)


def ground(rng: Rng, shirt: Shirt, width: int, height: int) -> Image:
    """A wall or table behind what is painted, paper behind what is inked; seldom of the T-shirt's tone."""
    options = [
        jittered(rng, pick(rng, PAPERS)) if shirt.inked else jittered(rng, bgr(pick(rng, BACKDROPS)[1])[0])
        for _ in range(3)
    ]
    base = max(options, key=lambda one: min(contrast(one, shirt.garment.colour), 80))
    if not shirt.inked:
        kind = pick(rng, BACKDROPS)[0]
        wall = backdrop(rng, kind, base, side=240)
        y, x = int(rng.integers(0, 240 - height)), int(rng.integers(0, 240 - width))
        return np.ascontiguousarray(wall[y : y + height, x : x + width])
    tone = noise(rng, height, width, 20, 16)
    return np.asarray(np.clip(np.array(base, np.int32) + tone[:, :, None], 0, 255), np.uint8)


def developed(rng: Rng, picture: Image, inked: bool) -> Image:
    """Light from one side, contrast, colour cast, blur or grain."""
    height, width = picture.shape[:2]
    y, x = np.mgrid[0:height, 0:width].astype(np.int32)
    slope = (
        int(rng.integers(-40, 41)) * (x - width // 2) // width
        + int(rng.integers(-40, 41)) * (y - height // 2) // height
    )
    gain, lift, cast = int(rng.integers(200, 286)), int(rng.integers(-20, 21)), rng.integers(-10, 11, 3)
    soft = cv2.GaussianBlur(picture, (3, 3), 0) if rng.random() < 0.3 else picture
    strength = int(rng.integers(2, 7 if inked else 9))
    grain = rng.integers(-strength, strength + 1, (height, width)).astype(np.int32)
    graded = ((soft.astype(np.int32) - 128) * gain >> 8) + 128 + lift + cast + (slope + grain)[:, :, None]
    return np.asarray(np.clip(graded, 0, 255), np.uint8)


# ---------------------------------------------------------------- photos and rows


def plan_values() -> list[dict[str, str]]:
    """The values of every T-shirt, drawn for each attribute by itself."""
    rng = np.random.default_rng(SEED)
    columns = {}
    for name, values in ATTRIBUTES.items():
        words = [word for word, _, count in values for _ in range(count)]
        columns[name] = [words[int(k)] for k in rng.permutation(SHIRTS)]
    return [{name: column[index] for name, column in columns.items()} for index in range(SHIRTS)]


def make_files() -> tuple[dict[str, bytes], list[tuple[str, dict[str, str]]]]:
    """The photos by their names, and what each shows; the last is damaged."""
    rng = np.random.default_rng([SEED, 0])
    shown = plan_values()
    pictures = [make_photo(number, values) for number, values in enumerate(shown, 1)]
    photos = [(to_jpeg(picture, JPEG_QUALITY), values) for picture, values in zip(pictures, shown, strict=True)]
    for index in rng.choice(SHIRTS, COPIES + RESAVED, replace=False)[:COPIES]:
        photos.append(photos[index])
    for index in rng.choice(SHIRTS, RESAVED, replace=False):
        smaller = cv2.resize(pictures[index], None, fx=0.9, fy=0.9, interpolation=cv2.INTER_AREA)
        photos.append((to_jpeg(cv2.add(smaller, np.full_like(smaller, 6)), 46), shown[index]))
    numbers = rng.permutation(2 * len(photos))[: len(photos) + 1] + 1000
    ordered = [
        (f"{number}.jpg", *photos[int(at)]) for number, at in zip(numbers, rng.permutation(len(photos)), strict=False)
    ]
    files = {name: data for name, data, _ in ordered}
    damaged = f"{numbers[-1]}.jpg"
    files[damaged] = ordered[0][1][:700]
    return files, [(name, values) for name, _, values in ordered] + [(damaged, ordered[0][2])]


def make_rows(shown: list[tuple[str, dict[str, str]]], complete: bool) -> list[list[str]]:
    """The CSV's rows below its header.

    Args:
        shown: name and values of each photo.
        complete: every value is there; the same rows otherwise.
    """
    rng = np.random.default_rng([SEED, 1])
    codes = {name: {word: str(code) for word, code, _ in values} for name, values in ATTRIBUTES.items()}
    rows = [[name, *(codes[key][word] for key, word in values.items())] for name, values in shown]
    rows = [rows[int(k)] for k in rng.permutation(len(rows))][PHOTOS_WITHOUT_ROW:]
    forgotten = [[bool(rng.random() < 0.36) for _ in ATTRIBUTES] for _ in rows]
    rows += [
        [f"{9000 + k}.jpg", *(str(int(rng.integers(0, 3))) for _ in ATTRIBUTES)] for k in range(ROWS_WITHOUT_PHOTO)
    ]
    forgotten += [[False] * len(ATTRIBUTES)] * ROWS_WITHOUT_PHOTO
    if not complete:
        rows = [
            [row[0], *(MISSING if gone else code for code, gone in zip(row[1:], lost, strict=True))]
            for row, lost in zip(rows, forgotten, strict=True)
        ]
    said = [at for at, row in enumerate(rows[:-ROWS_WITHOUT_PHOTO]) if row.count(MISSING) < len(ATTRIBUTES)]
    chosen = [int(at) for at in rng.permutation(said)[: REPEATED_ROWS + CONTRADICTIONS + COMPLETIONS]]
    for number, at in enumerate(chosen):
        again = list(rows[at])
        column = pick(rng, [column for column in range(1, len(again)) if again[column] != MISSING])
        if number < CONTRADICTIONS:
            others = list(codes[list(ATTRIBUTES)[column - 1]].values())
            again[column] = pick(rng, [code for code in others if code != again[column]])
        elif number < CONTRADICTIONS + COMPLETIONS and not complete:
            rows[at] = [*again[:column], MISSING, *again[column + 1 :]]
        rows.append(again)
    return [rows[int(k)] for k in rng.permutation(len(rows))]


def rows_to_csv(rows: list[list[str]]) -> bytes:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows([["filename", *ATTRIBUTES], *rows])
    return stream.getvalue().encode()


def write_sample(out: Path, complete: bool = False) -> None:
    """
    Args:
        complete: every value is in the CSV.
    """
    files, shown = make_files()
    table = {"attributes.csv": rows_to_csv(make_rows(shown, complete))}
    write_zip(table | {f"images/{name}": data for name, data in files.items()}, out)


def photos_of_zip(source: Path, first: int, count: int) -> Iterator[Image]:
    """Those that can be read, in the order of their names."""
    with zipfile.ZipFile(source) as archive:
        names = [name for name in archive.namelist() if name.endswith(".jpg")]
        for name in names[first : first + count]:
            picture = cv2.imdecode(np.frombuffer(archive.read(name), np.uint8), cv2.IMREAD_COLOR)
            if picture is not None:
                yield np.asarray(picture, np.uint8)


def main() -> None:
    parser = sample_parser(__doc__, Path(__file__).with_name("tshirts.zip"))
    parser.add_argument("--complete", action="store_true", help="with every value in the CSV")
    options = parser.parse_args()
    cv2.setNumThreads(1)  # one core is enough, and threads could change nothing but the time
    if options.contact_sheet:
        photos = photos_of_zip(options.zip, options.first, 10 * 6)
        write_contact_sheet(photos, options.contact_sheet, columns=10, rows=6, cell=186)
    else:
        write_sample(options.zip, options.complete)


if __name__ == "__main__":
    main()
