"""YOLO's outputs decoded: beside ultralytics, and beside the definition of bilinear enlargement."""

from __future__ import annotations

import os
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from ultralytics import YOLO
from ultralytics.utils import ops

from seamline.masks.rle import mask_iou
from seamline.models.arrays import Floats
from seamline.models.detections import Detections
from seamline.models.letterbox import Letterbox, letterbox_of
from seamline.models.model_facts import Limits, ModelFacts
from seamline.models.yolo import load_module, outputs_to_detections, unchanged_process
from seamline.models.yolo_masks import decode_masks
from tests.conftest import TINY
from tests.untrained import IMGSZ, NAMES, write_checkpoint

SIZES = [(240, 320), (320, 240), (257, 123), (96, 96), (40, 31), (1000, 7), (333, 500)]


# Not where the content is narrower than a prototype's cell: there the runtime has nothing to interpolate between.
@pytest.mark.parametrize(("height", "width"), [(height, width) for height, width in SIZES if width > 10])
def test_masks_are_ultralytics_native_masks(height: int, width: int) -> None:
    """IoU 0.97 at least for every mask of some size: ultralytics enlarges in two steps, the runtime in one."""
    rng = np.random.default_rng(1)
    prototypes = np.stack([cv2.GaussianBlur(rng.normal(size=(24, 24)), (0, 0), 2) for _ in range(8)]).astype(np.float32)
    coefficients = rng.normal(size=(12, 8)).astype(np.float32)
    letterbox = letterbox_of(height, width, IMGSZ)
    low, high = rng.uniform(0, 0.4, (12, 2)), rng.uniform(0.6, 1, (12, 2))
    boxes = (np.concatenate((low, high), axis=1) * [width, height, width, height]).astype(np.float32)
    runs = decode_masks(coefficients, prototypes, boxes, letterbox, IMGSZ)
    ours = Detections(boxes, boxes[:, 0], np.zeros(12, np.int64), runs, height, width).masks
    theirs = ops.process_mask_native(
        *(torch.from_numpy(part) for part in (prototypes, coefficients, boxes)), (height, width)
    )
    for our, their in zip(ours, theirs.numpy(), strict=True):
        assert our.shape == (height, width)
        different = np.count_nonzero(our != their)
        assert mask_iou(our, their) > 0.97 or different <= 0.01 * height * width


def decoded(
    predictions: Floats, prototypes: Floats, letterbox: Letterbox, imgsz: int, class_count: int, limits: Limits
) -> Detections:
    facts = ModelFacts([str(number) for number in range(class_count)], imgsz)
    return outputs_to_detections((predictions, prototypes), letterbox, facts, limits)


def test_where_nothing_is_found_there_is_no_instance() -> None:
    predictions, prototypes = np.zeros((4 + 2 + 32, 10), np.float32), np.zeros((32, 24, 24), np.float32)
    found = decoded(predictions, prototypes, letterbox_of(50, 60, IMGSZ), IMGSZ, 2, Limits(0.25, 0.7, 100))
    assert found.boxes.shape == (0, 4)
    assert found.masks == []
    assert found.to_coco(1, [1, 2]) == []


def test_a_model_that_says_it_finds_boxes_only_gives_no_masks() -> None:
    predictions, prototypes = np.zeros((4 + 1 + 32, 1), np.float32), np.ones((32, 24, 24), np.float32)
    predictions[:5, 0] = 48, 48, 20, 20, 0.9
    facts, letterbox = ModelFacts(["top"], 96, masks=False), letterbox_of(96, 96, 96)
    found = outputs_to_detections((predictions, prototypes), letterbox, facts, Limits(0.25, 0.7, 100))
    assert (len(found), found.has_masks) == (1, False)
    assert "segmentation" not in found.to_coco(1, [1])[0]


def dense_mask(logit: Any, box: Any, letterbox: Any, imgsz: int) -> tuple[Any, Any]:
    """The enlarged logits inside a box in f64, pixel by pixel, as the definition of bilinear enlargement has it."""
    stride = imgsz / logit.shape[0]

    def positions(size: int, start: float, length: float, count: int) -> tuple[Any, Any, Any]:
        low, high = max(int(np.floor(start)), 0), min(int(np.ceil(start + length)), count) - 1
        at = np.clip(start + (np.arange(size) + 0.5) * length / size - 0.5, low, high)
        return np.floor(at).astype(int), np.minimum(np.floor(at).astype(int) + 1, high), at - np.floor(at)

    top, below, down = positions(letterbox.height, letterbox.top / stride, letterbox.scaled_height / stride, len(logit))
    left, right, along = positions(
        letterbox.width, letterbox.left / stride, letterbox.scaled_width / stride, logit.shape[1]
    )
    exact = logit.astype(np.float64)
    upper = exact[np.ix_(top, left)] * (1 - along) + exact[np.ix_(top, right)] * along
    lower = exact[np.ix_(below, left)] * (1 - along) + exact[np.ix_(below, right)] * along
    values = upper * (1 - down[:, None]) + lower * down[:, None]
    rows, columns = np.arange(letterbox.height)[:, None], np.arange(letterbox.width)
    inside = (rows >= box[1]) & (rows < box[3]) & (columns >= box[0]) & (columns < box[2])
    return (values > 0) & inside, np.abs(values)


@given(
    st.integers(10, 90),
    st.integers(10, 90),
    st.integers(1, 9),
    st.integers(0, 1000),
    st.lists(st.floats(0, 1), min_size=4, max_size=4),
)
def test_a_mask_is_the_sign_of_every_pixels_own_value(
    height: int, width: int, cells: int, seed: int, corners: list[float]
) -> None:
    """Larger and smaller than its cells, of whatever box; where a value is 0 but for rounding either is right."""
    rng = np.random.default_rng(seed)
    imgsz = 8 * cells
    prototypes = rng.integers(-3, 4, (1, cells, cells)).astype(np.float32)  # whole numbers: many values are exactly 0
    x, y = sorted(corners[:2]), sorted(corners[2:])
    box = np.array([[x[0] * width, y[0] * height, x[1] * width, y[1] * height]], np.float32)
    letterbox = letterbox_of(height, width, imgsz)
    [runs] = decode_masks(np.ones((1, 1), np.float32), prototypes, box, letterbox, imgsz)
    found = Detections(box, box[:, 0], np.zeros(1, np.int64), [runs], height, width).mask(0)
    expected, values = dense_mask(prototypes[0], box[0], letterbox, imgsz)
    different = found.astype(bool) != expected
    assert not different[values > 1e-5].any()


@pytest.mark.parametrize("pixels_a_cell", [1, 2, 4])
def test_a_pixel_whose_value_is_exactly_zero_is_background(pixels_a_cell: int) -> None:
    """All weights are whole eighths, so that nothing is rounded: as many zeros come before a mask as behind one."""
    cells = 12
    side, box = cells * pixels_a_cell, np.array([[0, 0, cells * pixels_a_cell, cells * pixels_a_cell]], np.float32)
    letterbox = letterbox_of(side, side, 8 * cells)
    zeros = 0
    for seed in range(10):
        logits = np.random.default_rng(seed).integers(-3, 4, (1, cells, cells)).astype(np.float32)
        [runs] = decode_masks(np.ones((1, 1), np.float32), logits, box, letterbox, 8 * cells)
        found = Detections(box, box[:, 0], np.zeros(1, np.int64), [runs], side, side).mask(0)
        expected, values = dense_mask(logits[0], box[0], letterbox, 8 * cells)
        np.testing.assert_array_equal(found, expected)
        zeros += int(np.count_nonzero(values == 0))
    assert zeros > 100


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
    found = decoded(predictions, prototypes, letterbox, 160, 6, Limits(0.001, 0.7, 100))
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

    letterbox = letterbox_of(4000, 6000, 640)
    peaks = []
    for count in (10, 100):
        predictions, prototypes = near_full_frame(count, 160)
        predictions[:4] *= 4
        tracemalloc.start()
        found = decoded(predictions, prototypes, letterbox, 640, count, Limits(0.001, 0.7, 100))
        peaks.append(tracemalloc.get_traced_memory()[1] - sum(found.runs(index).nbytes for index in range(count)))
        tracemalloc.stop()
        assert len(found) == count
    assert max(peaks) < 40e6
    assert peaks[1] < 1.2 * peaks[0] + 1e6


def test_a_score_of_exactly_the_confidence_is_left_out_as_by_ultralytics() -> None:
    from ultralytics.utils.nms import non_max_suppression as theirs

    predictions, prototypes = near_full_frame(7)
    for confidence, count in ((0.5, 0), (0.49, 7)):
        found = decoded(predictions, prototypes, letterbox_of(160, 160, 160), 160, 7, Limits(confidence, 0.7, 9))
        [expected] = theirs(torch.from_numpy(predictions)[None].clone(), conf_thres=confidence, iou_thres=0.7, nc=7)
        assert len(found) == len(expected) == count


def test_the_best_are_left_and_no_more_than_asked_for() -> None:
    """Seven boxes of one class side by side, and one that the best suppresses."""
    predictions, prototypes = np.zeros((4 + 2 + 4, 8), np.float32), np.ones((4, 20, 20), np.float32)
    predictions[0] = [10, 30, 50, 70, 90, 110, 130, 51]
    predictions[1], predictions[2], predictions[3] = 80, 10, 30
    predictions[5] = [0.3, 0.4, 0.9, 0.5, 0.6, 0.7, 0.8, 0.85]
    predictions[4] = 0.1
    for most in (1, 3, 6, 7, 8):
        found = decoded(predictions, prototypes, letterbox_of(320, 320, 160), 160, 2, Limits(0.25, 0.7, most))
        expected = [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3][:most]
        assert found.scores.tolist() == pytest.approx(expected)
        assert found.classes.tolist() == [1] * len(expected)
        assert found.boxes[0].tolist() == [90, 130, 110, 190]  # twice the size: 45 to 55 and 65 to 95
        assert (found.height, found.width) == (320, 320)
        assert found.scores.dtype == np.float32
        assert found.classes.dtype == np.int64


def test_weights_are_opened_with_their_names_and_put_out_what_masks_are_made_of(tmp_path: Path) -> None:
    """Fused, they give what ultralytics' own model gives."""
    images = [tmp_path / "photo.png"]
    cv2.imwrite(str(images[0]), np.random.default_rng(0).integers(0, 256, (IMGSZ, IMGSZ, 3), dtype=np.uint8))
    write_checkpoint(tmp_path / "train" / "best.pt", images, TINY)
    module, facts = load_module(tmp_path / "train" / "best.pt", "cpu")
    assert facts == ModelFacts(NAMES, IMGSZ)
    tensor = torch.rand((1, 3, IMGSZ, IMGSZ), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        predictions, prototypes = module(tensor)
        (expected, theirs), *_ = YOLO(str(tmp_path / "train" / "best.pt")).model.eval()(tensor)
    assert predictions.shape[:2] == (1, 4 + len(NAMES) + prototypes.shape[1])
    torch.testing.assert_close(predictions, expected, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(prototypes, theirs, rtol=1e-3, atol=1e-3)


def test_what_importing_ultralytics_sets_is_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a variable was set before; and nothing is touched where somebody else has imported it already."""
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.delenv("KINETO_LOG_LEVEL", raising=False)
    before = cv2.getNumThreads()

    def imported() -> tuple[str, str | None, int]:
        with unchanged_process():
            os.environ.update({"OMP_NUM_THREADS": "1", "KINETO_LOG_LEVEL": "5"})
            cv2.setNumThreads(before + 1)
        return os.environ["OMP_NUM_THREADS"], os.environ.get("KINETO_LOG_LEVEL"), cv2.getNumThreads()

    try:
        assert imported() == ("1", "5", before + 1)
        monkeypatch.setenv("OMP_NUM_THREADS", "3")
        monkeypatch.delenv("KINETO_LOG_LEVEL")
        cv2.setNumThreads(before)
        monkeypatch.delitem(sys.modules, "ultralytics")
        assert imported() == ("3", None, before)
    finally:
        cv2.setNumThreads(before)
