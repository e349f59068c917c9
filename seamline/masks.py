"""Masks: COCO polygons and RLE, rasters, and the one-line polygon that the trainer fills.

A YOLO label holds one polygon an instance, and ultralytics fills it with OpenCV's even-odd rule. COCO's masks are
unions of polygons that may overlap, come in several parts, or have holes. So the union is rasterised as pycocotools
does, its outlines are traced, and outlines and holes are joined into one closed walk by bridges that are crossed
twice and so enclose nothing.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask
from scipy.spatial import cKDTree

Mask = npt.NDArray[np.uint8]  # (height, width), 0 or 1
Ring = npt.NDArray[np.int32]  # (points, 2) as x, y; closed, the first point not repeated
Line = npt.NDArray[np.float64]  # (points, 2) as x, y, each a share of width or height
Rle = dict[str, Any]  # {"size": [height, width], "counts": bytes or str}


def segmentation_to_rle(segmentation: Any, height: int, width: int) -> Rle:
    """The union of COCO polygons, or RLE (compressed or not), as one compressed RLE.

    Raises:
        ValueError: when the segmentation is none of these, or an RLE of another size than the image.
    """
    if isinstance(segmentation, list):
        polygons = [polygon for polygon in segmentation if isinstance(polygon, list) and len(polygon) >= 6]
        if not polygons:
            raise ValueError("has no polygon of at least three points")
        return union_of(coco_mask.frPyObjects(polygons, height, width))
    if isinstance(segmentation, dict) and "counts" in segmentation:
        if list(segmentation.get("size", [])) != [height, width]:
            raise ValueError(f"has an RLE of size {segmentation.get('size')} on an image of {[height, width]}")
        if isinstance(segmentation["counts"], list):
            return dict(coco_mask.frPyObjects(segmentation, height, width))
        return dict(segmentation)
    raise ValueError("has no polygons and no RLE")


def union_of(rles: list[Rle]) -> Rle:
    """COCO's meaning of several polygons: a pixel in any of them is in the mask."""
    return dict(coco_mask.merge(rles, intersect=False))


def rle_to_mask(rle: Rle) -> Mask:
    mask: Mask = coco_mask.decode(rle)
    return mask


def mask_to_rle(mask: Mask) -> Rle:
    """Compressed RLE with text counts, as COCO results files hold it."""
    rle = coco_mask.encode(np.asfortranarray(mask))
    return {"size": [int(side) for side in rle["size"]], "counts": rle["counts"].decode("ascii")}


def mask_iou(first: Mask, second: Mask) -> float:
    """Intersection over union; 1 for two empty masks."""
    union = int(np.count_nonzero(first | second))
    return float(np.count_nonzero(first & second) / union) if union else 1.0


def mask_to_line(mask: Mask) -> Line | None:
    """The one closed polygon that gives this mask back when it is filled even-odd; None for an empty mask.

    Corners are pixel centres, given as shares of the width and the height: the trainer cuts coordinates down to
    whole pixels, and a centre falls into its own pixel at every scale.
    """
    height, width = mask.shape
    rings = mask_to_rings(mask)
    if not rings:
        return None
    walk = rings_to_walk(rings)
    if len(walk) < 3:  # a mask of one or two pixels; a label needs three corners
        walk = np.resize(walk, (3, 2))
    return (walk + 0.5) / np.array([width, height], dtype=np.float64)


def mask_to_rings(mask: Mask) -> list[Ring]:
    """Outlines of the parts and of their holes, through the mask's own outermost pixels."""
    contours, _ = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    return [np.asarray(contour, dtype=np.int32).reshape(-1, 2) for contour in contours]


def rings_to_walk(rings: list[Ring]) -> Ring:
    """Join rings into one closed walk along the shortest bridges that connect them all (Prim's tree).

    A part that is smaller than the bridge to it is wide would cost more pixels than it brings and is left out.
    """
    order = sorted(range(len(rings)), key=lambda index: -len(rings[index]))
    rings = [rings[index] for index in order]
    trees = [cKDTree(ring) for ring in rings]
    children: list[list[tuple[int, int, int]]] = [[] for _ in rings]  # of each ring: (own point, child, its point)
    # For each ring outside the tree the shortest bridge known: length, ring inside, point there, point here.
    nearest = {index: shortest_bridge(trees, rings, 0, index) for index in range(1, len(rings))}
    while nearest:
        joined = min(nearest, key=lambda index: (nearest[index][0], index))
        length, parent, parent_point, own_point = nearest.pop(joined)
        if length > np.sqrt(2) and ring_pixels(rings[joined]) <= length - 1:
            continue
        children[parent].append((parent_point, joined, own_point))
        for index in nearest:
            nearest[index] = min(nearest[index], shortest_bridge(trees, rings, joined, index))
    return np.array(simplified(walk_of(rings, children)), dtype=np.int32)


def shortest_bridge(trees: list[cKDTree], rings: list[Ring], inside: int, outside: int) -> tuple[float, int, int, int]:
    lengths, points = trees[inside].query(rings[outside])
    own = int(np.argmin(lengths))
    return float(lengths[own]), inside, int(points[own]), own


def ring_pixels(ring: Ring) -> float:
    """Pixels that a filled ring covers, its border included (Pick's theorem)."""
    return float(cv2.contourArea(ring)) + len(ring) / 2 + 1


def walk_of(rings: list[Ring], children: list[list[tuple[int, int, int]]]) -> list[tuple[int, int]]:
    """Walk the largest ring once around, and at each bridge over it, around that ring, and back."""
    walk: list[tuple[int, int]] = []
    # A stack of (ring, start, step, bridges by point) in place of recursion, for masks with thousands of parts.
    stack = [(0, 0, 0, bridges_by_point(children[0]))]
    while stack:
        ring, start, step, bridges = stack.pop()
        points = rings[ring]
        while step <= len(points):
            point = (start + step) % len(points)
            x, y = points[point]
            walk.append((int(x), int(y)))
            step += 1
            if bridges.get(point):
                child, own_point = bridges[point].pop()
                stack.append((ring, start, step - 1, bridges))
                stack.append((child, own_point, 0, bridges_by_point(children[child])))
                break
    return walk


def bridges_by_point(children: list[tuple[int, int, int]]) -> dict[int, list[tuple[int, int]]]:
    bridges: dict[int, list[tuple[int, int]]] = {}
    for point, child, own_point in children:
        bridges.setdefault(point, []).append((child, own_point))
    return bridges


def simplified(walk: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Leave out repeated corners and those in the middle of a straight run, which change nothing of the filling."""
    kept: list[tuple[int, int]] = []
    for point in walk:
        if kept and kept[-1] == point:
            continue
        while len(kept) >= 2 and runs_straight(kept[-2], kept[-1], point):
            kept.pop()
        kept.append(point)
    if len(kept) > 1 and kept[0] == kept[-1]:
        kept.pop()
    return kept


def runs_straight(first: tuple[int, int], second: tuple[int, int], third: tuple[int, int]) -> bool:
    """Whether second lies between first and third on one line along a row, a column or a diagonal."""
    ax, ay = second[0] - first[0], second[1] - first[1]
    bx, by = third[0] - second[0], third[1] - second[1]
    on_line = ax * by == ay * bx and ax * bx + ay * by > 0
    return on_line and (ax == 0 or ay == 0 or abs(ax) == abs(ay))


def line_to_trained_mask(line: Line, height: int, width: int) -> Mask:
    """The mask that ultralytics' dataset fills from a label line at the image's own size.

    Follows ultralytics' resample_segments (1,000 points, or one more than there are) and polygon2mask (coordinates
    cut to int32, cv2.fillPoly); a test holds it to both.
    """
    points = line.astype(np.float32)
    count = 1000 if len(points) <= 1000 else len(points) + 1
    if len(points) != count:
        closed = np.concatenate((points, points[:1]))
        at = np.arange(len(closed))
        wanted = np.linspace(0, len(closed) - 1, count - len(closed) if len(closed) < count else count)
        if len(closed) < count:
            wanted = np.insert(wanted, np.searchsorted(wanted, at), at)
        points = np.stack([np.interp(wanted, at, closed[:, axis]) for axis in range(2)], axis=1).astype(np.float32)
    pixels = (points * np.array([width, height], dtype=np.float32)).astype(np.int32)
    mask = np.zeros((height, width), dtype=np.uint8)
    cv2.fillPoly(mask, [pixels], 1)
    return mask
