"""An R-CNN's outputs decoded: masks as torchvision pastes them, of any box, in little memory, and limits kept."""

from __future__ import annotations

import tracemalloc

import cv2
import numpy as np
import pytest
import torch
from torchvision.models.detection.roi_heads import paste_masks_in_image

from seamline.models import rcnn
from seamline.models.arrays import Floats
from seamline.models.detections import Crop, Detections
from seamline.models.enlarging import SMALL_PIXELS
from seamline.models.letterbox import letterbox_of
from seamline.models.model_facts import Limits, ModelFacts
from seamline.models.rcnn import outputs_to_detections
from seamline.models.rcnn_masks import paste_masks
from seamline.models.rcnn_tensors import outputs_to_detections as tensors_to_detections
from tests.untrained_rcnn import UntrainedRcnn

FACTS = ModelFacts(["top", "trousers"], 96, family="rcnn")


def smooth(count: int, seed: int = 0, side: int = 28) -> Floats:
    rng = np.random.default_rng(seed)
    noise = [cv2.GaussianBlur(rng.normal(size=(side, side)), (0, 0), 4) for _ in range(count)]
    return np.stack([1 / (1 + np.exp(-one / one.std())) for one in noise]).astype(np.float32)


def pasted(probabilities: Floats, boxes: Floats, height: int, width: int) -> tuple[Detections, Floats]:
    """Ours, and what torchvision pastes."""
    shapes = paste_masks(probabilities, np.arange(len(boxes)), boxes, height, width)
    ours = Detections(boxes, boxes[:, 0], np.zeros(len(boxes), np.int64), shapes, height, width)
    theirs = paste_masks_in_image(torch.from_numpy(probabilities[:, None]), torch.from_numpy(boxes), (height, width))
    return ours, theirs[:, 0].numpy()


@pytest.mark.parametrize(("height", "width"), [(60, 80), (37, 200), (500, 30), (900, 700), (3, 2)])
def test_masks_are_those_that_torchvision_pastes(height: int, width: int) -> None:
    """To the pixel, but where the value is one half within rounding: boxes of all sizes, some beyond the image."""
    rng = np.random.default_rng(height)
    size = np.array([width, height])
    low = rng.uniform(-0.3, 0.9, (40, 2))
    high = low + rng.choice([0.01, 0.1, 0.5, 1.4], (40, 1)) * rng.uniform(0.5, 1, (40, 2))
    shown = ((low < 0.95) & (high > 0.05)).all(axis=1)  # torchvision fails on boxes outside of the image
    boxes = np.concatenate((low * size, high * size), axis=1).astype(np.float32)[shown]
    ours, theirs = pasted(smooth(len(boxes)), boxes, height, width)
    for index, their in enumerate(theirs):
        own = ours.mask(index).astype(bool)
        assert not (own != (their > 0.5))[np.abs(their - 0.5) > 1e-4].any()
    assert sum(mask.any() for mask in ours.masks) > 10


def test_a_box_outside_of_the_photo_has_an_empty_mask() -> None:
    """As in the border of the letterbox; torchvision's own pasting fails there."""
    [shape] = paste_masks(smooth(1), np.array([0]), np.array([[10, -50, 60, -10]], np.float32), 100, 80)
    found = Detections(np.zeros((1, 4), np.float32), np.ones(1, np.float32), np.array([0]), [shape], 100, 80)
    assert not found.mask(0).any()
    assert found.polygon(0) == []


def test_a_large_photos_masks_are_runs_of_little_memory() -> None:
    height, width = 3000, 4000
    boxes = np.array([[-50, 100, 3900, 2900], [1000.4, -300, 4100, 3100.7], [5, 5, 60, 80]] * 10, np.float32)
    probabilities = smooth(30)
    tracemalloc.start()
    shapes = paste_masks(probabilities, np.arange(30), boxes, height, width)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6  # as pixels they would be 360 MB
    assert [isinstance(shape, Crop) for shape in shapes[:3]] == [False, False, True]
    assert SMALL_PIXELS < 2900 * 2800
    ours, theirs = pasted(probabilities[:3], boxes[:3], height, width)
    for index, their in enumerate(theirs):
        assert not (ours.mask(index).astype(bool) != (their > 0.5))[np.abs(their - 0.5) > 1e-4].any()


def test_limits_are_kept() -> None:
    """The network suppresses at 0.5 itself; a stricter limit takes more away, a looser one nothing."""
    boxes = np.array([[10, 10, 50, 50], [10, 25, 50, 65], [10, 10, 50, 50], [60, 60, 90, 90], [0, 0, 0, 0]], np.float32)
    scores = np.array([0.9, 0.8, 0.7, 0.3, 0], np.float32)
    labels = np.array([0, 0, 1, 1, 0], np.int64)
    outputs = (boxes, scores, labels, smooth(5))
    square = letterbox_of(96, 96, 96)

    def found(*limits: float) -> list[float]:
        detections = outputs_to_detections(outputs, square, FACTS, Limits(limits[0], limits[1], int(limits[2])))
        assert detections.shapes is not None and len(detections.shapes) == len(detections)
        return [round(float(score), 2) for score in detections.scores]

    assert found(0, 0.7, 100) == [0.9, 0.8, 0.7, 0.3]
    assert found(0, 0.4, 100) == [0.9, 0.7, 0.3]
    assert found(0.3, 0.7, 100) == [0.9, 0.8, 0.7]
    assert found(0, 0.7, 2) == [0.9, 0.8]
    assert found(0.95, 0.7, 100) == []


def test_a_models_limits_are_its_networks_and_never_wider(mask_rcnn: UntrainedRcnn) -> None:
    """Whatever evaluate asks for: the network has left out what overlaps and what is beyond its number."""
    architecture = mask_rcnn.architecture
    _, facts = rcnn.load_module(mask_rcnn.weights, "cpu")
    assert (facts.nms_iou, facts.max_detections) == (architecture.nms_iou, architecture.detections)
    assert rcnn.limits_within(facts, Limits(0.1, 0.7, 100)) == Limits(
        0.1, architecture.nms_iou, architecture.detections
    )
    assert rcnn.limits_within(facts, Limits(0.1, 0.3, 2)) == Limits(0.1, 0.3, 2)


def test_boxes_end_at_the_photo_and_masks_do_not_shrink_with_them() -> None:
    """A box that reaches into the letterbox's border: its grid lies over the whole of it."""
    letterbox = letterbox_of(48, 96, 96)  # content from row 24 to row 72
    boxes = np.array([[10, 4, 90, 60]], np.float32)
    outputs = (boxes, np.array([0.9], np.float32), np.array([1]), smooth(1))
    found = outputs_to_detections(outputs, letterbox, FACTS, Limits(0.1, 0.7, 10))
    np.testing.assert_allclose(found.boxes, [[10, 0, 90, 36]])
    their = paste_masks_in_image(torch.from_numpy(outputs[3][:, None]), torch.tensor([[10.0, -20, 90, 36]]), (48, 96))
    np.testing.assert_array_equal(found.mask(0), (their[0, 0] > 0.5).numpy())


def test_tensors_are_decoded_as_arrays_are() -> None:
    boxes = np.array([[[10, 10, 50, 50], [20, 40, 80, 90]], [[5, 5, 9, 9], [0, 0, 0, 0]]], np.float32)
    outputs = (
        boxes,
        np.array([[0.9, 0.8], [0.5, 0]], np.float32),
        np.array([[0, 1], [1, 0]]),
        smooth(4).reshape(2, 2, 28, 28),
    )
    letterboxes, limits = [letterbox_of(96, 96, 96), letterbox_of(200, 150, 96)], Limits(0.1, 0.7, 10)
    found = tensors_to_detections([torch.from_numpy(part) for part in outputs], letterboxes, FACTS, limits)
    assert [len(one) for one in found] == [2, 1]
    for index, own in enumerate(found):
        alone = outputs_to_detections(tuple(part[index] for part in outputs), letterboxes[index], FACTS, limits)
        assert own.to_coco(1, [1, 2]) == alone.to_coco(1, [1, 2])
