"""The arrays that go through a model: canvases in, raw outputs out."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Canvas = npt.NDArray[np.uint8]  # (imgsz, imgsz, 3), BGR: an image as its family fits it into the model's input
Canvases = npt.NDArray[np.uint8]  # (batch, imgsz, imgsz, 3)
# Whatever a model puts out, in its order. The first axis of each is the batch. Arrays, or tensors on a GPU.
Outputs = tuple[Any, ...]
