"""Data for small trainings."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest
import yaml

from seamline.base.coco import Record, write_coco
from seamline.dataset.conversion import Instance, instances_to_lines


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A split of ten images, each with a rectangle of two classes."""
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for kind in ("images", "labels"):
        (root / "yolo" / kind).mkdir(parents=True)
    (root / "split").mkdir()
    names = [f"{number:02d}" for number in range(10)]
    images: list[Record] = []
    annotations: list[Record] = []
    for number, name in enumerate(names):
        image = rng.integers(0, 255, (40, 40, 3), dtype=np.uint8)
        cv2.rectangle(image, (8, 8), (30, 30), (255 * (number % 2), 40, 200), -1)
        cv2.imwrite(str(root / "yolo" / "images" / f"{name}.png"), image)
        garment = Instance(id=number, category_id=number % 2, segmentation=[[8, 8, 31, 8, 31, 31, 8, 31]])
        lines, _ = instances_to_lines([garment], {0: 0, 1: 1}, 40, 40, Counter())
        (root / "yolo" / "labels" / f"{name}.txt").write_text(f"{lines[0]}\n")
        images.append({"id": number, "file_name": f"{name}.png", "width": 40, "height": 40})
        boxed = {"image_id": number, "bbox": [8, 8, 23, 23], "area": 529}
        annotations.append({**msgspec.structs.asdict(garment), **boxed})
    categories = [{"id": 0, "name": "a"}, {"id": 1, "name": "b"}]
    for part, numbers in (("train", slice(0, 7)), ("val", slice(7, 10))):
        members = names[numbers]
        write_coco(root / "split" / f"{part}.json", images[numbers], annotations[numbers], categories)
        (root / "split" / f"{part}.txt").write_text("".join(f"./images/{name}.png\n" for name in members))
    (root / "split" / "data.yaml").write_text(yaml.safe_dump({"names": {0: "a", 1: "b"}}))
    return root / "split", root / "yolo"
