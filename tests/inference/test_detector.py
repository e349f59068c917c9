"""The detector as its callers use it: from many threads, with whatever they hold an image in, within its memory."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import PIL.Image
import pytest
import torch
import torchvision  # type: ignore[import-untyped]

from bench.threads import CALLS, are_equal, count_differences
from seamline.base.errors import SeamlineError
from seamline.images import reading as images
from seamline.images.budget import PixelBudget
from seamline.images.files import SUFFIXES, UNREAD_SUFFIXES
from seamline.images.reading import ImageError, letterbox_of, read_image
from seamline.inference.detector import Detector
from seamline.models.engines import open_engine
from seamline.models.instances import Instances, non_maximum_suppression, outputs_to_instances
from tests.conftest import PROJECT
from tests.untrained import Untrained, canvas_of

CONFIDENCE = 0.05
ENGINES = ("pytorch", "onnx", "openvino", "bf16")


def opened(untrained: Untrained, name: str, **options: Any) -> Detector:
    model = untrained.models()["openvino" if name == "bf16" else name]
    return Detector(model, CONFIDENCE, precision="bf16" if name == "bf16" else "f32", **options)


@pytest.mark.parametrize("name", ENGINES)
def test_from_many_threads_each_result_is_what_it_is_alone(untrained: Untrained, name: str) -> None:
    """Each kind of call, and all three at once; bench/threads.py is the table with 1,000 calls a cell."""
    photos = untrained.images()[:8]
    with opened(untrained, name) as detector:
        alone = [detector.detect(photo) for photo in photos]
        assert len({found.boxes.tobytes() for found in alone}) == len(photos), "equal results would hide a mix-up"
        for kinds in (["detect"], ["detect_all"], ["submit"], list(CALLS)):
            counts = count_differences(detector, kinds, photos, 8, 64)
            assert counts == {"calls": 64, "different": 0}


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
calls = [detector.detect, lambda image: detector.submit(image).result(), one_of_all]
ready = threading.Barrier(9)
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
        done = subprocess.run(command, capture_output=True, text=True, cwd=PROJECT, timeout=60)
        assert done.stdout.split()[:2] == ["9", "1"], done.stderr


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
            assert isinstance(found, Instances)
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


def test_a_photo_that_exif_turns_is_the_same_as_a_path_and_as_an_image_of_pillows(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    upright = cv2.GaussianBlur(rng.integers(0, 255, (60, 90, 3), np.uint8), (0, 0), 5)
    for orientation in range(1, 9):
        exif = PIL.Image.Exif()
        exif[0x0112] = orientation
        path = tmp_path / f"{orientation}.jpg"
        PIL.Image.fromarray(upright).save(path, exif=exif, quality=95)
        by_opencv = cv2.imread(str(path))
        assert by_opencv is not None
        with PIL.Image.open(path) as image:
            assert np.abs(read_image(image).astype(int) - by_opencv).max() <= 3  # two decoders


def test_sixteen_bits_are_the_same_by_both_readers() -> None:
    deep = np.random.default_rng(0).integers(0, 65535, (40, 50), np.uint16)
    data = cv2.imencode(".png", deep)[1].tobytes()
    with PIL.Image.open(io.BytesIO(data)) as image:
        np.testing.assert_array_equal(read_image(image), read_image(data))


class Something:
    """Neither an image nor anything to read one from."""


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (Something(), "is of type Something, which is not taken; it has to be a path, bytes, a binary file, an image"),
        (None, "is of type NoneType, which is not taken"),
        (7, "is of type int, which is not taken"),
        ([1, 2], "is of type list, which is not taken"),
        (torch.zeros(3, 50, 50), "is of type Tensor, which is not taken"),
        (io.StringIO("text"), "is a file that was opened as text"),
        (np.zeros((50, 50, 3), np.float64), "is an array of float64 and shape (50, 50, 3), which is not taken"),
        (np.zeros((2, 50, 50, 3), np.uint8), "shape (2, 50, 50, 3), which is not taken"),
        (np.zeros((5, 50, 3), np.uint8), "has 50 x 5 pixels; a side needs at least 10"),
        (np.zeros((0, 0, 3), np.uint8), "has 0 x 0 pixels; a side needs at least 10"),
        (b"", "is empty"),
        (io.BytesIO(b""), "is empty"),
        ("no/such\0name.jpg", "cannot be the name of a file"),
        (Path("/dev/null"), "is not a file"),
    ],
)  # fmt: skip
def test_what_is_not_taken_is_said_to_be_so_and_not_to_be_damaged(
    untrained: Untrained, source: Any, reason: str
) -> None:
    with opened(untrained, "onnx", threads=1) as detector:
        with pytest.raises(ImageError) as error:
            detector.detect(source)
        assert reason in str(error.value)
        [found] = detector.detect_all([source])
        assert isinstance(found, ImageError)
        assert reason in str(found)
        with pytest.raises(ImageError) as error:
            detector.submit(source).result()
        assert reason in str(error.value)


def test_a_heic_photo_is_said_to_be_one_where_nothing_reads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever its suffix: phones' photos are often renamed to .jpg."""
    monkeypatch.setattr(images, "FORMATS", [name for name in images.FORMATS if name != "HEIF"])
    for name, brand in (("iphone.heic", b"heic"), ("renamed.jpg", b"mif1")):
        (tmp_path / name).write_bytes(b"\0\0\0\x18ftyp" + brand + b"\0\0\0\0mif1heic" + bytes(100))
        with pytest.raises(ImageError, match=rf"{name}: is a HEIC photo, .* pip install pillow-heif\.$"):
            read_image(tmp_path / name)
    (tmp_path / "clip.jpg").write_bytes(b"\0\0\0\x18ftypqt  " + bytes(100))
    with pytest.raises(ImageError, match="not in a format that is read"):
        read_image(tmp_path / "clip.jpg")


def test_heic_and_avif_are_told_apart_where_they_begin_alike() -> None:
    """Some cameras call both "mif1", and name HEIC or AVIF behind that."""
    pytest.importorskip("pillow_heif").register_heif_opener()
    image = PIL.Image.effect_noise((64, 48), 40)
    for image_format in ("HEIF", "AVIF"):
        stream = io.BytesIO()
        image.convert("RGB").save(stream, image_format)
        data = stream.getvalue()
        assert data[8:12] in (b"heic", b"avif")
        np.testing.assert_array_equal(read_image(data[:8] + b"mif1" + data[12:]), read_image(data))


def test_gif_avif_and_jfif_are_read_and_what_is_not_has_a_reason(tmp_path: Path) -> None:
    noise = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 255, (64, 96, 3), np.uint8), (0, 0), 6)
    image = PIL.Image.fromarray(noise[:, :, ::-1])
    for suffix, options, close in ((".avif", {"quality": 95}, 12), (".gif", {}, 60), (".jfif", {"format": "JPEG"}, 12)):
        image.save(tmp_path / f"photo{suffix}", **options)
        assert suffix in SUFFIXES
        assert np.abs(read_image(tmp_path / f"photo{suffix}").astype(int) - noise).max() < close
    turned = PIL.Image.Exif()
    turned[0x0112] = 6
    image.save(tmp_path / "turned.avif", exif=turned)
    assert read_image(tmp_path / "turned.avif").shape == (96, 64, 3)
    assert {".jxl", ".mov", ".cr2"} <= set(UNREAD_SUFFIXES)
    assert not SUFFIXES & set(UNREAD_SUFFIXES)


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
    for call in (lambda: detector.detect(image), lambda: detector.detect_all([image]), lambda: detector.submit(image)):
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
    """What a program that forks says; neither it nor its fork may go on for longer than a minute."""
    command = [sys.executable, "-c", code, *map(str, words)]
    process = subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        said, _ = process.communicate(timeout=60)
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


@pytest.mark.skipif(".avif" not in SUFFIXES, reason="Pillow has no AVIF here")
def test_a_damaged_avif_is_one_bad_image() -> None:
    """Its library raises another error than Pillow's own readers; one such photo has ended a whole run."""
    stream = io.BytesIO()
    PIL.Image.radial_gradient("L").convert("RGB").resize((64, 48)).save(stream, "AVIF")
    whole = stream.getvalue()
    refused = 0
    for at in range(0, len(whole), 3):
        damaged = whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :]
        try:
            read_image(damaged)
        except ImageError:
            refused += 1
    assert refused > 20


def test_a_call_goes_by_the_limits_of_its_beginning_and_leaves_nothing_behind(untrained: Untrained) -> None:
    threads_before = torch.get_num_threads()
    with opened(untrained, "pytorch", threads=1) as detector:
        images = untrained.images()[:3]
        stream = detector.detect_all(images)
        detector.confidence = 1.0
        assert all(isinstance(found, Instances) and len(found) for found in stream)
        assert len(detector.detect(images[0])) == 0
        detector.confidence = CONFIDENCE
        found = detector.detect(images[0])
        assert all(milliseconds > 0 for milliseconds in found.timings_ms)
    assert torch.get_num_threads() == threads_before


def test_no_more_pixels_are_under_way_than_the_budget_has() -> None:
    budget, under_way, most = PixelBudget(100), [0], [0]
    lock = threading.Lock()

    def work(pixels: int) -> None:
        with budget.taken(pixels):
            with lock:
                under_way[0] += pixels
                most[0] = max(most[0], under_way[0])
            time.sleep(0.002)
            with lock:
                under_way[0] -= pixels

    sizes = [30, 60, 10, 100, 45] * 8
    workers = [threading.Thread(target=work, args=(size,)) for size in sizes]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert 60 < most[0] <= 100
    larger = threading.Thread(target=work, args=(250,))
    larger.start()
    larger.join(10)
    assert not larger.is_alive(), "an image of more than the budget is worked on alone"
    assert most[0] == 250


def test_images_that_fill_the_budget_are_worked_on_together() -> None:
    budget, both = PixelBudget(100), threading.Barrier(2)

    def work() -> None:
        with budget.taken(50):
            both.wait(10)

    workers = [threading.Thread(target=work) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not both.broken


def test_an_image_that_fails_gives_its_pixels_back() -> None:
    budget, worked = PixelBudget(100), threading.Event()
    with pytest.raises(ValueError, match="damaged"), budget.taken(100):
        raise ValueError("damaged")

    def work() -> None:
        with budget.taken(100):
            worked.set()

    threading.Thread(target=work, daemon=True).start()
    assert worked.wait(10)


def test_a_large_image_is_not_overtaken_by_small_ones() -> None:
    budget, order = PixelBudget(100), list[int]()

    def work(pixels: int) -> None:
        with budget.taken(pixels):
            order.append(pixels)

    workers = [threading.Thread(target=work, args=(pixels,)) for pixels in (100, 30)]
    with budget.taken(60):
        for worker in workers:
            worker.start()
            worker.join(0.05)
        assert not order
    for worker in workers:
        worker.join()
    assert order == [100, 30]


@pytest.mark.parametrize("kind", ["bytes", "file", "large file", "pillow"])
def test_an_image_is_decoded_while_its_pixels_are_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    budget, seen = PixelBudget(), list[int]()

    def recorded(decode: Any) -> Any:
        def record(*arguments: Any) -> Any:
            seen.append(budget._under_way)
            return decode(*arguments)

        return record

    for name in ("decoded", "pillow_to_pixels"):
        monkeypatch.setattr(images, name, recorded(getattr(images, name)))
    path = tmp_path / "a.png"
    PIL.Image.new("RGB", (30, 20)).save(path)
    monkeypatch.setattr(images, "READ_AT_ONCE_BYTES", 10 if kind == "large file" else 1 << 20)
    source: Any = path.read_bytes() if kind == "bytes" else PIL.Image.open(path) if kind == "pillow" else path
    images.source_to_canvas(source, "image", 32, 1000, budget)
    assert (seen, budget._under_way) == ([600], 0)
    with pytest.raises(ImageError, match="has 30 x 20 pixels; at most 599 are read"):
        images.source_to_canvas(source, "image", 32, 599, budget)


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


def bomb(side: int) -> bytes:
    """A PNG of one colour, some hundred times smaller than its pixels."""
    return cv2.imencode(".png", np.zeros((side, side), np.uint8), [cv2.IMWRITE_PNG_COMPRESSION, 9])[1].tobytes()


def test_the_limit_that_is_announced_is_the_one_that_holds(untrained: Untrained) -> None:
    """Pillow's own, at 178,956,970 pixels, is not asked."""
    data = bomb(14_000)
    assert len(data) < 400_000
    with pytest.raises(ImageError, match=r"has 14000 x 14000 pixels; at most 195,999,999 are read \(max_pixels\)"):
        read_image(data, max_pixels=14_000**2 - 1)
    with opened(untrained, "onnx", max_pixels=1000) as detector, pytest.raises(ImageError, match="at most 1,000 are"):
        detector.detect(untrained.images()[0])
    with pytest.raises(ImageError, match=r"has 8,001 bytes; at most 8,000 are read"):
        read_image(io.BytesIO(b"x" * 9000), max_pixels=1000)


@pytest.mark.thorough
def test_an_image_of_nearly_two_hundred_million_pixels_takes_six_bytes_each_at_most(tmp_path: Path) -> None:
    code = """
import sys
from seamline.images.reading import read_image
from seamline.benchmark.machine import peak_rss_mb
before = peak_rss_mb()
print(read_image(open(sys.argv[1], "rb")).shape[0], peak_rss_mb() - before)
"""
    path = tmp_path / "bomb.png"
    path.write_bytes(bomb(14_000))
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, cwd=PROJECT)
    side, megabytes = map(float, done.stdout.split())
    assert (side, megabytes < 6.5 * 14_000**2 / 1e6) == (14_000, True), done


def near_full_frame(count: int, cells: int = 40) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Raw outputs of a model of one class and 4 coefficients whose boxes are the whole input, each of its own class."""
    rng = np.random.default_rng(0)
    predictions = np.zeros((4 + count + 4, count), np.float32)
    predictions[:4] = np.array([[80, 80, 158, 158]]).T
    predictions[4 : 4 + count] = np.eye(count) * 0.5
    predictions[4 + count :] = rng.normal(size=(4, count))
    prototypes = np.stack([cv2.GaussianBlur(rng.normal(size=(cells, cells)), (0, 0), 4) for _ in range(4)])
    return predictions, prototypes.astype(np.float32)


def test_a_large_photos_masks_are_those_of_ultralytics_and_take_little_memory() -> None:
    """In strips: 6 megapixels are six of them; the reference enlarges all of it."""
    from ultralytics.utils import ops

    predictions, prototypes = near_full_frame(6)
    letterbox = letterbox_of(2000, 3000, 160)
    found = outputs_to_instances(predictions, prototypes, letterbox, 160, 6, 0.001, 0.7, 100)
    assert len(found) == 6
    assert sum(found.runs(index).nbytes for index in range(6)) < 0.01 * 6 * 2000 * 3000
    coefficients = torch.from_numpy(predictions[10:, found.classes].T.copy())
    theirs = ops.process_mask_native(
        torch.from_numpy(prototypes), coefficients, torch.from_numpy(found.boxes), (2000, 3000)
    ).numpy()
    for our, their in zip(found.masks, theirs, strict=True):
        assert np.count_nonzero(our != their) < 0.005 * our.size


def test_memory_does_not_grow_with_the_number_of_large_masks() -> None:
    """24 megapixels, 640 px of input, 100 masks over the whole frame: logits of all of them alone would be 10 MB."""
    from seamline.images.reading import letterbox_of

    letterbox = letterbox_of(4000, 6000, 640)
    peaks = []
    for count in (10, 100):
        predictions, prototypes = near_full_frame(count, 160)
        predictions[:4] *= 4
        tracemalloc.start()
        found = outputs_to_instances(predictions, prototypes, letterbox, 640, count, 0.001, 0.7, 100)
        peaks.append(tracemalloc.get_traced_memory()[1] - sum(found.runs(index).nbytes for index in range(count)))
        tracemalloc.stop()
        assert len(found) == count
    assert max(peaks) < 40e6
    assert peaks[1] < 1.2 * peaks[0] + 1e6


@pytest.mark.parametrize("most", [1, 7, 100, 5000])
@pytest.mark.parametrize("count", [0, 1, 31, 33, 129, 2000])
def test_nms_is_torchvisions_at_every_size(count: int, most: int) -> None:
    rng = np.random.default_rng(count)
    centres, sides = rng.uniform(0, 300, (count, 2)), rng.uniform(5, 120, (count, 2))
    corners = np.concatenate((centres - sides / 2, centres + sides / 2), axis=1).astype(np.float32)
    corners[: count // 20] = corners[count // 2 : count // 2 + count // 20]  # the same box twice
    corners[count // 3 : count // 3 + count // 30, 2:] = corners[count // 3 : count // 3 + count // 30, :2]  # no area
    scores = rng.permutation(np.linspace(0.01, 0.99, count)).astype(np.float32)
    classes = rng.integers(0, 5, count)
    expected = torchvision.ops.batched_nms(
        torch.from_numpy(corners), torch.from_numpy(scores), torch.from_numpy(classes), 0.5
    )
    found = non_maximum_suppression(corners, scores, classes, 0.5, most)
    assert found.tolist() == expected[:most].tolist()


@pytest.mark.parametrize("iou", [0.2, 0.25, 0.5, 0.6, 0.7])
def test_nms_of_equal_scores_and_overlaps_of_exactly_the_limit_is_torchvisions(iou: float) -> None:
    rng = np.random.default_rng(3)
    corners = rng.integers(0, 8, (400, 4)).astype(np.float32)
    corners[:, 2:] += corners[:, :2]
    scores = (rng.integers(1, 20, 400) / 20).astype(np.float32)
    expected = torchvision.ops.nms(torch.from_numpy(corners), torch.from_numpy(scores), iou)
    found = non_maximum_suppression(corners, scores, np.zeros(400, np.int64), iou, 400)
    assert found.tolist() == expected.tolist()


def test_nms_looks_as_far_as_it_takes() -> None:
    """A thousand boxes at one place are one detection; the others are weaker."""
    corners = np.array([[0, 0, 10, 10]] * 1000 + [[20 * place, 50, 20 * place + 10, 60] for place in range(5)])
    scores = np.linspace(0.9, 0.1, len(corners)).astype(np.float32)
    found = non_maximum_suppression(corners.astype(np.float32), scores, np.zeros(len(corners), np.int64), 0.5, 4)
    assert found.tolist() == [0, 1000, 1001, 1002]


def test_a_score_of_exactly_the_confidence_is_left_out_as_by_ultralytics() -> None:
    from ultralytics.utils.nms import non_max_suppression as theirs

    predictions, prototypes = near_full_frame(7)
    for confidence, count in ((0.5, 0), (0.49, 7)):
        found = outputs_to_instances(predictions, prototypes, letterbox_of(160, 160, 160), 160, 7, confidence, 0.7, 9)
        [expected] = theirs(torch.from_numpy(predictions)[None].clone(), conf_thres=confidence, iou_thres=0.7, nc=7)
        assert len(found) == len(expected) == count


def test_nms_of_33_600_candidates_takes_no_longer_than_torchvisions() -> None:
    rng = np.random.default_rng(0)
    count = 33_600
    centres, sides = rng.uniform(0, 640, (count, 2)), rng.uniform(5, 200, (count, 2))
    corners = np.concatenate((centres - sides / 2, centres + sides / 2), axis=1).astype(np.float32)
    scores, classes = rng.permutation(np.linspace(0.001, 0.99, count)).astype(np.float32), rng.integers(0, 13, count)
    tensors = [torch.from_numpy(part) for part in (corners, scores, classes)]
    ours, theirs = [], []
    for _ in range(3):
        start = time.perf_counter()
        found = non_maximum_suppression(corners, scores, classes, 0.7, 300)
        ours.append(time.perf_counter() - start)
        start = time.perf_counter()
        expected = torchvision.ops.batched_nms(*tensors, 0.7)
        theirs.append(time.perf_counter() - start)
    assert found.tolist() == expected[:300].tolist()
    assert min(ours) < min(theirs)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"names": '["dress", "\\u001b]0;owned\\u0007"]'}, r"the class '\\x1b\]0;owned\\x07' has a control character"),
        ({"imgsz": "1000000"}, r"says that its input has 1000000 px a side; it has to be 1 to 8192"),
        ({"imgsz": "0"}, r"says that its input has 0 px a side"),
    ],
)
def test_what_a_model_file_says_of_itself_is_not_believed_blindly(
    untrained: Untrained, tmp_path: Path, changed: dict[str, str], message: str
) -> None:
    import onnx

    model = onnx.load(untrained.models()["onnx"])
    for entry in model.metadata_props:
        entry.value = changed.get(entry.key, entry.value)
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(SeamlineError, match=message):
        Detector(tmp_path / "model.onnx")
