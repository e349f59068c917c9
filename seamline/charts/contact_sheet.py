"""Some images of each split with their masks, on one sheet."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from matplotlib.patches import Patch

from seamline.base.coco import Coco
from seamline.base.splits import SPLITS
from seamline.charts.dataset_table import Counts, Table, evenly, rle_of
from seamline.charts.style import panel_grid, save
from seamline.images.colours import class_colour, hex_to_bgr
from seamline.images.drawing import Shape, drawn
from seamline.images.lettering import shortened
from seamline.images.reading import Image, read_image
from seamline.masks.rle import rle_to_mask

SHEET_IMAGES = 24
SHEET_PX = 280  # the longer side of an image on it


def contact_sheet(table: Table, coco: Coco, images: Path, path: Path) -> None:
    """Some images of each split with their masks; the legend has the classes on them, the most frequent first."""
    chosen = sheet_images(table.split)
    wanted = set(chosen.tolist())
    references = {row: image for row, image in enumerate(coco.image_refs()) if row in wanted}
    instances = {row: np.flatnonzero(table.image == row) for row in references}
    kinds = np.unique(table.kind[np.concatenate(list(instances.values()))])
    place = {category.name: index for index, category in enumerate(coco.category_refs())}
    colour_of = {int(kind): class_colour(place[table.names[kind]]) for kind in kinds}
    aspect = float(np.median([image.width / image.height for image in references.values()]))
    columns, width = (8, 1.6) if aspect < 0.85 else (6, 2.1)  # most photos of people are upright
    figure, panels = panel_grid(len(chosen), columns, width, width / max(aspect, 0.5) + 0.45)
    for axes, row in zip(panels, chosen.tolist(), strict=False):
        image = references[row]
        shapes = []
        for one in instances[row][np.argsort(-table.share[instances[row]], kind="stable")]:  # the small ones on top
            rle = rle_of(coco, table.record[one], image.height, image.width)
            shapes.append(Shape(hex_to_bgr(colour_of[table.kind[one]]), "", mask=rle_to_mask(rle)))
        axes.set_anchor("N")
        axes.imshow(shrunk(drawn(read_image(images / image.file_name), shapes))[:, :, ::-1])
        axes.set_title(f"{shortened(image.file_name, 20)}\n{SPLITS[table.split[row]]}", fontsize=8)
    handles = [Patch(color=colour, label=shortened(table.names[kind], 24)) for kind, colour in colour_of.items()]
    figure.legend(handles=handles, frameon=False, ncols=6, loc="lower center", bbox_to_anchor=(0.5, 1), fontsize=9)
    save(figure, path)


def shrunk(image: Image) -> Image:
    scale = min(SHEET_PX / max(image.shape[:2]), 1)
    size = max(round(image.shape[1] * scale), 1), max(round(image.shape[0] * scale), 1)
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def sheet_images(split: Counts) -> Counts:
    """Indices of the images to show, chosen evenly, in proportion to the splits' sizes, but at least one of each."""
    sizes = np.bincount(split, minlength=len(SPLITS))
    counts = np.minimum(np.maximum(np.rint(SHEET_IMAGES * sizes / sizes.sum()), 1).astype(np.int64), sizes)
    largest = sizes.argmax()
    counts[largest] = min(counts[largest] + SHEET_IMAGES - counts.sum(), sizes[largest])
    return np.concatenate([evenly(np.flatnonzero(split == row), count) for row, count in enumerate(counts)])
