"""Data for small trainings."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A split of ten images, each with a rectangle of two classes."""
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for kind in ("images", "labels"):
        (root / "yolo" / kind).mkdir(parents=True)
    (root / "split").mkdir()
    names = [f"{number:02d}" for number in range(10)]
    for number, name in enumerate(names):
        image = rng.integers(0, 255, (40, 40, 3), dtype=np.uint8)
        cv2.rectangle(image, (8, 8), (30, 30), (255 * (number % 2), 40, 200), -1)
        cv2.imwrite(str(root / "yolo" / "images" / f"{name}.png"), image)
        (root / "yolo" / "labels" / f"{name}.txt").write_text(f"{number % 2} 0.2 0.2 0.75 0.2 0.75 0.75 0.2 0.75\n")
    for part, members in (("train", names[:7]), ("val", names[7:])):
        (root / "split" / f"{part}.txt").write_text("".join(f"./images/{name}.png\n" for name in members))
    (root / "split" / "data.yaml").write_text(yaml.safe_dump({"names": {0: "a", 1: "b"}}))
    return root / "split", root / "yolo"
