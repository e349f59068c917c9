"""The bench runs from end to end, and its data are what they say."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench.data import sample_shapes, with_overlapping_part, write_dataset
from seamline.masks.rle import mask_iou, rle_to_mask, segmentation_to_rle
from tests.conftest import PROJECT
from tests.stages.test_stage import with_params


def test_its_data_list_a_part_beside_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(PROJECT)
    write_dataset(tmp_path / "data", 30)
    coco = json.loads((tmp_path / "data" / "annotations.json").read_text())
    assert len(coco["images"]) == len(list((tmp_path / "data" / "images").iterdir())) == 30
    assert len(coco["annotations"]) >= 30
    shape = next(shape for shape in sample_shapes() if len(shape["annotations"][0]["segmentation"]) == 1)
    polygons = with_overlapping_part(shape["annotations"][0]["segmentation"])
    size = (5 * shape["height"], 5 * shape["width"])
    union, outline = (rle_to_mask(segmentation_to_rle(found, *size)) for found in (polygons, polygons[:1]))
    assert mask_iou(union, outline) > 0.97  # the part overlaps what it is a part of


@pytest.mark.thorough
def test_a_small_bench_runs_to_the_end(tmp_path: Path) -> None:
    for name in ("bench", "samples"):
        (tmp_path / name).symlink_to(PROJECT / name)
    with_params(tmp_path, {})
    before = set(tmp_path.iterdir())
    command = [sys.executable, "-m", "bench.run", "--images", "200", "--rounds", "1", "--evaluated", "20"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert set(tmp_path.iterdir()) - before == {tmp_path / ".seamline"}  # nothing of the project's own is written over
    report = json.loads((tmp_path / ".seamline" / "bench" / "bench.json").read_text())
    assert set(report["time"]) == {"subset / COCO(path)", "convert / convert_coco"}
    assert report["time"]["convert / convert_coco"]["peak_mib_ratio"] < 1
    assert set(report["evaluation"]) == {"evaluate / COCOeval"}
    evaluated = json.loads((tmp_path / ".seamline/bench/out-evaluate/metrics.json").read_text())
    assert 0.4 < evaluated["mask"]["mAP50"] < 0.9
    masks = report["masks"]
    assert masks["convert"]["mean_iou"] >= 0.99
    assert masks["convert"]["below_0_5"] == 0
    assert masks["ultralytics-convert"]["mean_iou"] < masks["first-polygon"]["mean_iou"] < masks["convert"]["mean_iou"]
    assert len(report["growth"]) == 4
    assert "convert, 200 images" in done.stdout
    split = json.loads((tmp_path / ".seamline" / "bench" / "out-split-report.json").read_text())
    assert split["train"]["images"] + split["val"]["images"] + split["test"]["images"] == 200
    assert split["near_duplicates"] > 20
    assert split["largest_group_share"] < 0.05
