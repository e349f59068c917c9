"""From best.pt to ONNX, OpenVINO and INT8: made without dates or paths, so that equal weights give equal bytes."""

from __future__ import annotations

import contextlib
import json
import logging
import re
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from seamline.coco import Record, read_coco
from seamline.errors import SeamlineError
from seamline.runtime.engines import NO_MODEL, Engine
from seamline.runtime.images import image_to_tensor, read_image

Floats = npt.NDArray[np.float32]
Item = TypeVar("Item")

# What stays f32 on each rung; the first rung that keeps average precision is taken.
RUNGS = ("full", "head in f32")
DETECTED_SCORE = 0.25  # from which score on an anchor's box is compared
OUTPUTS = ("output0", "output1")  # ultralytics' names: predictions, mask prototypes


def model_paths(weights: Path, exported: Path) -> dict[str, Path]:
    """Each format's model, as seamline.runtime opens it."""
    return {
        "pytorch": weights,
        "onnx": exported / "onnx" / "model.onnx",
        "openvino": exported / "openvino",
        "openvino_int8": exported / "openvino_int8",
    }


def models_made(weights: Path, exported: Path) -> dict[str, Path]:
    """Each format's model, INT8 left out where its gate refused it."""
    paths = model_paths(weights, exported)
    return {name: path for name, path in paths.items() if not (path / NO_MODEL).is_file()}


def megabytes(path: Path) -> float:
    """Size of a file, or of all files in a folder, in MB (10^6 bytes)."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return round(sum(file.stat().st_size for file in files) / 1e6, 3)


def evenly_spaced(items: Sequence[Item], count: int | None) -> list[Item]:
    """`count` items spread over the whole sequence, in its order; all where there are fewer, or count is None."""
    if count is None or count >= len(items):
        return list(items)
    return [items[index * len(items) // count] for index in range(count)]


def image_files(split_file: Path, images: Path) -> list[Path]:
    """A split's image files in the order of their ids.

    Raises:
        SeamlineError: when the split is missing or has no image.
    """
    refs = sorted(read_coco(split_file).image_refs(), key=lambda ref: ref.id)
    if not refs:
        raise SeamlineError(f"{split_file}: has no images; give the split a larger share in split.ratios.")
    return [images / ref.file_name for ref in refs]


def model_metadata(names: list[str], imgsz: int, weights_sha256: str, precision: str) -> dict[str, str]:
    """What a model file says about itself; the runtime needs names and imgsz, the rest is for people."""
    return {
        "names": json.dumps(names, ensure_ascii=False),
        "imgsz": str(imgsz),
        "preprocessing": "letterbox 114, RGB, 0..1",
        "precision": precision,
        "weights_sha256": weights_sha256,
    }


def weights_to_onnx(weights: Path, out: Path, opset: int, imgsz: int, metadata: dict[str, str]) -> None:
    """Export best.pt as a static 1x3xSxS f32 ONNX file with this metadata and no other.

    Works on a copy in a temporary folder beside `out`, since ultralytics writes the ONNX file beside the weights.
    """
    import onnx
    from ultralytics import YOLO

    with tempfile.TemporaryDirectory(dir=out.parent) as scratch, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer's remarks on ultralytics' own code
        copied = Path(scratch) / "model.pt"
        shutil.copyfile(weights, copied)
        settings = {"imgsz": imgsz, "opset": opset, "batch": 1, "dynamic": False, "simplify": False, "device": "cpu"}
        model = onnx.load(YOLO(str(copied), task="segment").export(format="onnx", **settings))
    del model.metadata_props[:]  # ultralytics' hold the date
    for key, value in sorted(metadata.items()):
        model.metadata_props.add(key=key, value=value)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(out))


def onnx_to_openvino(onnx_file: Path, out: Path, metadata: dict[str, str]) -> None:
    """Convert an ONNX file to an OpenVINO folder (model.xml, model.bin) with f32 weights."""
    import openvino

    save_openvino(openvino.convert_model(onnx_file), out, metadata)


def save_openvino(model: Any, out: Path, metadata: dict[str, str]) -> None:
    """Write model.xml and model.bin, with f32 left as it is, and the same bytes for the same model."""
    import openvino

    # Nodes without a name get one from a counter of the process, which also counts what its threads make.
    for index, node in enumerate(model.get_ordered_ops()):
        if re.fullmatch(r"[A-Za-z]+_\d+", node.get_friendly_name()):
            node.set_friendly_name(f"{node.get_type_name()}_{index}")
    for key, value in sorted(metadata.items()):
        model.set_rt_info(value, ["seamline", key])
    openvino.save_model(model, out / "model.xml", compress_to_fp16=False)


def ignored_operations(names: Sequence[str], rung: str) -> list[str]:
    """Which operations of the converted model the quantiser has to leave in f32.

    On every rung what joins and decodes the head's outputs: one INT8 scale over pixels (0 to imgsz) and scores
    (0 to 1) would round every score to 0. ultralytics' own export leaves out the same.

    Args:
        names: operations as in the ONNX file, such as "/model.22/cv2.0/cv2.0.0/conv/Conv".
        rung: one of RUNGS.
    """
    head = max(int(match[1]) for name in names if (match := re.match(r"/model\.(\d+)/", name)))
    inside = rf"/model\.{head}/" + (r"([^/]+$|dfl/)" if rung == "full" else "")
    return [name for name in names if name in OUTPUTS or re.match(inside, name)]


def quantise(f32: Path, out: Path, images: list[Path], imgsz: int, rung: str, metadata: dict[str, str]) -> None:
    """Quantise an OpenVINO folder to INT8, activations calibrated on these images (always all of them, in order)."""
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # says that there is no CUDA
    import nncf
    import openvino

    nncf.set_log_level(logging.ERROR)
    model = openvino.Core().read_model(f32 / "model.xml")
    operations = [
        operation.get_friendly_name()
        for operation in model.get_ordered_ops()
        if operation.get_type_name() not in ("Constant", "Parameter", "Result")
    ]
    with contextlib.redirect_stdout(sys.stderr):  # NNCF's progress
        quantised = nncf.quantize(
            model,
            nncf.Dataset(images, lambda path: image_to_tensor(read_image(path), imgsz)[0]),
            preset=nncf.QuantizationPreset.MIXED,  # asymmetric activations, which SiLU's need
            subset_size=len(images),
            ignored_scope=nncf.IgnoredScope(names=ignored_operations(operations, rung)),
        )
    save_openvino(quantised, out, metadata)


def rungs_until_one_holds(
    quantise_to: Callable[[str], None], measure: Callable[[], float], reference: float, max_drop: float
) -> list[Record]:
    """Quantise rung by rung until mask mAP50-95 drops by no more than max_drop, or there is no rung left.

    Args:
        quantise_to: makes the model of a rung.
        measure: mask mAP50-95 of the model just made.
        reference: PyTorch's mask mAP50-95.
        max_drop: allowed, as a difference of the two.

    Returns:
        The rungs tried, each with its figures unrounded; why_no_int8 says whether the last one holds.
    """
    rungs: list[Record] = []
    for rung in RUNGS:
        quantise_to(rung)
        average_precision = measure()
        drop = reference - average_precision
        rungs.append({"rung": rung, "val_mask_mAP50_95": average_precision, "drop": drop})
        if drop <= max_drop:
            break
    return rungs


def why_no_int8(rungs: Sequence[Record], max_drop: float) -> str | None:
    """The reason in a sentence where no rung holds; None where the last one does."""
    if rungs[-1]["drop"] <= max_drop:
        return None
    drops = ", ".join(f"{rung['drop']:.4f} with {rung['rung']}" for rung in rungs)
    return (
        f"INT8 costs more mask mAP50-95 on val than export.int8.max_drop ({max_drop:g}) allows: {drops}; "
        "raise export.int8.max_drop or train longer (train.epochs)."
    )


def check_drift(name: str, drop: float, max_drift: float) -> None:
    """Raise SeamlineError when an f32 model's mask mAP50-95 is not PyTorch's."""
    if abs(drop) > max_drift:
        raise SeamlineError(
            f"{name}: its mask mAP50-95 on val differs by {abs(drop):.4f} from PyTorch's, more than export.max_drift "
            f"({max_drift:g}); try another export.opset, or raise export.max_drift."
        )


def raw_outputs(engine: Engine, images: list[Path]) -> list[tuple[Floats, Floats]]:
    return [engine.infer(image_to_tensor(read_image(image), engine.imgsz)[0]) for image in images]


def largest_differences(
    outputs: list[tuple[Floats, Floats]], reference: list[tuple[Floats, Floats]], class_count: int
) -> dict[str, float]:
    """Largest absolute differences of raw outputs: scores of all anchors, boxes in input pixels, prototypes.

    Boxes count where the reference scores DETECTED_SCORE or more: what an anchor on the background says of a box
    is noise that never becomes a detection. 0 where there is none.
    """
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
