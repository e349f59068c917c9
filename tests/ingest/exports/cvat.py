"""CVAT's "COCO 1.0".

From cvat/apps/dataset_manager/formats/coco.py, _export: datumaro's `coco_instances` with merge_images=False, zipped
without entries for folders (util.py, make_zip_archive). A task's subset is `default` where it has none; a frame keeps
its folders in file_name. Every annotation has `attributes`, a box `rotation` as well (bindings.py). Brush masks become
uncompressed RLE with iscrowd 1, as `tests.ingest.exports.datumaro` says.

The server's exporter is in no package (cvat-sdk and cvat-cli download what it wrote). samples/cvat.json is what
datumaro 1.13 wrote when it was given what bindings.py gives it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from tests.ingest.exports.datumaro import instances, shown_with_crowds
from tests.ingest.exports.scenes import Export, Scene, Shown, pixels, write_photo


def write(folder: Path, scenes: Sequence[Scene], brush: dict[str, set[int]] | None = None) -> Export:
    """A task's export.

    Args:
        folder: to write to.
        scenes: the photos, in a folder `shop` of the task.
        brush: name of a scene -> positions of the garments painted with the brush; by default one of look01.
    """
    brush = {"look01": {0}} if brush is None else brush
    names = [f"shop/{scene.name}.jpg" for scene in scenes]
    shown: dict[str, list[Shown]] = {}
    for scene, name in zip(scenes, names, strict=True):
        shown[write_photo(folder / "images" / "default" / name, pixels(scene))] = shown_with_crowds(scene, brush)
    found = instances(
        scenes, range(1, len(scenes) + 1), names, brush, {"occluded": False}, {"occluded": False, "rotation": 0.0}
    )
    (folder / "annotations").mkdir()
    (folder / "annotations" / "instances_default.json").write_text(json.dumps(found, separators=(",", ":")))
    return Export(folder, shown, {"annotation: has a box and no mask": 1})


def write_video(
    folder: Path, scenes: Sequence[Scene], start: int = 5, step: int = 10, by_frame: bool = False
) -> Export:
    """A video's task, of which every `step`-th frame from `start` on was annotated.

    From bindings.py, TaskData._init_frame_info: a frame is called by its number in the video, `frame_{:06d}`, counted
    from 0; a video's frames are exported as PNG. Images are numbered from 1, or by those numbers in old versions.
    """
    numbers = [start + step * index for index in range(len(scenes))]
    names = [f"frame_{number:06d}.PNG" for number in numbers]
    shown: dict[str, list[Shown]] = {}
    for scene, name in zip(scenes, names, strict=True):
        shown[write_photo(folder / "images" / "default" / name, pixels(scene))] = shown_with_crowds(scene, {})
    ids = numbers if by_frame else range(1, len(scenes) + 1)
    found = instances(scenes, ids, names, {}, {"occluded": False}, {"occluded": False, "rotation": 0.0})
    (folder / "annotations").mkdir()
    (folder / "annotations" / "instances_default.json").write_text(json.dumps(found, separators=(",", ":")))
    return Export(folder, shown, {"annotation: has a box and no mask": 1})


def write_project(folder: Path, scenes: Sequence[Scene]) -> Export:
    """A project of two tasks, whose subsets are Train and Validation: a file and a folder of photos each."""
    half = len(scenes) // 2
    shown: dict[str, list[Shown]] = {}
    splits: dict[str, str] = {}
    first = 1
    for subset, members in (("Train", scenes[:half]), ("Validation", scenes[half:])):
        names = [f"{scene.name}.jpg" for scene in members]
        for scene, name in zip(members, names, strict=True):
            photo = write_photo(folder / "images" / subset / name, pixels(scene))
            shown[photo] = shown_with_crowds(scene, {})
            splits[photo] = "train" if subset == "Train" else "val"
        found = instances(
            members, range(first, first + len(members)), names, {}, {"occluded": False}, {"rotation": 0.0}
        )
        first += len(members)
        (folder / "annotations").mkdir(exist_ok=True)
        (folder / "annotations" / f"instances_{subset}.json").write_text(json.dumps(found, separators=(",", ":")))
    return Export(folder, shown, {"annotation: has a box and no mask": 1}, splits=splits)
