from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from ultralytics.data.dataset import YOLODataset
from ultralytics.data.utils import polygon2mask
from ultralytics.utils.ops import resample_segments

from seamline.dataset.conversion import (
    Converted,
    Fidelity,
    Instance,
    fidelity_report,
    instances_to_lines,
    write_labels,
)
from seamline.masks.yolo_labels import text_to_line
from tests.conftest import HAS_SHARED_DATA, SHARED_DATA, square, write_dataset
from tests.stages.test_stage import run_stage, with_params


def record(number: int, segmentation: Any, iscrowd: int = 0) -> Instance:
    return Instance(id=number, category_id=5, segmentation=segmentation, iscrowd=iscrowd)


def converted(records: list[Instance]) -> tuple[list[str], list[Fidelity], Counter[str]]:
    dropped: Counter[str] = Counter()
    lines, kept = instances_to_lines(records, {5: 2}, 60, 40, dropped)
    return lines, kept, dropped


def test_one_line_an_instance_whatever_its_parts_overlaps_and_holes() -> None:
    ring = np.zeros((60, 40), np.uint8)
    cv2.circle(ring, (20, 30), 15, 1, -1)
    cv2.circle(ring, (20, 30), 6, 0, -1)
    flat = ring.flatten(order="F")
    runs = np.diff([0, *(np.flatnonzero(np.diff(flat)) + 1), flat.size]).tolist()
    lines, kept, dropped = converted(
        [
            record(1, [square(5, 5, 20), square(10, 10, 10)]),
            record(2, [square(2, 2, 8), square(30, 50, 8)]),
            record(3, {"size": [60, 40], "counts": runs}),
        ]
    )
    assert [text_to_line(line)[0] for line in lines] == [2, 2, 2]
    assert [instance.annotation_id for instance in kept] == [1, 2, 3]
    assert not dropped
    assert [instance.iou for instance in kept] == [1, pytest.approx(128 / 168), 1]
    assert kept[2].area_px == ring.sum()


def test_what_gets_no_line_is_counted() -> None:
    lines, _, dropped = converted(
        [
            record(1, [square(5, 5, 20)]),
            record(2, [square(5, 5, 20)]),
            record(3, [square(5, 5, 9)], iscrowd=1),
            record(6, [square(15, 5, 9)], iscrowd=1),
            record(4, [square(100, 100, 9)]),
            record(5, []),
        ]
    )
    assert len(lines) == 1
    assert dropped == {
        "the same mask and class as another instance of the image": 1,
        "crowd: marks a region and no instance": 2,
        "its mask covers no pixel of the image": 1,
        "its segmentation has no polygon of at least three points": 1,
    }


def test_the_certificate_lists_what_lost_half_with_the_reason() -> None:
    below = [Fidelity(2, 5, 0.4, 100, 60, 0), Fidelity(3, 6, 0.3, 30, 0, 70)]
    parts = [
        Converted(np.array([1.0, 0.4]), np.array([5, 5]), below[:1], {"b": 1}),
        Converted(np.array([0.3]), np.array([6]), below[1:], {"a": 2}),
    ]
    report = fidelity_report(parts, {5: "top", 6: "shoes", 7: "hat"})
    assert (report["instances"], report["min_iou"], report["mean_iou"]) == (3, 0.3, 0.566667)
    assert [(row["annotation_id"], row["reason"]) for row in report["below_0_5"]] == [
        (2, "60 of its pixels lie in parts smaller than the bridges to them, and were left out"),
        (3, "the bridges between its parts cover 70 pixels more"),
    ]
    assert report["classes"]["top"] == {"instances": 2, "mean_iou": 0.7}
    assert list(report["classes"]) == ["top", "shoes"]
    assert list(report["dropped"].items()) == [("a", 2), ("b", 1)]


def test_the_first_percentile_is_the_one_in_a_hundred() -> None:
    """Of 0.00, 0.01 ... 1.00 it is 0.01; the fifth would be 0.05."""
    part = Converted(np.arange(101) / 100, np.full(101, 5), [], {})
    report = fidelity_report([part], {5: "top"})
    assert (report["p1_iou"], report["min_iou"], report["mean_iou"]) == (0.01, 0.0, 0.5)
    assert report["classes"] == {"top": {"instances": 101, "mean_iou": 0.5}}
    assert report["below_0_5"] == []
    assert report["dropped"] == {}


def test_a_row_of_the_certificate_has_four_decimals_and_the_larger_loss() -> None:
    below = [Fidelity(9, 5, 0.123456, 100, 60, 60), Fidelity(8, 5, 0.4, 50, 10, 11)]
    report = fidelity_report([Converted(np.array([0.123456, 0.4]), np.array([5, 5]), below, {"b": 1})], {5: "top"})
    assert [(row["annotation_id"], row["iou"], row["area_px"]) for row in report["below_0_5"]] == [
        (9, 0.1235, 100),
        (8, 0.4, 50),
    ]
    assert "60 of its pixels" in report["below_0_5"][0]["reason"]  # even: what was lost
    assert "11 pixels more" in report["below_0_5"][1]["reason"]


def test_pixels_lost_and_added_are_those_of_the_masks_as_pycocotools_has_them() -> None:
    """Two squares a bridge apart, and a speck that is not worth its bridge."""
    parts = [square(3, 4, 9), square(25, 4, 9), square(36, 50, 2)]
    _, [kept], _ = converted([record(6, parts)])
    truth = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(parts, 60, 40)))
    assert (kept.annotation_id, kept.category_id, kept.area_px) == (6, 5, truth.sum())
    assert (kept.lost_px, kept.added_px) == (4, 13)  # the speck; columns 12 to 24 of the bridge
    assert kept.iou == pytest.approx(162 / 179)


def test_written_labels_and_links(tmp_path: Path) -> None:
    source = write_dataset(tmp_path / "in", count=2)
    (source / "photos").rename(source / "images")
    for folder in ("labels", "images"):
        (tmp_path / "out" / folder).mkdir(parents=True)
    annotations = [
        json.dumps({"id": 1, "category_id": 5, "segmentation": [square(5, 5, 20)]}).encode(),
        json.dumps({"id": 2, "category_id": 6, "segmentation": [square(2, 2, 6), square(32, 50, 6)]}).encode(),
        json.dumps({"id": 3, "category_id": 6, "segmentation": [square(2, 2, 6)], "iscrowd": 1}).encode(),
    ]
    done = write_labels(
        [("001.png", 60, 40, annotations), ("002.png", 60, 40, [])], {5: 0, 6: 1}, source, tmp_path / "out"
    )
    texts = [(tmp_path / "out" / "labels" / f"{name}.txt").read_text() for name in ("001", "002")]
    assert [text_to_line(line)[0] for line in texts[0].splitlines()] == [0, 1]
    assert texts[0].endswith("\n")
    assert texts[1] == ""
    assert (tmp_path / "out" / "images" / "001.png").samefile(source / "images" / "001.png")
    assert (tmp_path / "out" / "images" / "002.png").samefile(source / "images" / "002.png")
    assert done.category_ids.tolist() == [5, 6]
    assert done.category_ids.dtype == np.int64
    assert done.ious.tolist() == [1.0, 0.5]  # one of two parts is left out, and half is not below half
    assert done.below_0_5 == []
    assert done.dropped == {"crowd: marks a region and no instance": 1}


def test_many_images_on_all_cores_give_what_few_give_on_one(tmp_path: Path) -> None:
    """Over 400 images the stage starts processes."""
    few = write_dataset(tmp_path / "few", count=6)
    coco = json.loads((few / "instances.json").read_text())
    many: dict[str, Any] = {"images": [], "annotations": [], "categories": coco["categories"]}
    (tmp_path / "many" / "images").mkdir(parents=True)
    (few / "photos").rename(few / "images")
    (few / "instances.json").rename(few / "annotations.json")
    for number in range(1, 451):
        image = coco["images"][number % 6]
        name = f"{number:04d}.png"
        (tmp_path / "many" / "images" / name).hardlink_to(few / "images" / image["file_name"])
        many["images"].append({**image, "id": number, "file_name": name})
        for found in coco["annotations"]:
            if found["image_id"] == image["id"]:
                many["annotations"].append({**found, "id": len(many["annotations"]) + 1, "image_id": number})
    (tmp_path / "many" / "annotations.json").write_text(json.dumps(many))
    with_params(tmp_path, {})
    assert run_stage("convert", tmp_path, "few", "yolo_few").returncode == 0
    done = run_stage("convert", tmp_path, "many", "yolo_many")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "yolo_many-report.json").read_text())["instances"] == 900
    assert len(list((tmp_path / "yolo_many" / "images").iterdir())) == 450
    for number in range(1, 451):
        text = (tmp_path / "yolo_many" / "labels" / f"{number:04d}.txt").read_text()
        source = Path(coco["images"][number % 6]["file_name"]).with_suffix(".txt")
        assert text == (tmp_path / "yolo_few" / "labels" / source).read_text()


def test_a_stage_that_finds_too_little_kept_leaves_nothing(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "in", count=1)
    (folder / "photos").rename(folder / "images")
    coco = json.loads((folder / "instances.json").read_text())
    coco["annotations"] = [{**coco["annotations"][0], "segmentation": [square(2, 2, 6), square(32, 50, 6)]}]
    (folder / "annotations.json").write_text(json.dumps(coco))
    with_params(tmp_path, {})
    done = run_stage("convert", tmp_path, "in", "yolo")
    assert done.returncode == 1
    assert "mean IoU of the labels is 0." in done.stderr
    assert "below convert.min_mean_iou 0.98" in done.stderr
    assert not (tmp_path / "yolo").exists()


def loaded_by_ultralytics(yolo: Path, names: dict[int, str]) -> tuple[Any, list[str]]:
    """The labels as ultralytics' dataset has them, and what it found to say about files."""
    data = {"names": names, "channels": 3, "nc": len(names)}
    dataset = YOLODataset(img_path=str(yolo / "images"), data=data, task="segment", augment=False, cache=False)
    messages = np.load(yolo / "labels.cache", allow_pickle=True).item()["msgs"]
    return dataset.labels, messages


def test_a_warning_of_ultralytics_would_be_seen(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    Image.new("RGB", (40, 60)).save(tmp_path / "images" / "a.png")
    (tmp_path / "labels" / "a.txt").write_text("0 0.1 0.1 0.5 0.1 0.5 0.5\n" * 2)
    _, messages = loaded_by_ultralytics(tmp_path, {0: "top"})
    assert "duplicate labels removed" in messages[0]


@pytest.mark.skipif(not HAS_SHARED_DATA, reason="the real photos are not on this machine")
@pytest.mark.parametrize("layout", ["coco", "ccp"])
def test_real_photos_every_class_and_mask_as_ultralytics_loads_it(tmp_path: Path, layout: str) -> None:
    """From polygons and from RLE: class ids right in every label, and the masks those of pycocotools."""
    names = json.loads((SHARED_DATA / "ccp-mini" / "instances.json").read_text())["categories"]
    classes = sorted(category["name"] for category in names)
    with_params(
        tmp_path,
        {"pull": {"layout": layout}, "subset": {"classes": classes, "images": None, "background": 0, "group_by": None}},
    )
    for stage, source, out in (
        ("pull", f"--source={SHARED_DATA / 'ccp-mini'}", "raw"),
        ("subset", "raw", "subset"), ("convert", "subset", "yolo"),
    ):  # fmt: skip
        done = run_stage(stage, tmp_path, source, out)
        assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "yolo-report.json").read_text())
    assert report["mean_iou"] >= 0.99
    assert report["p1_iou"] >= 0.90
    assert report["below_0_5"] == []
    assert report["dropped"] == {}
    truth = COCO(str(tmp_path / "subset" / "annotations.json"))
    by_name = {image["file_name"]: image for image in truth.imgs.values()}
    ious = []
    labels, messages = loaded_by_ultralytics(tmp_path / "yolo", dict(enumerate(classes)))
    assert messages == []
    for label in labels:
        image = by_name.pop(Path(label["im_file"]).name)
        records = truth.imgToAnns[image["id"]]
        assert [truth.cats[found["category_id"]]["name"] for found in records] == [
            classes[int(index)] for index in label["cls"].ravel()
        ]
        size = (image["height"], image["width"])
        for found, segment in zip(records, label["segments"], strict=True):
            points = resample_segments([segment], n=len(segment) + 1 if len(segment) > 1000 else 1000)[0]
            trained = polygon2mask(size, [(points * np.array(size[::-1], np.float32)).reshape(-1)])
            mask = truth.annToMask(found)
            ious.append((trained & mask).sum() / (trained | mask).sum())
    assert by_name == {}
    assert np.mean(ious) == pytest.approx(report["mean_iou"], abs=1e-6)


def test_every_kind_of_image_file_loads_in_ultralytics_without_a_warning(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "in", count=1)
    coco = json.loads((folder / "instances.json").read_text())
    original = Image.open(folder / "photos" / "001.png").convert("RGB")
    turned = Image.Exif()
    turned[0x0112] = 6
    files: dict[str, tuple[Image.Image, dict[str, Any]]] = {
        "grey.png": (original.convert("L"), {}), "cmyk.jpg": (original.convert("CMYK"), {}),
        "wide.png": (Image.fromarray(np.asarray(original.convert("L")).astype(np.uint16) * 257), {}),
        "alpha.png": (original.convert("RGBA"), {}), "a.webp": (original, {}), "a.bmp": (original, {}),
        "a.tif": (original, {}), "a.jfif": (original, {"format": "JPEG"}), "wrong.jpg": (original, {"format": "PNG"}),
        "turned.jpg": (original.transpose(Image.Transpose.ROTATE_90), {"exif": turned}),
        "stored.jpg": (original, {"exif": turned}), "stored.webp": (original, {"exif": turned}),
        "more.jpg": (original, {}),
    }  # fmt: skip
    for number, (name, (image, options)) in enumerate(files.items(), start=2):
        image.save(folder / "photos" / name, **options)
        coco["images"].append({"id": number, "file_name": name, "width": 40, "height": 60})
        coco["annotations"].append({**coco["annotations"][0], "id": 100 + number, "image_id": number})
    with (folder / "photos" / "more.jpg").open("ab") as stream:
        stream.write(b"\0\0\0")
    (folder / "instances.json").write_text(json.dumps(coco))
    with_params(tmp_path, {"subset": {"images": None, "background": 0, "group_by": None}})
    for stage, source, out in (
        ("pull", "--source=in", "raw"),
        ("subset", "raw", "subset"),
        ("convert", "subset", "yolo"),
    ):
        done = run_stage(stage, tmp_path, source, out)
        assert done.returncode == 0, done.stderr
    before = {path.name: path.read_bytes() for path in (tmp_path / "yolo" / "images").iterdir()}
    assert len(before) == len(files) + 1
    names = {0: "short sleeve top", 1: "trousers"}
    labels, messages = loaded_by_ultralytics(tmp_path / "yolo", names)
    assert messages == []
    assert len(labels) == len(before)
    assert {label["shape"] for label in labels} == {(60, 40)}
    assert {path.name: path.read_bytes() for path in (tmp_path / "yolo" / "images").iterdir()} == before
