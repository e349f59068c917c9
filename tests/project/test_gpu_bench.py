"""The GPU bench: its photos and labels, its arithmetic, and all of it in miniature on the CPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from bench import gpu
from bench.gpu_data import CLASSES, SCALE, write_photos
from tests.conftest import PROJECT
from tests.stages.test_stage import with_params

# What machines with a GPU lack where there is no internet: the bench does without.
MISSING = ("dvc", "openvino", "onnxruntime", "onnx", "nncf", "polars", "hotcoco", "boto3")


def test_its_labels_fill_the_sample_s_masks_at_the_size_of_a_photo(tmp_path: Path) -> None:
    data = write_photos(tmp_path / "data", 10, 2)
    names = [Path(line).name for line in (data / "split" / "train.txt").read_text().splitlines()]
    assert len(names) == 10
    assert len((data / "split" / "val.txt").read_text().splitlines()) == 2
    with zipfile.ZipFile(PROJECT / "samples" / "garments.zip") as archive:
        coco = json.loads(archive.read("annotations.json"))
    for name in names:
        image = next(image for image in coco["images"] if Path(image["file_name"]).name == name)
        height, width = SCALE * image["height"], SCALE * image["width"]
        photo = cv2.imread(str(data / "yolo" / "images" / name))
        assert photo is not None
        assert photo.shape == (height, width, 3)
        lines = (data / "yolo" / "labels" / name).with_suffix(".txt").read_text().splitlines()
        wanted = [
            record
            for record in coco["annotations"]
            if record["image_id"] == image["id"]
            and record["category_id"] in CLASSES
            and isinstance(record["segmentation"], list)
        ]
        assert [int(line.split()[0]) for line in lines] == [CLASSES.index(one["category_id"]) for one in wanted]
        for line, record in zip(lines, wanted, strict=True):
            points = np.array(line.split()[1:], dtype=float).reshape(-1, 2) * (width, height)
            ours, truth = np.zeros((height, width), np.uint8), np.zeros((height, width), np.uint8)
            cv2.fillPoly(ours, [points.round().astype(int)], 1)
            for polygon in record["segmentation"]:
                cv2.fillPoly(truth, [(SCALE * np.array(polygon).reshape(-1, 2)).round().astype(int)], 1)
            assert (ours & truth).sum() / (ours | truth).sum() > 0.97


def test_rows_are_medians_and_ratios_compare_the_best_batches() -> None:
    runs = [{"images_s": value, "peak_mib": None} for value in (10.0, 30.0, 20.0)]
    assert gpu.medians(runs) == {"images_s": 20.0, "peak_mib": None}
    rows = {"f32, batch 1": {"images_s": 5.0}, "f32, batch 8": {"images_s": 9.0}, "f16, batch 8": {"images_s": 40.0}}
    assert gpu.best_rate(rows, "f32") == 9.0
    assert gpu.divided(9.0, 6.0) == 1.5
    assert gpu.divided(None, 6.0) is None


def test_what_was_measured_is_not_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[list[str]] = []

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        ran.append(command)
        Path(command[-1]).write_text(json.dumps({"images_s": len(ran)}))
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", run)
    assert gpu.measured("a", "train", {"batch": 8}, tmp_path) == {"images_s": 1}
    assert gpu.measured("a", "train", {"batch": 8}, tmp_path) == {"images_s": 1}
    assert gpu.measured("a", "train", {"batch": 16}, tmp_path) == {"images_s": 2}  # another job
    assert len(ran) == 2


def test_a_part_that_fails_names_its_log(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"a: failed \(.*a\.txt says why\); run the command again to resume"):
        gpu.measured("a", "train", {"batch": 8}, tmp_path)
    assert "batch" in (tmp_path / "a.txt").read_text() or "side" in (tmp_path / "a.txt").read_text()


@pytest.mark.thorough
def test_the_whole_bench_runs_in_miniature_without_what_such_machines_lack(tmp_path: Path) -> None:
    for name in ("bench", "samples", "architectures"):
        (tmp_path / name).symlink_to(PROJECT / name)
    with_params(tmp_path, {})
    blocked = tmp_path / "blocked"
    blocked.mkdir()
    for name in MISSING:
        (blocked / f"{name}.py").write_text(f'raise ModuleNotFoundError("No module named {name!r}", name={name!r})\n')
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(blocked), str(PROJECT)])}
    command = [sys.executable, "-m", "bench.gpu", "--device", "cpu", "--tiny"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    logs = "".join(path.read_text()[-2000:] for path in tmp_path.glob(".seamline/bench/gpu/*/*.txt"))
    assert done.returncode == 0, done.stdout + done.stderr + logs
    [report_file] = (tmp_path / "reports" / "gpu").iterdir()
    report = json.loads(report_file.read_text())
    for side in ("ours", "ultralytics"):
        assert report["train"]["tiny"][side]["images_s"] > 0
        assert set(report["predict"][side]) == {"f32, batch 1", "f32, batch 4"}
    # Both find about the same number, and the same ones.
    assert report["predict"]["found_again"]["f32"] >= 0.99
    assert 1 <= report["predict"]["their_instances_a_photo"] <= 8
    again = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert again.returncode == 0
    assert not (tmp_path / "runs").exists()  # ultralytics' place for a project that it takes for a name
    assert ": " not in again.stdout.partition("train tiny")[0]  # nothing is measured again
