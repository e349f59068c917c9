"""The engine for GPUs, on a CPU here and on a GPU where there is one: python -m pytest -n0 tests/inference/test_cuda.py

What is computed on a CPU is the same code on CPU tensors, and is held to the engine for CPUs, to the last bit where the
same numbers go through the same network.
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bench.threads import CALLS, count_differences
from seamline.base.errors import SeamlineError
from seamline.evaluation.average_precision import average_precision, read_ground_truth
from seamline.images.reading import ImageError
from seamline.inference.detector import Detector
from seamline.inference.predictions import predict_split
from seamline.models import yolo_tensors
from seamline.models.detections import Detections
from seamline.models.devices import gpu_count
from seamline.models.engines.device import BATCHES_AT_ONCE, onnx_on_device, weights_on_device
from seamline.models.engines.engine import copied
from seamline.models.engines.opening import open_engine
from seamline.models.letterbox import letterbox_of
from seamline.models.model_facts import Limits, ModelFacts
from seamline.params.evaluate import Evaluate
from seamline.params.loading.loader import load_params
from tests.conftest import PARAMS
from tests.models.test_yolo import near_full_frame
from tests.tiny_family import Tiny
from tests.untrained import Untrained, alike, canvas_of, steady_images

CONFIDENCE = 0.05
needs_gpu = pytest.mark.skipif(not gpu_count(), reason="torch sees no GPU here")
DEVICES = ["cpu", pytest.param("cuda:0", marks=needs_gpu)]
on_both = pytest.mark.parametrize("device", DEVICES)


def opened(model: Path, device: str, precision: str = "f32", batch: int = 1, **options: Any) -> Detector:
    """The engine itself, which open_engine() takes for GPUs alone."""
    return Detector(weights_on_device(model, 2, device, precision), CONFIDENCE, threads=2, batch=batch, **options)


def are_the_same(found: Detections, expected: Detections) -> None:
    """To the last bit; of the masks, a pixel in ten thousand may have a value of 0 but for rounding."""
    for name in ("boxes", "scores", "classes"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    masks = list(zip(found.masks, expected.masks, strict=True))
    different = sum(int(np.count_nonzero(own != other)) for own, other in masks)
    assert different <= 1e-4 * sum(int(other.sum()) for _, other in masks)


@on_both
@pytest.mark.parametrize("batch", [1, 3])
def test_what_is_found_is_what_the_engine_for_cpus_finds(untrained: Untrained, device: str, batch: int) -> None:
    photos = steady_images(untrained)[:7]
    with Detector(untrained.weights, CONFIDENCE, threads=2) as reference:
        expected = [reference.detect(photo) for photo in photos]
    assert sum(map(len, expected)) > 20
    with opened(untrained.weights, device, batch=batch) as detector:
        assert (detector.names, detector.imgsz, detector.has_masks) == (reference.names, reference.imgsz, True)
        for call in CALLS.values():
            for found, own in zip(call(detector, photos), expected, strict=True):
                assert isinstance(found, Detections)
                assert all(milliseconds > 0 for milliseconds in found.timings_ms)
                alike(found, own)
                if (device, batch) == ("cpu", 1):
                    are_the_same(found, own)


@on_both
def test_from_many_threads_each_result_is_what_it_is_alone(untrained: Untrained, device: str) -> None:
    photos = untrained.images()[:8]
    with opened(untrained.weights, device, batch=4) as detector:
        for kinds in (["detect"], ["detect_all"], ["submit"]):
            assert count_differences(detector, kinds, photos, 4, 32) == {"calls": 32, "different": 0}


@on_both
@pytest.mark.parametrize("precision", ["f32", "tf32", "f16", "bf16"])
def test_a_precision_is_read_back_and_coordinates_stay_f32(untrained: Untrained, device: str, precision: str) -> None:
    """Boxes off by no more than the network's own rounding makes them, which is far from the 4 px steps of bf16."""
    engine: Any = weights_on_device(untrained.weights, 2, device, precision)
    assert (engine.precision, engine.device) == (precision, device)
    kinds = {"f16": torch.float16, "bf16": torch.bfloat16}
    convolutions = [module for module in engine.network.module.modules() if isinstance(module, torch.nn.Conv2d)]
    others = [one for one in convolutions if one.weight.dtype != kinds.get(precision, torch.float32)]
    assert len(others) == (0 if "32" in precision else 1), "all but the one that makes coordinates"
    canvas = canvas_of(steady_images(untrained)[0])
    exact, _ = open_engine(untrained.weights, 2).infer(canvas, copied)

    def rounded(outputs: Sequence[Any]) -> list[torch.Tensor]:
        assert [output.dtype for output in outputs] == [torch.float32] * 2
        return [output.cpu() for output in outputs]

    predictions, _ = engine.infer(canvas, rounded)
    allowed = {"f32": 0.02, "tf32": 1.0, "f16": 1.0, "bf16": 8.0}[precision]
    assert np.abs(predictions.numpy() - exact)[:, :4].mean() < allowed / 10
    assert np.abs(predictions.numpy() - exact)[:, :4].max() < allowed


def test_a_precision_that_is_too_coarse_for_a_model_is_one_sentence(
    untrained: Untrained, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = yolo_tensors.convert_module
    monkeypatch.setattr("seamline.models.engines.device.LARGEST_IN_BF16", 64)
    with pytest.raises(SeamlineError, match=r"best\.pt: bf16 is too coarse for an input of 96 px; .* Take f16\."):
        weights_on_device(untrained.weights, 1, "cpu", "bf16")
    assert yolo_tensors.convert_module is loaded


@pytest.fixture
def tf32_put_back() -> Iterator[None]:
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.allow_tf32, matmul.allow_tf32
    yield
    cudnn.allow_tf32, matmul.allow_tf32 = before


@pytest.mark.usefixtures("tf32_put_back")
def test_products_are_rounded_where_that_is_asked_for_alone(untrained: Untrained) -> None:
    """Settings of the process are what they were, whatever they were."""
    seen = list[tuple[str, str]]()
    convolutions: Any = torch.backends.cudnn.conv  # type: ignore[attr-defined]
    for before in (True, False):
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = before
        for precision in ("f32", "tf32"):
            engine: Any = weights_on_device(untrained.weights, 1, "cpu", precision)
            engine.network.module.register_forward_pre_hook(
                lambda *_: seen.append((convolutions.fp32_precision, torch.backends.cuda.matmul.fp32_precision))
            )
            engine.infer(canvas_of(untrained.images()[0]), copied)
            assert torch.backends.cudnn.allow_tf32 is torch.backends.cuda.matmul.allow_tf32 is before
    assert seen == [("ieee", "ieee"), ("tf32", "tf32")] * 2


@on_both
def test_an_image_that_cannot_be_used_is_in_its_place(untrained: Untrained, device: str) -> None:
    photos: list[Any] = list(untrained.images()[:7])
    photos[0] = photos[3] = b"not an image"
    with opened(untrained.weights, device, batch=3) as detector:
        found = list(detector.detect_all(photos))
        assert [isinstance(one, ImageError) for one in found] == [index in (0, 3) for index in range(7)]
        assert str(found[3]).startswith("image 4: ")
        assert list(detector.detect_all([b"not an image"] * 7)) != []
        assert list(detector.detect_all([])) == []


@on_both
def test_an_abandoned_stream_leaves_the_detector_as_it_was(untrained: Untrained, device: str) -> None:
    with opened(untrained.weights, device, batch=2) as detector:
        stream = detector.detect_all(untrained.images() * 3)
        first = next(stream)
        stream.close()  # type: ignore[attr-defined]
        again = next(detector.detect_all(untrained.images()))
        assert isinstance(first, Detections)
        assert isinstance(again, Detections)
        alike(again, first)
    with pytest.raises(SeamlineError, match="the detector is closed"):
        list(detector.detect_all(untrained.images()))


@on_both
def test_few_images_are_held_however_many_there_are(untrained: Untrained, device: str) -> None:
    taken = 0

    def sources() -> Iterator[Path]:
        nonlocal taken
        for _ in range(1000):
            taken += 1
            yield untrained.images()[0]

    with opened(untrained.weights, device, batch=2) as detector:
        stream = detector.detect_all(sources())
        for _ in range(3):
            next(stream)
        assert taken <= 3 + 2 * (detector.ahead + 1) + 2 + detector.engine.readers + 1
        assert taken < 40
        stream.close()  # type: ignore[attr-defined]


class FakeStream:
    """Stands for one of CUDA's: notes what it is asked for."""

    def __init__(self, name: str, noted: list[str]) -> None:
        self.name, self.noted = name, noted

    def __enter__(self) -> None:
        self.noted.append(f"{self.name} begins")

    def __exit__(self, *_: object) -> None:
        self.noted.append(f"{self.name} ends")

    def record_event(self) -> str:
        return f"what {self.name} has copied"

    def wait_event(self, event: str) -> None:
        self.noted.append(f"{self.name} waits for {event}")

    def synchronize(self) -> None:
        self.noted.append(f"{self.name} is waited for")


def test_a_batch_goes_up_from_pinned_memory_on_a_stream_of_its_own(
    untrained: Untrained, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As far as it can be seen without a GPU: the network waits for its input, and its memory for the network."""
    noted = list[str]()

    def note(what: str, result: Any) -> Any:
        noted.append(what)
        return result

    engine: Any = weights_on_device(untrained.weights, 2, "cpu")
    expected = engine.infer(canvas_of(untrained.images()[0]), copied)
    engine.on_gpu, engine.copying = True, FakeStream("copying", noted)
    engine.free.get()
    engine.free.put(FakeStream("computing", noted))
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: stream)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: note("pinned", self))
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda _, stream: note(f"{stream.name} uses it", None))
    engine.network.module.register_forward_pre_hook(lambda *_: note("network", None))
    found = engine.infer(canvas_of(untrained.images()[0]), lambda outputs: note("decoded", copied(outputs)))
    for own, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(own, other, atol=1e-3)
    assert noted == [
        "copying begins", "pinned", "copying ends", "computing begins", "computing waits for what copying has copied",
        "computing uses it", "network", "computing is waited for", "decoded", "computing ends",
    ]  # fmt: skip
    assert engine.free.qsize() == 1


@on_both
def test_a_detector_that_is_not_used_any_more_is_gone(untrained: Untrained, device: str) -> None:
    detector = opened(untrained.weights, device, batch=4)
    assert len(list(detector.detect_all(untrained.images()))) == len(untrained.images())
    gone = weakref.ref(detector.engine)
    del detector
    gc.collect()
    assert gone() is None


@on_both
def test_where_memory_is_short_batches_become_smaller(
    untrained: Untrained, device: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Said once for each size, and nothing is lost; also where it is the masks that do not fit."""
    photos = untrained.images()[:9]
    with opened(untrained.weights, device) as detector:
        expected = list(detector.detect_all(photos))
    for part in ("network", "masks"):
        with opened(untrained.weights, device, batch=9) as detector, monkeypatch.context() as patch:
            engine: Any = detector.engine
            decode = yolo_tensors.outputs_to_detections

            def no_more_than_two(count: int) -> None:
                if count > 2:
                    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

            def little_room(outputs: Any, *arguments: Any, decode: Any = decode) -> Any:
                no_more_than_two(len(outputs[0]))
                return decode(outputs, *arguments)

            if part == "network":
                engine.network.module.register_forward_pre_hook(lambda _, given: no_more_than_two(len(given[0])))
            else:
                patch.setattr(yolo_tensors, "outputs_to_detections", little_room)
            found = list(detector.detect_all(photos))
            for one, own in zip(found, expected, strict=True):
                assert isinstance(one, Detections)
                assert isinstance(own, Detections)
                assert len(one) == len(own)
            said = capsys.readouterr().err.splitlines()
            assert said == [f"{device}: out of memory; {count} images at once from here on" for count in (4, 2)]
            assert len(list(detector.detect_all(photos))) == 9
            assert capsys.readouterr().err == ""


def test_where_not_even_one_image_fits_it_is_one_sentence(untrained: Untrained) -> None:
    with opened(untrained.weights, "cpu", batch=2) as detector:
        engine: Any = detector.engine

        def none(*_: Any) -> None:
            raise torch.OutOfMemoryError("CUDA out of memory.")

        engine.network.module.register_forward_pre_hook(none)
        with pytest.raises(SeamlineError, match=r"^cpu: has not enough free memory for 1 image; end what else uses it"):
            list(detector.detect_all(untrained.images()[:3]))
        with pytest.raises(SeamlineError, match="has not enough free memory"):
            detector.detect(untrained.images()[0])
        assert engine.free.qsize() == engine.streams


@on_both
@pytest.mark.usefixtures("tiny_family")
def test_a_family_without_a_module_for_tensors_is_decoded_by_the_processor(tiny: Tiny, device: str) -> None:
    photos = tiny.photos()[:7]
    with Detector(tiny.weights, threads=1) as reference:
        expected = [reference.detect(photo) for photo in photos]
    with Detector(weights_on_device(tiny.weights, 2, device), batch=3) as detector:
        for found, own in zip(detector.detect_all(photos), expected, strict=True):
            assert isinstance(found, Detections)
            np.testing.assert_allclose(found.scores, own.scores, atol=1e-5)
            np.testing.assert_allclose(found.boxes, own.boxes, atol=1e-3)


@on_both
def test_figures_are_those_of_the_cpu(untrained: Untrained, device: str) -> None:
    """All twelve numbers of boxes and masks within 0.001, at the confidence that evaluation has."""
    limits = load_params(PARAMS)[Evaluate]
    split, truth = untrained.split / "val.json", read_ground_truth(untrained.split / "val.json")
    summaries = []
    for engine in (open_engine(untrained.weights, 2), weights_on_device(untrained.weights, 2, device)):
        options = limits.confidence, limits.nms_iou, limits.max_detections
        with Detector(engine, *options, threads=2, batch=4) as detector:
            records = predict_split(detector, split, untrained.images_folder, "val")
        assert len(records) > 100
        summaries.append(
            [average_precision(truth, records, kind, limits.iou_thresholds).summary for kind in ("box", "mask")]
        )
    for ours, theirs in zip(*summaries, strict=True):
        assert ours.keys() == theirs.keys()
        for key, value in theirs.items():
            own = ours[key]
            assert (own is None) == (value is None)
            assert own is None or value is None or abs(own - value) <= 0.001


@needs_gpu
def test_weights_are_opened_on_a_gpu_by_its_name(untrained: Untrained) -> None:
    for name, precision in (("cuda", "f32"), ("cuda:0", "f16"), ("auto", "f32")):
        engine: Any = open_engine(untrained.weights, 2, device=name, precision=precision)
        assert (engine.device, engine.precision, engine.streams) == ("cuda:0", precision, BATCHES_AT_ONCE)
        assert {parameter.device.type for parameter in engine.network.module.parameters()} == {"cuda"}
        together = precision != "f32"
        assert (engine.network.layout == torch.channels_last) == together
    with pytest.raises(SeamlineError, match=r"device cuda:99 was asked for, and torch sees \d+ GPUs"):
        open_engine(untrained.weights, 2, device="cuda:99")


@needs_gpu
def test_memory_of_a_gpu_is_bounded_however_many_large_masks_there_are() -> None:
    """24 megapixels, 640 px of input, masks over the whole frame: as pixels 100 of them would be 2.4 GB."""
    letterbox, peaks = letterbox_of(4000, 6000, 640), []
    for count in (10, 100):
        predictions, prototypes = near_full_frame(count, 160)
        predictions[:4] *= 4
        tensors = [torch.from_numpy(part.astype(np.float32))[None].cuda() for part in (predictions, prototypes)]
        torch.cuda.reset_peak_memory_stats()
        facts = ModelFacts([str(number) for number in range(count)], 640)
        [found] = yolo_tensors.outputs_to_detections(tensors, [letterbox], facts, Limits(0.001, 0.7, 100))
        assert len(found) == count
        peaks.append(torch.cuda.max_memory_allocated())
    assert max(peaks) < 1e9


@on_both
def test_an_onnx_file_finds_the_same(untrained: Untrained, device: str) -> None:
    """Its input and outputs stay on the device; on a CPU it is the same session, and the same to the last bit."""
    photos, model = steady_images(untrained)[:5], untrained.models()["onnx"]
    try:
        engine = onnx_on_device(model, 2, device)
    except SeamlineError as error:
        pytest.skip(str(error))  # without onnxruntime-gpu
    assert (engine.precision, engine.device, engine.facts.masks) == ("f32", device, True)
    with Detector(model, CONFIDENCE, threads=2) as reference:
        expected = [reference.detect(photo) for photo in photos]
    for batch in (1, 2):
        detector = Detector(engine, CONFIDENCE, threads=2, batch=batch)
        for call in CALLS.values():
            for found, own in zip(call(detector, photos), expected, strict=True):
                assert isinstance(found, Detections)
                alike(found, own)
                if (device, batch) == ("cpu", 1):
                    are_the_same(found, own)
    assert count_differences(detector, ["detect", "submit"], photos, 4, 20) == {"calls": 20, "different": 0}
