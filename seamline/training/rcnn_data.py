"""What an R-CNN learns from: photos on the canvas that they have at inference, with the masks of the split's own file.

No YOLO labels are read. What is changed at random depends on seed, epoch and photo alone, not on the thread that makes
it or on what was made before, so that a training that resumes sees what an uninterrupted one does.
"""

from __future__ import annotations

import hashlib
import math
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import cv2
import msgspec
import numpy as np
import numpy.typing as npt
import torch

from seamline.base.coco import read_coco
from seamline.base.errors import SeamlineError
from seamline.base.files import sha256_of
from seamline.base.parallel import in_threads
from seamline.dataset.conversion import Instance
from seamline.images.reading import read_image
from seamline.masks.rle import Mask, Rle, mask_to_rle, rle_to_mask, segmentation_to_rle
from seamline.models.arrays import Canvas
from seamline.models.letterbox import PAD_VALUE, image_to_letterbox, letterbox_of

MIN_SIDE_PX = 2  # of a box on the canvas, after augmentation, and
MIN_SHARE = 0.1  # of a mask's pixels: what is left of less is not worth learning (as ultralytics has it)
T = TypeVar("T")
R = TypeVar("R")


class Photo(NamedTuple):
    """A photo of a split, with its instances; crowd regions, which mark no instance, are left out."""

    image_id: int
    path: Path
    height: int
    width: int
    labels: list[int]  # index of the class, from 0
    segmentations: list[Any]  # COCO's


class Part(NamedTuple):
    names: list[str]  # of the classes, by index
    photos: list[Photo]


class Sample(NamedTuple):
    """A photo on its canvas."""

    canvas: Canvas  # (imgsz, imgsz, 3), BGR
    labels: npt.NDArray[np.int64]  # (n,)
    masks: npt.NDArray[np.uint8]  # (n, imgsz, imgsz), 0 or 1


class Augmentation(NamedTuple):
    """train's parameters of these names."""

    degrees: float
    translate: float
    scale: float
    fliplr: float
    hsv_h: float
    hsv_s: float
    hsv_v: float


class Batch(NamedTuple):
    canvases: torch.Tensor  # (batch, imgsz, imgsz, 3), BGR, u8
    targets: list[dict[str, torch.Tensor]]  # torchvision's: boxes (n, 4), labels (n,) from 1, masks (n, imgsz, imgsz)


def read_part(split: Path, part: str, images: Path) -> Part:
    """Raises SeamlineError when the split's file is missing or not canonical, or has no photo."""
    coco = read_coco(split / f"{part}.json")
    categories = coco.category_refs()
    numbers = {category.id: index for index, category in enumerate(categories)}
    photos = {ref.id: Photo(ref.id, images / ref.file_name, ref.height, ref.width, [], []) for ref in coco.image_refs()}
    if not photos:
        raise SeamlineError(f"{split / part}.json: is empty; ask for more images (subset.images) or other ratios.")
    decoder = msgspec.json.Decoder(Instance)
    for raw, ref in zip(coco.annotations, coco.annotation_refs(photos), strict=True):
        if not ref.iscrowd:
            photos[ref.image_id].labels.append(numbers[ref.category_id])
            photos[ref.image_id].segmentations.append(decoder.decode(raw).segmentation)
    return Part([category.name for category in categories], list(photos.values()))


def check_classes_shown(part: Part) -> None:
    shown = {label for photo in part.photos for label in photo.labels}
    unseen = [name for index, name in enumerate(part.names) if index not in shown]
    if unseen:
        raise SeamlineError(
            f"train: no training image shows {unseen[0]!r}; ask for more images or leave the class out."
        )


def data_sha256(split: Path, images: Path) -> str:
    """One hash of all that training reads of the data, wherever the two folders lie.

    Raises:
        SeamlineError: when a photo is missing.
    """
    lines = []
    for part in ("train", "val"):
        lines.append(f"{part} {sha256_of(split / f'{part}.json')}")
        names = sorted(ref.file_name for ref in read_coco(split / f"{part}.json").image_refs())
        for name in names:
            if not (images / name).is_file():
                raise SeamlineError(f"{images / name}: is missing, which {split / part}.json names; run stage convert.")
        hashes = in_threads(sha256_of, [images / name for name in names])
        lines += [f"{name} {found}" for name, found in zip(names, hashes, strict=True)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


class Samples:
    """The photos of a part on their canvases; kept in memory where that was asked for, masks as RLE."""

    def __init__(self, photos: list[Photo], imgsz: int, keep: bool) -> None:
        self.photos, self.imgsz = photos, imgsz
        self.kept: dict[int, tuple[Canvas, list[Rle]]] | None = {} if keep else None

    def sample(self, index: int) -> Sample:
        photo = self.photos[index]
        if self.kept is not None and index in self.kept:
            canvas, rles = self.kept[index]
        else:
            canvas, letterbox = image_to_letterbox(read_image(photo.path), self.imgsz)
            if (letterbox.height, letterbox.width) != (photo.height, photo.width):
                raise SeamlineError(
                    f"{photo.path}: has {letterbox.width} x {letterbox.height} pixels, and its record "
                    f"{photo.width} x {photo.height}; the pull stage makes them alike."
                )
            rles = [mask_to_rle(mask_on_canvas(one, photo, self.imgsz)) for one in photo.segmentations]
            if self.kept is not None:
                self.kept[index] = canvas, rles
        masks = np.zeros((len(rles), self.imgsz, self.imgsz), np.uint8)
        for number, rle in enumerate(rles):
            masks[number] = rle_to_mask(rle)
        return Sample(canvas, np.array(photo.labels, np.int64), masks)


def mask_on_canvas(segmentation: Any, photo: Photo, imgsz: int) -> Mask:
    """A pixel of the canvas belongs to the mask when at least half of it is covered."""
    box = letterbox_of(photo.height, photo.width, imgsz)
    mask = rle_to_mask(segmentation_to_rle(segmentation, photo.height, photo.width))
    way = cv2.INTER_AREA if box.scaled_height < photo.height else cv2.INTER_LINEAR
    scaled = cv2.resize(mask * np.uint8(255), (box.scaled_width, box.scaled_height), interpolation=way)
    canvas = np.zeros((imgsz, imgsz), np.uint8)
    canvas[box.top : box.top + box.scaled_height, box.left : box.left + box.scaled_width] = scaled > 127
    return canvas


def augmented(sample: Sample, how: Augmentation, seed: tuple[int, ...]) -> Sample:
    """The sample changed at random, by the same rules as ultralytics changes images for the same parameters.

    Args:
        seed: of the random numbers, such as (seed, epoch, index of the photo).
    """
    rng = np.random.default_rng(seed)
    matrix = affine_matrix(sample.canvas.shape[0], how, rng)
    canvas, masks = sample.canvas, sample.masks
    if matrix is not None:
        side = (canvas.shape[1], canvas.shape[0])
        canvas = np.asarray(cv2.warpAffine(canvas, matrix, side, borderValue=[PAD_VALUE] * 3), np.uint8)
        # Between pixels of 0 and 255, so that an edge keeps its place.
        warped = [cv2.warpAffine(mask * np.uint8(255), matrix, side) > 127 for mask in masks]
        masks = np.array(warped, np.uint8).reshape(masks.shape)
    canvas = recoloured(canvas, how, rng)
    if rng.random() < how.fliplr:
        canvas, masks = np.ascontiguousarray(canvas[:, ::-1]), np.ascontiguousarray(masks[:, :, ::-1])
    left, whole = masks.sum((1, 2), dtype=np.int64), sample.masks.sum((1, 2), dtype=np.int64)
    scale = 1.0 if matrix is None else abs(float(np.linalg.det(matrix[:, :2])))
    chosen = left >= MIN_SHARE * scale * whole
    return Sample(canvas, sample.labels[chosen], masks[chosen])


def affine_matrix(side: int, how: Augmentation, rng: np.random.Generator) -> npt.NDArray[np.float64] | None:
    """Turned and scaled around the middle, then shifted, (2, 3); None where nothing of it was asked for."""
    if not (how.degrees or how.scale or how.translate):
        return None
    angle, scale = rng.uniform(-how.degrees, how.degrees), rng.uniform(1 - how.scale, 1 + how.scale)
    matrix = np.asarray(cv2.getRotationMatrix2D((side / 2, side / 2), angle, max(scale, 0.01)), np.float64)
    matrix[:, 2] += rng.uniform(-how.translate, how.translate, 2) * side
    return matrix


def recoloured(canvas: Canvas, how: Augmentation, rng: np.random.Generator) -> Canvas:
    if not (how.hsv_h or how.hsv_s or how.hsv_v):
        return canvas
    hue, saturation, value = rng.uniform(-1, 1, 3) * (how.hsv_h, how.hsv_s, how.hsv_v)
    levels = np.arange(256, dtype=np.float64)
    tables = (
        ((levels + hue * 180) % 180),
        np.clip(levels * (saturation + 1), 0, 255),
        np.clip(levels * (value + 1), 0, 255),
    )
    table = np.stack(tables, axis=1).astype(np.uint8).reshape(1, 256, 3)
    shown = cv2.LUT(cv2.cvtColor(canvas, cv2.COLOR_BGR2HSV), table)
    return np.asarray(cv2.cvtColor(shown, cv2.COLOR_HSV2BGR), np.uint8)


def masks_to_boxes(masks: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """(n, 4) as x1, y1, x2, y2 around each mask's pixels, to their outer edges; zeros for an empty mask."""
    boxes = np.zeros((len(masks), 4), np.float32)
    for number, mask in enumerate(masks):
        left, top, columns, rows = cv2.boundingRect(mask)
        boxes[number] = left, top, left + columns, top + rows
    return boxes


def samples_to_batch(samples: list[Sample], masks: bool) -> Batch:
    """Boxes go around the masks, and those thinner than MIN_SIDE_PX are left out; masks themselves where asked for."""
    targets = []
    for sample in samples:
        boxes = masks_to_boxes(sample.masks)
        chosen = (boxes[:, 2:] - boxes[:, :2]).min(axis=1, initial=math.inf) >= MIN_SIDE_PX
        target = {"boxes": torch.from_numpy(boxes[chosen]), "labels": torch.from_numpy(sample.labels[chosen] + 1)}
        if masks:
            target["masks"] = torch.from_numpy(sample.masks[chosen])
        targets.append(target)
    return Batch(torch.from_numpy(np.stack([sample.canvas for sample in samples])), targets)


def made_ahead(make: Callable[[T], R], jobs: Iterable[T], threads: int, ahead: int) -> Generator[R]:
    """What is made of each job, in their order, while those after it are made in threads; to be closed."""
    waiting = iter(jobs)
    with ThreadPoolExecutor(threads, thread_name_prefix="batches") as pool:
        made: deque[Future[R]] = deque(pool.submit(make, job) for job in islice(waiting, ahead))
        try:
            while made:
                found = made.popleft().result()
                made.extend(pool.submit(make, job) for job in islice(waiting, 1))
                yield found
        finally:
            pool.shutdown(cancel_futures=True)
