"""canvases.py in tensors, where they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def canvases_to_tensor(canvases: Tensor) -> Tensor:
    """From (batch, imgsz, imgsz, 3), BGR in u8, to (batch, 3, imgsz, imgsz), RGB from 0 to 1 in f32."""
    return canvases.flip(3).permute(0, 3, 1, 2).float() * (1 / 255)
