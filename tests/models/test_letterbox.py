"""Images in the model's square and boxes back from it, beside ultralytics."""

from __future__ import annotations

import numpy as np
import pytest
from ultralytics.data.augment import LetterBox
from ultralytics.utils import ops

from seamline.models.letterbox import boxes_to_image, image_to_letterbox, letterbox_of
from seamline.models.yolo import canvases_to_tensor
from tests.untrained import IMGSZ

SIZES = [(240, 320), (320, 240), (257, 123), (96, 96), (40, 31), (1000, 7), (333, 500)]


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_tensor_is_ultralytics_letterbox(height: int, width: int) -> None:
    image = np.random.default_rng(height).integers(0, 255, (height, width, 3), dtype=np.uint8)
    canvas, _ = image_to_letterbox(image, IMGSZ)
    expected = LetterBox((IMGSZ, IMGSZ), auto=False)(image=image)
    np.testing.assert_array_equal(canvas, expected)
    tensor = canvases_to_tensor(canvas[None])
    np.testing.assert_allclose(tensor, expected[:, :, ::-1].transpose(2, 0, 1)[None] / 255, atol=1e-7)
    assert tensor.dtype == np.float32
    assert tensor.flags.c_contiguous


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_boxes_return_to_the_image_as_with_ultralytics(height: int, width: int) -> None:
    corners = np.random.default_rng(0).uniform(-10, IMGSZ + 10, (50, 4)).astype(np.float32)
    expected = ops.scale_boxes((IMGSZ, IMGSZ), corners.copy(), (height, width))
    np.testing.assert_allclose(boxes_to_image(corners, letterbox_of(height, width, IMGSZ)), expected, atol=1e-3)
