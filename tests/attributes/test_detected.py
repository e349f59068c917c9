"""Garments as the detector found them: matched as pycocotools' IoU says, cut out by what was found, or missed."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import msgspec
import numpy as np
from pycocotools import mask as coco_mask

from seamline.attributes.detected import detected_parts, matched, read_results
from seamline.attributes.labelled import MISSING, Example
from tests.conftest import write_dataset
from tests.tiny_classifier import FACTS


def test_each_garment_and_each_detection_is_matched_once() -> None:
    boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [50, 50, 60, 60]], float)
    found = np.array([[0, 0, 10, 10], [51, 50, 61, 60], [100, 0, 110, 10]], float)
    assert matched(boxes, found) == [(0, 0), (2, 1)]
    assert matched(boxes, np.zeros((0, 4))) == []
    assert matched(boxes[:1], np.array([[0, 0, 10, 9], [0, 0, 10, 10], [1, 0, 11, 10]], float)) == [(0, 1)]
    assert matched(boxes[:1], np.array([[0, 0, 10, 5]], float)) == [(0, 0)]  # an IoU of 0.5
    assert matched(boxes[:1], np.array([[0, 0, 10, 4.9]], float)) == []


def example(name: str, box: tuple[float, float, float, float]) -> Example:
    return Example(name, Path("unused"), "a.png", "0", box, (0,))


def test_what_was_found_is_cut_out_and_the_rest_is_missed(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (80, 80, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), image)
    examples = [example("0", (60, 60, 79, 79)), example("1", (10, 10, 30, 40))]
    mask = np.zeros((80, 80), np.uint8, order="F")
    mask[12:40, 12:30] = 1
    rle = coco_mask.encode(mask)
    record = {
        "image_id": 4, "bbox": [11, 11, 20, 30], "score": 0.9,
        "segmentation": {"size": rle["size"], "counts": rle["counts"].decode()},
    }  # fmt: skip
    parts, positions = detected_parts(examples, [record], {4: "a.png"}, tmp_path, 0.0, "white")
    assert positions.tolist() == [MISSING, 0]
    expected = np.where(mask[11:41, 11:31, None] == 1, image[11:41, 11:31], 255)
    assert np.array_equal(parts[0], expected)


def test_weak_detections_do_not_count(tmp_path: Path) -> None:
    write_dataset(tmp_path / "in", 1)
    (tmp_path / "test.json").write_text((tmp_path / "in" / "instances.json").read_text())
    names = [one["name"] for one in json.loads((tmp_path / "test.json").read_text())["categories"]]
    said = [{"image_id": 1, "score": score, "category_id": number} for score in (0.2, 0.25) for number in (1, 2)]
    (tmp_path / "test_box.json").write_text(json.dumps(said))
    records, photos = read_results(tmp_path, tmp_path / "test.json", 0.25, FACTS)
    assert [(one["score"], one["category_id"]) for one in records] == [(0.25, 1), (0.25, 2)]
    assert photos == {1: "001.png"}
    facts = msgspec.structs.replace(FACTS, classes=names[1:2])  # of others the model says nothing: they are not found
    records, _ = read_results(tmp_path, tmp_path / "test.json", 0.25, facts)
    assert [(one["score"], one["category_id"]) for one in records] == [(0.25, 2)]
