"""Masks as other tools write them, put into COCO's own form: lists of x, y, x, y, ..., or one RLE.

Only where one reading is possible; the shape of the mask is never touched.
"""

from __future__ import annotations

import ast
from typing import Any

import msgspec

from seamline.ingest.canonical.checks import Unusable, check_rle, is_box, is_number
from seamline.masks.rle import segmentation_to_rle, union_of

OBJECT = "annotation: its mask is an object that is not an RLE"
HOLE = "annotation: one of its outlines lies in another, and may be a part or a hole"
NESTED = "annotation: its points are nested in a way that is not known"
TEXT = "annotation: its mask is text that cannot be read"
DRESSED = "annotation: its mask was not in COCO's form, put into it"
MAX_DEPTH = 6
NUMBER = (int, float)
BOX_KEYS = (("x", "y", "width", "height"), ("x", "y", "w", "h"), ("left", "top", "width", "height"))


def plain_segmentation(value: Any, height: int, width: int, repairs: list[str]) -> Any:
    """A list of flat polygons, one RLE, or what is neither and is judged later.

    Raises:
        Unusable: when it is nested, or is text, in a way that is not known.
    """
    plain: Any
    if isinstance(value, dict) and isinstance(value.get("counts"), str):
        plain = rle_to_plain(value)
    elif isinstance(value, list) and value and all(isinstance(part, list) and len(part) >= 6 for part in value):
        plain = value if all(isinstance(part[0], NUMBER) for part in value) else undressed(value, height, width)
    elif isinstance(value, list) and value and all(isinstance(number, NUMBER) for number in value):
        repairs.append("annotation: its polygon was not in a list")
        return [value]
    else:
        plain = undressed(value, height, width)
    if plain is not value and (plain != value or has_floats(value)):
        repairs.append(DRESSED)
    return plain


def undressed(value: Any, height: int, width: int) -> Any:
    if isinstance(value, str) and value.strip():
        value = text_to_value(value)
        if not isinstance(value, (list, dict)):
            raise Unusable(TEXT)
    for _ in range(MAX_DEPTH):
        if not (isinstance(value, list) and len(value) == 1 and isinstance(value[0], (list, dict))):
            break
        if isinstance(value[0], list) and not is_nested(value[0]):
            break
        value = value[0]
    if isinstance(value, dict) and value and not is_rle(value):
        value = shape_to_points(value)
    if not isinstance(value, (list, dict)) or not value:
        return value
    if isinstance(value, dict):
        return rle_to_plain(value)
    if all(is_rle(part) for part in value):
        return union_of_rles([rle_to_plain(part) for part in value], height, width)
    if is_flat(value):
        return [numbers(value)]
    if all(is_point(part) for part in value) and not (len(value) == 1 and is_flat(value[0])):
        return [points_to_flat(value)]
    polygons = [polygon_to_flat(part) for part in value]
    # In COCO's own form it would be a part. Points in lists of their own are GeoJSON's form, where it is a hole.
    if any(not is_flat(part) and all(map(is_point, part)) for part in value) and any(
        lies_in(part, polygons[0]) for part in polygons[1:]
    ):
        raise Unusable(HOLE)
    return polygons


def shape_to_points(shape: dict[Any, Any]) -> list[Any]:
    """The points of an outline as GeoJSON (`type`, `coordinates`) or VGG's annotator (`all_points_x`, ..._y) has it.

    Raises:
        Unusable: when it is another object, or GeoJSON with a hole, which COCO's polygons cannot have.
    """
    xs, ys = shape.get("all_points_x"), shape.get("all_points_y")
    if isinstance(xs, list) and isinstance(ys, list) and len(xs) == len(ys):
        return [list(point) for point in zip(xs, ys, strict=True)]
    rings = shape.get("coordinates")
    if shape.get("type") not in ("Polygon", "MultiPolygon") or not isinstance(rings, list):
        raise Unusable(OBJECT)
    polygons = [rings] if shape["type"] == "Polygon" else rings
    if not all(isinstance(polygon, list) and len(polygon) == 1 for polygon in polygons):
        raise Unusable(HOLE)
    return [polygon[0] for polygon in polygons]


def plain_box(value: Any) -> list[float] | None:
    """A box as left, top, width and height, also where they are text, have names or are in a list too many."""
    if isinstance(value, str):
        try:
            value = text_to_value(value)
        except Unusable:
            return None
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, dict):
        named = {str(key).lower(): part for key, part in value.items()}
        value = next(([named[key] for key in keys] for keys in BOX_KEYS if named.keys() >= set(keys)), None)
    plain = numbers(value) if isinstance(value, list) else None
    return [float(part) for part in plain] if is_box(plain) else None


def lies_in(inner: list[Any], outer: list[Any]) -> bool:
    """Whether the box of one polygon lies in that of another."""
    if not all(len(polygon) > 1 and all(map(is_number, polygon)) for polygon in (inner, outer)):
        return False
    return all(
        min(outer[axis::2]) <= min(inner[axis::2]) and max(inner[axis::2]) <= max(outer[axis::2]) for axis in (0, 1)
    )


def text_to_value(text: str) -> Any:
    """What JSON, or Python's own spelling of it, says."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        pass
    try:
        return ast.literal_eval(text.strip().replace("null", "None"))
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        raise Unusable(TEXT) from None


def is_nested(value: list[Any]) -> bool:
    return bool(value) and all(isinstance(part, (list, dict)) for part in value)


def is_flat(value: Any) -> bool:
    return isinstance(value, list) and not any(isinstance(part, (list, dict)) for part in value)


def is_rle(value: Any) -> bool:
    return isinstance(value, dict) and "counts" in value


def is_point(value: Any) -> bool:
    if isinstance(value, dict):
        return {str(key).lower() for key in value} == {"x", "y"}
    return is_flat(value) and len(value) in (2, 3)


def points_to_flat(points: list[Any]) -> list[Any]:
    flat = []
    for point in points:
        if isinstance(point, dict):
            point = [value for _, value in sorted((str(key).lower(), value) for key, value in point.items())]
        if len(point) == 3:
            raise Unusable("annotation: its points have three numbers each")
        flat += point
    return numbers(flat)


def polygon_to_flat(polygon: Any) -> list[Any]:
    """One polygon of several: flat, as points, or in one list too many."""
    for _ in range(MAX_DEPTH):
        if is_flat(polygon):
            return numbers(polygon)
        if isinstance(polygon, list) and polygon and all(is_point(part) for part in polygon):
            return points_to_flat(polygon)
        if not (isinstance(polygon, list) and len(polygon) == 1):
            break
        polygon = polygon[0]
    raise Unusable(NESTED)


def numbers(values: list[Any]) -> list[Any]:
    """Numbers that are text as numbers; whatever else stays as it is, and is judged later."""
    return [text_to_number(value) if isinstance(value, str) else value for value in values]


def text_to_number(text: str) -> Any:
    try:
        return float(text)
    except ValueError:
        return text


def rle_to_plain(rle: dict[Any, Any]) -> dict[Any, Any]:
    """Counts as text or as a list of integers, the size as integers."""
    counts = rle.get("counts")
    while isinstance(counts, list) and len(counts) == 1 and isinstance(counts[0], (str, list)):
        counts = counts[0]
    if isinstance(counts, str) and counts[:2] in ("b'", 'b"'):
        counts = text_to_value(counts)
    elif isinstance(counts, str) and any(separator in counts for separator in " ,"):
        counts = numbers(counts.strip("[] ").replace(",", " ").split())
    if isinstance(counts, bytes):
        counts = counts.decode("ascii", "replace")
    size = rle.get("size")
    return {**rle, "size": whole_numbers(size), "counts": whole_numbers(counts)}


def has_floats(rle: Any) -> bool:
    """Whether an RLE has numbers such as 5.0, which Python takes for equal to 5."""
    lists = [rle.get(key) for key in ("size", "counts")] if isinstance(rle, dict) else []
    values = (value for values in lists if isinstance(values, list) for value in values)
    return any(isinstance(value, float) and value.is_integer() for value in values)


def whole_numbers(values: Any) -> Any:
    if not isinstance(values, list):
        return values
    values = numbers(values)
    return [int(value) if isinstance(value, float) and value.is_integer() else value for value in values]


def union_of_rles(rles: list[Any], height: int, width: int) -> Any:
    """COCO's meaning of several parts."""
    for rle in rles:
        check_rle(rle, height, width)
    if len(rles) == 1:
        return rles[0]
    union = union_of([segmentation_to_rle(rle, height, width) for rle in rles])
    return {"size": [height, width], "counts": bytes(union["counts"]).decode("ascii")}
