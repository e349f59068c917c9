"""A comparison of families: what is trained, chosen and written; and once for real, killed in the middle."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest
import yaml
from pycocotools.coco import COCO

from seamline.base.coco import Record, write_coco
from seamline.base.errors import SeamlineError
from seamline.dataset.conversion import Instance, instances_to_lines
from seamline.experiments import families, family_trainings
from seamline.experiments.families_page import record_to_page, work_to_text
from seamline.experiments.family_speed import Exported
from seamline.params.loading.loader import Params, load_params
from seamline.params.train import Train
from seamline.training.finished import MAX_FINISHED, Training, store_training
from seamline.training.trial import DIVERGED
from seamline.verbs import families as verb
from tests.browser import look_at
from tests.conftest import PARAMS, TINY, code_in, merged, square
from tests.programs import needs_program
from tests.untrained import write_split

YOLO, OTHER, MASK = "yolov9t-seg.yaml", "yolov9c-seg.yaml", "maskrcnn_mobilenet_v3_large_fpn"
EPOCHS = 48
ROUNDS = [90.0, 100.0, 110.0, 95.0, 105.0, 99.0]


def found_by(weights: Path, split_file: Path) -> list[Record]:
    """Every second instance, or all of them where the learning rate was low."""
    truth, is_good = COCO(split_file), "0.001" in weights.read_text()
    return [
        {**{key: record[key] for key in ("image_id", "category_id", "bbox")}, "score": 1.0,
         "segmentation": truth.annToRLE(record)}
        for number, record in enumerate(truth.dataset["annotations"]) if is_good or number % 2
    ]  # fmt: skip


def speed_row(ms: float) -> Record:
    return {
        "precision": "f32", "latency_ms": {"p50": ms, "p90": 2 * ms, "p99": 3 * ms},
        "latency_p50_interval_ms": [0.9 * ms, 1.1 * ms], "throughput_img_s": 1000 / ms,
        "throughput_interval_img_s": None, "throughput_rounds_img_s": [value / ms for value in ROUNDS],
        "peak_rss_mb": 200.0, "model_mb": 4.0,
    }  # fmt: skip


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Params, int]]:
    """The trainings that were asked for, with how many may be stored; trainings, models and times are stand-ins."""
    write_split(tmp_path / "split", tmp_path / "images")
    found: list[tuple[Params, int]] = []

    def identity(params: Params, split: Path, labelled: Path) -> Any:
        text = json.dumps(msgspec.to_builtins(params[Train]))
        return SimpleNamespace(key=hashlib.sha256(text.encode()).hexdigest()[:16])

    def train(params: Params, split: Path, labelled: Path, scratch: Path, most: int) -> None:
        found.append((params, most))
        if params[Train].lr0 > 0.01:
            raise SeamlineError(f"train: {DIVERGED} in epoch 2; train.lr0 {params[Train].lr0:g} may be too high.")
        key = identity(params, split, labelled).key
        (scratch / key).mkdir(parents=True)
        (scratch / key / "last.pt").write_text(f"{params[Train].model} {params[Train].lr0} {params[Train].seed}")
        threads = 1 + (params[Train].seed == 2)
        facts = {"training_revision": "r", "device": "CPU", "threads": threads, "best_epoch": 3, "resumed_after": []}
        store_training(scratch, key, Training(scratch / key / "last.pt", facts, [{}] * params[Train].epochs), most)

    def exported(model: str, weights: Path, training: Record, params: Params) -> Exported:
        assert weights.read_text().startswith(f"{model} ")
        assert weights.read_text().split(" ")[2] in "04"  # of the first seed
        return Exported(model, weights, weights.parent, f"licence of {model}", 1234567)

    def timed(models: list[Exported], *rest: Any) -> Any:
        assert all(one.weights.exists() for one in models)
        rows = {
            one.model: {"openvino": speed_row(10.0 * (1 + number)), "pytorch": speed_row(40.0)}
            for number, one in enumerate(models)
        }
        return rows, {"processor": "one", "cores_used": 2, "disturbances": ["Other processes took 20%."]}

    @contextmanager
    def opened(weights: Path, limits: Any) -> Iterator[Any]:
        yield SimpleNamespace(weights=weights, has_masks=not weights.read_text().startswith("fasterrcnn"))

    monkeypatch.chdir(PARAMS.parent)
    monkeypatch.setattr(family_trainings, "trainings_folder", lambda: tmp_path / "scratch")
    monkeypatch.setattr(families, "trainings_folder", lambda: tmp_path / "scratch")
    monkeypatch.setattr(family_trainings, "train_alone", train)
    monkeypatch.setattr(family_trainings, "identity_of_params", identity)
    monkeypatch.setattr(family_trainings, "opened", opened)
    monkeypatch.setattr(family_trainings, "predict_split", lambda model, path, *rest: found_by(model.weights, path))
    monkeypatch.setattr(families, "exported", exported)
    monkeypatch.setattr(families, "timed", timed)
    return found


def run(tmp_path: Path, *words: str) -> Record:
    given = {"--split": tmp_path / "split", "--images": tmp_path / "images", "--report": tmp_path / "out" / "f.json"}
    verb.main([*words, *(str(word) for pair in given.items() for word in pair)])
    found: Record = json.loads((tmp_path / "out" / "f.json").read_text())
    return found


def test_each_model_is_searched_alike_and_the_best_on_val_is_trained_with_every_seed(
    tmp_path: Path, asked: list[tuple[Params, int]], capsys: Any
) -> None:
    found = run(tmp_path, YOLO, MASK, "--start", "none", "--trials", "3", "--seeds", "4", "1", "2")
    own = load_params(PARAMS)[Train]
    for model in (YOLO, MASK):
        settings = [(one[Train].lr0, one[Train].seed) for one, _ in asked if one[Train].model == model]
        assert settings == [(0.002, 4), (0.001, 4), (0.004, 4), (0.001, 1), (0.001, 2)]  # each once
        record = found["models"][model]
        assert record["lr0"] == 0.001  # of its val, where it finds all
        assert [one["val_mask_mAP50_95"] for one in record["trials"]][1] == 1
        assert list(record["seeds"]) == ["4", "1", "2"]
        assert record["test_mask_mAP50_95"]["mean"] == record["test_box_mAP50"]["mean"] == 1
        assert (record["parameters"], record["licence"]) == (1234567, f"licence of {model}")
    assert {one[Train].epochs for one, _ in asked} == {own.epochs}
    assert {most for _, most in asked} == {MAX_FINISHED + 2 * (3 + 3 - 1)}  # nobody else's are thrown away
    said = capsys.readouterr().out
    assert [line.split(":")[0] for line in said.splitlines() if line.startswith("training ")] == [
        f"training {number} of 10" for number in range(1, 11)
    ]
    assert found["differences"][0]["says"] in said
    assert f"{YOLO} is 2.00 to 2.00 times as fast as {MASK}." in said
    assert "Trainings ran on different devices: CPU, 1 threads; CPU, 2 threads." in found["not_the_same"]
    assert f"The best lr0 of {YOLO} was the lowest that was tried, 0.001" in " ".join(found["not_the_same"])
    assert [path.name for path in (tmp_path / "families").iterdir()] == ["lock"]
    asked.clear()
    assert run(tmp_path, YOLO, MASK, "--start", "none", "--trials", "3", "--seeds", "4", "1", "2") == found
    assert asked == []
    assert capsys.readouterr().out.count(", trained before") == 10


def test_two_comparisons_at_once_are_refused(tmp_path: Path, asked: list[tuple[Params, int]]) -> None:
    with (
        families.only_comparison(tmp_path / "families") as work,
        pytest.raises(SeamlineError, match="another comparison is running in this project; wait"),
    ):
        (work / "left").touch()
        run(tmp_path, YOLO, OTHER)
    with families.only_comparison(tmp_path / "families") as work:
        assert list(work.iterdir()) == []


def test_models_without_masks_are_compared_by_their_boxes(tmp_path: Path, asked: list[tuple[Params, int]]) -> None:
    found = run(tmp_path, YOLO, "fasterrcnn_resnet50_fpn_v2", "--start", "none")
    assert found["kind"] == "box"
    assert "test_mask_mAP50" in found["models"][YOLO]
    assert "test_mask_mAP50" not in found["models"]["fasterrcnn_resnet50_fpn_v2"]
    assert "box mAP50-95" in (tmp_path / "out" / "f.html").read_text()


def test_the_page_has_all_of_it_and_is_always_the_same(tmp_path: Path, asked: list[tuple[Params, int]]) -> None:
    found = run(tmp_path, YOLO, OTHER, MASK, "--mixed-starts")
    page = (tmp_path / "out" / "f.html").read_text()
    assert page == record_to_page(found)
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page.replace("&#39;", "'").replace("&lt;", "<")))
    for sentence in (*found["not_the_same"], *(one["says"] for one in found["differences"] + found["speed"])):
        assert sentence in text
    assert len(found["differences"]) == 3
    for name, model in found["models"].items():
        assert text.count(name) > 3
        assert text.count(model["licence"]) >= 2  # in the chart, and in the table
    assert "1,234,567" in text
    assert "start from different weights" in text
    assert "Other processes took 20%." in text
    assert "0.002: 0." in text


def test_a_learning_rate_that_diverges_is_a_trial_that_loses(
    tmp_path: Path, asked: list[tuple[Params, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = run(tmp_path, YOLO, OTHER, "--trials", "7")  # up to 8 times 0.002
    for model in (YOLO, OTHER):
        values = {one["lr0"]: one["val_mask_mAP50_95"] for one in found["models"][model]["trials"]}
        assert (values[0.016], values[0.001], len(values)) == (None, 1, 7)
    assert "0.016: diverged" in (tmp_path / "out" / "f.html").read_text()
    with pytest.raises(
        SeamlineError, match=r"diverged with every train\.lr0 that was tried \(0.5, 0.25\); lower train"
    ):
        run_with_lr0(tmp_path, monkeypatch, 0.5)


def run_with_lr0(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lr0: float) -> None:
    params = load_params(PARAMS)
    changed = Params({**params.by_type, Train: msgspec.structs.replace(params[Train], lr0=lr0)})
    monkeypatch.setattr("seamline.params.loading.loader.load_params", lambda: changed)
    run(tmp_path, YOLO, OTHER)


@needs_program("chromium")
@pytest.mark.parametrize(("width", "dark"), [(1200, False), (400, True)])
def test_a_browser_finds_nothing_wrong(width: int, dark: bool, tmp_path: Path, asked: list[tuple[Params, int]]) -> None:
    run(tmp_path, YOLO, MASK, "--start", "none")
    (tmp_path / "look").mkdir()
    seen = look_at(tmp_path / "out" / "f.html", tmp_path / "look", width=width, dark=dark)
    assert seen["findings"] == seen["errors"] == seen["violations"] == seen["requests"] == seen["console"] == []
    assert seen["overflow"] <= 0


@pytest.mark.parametrize(
    ("trainings", "said"),
    [
        ([(None, 30.0), (None, 50.0)], "40 processor seconds"),
        ([(0.5, 1.0), (1.5, 3.0)], "1.00 GPU hours"),
        ([(None, None), (None, 9.0)], "9 processor seconds"),
        ([(None, None)], "not known"),
    ],
)
def test_work_is_the_mean_of_what_is_known(trainings: list[tuple[Any, Any]], said: str) -> None:
    seeds = {
        str(number): {"training": {"key": str(number), "gpu_hours": hours, "processor_s": seconds}}
        for number, (hours, seconds) in enumerate(trainings)
    }
    assert work_to_text({"trials": [seeds["0"]], "seeds": seeds}) == said  # the best trial counts once


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([YOLO], "two different models or more are compared"),
        ([YOLO, YOLO], "two different models or more are compared"),
        ([YOLO, OTHER, "--seeds", "0", "1", "1"], "three different seeds or more are needed, none below 0"),
        ([YOLO, OTHER, "--report", "families.html"], "--report names a .json file; the page is written beside it"),
        ([YOLO, OTHER, "--seeds", "0", "1", "-1"], "three different seeds or more are needed, none below 0"),
    ],
)
def test_what_cannot_be_compared_is_refused(words: list[str], said: str, capsys: Any) -> None:
    with pytest.raises(SystemExit, match="2"):
        verb.main(words)
    assert said in capsys.readouterr().err


def small_project(root: Path) -> None:
    """A project of ten photos with a rectangle each, and parameters that train for two epochs."""
    rng = np.random.default_rng(0)
    for kind in ("images", "labels"):
        (root / "data" / "yolo" / kind).mkdir(parents=True)
    (root / "data" / "split").mkdir()
    code_in(root)
    parts: dict[str, list[int]] = {"train": [*range(8)], "val": [8, 9], "test": [10, 11]}
    for part, numbers in parts.items():
        images, annotations = [], []
        for number in numbers:
            image = rng.integers(0, 99, (40, 40, 3), dtype=np.uint8)
            cv2.rectangle(image, (8, 8), (30, 30), (255 * (number % 2), 40, 200), -1)
            cv2.imwrite(str(root / "data" / "yolo" / "images" / f"{number}.png"), image)
            garment = Instance(id=number, category_id=number % 2, segmentation=[square(8, 8, 23)])
            lines, _ = instances_to_lines([garment], {0: 0, 1: 1}, 40, 40, Counter())
            (root / "data" / "yolo" / "labels" / f"{number}.txt").write_text(f"{lines[0]}\n")
            images.append({"id": number, "file_name": f"{number}.png", "width": 40, "height": 40})
            record = {"id": number + 1, "image_id": number, "bbox": [8, 8, 23, 23], "area": 529}
            annotations.append({**msgspec.structs.asdict(garment), **record})
        categories = [{"id": 0, "name": "a"}, {"id": 1, "name": "b"}]
        write_coco(root / "data" / "split" / f"{part}.json", images, annotations, categories)
        lines = [f"./images/{number}.png\n" for number in numbers]
        (root / "data" / "split" / f"{part}.txt").write_text("".join(lines))
    (root / "data" / "split" / "data.yaml").write_text(yaml.safe_dump({"names": {0: "a", 1: "b"}}))
    (root / "data" / "split" / "groups.json").write_text(json.dumps({str(number): number for number in range(12)}))
    shutil.copy(TINY, root)
    train = {"epochs": 2, "imgsz": 64, "batch": 4, "nbs": 4, "val_period": 1, "device": "cpu", "lr0": 0.002}
    values = merged(yaml.safe_load(PARAMS.read_text()), {"train": train, "benchmark": {"threads": 1, "rounds": 1}})
    (root / "params.yaml").write_text(yaml.safe_dump(values, sort_keys=False))


@pytest.mark.thorough
def test_two_families_are_compared_although_the_command_is_killed(tmp_path: Path) -> None:
    small_project(tmp_path)
    before = {path: path.read_bytes() for path in (tmp_path / "data").rglob("*") if path.is_file()}
    command = [
        sys.executable, "-m", "seamline", "families", TINY.name, MASK,
        "--start", "none", "--images", "data/yolo/images",
    ]  # fmt: skip
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as run:
        assert run.stdout is not None
        for line in run.stdout:
            if line.startswith("training 3 of 8"):
                run.kill()
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(", trained before") == 2
    found = json.loads((tmp_path / "reports" / "families.json").read_text())
    assert (found["models"][TINY.name]["family"], found["models"][MASK]["family"]) == ("yolo", "rcnn")
    for model in found["models"].values():
        for one in (*model["trials"], *model["seeds"].values()):
            assert one["training"]["epochs"] == 2
            assert one["training"]["processor_s"] > 0
        for name in ("openvino", "pytorch"):
            assert model["speed"][name]["precision"] == "f32"
            assert model["speed"][name]["peak_rss_mb"] > 50
        drift = model["speed"]["openvino"]["mask_mAP50_95"] - model["seeds"]["0"]["test_mask_mAP50_95"]
        assert abs(drift) < 0.05  # what is timed finds what was evaluated
    assert found["models"][MASK]["licence"].startswith("BSD-3-Clause")
    page = (tmp_path / "reports" / "families.html").read_text()
    assert "BSD-3-Clause" in page
    assert {path: path.read_bytes() for path in (tmp_path / "data").rglob("*") if path.is_file()} == before
    assert not (tmp_path / "models").exists()
    assert [path.name for path in (tmp_path / ".seamline" / "families").iterdir()] == ["lock"]  # no exported models
