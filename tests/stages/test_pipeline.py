"""The real pipeline, run by DVC at a small size: its outputs, its results twice over, killed anywhere, experiments."""

from __future__ import annotations

import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
import yaml

from seamline.base.processors import instructions
from seamline.benchmark.rows import rows_to_measure
from seamline.evaluation.average_precision import METRIC_NAMES
from seamline.masks.yolo_labels import text_to_line
from tests import warm
from tests.conftest import HAS_SHARED_DATA, PROJECT, SHARED_DATA, SMALL, Project, checked_out, merged, write_dataset
from tests.stages.test_repro import STAGES

pytestmark = pytest.mark.slow
# What holds times, and so differs from run to run.
MEASURED = {
    f"reports/{name}"
    for name in (
        "benchmark.json",
        "benchmark.csv",
        "benchmark.md",
        "benchmark.png",
        "benchmark_layers.csv",
        "conditions.json",
        "speed.json",
        "index.html",
        "MODEL_CARD.md",
    )
}
# Into each stage's work: the first four when their output is begun, train when an epoch is finished; evaluate takes
# two seconds, the others more.
HALF_MADE = {
    "pull": "data/.raw.tmp",
    "subset": "data/.subset.tmp",
    "convert": "data/.yolo.tmp",
    "split": "data/.split.tmp",
    "train": ".seamline/train/*/state.pt",
}
MODELS = ("pytorch", "onnx", "openvino", "openvino_int8")
KILLED_AFTER_S = {
    "evaluate": 1.5, "export": 4, "benchmark": 4, "attributes": 0.5, "classify": 0.5, "embed": 4, "catalogue": 4,
    "report": 0.5,
}  # fmt: skip
FORMATS = [row.name for row in rows_to_measure({name: Path() for name in MODELS}, instructions(), [])]
# What `dvc plots diff` lays over one another.
CURVES = [
    "losses", "losses of masks", "losses of box edges", "learning rate", "validation while training",
    "validation of masks while training", "precision over recall", "score threshold", "reliability",
    "mistakes", "confusion", "throughput",
]  # fmt: skip


def read(project: Project, name: str) -> Any:
    return json.loads((project.root / name).read_text())


def test_every_promised_file_is_there(finished: Project) -> None:
    lock = yaml.safe_load((finished.root / "dvc.lock").read_text())
    assert set(lock["stages"]) == set(STAGES)
    for path in finished.locked_outputs():
        assert (finished.root / path).exists()
    assert finished.run("dvc", "status").stdout.strip() == "Data and pipelines are up to date."
    assert finished.run("git", "status", "--porcelain").stdout == ""


def test_the_model_card_names_the_commit_of_the_code(finished: Project) -> None:
    start = finished.run("git", "rev-list", "--max-parents=0", "HEAD").stdout.strip()
    card = (finished.root / "reports" / "MODEL_CARD.md").read_text()
    assert f"built on git commit `{start[:12]}`\n" in card


def test_nothing_is_left_in_the_home(finished: Project) -> None:
    """Where libraries keep what they report by: a user's or a device's id, what is waiting to be sent."""
    left = [path for path in (finished.root / ".home").rglob("*") if path.is_file() and "plots" not in path.parts]
    assert not left


def test_contract_of_the_metrics(finished: Project) -> None:
    metrics = read(finished, "reports/metrics.json")
    for split in ("val", "test"):
        for kind in ("box", "mask"):
            assert tuple(metrics[split][kind]) == METRIC_NAMES
    assert metrics["test"]["mask"]["mAP50"] > 0  # or nothing would be compared in what follows


def test_contract_of_the_benchmark(finished: Project) -> None:
    rows = read(finished, "reports/benchmark.json")
    assert list(rows) == FORMATS
    images = read(finished, "reports/split.json")["test"]["images"]
    for row in rows.values():
        assert row["images"] == images
        assert row["latency_ms"]["p50"] <= row["latency_ms"]["p90"] <= row["latency_ms"]["p99"]
        assert row["throughput_img_s"] > 0
        assert row["peak_rss_mb"] > 50
        assert row["threads"] == rows["pytorch"]["threads"]
    assert [rows[name]["precision"] for name in MODELS] == ["f32", "f32", "f32", "int8"]


def test_the_benchmark_repeats_the_evaluation(finished: Project) -> None:
    """One code path: PyTorch's row has the very number of the evaluate stage."""
    expected = read(finished, "reports/metrics.json")["test"]["mask"]["mAP50_95"]
    assert read(finished, "reports/benchmark.json")["pytorch"]["mask_mAP50_95"] == pytest.approx(expected, abs=1e-9)


def test_nothing_leaks_and_every_image_is_in_one_split(finished: Project) -> None:
    report = read(finished, "reports/split.json")
    assert report["leaked_groups"] == report["near_duplicates_across_splits"] == 0
    seen: dict[int, str] = {}
    for split in ("train", "val", "test"):
        coco = read(finished, f"data/split/{split}.json")
        listed = (finished.root / "data" / "split" / f"{split}.txt").read_text().splitlines()
        assert [Path(line).name for line in listed] == [image["file_name"] for image in coco["images"]]
        for image in coco["images"]:
            assert seen.setdefault(image["pair_id"], split) == split


def test_labels_have_the_classes_of_the_annotations(finished: Project) -> None:
    subset = read(finished, "data/subset/annotations.json")
    order = [category["id"] for category in subset["categories"]]
    for image in subset["images"]:
        text = (finished.root / "data/yolo/labels" / image["file_name"]).with_suffix(".txt").read_text()
        found = sorted(text_to_line(line)[0] for line in text.splitlines())
        wanted = [record["category_id"] for record in subset["annotations"] if record["image_id"] == image["id"]]
        assert found == sorted(order.index(category) for category in wanted)


def test_an_image_takes_its_disk_space_once(finished: Project) -> None:
    name = read(finished, "data/subset/annotations.json")["images"][0]["file_name"]
    inodes = {(finished.root / "data" / folder / "images" / name).stat().st_ino for folder in ("raw", "subset", "yolo")}
    assert len(inodes) == 1


def test_what_a_user_looks_at_fits_a_screen(finished: Project) -> None:
    shown = finished.run("dvc", "metrics", "show").stdout.splitlines()
    assert len(shown) <= 6
    assert max(len(line) for line in shown) <= 200
    text = " ".join(shown)
    for word in ("val.mask_mAP50_95", "test.mask_mAP50_95", *(f"{name}.img_s" for name in FORMATS)):
        assert word in text
    finished.run("dvc", "plots", "show", "--out", str(finished.root / ".home" / "plots"))
    page = (finished.root / ".home" / "plots" / "index.html").read_text()
    for title in ("Training losses", "What a score threshold does", "Share of right predictions", "Mistakes on test"):
        assert title in page


@pytest.mark.parametrize("name", ["onnx/model.onnx", "openvino", "openvino_int8"])
def test_any_model_is_evaluated_in_the_same_way(finished: Project, tmp_path: Path, name: str) -> None:
    """The figure is that of its row in the benchmark, which ran it in a process of its own."""
    finished.run(
        "python", "-m", "stages.evaluate", f"models/export/{name}", "data/split", "data/subset/images",
        str(tmp_path / "out"), "--report", str(tmp_path / "reports"),
    )  # fmt: skip
    found = json.loads((tmp_path / "reports" / "metrics.json").read_text())["test"]["mask"]["mAP50_95"]
    assert found == read(finished, "reports/benchmark.json")[name.split("/")[0]]["mask_mAP50_95"]


def test_a_model_of_other_classes_is_refused(finished: Project, tmp_path: Path) -> None:
    split = tmp_path / "split"
    shutil.copytree(finished.root / "data" / "split", split)
    text = (split / "val.json").read_text().replace('"trousers"', '"skirt"')
    (split / "val.json").unlink()
    (split / "val.json").write_text(text)
    done = finished.run(
        "python", "-m", "stages.evaluate", "models/train/best.pt", str(split), "data/subset/images",
        str(tmp_path / "out"), "--report", str(tmp_path / "reports"), check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "skirt, but those of the model short sleeve top, trousers" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_curves_have_a_row_an_epoch(finished: Project) -> None:
    for name in ("losses", "validation"):
        with (finished.root / "reports" / "train" / f"{name}.csv").open() as stream:
            assert [row["epoch"] for row in csv.DictReader(stream)] == [str(epoch) for epoch in range(1, 13)]


@pytest.mark.thorough
def test_killed_in_every_stage_it_ends_in_the_same_place(finished: Project, tmp_path: Path) -> None:
    """kill -9 of dvc in each stage in turn, then dvc repro again: the outputs of an undisturbed run, to the byte."""
    project = checked_out(tmp_path / "project")
    project.change(SMALL)
    (project.root / "dvc.lock").unlink()
    for stage in STAGES:
        kill_in_stage(project, stage)
    project.run("dvc", "repro")
    expected, found = finished.locked_outputs(), project.locked_outputs()
    assert {path for path in expected if expected[path] != found[path]} <= MEASURED | {"reports/train/summary.json"}
    summary = read(project, "reports/train/summary.json")
    assert summary["resumed_after_epochs"] == [1]
    assert {**summary, "resumed_after_epochs": []} == read(finished, "reports/train/summary.json")
    assert not list((project.root / ".seamline" / "train").glob("*/state.pt"))
    leftovers = [path for folder in ("data", "models", "reports") for path in (project.root / folder).rglob(".*.tmp")]
    assert not leftovers


def kill_in_stage(project: Project, stage: str) -> None:
    running = subprocess.Popen(
        ["dvc", "repro"],
        cwd=project.root,
        env=project.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        stdin=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    assert running.stdout is not None
    reached = False
    for line in running.stdout:
        if line.startswith(f"Running stage '{stage}'"):
            reached = True
            if stage in HALF_MADE:
                while running.poll() is None and not list(project.root.glob(HALF_MADE[stage])):
                    time.sleep(0.001)
                # The training at once with dvc: it would get on half a second further until it sees that dvc is gone.
                (os.killpg if stage == "train" else os.kill)(running.pid, signal.SIGKILL)
            else:
                threading.Timer(KILLED_AFTER_S[stage], os.kill, (running.pid, signal.SIGKILL)).start()
            break
    running.communicate()
    assert reached, f"the run ended before {stage}"
    assert running.returncode == -signal.SIGKILL
    lock = project.root / "dvc.lock"
    assert not lock.exists() or stage not in yaml.safe_load(lock.read_text())["stages"]


def run_and_kill(command: list[str], after_s: float | None, folder: Path, environment: dict[str, str]) -> list[str]:
    """The epochs that a training says it finished; killed so long after the first of them."""
    (said := folder / "said").write_text("")
    running = warm.start(command, folder, environment, said, folder / "errors")
    if after_s is not None:
        while "\nepoch" not in said.read_text() and running.is_alive():
            time.sleep(0.01)
        time.sleep(after_s)
        running.kill()
    running.join()
    return [line.split()[1] for line in said.read_text().splitlines() if line.startswith("epoch")]


def test_training_killed_at_five_random_moments_is_the_training_nobody_killed(
    finished: Project, tmp_path: Path
) -> None:
    epochs = 16
    for name in ("architectures", "seamline", "stages"):
        (tmp_path / name).symlink_to(finished.root / name)
    (tmp_path / "split").mkdir()
    for name, images in (("train.txt", 12), ("val.txt", 4), ("data.yaml", None)):
        lines = (finished.root / "data" / "split" / name).read_text().splitlines(keepends=True)
        (tmp_path / "split" / name).write_text("".join(lines[:images]))
    for name in ("train.json", "val.json"):  # of more photos than are trained on here
        shutil.copy(finished.root / "data" / "split" / name, tmp_path / "split")
    values = merged(finished.params(), {"train": {"epochs": epochs, "close_mosaic": 3, "warmup_epochs": 1}})
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values))

    yolo = str(finished.root / "data" / "yolo")
    rng = random.Random(0)
    kills_after_s = [None, *(rng.uniform(0, 0.25) for _ in range(5)), None]
    outs = ["whole"] + ["cut"] * 6
    # In a process whose forks have imported before what training does, which takes each of them five seconds.
    with ProcessPoolExecutor(1, get_context("spawn"), warm.also_import, ("ultralytics", "torch._inductor")) as pool:
        commands = [["python", "-m", "stages.train", "split", yolo, out, "--report", f"{out}-report"] for out in outs]
        run = partial(run_and_kill, folder=tmp_path, environment=finished.environment)
        whole = pool.submit(run, commands[0], kills_after_s[0]).result()
        shutil.rmtree(tmp_path / ".seamline" / "train" / "finished")  # or it would be taken for the others
        said = list(pool.map(run, commands[1:], kills_after_s[1:]))

    assert whole == [f"{epoch}/{epochs}" for epoch in range(1, epochs + 1)]
    counts = Counter(line for lines in said for line in lines)
    assert set(counts.values()) == {1}  # what was said to be finished is not run again
    assert (tmp_path / "cut" / "best.pt").read_bytes() == (tmp_path / "whole" / "best.pt").read_bytes()
    for name in ("losses.csv", "validation.csv"):
        assert (tmp_path / "cut-report" / name).read_text() == (tmp_path / "whole-report" / name).read_text()
    resumed = json.loads((tmp_path / "cut-report" / "summary.json").read_text())["resumed_after_epochs"]
    assert len(resumed) == 5
    assert resumed == sorted(set(resumed))
    # A kill may come when an epoch is written and not yet said; it is the one after which the training resumes.
    assert set(whole) - set(counts) <= {f"{epoch}/{epochs}" for epoch in resumed}


NO_NETWORK = """
import socket

def refuse(self, address, *_):
    if self.family in (socket.AF_INET, socket.AF_INET6):
        with open({log!r}, "a") as stream:
            print(address, file=stream)
        raise OSError("no network")
    return connect(self, address)

connect, socket.socket.connect, socket.socket.connect_ex = socket.socket.connect, refuse, refuse
socket.getaddrinfo = lambda *address, **_: refuse(socket.socket(), address)
"""


def test_training_needs_no_network_and_no_home_and_leaves_the_data_alone(finished: Project, tmp_path: Path) -> None:
    (tmp_path / "guard").mkdir()
    (tmp_path / "guard" / "sitecustomize.py").write_text(NO_NETWORK.format(log=str(tmp_path / "calls.txt")))
    for name in ("data", "architectures", "seamline", "stages"):
        (tmp_path / name).symlink_to(finished.root / name)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(merged(finished.params(), {"train": {"epochs": 1}})))
    environment = {
        **finished.environment,
        "PYTHONPATH": str(tmp_path / "guard"),
        "HOME": "/dev/null/home",  # where not even root can write
    }
    for word in ("XDG_CONFIG_HOME", "XDG_CACHE_HOME", "YOLO_CONFIG_DIR", "MPLCONFIGDIR", "TORCH_HOME"):
        environment.pop(word, None)
    probe = [sys.executable, "-c", "import urllib.request as r; r.urlopen('http://localhost:9')"]
    assert subprocess.run(probe, env=environment, capture_output=True).returncode != 0
    assert (tmp_path / "calls.txt").read_text()  # the guard does see what is tried
    (tmp_path / "calls.txt").unlink()

    def state_of_the_data() -> dict[str, tuple[int, int]]:
        files = [path for path in (finished.root / "data").rglob("*") if path.is_file()]
        return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in files}

    before = state_of_the_data()
    done = subprocess.run(
        [sys.executable, "-m", "stages.train", "data/split", "data/yolo", "out", "--report", "report"],
        cwd=tmp_path, env=environment, text=True, capture_output=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "calls.txt").exists(), (tmp_path / "calls.txt").read_text()
    assert state_of_the_data() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        ".seamline", "architectures", "data", "guard", "out", "params.yaml", "report", "seamline", "stages",
    ]  # fmt: skip


def test_an_experiment_in_a_fresh_clone(finished: Project) -> None:
    """Of which `finished` is the workspace."""
    table = finished.run(
        "dvc", "exp", "show", "--rev", "HEAD~1", "--only-changed", "--csv"
    ).stdout  # not cut to 80 columns
    assert "first" in table
    assert finished.params()["train"]["epochs"] == 12
    assert "test.mask_mAP50_95" in finished.run("dvc", "metrics", "diff", "HEAD~1").stdout
    plots = json.loads(finished.run("dvc", "plots", "diff", "HEAD~1", "first", "--json").stdout)
    assert "errors" not in plots
    for name in CURVES:
        assert plots["data"][name][0]["revisions"] == ["HEAD~1", "first"], name
    pictures = [name for name in plots["data"] if name.startswith("reports/evaluate/sample/")]
    assert len(pictures) >= finished.params()["evaluate"]["overlays"]
    compared = finished.run("python", "-m", "seamline", "compare", "HEAD~1", "first").stdout
    assert "not comparable" in compared  # the test images are others
    assert "train.epochs: 13 (HEAD~1), 12 (first)" in compared


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("pull.source=nowhere.zip", "nowhere.zip"),
        ("subset.classes=[hat]", "the dataset has no category 'hat'"),
        ("split.ratios.val=0.3", "split.ratios: train + val + test add up to 1.1"),
        ("train.epochs=0", "train.epochs: 0 is not allowed"),
    ],
)
def test_a_bad_parameter_stops_the_experiment_with_one_sentence(finished: Project, change: str, sentence: str) -> None:
    done = finished.run("dvc", "exp", "run", "-S", change, check=False)
    assert done.returncode != 0
    assert sentence in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    finished.run("git", "checkout", "--quiet", ".")
    finished.run("dvc", "checkout", "--quiet", "--force")


def test_no_command_of_dvc_yaml_takes_a_value_of_the_users() -> None:
    """DVC would put it into the command as it is, for a shell to read."""
    stages = yaml.safe_load((PROJECT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    for stage in stages.values():
        assert not set("$`;&|<>'\"\\") & set(stage["cmd"]), stage["cmd"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["x'; touch PWNED; echo '", "Bob's photos", "$(touch PWNED)${train.model}", "--out"])
def test_a_folders_name_is_only_a_name(name: str, project: Project) -> None:
    write_dataset(project.root / name, 3)
    project.change({"pull": {"source": name}})
    project.run("dvc", "repro", "pull")
    assert json.loads((project.root / "reports" / "pull.json").read_text())["images"] == 3
    assert not list(project.root.rglob("PWNED"))


# Clothing Co-Parsing's classes, merged.
FIVE = {
    "trousers": ["pants", "jeans"],
    "top": ["blouse", "shirt", "t-shirt", "sweater"],
    "outwear": ["coat", "jacket", "blazer"],
    "dress": ["dress"],
    "skirt": ["skirt"],
}


def disk_bytes(*folders: Path) -> int:
    """What is below some folders, each file once, however many links there are to it."""
    found = [path.lstat() for folder in folders for path in folder.rglob("*") if path.is_file()]
    return sum({(status.st_dev, status.st_ino): status.st_size for status in found}.values())


@pytest.mark.thorough
@pytest.mark.skipif(not HAS_SHARED_DATA, reason="the real photos are not on this machine")
def test_real_photos_take_little_disk_and_run_to_the_end(tmp_path: Path) -> None:
    """All fourteen classes, and eleven merged to five, with annotations that weigh a quarter of the photos."""
    project = checked_out(tmp_path / "project")
    project.change(merged(SMALL, {"train": {"epochs": 3}}))
    for classes in (None, FIVE):
        values = project.params()
        values["pull"]["source"] = str(SHARED_DATA / "ccp-mini")
        values["subset"] |= {"classes": classes, "images": None, "background": 0, "group_by": None}
        values["split"]["group_by"] = None
        (project.root / "params.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
        project.run("dvc", "repro", "split")
        project.run("dvc", "gc", "--workspace", "--force")  # what the classes before left in the cache
        photos = disk_bytes(project.root / "data" / "raw" / "images")
        assert disk_bytes(project.root / "data", project.root / ".dvc" / "cache") / photos <= 1.2
        assert read(project, "reports/fidelity.json")["mean_iou"] >= 0.99
    project.run("dvc", "repro")
    pulled = read(project, "reports/pull.json")
    assert [pulled[key] for key in ("layout", "images", "annotations", "categories")] == ["coco", 120, 400, 14]
    assert pulled["repaired"] == pulled["dropped"] == {}
    assert list(read(project, "reports/benchmark.json")) == FORMATS
