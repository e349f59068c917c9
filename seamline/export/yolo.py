"""From best.pt to ONNX, OpenVINO, f16 and INT8: made without dates or paths, so that equal weights give equal bytes."""

from __future__ import annotations

import contextlib
import logging
import re
import shutil
import sys
import tempfile
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from pycocotools import mask as coco_mask

from seamline.base.coco import Record, read_coco
from seamline.base.errors import SeamlineError
from seamline.images.reading import read_image
from seamline.models.arrays import Canvases, Floats, Outputs
from seamline.models.engines.engine import Engine, copied
from seamline.models.engines.opening import NO_MODEL
from seamline.models.engines.openvino import rt_info
from seamline.models.model_facts import ModelFacts, facts_to_metadata, metadata_to_facts
from seamline.models.weights import opened_as_data
from seamline.models.yolo import canvases_to_tensor, image_to_canvas

Item = TypeVar("Item")
T = TypeVar("T")

# How much is quantised on each rung: all but what joins and decodes the outputs; not the head, which finds boxes and
# masks; what NNCF finds can be without harm, layer by layer. The first rung that keeps average precision is taken.
RUNGS = ("full", "head in f32", "accuracy control")
DETECTED_SCORE = 0.25  # above it a detection is one
MATCHED_IOU = 0.95
PREPROCESSING = "fitted into imgsz x imgsz, centred on grey 114, bilinear; RGB, 0 to 1, NCHW"
OUTPUTS = ("output0", "output1")  # ultralytics' names: predictions, mask prototypes


def model_paths(weights: Path, exported: Path) -> dict[str, Path]:
    """Each format's model, as seamline.runtime opens it."""
    return {
        "pytorch": weights,
        "onnx": exported / "onnx" / "model.onnx",
        "openvino": exported / "openvino",
        "openvino_f16": exported / "openvino_f16",
        "openvino_int8": exported / "openvino_int8",
    }


def models_made(weights: Path, exported: Path) -> dict[str, Path]:
    """Each format's model, INT8 left out where its gate refused it."""
    paths = model_paths(weights, exported)
    return {name: path for name, path in paths.items() if not (path / NO_MODEL).is_file()}


def timed_models(weights: Path, exported: Path) -> dict[str, Path]:
    """Those that the benchmark times: f16 weights are only stored so, and computed with as f32 ones are."""
    return {name: path for name, path in models_made(weights, exported).items() if name != "openvino_f16"}


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


def model_metadata(facts: ModelFacts, training: Mapping[str, str], weights_sha256: str) -> dict[str, str]:
    """What a model file says about itself; the runtime needs the facts, the rest is for people.

    Args:
        training: training_revision and data_sha256, as the train stage wrote them beside the weights; {} where there
            is nothing.
    """
    return {
        **facts_to_metadata(facts),
        "preprocessing": PREPROCESSING,
        "weights_sha256": weights_sha256,
        **{key: training.get(key, "unknown") for key in ("training_revision", "data_sha256")},
    }


def weights_to_onnx(weights: Path, out: Path, opset: int, metadata: Mapping[str, str]) -> None:
    """Export best.pt as an f32 ONNX file, any batch x 3 x imgsz x imgsz, with this metadata and no other.

    Works on a copy in a temporary folder beside `out`, since ultralytics writes the ONNX file beside the weights.
    """
    import onnx
    from ultralytics import YOLO

    with tempfile.TemporaryDirectory(dir=out.parent) as scratch, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer's remarks on ultralytics' own code
        copied = Path(scratch) / "model.pt"
        shutil.copyfile(weights, copied)
        settings = {"imgsz": int(metadata["imgsz"]), "opset": opset, "simplify": False, "device": "cpu"}
        with opened_as_data(weights), only_batch_dynamic():
            model = onnx.load(YOLO(str(copied), task="segment").export(format="onnx", **settings))
    del model.metadata_props[:]  # ultralytics' hold the date
    for key, value in sorted({**metadata, "precision": "f32"}.items()):
        model.metadata_props.add(key=key, value=value)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(out))


@contextlib.contextmanager
def only_batch_dynamic() -> Iterator[None]:
    """Have torch's exporter leave the first axis of all inputs and outputs open.

    ultralytics knows all axes open, which makes it compute the grid of anchors for every image anew, or none.
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


def onnx_to_openvino(onnx_file: Path, out: Path, metadata: Mapping[str, str], precision: str) -> None:
    """Convert an ONNX file to an OpenVINO folder (model.xml, model.bin), one image a batch.

    Args:
        precision: f32, or f16 for weights that are stored so; both compute in what the runtime asks for.
    """
    import openvino

    model = openvino.convert_model(onnx_file)
    model.reshape([1, *list(model.input().partial_shape)[1:]])  # static, yet another batch can be given to it
    save_openvino(model, out, {**metadata, "precision": precision}, compress_to_fp16=precision == "f16")


def save_openvino(model: Any, out: Path, metadata: dict[str, str], compress_to_fp16: bool = False) -> None:
    """Write model.xml and model.bin, the same bytes for the same model."""
    import openvino

    # Nodes without a name get one from a counter of the process, which also counts what its threads make. Ours says
    # which operation of the ONNX file they are a part of, as a head's transposed convolution is.
    for index, node in enumerate(model.get_ordered_ops()):
        if re.fullmatch(r"[A-Za-z]+_\d+", node.get_friendly_name()):
            users = [user.get_node().get_friendly_name() for user in node.output(0).get_target_inputs()]
            whole = min((f"{user}/" for user in users if user.startswith("/")), default="")
            node.set_friendly_name(f"{whole}{node.get_type_name()}_{index}")
    for key, value in sorted(metadata.items()):
        model.set_rt_info(value, ["seamline", key])
    openvino.save_model(model, out / "model.xml", compress_to_fp16=compress_to_fp16)


def ignored_operations(names: Sequence[str], rung: str) -> list[str]:
    """Which operations of the converted model the quantiser has to leave in f32.

    On every rung what joins and decodes the head's outputs: one INT8 scale over pixels (0 to imgsz) and scores
    (0 to 1) would round every score to 0. ultralytics' own export leaves out the same.

    Args:
        names: operations as in the ONNX file, such as "/model.22/cv2.0/cv2.0.0/conv/Conv".
        rung: one of RUNGS.
    """
    head = max(int(match[1]) for name in names if (match := re.match(r"/model\.(\d+)/", name)))
    inside = rf"/model\.{head}/" + ("" if rung == "head in f32" else r"([^/]+$|dfl/)")
    return [name for name in names if name in OUTPUTS or re.match(inside, name)]


def quantise(
    f32: Path,
    out: Path,
    calibration: Sequence[Path],
    rung: str,
    max_drop: float,
    validate: Callable[[Engine], float],
    validation: Sequence[Path],
) -> None:
    """Quantise an OpenVINO folder to INT8.

    Args:
        calibration: images that tell the ranges of activations; always all of them, in order.
        rung: one of RUNGS.
        max_drop: for accuracy control: what it may cost.
        validate: for accuracy control: mask mAP50-95 of a model.
        validation: for accuracy control: the images that validate looks at.
    """
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # says that there is no CUDA
    import nncf
    import openvino

    nncf.set_log_level(logging.ERROR)
    model = openvino.Core().read_model(f32 / "model.xml")
    metadata = rt_info(model)
    facts = metadata_to_facts(metadata, f32)
    operations = [
        operation.get_friendly_name()
        for operation in model.get_ordered_ops()
        if operation.get_type_name() not in ("Constant", "Parameter", "Result")
    ]

    def tensor_of(path: Path) -> Floats:
        return canvases_to_tensor(image_to_canvas(read_image(path), facts)[0][None])

    def validation_fn(compiled: Any, items: Iterable[Path]) -> float:
        for _ in items:  # NNCF counts them; the metric is of all images or none
            pass
        return validate(CompiledEngine(compiled, facts))

    images = nncf.Dataset(list(calibration), tensor_of)
    options = {
        "preset": nncf.QuantizationPreset.MIXED,  # asymmetric activations, which SiLU's need
        "subset_size": len(calibration),
        "ignored_scope": nncf.IgnoredScope(names=ignored_operations(operations, rung)),
    }
    with contextlib.redirect_stdout(sys.stderr):  # NNCF's progress
        if rung == "accuracy control":
            quantised = nncf.quantize_with_accuracy_control(
                model,
                images,
                nncf.Dataset(list(validation), tensor_of),
                validation_fn,
                max_drop=max_drop,
                drop_type=nncf.DropType.ABSOLUTE,
                **options,
            )
        else:
            quantised = nncf.quantize(model, images, **options)
    save_openvino(quantised, out, metadata | {"precision": "int8", "int8": rung})


class CompiledEngine:
    """A model that OpenVINO has compiled, as accuracy control hands it over: one image at a time."""

    precision, streams, callers = "int8", 1, 1

    def __init__(self, compiled: Any, facts: ModelFacts) -> None:
        self.compiled, self.facts = compiled, facts

    def infer(self, canvases: Canvases, decode: Callable[[Outputs], T]) -> T:
        outputs = self.compiled([canvases_to_tensor(canvases)])
        return decode((outputs[0], outputs[1]))

    infer_beside = infer


def rungs_until_one_holds(
    quantise_to: Callable[[str], None], measure: Callable[[], tuple[float, str]], reference: float, max_drop: float
) -> list[Record]:
    """Quantise rung by rung until mask mAP50-95 drops by no more than max_drop, or there is no rung left.

    Args:
        quantise_to: makes the model of a rung.
        measure: mask mAP50-95 of the model just made, and the precision it computes in.
        reference: PyTorch's mask mAP50-95.
        max_drop: allowed, as a difference of the two.

    Returns:
        The rungs tried, each with its figures unrounded; why_no_int8 says whether the last one holds.
    """
    rungs: list[Record] = []
    for rung in RUNGS:
        quantise_to(rung)
        average_precision, precision = measure()
        drop = reference - average_precision
        rungs.append({"rung": rung, "val_mask_mAP50_95": average_precision, "drop": drop, "precision": precision})
        if holds(rungs[-1], max_drop):
            break
    return rungs


def holds(rung: Record, max_drop: float) -> bool:
    """Accuracy control may put every layer back, and then nothing is lost and nothing won."""
    return bool(rung["drop"] <= max_drop and rung["precision"] == "int8")


def why_no_int8(rungs: Sequence[Record], max_drop: float) -> str | None:
    """The reason in a sentence where no rung holds; None where the last one does."""
    if holds(rungs[-1], max_drop):
        return None
    costs = ", ".join(
        f"{rung['drop']:.4f} with {rung['rung']}" + ("" if rung["precision"] == "int8" else ", which left nothing INT8")
        for rung in rungs
    )
    return (
        f"INT8 costs more mask mAP50-95 on val than export.int8.max_drop ({max_drop:g}) allows: {costs}; "
        "raise export.int8.max_drop or train longer (train.epochs)."
    )


def check_drift(name: str, drop: float, max_drift: float, matched: float | None, min_matched: float) -> None:
    """Raise SeamlineError when an f32 model does not predict what PyTorch predicts.

    Args:
        drop: of mask mAP50-95 on val.
        matched: see matched_share.
    """
    remedy = "f16 is too coarse for its weights" if name == "openvino_f16" else "try another export.opset"
    if abs(drop) > max_drift:
        raise SeamlineError(
            f"{name}: its mask mAP50-95 on val differs by {abs(drop):.4f} from PyTorch's, more than export.max_drift "
            f"({max_drift:g}); {remedy}, or raise export.max_drift."
        )
    if matched is not None and matched < min_matched:
        raise SeamlineError(
            f"{name}: finds only {matched:.2%} of what PyTorch finds on val (score above {DETECTED_SCORE}, masks of "
            f"IoU {MATCHED_IOU}), less than export.min_matched ({min_matched:g}); {remedy} or a lower one of these."
        )


def matched_share(found: Sequence[Record], reference: Sequence[Record]) -> float | None:
    """Which share of the reference's detections above DETECTED_SCORE is found again; None where it has none.

    Found again is a detection of the same class in the same image, of any score, whose mask has an IoU of MATCHED_IOU
    or more with the reference's; each counts once. Masks without a pixel are left out. Both are COCO results.
    """
    wanted = [
        record
        for record in reference
        if record["score"] > DETECTED_SCORE and coco_mask.area(record["segmentation"]) > 0
    ]
    candidates: dict[tuple[int, int], list[Record]] = defaultdict(list)
    for record in found:
        candidates[record["image_id"], record["category_id"]].append(record["segmentation"])
    matched = 0
    for record in sorted(wanted, key=lambda record: -float(record["score"])):
        masks = candidates[record["image_id"], record["category_id"]]
        ious = coco_mask.iou([record["segmentation"]], masks, [0] * len(masks)) if masks else np.zeros((1, 1))
        if ious.max() >= MATCHED_IOU:
            del masks[int(ious.argmax())]
            matched += 1
    return matched / len(wanted) if wanted else None


def raw_outputs(engine: Engine, images: list[Path]) -> list[Outputs]:
    """Of the same canvas whoever computes."""
    found = []
    for image in images:
        canvas, _ = image_to_canvas(read_image(image), engine.facts)
        found.append(engine.infer(canvas[None], copied))
    return found


def largest_differences(outputs: list[Outputs], reference: list[Outputs], class_count: int) -> dict[str, float]:
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
