"""Overlays: from records to shapes, at the picture's size, side by side."""

from __future__ import annotations

import numpy as np

from seamline.images.overlays import GAP_PX, in_a_row, record_to_shape
from seamline.masks.rle import mask_to_rle


def test_a_record_is_drawn_by_its_mask_or_else_by_its_box() -> None:
    mask = np.zeros((20, 30), np.uint8)
    mask[5:10, 10:25] = 1
    record = {"segmentation": mask_to_rle(mask), "bbox": [10, 5, 15, 5]}
    shape = record_to_shape(record, (1, 2, 3), "top", " 0.90")
    assert shape.mask is not None and shape.box is None
    assert (shape.mask == mask).all()
    assert shape.text == "top 0.90"
    del record["segmentation"]
    shape = record_to_shape(record, (1, 2, 3), "top")
    assert shape.mask is None
    assert shape.box == (10, 5, 25, 10)


def test_pictures_in_a_row_have_a_white_gap() -> None:
    left, right = np.full((20, 30, 3), 7, np.uint8), np.full((20, 10, 3), 9, np.uint8)
    row = in_a_row([left, right])
    assert row.shape == (20, 40 + GAP_PX, 3)
    assert (row[:, 30 : 30 + GAP_PX] == 255).all() and (row[:, :30] == 7).all() and (row[:, 30 + GAP_PX :] == 9).all()
