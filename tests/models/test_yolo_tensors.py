"""YOLO's outputs decoded in tensors, a batch at once, beside the code for one image in numpy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import cv2
import numpy as np
import pytest
import torch

from seamline.models import tensor_masks, yolo, yolo_tensors
from seamline.models.arrays import Floats
from seamline.models.detections import Detections
from seamline.models.letterbox import letterbox_of
from seamline.models.model_facts import Limits, ModelFacts
from tests.models.test_yolo import dense_mask

SIZES = [(240, 320), (320, 240), (1257, 1123), (96, 1096), (40, 31), (10, 900)]


def outputs(seed: int, imgsz: int, classes: int, anchors: int) -> tuple[Floats, Floats]:
    """A batch's raw outputs for SIZES: boxes everywhere, beyond the input too, and smooth prototypes."""
    rng, cells, batch = np.random.default_rng(seed), imgsz // 4, len(SIZES)
    predictions = np.zeros((batch, 4 + classes + 8, anchors), np.float32)
    predictions[:, :2] = rng.uniform(0, imgsz, (batch, 2, anchors))
    predictions[:, 2:4] = rng.uniform(1, 0.7 * imgsz, (batch, 2, anchors))
    predictions[:, 4 : 4 + classes] = rng.beta(0.5, 6, (batch, classes, anchors))
    predictions[:, 4 + classes :] = rng.normal(size=(batch, 8, anchors))
    prototypes = rng.normal(size=(batch, 8, cells, cells)).astype(np.float32)
    for one in prototypes.reshape(-1, cells, cells):
        one[:] = cv2.GaussianBlur(one, (0, 0), 2)
    return predictions, prototypes


def both(
    predictions: Floats, prototypes: Floats, facts: ModelFacts, limits: Limits
) -> tuple[list[Detections], list[Detections]]:
    """In tensors, and one by one in numpy."""
    placements = [letterbox_of(height, width, facts.imgsz) for height, width in SIZES[: len(predictions)]]
    tensors = [torch.from_numpy(part) for part in (predictions, prototypes)]
    found = yolo_tensors.outputs_to_detections(tensors, placements, facts, limits)
    expected = [
        yolo.outputs_to_detections((own, their), placement, facts, limits)
        for own, their, placement in zip(predictions, prototypes, placements, strict=True)
    ]
    return found, expected


@contextmanager
def values_at_once(monkeypatch: pytest.MonkeyPatch, count: int) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setattr(tensor_masks, "VALUES_AT_ONCE", count)
        yield


@pytest.mark.parametrize(
    ("imgsz", "classes", "anchors", "confidence", "most"),
    [(96, 2, 189, 0.25, 100), (160, 3, 525, 0.001, 100), (160, 13, 525, 0.3, 20), (640, 13, 8400, 0.45, 100)],
)
def test_a_batch_is_what_its_images_are_one_by_one(
    imgsz: int, classes: int, anchors: int, confidence: float, most: int
) -> None:
    """Boxes, scores and classes to the last bit; of the masks not a pixel in ten million may differ."""
    facts = ModelFacts([str(number) for number in range(classes)], imgsz)
    predictions, prototypes = outputs(classes, imgsz, classes, anchors)
    predictions[1, 4 : 4 + classes] = 0  # a photo that shows nothing, between others
    found, expected = both(predictions, prototypes, facts, Limits(confidence, 0.7, most))
    assert len(found) == len(expected) == len(SIZES)
    assert len(found[1]) == 0
    assert sum(map(len, found)) > 50
    pixels = different = 0
    for own, reference in zip(found, expected, strict=True):
        assert (own.height, own.width) == (reference.height, reference.width)
        for name in ("boxes", "scores", "classes"):
            ours, theirs = getattr(own, name), getattr(reference, name)
            assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
            np.testing.assert_array_equal(ours, theirs, err_msg=name)
        for index in range(len(own)):
            mask, other = own.mask(index), reference.mask(index)
            pixels += int(other.sum())
            different += int(np.count_nonzero(mask != other))
    assert pixels > 100_000
    assert different <= 1e-7 * pixels


def test_masks_are_the_same_however_few_are_made_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Down to one instance that alone is more than what is made at once."""
    facts, limits = ModelFacts(["a", "b"], 96), Limits(0.25, 0.7, 30)
    predictions, prototypes = outputs(1, 96, 2, 189)
    whole, _ = both(predictions, prototypes, facts, limits)
    for count in (1, 50_000):
        with values_at_once(monkeypatch, count):
            parts, _ = both(predictions, prototypes, facts, limits)
        for own, reference in zip(parts, whole, strict=True):
            assert len(own) == len(reference) > 0
            for index in range(len(own)):
                np.testing.assert_array_equal(own.runs(index), reference.runs(index))


def test_what_is_made_at_once_is_bounded() -> None:
    widths = [0, 300, 4000, 10, 20, 9000, 5, *[30] * 60]  # of the last ones twenty or so are made at once
    parts = list(tensor_masks.parts(widths, 1 << 12, 160))
    assert [index for start, end in parts for index in range(start, end)] == list(range(len(widths)))
    for start, end in parts:
        values = sum((1 << 12) * (width + 160) for width in widths[start:end])
        assert values <= tensor_masks.VALUES_AT_ONCE or end == start + 1
    assert len(parts) > 2


@pytest.mark.parametrize("pixels_a_cell", [1, 2, 4])
def test_a_pixel_whose_value_is_exactly_zero_is_background(pixels_a_cell: int) -> None:
    """Beside the definition of bilinear enlargement in f64, for whole numbers, whose enlargement is not rounded."""
    cells, zeros = 12, 0
    side = cells * pixels_a_cell
    boxes = torch.tensor([[0.0, 0, side, side]] * 10)
    logits = np.random.default_rng(0).integers(-3, 4, (10, 1, cells, cells)).astype(np.float32)
    letterboxes = [letterbox_of(side, side, 8 * cells)] * 10
    found = tensor_masks.decode_masks(
        torch.ones((10, 1)), torch.arange(10), torch.from_numpy(logits), boxes, letterboxes, 8 * cells
    )
    for runs, logit in zip(found, logits, strict=True):
        own = Detections(boxes[:1].numpy(), np.ones(1, np.float32), np.zeros(1, np.int64), [runs], side, side).mask(0)
        expected, values = dense_mask(logit[0], [0, 0, side, side], letterboxes[0], 8 * cells)
        np.testing.assert_array_equal(own, expected)
        zeros += int(np.count_nonzero(values == 0))
    assert zeros > 100


def test_a_box_without_a_pixel_has_an_empty_mask() -> None:
    boxes = torch.tensor([[10.2, 10.2, 10.8, 60], [10.0, 10, 40, 40], [30.0, 50.1, 60, 50.9], [0.0, 0, 0, 0]])
    letterbox = letterbox_of(96, 96, 96)
    found = tensor_masks.decode_masks(
        torch.ones((4, 1)), torch.zeros(4).long(), torch.ones((1, 1, 24, 24)), boxes, [letterbox], 96
    )
    assert [len(runs) for runs in found] == [0, 60, 0, 0]


def test_a_box_without_a_row_has_an_empty_mask_where_a_pixel_is_many_cells() -> None:
    """There the cell before the first row lies behind the one after the last, and their values may differ in sign."""
    rows = torch.where(torch.arange(24) % 2 == 0, 1.0, -1.0)[None, None, :, None].expand(1, 1, 24, 24)
    boxes = torch.tensor([[1.0, place + 0.1, 5, place + 0.9] for place in range(6)])
    letterbox = letterbox_of(6, 6, 96)
    found = tensor_masks.decode_masks(torch.ones((6, 1)), torch.zeros(6).long(), rows, boxes, [letterbox], 96)
    assert [len(runs) for runs in found] == [0] * 6


def test_a_score_of_exactly_the_confidence_is_left_out() -> None:
    facts = ModelFacts(["a"], 96)
    for confidence in (0.1, 0.25, 0.7):
        predictions, prototypes = outputs(0, 96, 1, 189)
        predictions[:, 4] = 0
        predictions[0, 4, :3] = np.array([confidence, confidence, 0.9], np.float32)
        found, expected = both(predictions, prototypes, facts, Limits(confidence, 0.7, 9))
        assert [len(one) for one in found] == [len(one) for one in expected] == [1, 0, 0, 0, 0, 0]


def test_a_model_that_says_it_finds_boxes_only_gives_no_masks() -> None:
    predictions, prototypes = outputs(0, 96, 2, 189)
    found, expected = both(predictions, prototypes, ModelFacts(["a", "b"], 96, masks=False), Limits(0.25, 0.7, 100))
    assert [one.has_masks for one in found] == [False] * len(SIZES)
    assert [len(one) for one in found] == [len(one) for one in expected]


def test_canvases_become_what_they_become_in_numpy() -> None:
    """To the last bit, every value in every channel."""
    canvases = np.random.default_rng(0).integers(0, 256, (3, 96, 96, 3), dtype=np.uint8)
    made = yolo_tensors.canvases_to_tensor(torch.from_numpy(canvases))
    np.testing.assert_array_equal(made.numpy(), yolo.canvases_to_tensor(canvases))
