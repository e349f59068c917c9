"""Catalogues made without models: photos of coloured stripes, a detector that finds their halves."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np

from seamline.images.budget import PixelBudget
from seamline.images.reading import Image
from seamline.models.detections import Crop, Detections
from seamline.photos.remote import Remote
from seamline.search.building import Tools
from seamline.search.catalogue_facts import CatalogueFacts
from seamline.search.entries import Entry, Garment
from seamline.search.writing import Makers, write_catalogue
from tests.search.stand_in import StandIn

NAMES = ["top", "trousers"]


class HalvesDetector:
    """Finds a top in the upper half of each photo, and trousers in the lower one."""

    def __init__(self, threads: int = 2) -> None:
        self.names, self.confidence, self.nms_iou, self.max_detections = NAMES, 0.25, 0.7, 100
        self.max_pixels, self.precision, self.threads = 10_000_000, "f32", threads
        self.budget = PixelBudget()
        self.engine = SimpleNamespace(facts=SimpleNamespace(family="halves"))
        self.looked_at = 0

    def detect_beside(self, image: Image) -> Detections:
        self.looked_at += 1
        height, width = image.shape[:2]
        middle = height // 2
        boxes = np.array([[0, 0, width, middle], [0, middle, width, height]], np.float32)
        shapes: list[Any] = [
            Crop(np.ones((middle, width), np.uint8), 0, 0),
            Crop(np.ones((height - middle, width), np.uint8), 0, middle),
        ]
        scores = np.array([0.9, 0.8], np.float32)
        return Detections(boxes, scores, np.array([0, 1]), shapes, height, width)


def tools(dimension: int = 24, seed: int = 0, whole_photos: bool = False) -> Tools:
    detector: Any = HalvesDetector()
    return Tools(detector, StandIn(dimension, seed), 48, whole_photos, Remote())


def write_photo(path: Path, seed: int) -> Path:
    """A photo of its own: 36 blocks of random colours."""
    path.parent.mkdir(parents=True, exist_ok=True)
    blocks = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    cv2.imwrite(str(path), np.kron(blocks, np.ones((10, 10, 1), np.uint8)))
    return path


def write_photos(folder: Path, count: int, first: int = 0) -> list[Path]:
    return [write_photo(folder / f"{number:03d}.png", number) for number in range(first, first + count)]


FOUND_WITH = {"sha256": "b" * 64, "names": NAMES, "confidence": 0.25, "people_first": False}
MAKERS = Makers({"name": "stand-in"}, "a" * 64, 8, FOUND_WITH, None)


def entry(
    name: str, vectors: np.ndarray[Any, Any], classes: list[str] | None = None, values: list[str | None] | None = None,
    **more: Any,
) -> Entry:  # fmt: skip
    stored = np.asarray(vectors, np.float16)
    garments = [
        Garment(number + 1, (classes or ["top"] * len(stored))[number], (0.0, 0.0, 9.0, 9.0), 0.5, row.tobytes())
        for number, row in enumerate(stored)
    ]
    return Entry(name, "", name, name, 10, 10, garments, values=values or [], **more)


def write(folder: Path, entries: list[Entry], columns: list[str] | None = None, **makers: Any) -> CatalogueFacts:
    return write_catalogue(folder, entries, columns or [], MAKERS._replace(**makers))


def directions(count: int, dimension: int = 8, seed: int = 0) -> np.ndarray[Any, Any]:
    drawn = np.random.default_rng(seed).normal(size=(count, dimension)).astype(np.float32)
    made: np.ndarray[Any, Any] = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
    return made
