"""Shared by the tests: small datasets, and copies of the project in which stages and DVC really run."""

from __future__ import annotations

import atexit
import fcntl
import functools
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import cv2
import hypothesis
import numpy as np
import pytest
import yaml

from seamline.base.process import quiet_environment
from seamline.inference.threads import limit_other_threads
from tests import guard, warm

PROJECT = guard.PROJECT

# What a workspace has beside the code, as it was at some commit: tests never read the user's own.
WORKSPACE = PROJECT / "tests" / "workspace"
PARAMS = WORKSPACE / "params.yaml"
REPORTS = WORKSPACE / "reports"
# Real photos that some have beside the project.
SHARED_DATA = PROJECT.parent / "shared" / "data"
HAS_SHARED_DATA = (SHARED_DATA / "ccp-mini" / "instances.json").is_file()

# Drawn examples may take as long as they do: hypothesis' own limit, 200 ms for each, measures how busy the machine is.
hypothesis.settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any machine")

quiet_environment()
# What tests start runs the code of the folder it is started in, and works in its git, with nobody's settings. In a hook
# git names the user's repository to everything that runs in it.
for variable in [name for name in os.environ if name.startswith("GIT_")]:
    del os.environ[variable]
for variable in ("PYTHONPATH", "PYTHONSAFEPATH", "XDG_CONFIG_HOME"):
    os.environ.pop(variable, None)
os.environ |= {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # several tests at once: threads that spin take each other's cores
limit_other_threads()


TINY = PROJECT / "tests" / "tiny-seg.yaml"

# Small enough to run the whole pipeline in a minute, large enough that every stage does its work and the model finds a
# few garments. The default model is taken by the tests of export and runtime.
SMALL: dict[str, Any] = {
    "subset": {"images": 48},
    "train": {
        "model": str(TINY),
        "epochs": 12,
        "lr0": 0.03,
        "imgsz": 64,
        "batch": 8,
        "val_period": 1,
        "close_mosaic": 1,
        "warmup_epochs": 0,
    },
    "evaluate": {"overlays": 2},
    "export": {"int8": {"calibration_images": 8, "max_drop": 1.0}},
    "benchmark": {"threads": 1, "rounds": 1},
    "attributes": {"enabled": False},  # tests/attributes has their stages
    "embed": {"imgsz": 32, "int8": {"calibration_garments": 8}},
}


def merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in changes.items():
        result[key] = merged(base[key], value) if isinstance(value, dict) and isinstance(base.get(key), dict) else value
    return result


# Files whose tests start processes (stages, DVC, git) or open models: seconds each, where others take milliseconds.
PROCESSES = {
    "attributes/test_classify.py",
    "attributes/test_stage.py",
    "attributes/test_training.py",
    "base/test_coco.py",
    "benchmark/test_engine_process.py",
    "benchmark/test_machine.py",
    "benchmark/test_timing.py",
    "charts/test_dataset.py",
    "charts/test_evaluation.py",
    "dataset/test_conversion.py",
    "doctor/test_doctor.py",
    "doctor/test_reach.py",
    "doctor/test_repository.py",
    "evaluation/test_measure.py",
    "experiments/test_comparing.py",
    "experiments/test_compute.py",
    "experiments/test_families.py",
    "experiments/test_training_alone.py",
    "experiments/test_revisions.py",
    "experiments/test_sweeping.py",
    "export/test_embedder.py",
    "export/test_hub_towers.py",
    "export/test_int8.py",
    "export/test_rcnn.py",
    "export/test_stage.py",
    "export/test_yolo.py",
    "ingest/test_downloads.py",
    "ingest/test_fetch.py",
    "images/test_reading.py",
    "inference/test_classifier.py",
    "inference/test_detector.py",
    "inference/test_embedder.py",
    "inference/test_families.py",
    "inference/test_process.py",
    "inference/test_rcnn.py",
    "models/test_encoder.py",
    "models/test_engines.py",
    "models/test_model_facts.py",
    "models/test_rcnn_network.py",
    "models/test_rcnn_weights.py",
    "models/test_ultralytics_patches.py",
    "models/test_weights.py",
    "people/test_detector.py",
    "people/test_measuring.py",
    "people/test_tools.py",
    "photos/test_journal.py",
    "photos/test_options.py",
    "photos/test_predicting.py",
    "photos/test_remote.py",
    "project/test_bench.py",
    "project/test_containers.py",
    "project/test_sample.py",
    "project/test_security.py",
    "project/test_troubleshooting.py",
    "project/test_warm.py",
    "project/test_workflows.py",
    "report/test_contents.py",
    "report/test_report.py",
    "search/test_building.py",
    "search/test_changing.py",
    "search/test_tools.py",
    "service/test_counting.py",
    "service/test_deploy.py",
    "service/test_predict.py",
    "service/test_prometheus.py",
    "service/test_client_service.py",
    "service/test_docs.py",
    "service/test_from_urls.py",
    "service/test_inference_protocol.py",
    "service/test_page.py",
    "service/test_alike.py",
    "service/test_hostile.py",
    "service/test_openapi.py",
    "service/test_running.py",
    "stages/test_repro.py",
    "stages/test_stage.py",
    "training/test_keys.py",
    "verbs/test_serve.py",
    "training/test_yolo.py",
    "verbs/test_recipe.py",
}


# Files that take minutes, to begin with, so that at the end no core waits for another; the first two share nothing.
LONGEST = [
    "stages/test_bucket.py",
    "export/test_stage.py",
    "export/test_int8.py",
    "inference/test_rcnn.py",
    "inference/test_detector.py",
    "stages/test_pipeline.py",
    "project/test_docs.py",
    "project/test_bench.py",
    "experiments/test_sweeping.py",
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if name_of(item) in PROCESSES:
            item.add_marker(pytest.mark.process)
    items.sort(key=lambda item: LONGEST.index(name_of(item)) if name_of(item) in LONGEST else len(LONGEST))


def name_of(item: pytest.Item) -> str:
    """Room and file of a test, such as masks/test_outlines.py."""
    return f"{item.path.parent.name}/{item.path.name}"


@pytest.fixture(autouse=True)
def closed_figures() -> Iterator[None]:
    """Those that a test left open would be matplotlib's warning in another test, which asks that there is none."""
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")


class Project:
    """A folder in which git, DVC and stages are run as a user does."""

    def __init__(self, root: Path, environment: Mapping[str, str] = os.environ) -> None:
        self.root = root
        self.environment = {
            **environment,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}",
            "DVC_SITE_CACHE_DIR": str(root / ".dvc" / "tmp" / "site"),
        }

    def with_home(self) -> Project:
        """Its own home, which git is not to see."""
        self.environment["HOME"] = str(self.root / ".home")
        (self.root / ".home").mkdir(exist_ok=True)
        with (self.root / ".git" / "info" / "exclude").open("a") as stream:
            stream.write(".home\n")
        return self

    def copy(self, root: Path) -> Project:
        """Its whole folder once more, with hard links as they are."""
        copies: dict[tuple[int, int], str] = {}

        def copy_or_link(source: str, target: str) -> None:
            status = Path(source).lstat()
            first = copies.setdefault((status.st_dev, status.st_ino), target)
            if first == target:
                shutil.copy2(source, target, follow_symlinks=False)
            else:
                Path(target).hardlink_to(first)

        shutil.copytree(self.root, root, symlinks=True, copy_function=copy_or_link)  # `cp` does it on Linux alone
        return Project(root, self.environment).with_home()

    def run(self, *command: str, check: bool = True, cold: bool = False) -> subprocess.CompletedProcess[str]:
        """DVC and stages from a warm Python, unless `cold`."""
        if not cold and warm.can_run(command):
            done = warm.run(command, self.root, self.environment)
        else:
            done = subprocess.run(
                command, cwd=self.root, env=self.environment, capture_output=True, text=True, stdin=subprocess.DEVNULL
            )
        if check and done.returncode != 0:
            raise AssertionError(f"{command} exited {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done

    def commit(self, message: str) -> None:
        self.run("git", "add", "--all")
        self.run("git", "commit", "--quiet", "--allow-empty", "--message", message)

    def params(self) -> dict[str, Any]:
        values: dict[str, Any] = yaml.safe_load((self.root / "params.yaml").read_text())
        return values

    def change(self, changes: dict[str, Any]) -> None:
        (self.root / "params.yaml").write_text(yaml.safe_dump(merged(self.params(), changes), sort_keys=False))

    def stages_run(self, *arguments: str, cold: bool = False) -> list[str]:
        """The stages that `dvc repro` runs."""
        lines = self.run("dvc", "repro", *arguments, cold=cold).stdout.splitlines()
        return [line.split("'")[1] for line in lines if line.startswith("Running stage")]

    def locked_outputs(self) -> dict[str, str]:
        """Path -> md5 of every output in dvc.lock."""
        lock = yaml.safe_load((self.root / "dvc.lock").read_text())
        return {out["path"]: out["md5"] for stage in lock["stages"].values() for out in stage["outs"]}


# The project's folders and files of code; whatever else lies in the workspace is the user's.
CODE = (
    ".ci", ".github", "architectures", "bench", "checks", "containers", "deploy", "docs", "dvc_hint", "recipes",
    "samples", "seamline", "stages", "tests", "Makefile", "dvc.yaml", "pyproject.toml", "LICENSE", "*.md",
    "requirements*", "Dockerfile.*", ".*ignore", ".pre-commit-config.yaml",
)  # fmt: skip
DVC_CONFIG = """[core]
    analytics = false
    check_update = false
[cache]
    type = "hardlink,symlink"
"""


def code_in(folder: Path) -> None:
    """Let stages be started in a folder: links to the code of this checkout, where there are none yet."""
    for name in ("seamline", "stages"):
        if not (folder / name).exists():
            (folder / name).symlink_to(PROJECT / name)


def checked_out(root: Path) -> Project:
    """A copy of the code with the tests' own workspace, and a git of its own."""
    return committed_code().copy(root)


@functools.cache
def committed_code() -> Project:
    """What each project of a test is a copy of; in one pack, as thousands of small files take long on a slow disk."""
    root = Path(tempfile.mkdtemp(prefix="seamline-tests-")) / "project"
    atexit.register(shutil.rmtree, root.parent, ignore_errors=True)
    root.mkdir()
    for path in sorted(found for pattern in CODE for found in PROJECT.glob(pattern)):
        if path.is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "workspace")
            shutil.copytree(path, root / path.name, ignore=ignored)
        else:
            shutil.copy2(path, root / path.name)
    shutil.copytree(WORKSPACE, root, dirs_exist_ok=True)
    (root / ".dvc").mkdir()
    (root / ".dvc" / "config").write_text(DVC_CONFIG)
    project = Project(root)
    project.run("git", "init", "--quiet", "--initial-branch", "main")
    project.run("git", "config", "user.name", "test")
    project.run("git", "config", "user.email", "test@localhost")
    project.with_home().commit("start")
    project.run("git", "repack", "-a", "-d", "--quiet")
    return project


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return checked_out(tmp_path / "project")


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A copy whose pipeline has run once, as an experiment from nothing, at a small size.

    HEAD~1 is what the experiment `first` started from, with the project's own results. Tests must leave it as they find
    it. Where they run on several cores, the first that asks runs it, and each has a copy.
    """
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return finish(folder / "finished")
    shared = folder.parent / "finished"
    with (folder.parent / "finished.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        project = Project(shared) if (shared / ".git" / "finished").exists() else finish(shared)
    return project.copy(folder / "finished")


def finish(root: Path) -> Project:
    project = checked_out(root)
    project.change(merged(SMALL, {"train": {"epochs": 13}}))
    project.commit("small")
    project.run("dvc", "exp", "run", "--name", "first", "-S", f"train.epochs={SMALL['train']['epochs']}")
    project.commit("finished")
    project.run("git", "repack", "-a", "-d", "--quiet")
    (root / ".git" / "finished").touch()
    return project


def square(x: float, y: float, side: float) -> list[float]:
    return [x, y, x + side, y, x + side, y + side, x, y + side]


def write_dataset(folder: Path, count: int = 6, **changes: Any) -> Path:
    """A COCO folder of `count` noise images of 40 x 60 with a top and trousers each; `changes` replace top keys."""
    rng = np.random.default_rng(0)
    (folder / "photos").mkdir(parents=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number in range(1, count + 1):
        name = f"{number:03d}.png"
        cv2.imwrite(str(folder / "photos" / name), rng.integers(0, 255, (60, 40, 3), dtype=np.uint8))
        images.append({"id": number, "file_name": name, "width": 40, "height": 60, "pair_id": (number + 1) // 2})
        for category, y in ((1, 5), (2, 30)):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": category,
                    "segmentation": [square(8, y, 20)],
                    "bbox": [8, y, 20, 20],
                    "area": 400,
                    "iscrowd": 0,
                    "scale": 2,
                }
            )
    categories = [{"id": 1, "name": "short sleeve top"}, {"id": 2, "name": "trousers"}]
    coco = {"images": images, "annotations": annotations, "categories": categories} | changes
    (folder / "instances.json").write_text(json.dumps(coco))
    return folder


@pytest.fixture(scope="session")
def s3_server() -> Iterator[Any]:
    """moto's S3, for all tests. botocore reads its descriptions of services once, not for every client."""
    from botocore.loaders import JSONFileLoader
    from moto.server import ThreadedMotoServer

    read = functools.cache(JSONFileLoader().load_file)
    JSONFileLoader.load_file = lambda _, path: read(path)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def bucket(s3_server: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An empty bucket behind a proxy that may do harm; the AWS configuration of the environment leads there."""
    from tests.s3 import Bucket

    bucket = Bucket(s3_server)
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in bucket.environment.items():
        monkeypatch.setenv(name, value)
    yield bucket
    bucket.proxy.shutdown()
    bucket.proxy.server_close()


@pytest.fixture(scope="session")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """An untrained model in its f32 formats, with a few images; tests must leave it as they find it."""
    from tests.untrained import make_untrained  # imports torch

    return make_untrained(tmp_path_factory.mktemp("untrained"))


@pytest.fixture(scope="session")
def yolov9t(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The same of the architecture that is trained by default, where a few layers would not do."""
    from tests.untrained import make_untrained  # imports torch

    return make_untrained(tmp_path_factory.mktemp("yolov9t"), PROJECT / "architectures" / "yolov9t-seg.yaml")


@pytest.fixture(scope="session")
def mask_rcnn(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """An untrained Mask R-CNN in its f32 formats, with a few images; tests must leave it as they find it."""
    from tests.untrained_rcnn import MASK, make_untrained_rcnn  # imports torch

    return make_untrained_rcnn(tmp_path_factory.mktemp("mask_rcnn"), MASK)


@pytest.fixture(scope="session")
def faster_rcnn(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The same of a Faster R-CNN, which finds boxes only."""
    from tests.untrained_rcnn import BOX, make_untrained_rcnn  # imports torch

    return make_untrained_rcnn(tmp_path_factory.mktemp("faster_rcnn"), BOX)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A model of the tests' own family in its f32 formats, with a split; tests must leave it as they find it."""
    from tests.tiny_family import make_tiny  # imports torch

    return make_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def tiny_family(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests' own family, known for the length of a test."""
    from seamline.export.exporters import EXPORTERS
    from seamline.models.families import FAMILIES
    from tests import tiny_family

    monkeypatch.setitem(EXPORTERS, "tiny", tiny_family)
    monkeypatch.setitem(FAMILIES, "tiny", tiny_family)
