"""The detector as its callers use it: from many threads, with whatever they hold an image in, within its memory."""

from __future__ import annotations

import contextlib
import gc
import io
import os
import signal
import subprocess
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import PIL.Image
import pytest
import torch
from ultralytics import YOLO

from bench.threads import CALLS, are_equal, count_differences
from seamline.base.errors import SeamlineError
from seamline.images.reading import ImageError, read_image
from seamline.inference.detector import Detector
from seamline.masks.rle import mask_iou
from seamline.models.detections import Detections
from tests.conftest import PROJECT
from tests.untrained import IMGSZ, Untrained, alike, steady_images

CONFIDENCE = 0.05


ENGINES = ("pytorch", "onnx", "openvino", "bf16")


def opened(untrained: Untrained, name: str, **options: Any) -> Detector:
    model = untrained.models()["openvino" if name == "bf16" else name]
    return Detector(model, CONFIDENCE, precision="bf16" if name == "bf16" else "f32", **options)


@pytest.mark.parametrize("name", ENGINES)
def test_from_many_threads_each_result_is_what_it_is_alone(untrained: Untrained, name: str) -> None:
    """Each kind of call, and all of them at once; bench/threads.py is the table with 1,000 calls a cell."""
    photos = untrained.images()[:8]
    with opened(untrained, name) as detector:
        alone = [detector.detect(photo) for photo in photos]
        assert len({found.boxes.tobytes() for found in alone}) == len(photos), "equal results would hide a mix-up"
        for kinds in (["detect"], ["detect_all"], ["submit"], ["detect_beside"], list(CALLS)):
            counts = count_differences(detector, kinds, photos[:4], 8, 32)
            assert counts == {"calls": 32, "different": 0}


@pytest.mark.parametrize("name", ["onnx", "openvino"])
def test_threads_may_begin_with_a_detector_that_nothing_has_used(untrained: Untrained, name: str) -> None:
    """What is made at the first call is made once; in a process of its own, in which nothing was used before either."""
    code = """
import sys, threading
from pathlib import Path
from seamline.inference.detector import Detector
detector, image, found = Detector(sys.argv[1], 0.05), Path(sys.argv[2]), []
def one_of_all(image):
    return next(detector.detect_all([image]))
calls = [detector.detect, detector.detect_beside, lambda image: detector.submit(image).result(), one_of_all]
ready = threading.Barrier(12)
def work(call):
    ready.wait()
    found.append(len(call(image)))
workers = [threading.Thread(target=work, args=(call,)) for call in calls * 3]
[worker.start() for worker in workers]
[worker.join() for worker in workers]
print(len(found), len(set(found)), threading.active_count())
detector.close()
"""
    command = [sys.executable, "-c", code, str(untrained.models()[name]), str(untrained.images()[0])]
    for _ in range(3):
        done = subprocess.run(command, capture_output=True, text=True, cwd=PROJECT, timeout=300)
        assert done.stdout.split()[:2] == ["12", "1"], done.stderr


def test_an_array_may_be_refilled_as_soon_as_it_is_handed_over(untrained: Untrained) -> None:
    images = [cv2.resize(read_image(path), (200, 300)) for path in untrained.images()[:6]]
    buffer = np.empty_like(images[0])

    def refilled() -> Iterator[np.ndarray[Any, Any]]:
        for image in images:
            buffer[:] = image
            yield buffer
        buffer[:] = 0

    with opened(untrained, "onnx") as detector:
        expected = [detector.detect(image) for image in images]
        assert sum(len(found) for found in expected) > 5
        for found, own in zip(detector.detect_all(refilled()), expected, strict=True):
            assert isinstance(found, Detections)
            np.testing.assert_allclose(found.boxes, own.boxes, atol=0.01)
        futures = []
        for image in images:
            buffer[:] = image
            futures.append(detector.submit(buffer))
        buffer[:] = 0
        for future, own in zip(futures, expected, strict=True):
            np.testing.assert_allclose(future.result().boxes, own.boxes, atol=0.01)


def test_an_image_is_the_same_in_whatever_it_is_handed_over(untrained: Untrained, tmp_path: Path) -> None:
    """OpenCV's pixels are the reference; PNG, so that no decoder rounds otherwise than another."""
    pixels = read_image(untrained.images()[0])
    data = cv2.imencode(".png", pixels)[1].tobytes()
    path = tmp_path / "photo.png"
    path.write_bytes(data)
    as_pillow = PIL.Image.open(path)
    alpha = np.dstack([pixels, np.full(pixels.shape[:2], 7, np.uint8)])
    sources: list[Any] = [
        path, str(path), data, bytearray(data), memoryview(data), io.BytesIO(data), path.open("rb"), as_pillow, alpha,
        as_pillow.convert("RGBA"), np.asfortranarray(pixels), np.pad(pixels, ((0, 0), (3, 0), (0, 0)))[:, 3:],
    ]  # fmt: skip
    with opened(untrained, "onnx") as detector:
        expected = detector.detect(pixels)
        assert len(expected) > 0
        for source in sources:
            assert are_equal(detector.detect(source), expected), type(source)
        grey = cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY)
        as_colour = detector.detect(cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR))
        for source in (grey, grey[:, :, None], np.asmatrix(grey), PIL.Image.fromarray(grey)):
            assert are_equal(detector.detect(source), as_colour)


def test_a_fork_and_a_closed_detector_are_one_sentence(untrained: Untrained) -> None:
    detector = opened(untrained, "openvino")
    image = untrained.images()[0]
    detector.detect(image)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            detector.detect(image)
        except SeamlineError as error:
            os.write(write, str(error).encode())
        os._exit(0)
    os.waitpid(child, 0)
    said = os.read(read, 1000).decode()
    assert said.startswith(f"the detector was opened in process {os.getpid()} and does not work in {child}, a fork")
    detector.close()
    detector.close()
    for call in (
        lambda: detector.detect(image),
        lambda: detector.detect_all([image]),
        lambda: detector.submit(image),
        lambda: detector.detect_beside(image),
    ):
        with pytest.raises(SeamlineError, match="the detector is closed; open the model again"):
            call()


@pytest.mark.parametrize("name", ["onnx", "openvino"])
def test_a_fork_ends_and_may_open_a_detector_of_its_own(untrained: Untrained, name: str) -> None:
    """Freed in the fork, as at its exit, an engine has waited for threads that only its parent has."""
    code = """
import os, sys
from seamline.inference.detector import Detector
model, image = sys.argv[1:]
detector = Detector(model)
boxes = detector.detect(image).boxes.tolist()
found = list(detector.detect_all([image] * 3))
child = os.fork()
if child == 0:
    assert Detector(model).detect(image).boxes.tolist() == boxes
    del detector
    sys.exit(0)
status = os.waitpid(child, 0)[1]
assert status == 0, status
"""
    forked(code, untrained.models()[name], untrained.images()[0])


def test_weights_in_a_fork_are_one_sentence(untrained: Untrained) -> None:
    """Where their reader has worked before the fork, it waits without end after it."""
    code = """
import os, sys
from seamline.inference.detector import Detector
detector = Detector(sys.argv[1])
child = os.fork()
if child == 0:
    try:
        Detector(sys.argv[1])
    except Exception as error:
        print(error, flush=True)
    os._exit(0)
os.waitpid(child, 0)
"""
    said = forked(code, untrained.models()["pytorch"])
    assert "best.pt: PyTorch does not work in process" in said and "spawn" in said


def forked(code: str, *words: Path) -> str:
    """What a program that forks says; neither it nor its fork may take longer than five minutes."""
    command = [sys.executable, "-c", code, *map(str, words)]
    process = subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        said, _ = process.communicate(timeout=300)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0
    return said


def test_closed_while_images_are_under_way_is_one_sentence(untrained: Untrained) -> None:
    detector = opened(untrained, "onnx")
    stream = detector.detect_all(untrained.images() * 20)
    next(stream)
    detector.close()
    with pytest.raises(SeamlineError, match="the detector is closed; open the model again"):
        list(stream)


def test_a_call_goes_by_the_limits_of_its_beginning_and_leaves_nothing_behind(untrained: Untrained) -> None:
    threads_before = torch.get_num_threads()
    with opened(untrained, "pytorch", threads=1) as detector:
        images = untrained.images()[:3]
        stream = detector.detect_all(images)
        detector.confidence = 1.0
        assert all(isinstance(found, Detections) and len(found) for found in stream)
        assert len(detector.detect(images[0])) == 0
        detector.confidence = CONFIDENCE
        found = detector.detect(images[0])
        assert all(milliseconds > 0 for milliseconds in found.timings_ms)
    assert torch.get_num_threads() == threads_before


def test_detector_finds_what_ultralytics_finds(untrained: Untrained) -> None:
    """Boxes, scores and classes the same; masks at a mean IoU of 0.97.

    Random prototypes change from cell to cell, where enlarging in one step or in two makes the most of a difference;
    a trained model's masks had a mean IoU of 0.999 and a lowest one of 0.994.
    """
    confidence = 0.05
    detector = Detector(untrained.weights, confidence, 0.7, 100)
    reference = YOLO(str(untrained.weights), task="segment")
    ious: list[float] = []
    for image in steady_images(untrained)[:6]:
        ours = detector.detect(image)
        [theirs] = reference.predict(
            str(image), imgsz=IMGSZ, rect=False, conf=confidence, iou=0.7, max_det=100, retina_masks=True, verbose=False
        )
        assert len(ours.scores) == len(theirs.boxes)
        np.testing.assert_allclose(ours.scores, theirs.boxes.conf.numpy(), atol=1e-4)
        np.testing.assert_array_equal(ours.classes, theirs.boxes.cls.numpy())
        np.testing.assert_allclose(ours.boxes, theirs.boxes.xyxy.numpy(), atol=0.05)
        ious += [
            mask_iou(our, their.astype(np.uint8))
            for our, their in zip(ours.masks, theirs.masks.data.numpy(), strict=True)
        ]
    assert len(ious) > 20
    assert np.mean(ious) > 0.97


@pytest.mark.parametrize(("streams", "batch"), [(1, 1), (2, 1), (1, 3), (2, 4)])
@pytest.mark.parametrize("name", ["pytorch", "onnx", "openvino"])
def test_many_images_at_once_are_what_they_are_one_by_one(
    untrained: Untrained, name: str, streams: int, batch: int
) -> None:
    """In their order, whatever the batch, a last one that is not full included."""
    images = steady_images(untrained)[:7]
    detector = Detector(untrained.models()[name], 0.05, threads=2, streams=streams, batch=batch)
    assert detector.engine.streams == streams
    one_by_one = [detector.detect(image) for image in images]
    assert sum(len(found.scores) for found in one_by_one) > 10
    for found, expected in zip(detector.detect_all(images), one_by_one, strict=True):
        assert isinstance(found, Detections)
        alike(found, expected)
    assert list(detector.detect_all([])) == []


def test_a_source_is_a_path_bytes_or_an_array(untrained: Untrained) -> None:
    path = untrained.images()[0]
    detector = Detector(untrained.models()["openvino"], 0.05)
    expected = detector.detect(path)
    assert len(expected.scores) > 0
    for found in detector.detect_all([path.read_bytes(), read_image(path)]):
        assert isinstance(found, Detections)
        alike(found, expected)


@pytest.mark.parametrize("name", ["pytorch", "onnx", "openvino"])
def test_an_abandoned_stream_leaves_the_detector_as_it_was(untrained: Untrained, name: str) -> None:
    detector = Detector(untrained.models()[name], 0.05, threads=2)
    stream = detector.detect_all(untrained.images() * 3)
    first = next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert isinstance(first, Detections)
    again = next(detector.detect_all(untrained.images()))
    assert isinstance(again, Detections)
    alike(again, first)


def test_few_images_are_held_however_many_there_are(untrained: Untrained) -> None:
    taken = 0

    def sources() -> Iterator[Path]:
        nonlocal taken
        for _ in range(1000):
            taken += 1
            yield untrained.images()[0]

    stream = Detector(untrained.models()["onnx"], threads=2).detect_all(sources())
    for _ in range(5):
        next(stream)
    assert taken < 40


LEAVE = """
import sys
from pathlib import Path
from seamline.inference.detector import Detector
stream = Detector(Path(sys.argv[1]), threads=2).detect_all([Path(sys.argv[2])] * 30)
print(len([next(stream) for _ in range(int(sys.argv[3]))]))
"""


@pytest.mark.parametrize("taken", [2, pytest.param(30, marks=pytest.mark.thorough)])
def test_python_can_end_at_any_moment_of_a_stream(untrained: Untrained, taken: int) -> None:
    """Of ten processes that ended right after their last image, OpenVINO's callbacks aborted three to seven."""
    arguments = [str(untrained.models()["openvino"]), str(untrained.images()[0]), str(taken)]
    for _ in range(6):
        done = subprocess.run([sys.executable, "-c", LEAVE, *arguments], cwd=PROJECT, capture_output=True, text=True)
        assert (done.returncode, done.stdout) == (0, f"{taken}\n"), done.stderr


def test_a_detector_that_is_not_used_any_more_is_gone(untrained: Untrained) -> None:
    """OpenVINO's requests keep what they were given last, out of sight of Python's collector."""
    for name in ("pytorch", "onnx", "openvino"):
        detector = Detector(untrained.models()[name], threads=2)
        assert len(list(detector.detect_all(untrained.images()))) == len(untrained.images())
        gone = weakref.ref(detector)
        del detector
        gc.collect()
        assert gone() is None, name


def test_paths_may_be_text(untrained: Untrained) -> None:
    image = untrained.images()[0]
    alike(
        Detector(str(untrained.models()["onnx"]), 0.05).detect(str(image)),
        Detector(untrained.models()["onnx"], 0.05).detect(image),
    )
    with pytest.raises(ImageError, match=r"absent\.jpg: there is no such file"):
        read_image("absent.jpg")
