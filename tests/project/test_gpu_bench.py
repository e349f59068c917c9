"""The GPU bench: its photos and labels, its arithmetic, and all of it in miniature on the CPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import yaml

from bench import gpu, gpu_parts
from bench.gpu_data import CLASSES, SCALE, enlarged, write_photos
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
        members = {name: archive.read(f"images/{name}") for name in names}
    kinds = {category["id"]: category["name"] for category in coco["categories"]}
    assert yaml.safe_load((data / "split" / "data.yaml").read_text())["names"] == {0: kinds[1], 1: kinds[8]}
    assert not set(names) & {Path(line).name for line in (data / "split" / "val.txt").read_text().splitlines()}
    for name in names:
        image = next(image for image in coco["images"] if Path(image["file_name"]).name == name)
        height, width = SCALE * image["height"], SCALE * image["width"]
        photo = cv2.imread(str(data / "yolo" / "images" / name))
        assert photo is not None
        assert photo.shape == (height, width, 3)
        picture = cv2.imdecode(np.frombuffer(members[name], np.uint8), cv2.IMREAD_COLOR)
        assert picture is not None
        np.testing.assert_allclose(photo.mean(axis=(0, 1)), picture.mean(axis=(0, 1)), atol=2)  # blue is still blue
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


def test_an_annotation_is_enlarged_with_its_box_and_its_area() -> None:
    record = {"id": 3, "image_id": 2, "category_id": 8, "iscrowd": 0, "note": "not needed"}
    shape = {"segmentation": [[1, 2, 3, 2, 3, 5]], "bbox": [1, 2, 2, 3], "area": 3}
    found = enlarged({**record, **shape})
    assert found["segmentation"] == [[4, 8, 12, 8, 12, 20]]
    assert found["bbox"] == [4, 8, 8, 12]
    assert found["area"] == 48


def rates_of(job: dict[str, Any], precision: str, batch: int) -> dict[str, Any]:
    """Images a second that are multiples of one number for each side, so that a ratio says which row it is of."""
    side = 10 if job["side"] == "ours" else 1
    return {"images_s": side * (1.0 if precision == "f32" else 3.0) * batch, "instances": 5, "peak_mib": 4.0 * side}


def test_ours_is_divided_by_the_other_side_row_by_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs: list[tuple[str, dict[str, Any]]] = []

    def measured(name: str, part: str, job: dict[str, Any], folder: Path) -> Any:
        jobs.append((part, dict(job)))
        if part == "train":
            faster = 8.0 if job["side"] == "ours" else 2.0
            slowed = int(name[-1])  # the number of the round
            Path(job["scratch"]).mkdir(parents=True)
            (Path(job["scratch"]) / "best-0.pt").touch()
            return {"images_s": faster - slowed, "images_s_with_validation": faster / 2, "peak_mib": 3 * faster}
        if part == "predict":
            return {f"{p}, batch {b}": rates_of(job, p, b) for p in job["precisions"] for b in job["batches"]}
        return {"confidence": 0.125} if part == "confidence" else {"found_again": {"f32": 1.0}}

    monkeypatch.setattr(gpu, "measured", measured)
    plan = gpu.TINY._replace(
        precisions={"ours": ["f32", "f16", "bf16"], "ultralytics": ["f32", "f16"]}, batches=[1, 4], rounds=2
    )
    left = tmp_path / "train-tiny-ours-0" / "of a killed run"
    left.mkdir(parents=True)
    trained = gpu.measure_training(plan, tmp_path / "data", tmp_path, "0")["tiny"]
    assert not left.exists()  # ultralytics would resume it
    assert trained["ours"] == {"images_s": 7.5, "images_s_with_validation": 4.0, "peak_mib": 24.0}
    assert trained["ratio"] == {"images_s": 5.0, "images_s_with_validation": 4.0, "peak_mib": 4.0}  # 7.5 / 1.5, ...
    monkeypatch.setattr(gpu, "train_once", lambda *_: {})
    jobs.clear()
    found = gpu.measure_predicting(plan, tmp_path / "data", tmp_path, "0")
    assert found["ratio_at_its_best_batch"] == {"f32": 10.0, "f16": 10.0}  # bf16 has nothing beside it
    assert found["ours"]["bf16, batch 4"]["images_s"] == 120.0
    assert [(part, job["side"], job["precisions"], job["confidence"]) for part, job in jobs] == [
        ("confidence", "ours", ["f32"], 0.25),
        *[("predict", side, plan.precisions[side], 0.125) for _ in range(2) for side in gpu.SIDES],
        ("compare", "ours", ["f32", "f16", "bf16"], 0.125),
    ]


def test_epochs_are_timed_from_the_second_on_with_and_without_validation() -> None:
    """100 images; epochs of 9, 2, 4 and 5 s, after each of which validation takes 1 s."""
    events = [("on_train_epoch_start", 0.0), ("on_train_epoch_end", 9.0)]
    for start, end in ((10.0, 12.0), (13.0, 17.0), (18.0, 23.0)):
        events += [("on_train_epoch_start", start), ("on_train_epoch_end", end)]
    events.append(("on_train_end", 24.0))
    busy = [(5.0, 1.0), (10.0, 40.0), (24.0, 60.0), (25.0, 2.0)]  # while the first epoch ran, and after the end
    found = gpu_parts.events_to_figures(events, busy, 100)
    assert found == {"images_s": 25.0, "images_s_with_validation": 20.0, "gpu_busy": 0.5}
    assert gpu_parts.events_to_figures(events, [], 100)["gpu_busy"] is None


def test_a_photo_has_the_wanted_number_of_instances_above_the_confidence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = [np.array([0.9, 0.5, 0.2]), np.array([0.8, 0.7])]

    class Two:
        def __init__(self, *_: Any, **options: Any) -> None:
            assert options == {"device": "cpu"}

        def detect_all(self, photos: list[Path]) -> list[SimpleNamespace]:
            return [SimpleNamespace(scores=own) for own in scores[: len(photos)]]

    monkeypatch.setattr("seamline.inference.detector.Detector", Two)
    (tmp_path / "yolo" / "images").mkdir(parents=True)
    for name in "ab":
        (tmp_path / "yolo" / "images" / f"{name}.jpg").touch()
    job = gpu_parts.Predicting("ours", tmp_path, tmp_path / "best.pt", 64, 0.25, ["f32"], [1], "cpu", 1)
    assert gpu_parts.confidence_for(job, instances=2) == {"confidence": 0.5}  # the fourth of the best four
    assert gpu_parts.confidence_for(job, instances=4) == {"confidence": 0.2}  # there are no eight
    scores[:] = [np.zeros(0), np.zeros(0)]
    assert gpu_parts.confidence_for(job, instances=2) == {"confidence": 0.001}


def test_the_best_of_several_repeats_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four photos in 2, 0.5 and 1 s; the one before them is to warm up."""
    (tmp_path / "yolo" / "images").mkdir(parents=True)
    for number in range(4):
        (tmp_path / "yolo" / "images" / f"{number}.jpg").touch()
    clock, ran = iter([0.0, 2.0, 3.0, 3.5, 4.0, 5.0]), list[int]()

    def run(photos: list[Path]) -> int:
        ran.append(len(photos))
        return 7

    monkeypatch.setattr(gpu_parts, "open_theirs", lambda *_: run)
    monkeypatch.setattr("bench.gpu_parts.time.perf_counter", lambda: next(clock))
    job = gpu_parts.Predicting("ultralytics", tmp_path, tmp_path / "best.pt", 64, 0.25, ["f32"], [1], "cpu", 3)
    assert gpu_parts.predict(job) == {"f32, batch 1": {"images_s": 8.0, "instances": 7, "peak_mib": None}}
    assert ran == [2, 4, 4, 4]


def test_rows_are_medians_and_ratios_compare_the_best_batches() -> None:
    runs = [{"images_s": value, "peak_mib": None} for value in (10.0, 90.0, 20.0)]
    assert gpu.medians(runs) == {"images_s": 20.0, "peak_mib": None}
    rows = {"f32, batch 1": {"images_s": 5.0}, "f32, batch 8": {"images_s": 9.0}, "f16, batch 8": {"images_s": 40.0}}
    assert gpu.best_rate(rows, "f32") == 9.0
    assert gpu.best_rate({"tf32, batch 1": {"images_s": 70.0}, **rows}, "f32") == 9.0
    assert gpu.divided(9.0, 6.0) == 1.5
    assert gpu.divided(None, 6.0) is gpu.divided(6.0, None) is None
    assert gpu.medians([{"peak_mib": 3.0}, {"peak_mib": None}]) == {"peak_mib": None}


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
