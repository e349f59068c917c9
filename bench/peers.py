"""What the bench compares with: each runs in a process of its own, as `python -m bench.peers NAME JSON OUT`.

pycocotools-load         COCO(JSON), which most scripts begin with
ultralytics-convert      convert_coco(use_segments=True), ultralytics' own converter
first-polygon            the hand-written script one meets most often: an instance's first polygon is its label
pycocotools-evaluate     COCOeval for boxes and for masks: JSON is test.json, its predictions lie beside it
supervision-convert      DetectionDataset.from_coco(...).as_yolo(...); every part becomes an instance
"""

from __future__ import annotations

import json
import shutil
import sys
from collections import defaultdict
from pathlib import Path


def pycocotools_load(annotations: Path, out: Path) -> None:
    from pycocotools.coco import COCO

    COCO(str(annotations))


def pycocotools_evaluate(annotations: Path, out: Path) -> None:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truth = COCO(str(annotations))
    for kind, name in (("box", "bbox"), ("mask", "segm")):
        evaluator = COCOeval(truth, truth.loadRes(str(annotations.with_name(f"test_{kind}.json"))), name)
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()


def ultralytics_convert(annotations: Path, out: Path) -> None:
    from seamline.base.process import quiet_environment

    quiet_environment()
    from ultralytics.data.converter import convert_coco

    source = out / "source"
    source.mkdir(parents=True)
    (source / "labels.json").hardlink_to(annotations)
    convert_coco(str(source), str(out / "yolo"), use_segments=True, cls91to80=False)
    (out / "yolo" / "labels" / "labels").rename(out / "labels")


def first_polygon(annotations: Path, out: Path) -> None:
    coco = json.loads(annotations.read_text())
    sizes = {image["id"]: (image["width"], image["height"], image["file_name"]) for image in coco["images"]}
    classes = {category["id"]: index for index, category in enumerate(coco["categories"])}
    lines: dict[int, list[str]] = defaultdict(list)
    for record in coco["annotations"]:
        width, height, _ = sizes[record["image_id"]]
        polygon = record["segmentation"][0]
        shares = (f"{value / (height if index % 2 else width):.6f}" for index, value in enumerate(polygon))
        lines[record["image_id"]].append(f"{classes[record['category_id']]} {' '.join(shares)}")
    (out / "labels").mkdir(parents=True)
    for image_id, (_, _, name) in sizes.items():
        text = "".join(f"{line}\n" for line in lines[image_id])
        (out / "labels" / name).with_suffix(".txt").write_text(text)


def supervision_convert(annotations: Path, out: Path) -> None:
    import supervision

    dataset = supervision.DetectionDataset.from_coco(
        images_directory_path=str(annotations.parent / "images"),
        annotations_path=str(annotations),
        force_masks=True,
    )
    (out / "labels").mkdir(parents=True)
    dataset.as_yolo(annotations_directory_path=str(out / "labels"))


PEERS = {
    "pycocotools-load": pycocotools_load,
    "pycocotools-evaluate": pycocotools_evaluate,
    "ultralytics-convert": ultralytics_convert,
    "first-polygon": first_polygon,
    "supervision-convert": supervision_convert,
}

if __name__ == "__main__":
    peer, annotation_file, target = sys.argv[1:]
    shutil.rmtree(target, ignore_errors=True)
    PEERS[peer](Path(annotation_file), Path(target))
