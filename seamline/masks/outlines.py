"""Masks: COCO polygons and RLE, rasters, and the one closed polygon that the trainer fills.

A YOLO label holds one polygon an instance, and ultralytics fills it with OpenCV's even-odd rule. COCO's masks are
unions of polygons that may overlap, come in several parts, or have holes. So the union is rasterised as pycocotools
does, its outlines are traced, and outlines and holes are joined into one closed walk by bridges that are crossed
twice and so enclose nothing.
"""

from __future__ import annotations

import functools
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

Mask = npt.NDArray[np.uint8]  # (height, width), 0 or 1
Corners = npt.NDArray[np.int32]  # (points, 2): column and row of pixels; closed, the first not repeated
Indices = npt.NDArray[np.int64]
Line = npt.NDArray[np.float64]  # (points, 2) as x, y, each a share of width or height
Rle = dict[str, Any]  # {"size": [height, width], "counts": bytes or str}

# What leaving out corners may cost of a mask, and how far one may be off. On DeepFashion2's masks it costs half of
# that, and labels take a fifth of the space; small masks keep every corner. On Clothing Co-Parsing mean IoU is 0.995 at
# 0.006 and 0.993 at 0.0095, for which labels are a third smaller.
LOST_SHARE = 0.0095
SPECKS_SHARE = 0.001
MAX_RINGS = 2000  # joining takes time by their square; a mask of more is noise
MAX_TOLERANCE_PX = 1.5


def segmentation_to_rle(segmentation: Any, height: int, width: int) -> Rle:
    """The union of COCO polygons, or RLE (compressed or not), as one compressed RLE.

    Raises:
        ValueError: when the segmentation is none of these, or an RLE of another size than the image.
    """
    if isinstance(segmentation, list):
        polygons = [polygon for polygon in segmentation if isinstance(polygon, list) and len(polygon) >= 6]
        if not polygons:
            raise ValueError("has no polygon of at least three points")
        rles = coco_mask.frPyObjects(polygons, height, width)
        return dict(rles[0]) if len(rles) == 1 else union_of(rles)
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


def rle_to_crop(rle: Rle) -> tuple[Mask, int, int]:
    """The mask inside its bounding box, and that box's left and top; 0 x 0 for an empty mask.

    Most of an image is no garment: half the time of a conversion went into decoding and comparing background.
    """
    left, top, columns, rows = (int(side) for side in coco_mask.toBbox(rle))
    if not rows:
        return np.zeros((0, 0), np.uint8), 0, 0
    height = int(rle["size"][0])
    low, high = left * height, (left + columns) * height  # runs go down the columns
    ends = np.cumsum(counts_to_runs(rle["counts"]))
    clipped = np.minimum(np.maximum(ends, low), high)
    lengths = clipped - np.concatenate(([low], clipped[:-1]))
    values = (np.arange(len(lengths)) & 1).astype(np.uint8)
    band = np.repeat(values, lengths).reshape(columns, height)
    return np.asarray(cv2.transpose(band[:, top : top + rows]), dtype=np.uint8), left, top


def counts_to_runs(counts: str | bytes) -> Indices:
    """Run lengths, background first, from compressed RLE text (pycocotools' rleFrString).

    A number is written in groups of five bits, lowest first, each a character from "0" on; a sixth bit says that
    more follow, the last group's fifth is the sign; from the fourth number on it is the difference to the last but one.
    """
    codes = np.frombuffer(counts.encode("ascii") if isinstance(counts, str) else counts, np.uint8).astype(np.int64) - 48
    ends = np.flatnonzero(codes & 0x20 == 0)
    starts = np.concatenate(([0], ends[:-1] + 1))
    lengths = ends - starts + 1
    shifts = 5 * (np.arange(lengths.sum()) - np.repeat(starts, lengths))
    runs = np.add.reduceat((codes[: len(shifts)] & 0x1F) << shifts, starts)
    runs -= np.where(codes[ends] & 0x10, 1 << (5 * lengths), 0)
    runs[1::2] = np.cumsum(runs[1::2])
    runs[2::2] = np.cumsum(runs[2::2])
    return runs


def mask_to_rle(mask: Mask) -> Rle:
    """Compressed RLE with text counts, as COCO results files hold it."""
    rle = coco_mask.encode(np.asfortranarray(mask))
    return {"size": [int(side) for side in rle["size"]], "counts": rle["counts"].decode("ascii")}


def mask_iou(first: Mask, second: Mask) -> float:
    """Intersection over union; 1 for two empty masks."""
    union = cv2.countNonZero(cv2.bitwise_or(first, second))
    return cv2.countNonZero(cv2.bitwise_and(first, second)) / union if union else 1.0


def mask_to_corners(mask: Mask) -> Corners | None:
    """The one closed polygon that gives this mask back when it is filled even-odd; None for an empty mask.

    Its corners are pixels of the mask. Left out are parts that are smaller than the bridges to them are wide, and
    specks and pinholes that together are hardly anything of the mask.
    """
    # Most masks have one outline and no hole to speak of, and OpenCV leaves out what lies on straight runs by itself.
    simple, hierarchy = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    if not simple:
        return None
    kept = [0]
    if len(simple) > 1:
        area = cv2.countNonZero(mask)
        sizes = [ring_pixels(np.asarray(ring, dtype=np.int32).reshape(-1, 2)) for ring in simple]
        kept = worth_a_ring(sizes, hierarchy[0, :, 3].tolist(), SPECKS_SHARE * area)
    if len(kept) == 1:
        ring = np.asarray(simple[kept[0]], dtype=np.int32).reshape(-1, 2)
        length = outline_px(ring)
        corners = thinned(np.concatenate((ring, ring[:1])), tolerance_px(cv2.contourArea(ring), length))[:-1]
    else:
        contours, _ = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)  # the same, with every pixel
        rings = [np.asarray(contours[index], dtype=np.int32).reshape(-1, 2) for index in kept]
        position = {index: place for place, index in enumerate(kept)}
        parents = [position.get(int(hierarchy[0, index, 3]), -1) for index in kept]
        corners = rings_to_corners(rings, parents, mask)
    return corners if len(corners) >= 3 else np.resize(corners, (3, 2))  # a mask of one or two pixels


def worth_a_ring(sizes: list[float], parents: list[int], spare_px: float) -> list[int]:
    """Indices of the rings that stay when the smallest, up to `spare_px` together or beyond MAX_RINGS, are left out.

    A hole goes with the part it is in, whose index in `parents` it has.
    """
    left_out: set[int] = set()
    for index in sorted(range(len(sizes)), key=lambda index: (sizes[index], parents[index] < 0)):
        spare_px -= sizes[index]
        if (spare_px < 0 and len(sizes) - len(left_out) <= MAX_RINGS) or len(left_out) == len(sizes) - 1:
            break
        left_out.add(index)
    return [index for index in range(len(sizes)) if index not in left_out and parents[index] not in left_out]


def rings_to_corners(rings: list[Corners], parents: list[int], mask: Mask) -> Corners:
    """Join outlines and holes into one closed walk.

    Args:
        rings: through the mask's own outermost pixels, neighbouring points touching.
        parents: for a hole the index of its part's outline, for an outline -1.
        mask: what they were traced in.
    """
    points = np.concatenate(rings)
    ends = np.cumsum([len(ring) for ring in rings])
    starts = ends - [len(ring) for ring in rings]
    ring_of = np.repeat(np.arange(len(rings)), ends - starts)
    members: dict[int, list[Indices]] = {index: [] for index, parent in enumerate(parents) if parent < 0}
    for index, parent in enumerate(parents):
        members[index if parent < 0 else parent].append(np.arange(starts[index], ends[index]))
    # A part and its holes: these bridges run inside the mask and cost nothing.
    bridges = [bridge for part in members.values() if len(part) > 1 for bridge in spanning_bridges(points, part)]
    sizes = {part: ring_pixels(rings[part]) for part in members}
    largest = max(sizes, key=lambda part: sizes[part])
    if len(members) > 1:
        order = [largest, *(part for part in members if part != largest)]
        between = spanning_bridges(points, [np.concatenate(members[part]) for part in order])
        part_of = np.array([index if parent < 0 else parent for index, parent in enumerate(parents)])[ring_of]
        bridges += worthwhile(between, points, part_of, sizes, largest, mask)
    tolerance = tolerance_px(cv2.countNonZero(mask), len(points))
    return straightened(walk_over(bridges, points, starts, ends, ring_of, largest, tolerance))


def spanning_bridges(points: Corners, groups: list[Indices]) -> list[tuple[int, int]]:
    """The shortest bridges that connect all groups of points (Prim's tree), as (point on the tree, point reached).

    Grows from the first group. Lengths are in pixels of a line drawn 8-connected: the larger of width and height.
    """
    group_of = np.repeat(np.arange(len(groups)), [len(group) for group in groups])
    outside = np.concatenate(groups)
    distance = np.full(len(outside), np.inf)
    nearest = np.zeros(len(outside), dtype=np.int64)
    joined, bridges = 0, []
    for _ in groups[1:]:
        left = group_of != joined
        group_of, outside, distance, nearest = group_of[left], outside[left], distance[left], nearest[left]
        lengths, closest = nearest_points(points[groups[joined]], points[outside])
        shorter = lengths < distance
        distance[shorter] = lengths[shorter]
        nearest[shorter] = groups[joined][closest[shorter]]
        reached = int(distance.argmin())
        bridges.append((int(nearest[reached]), int(outside[reached])))
        joined = int(group_of[reached])
    return bridges


def nearest_points(among: Corners, of: Corners) -> tuple[npt.NDArray[np.float64], Indices]:
    """The Chebyshev distance of each point to the nearest of others, and that one's index."""
    if len(among) * len(of) < 10_000:
        distances = longer_sides(of[:, None] - among[None])
        closest = distances.argmin(axis=1)
        return distances[np.arange(len(of)), closest].astype(np.float64), closest
    from scipy.spatial import cKDTree  # heavy, and most masks are in one part

    lengths, closest = cKDTree(among, balanced_tree=False, compact_nodes=False).query(of, p=np.inf)
    return lengths, closest


def worthwhile(
    bridges: list[tuple[int, int]],
    points: Corners,
    part_of: Indices,
    sizes: dict[int, float],
    root: int,
    mask: Mask,
) -> list[tuple[int, int]]:
    """The bridges that bring more pixels than they cost, whatever is reached over them included."""
    value = dict(sizes)
    worth = []
    for inside, reached in reversed(bridges):  # from the last joined back to the first: from the leaves to the root
        start, step = points[inside], points[reached] - points[inside]
        along = np.arange(1, np.abs(step).max())[:, None]
        columns, rows = (start + np.sign(step) * np.minimum(along, np.abs(step))).T  # as walk_over goes
        gained = value[int(part_of[reached])] - np.count_nonzero(mask[rows, columns] == 0)
        if gained > 0:
            value[int(part_of[inside])] += gained
            worth.append((inside, reached))
    reachable = {root}
    kept = []
    for inside, reached in reversed(worth):
        if part_of[inside] in reachable:
            reachable.add(int(part_of[reached]))
            kept.append((inside, reached))
    return kept


def ring_pixels(ring: Corners) -> float:
    """Pixels that a filled ring covers, its border included (Pick's theorem)."""
    return float(cv2.contourArea(ring)) + outline_px(ring) / 2 + 1


def outline_px(ring: Corners) -> float:
    """Pixels along a ring of straight and diagonal runs."""
    return float(longer_sides(following(ring) - ring).sum())


def longer_sides(steps: Corners) -> Corners:
    """How many pixels a line of each step, (..., 2), is long: the larger of width and height.

    The same as a maximum over the last axis, which numpy takes five times as long for.
    """
    sizes: Corners = np.abs(steps)
    return np.maximum(sizes[..., 0], sizes[..., 1])


def walk_over(
    bridges: list[tuple[int, int]],
    points: Corners,
    starts: Indices,
    ends: Indices,
    ring_of: Indices,
    first: int,
    tolerance: float,
) -> Corners:
    """Walk once around the first ring, and at each bridge over it, around what lies beyond, and back.

    A bridge runs diagonally and then straight: the trainer puts further points on it and cuts them to whole pixels,
    which on any other slope would make the way back another one than the way there.
    """
    across: dict[int, list[tuple[int, Corners]]] = {}
    for a, b in bridges:
        step = points[b] - points[a]
        knee = points[a : a + 1] + np.sign(step) * np.abs(step).min()
        across.setdefault(a, []).append((b, knee))
        across.setdefault(b, []).append((a, knee))
    bridgeheads: dict[int, list[int]] = {}
    for point in sorted(across):
        bridgeheads.setdefault(int(ring_of[point]), []).append(point)
    walk: list[Corners] = []
    waiting: list[tuple[int, int] | Corners] = [(int(starts[first]), -1)]
    while waiting:  # a stack in place of recursion, for masks in thousands of parts
        task = waiting.pop()
        if isinstance(task, np.ndarray):
            walk.append(task)
            continue
        entry, origin = task
        start, end = int(starts[ring_of[entry]]), int(ends[ring_of[entry]])
        around = np.concatenate((np.arange(entry, end), np.arange(start, entry + 1)))
        tasks: list[tuple[int, int] | Corners] = []
        position = 0
        for stop in sorted((point - entry) % (end - start) for point in bridgeheads.get(int(ring_of[entry]), [])):
            tasks.append(thinned(points[around[position : stop + 1]], tolerance))
            point = int(around[stop])
            for other, knee in across[point]:
                if stop or other != origin:
                    tasks += [knee, (other, point), knee, points[point : point + 1]]
            position = stop
        waiting += [thinned(points[around[position:]], tolerance), *reversed(tasks)]
    return np.concatenate(walk)


def tolerance_px(area_px: float, outline_px: float) -> float:
    """How far a corner left out may be from the line that is left, so that up to LOST_SHARE of the mask is lost.

    On average they are a third of that off. Below half a pixel hardly any can be left out.
    """
    tolerance = 3 * LOST_SHARE * area_px / max(outline_px, 1)
    return min(tolerance, MAX_TOLERANCE_PX) if tolerance >= 0.5 else 0.0


def thinned(path: Corners, tolerance: float) -> Corners:
    """An open path with the same ends and fewer corners (Douglas-Peucker)."""
    if not tolerance or len(path) < 3:
        return path
    if (path[0] == path[-1]).all():  # around a ring: there is no line between its ends to measure from
        middle = len(path) // 2
        return np.concatenate((thinned(path[: middle + 1], tolerance), thinned(path[middle:], tolerance)[1:]))
    return np.asarray(cv2.approxPolyDP(path, tolerance, False), dtype=np.int32).reshape(-1, 2)


def straightened(walk: Corners) -> Corners:
    """Leave out repeated corners and those in the middle of a straight run, which change nothing of the filling."""
    steps = following(walk) - walk
    moves = (steps[:, 0] | steps[:, 1]) != 0
    walk = walk[moves] if moves.any() else walk[:1]
    if len(walk) < 3:
        return walk
    steps = following(walk) - walk
    sizes = np.abs(steps)
    # Along a row, a column or a diagonal, which a bridge is not where it was drawn without a knee.
    straight = (sizes[:, 0] == sizes[:, 1]) | (sizes.min(axis=1) == 0)
    steps[straight] = np.sign(steps[straight])
    turns = steps ^ np.concatenate((steps[-1:], steps[:-1]))
    kept: Corners = walk[(turns[:, 0] | turns[:, 1]) != 0]
    return kept


def following(walk: Corners) -> Corners:
    return np.concatenate((walk[1:], walk[:1]))


def line_to_trained_pixels(line: Line, height: int, width: int) -> Corners:
    """The corners that ultralytics' dataset makes of a label line at the image's own size.

    Follows ultralytics' resample_segments (1,000 points, or one more than there are) and polygon2mask (coordinates
    cut to int32); a test holds it to both.
    """
    points = line.astype(np.float32)
    if len(points) < 1000:
        closed = np.concatenate((points, points[:1]))
        at, wanted = resampled_positions(len(points))
        points = np.empty((len(wanted), 2), dtype=np.float32)
        for axis in range(2):
            points[:, axis] = np.interp(wanted, at, closed[:, axis])
    return (points * np.array([width, height], dtype=np.float32)).astype(np.int32)


@functools.lru_cache(maxsize=1024)
def resampled_positions(count: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Where on a closed line of `count` corners ultralytics puts its 1,000 points: on them and evenly between."""
    at = np.arange(count + 1)
    if count + 1 >= 1000:
        return at, np.linspace(0, count, 1000)
    wanted = np.linspace(0, count, 1000 - (count + 1))
    return at, np.insert(wanted, np.searchsorted(wanted, at), at)


def filled(corners: Corners, height: int, width: int, left: int = 0, top: int = 0) -> Mask:
    """Fill a closed polygon even-odd as ultralytics does, on a canvas whose first pixel is (left, top)."""
    mask = np.zeros((height, width), dtype=np.uint8)
    cv2.fillPoly(mask, [corners - np.array([left, top], dtype=np.int32)], 1)
    return mask
