"""Draw Seamline's embedded sample: 432 small fashion pictures with COCO instance masks, in one zip.

The sample lets the whole pipeline (import, split, train, evaluate) run anywhere in minutes, without any
download or licence question. It imitates the shape of DeepFashion2: category ids with gaps, one outfit
photographed several times (`pair_id`), shop and user pictures, garments hidden in part and therefore
annotated as several polygons, or as RLE where the visible mask has a hole. People are annotated too, after
all garments: their outlines, with what they wear and carry, and the ids of their garments. A mannequin is nobody.

An outfit is a list of flat outlines ("shapes") in scene units, where the base of the neck is (0, 0) and
the feet are near y = 650. Every photo of the outfit paints that list, back to front, through its own
camera onto its own crop of a backdrop, while an id map records which garment owns each pixel: masks are
what is visible, by construction. Arithmetic on pixels is integer, so that the zip has the same bytes on
every machine.

    python -m samples.make_garments [OUT.zip]              # default: garments.zip beside this script
    python -m samples.make_garments --contact-sheet x.png  # look at pictures and masks of the zip
"""

from __future__ import annotations

import io
import json
import math
import zipfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from samples.drawing import (
    BACKDROPS,
    BLACK,
    FABRICS,
    HAIRS,
    SKINS,
    WHITE,
    Camera,
    Colour,
    Garment,
    Image,
    Ints,
    Painted,
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

SEED = 20240
JPEG_QUALITY = 71
MIN_VISIBLE, MIN_PIECE = 150, 12  # pixels: smallest garment and piece that count
SIZES = [(200, 256), (200, 256), (192, 256), (216, 288), (232, 232), (256, 200)]  # width, height

SHORT_TOP, LONG_TOP, OUTER, VEST, SHORTS, TROUSERS, SKIRT, DRESS = 1, 2, 4, 5, 7, 8, 9, 10
CATEGORIES = {
    SHORT_TOP: "short sleeve top",
    LONG_TOP: "long sleeve top",
    OUTER: "long sleeve outwear",
    VEST: "vest",
    SHORTS: "shorts",
    TROUSERS: "trousers",
    SKIRT: "skirt",
    DRESS: "short sleeve dress",
}
TOPS = (SHORT_TOP, LONG_TOP, VEST)
PERSON = 20

# How many groups wear which (top, bottom, outwear); 0 = none. 12 more groups show no garment at all.
WARDROBE = [
    (136, SHORT_TOP, TROUSERS, 0),
    (14, SHORT_TOP, SHORTS, 0),
    (10, SHORT_TOP, SKIRT, 0),
    (16, SHORT_TOP, 0, 0),
    (10, LONG_TOP, TROUSERS, 0),
    (14, LONG_TOP, SKIRT, 0),
    (4, LONG_TOP, 0, 0),
    (8, VEST, TROUSERS, 0),
    (12, VEST, SHORTS, 0),
    (5, VEST, SKIRT, 0),
    (2, VEST, 0, 0),
    (6, SHORT_TOP, TROUSERS, OUTER),
    (8, LONG_TOP, SKIRT, OUTER),
    (7, VEST, SHORTS, OUTER),
    (24, DRESS, 0, 0),
    (2, DRESS, 0, OUTER),
    (4, 0, TROUSERS, 0),
]
GROUP_SIZES = [1] * 190 + [2] * 60 + [3] * 20 + [4] * 10 + [5] * 2  # 282 groups, 420 photos


class Care(NamedTuple):
    """How closely an outline follows what is visible."""

    epsilons: tuple[float, ...]  # pixels by which a corner may be off; the first that is close enough is taken
    least_iou: float
    min_hole: int  # pixels of the smallest hole that counts


OF_GARMENTS = Care((0.6, 0.5, 0.35, 0.0), 0.985, 6)
# The outline of a body with all its limbs is long, and the zip has to stay small.
OF_PEOPLE = Care(tuple(tenths / 10 for tenths in range(40, 5, -2)), 0.96, 150)


MANNEQUIN = (196, 212, 222)
DENIMS = bgr("2f4a78", "5f86b8", "1e2a44", "22242a", "b8a27c", "6f7a4a", "8d9199", "e6e0d2", "7a5a40", "3a5f95")


class Body(NamedTuple):
    shoulder: float
    waist: float
    hip: float
    arms: list[tuple[Point, Point, Point]]  # shoulder, elbow, wrist of the +x side, then of the -x side
    legs: list[tuple[Point, Point, Point]]  # hip, knee, ankle


# ---------------------------------------------------------------- outlines


def mirrored(right: Poly) -> Poly:
    return right + [(-x, y) for x, y in reversed(right)]


def crease(owner: int, points: Poly, width: float = 3, light: bool = False, opacity: int = 60) -> Shape:
    return Shape(stroke(points, width), WHITE if light else BLACK, owner, depth=0, opacity=opacity, clip=True)


# ---------------------------------------------------------------- garments


def torso_top(rng: Rng, g: Garment, body: Body, back: bool) -> list[Shape]:
    """The trunk of a top: neckline, shoulders, armholes, sides, hem; then collar, seams, folds, print."""
    vest = g.category == VEST
    tip = body.shoulder - (24 if vest else 4)
    half_neck = {"boat": 46.0, "turtle": 23.0, "v": 32.0}.get(g.neck, 30.0) + (6 if vest else 0)
    half_neck = min(half_neck, tip - 14)
    drop = {"crew": 24, "v": 74, "polo": 52, "turtle": -30, "boat": 14}[g.neck] + (14 if vest else 0)
    drop = 8 if back and g.neck != "turtle" else drop
    pit = (body.shoulder - 10 + g.ease * 0.4, 92 if vest else 84)
    waist = (body.waist + g.ease, 165.0)
    hem = (body.waist + g.ease + 12 * (g.hem - 165) / 70, g.hem)
    if g.neck == "turtle":
        collar: Poly = [(24, -32), (24, -32), (25, -6)]
        middle: Poly = []
    else:
        collar, middle = [(half_neck, -6), (half_neck, -6)], [(0, drop), (0, drop)]
        if g.neck != "v" and g.neck != "polo":
            middle = [(-half_neck * 0.62, drop - 4), (0, drop), (half_neck * 0.62, drop - 4)]
    sides = [
        (tip, 12.0 if not vest else 6),
        (tip, 20),
        (body.shoulder - 22 if vest else pit[0] - 2, 58),
        pit,
        waist,
        hem,
        hem,
        hem,
    ]
    outline = smooth([*middle, *collar, *sides, (0, g.hem + 5), *mirrored(collar + sides)[len(collar + sides) :]])
    shapes = [cloth(g, [outline])]
    bow: Poly = [(-half_neck, -6), *[(x, y + 3) for x, y in middle], (half_neck, -6)]
    if g.neck == "turtle":
        shapes += [crease(g.owner, [(-30, -8), (0, -2), (30, -8)], 4)]
    elif g.neck == "polo" and not back:
        for side in (-1, 1):
            flap: Poly = [(side * 24, -12), (side * 36, -4), (side * 30, 36), (side * 3, 50), (side * 14, 20)]
            shapes += [cloth(g, [flap], pattern="solid", depth=150), crease(g.owner, [*flap[1:4]], 3, opacity=90)]
        shapes += [crease(g.owner, [(0, 52), (0, 92)], 3, opacity=100)]
        shapes += [Shape([ellipse(0, y, 3.5, 3.5)], WHITE, g.owner, depth=0, clip=True) for y in (62, 80)]
    else:
        shapes += [crease(g.owner, bow, 11, opacity=55), crease(g.owner, bow, 3, opacity=60)]
    if g.pattern == "block":
        band = box(-200, 100, 200, 400)
        shapes += [Shape([band], g.accent, g.owner, depth=0, clip=True)]
    if g.pattern == "print":
        size = float(rng.uniform(20, 32))
        star = [
            (r * math.sin(k * math.pi / 5), 105 - r * math.cos(k * math.pi / 5))
            for k in range(10)
            for r in [size if k % 2 == 0 else size * 0.45]
        ]
        bars = [box(-size, 80 + 17 * k, size * (1, 0.5, 0.8)[k], 90 + 17 * k) for k in range(3)]
        logo = pick(rng, [[ellipse(0, 105, size, size)], [star], bars, [box(-size, 82, size, 128)]])
        shapes += [Shape(logo, g.accent, g.owner, depth=0, clip=True)]
    for side in (-1, 1):
        x = side * (body.waist + g.ease)
        shapes += [
            crease(g.owner, [(x, 118), (x * 0.62, 142), (x * 0.4, 150)], 5, opacity=36),
            crease(g.owner, [(x, 188), (x * 0.7, 178), (x * 0.45, 186)], 5, opacity=36),
            crease(g.owner, [(x * 0.75, 128), (x * 0.42, g.hem - 24)], 6, True, 30),
        ]
        if not vest:
            shapes += [crease(g.owner, [(side * (tip - 3), 14), (side * (pit[0] - 12), 52), (side * pit[0], 86)], 3)]
    return [*shapes, crease(g.owner, [(-120, g.hem - 8), (0, g.hem - 4), (120, g.hem - 8)], 2.5, opacity=70)]


def sleeve(g: Garment, arm: tuple[Point, Point, Point], upper: bool, extra: float = 0) -> list[Shape]:
    """One half of a sleeve; the lower half is painted later, since a forearm may lie across the body."""
    start, elbow, wrist = arm
    if g.sleeve == 0 or (not upper and g.sleeve <= 0.5):
        return []
    wide = 22 + g.ease * 0.3 + extra
    p, q = (
        (start, between(start, elbow, min(1.0, g.sleeve * 2)))
        if upper
        else (elbow, between(elbow, wrist, g.sleeve * 2 - 1))
    )
    ends = (wide + 3, wide) if upper else (wide - 1, wide - 6)
    cut = upper != (g.sleeve > 0.5)
    if cut and g.sleeve <= 0.5:
        ends = (wide + 2, wide + 1)
    angle = math.atan2(p[0] - q[0], q[1] - p[1])
    plain = {"pattern": "solid", "colour": g.accent} if g.pattern == "block" else {}
    if g.pattern == "print":
        plain = {"pattern": "solid"}
    shapes = [cloth(g, [tube(p, q, *ends, round_end=not cut)], angle, **plain)]
    if cut:
        near, far = between(p, q, 0.93), (-(q[1] - p[1]), q[0] - p[0])
        length = math.hypot(*far)
        dx, dy = far[0] / length * 40, far[1] / length * 40
        shapes += [crease(g.owner, [(near[0] - dx, near[1] - dy), (near[0] + dx, near[1] + dy)], 3)]
    middle = between(p, q, 0.6)
    return [*shapes, crease(g.owner, [between(p, q, 0.3), (middle[0] + 6, middle[1])], 4, opacity=34)]


def inseam(x: float) -> float:
    """Legs which nearly touch do touch: a slit one pixel wide is no fun to annotate."""
    return x if x > 9 else -2.0


def trousers(rng: Rng, g: Garment, body: Body) -> list[Shape]:
    """Trousers or shorts: the left and right half, then fly, pockets, waistband and creases."""
    shorts, waist, halves = g.category == SHORTS, body.waist + 3, []
    flare = float(rng.choice([0, 0, 4, 20]))
    knee_w, ankle_w = 28 + g.ease * 0.7, 21 + g.ease + flare
    for sign, (_, knee, ankle) in zip((1, -1), body.legs, strict=True):
        x, foot = sign * knee[0], sign * ankle[0]  # measured outwards, so that one side serves both
        if shorts:
            x, w, end = 36 + (x - 36) * (g.hem - 285) / 155, 38 + g.ease * 0.8, g.hem
            leg: Poly = [(x + w, end - 4)] * 3 + [(max(x - w, 3), end + 4)] * 3
        else:
            foot, end = between((x, knee[1]), (foot, ankle[1]), g.hem)
            leg = [
                (body.hip + 3, 300),
                (x + knee_w, knee[1]),
                *[(foot + ankle_w, end)] * 3,
                *[(inseam(foot - ankle_w), end + 4)] * 3,
                (inseam(x - knee_w), knee[1]),
            ]
        half: Poly = [(-2, 175), (-2, 175), (waist, 172), (waist, 172), (body.hip + 4, 240), *leg, (-2, 298), (-2, 298)]
        halves.append([(sign * px, py) for px, py in smooth(half)])
    shapes = [
        cloth(g, halves),
        crease(g.owner, [(-90, 190), (0, 194), (90, 190)], 3, opacity=90),
        crease(g.owner, [(0, 194), (0, 262), (-7, 278)], 3, opacity=80),
        crease(g.owner, [(0, 294), (0, 640)], 6, opacity=110),
    ]  # where the legs touch
    for side in (0, 1):
        sign, (_, knee, ankle) = 1 - 2 * side, body.legs[side]
        shapes += [
            crease(g.owner, [(sign * 32, 193), (sign * 44, 218), (sign * 76, 228)], 3, opacity=90),
            crease(g.owner, [(0, 284), (sign * 26, 272), (sign * 40, 274)], 5, opacity=40),
            crease(g.owner, [(sign * 6, 292), (sign * 22, 318)], 4, opacity=36),
        ]
        if not shorts:
            shapes += [
                crease(g.owner, [(sign * 38, 250), knee, ankle], 7, True, 30),
                crease(g.owner, [(knee[0] - 26, knee[1] + 8), (knee[0] + 8, knee[1])], 4, opacity=40),
                crease(g.owner, [(knee[0] + 26, knee[1] - 14), (knee[0] + 2, knee[1] - 8)], 4, opacity=36),
            ]
    return [*shapes, Shape([ellipse(0, 183, 4, 4)], (110, 190, 220), g.owner, depth=0, clip=True)]


def skirt_side(body: Body, hem: float, flare: float) -> Poly:
    """The +x side of a skirt, from the hip down and along the wavy hem."""
    w = body.hip + flare
    return [
        (body.hip + 2 + flare * 0.25, 245),
        (w, hem - 6),
        (w, hem - 6),
        *[(x * w, hem + dy) for x, dy in ((0.72, 8), (0.45, 4), (0.2, 12))],
    ]


def skirt(g: Garment, body: Body) -> list[Shape]:
    flare = g.ease
    waist: Poly = [(body.waist + 3, 172), (body.waist + 3, 172)]
    shapes = [cloth(g, [smooth(mirrored(waist + skirt_side(body, g.hem, flare)))])]
    pleats = 6 if flare > 30 else 2
    for k in range(-pleats, pleats + 1):
        x = k / (pleats + 0.6)
        foot = (x * (body.hip + flare), g.hem + 14)
        shapes += [crease(g.owner, [(x * body.waist, 200), foot], 4, k % 2 == 0, 40)]
    return [*shapes, crease(g.owner, [(-90, 190), (0, 195), (90, 190)], 3, opacity=90)]


def dress(g: Garment, body: Body, back: bool) -> list[Shape]:
    """Bodice and skirt in one outline, with a waist seam; sleeves are those of a short sleeve top."""
    drop = 8 if back else {"v": 70}.get(g.neck, 26)
    tip = body.shoulder - 4
    right: Poly = [(30, -6), (30, -6), (tip, 12), (tip, 20), (body.shoulder - 12, 84), (body.waist + 2, 168)]
    neck: Poly = [(0, drop), (0, drop)]
    if g.neck != "v" or back:
        neck = [(-18, drop - 4), (0, drop), (18, drop - 4)]
    outline = smooth([*neck, *mirrored(right + skirt_side(body, g.hem, g.ease))])
    shapes = [cloth(g, [outline]), crease(g.owner, [(-30, -6), *neck, (30, -6)], 9, opacity=55)]
    for k in range(-4, 5):
        x = k / 4.6
        shapes += [crease(g.owner, [(x * body.waist, 190), (x * (body.hip + g.ease), g.hem + 14)], 4, k % 2 == 0, 38)]
    for side in (-1, 1):
        shapes += [
            crease(g.owner, [(side * 30, 95), (side * 22, 165)], 4, opacity=40),
            crease(g.owner, [(side * (tip - 3), 14), (side * (body.shoulder - 14), 88)], 3),
        ]
    return [*shapes, crease(g.owner, [(-90, 172), (0, 177), (90, 172)], 4, opacity=80)]


def coat(g: Garment, body: Body, gap: float) -> list[Shape]:
    """Two front panels with lapels; what is worn below shows between them."""
    tip, wide, shapes = body.shoulder + 2, body.waist + 16 + g.ease, []
    for side in (-1, 1):
        panel: Poly = [
            (24, -12),
            (24, -12),
            (tip, 8),
            (tip + 3, 20),
            (body.shoulder + 4, 90),
            (wide, 170),
            (wide + 10, g.hem),
            (wide + 10, g.hem),
            (gap + 6, g.hem + 4),
            (gap + 6, g.hem + 4),
            (gap, 170),
            (gap - 2, 110),
            (22, 20),
        ]
        lapel: Poly = [(22, -12), (38, 0), (54, 40), (44, 56), (50, 66), (gap + 4, 128), (gap, 100), (20, 20)]
        pocket: Poly = [(gap + 22, 222), (gap + 50, 214)]
        flip = [[(side * x, y) for x, y in poly] for poly in (panel, lapel, pocket)]
        shapes += [
            cloth(g, [smooth(flip[0])]),
            cloth(g, [flip[1]], depth=190),
            crease(g.owner, flip[1][1:6], 3, opacity=110),
            crease(g.owner, flip[2], 4, opacity=110),
            crease(g.owner, [(side * tip, 10), (side * (body.shoulder - 4), 90)], 3, opacity=70),
            crease(g.owner, [(side * (gap + 26), 150), (side * (gap + 30), g.hem)], 6, True, 26),
        ]
    return shapes


def make_garment(rng: Rng, category: int, owner: int, taken: list[Colour]) -> Garment:
    """Choose cloth that stands out from what is already there (skin, other garments), and a cut."""
    palette = DENIMS if category in (TROUSERS, SHORTS) and rng.random() < 0.7 else FABRICS
    options = [pick(rng, palette) for _ in range(6)]
    colour = next((c for c in options if all(contrast(c, t) > 130 for t in taken)), options[-1])
    accent = max([pick(rng, FABRICS) for _ in range(4)], key=lambda c: contrast(c, colour))
    tops = ["solid", "solid", "hstripes", "vstripes", "checks", "dots", "print", "print", "block"]
    legs = ["solid"] * 8 + ["checks", "vstripes"]
    skirts = ["solid", "solid", "solid", "checks", "dots", "vstripes", "hstripes"]
    pattern = pick(rng, tops if category in TOPS else skirts if category in (SKIRT, DRESS) else legs)
    necks = {
        SHORT_TOP: ["crew", "crew", "crew", "v", "polo", "boat"],
        LONG_TOP: ["crew", "turtle", "v", "boat"],
        VEST: ["crew", "v"],
        DRESS: ["crew", "v"],
    }
    sleeve_length = {
        SHORT_TOP: float(pick(rng, [0.26, 0.3, 0.34, 0.48])),
        LONG_TOP: 0.96,
        OUTER: 0.98,
        DRESS: float(rng.uniform(0.24, 0.34)),
    }.get(category, 0.0)
    slack = {SHORT_TOP: (2, 20), LONG_TOP: (2, 14), OUTER: (2, 12), VEST: (0, 10), SHORTS: (0, 14), TROUSERS: (0, 16)}
    flares = {SKIRT: [2, 28, 45, 75], DRESS: [10, 35, 60]}
    ease = float(pick(rng, flares[category]) if category in flares else rng.uniform(*slack[category]))
    hems: dict[int, list[float]] = {
        SHORT_TOP: [196, 215, 228, 240],
        LONG_TOP: [205, 225, 242],
        VEST: [190, 214, 230],
        OUTER: [240, 285, 390],
        SHORTS: [358, 372, 388, 410],
        TROUSERS: [0.98, 0.98, 0.94, 0.7],
        SKIRT: [345, 380, 440, 520],
        DRESS: [370, 430, 510],
    }
    return Garment(
        category,
        owner,
        colour,
        accent,
        pattern,
        int(rng.integers(22, 40)),
        pick(rng, necks.get(category, ["crew"])),
        sleeve_length,
        ease,
        float(pick(rng, hems[category])),
    )


# ---------------------------------------------------------------- people, props, scenes


def make_body(rng: Rng, flat: bool) -> Body:
    arms, legs = [], []
    wide = float(rng.uniform(0.92, 1.1))
    # Degrees from straight down, outwards: upper arm and forearm of either side.
    down = [[(10, 4), (12, 6)], [(14, 8), (9, 2)], [(28, 18), (26, 22)], [(18, 12), (22, 10)], [(34, 26), (30, 28)]]
    on_hips = [[(46, -42), (44, -40)], [(46, -42), (12, 5)]]  # both hands, one hand
    across = [[(12, -98), (10, 4)], [(8, -92), (9, -84)]]  # forearms before the body
    up = [[(140, 168), (135, 165)], [(12, 6), (120, 165)], [(62, 75), (58, 80)]]  # raised, waving, out
    pose = [(35, 35)] * 2 if flat else pick(rng, [*down, *down, *on_hips, *across, *up])
    stance = (
        (40, 52, 42, 54)
        if flat
        else pick(rng, [(32, 34, 32, 34), (38, 48, 38, 48), (46, 72, 46, 72), (38, 56, 28, 22), (28, 24, 52, 66)])
    )
    for side, sign in ((0, 1), (1, -1)):
        shoulder = (sign * (76 * wide - 14), 32.0)
        a, b = (math.radians(angle + float(rng.uniform(-4, 4))) for angle in pose[side])
        elbow = (shoulder[0] + sign * 112 * math.sin(a), shoulder[1] + 112 * math.cos(a))
        arms.append((shoulder, elbow, (elbow[0] + sign * 104 * math.sin(b), elbow[1] + 104 * math.cos(b))))
        knee_x, ankle_x = stance[2 * side : 2 * side + 2]
        lift = float(rng.uniform(0, 22)) if knee_x != stance[0] else 0.0
        legs.append(((sign * 34.0, 270.0), (sign * float(knee_x), 442 - lift / 2), (sign * float(ankle_x), 622 - lift)))
    return Body(76 * wide, 55 * wide, 70 * wide, arms, legs)


def head(skin: Colour, hair: Colour, back: bool, style: str) -> tuple[list[Shape], list[Shape]]:
    """Shapes behind the body (long hair) and in front of it."""
    if style == "egg":
        return [], [Shape([ellipse(0, -84, 36, 50)], skin)]
    behind = [Shape([smooth([(-44, -110), (44, -110), (60, 60), (-60, 60)])], hair)] if style == "long" else []
    front = [Shape([ellipse(0, -82, 37, 50)], skin)]
    if back:
        front += [Shape([ellipse(0, -90, 42, 52)], hair)]
        front += [Shape([smooth([(-44, -100), (44, -100), (52, 110), (-52, 110)])], hair)] if style == "long" else []
        return behind, front
    dark = (40, 40, 60)
    for side in (-1, 1):
        front += [
            Shape([ellipse(side * 14, -84, 4.5, 4)], dark, depth=0),
            Shape(stroke([(side * 8, -95), (side * 20, -96)], 3), hair, depth=0),
        ]
        if style == "locks":
            front += [
                Shape(
                    [
                        smooth(
                            [
                                (side * 22, -120),
                                (side * 46, -90),
                                (side * 56, 20),
                                (side * 40, 110),
                                (side * 24, 60),
                                (side * 36, -40),
                            ]
                        )
                    ],
                    hair,
                )
            ]
    front += [
        Shape(stroke([(-9, -53), (0, -50), (9, -53)], 4), (90, 80, 190), depth=0),
        Shape(stroke([(0, -80), (3, -66)], 2.5), BLACK, depth=0, opacity=60),
    ]
    cap = [*ellipse(0, -92, 43, 50, 172, 368), (28, -112), (-6, -118), (-30, -104)]
    front += [Shape([cap], hair)]
    if style == "bun":
        front += [Shape([ellipse(0, -146, 20, 17)], hair)]
    return behind, front


def accessories(rng: Rng, body: Body, kind: str) -> list[Shape]:
    colour = pick(rng, FABRICS[:18])
    if kind == "strap":
        bag: Poly = [(body.hip - 8, 232), (body.hip + 52, 228), (body.hip + 58, 290), (body.hip - 10, 294)]
        return [
            Shape(stroke([(-46, 2), (-14, 60), (body.hip + 8, 236)], 14), colour, depth=60),
            Shape([smooth(bag)], colour, depth=150),
            Shape(stroke([(body.hip - 6, 255), (body.hip + 54, 251)], 3), BLACK, depth=0, opacity=90),
        ]
    if kind == "belt":
        w = body.waist + 4
        return [Shape([box(-w, 164, w, 181)], colour, depth=0), Shape([box(-9, 161, 9, 184)], (120, 200, 225))]
    if kind == "scarf":
        return [
            Shape([smooth([(-44, -26), (44, -26), (50, 14), (0, 36), (-50, 14)])], colour, pattern="hstripes"),
            Shape(
                [smooth([(6, 14), (34, 10), (44, 168), (44, 168), (16, 170), (16, 170)])],
                colour,
                pattern="hstripes",
                accent=pick(rng, FABRICS),
            ),
        ]
    if kind == "badge":
        x, y = float(rng.uniform(-24, 24)), float(rng.uniform(75, 120))
        return [Shape([ellipse(x, y, 15, 15)], colour), Shape([ellipse(x, y, 7, 7)], WHITE, depth=0)]
    if kind == "camera":
        return [
            Shape(stroke([(-32, -4), (-16, 118)], 6) + stroke([(32, -4), (16, 118)], 6), (40, 40, 46), depth=0),
            Shape([box(-34, 112, 34, 160)], (48, 46, 52)),
            Shape([ellipse(0, 137, 18, 18)], (90, 86, 80)),
            Shape([ellipse(0, 137, 10, 10)], (30, 26, 24)),
        ]
    return []


def outfit(
    rng: Rng,
    wear: tuple[int, int, int],
    first_owner: int,
    stage: str,
) -> tuple[list[Shape], list[Garment], int]:
    """Everything that belongs to one person, mannequin or flat-lay, back to front; garments; viewpoint."""
    flat = stage in ("flat", "hanger")
    back = stage == "person" and not wear[2] and rng.random() < 0.09  # a coat is drawn from the front only
    body, skin = make_body(rng, stage != "person"), MANNEQUIN if stage == "mannequin" else pick(rng, SKINS)
    garments: list[Garment] = []
    for category in (wear[1], wear[0], wear[2]):
        if category:
            taken = [skin] * (stage == "person") + [g.colour for g in garments]
            garments.append(make_garment(rng, category, first_owner + len(garments), taken))
    top = next((g for g in garments if g.category in (*TOPS, DRESS)), None)
    bottom = next((g for g in garments if g.category in (SHORTS, TROUSERS, SKIRT)), None)
    outer = next((g for g in garments if g.category == OUTER), None)
    hair_style = "egg" if stage == "mannequin" else pick(rng, ["short", "short", "bun", "long", "locks"])
    behind, face = head(skin, skin if stage == "mannequin" else pick(rng, HAIRS), back, hair_style)
    shapes: list[Shape] = []
    if not flat:
        shoe = pick(rng, FABRICS)
        for hip, knee, ankle in body.legs:
            foot = (ankle[0] + (10 if ankle[0] > 0 else -10), ankle[1] + 24)
            shapes += [
                Shape([tube(hip, knee, 36, 24), tube(knee, ankle, 24, 14)], skin),
                Shape([tube((ankle[0], ankle[1] + 14), foot, 15, 17)], shoe),
            ]
        trunk = smooth(
            mirrored(
                [
                    (20, -20),
                    (body.shoulder - 10, 12),
                    (body.shoulder - 14, 80),
                    (body.waist - 4, 165),
                    (body.hip - 4, 250),
                    (20, 300),
                ]
            )
        )
        shapes = behind + shapes + [Shape([trunk], skin), Shape([tube((0, 10), (0, -50), 20, 19)], skin)]
        shapes += [Shape([tube(a, b, 18, 15)], skin) for a, b, _ in body.arms]
    elif top:
        shapes += [cloth(top, [ellipse(0, 0, 34, 13)], colour=darker(top.colour), pattern="solid")]
    tucked = bottom is not None and top is not None and rng.random() < 0.3
    if tucked and top:
        top = top._replace(hem=188.0, ease=min(top.ease, 5.0))
    if bottom and not tucked:
        shapes += skirt(bottom, body) if bottom.category == SKIRT else trousers(rng, bottom, body)
    for arm in body.arms:
        shapes += sleeve(top, arm, True) if top else []
    if top:  # after its sleeves: the edge of the trunk makes the armhole seam
        shapes += dress(top, body, back) if top.category == DRESS else torso_top(rng, top, body, back)
    if bottom and tucked:
        shapes += skirt(bottom, body) if bottom.category == SKIRT else trousers(rng, bottom, body)
    if outer:
        shapes += [cloth(outer, [ellipse(0, -12, 26, 8)], colour=darker(outer.colour))] if flat else []
        for arm in body.arms:
            shapes += sleeve(outer, arm, True, 5)
        shapes += coat(outer, body, float(rng.uniform(20, 34)))
    extras = ["strap", "strap", "scarf", "badge", "camera"] + ["none"] * 9
    if top and top.category == DRESS and not outer:
        extras += ["belt", "belt", "belt"]
    extra = pick(rng, extras)
    if top is None or (flat and extra != "belt") or (back and extra in ("badge", "camera")):
        extra = "none"
    shapes += accessories(rng, body, extra)
    for arm in body.arms:
        if not flat:
            hand = (arm[2][0] + (arm[2][0] - arm[1][0]) * 0.14, arm[2][1] + (arm[2][1] - arm[1][1]) * 0.14)
            shapes += [Shape([tube(arm[1], arm[2], 15, 10), tube(arm[2], hand, 12, 12)], skin)]
        for garment in (top, outer):
            shapes += sleeve(garment, arm, False, 5 if garment is outer else 0) if garment else []
    if stage == "hanger":
        rod: Poly = [(0, 100), (14, 112), (0, 126), (0, 140)]
        if top:
            rod = [(0, -52), (14, -44), (0, -30), (0, -14)]
        bar: Poly = [(-66, 16), (0, -14), (66, 16)] if top else [(-60, 168), (0, 140), (60, 168)]
        hook = [Shape(stroke(rod, 6), (90, 96, 104), depth=0), Shape(stroke(bar, 9), (90, 130, 170), depth=0)]
        shapes = hook + shapes
    return shapes + (face if not flat else []), garments, 1 if stage != "person" else 3 if back else 2


def moved(shapes: list[Shape], dx: float, dy: float = 0, zoom: float = 1) -> list[Shape]:
    return [s._replace(polys=[[(x * zoom + dx, y * zoom + dy) for x, y in poly] for poly in s.polys]) for s in shapes]


def prop(rng: Rng, kind: str) -> list[Shape]:
    """A piece of furniture standing on the floor at y = 650 around x = 0."""
    colour, wood = pick(rng, FABRICS), pick(rng, bgr("8a5a34", "b98a58", "5c3a22", "d8c3a0"))
    if kind == "plant":
        leaves = [
            Shape(
                [smooth([(0, 520), (dx * 0.3 - 14, 440), (dx, top), (dx, top), (dx * 0.3 + 22, 450)])],
                (60, 120 + int(rng.integers(50)), 50),
            )
            for dx, top in ((-90, 380), (90, 370), (-50, 310), (50, 300), (0, 270), (-110, 460), (110, 450))
        ]
        return [*leaves, Shape([[(-50, 520), (50, 520), (38, 650), (-38, 650)]], colour)]
    if kind == "chair":
        legs = [tube((x, 500), (x * 1.15, 648), 7, 5) for x in (-60, 60)]
        return [
            Shape([box(-66, 300, -54, 500), box(54, 300, 66, 500), *legs], wood),
            Shape([smooth(box(-66, 310, 66, 400))], colour),
            Shape([smooth(box(-84, 480, 84, 520))], colour),
        ]
    if kind == "lamp":
        return [
            Shape([box(-4, 250, 4, 640), box(-40, 636, 40, 650)], (60, 60, 66)),
            Shape([[(-40, 150), (40, 150), (70, 255), (-70, 255)]], (170, 215, 240)),
        ]
    if kind == "table":
        return [
            Shape([box(-120, 460, -106, 650), box(106, 460, 120, 650)], darker(wood)),
            Shape([box(-140, 440, 140, 464)], wood),
            *moved(prop(rng, "cup"), -40),
            *moved(prop(rng, "plant"), 60, 180, 0.4),
        ]
    if kind == "cup":
        return [Shape(stroke(ellipse(36, 405, 16, 18), 8), colour), Shape([box(-30, 380, 30, 442)], colour)]
    if kind == "bag":
        return [
            Shape(stroke(ellipse(0, 510, 40, 60, 180, 360), 9), darker(colour)),
            Shape([[(-70, 505), (70, 505), (84, 648), (-84, 648)]], colour),
        ]
    return [
        Shape([box(-70, 0, 70, 180)], wood),
        Shape([box(-58, 12, 58, 168)], (225, 235, 238), depth=0),
        Shape([ellipse(0, 90, 36, 50)], colour, depth=0),
    ]


PROPS = ["plant", "chair", "lamp", "table", "bag", "picture"]


def make_scene(rng: Rng, wear: tuple[int, int, int] | None, couple: bool) -> tuple[Scene, str]:
    """The shapes of one pair group and how they are presented."""
    floor = [Shape([box(-3000, 610, 3000, 3000)], pick(rng, bgr("9a8468", "b5b0a8", "6f6a66", "c9b28e")), depth=0)]
    around = [s for side in (-1, 1) for s in moved(prop(rng, pick(rng, PROPS)), side * float(rng.uniform(150, 230)))]
    if wear is None:
        middle = [*moved(prop(rng, pick(rng, PROPS)), float(rng.uniform(-30, 30)))]
        return Scene(floor + around + middle, [], [], [], (0, 60, 760, 240)), "person"
    legs_only, lone_top, dressed = wear[0] == 0, wear[1] == 0 and wear[0] in TOPS, DRESS in wear
    stage = pick(
        rng,
        ["flat", "hanger", "hanger", "mannequin"]
        if lone_top
        else ["flat", "hanger", "person"]
        if legs_only
        else ["person"] * 14 + ["flat", "hanger", "mannequin"],
    )
    stage = "person" if couple else stage
    shapes, garments, view = outfit(rng, wear, 1, stage)
    views, wearers = [view] * len(garments), [int(stage == "person")] * len(garments)
    shapes = [shape._replace(person=int(stage == "person")) for shape in shapes]
    if couple:
        other_wear = pick(
            rng,
            [
                (VEST, SHORTS, 0),
                (DRESS, 0, 0),
                (SHORT_TOP, SKIRT, 0),
                (LONG_TOP, SHORTS, 0),
                (SHORT_TOP, TROUSERS, OUTER),
            ],
        )
        other, more, view = outfit(rng, other_wear, len(garments) + 1, "person")
        gap = float(rng.uniform(150, 200))
        shapes = moved(shapes, -gap / 2) + moved([shape._replace(person=2) for shape in other], gap / 2, 8)
        garments, views, wearers = garments + more, views + [view] * len(more), wearers + [2] * len(more)
    frames: dict[str, tuple[float, float, float]] = {
        "full": (0.0, -155.0, 675.0),
        "medium": (0, -145, 480),
        "torso": (0, -95, 320),
        "legs": (0, 135, 665),
        "small": (float(rng.uniform(-50, 50)), -220, 740),
    }
    names = ["full"] * 8 + ["medium"] * 16 + ["torso"] * 5 + ["legs"] * 6 + ["small"]
    if legs_only or lone_top:
        names = ["legs"] if legs_only else ["torso"]
    elif dressed or couple:
        names = ["full", "medium", "medium"]
    centre, upper, lower = frames[pick(rng, names)]
    frame = (centre, upper, lower, 430.0 if couple else 240.0)
    if stage in ("flat", "hanger"):
        points = [p for s in shapes if s.owner and not s.clip for poly in s.polys for p in poly]
        upper = min(y for _, y in points) - (65 if stage == "hanger" else 25)
        frame = (0.0, upper, max(y for _, y in points) + 25, 2 * max(x for x, _ in points) + 40)
    elif rng.random() < 0.3:
        shapes = around[: len(around) // 2] + shapes
    return Scene((floor if stage in ("person", "mannequin") else []) + shapes, garments, views, wearers, frame), stage


# ---------------------------------------------------------------- pictures


def cut_off(scene: Scene, camera: Camera, owner: int, width: int, height: int) -> float:
    """Share of a garment outside the frame, counted on a coarse map of the surroundings."""
    around = np.zeros((400, 400), np.uint8)
    for poly in (p for s in scene.shapes if s.owner == owner and not s.clip for p in s.polys):
        points = [[round(v / 4) + 200 for v in camera.to_pixel(p)] for p in poly]
        cv2.fillPoly(around, [np.array(points, np.int32)], 1)
    inside = int(around[200 : 200 + height // 4, 200 : 200 + width // 4].sum())
    return 1 - inside / max(1, int(around.sum()))


# ---------------------------------------------------------------- annotations


def tidy(mask: Image) -> Image:
    """Drop the visible pieces which are too small to be worth a polygon."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    keep = np.array([k > 0 and stats[k, cv2.CC_STAT_AREA] >= MIN_PIECE for k in range(count)], np.uint8)
    return np.asarray(keep[labels], np.uint8)


def segment(mask: Image, care: Care) -> list[list[int]] | dict[str, Any]:
    """COCO polygons along the pixel edges, one per visible part; RLE if there is a hole."""
    height, width = mask.shape
    truth = coco_mask.encode(np.asfortranarray(mask))
    double = np.repeat(np.repeat(mask, 2, 0), 2, 1)
    contours, hierarchy = cv2.findContours(double, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    holes = [contour for contour, link in zip(contours, hierarchy[0], strict=True) if link[3] >= 0]
    contours = [contour for contour, link in zip(contours, hierarchy[0], strict=True) if link[3] < 0]
    if any(cv2.contourArea(hole) > 4 * care.min_hole for hole in holes):
        return {"size": [height, width], "counts": truth["counts"].decode("ascii")}
    polygons: list[list[int]] = []
    for epsilon in care.epsilons:
        # In the doubled mask an even coordinate is a left/top pixel edge, an odd one a right/bottom edge.
        edges = [cv2.approxPolyDP((contour + 1) // 2, epsilon, True) for contour in contours]
        polygons = [[int(v) for v in edge.ravel()] for edge in edges if len(edge) >= 3]
        drawn = coco_mask.merge(coco_mask.frPyObjects(polygons, height, width))
        if coco_mask.iou([drawn], [truth], [False])[0][0] >= care.least_iou:
            break
    return polygons


def attributes(rng: Rng, g: Garment) -> dict[str, str]:
    words = {"hstripes": "striped", "vstripes": "striped", "checks": "checked", "dots": "dotted"}
    length = "sleeveless" if g.sleeve == 0 else "short" if g.sleeve < 0.4 else "half" if g.sleeve <= 0.5 else "long"
    values = {"neck_type": g.neck, "sleeve_length": length, "pattern": words.get(g.pattern, g.pattern)}
    if rng.random() < 0.15:  # people forget fields: pull has to cope with that
        for name in rng.choice(list(values), int(rng.integers(1, 3)), replace=False):
            del values[str(name)]
    return values


def outline(mask: Image, care: Care) -> dict[str, Any]:
    """The geometry of an annotation, COCO's fields."""
    height, width = mask.shape
    parts = segment(mask, care)
    rle = (
        coco_mask.merge(coco_mask.frPyObjects(parts, height, width))
        if isinstance(parts, list)
        else {"size": parts["size"], "counts": parts["counts"].encode("ascii")}
    )
    return {
        "segmentation": parts,
        "bbox": [round(float(v), 2) for v in coco_mask.toBbox(rle)],
        "area": round(float(coco_mask.area(rle)), 2),
        "iscrowd": 0,
    }


def annotate(
    rng: Rng, scene: Scene, camera: Camera, painted: Painted, style: int
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """What a photo shows of garments, and of people: each with the positions of its garments among those."""
    height, width = painted.ids.shape
    found, wearers = [], []
    for g, wearer in zip(scene.garments, scene.wearers, strict=True):
        mask = tidy((painted.ids == g.owner).astype(np.uint8))
        visible = int(mask.sum())
        if visible < MIN_VISIBLE:
            continue
        hidden, share = 1 - visible / painted.whole[g.owner], visible / (height * width)
        lost = cut_off(scene, camera, g.owner, width, height)
        wearers.append(wearer)
        found.append(
            {
                "category_id": g.category,
                **outline(mask, OF_GARMENTS),
                "scale": 1 if share < 0.06 else 2 if share < 0.2 else 3,
                "occlusion": 1 if hidden < 0.2 else 2 if hidden <= 0.5 else 3,
                "zoom_in": 1 if lost < 0.1 else 2 if lost < 0.4 else 3,
                "viewpoint": scene.viewpoints[g.owner - 1],
                "style": style,
            }
            | ({"attributes": attributes(rng, g)} if g.category in TOPS else {})
        )
    people = []
    for person in range(1, max(scene.wearers, default=0) + 1):
        mask = tidy((painted.people == person).astype(np.uint8))
        if mask.sum() >= MIN_VISIBLE:
            worn = [position for position, wearer in enumerate(wearers) if wearer == person]
            people.append({"category_id": PERSON, **outline(mask, OF_PEOPLE), "garments": worn})
    return found, people


# ---------------------------------------------------------------- groups and files


def shoot(
    rng: Rng, scene: Scene, wall: Image, tilt: float, flip: int, wrinkles: Ints, size: tuple[int, int]
) -> tuple[Camera, Painted]:
    """One photo; the camera moves until no garment is a mere scrap at the edge of the picture."""
    width, height = size
    centre, top, bottom, least = scene.frame
    for _ in range(8):
        angle = math.radians(tilt + float(rng.uniform(-2.5, 2.5)))
        scale = min(height / (bottom - top), width / least) * float(rng.uniform(0.92, 1.08))
        cos, sin = math.cos(angle), math.sin(angle)
        mx, my = centre * flip, (top + bottom) / 2
        camera = Camera(
            scale,
            cos,
            sin,
            flip,
            width / 2 - scale * (cos * mx - sin * my) + float(rng.uniform(-9, 9)),
            height / 2 - scale * (sin * mx + cos * my) + float(rng.uniform(-7, 7)),
        )
        dy, dx = (int(rng.integers(0, 400 - n + 1)) for n in (height, width))
        painted = paint(scene, camera, wall[dy : dy + height, dx : dx + width], wrinkles)
        visible = [int((painted.ids == g.owner).sum()) for g in scene.garments]
        if all(v == 0 or v >= MIN_VISIBLE for v in visible):
            break
    return camera, painted


def develop(rng: Rng, picture: Image) -> bytes:
    """Brightness, contrast and colour cast of one shot, then JPEG."""
    gain, lift = int(rng.integers(228, 282)), int(rng.integers(-14, 15))
    cast = rng.integers(-8, 9, 3)
    return to_jpeg(((picture.astype(np.int32) - 128) * gain >> 8) + 128 + lift + cast, JPEG_QUALITY)


def make_group(pair_id: int, wear: tuple[int, int, int] | None, size: int) -> list[dict[str, Any]]:
    """All photos of one outfit: {jpeg, image record without id, annotations of garments and of people without ids}."""
    rng = np.random.default_rng([SEED, pair_id])
    scene, stage = make_scene(rng, wear, couple=wear is not None and pair_id % 11 == 3)
    options = [pick(rng, BACKDROPS) for _ in range(5)]
    colours = [g.colour for g in scene.garments]
    if rng.random() < 0.85 and colours:  # most people avoid standing in red before a red wall
        options.sort(key=lambda o: -min(contrast(bgr(o[1])[0], c) for c in colours))
    kind, base = options[0][0], bgr(options[0][1])[0]
    wall, plain = backdrop(rng, kind, base), backdrop(rng, "plaster", base)
    wrinkles = noise(rng, 400, 400, 9, 26)
    tilt, flip = float(np.clip(rng.normal(0, 4.5), -12, 12)), int(rng.choice([-1, 1]))
    own_size, shop_shot = pick(rng, SIZES), int(rng.integers(5)) if rng.random() < 0.6 else -1
    recoloured = size >= 4 and rng.random() < 0.25
    photos = []
    for k in range(size):
        shop = stage in ("flat", "mannequin") or k == shop_shot
        style = 2 if recoloured and k >= size - 2 else 1
        swap = 1 if style == 2 else -1  # the second colourway of the first garment
        shapes = [
            s._replace(colour=s.accent, accent=s.colour) if s.owner == swap and not s.clip else s for s in scene.shapes
        ]
        photo_size = pick(rng, SIZES) if rng.random() < 0.25 else own_size
        camera, painted = shoot(
            rng, scene._replace(shapes=shapes), plain if k == shop_shot else wall, tilt, flip, wrinkles, photo_size
        )
        record = {
            "width": photo_size[0],
            "height": photo_size[1],
            "pair_id": pair_id,
            "source": "shop" if shop else "user",
        }
        jpeg = develop(rng, painted.picture)
        garments, people = annotate(rng, scene, camera, painted, style)
        photos.append({"jpeg": jpeg, "image": record, "annotations": garments, "people": people})
    return photos


def plan_groups(rng: Rng) -> list[tuple[tuple[int, int, int] | None, int]]:
    """What each group wears and how many photos it has; the first one's pair_id is 1."""
    wear: list[tuple[int, int, int] | None] = [w[1:] for w in WARDROBE for _ in range(w[0])]
    # Sizes go round-robin over the wardrobe, so that no kind of outfit gets only single photos.
    sizes = [GROUP_SIZES[(k * 37 + 5) % len(GROUP_SIZES)] for k in range(len(GROUP_SIZES))]
    plans = list(zip(wear, sizes, strict=True)) + [(None, 1)] * 12
    return [plans[int(k)] for k in rng.permutation(len(plans))]


def make_dataset() -> list[dict[str, Any]]:
    """All photos, in an order in which no two neighbours show the same outfit."""
    rng = np.random.default_rng(SEED)
    plans = plan_groups(rng)
    photos = [p for pair_id, (w, n) in enumerate(plans, 1) for p in make_group(pair_id, w, n)]
    photos = [photos[int(k)] for k in rng.permutation(len(photos))]
    pair = [p["image"]["pair_id"] for p in photos]
    while any(a == b for a, b in pairwise(pair)):
        k = next(k for k, (a, b) in enumerate(pairwise(pair)) if a == b)
        other = int(rng.integers(len(pair)))
        for column in (photos, pair):
            column[k], column[other] = column[other], column[k]
    return photos


def photos_to_files(photos: list[dict[str, Any]]) -> dict[str, bytes]:
    """What the zip has, by name."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    files: dict[str, bytes] = {}
    for number, photo in enumerate(photos, 1):
        name = f"{number:06d}.jpg"
        images.append({"id": number, "file_name": name, **photo["image"]})
        files[f"images/{name}"] = photo["jpeg"]
        photo["ids"] = range(len(annotations) + 1, len(annotations) + 1 + len(photo["annotations"]))
        for identity, annotation in zip(photo["ids"], photo["annotations"], strict=True):
            annotations.append({"id": identity, "image_id": number, **annotation})
    for number, photo in enumerate(photos, 1):  # after all garments, whose ids are those of samples without people
        for person in photo["people"]:
            worn = [photo["ids"][position] for position in person["garments"]]
            annotations.append({"id": len(annotations) + 1, "image_id": number, **person, "garments": worn})
    coco = {
        "info": {"description": "Seamline drawn garment sample", "version": "1.0", "year": 2024},
        "licenses": [],
        "images": images,
        "annotations": annotations,
        "categories": [
            *({"id": k, "name": v, "supercategory": "clothes"} for k, v in CATEGORIES.items()),
            {"id": PERSON, "name": "person"},
        ],
    }
    files["annotations.json"] = (json.dumps(coco, separators=(",", ":")) + "\n").encode()
    return files


def tinted_photos(source: Path, first: int, count: int) -> Iterator[Image]:
    """Photos of the zip with outlines and a light tint on every mask."""
    tints = bgr("ff2020", "20c020", "3060ff", "ffd000", "ff20ff", "00e0e0", "ff8000", "8040ff")
    with zipfile.ZipFile(io.BytesIO(source.read_bytes())) as archive:
        coco = json.loads(archive.read("annotations.json"))
        for image in coco["images"][first : first + count]:
            data = np.frombuffer(archive.read("images/" + image["file_name"]), np.uint8)
            picture = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))
            for a in (a for a in coco["annotations"] if a["image_id"] == image["id"] and a["category_id"] != PERSON):
                parts = a["segmentation"]
                rle = (
                    coco_mask.merge(coco_mask.frPyObjects(parts, image["height"], image["width"]))
                    if isinstance(parts, list)
                    else {**parts, "counts": parts["counts"].encode()}
                )
                mask = coco_mask.decode(rle)
                tint = tints[list(CATEGORIES).index(a["category_id"])]
                picture[mask > 0] = picture[mask > 0] // 5 * 4 + np.array(tint, np.uint8) // 5
                contours, _ = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
                cv2.drawContours(picture, contours, -1, tint, 1)
            yield picture


def main() -> None:
    options = sample_parser(__doc__, Path(__file__).with_name("garments.zip")).parse_args()
    cv2.setNumThreads(1)  # one core is enough, and threads could change nothing but the time
    if options.contact_sheet:
        photos = tinted_photos(options.zip, options.first, 8 * 6)
        write_contact_sheet(photos, options.contact_sheet, columns=8, rows=6, cell=256)
    else:
        write_zip(photos_to_files(make_dataset()), options.zip)


if __name__ == "__main__":
    main()
