"""Exports of annotation tools, from pull to split: every photo, every mask, every count.

What is right is known from the scenes alone (`exports/scenes.py`), whose masks are drawn by a rule and no library. What
a stage has written is read by pycocotools (COCO files) and cv2 (labels).
"""

from __future__ import annotations

import json
import re
import subprocess
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from pycocotools import mask as coco_mask

from tests import warm
from tests.conftest import PARAMS, code_in, merged
from tests.ingest.exports import (
    coco_annotator,
    cvat,
    datumaro,
    fiftyone,
    label_studio,
    labelme2coco,
    roboflow,
    supervisely,
)
from tests.ingest.exports.scenes import (
    HEIGHT,
    WIDTH,
    Export,
    Mask,
    Scene,
    Shown,
    digest,
    pixels,
    scenes,
    write_photo,
    zipped,
)

pytestmark = pytest.mark.process

SAMPLES = Path(__file__).parent / "exports" / "samples"
SPLITS = ("train", "val", "test")
STAGES = {"subset": ["raw", "subset"], "convert": ["subset", "yolo"], "split": ["subset", "split"]}
PARAMETER = re.compile(r"\b(pull|subset|convert|split)\.\w+")
LABEL_IOU = 0.95  # of a label and its mask: digits and bridges cost a little
Write = Callable[[Path], Export]
Done = subprocess.CompletedProcess[str]

# Each tool's usual export, which goes from pull to split; the least IoU of a mask that the tool's file keeps.
TOOLS: dict[str, tuple[Write, float]] = {
    "cvat": (lambda folder: cvat.write(folder, scenes()), 1),
    "cvat, a video": (lambda folder: cvat.write_video(folder, scenes()), 1),
    "cvat, a video in old versions": (lambda folder: cvat.write_video(folder, scenes(), 0, 3, by_frame=True), 1),
    "label_studio": (lambda folder: label_studio.write(folder, scenes()), 1),
    "roboflow": (lambda folder: roboflow.write(folder, scenes()), 1),
    "fiftyone": (lambda folder: fiftyone.write(folder, scenes()), 0.98),  # its outlines are half a pixel off
    "labelme2coco": (lambda folder: labelme2coco.write(folder, scenes()), 1),
    "supervisely": (lambda folder: supervisely.write(folder, scenes()), 1),
    "coco_annotator": (lambda folder: coco_annotator.write(folder, scenes()), 1),
    "datumaro": (lambda folder: datumaro.write(folder, scenes()), 1),
}


def stage(name: str, folder: Path, *arguments: str) -> Done:
    return warm.run(["python", "-m", f"stages.{name}", *arguments], folder)


def pull(folder: Path, export: Export, source: Path | None = None, **split_params: Any) -> Done:
    """The stage alone, in a folder with params.yaml for all four."""
    code_in(folder)
    changes = {
        "pull": {"source": str(source or export.source)},
        "subset": {"classes": None, "images": None, "background": 0, "group_by": None},
        "split": {"group_by": None, **split_params},
    }
    (folder / "params.yaml").write_text(yaml.safe_dump(merged(yaml.safe_load(PARAMS.read_text()), changes)))
    return stage("pull", folder, "raw")


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def decoded(segmentation: Any) -> Mask:
    """A mask as pycocotools sees it."""
    if isinstance(segmentation, list):
        segmentation = coco_mask.merge(coco_mask.frPyObjects(segmentation, HEIGHT, WIDTH))
    elif isinstance(segmentation["counts"], list):
        segmentation = coco_mask.frPyObjects(segmentation, HEIGHT, WIDTH)
    return np.asarray(coco_mask.decode(segmentation), dtype=bool)


def iou(first: Mask, second: Mask) -> float:
    return float((first & second).sum() / (first | second).sum())


def are_same(found: Sequence[Shown], wanted: Sequence[Shown], least: float) -> bool:
    """Whether each wanted instance is found once, by class, crowd and mask, and nothing else is."""
    left = list(found)
    for instance in wanted:
        equal = [
            other
            for other in left
            if (other.label, other.crowd) == (instance.label, instance.crowd)
            and iou(other.mask, instance.mask) >= least
        ]
        if len(equal) != 1:
            return False
        left.remove(equal[0])
    return not left


def instances_of(coco: Any, image_id: int) -> list[Shown]:
    names = {category["id"]: category["name"] for category in coco["categories"]}
    return [
        Shown(names[record["category_id"]], decoded(record["segmentation"]), record["iscrowd"] == 1)
        for record in coco["annotations"]
        if record["image_id"] == image_id
    ]


def check_coco(path: Path, images: Path, export: Export, least: float) -> set[str]:
    """Every photo of a COCO file shows what it has to; returns the photos' digests."""
    coco = read(path)
    photos = [digest(images / image["file_name"]) for image in coco["images"]]
    assert len(set(photos)) == len(photos)
    assert set(photos) <= export.shown.keys()
    for image, photo in zip(coco["images"], photos, strict=True):
        assert (image["width"], image["height"]) == (WIDTH, HEIGHT)
        assert are_same(instances_of(coco, image["id"]), export.shown[photo], least), image
    return set(photos)


def check_pulled(folder: Path, done: Done, export: Export, least: float) -> None:
    """Nothing is lost and nothing is added, and the report says so."""
    assert done.returncode == 0, done.stderr
    assert check_coco(folder / "raw" / "annotations.json", folder / "raw" / "images", export, least) == set(
        export.shown
    )
    report = read(folder / "raw-report.json")
    assert report["images"] == len(export.shown)
    assert report["annotations"] == sum(map(len, export.shown.values()))
    assert report["dropped"] == export.dropped
    assert export.unlisted in (None, report["files_without_record"])


def trained_on(export: Export) -> dict[str, list[Shown]]:
    """The photos that show an instance, with their instances; crowds are none."""
    instances = {photo: [one for one in shown if not one.crowd] for photo, shown in export.shown.items()}
    return {photo: shown for photo, shown in instances.items() if shown}


def labels_of(path: Path, names: Sequence[str]) -> list[Shown]:
    """The masks that cv2 fills from a label file, whose corners lie between pixels."""
    found = []
    for line in path.read_text().splitlines():
        number, *values = line.split()
        corners = np.array(values, dtype=float).reshape(-1, 2) * (WIDTH, HEIGHT)
        scale = 8  # at eight times the size the outline's own pixels hardly count
        large = np.zeros((HEIGHT * scale, WIDTH * scale), dtype=np.uint8)
        cv2.fillPoly(large, [np.round(corners * scale).astype(np.int32)], 1)
        found.append(Shown(names[int(number)], large[scale // 2 :: scale, scale // 2 :: scale] > 0))
    return found


def check_split(folder: Path, export: Export, least: float) -> dict[str, str]:
    """Every photo with an instance is in one split, with its masks and labels; returns which split."""
    split_of: dict[str, str] = {}
    names = list(yaml.safe_load((folder / "split" / "data.yaml").read_text())["names"].values())
    wanted = trained_on(export)
    for split in SPLITS:
        photos = check_coco(folder / "split" / f"{split}.json", folder / "yolo" / "images", export, least)
        listed = [Path(line).name for line in (folder / "split" / f"{split}.txt").read_text().splitlines()]
        assert {digest(folder / "yolo" / "images" / name) for name in listed} == photos
        for name in listed:
            photo = digest(folder / "yolo" / "images" / name)
            label = folder / "yolo" / "labels" / Path(name).with_suffix(".txt").name
            assert are_same(labels_of(label, names), wanted[photo], min(least, LABEL_IOU)), name
        assert not split_of.keys() & photos
        split_of |= dict.fromkeys(photos, split)
    assert split_of.keys() == wanted.keys()
    return split_of


def check_counts(folder: Path, export: Export, split_of: dict[str, str]) -> None:
    """The reports of subset, convert and split count what is there."""
    wanted = trained_on(export)
    crowds = [one for photo in wanted for one in export.shown[photo] if one.crowd]
    counts = Counter(one.label for shown in wanted.values() for one in shown)
    assert read(folder / "subset-report.json")["images"] == len(wanted)
    fidelity = read(folder / "yolo-report.json")
    assert fidelity["instances"] == counts.total()
    assert {name: found["instances"] for name, found in fidelity["classes"].items()} == counts
    assert sum(fidelity["dropped"].values()) == len(crowds)
    report = read(folder / "split-report.json")
    for split in SPLITS:
        own = [shown for photo, shown in wanted.items() if split_of[photo] == split]
        assert report[split]["images"] == len(own)
        found = {name: found["instances"] for name, found in report[split]["classes"].items()}
        assert found == Counter(one.label for shown in own for one in shown)


def to_split(folder: Path, export: Export, least: float, **split_params: Any) -> dict[str, str]:
    """All four stages, each one's result as it has to be; returns the split of every photo."""
    check_pulled(folder, pull(folder, export, **split_params), export, least)
    for name, paths in STAGES.items():
        done = stage(name, folder, *paths)
        assert done.returncode == 0, done.stderr
    split_of = check_split(folder, export, least)
    check_counts(folder, export, split_of)
    return split_of


@pytest.mark.parametrize("tool", TOOLS)
def test_photo_for_photo_and_mask_for_mask(tool: str, tmp_path: Path) -> None:
    write, least = TOOLS[tool]
    (tmp_path / "export").mkdir()
    export = write(tmp_path / "export")
    split_of = to_split(tmp_path, export, least)
    assert all(len({split_of[photo] for photo in versions}) == 1 for versions in export.versions)


def test_frames_that_may_be_numbered_otherwise_are_said(tmp_path: Path) -> None:
    """Every frame of the video was taken out anew: those without a record may show what the records mean."""
    (tmp_path / "export").mkdir()
    export = cvat.write_video(tmp_path / "export", scenes())
    said = pull(tmp_path, export).stdout
    assert "frames of a video" not in said
    photos = tmp_path / "export" / "images" / "default"
    for number in (0, 1, 6):
        write_photo(photos / f"frame_{number:06d}.PNG", pixels(scenes()[0]) // 2 + number)
    done = pull(tmp_path, export)
    assert "photos are frames of a video, such as 'images/default/frame_000005.PNG', and 3 more frames" in done.stdout
    assert read(tmp_path / "raw-report.json")["files_without_record"] == 3


@pytest.mark.parametrize("versions", [True, False])
def test_names_alone_keep_the_versions_of_a_photo_together(versions: bool, tmp_path: Path) -> None:
    """Roboflow's, that is; without split.versions the same photos are torn apart, so that the test would see it."""
    (tmp_path / "export").mkdir()
    export = roboflow.write(tmp_path / "export", scenes())
    split_of = to_split(tmp_path, export, 1, versions=versions, near_duplicate_bits=None)
    torn = [one for one in export.versions if len({split_of[photo] for photo in one}) > 1]
    assert (torn == []) == versions
    report = read(tmp_path / "split-report.json")
    ties = sum(len(one) - 1 for one in export.versions)
    assert report["versions"] == (ties if versions else None)


# Exports that say which photo is in which split.
OFFICIAL: dict[str, Write] = {
    "cvat": lambda folder: cvat.write_project(folder, scenes()),
    "roboflow": lambda folder: roboflow.write(folder, scenes()),
    "labelme2coco": lambda folder: labelme2coco.write(folder, scenes(), split=True),
    "datumaro": lambda folder: datumaro.write(folder, scenes(), every_task=True),
}


@pytest.mark.parametrize("tool", OFFICIAL)
def test_official_splits_are_the_tools_own(tool: str, tmp_path: Path) -> None:
    """A tool's val is the test split where it has no test, and train is then divided."""
    (tmp_path / "export").mkdir()
    export = OFFICIAL[tool](tmp_path / "export")
    own = set(export.splits.values())
    official = {name: name for name in SPLITS} if "test" in own else {"test": "val"}
    split_of = to_split(tmp_path, export, 1, official=official)
    for ours, theirs in official.items():
        assert {photo for photo, split in split_of.items() if split == ours} == {
            photo for photo in trained_on(export) if export.splits[photo] == theirs
        }


# Archives as the tools name them, and as users pack a folder.
ZIPS: dict[str, str] = {
    "cvat": "task_clothes_annotations_2024_01_01_00_00_00_coco 1.0.zip",
    "cvat, a video": "task_clothes.mp4_annotations_2024_01_01_00_00_00_coco 1.0.zip",
    "cvat, a video in old versions": "task_clothes_coco.zip",
    "label_studio": "project-4-at-2024-01-01-00-00-0a1b2c3d.zip",
    "roboflow": "clothes.v3i.coco-segmentation.zip",
    "fiftyone": "export.zip",
    "labelme2coco": "photos and runs.zip",
    "supervisely": "12345_clothes.zip",
    "coco_annotator": "clothes.zip",
    "datumaro": "clothes.zip",
}


@pytest.mark.parametrize("top", ["", "export/"])
@pytest.mark.parametrize("tool", TOOLS)
def test_a_zip_is_as_the_folder(tool: str, top: str, tmp_path: Path) -> None:
    write, least = TOOLS[tool]
    (tmp_path / "export").mkdir()
    export = write(tmp_path / "export")
    archive = zipped(tmp_path / "export", tmp_path / ZIPS[tool], top)
    check_pulled(tmp_path, pull(tmp_path, export, archive), export, least)


# What the same tools write elsewhere or when they are asked to: pull alone.
OTHERS: dict[str, tuple[Write, float]] = {
    "cvat with a project's subsets": (lambda at: cvat.write_project(at, scenes()), 1),
    "label_studio on Windows": (lambda at: label_studio.write(at, scenes(), label_studio.in_images_on_windows), 1),
    "datumaro with merged images": (lambda at: datumaro.write(at, scenes(), merged=True), 1),
    "labelme2coco with a split": (lambda at: labelme2coco.write(at, scenes(), split=True), 1),
    "labelme2coco on Windows": (lambda at: labelme2coco.write(at, scenes(), given="photos\\clothes"), 1),
    "label_studio from its uploads": (lambda at: label_studio.write(at, scenes(), label_studio.in_uploads), 1),
    "label_studio from a Windows server": (lambda at: label_studio.write(at, scenes(), label_studio.on_windows), 1),
    "label_studio from local storage": (lambda at: label_studio.write(at, scenes(), label_studio.in_local_storage), 1),
    "fiftyone with absolute names": (lambda at: fiftyone.write(at, scenes(), "/home/annotator/export/data/"), 0.98),
    "fiftyone on Windows": (lambda at: fiftyone.write(at, scenes(), "C:\\Users\\annotator\\export\\data\\"), 0.98),
    "labelme2coco from elsewhere": (lambda at: labelme2coco.write(at, scenes(), given="../photos"), 1),
    "labelme2coco with absolute names": (lambda at: labelme2coco.write(at, scenes(), given="/home/annotator/look"), 1),
    "supervisely with captions": (lambda at: supervisely.write(at, scenes(), captions=True), 1),
    "coco_annotator downloaded": (lambda at: coco_annotator.write(at, scenes(), downloaded=True), 1),
    "datumaro with every task": (lambda at: datumaro.write(at, scenes(), every_task=True), 1),
    "roboflow of one class": (lambda at: roboflow.write(at, scenes(), project="shirt", labels=("shirt",)), 1),
}


@pytest.mark.parametrize("variant", OTHERS)
def test_other_exports_of_the_same_tools(variant: str, tmp_path: Path) -> None:
    write, least = OTHERS[variant]
    (tmp_path / "export").mkdir()
    export = write(tmp_path / "export")
    check_pulled(tmp_path, pull(tmp_path, export), export, least)


# What the tools' own packages wrote of the first four scenes: sample -> our writer of the same, and its file.
WRITTEN: dict[str, tuple[Callable[[Path, Sequence[Scene]], object], str]] = {
    "cvat": (cvat.write, "annotations/instances_default.json"),
    "datumaro": (lambda at, four: datumaro.write(at, four, every_task=True), "annotations/instances_val.json"),
    "datumaro_panoptic": (lambda at, four: datumaro.write(at, four, every_task=True), "annotations/panoptic_val.json"),
    "fiftyone": (fiftyone.write, "labels.json"),
    "label_studio": (lambda at, four: label_studio.write(at, four, label_studio.in_uploads), "result.json"),
    "labelme2coco": (labelme2coco.write, "runs/labelme2coco/dataset.json"),
    "supervisely": (supervisely.write, "clothes/annotations/coco_instances.json"),
}
TIMES = ("year", "date_created")


def comparable(coco: Any, without_outlines: bool) -> str:
    """The file as text, photos in the order of their names, without times, running numbers and the last digits."""
    names = {image["id"]: image["file_name"] for image in coco["images"]}
    annotations = [
        record | {"image_id": names[record["image_id"]]} | ({"id": 0} if "id" in record else {})
        for record in coco["annotations"]
    ]
    for record in annotations:
        if without_outlines and isinstance(record.get("segmentation"), list):
            record["segmentation"] = len(record["segmentation"])
    whole = coco | {
        "images": sorted((image | {"id": 0} for image in coco["images"]), key=lambda image: str(image["file_name"])),
        "annotations": sorted(annotations, key=lambda record: str(record["image_id"])),
    }
    if "info" in coco:
        whole["info"] = {key: "" if key in TIMES else value for key, value in coco["info"].items()}
    return json.dumps(rounded(whole), indent=1)


def rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [rounded(item) for item in value]
    return round(value, 6) if isinstance(value, float) else value


@pytest.mark.parametrize("sample", WRITTEN)
def test_written_as_the_tool_itself_writes(sample: str, tmp_path: Path) -> None:
    write, path = WRITTEN[sample]
    write(tmp_path, scenes(4))
    ours, theirs = read(tmp_path / path), read(SAMPLES / f"{sample}.json")
    simplified = sample == "fiftyone"
    assert comparable(ours, simplified) == comparable(theirs, simplified)
    if simplified:
        for own, tools in zip(ours["annotations"], theirs["annotations"], strict=True):
            if "segmentation" in own:
                assert iou(decoded(own["segmentation"]), decoded(tools["segmentation"])) > 0.9


def test_photos_of_brush_masks_alone_are_not_background(tmp_path: Path) -> None:
    """CVAT marks what is painted as a crowd: such a photo is not trained on, and the run names the parameter for it."""
    (tmp_path / "export").mkdir()
    export = cvat.write(tmp_path / "export", scenes(), {"look04": {0, 1}, "look05": {0, 1}})
    done = [pull(tmp_path, export), *(stage(name, tmp_path, *paths) for name, paths in STAGES.items())]
    assert [one.returncode for one in done] == [0, 0, 0, 0]
    assert len(trained_on(export)) == 8
    check_counts(tmp_path, export, check_split(tmp_path, export, 1))
    lines = [line for one in done for line in one.stdout.splitlines() if "crowd" in line]
    assert any(PARAMETER.search(line) for line in lines), lines


def test_brush_masks_alone_stop_with_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "export").mkdir()
    export = cvat.write(tmp_path / "export", scenes(), {scene.name: {0, 1} for scene in scenes()})
    done = pull(tmp_path, export)
    for name, paths in STAGES.items():
        done = done if done.returncode else stage(name, tmp_path, *paths)
    assert done.returncode == 1
    [error] = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "crowd" in error
    assert PARAMETER.search(error)


def test_a_box_that_poses_as_a_mask_is_dropped(tmp_path: Path) -> None:
    """COCO Annotator's box tool writes the box's corners as polygon and `isbbox`."""
    (tmp_path / "export").mkdir()
    export = coco_annotator.write(tmp_path / "export", scenes(), boxes=3)
    export.dropped = {"annotation: has a box and no mask": 3}
    check_pulled(tmp_path, pull(tmp_path, export), export, 1)
