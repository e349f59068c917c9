"""Images in the model's square and boxes back from it, beside ultralytics."""

from __future__ import annotations

import numpy as np
import pytest
from ultralytics.data.augment import LetterBox
from ultralytics.utils import ops

from seamline.models.letterbox import boxes_to_image, image_to_letterbox, letterbox_of
from seamline.models.model_facts import ModelFacts
from seamline.models.yolo import add_openvino_steps, canvases_to_tensor, image_to_canvas
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


def test_openvino_makes_the_same_tensor_of_a_canvas() -> None:
    """By its own steps before a model that puts out what it gets."""
    import openvino
    from openvino import opset13
    from openvino.preprocess import ColorFormat, PrePostProcessor

    given = opset13.parameter([1, 3, 8, 8], np.float32)
    processor = PrePostProcessor(openvino.Model([opset13.relu(given)], [given]))
    tensor = processor.input().tensor()
    tensor.set_element_type(openvino.Type.u8).set_layout(openvino.Layout("NHWC")).set_color_format(ColorFormat.BGR)
    processor.input().model().set_layout(openvino.Layout("NCHW"))
    add_openvino_steps(processor.input().preprocess().convert_element_type(openvino.Type.f32))
    canvas = np.random.default_rng(0).integers(0, 256, (1, 8, 8, 3), dtype=np.uint8)
    [found] = openvino.compile_model(processor.build(), "CPU")(canvas).values()
    expected = canvas[:, :, :, ::-1].transpose(0, 3, 1, 2) / 255
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_allclose(canvases_to_tensor(canvas), expected, atol=1e-6)


def test_a_canvas_is_as_large_as_the_model_asks_for() -> None:
    image = np.full((30, 60, 3), (10, 20, 30), dtype=np.uint8)
    canvas, box = image_to_canvas(image, ModelFacts(["top"], 32))
    assert canvas.shape == (32, 32, 3)
    assert box == (30, 60, 16, 32, 8, 0)
    assert canvas[8:24].reshape(-1, 3).tolist() == [[10, 20, 30]] * (16 * 32)
    assert (canvas[:8] == 114).all()
    assert (canvas[24:] == 114).all()


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_boxes_return_to_the_image_as_with_ultralytics(height: int, width: int) -> None:
    corners = np.random.default_rng(0).uniform(-10, IMGSZ + 10, (50, 4)).astype(np.float32)
    expected = ops.scale_boxes((IMGSZ, IMGSZ), corners.copy(), (height, width))
    np.testing.assert_allclose(boxes_to_image(corners, letterbox_of(height, width, IMGSZ)), expected, atol=1e-3)
