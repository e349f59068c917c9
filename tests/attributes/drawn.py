"""A small data/attributes in the contract's form: squares whose colour and stripes are their attributes."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np

from seamline.base.files import write_csv

VALUES = {"shade": ["dark", "light"], "stripes": ["none", "across", "down"]}
COLUMNS = ("id", "file_name", "split", "group", "x1", "y1", "x2", "y2", "has_mask", *VALUES)
COUNTS = {"train": 48, "val": 24, "test": 24}


def write_drawn(folder: Path, missing: float = 0.3, seed: int = 0) -> Path:
    """Garments of 40 x 48 pixels, two a group, a share of whose labels is missing."""
    rng = np.random.default_rng(seed)
    (folder / "photos").mkdir(parents=True)
    rows = []
    splits = [name for name, count in COUNTS.items() for _ in range(count)]
    for number, split in enumerate(splits):
        shade, stripes = number % 2, number // 2 % 3
        image = np.full((48, 40, 3), 60 + 120 * shade, np.float64)
        image[:, :, 2] += rng.uniform(-30, 30)
        if stripes == 1:
            image[::8] = image[1::8] = image[2::8] = 20
        if stripes == 2:
            image[:, ::8] = image[:, 1::8] = image[:, 2::8] = 20
        image += rng.normal(0, 8, image.shape)
        cv2.imwrite(str(folder / "photos" / f"{number}.png"), np.clip(image, 0, 255).astype(np.uint8))
        known = rng.random(2) >= missing
        labels = [
            VALUES[name][index] if there else ""
            for (name, index), there in zip((("shade", shade), ("stripes", stripes)), known, strict=True)
        ]
        rows.append([number, f"{number}.png", split, number // 2, "", "", "", "", 0, *labels])
    write_csv(folder / "garments.csv", COLUMNS, rows)
    about = {
        "attributes": VALUES, "source": "csv", "margin": 0.1, "background": "keep", "side_px": 64,
        "data_sha256": "unused", "names": {"file": "filename", "columns": {}, "codes": {}},
    }  # fmt: skip
    (folder / "attributes.json").write_text(json.dumps(about))
    return folder
