"""The exporter of the family YOLO: from best.pt to ONNX, without dates or paths: equal weights give equal bytes."""

from __future__ import annotations

import contextlib
import re
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from seamline.export.gates import DETECTED_SCORE
from seamline.export.onnx_files import write_f32_onnx
from seamline.models.arrays import Outputs
from seamline.models.model_facts import ModelFacts
from seamline.models.weights import opened_as_data

PREPROCESSING = "fitted into imgsz x imgsz, centred on grey 114, bilinear; RGB, 0 to 1, NCHW"
OUTPUTS = ("output0", "output1")  # ultralytics' names: predictions, mask prototypes


def weights_to_onnx(weights: Path, out: Path, opset: int, metadata: Mapping[str, str]) -> None:
    """Export best.pt as an f32 ONNX file, any batch x 3 x imgsz x imgsz, with this metadata and no other.

    Works on a copy in a temporary folder beside `out`, since ultralytics writes the ONNX file beside the weights.
    """
    import onnx
    from ultralytics import YOLO

    with tempfile.TemporaryDirectory(dir=out.parent) as scratch, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer's remarks on ultralytics' own code
        copy = Path(scratch) / "model.pt"
        shutil.copyfile(weights, copy)
        settings = {"imgsz": int(metadata["imgsz"]), "opset": opset, "simplify": False, "device": "cpu"}
        with opened_as_data(weights), only_batch_dynamic():
            model = onnx.load(YOLO(str(copy), task="segment").export(format="onnx", **settings))
    write_f32_onnx(model, out, metadata)


@contextlib.contextmanager
def only_batch_dynamic() -> Iterator[None]:
    """Have torch's exporter leave the first axis of all inputs and outputs open.

    ultralytics leaves all axes open or none; with all open the model computes the grid of anchors for every image.
    """
    import torch

    original = torch.onnx.export

    def export(*arguments: Any, **options: Any) -> Any:
        open_axes = {name: {0: "batch"} for name in (*options["input_names"], *options["output_names"])}
        return original(*arguments, **{**options, "dynamic_axes": open_axes})

    torch.onnx.export = export
    try:
        yield
    finally:
        torch.onnx.export = original


def ignored_operations(names: Sequence[str], rung: str) -> list[str]:
    """Which operations of the converted model the quantiser has to leave in f32.

    On every rung what joins and decodes the head's outputs: one INT8 scale over pixels (0 to imgsz) and scores
    (0 to 1) would round every score to 0. ultralytics' own export leaves out the same.

    Args:
        names: operations as in the ONNX file, such as "/model.22/cv2.0/cv2.0.0/conv/Conv".
        rung: one of int8.RUNGS.
    """
    head = max(int(match[1]) for name in names if (match := re.match(r"/model\.(\d+)/", name)))
    inside = rf"/model\.{head}/" + ("" if rung == "head in f32" else r"([^/]+$|dfl/)")
    return [name for name in names if name in OUTPUTS or re.match(inside, name)]


def largest_differences(
    outputs: Sequence[Outputs], reference: Sequence[Outputs], facts: ModelFacts
) -> dict[str, float]:
    """Largest absolute differences of raw outputs: scores of all anchors, boxes in input pixels, prototypes.

    Boxes count where the reference scores at least DETECTED_SCORE: the box of an anchor on the background is noise that
    never becomes a detection. 0 where no anchor scores that much.
    """
    class_count = len(facts.names)
    differences = {"score": 0.0, "box": 0.0, "prototype": 0.0}
    for (ours, our_prototypes), (theirs, their_prototypes) in zip(outputs, reference, strict=True):
        scores = theirs[:, 4 : 4 + class_count]
        detected = (scores.max(axis=1) >= DETECTED_SCORE)[:, None]
        found = {
            "score": np.abs(ours[:, 4 : 4 + class_count] - scores).max(),
            "box": (np.abs(ours[:, :4] - theirs[:, :4]) * detected).max(),
            "prototype": np.abs(our_prototypes - their_prototypes).max(),
        }
        differences = {key: max(value, float(found[key])) for key, value in differences.items()}
    return {
        "max_abs_score_difference": float(f"{differences['score']:.1g}"),
        "max_abs_box_difference_px": float(f"{differences['box']:.1g}"),
        "max_abs_prototype_difference": float(f"{differences['prototype']:.1g}"),
    }
