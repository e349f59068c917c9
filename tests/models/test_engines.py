"""The engines held to each other, and to what is promised of them: threads, precision, silence."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from ultralytics import YOLO

from seamline.base.errors import SeamlineError
from seamline.base.parallel import usable_cores
from seamline.images.reading import read_image
from seamline.models.engines.engine import copied
from seamline.models.engines.onnx import providers_for
from seamline.models.engines.opening import NO_MODEL, open_engine
from seamline.models.engines.openvino import Once, requests_of
from tests.conftest import PROJECT
from tests.untrained import IMGSZ, NAMES, Untrained, canvas_of


def test_engines_agree_on_raw_outputs(yolov9t: Untrained) -> None:
    models = yolov9t.models()
    engines = {name: open_engine(models[name], 1) for name in ("pytorch", "onnx", "openvino")}
    for engine in engines.values():
        assert (engine.facts.names, engine.facts.imgsz, engine.precision) == (NAMES, IMGSZ, "f32")
    for image in yolov9t.images()[:3]:
        canvas = canvas_of(image)
        predictions, prototypes = engines["pytorch"].infer(canvas, copied)
        assert predictions.shape == (1, 4 + 2 + 32, 189)
        assert np.ptp(predictions[:, 4:6]) > 0.1, "the scores do not vary: this compares nothing"
        for name in ("onnx", "openvino"):
            others = engines[name].infer(canvas, copied)
            np.testing.assert_allclose(others[0][:, :4], predictions[:, :4], atol=0.02)
            np.testing.assert_allclose(others[0][:, 4:6], predictions[:, 4:6], atol=1e-3)
            np.testing.assert_allclose(others[0][:, 6:], predictions[:, 6:], atol=2e-3)
            np.testing.assert_allclose(others[1], prototypes, atol=2e-3)


def test_a_folder_of_the_export_stage_is_a_model(untrained: Untrained) -> None:
    """As README lists them: models/export/{onnx,openvino}."""
    file = untrained.models()["onnx"]
    assert file.name == "model.onnx"
    assert open_engine(file.parent, 1).facts == open_engine(file, 1).facts


def test_errors_say_which_file(untrained: Untrained, tmp_path: Path) -> None:
    import openvino

    with pytest.raises(SeamlineError, match=r"absent\.onnx: there is no such model"):
        open_engine(tmp_path / "absent.onnx", 1)
    (tmp_path / "model.txt").touch()
    with pytest.raises(SeamlineError, match=r"model\.txt: is not a model"):
        open_engine(tmp_path / "model.txt", 1)
    for name in ("model.onnx", "model.pt"):
        (tmp_path / name).write_bytes(b"damaged")
        with pytest.raises(SeamlineError, match=rf"{name}: cannot be opened as a model"):
            open_engine(tmp_path / name, 1)
    (tmp_path / "folder").mkdir()
    with pytest.raises(SeamlineError, match=r"folder: is not a model; .* or a folder with model\.xml or model\.onnx"):
        open_engine(tmp_path / "folder", 1)
    bare = openvino.convert_model(untrained.models()["onnx"])
    (tmp_path / "bare").mkdir()
    openvino.save_model(bare, tmp_path / "bare" / "model.xml")
    with pytest.raises(SeamlineError, match=r"bare: has no Seamline metadata"):
        open_engine(tmp_path / "bare", 1)
    (tmp_path / "image.jpg").write_bytes(b"no image")
    with pytest.raises(SeamlineError, match=r"image\.jpg: is not an image"):
        read_image(tmp_path / "image.jpg")


def test_a_model_of_boxes_alone_and_one_that_was_refused_are_one_sentence(tmp_path: Path) -> None:
    YOLO("yolov8n.yaml", task="detect").save(tmp_path / "boxes.pt")
    with pytest.raises(SeamlineError, match=r"boxes\.pt: is a model of the task 'detect'; it has to be one of segm"):
        open_engine(tmp_path / "boxes.pt", 1)
    (tmp_path / NO_MODEL).write_text("INT8 costs too much.\n")
    with pytest.raises(SeamlineError, match=r"there is no model; INT8 costs too much\.$"):
        open_engine(tmp_path, 1)


def test_what_cannot_be_run_is_said(untrained: Untrained) -> None:
    models = untrained.models()
    with pytest.raises(SeamlineError, match=r"precision 'int4' was asked for; .* one of f32, bf16, f16, tf32"):
        open_engine(models["openvino"], 1, precision="int4")
    for name, precision, device in (
        ("onnx", "bf16", "cpu"), ("onnx", "f16", "cuda:0"), ("pytorch", "bf16", "cpu"), ("openvino", "f16", "cpu"),
        ("onnx", "tf32", "tensorrt:0"),
    ):  # fmt: skip
        with pytest.raises(SeamlineError, match=f"cannot be run in {precision} on {device}; bf16 is for OpenVINO"):
            open_engine(models[name], 1, precision=precision, device=device)
    with pytest.raises(SeamlineError, match="OpenVINO models run on the CPU"):
        open_engine(models["openvino"], 1, device="cuda")
    with pytest.raises(SeamlineError, match=r"best\.pt: tensorrt is for ONNX models"):
        open_engine(models["pytorch"], 1, device="tensorrt")
    if not torch.cuda.is_available():
        with pytest.raises(SeamlineError, match=r"best\.pt: device cuda:0 was asked for, and torch .* sees no GPU"):
            open_engine(models["pytorch"], 1, device="cuda")
        assert open_engine(models["pytorch"], 1, device="auto").device == "cpu"
    for device, provider in (("cuda:1", "CUDAExecutionProvider"), ("tensorrt", "TensorrtExecutionProvider")):
        if provider not in onnxruntime.get_available_providers():
            with pytest.raises(
                SeamlineError, match=rf"device {device}(:0)? was asked for, .* is built without {provider}"
            ):
                open_engine(models["onnx"], 1, device=device)


@pytest.mark.parametrize(
    ("device", "provider"), [("cuda", "CUDAExecutionProvider"), ("tensorrt", "TensorrtExecutionProvider")]
)
def test_onnxruntime_that_falls_back_to_the_cpu_is_not_taken_for_a_gpu(
    untrained: Untrained, monkeypatch: pytest.MonkeyPatch, device: str, provider: str
) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [provider])
    with pytest.raises(SeamlineError, match=f"onnxruntime runs it on CPUExecutionProvider and not on {device}:0"):
        open_engine(untrained.models()["onnx"], 1, device=device)


def test_onnxruntime_runs_a_model_on_what_was_asked_for_first() -> None:
    on_cpu: tuple[str, dict[str, int]] = ("CPUExecutionProvider", {})
    on_cuda = ("CUDAExecutionProvider", {"device_id": 1, "use_tf32": 0})
    assert providers_for("cpu", "f32") == [on_cpu]
    assert providers_for("cuda:1", "f32") == [on_cuda, on_cpu]
    for precision, in_f16 in (("f32", 0), ("f16", 1)):
        first, *others = providers_for("tensorrt:1", precision)
        assert first == ("TensorrtExecutionProvider", {"device_id": 1, "trt_fp16_enable": in_f16})
        assert others == [on_cuda, on_cpu]


THREADS = """
import sys, threading, os
from pathlib import Path
from seamline.inference.detector import Detector
path, threads, image = Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
detector = Detector(path, threads=threads)
for _ in range(3):
    detector.detect(image)
import time
wall, cpu = time.perf_counter(), time.process_time()
while time.perf_counter() - wall < 1.5:
    detector.detect(image)
one = (time.process_time() - cpu) / (time.perf_counter() - wall)
wall, cpu = time.perf_counter(), time.process_time()
while time.perf_counter() - wall < 1.5:
    list(detector.detect_all([image] * 20))
print(one, (time.process_time() - cpu) / (time.perf_counter() - wall))
"""


@pytest.mark.skipif(usable_cores() < 2, reason="one core is all there is")
@pytest.mark.parametrize("name", ["pytorch", "onnx", "openvino"])
def test_one_thread_is_one_core_of_work(untrained: Untrained, name: str) -> None:
    """Processor time over wall time; decoding images and masks is the rest of the many-at-once one."""
    arguments = [str(untrained.models()[name]), "1", str(untrained.images()[0])]
    done = subprocess.run([sys.executable, "-c", THREADS, *arguments], cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    one, many = map(float, done.stdout.split())
    assert one < 1.15
    assert many < 1.6


@pytest.mark.parametrize("name", ["pytorch", "onnx"])
def test_of_calls_for_all_threads_one_is_computed_at_a_time(
    untrained: Untrained, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine: Any = open_engine(untrained.models()[name], threads=2)
    compute, inside, most = engine._infer, list[int](), list[int]()

    def slowly(*arguments: Any) -> Any:
        inside.append(1)
        most.append(len(inside))
        time.sleep(0.005)
        found = compute(*arguments)
        inside.pop()
        return found

    monkeypatch.setattr(engine, "_infer", slowly)
    canvases = canvas_of(untrained.images()[0])
    workers = [threading.Thread(target=engine.infer, args=(canvases, len)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert most == [1, 1, 1, 1]


def test_an_inference_that_fails_is_an_error_and_no_endless_wait(
    untrained: Untrained, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A graph that cannot reshape what it finds in the image; the requests are free again afterwards."""
    from openvino import Model, opset13

    engine: Any = open_engine(untrained.models()["openvino"], 1, streams=1)
    given = opset13.parameter([1, IMGSZ, IMGSZ, 3], np.uint8)
    found = opset13.non_zero(given, "i64")
    impossible = opset13.reshape(found, opset13.constant(np.array([7, 11, 13])), False)
    broken = engine.core.compile_model(Model([impossible], [given], "broken"), "CPU")
    monkeypatch.setattr(engine, "beside", Once(lambda: (broken, requests_of(broken, 2))))
    for _ in range(4):
        with pytest.raises(RuntimeError):
            engine.infer_beside(np.ones((1, IMGSZ, IMGSZ, 3), np.uint8), copied)


def test_what_takes_long_is_made_once_and_two_of_them_are_made_at_once() -> None:
    """Each waits in its making for the other's to have begun, and 8 threads get what one of them has made."""
    begun, made = threading.Barrier(2, timeout=10), []

    def make() -> object:
        begun.wait()
        time.sleep(0.2)  # all who need it have come by then
        made.append(object())
        return made[-1]

    one, other = Once(make), Once(make)
    with ThreadPoolExecutor(16) as threads:
        found = list(threads.map(lambda number: (one, other)[number % 2].get(), range(16)))
    assert len(made) == len(set(map(id, found))) == 2
    assert one.get() is found[0] and other.get() is found[1]


def test_what_could_not_be_made_is_tried_again_by_the_next_who_needs_it() -> None:
    results = iter([RuntimeError("not yet"), 7])

    def make() -> int:
        result = next(results)
        if isinstance(result, Exception):
            raise result
        return int(str(result))

    once = Once(make)
    with pytest.raises(RuntimeError, match="not yet"):
        once.get()
    assert not once.is_made
    assert (once.get(), once.get(), once.is_made) == (7, 7, True)


FIRST = """
import sys, time
start = time.perf_counter()
from seamline.inference.detector import Detector
Detector(sys.argv[1]).detect(sys.argv[2])
seconds, processor_s = time.perf_counter() - start, time.process_time()
from seamline.benchmark.machine import peak_rss_mb
print(seconds, processor_s, peak_rss_mb())
"""


# The least that any program does for it.
OPENVINO_ALONE = """
import sys, time
start = time.perf_counter()
import numpy, cv2, openvino
cv2.imread(sys.argv[2])
core = openvino.Core()
model = core.compile_model(core.read_model(sys.argv[1] + "/model.xml"), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
model(numpy.zeros(list(model.inputs[0].shape), model.inputs[0].element_type.to_dtype()))
print(time.perf_counter() - start, time.process_time(), 0)
"""


def test_the_first_image_takes_less_than_a_second_and_400_mb(untrained: Untrained) -> None:
    """From nothing imported, in turns; the best of up to twelve, as other things may be running.

    On a machine that is slow or busy, whose clock tells nothing, hardly more processor time than OpenVINO alone.
    """
    arguments = [str(untrained.models()["openvino"]), str(untrained.images()[0])]
    runs: dict[str, list[tuple[float, ...]]] = {FIRST: [], OPENVINO_ALONE: []}
    for _ in range(12):
        for script, found in runs.items():
            command = [sys.executable, "-c", script, *arguments]
            done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
            found.append(tuple(map(float, done.stdout.split())))
        seconds = min(run[0] for run in runs[FIRST])
        processor_s, alone_s = (min(run[1] for run in runs[script]) for script in (FIRST, OPENVINO_ALONE))
        if seconds < 1.0 or processor_s < 1.4 * alone_s:
            break
    else:
        pytest.fail(
            f"{seconds:.2f} s, {processor_s:.2f} s of processor time; OpenVINO alone takes {alone_s:.2f} s of it"
        )
    assert min(run[2] for run in runs[FIRST]) < 400


OPENED = {
    "ours": "from seamline.inference.detector import Detector; Detector(sys.argv[1])",
    "theirs": "import onnxruntime; onnxruntime.InferenceSession(sys.argv[1])",
}


@pytest.mark.parametrize("whose", OPENED)
def test_onnxruntime_reports_nothing(untrained: Untrained, tmp_path: Path, whose: str) -> None:
    """Left alone it keeps a device's id in the home and sends what it runs; it is quiet by itself where CI is set."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("ORT_", "CI", "XDG_"))}
    environment |= {"HOME": str(tmp_path), "PYTHONPATH": str(PROJECT)}
    command = [sys.executable, "-c", f"import sys; {OPENED[whose]}", str(untrained.models()["onnx"])]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    made = [path for path in tmp_path.rglob("*") if "onnxruntime" in path.name]
    assert bool(made) == (whose == "theirs")


@pytest.mark.parametrize("chosen", ["", "theirs"])
def test_ultralytics_settings_are_where_its_user_wants_them_and_never_in_the_home(
    untrained: Untrained, tmp_path: Path, chosen: str
) -> None:
    """For a Detector in a process of somebody else's."""
    ours = ("YOLO_", "SEAMLINE_", "XDG_")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(ours)}
    environment |= {"HOME": str(tmp_path), "TMPDIR": str(tmp_path), "PYTHONPATH": str(PROJECT)}
    environment |= {"YOLO_CONFIG_DIR": str(tmp_path / chosen)} if chosen else {}
    command = [sys.executable, "-c", f"import sys; {OPENED['ours']}", str(untrained.weights)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ([chosen] if chosen else [])


IMPORTED = {
    "our engine": "from seamline.inference.detector import Detector; Detector(sys.argv[1])",
    "our environment": (
        "from seamline.base.process import quiet_environment; quiet_environment(); import nncf, openvino"
    ),
    "openvino alone": "import openvino",
    "nncf alone": "import nncf",
}


@pytest.mark.parametrize("how", IMPORTED)
def test_openvino_and_nncf_report_nothing(untrained: Untrained, tmp_path: Path, how: str) -> None:
    """Where the package is there that they report with, as it is where pip brought it; here a stand-in for it."""
    (tmp_path / "openvino_telemetry").mkdir()
    stand_in = "import pathlib; pathlib.Path('reports').touch(); raise ImportError"
    (tmp_path / "openvino_telemetry" / "__init__.py").write_text(stand_in)
    environment = {**os.environ, "PYTHONPATH": f"{PROJECT}{os.pathsep}{tmp_path}"}
    command = [sys.executable, "-c", f"import sys; {IMPORTED[how]}", str(untrained.models()["openvino"])]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "reports").exists() == how.endswith("alone")
