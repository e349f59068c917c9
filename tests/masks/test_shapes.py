from __future__ import annotations

import numpy as np

from seamline.masks.rle import mask_to_rle
from seamline.masks.shapes import record_to_shape


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
