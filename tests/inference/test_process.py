"""What importing and opening models does to the process: nothing to its settings, and no torch where none is needed."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import PROJECT
from tests.needs_torch import NEEDS_TORCH
from tests.untrained import WITHOUT_TORCH, Untrained

# Environment variables that can only be set before a library is imported, with what they are for in docs/models.md.
DOCUMENTED = {
    "YOLO_AUTOINSTALL", "YOLO_OFFLINE", "YOLO_VERBOSE", "YOLO_CONFIG_DIR", "ORT_DISABLE_TELEMETRY",
}  # fmt: skip

SETTINGS = """
import json, os, sys
import cv2, numpy, threadpoolctl
numpy.ones((2, 2)) @ numpy.ones((2, 2))

def settings(torch):
    found = {
        "environment": dict(os.environ),
        "cv2": cv2.getNumThreads(),
        "optimised": cv2.useOptimized(),
        "blas": [pool["num_threads"] for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"],
        "printing": str(numpy.get_printoptions()),
    }
    if torch:
        import torch
        found["torch"] = [torch.get_num_threads(), torch.get_num_interop_threads(), torch.is_grad_enabled()]
        found["torch"] += [torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark]
        found["torch"] += [torch.are_deterministic_algorithms_enabled(), str(torch.get_default_dtype())]
        found["torch"] += [torch.get_float32_matmul_precision()]
    return found

cv2.setNumThreads(2)
threadpoolctl.threadpool_limits(2, user_api="blas")
model, image, kind = sys.argv[1:]
states = [settings(kind == "pytorch")]
from seamline.inference.detector import Detector
import seamline.inference.predictions
states.append(settings(kind == "pytorch"))
with Detector(model, threads=2) as detector:
    states.append(settings(kind == "pytorch"))
    detector.detect(image), list(detector.detect_all([image] * 3)), detector.submit(image).result()
states.append(settings(kind == "pytorch"))
print(json.dumps(states))
"""


@pytest.mark.parametrize("name", ["pytorch", "onnx", "openvino"])
def test_a_detector_leaves_its_process_as_it_was(untrained: Untrained, tmp_path: Path, name: str) -> None:
    """In a process of somebody else's, which has set two threads for OpenCV and numpy."""
    ours = ("YOLO_", "SEAMLINE_", "ORT_", "OMP_", "GOMP_", "ULTRALYTICS_", "NUMEXPR_", "TF_", "TORCH_", "KINETO_")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(ours)}
    environment |= {"PYTHONPATH": str(PROJECT)}
    command = [sys.executable, "-c", SETTINGS, str(untrained.models()[name]), str(untrained.images()[0]), name]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    before, *after = json.loads(done.stdout)
    assert before["cv2"] == 2
    for state in after:
        added = state["environment"].keys() - before["environment"].keys()
        assert added <= DOCUMENTED
        state["environment"] = {key: value for key, value in state["environment"].items() if key not in added}
        assert state == before


LIMITED = """
import os, sys, cv2, numpy, threadpoolctl
from seamline.inference.threads import limit_other_threads
limit_other_threads()
blas = [pool["num_threads"] for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]
print(cv2.getNumThreads(), set(blas) <= {1}, os.environ["GOMP_SPINCOUNT"], "torch" in sys.modules)
"""


@pytest.mark.parametrize(("given", "spins"), [({}, "10000"), ({"GOMP_SPINCOUNT": "7"}, "7")])
def test_a_process_of_ours_leaves_the_cores_to_the_model(given: dict[str, str], spins: str) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "GOMP_SPINCOUNT"} | given
    done = subprocess.run([sys.executable, "-c", LIMITED], env=environment, capture_output=True, text=True, cwd=PROJECT)
    assert done.stdout.split() == ["1", "True", spins, "False"], done.stderr


# Every module of models, inference and the rooms below them, and a prediction.
ROOMS = ("base", "params", "images", "masks", "ingest", "dataset", "models", "inference")
IMPORT_ALL = """
import importlib, pkgutil, sys
import seamline
for room in sys.argv[3].split(","):
    package = importlib.import_module(f"seamline.{room}")
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if module.name not in sys.argv[4].split(","):
            importlib.import_module(module.name)
            print(module.name, file=sys.stderr)
from seamline.inference.detector import Detector
detector = Detector(sys.argv[1], 0.05)
print(len(detector.detect(sys.argv[2])), len(next(detector.detect_all([sys.argv[2]]))))
assert not {"torch", "ultralytics"} & set(sys.modules)
"""


@pytest.mark.parametrize("name", ["onnx", "openvino"])
def test_models_inference_and_all_below_need_neither_torch_nor_ultralytics(untrained: Untrained, name: str) -> None:
    arguments = [str(untrained.models()[name]), str(untrained.images()[0]), ",".join(ROOMS)]
    arguments.append(",".join(name.removesuffix(".py").replace("/", ".") for name in NEEDS_TORCH))
    command = [sys.executable, "-c", WITHOUT_TORCH + IMPORT_ALL, *arguments]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    alone, among = map(int, done.stdout.split())
    assert alone == among > 0
    assert "seamline.models.engines.pytorch" in done.stderr
    assert "seamline.models.yolo" in done.stderr
    assert "seamline.models.rcnn\n" in done.stderr


def test_every_command_that_opens_a_model_leaves_it_the_cores() -> None:
    """Also where a module that the command imports opens it, such as export/comparison.py and experiments/seeds.py."""
    scripts = [*(PROJECT / "stages").glob("*.py"), *(PROJECT / "seamline" / "verbs").glob("*.py")]
    opening = {}
    for path in scripts:
        text = path.read_text()
        modules = re.findall(r"from (seamline\.(?:export|experiments|search|photos)\.\w+) import", text)
        texts = [text, *((PROJECT / (module.replace(".", "/") + ".py")).read_text() for module in modules)]
        if any(re.search(r"\b(Detector|Embedder|AttributeClassifier)\(", one) for one in texts):
            opening[f"{path.parent.name}/{path.name}"] = text
    assert set(opening) == {
        "stages/catalogue.py", "stages/embed.py", "stages/evaluate.py", "stages/export.py", "verbs/catalogue.py",
        "verbs/describe.py", "verbs/families.py", "verbs/predict.py", "verbs/search.py", "verbs/seeds.py",
        "verbs/serve.py",
    }  # fmt: skip
    assert [name for name, text in opening.items() if "limit_other_threads()" not in text] == []


def test_a_tool_that_is_asked_to_end_leaves_no_temporary_folder(tmp_path: Path) -> None:
    """Outside a project libraries keep their settings in a temporary folder."""
    script = "import time; from seamline.base.process import run; run(lambda: (print('there'), time.sleep(60)), True)"
    environment = {**os.environ, "TMPDIR": str(tmp_path / "tmp"), "PYTHONPATH": str(PROJECT)}
    (tmp_path / "tmp").mkdir()
    with subprocess.Popen(
        [sys.executable, "-c", script], cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "there\n"
            assert [folder.name.partition("-")[0] for folder in (tmp_path / "tmp").iterdir()] == ["seamline"]
            process.terminate()
            assert process.wait(20) == -signal.SIGTERM
        finally:
            process.kill()
    assert list((tmp_path / "tmp").iterdir()) == []
