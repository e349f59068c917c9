"""The family YOLO: ultralytics' segmentation models, from an image to the model's input and from its outputs back."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from seamline.base.errors import SeamlineError
from seamline.base.process import quiet_ultralytics
from seamline.models.arrays import Floats, Outputs
from seamline.models.canvases import add_openvino_steps as add_openvino_steps
from seamline.models.canvases import canvases_to_tensor as canvases_to_tensor
from seamline.models.canvases import image_to_canvas as image_to_canvas
from seamline.models.detections import Detections
from seamline.models.letterbox import Letterbox, boxes_to_image
from seamline.models.model_facts import Limits, ModelFacts
from seamline.models.nms import non_maximum_suppression
from seamline.models.weights import load_weights
from seamline.models.yolo_masks import decode_masks

LICENCE = "AGPL-3.0 (trained with ultralytics)"
EXPORTED_BATCH: int | None = None
# Environment variables of other libraries, when it is imported.
SET_BY_ULTRALYTICS = (
    "OMP_NUM_THREADS", "NUMEXPR_MAX_THREADS", "TF_CPP_MIN_LOG_LEVEL", "TORCH_CPP_LOG_LEVEL", "KINETO_LOG_LEVEL",
)  # fmt: skip


def limits_within(facts: ModelFacts, asked: Limits) -> Limits:
    """All that is asked for, as nothing is left out before."""
    return asked


def outputs_to_detections(outputs: Outputs, placement: Letterbox, facts: ModelFacts, limits: Limits) -> Detections:
    """Decode one image's raw outputs.

    Args:
        outputs: predictions, (4 + classes + coefficients, anchors): boxes as centre x, y, width, height in input
            pixels, class scores, mask coefficients; and prototypes, (coefficients, height, width).
        placement: how the image lies in the input.
        facts: the model's.
        limits: what is reported.
    """
    predictions, prototypes = outputs
    class_count = len(facts.names)
    scores = predictions[4 : 4 + class_count]
    best = scores.max(axis=0)
    candidates = np.flatnonzero(best > limits.confidence)
    rows = predictions[:, candidates].T
    best, classes = best[candidates], scores[:, candidates].argmax(axis=0)
    corners: Floats = np.concatenate((rows[:, :2] - rows[:, 2:4] / 2, rows[:, :2] + rows[:, 2:4] / 2), axis=1)
    order = non_maximum_suppression(corners, best, classes, limits.nms_iou, limits.max_detections)
    corners, best, classes = corners[order], best[order], classes[order]
    coefficients = rows[order, 4 + class_count :]
    boxes = boxes_to_image(corners, placement)
    shapes = decode_masks(coefficients, prototypes, boxes, placement, facts.imgsz) if facts.masks else None
    return Detections(
        boxes, best.astype(np.float32), classes.astype(np.int64), shapes, placement.height, placement.width
    )


def load_module(path: Path, device: str) -> tuple[Any, ModelFacts]:
    """A best.pt, its convolutions fused with their normalisations as ultralytics does for inference."""
    quiet_ultralytics()
    with unchanged_process():
        import torch

        model, checkpoint = load_weights(path, device, fuse=True)
    if "Segment" not in type(model.model[-1]).__name__:
        raise SeamlineError(f"{path}: is a model of the task {model.task!r}; it has to be one of segmentation.")

    class RawOutputs(torch.nn.Module):
        """Without what ultralytics puts out for its losses."""

        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, tensor: Any) -> Any:
            (predictions, prototypes), *_ = self.model(tensor)
            return predictions, prototypes

    names = [str(name) for _, name in sorted(model.names.items())]
    return RawOutputs(), ModelFacts(names, int(checkpoint["train_args"]["imgsz"]))


@contextlib.contextmanager
def unchanged_process() -> Iterator[None]:
    """Undo what importing ultralytics sets in its process: environment variables, OpenCV's threads, printing of arrays.

    Training imports it for itself, and what it sets then stays.
    """
    if "ultralytics" in sys.modules:
        yield
        return
    environment = {name: os.environ.get(name) for name in SET_BY_ULTRALYTICS}
    threads, printing = cv2.getNumThreads(), np.get_printoptions()
    try:
        yield
    finally:
        for name, value in environment.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        cv2.setNumThreads(threads)
        np.set_printoptions(**printing)
