"""A split as ultralytics reads it, without a file of its own beside the data."""

from __future__ import annotations

import hashlib
import shutil
from collections import Counter
from pathlib import Path

import yaml

from seamline.base.errors import SeamlineError
from seamline.base.files import sha256_of
from seamline.base.parallel import in_threads


def data_sha256(split: Path, yolo: Path) -> str:
    """One hash of all that training reads of the data, wherever the two folders lie."""
    lines = [f"data.yaml {sha256_of(split / 'data.yaml')}"]
    for part in ("train", "val"):
        names = listed_images(split / f"{part}.txt")
        images = [yolo / "images" / name for name in names]
        labels = [(yolo / "labels" / name).with_suffix(".txt") for name in names]
        hashes = zip(in_threads(sha256_of, images), in_threads(sha256_of, labels), strict=True)
        lines += [f"{part} {name} {image} {label}" for name, (image, label) in zip(names, hashes, strict=True)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def listed_images(path: Path) -> list[str]:
    """Names of the images in a split's list, wherever its lines say that they lie."""
    return [Path(line).name for line in path.read_text(encoding="utf-8").splitlines()]


def linked_dataset(split: Path, yolo: Path, target: Path) -> Path:
    """A data.yaml for ultralytics over links to images and labels, so that its label cache is written to scratch.

    Raises:
        SeamlineError: when a split is empty, or a class has no instance in train.
    """
    names: dict[int, str] = yaml.safe_load((split / "data.yaml").read_text(encoding="utf-8"))["names"]
    shutil.rmtree(target, ignore_errors=True)
    for part in ("train", "val"):
        files = listed_images(split / f"{part}.txt")
        if not files:
            raise SeamlineError(f"{split / part}.txt: is empty; ask for more images (subset.images) or other ratios.")
        folder = target.resolve() / part
        folder.mkdir(parents=True)
        for kind in ("images", "labels"):
            (folder / kind).symlink_to((yolo / kind).resolve())
        listing = "".join(f"{folder / 'images' / file}\n" for file in files)
        (target / f"{part}.txt").write_text(listing, encoding="utf-8")
        if part == "train":
            check_classes_shown(names, [(folder / "labels" / file).with_suffix(".txt") for file in files])
    data = {"path": str(target.resolve()), "train": "train.txt", "val": "val.txt", "names": names}
    (target / "data.yaml").write_text(yaml.safe_dump(data, sort_keys=False), encoding="utf-8")
    return target / "data.yaml"


def check_classes_shown(names: dict[int, str], labels: list[Path]) -> None:
    instances = Counter(
        int(line.split(maxsplit=1)[0]) for label in labels for line in label.read_text(encoding="ascii").splitlines()
    )
    unseen = [name for index, name in names.items() if not instances[index]]
    if unseen:
        raise SeamlineError(
            f"train: no training image shows {unseen[0]!r}; ask for more images or leave the class out."
        )
