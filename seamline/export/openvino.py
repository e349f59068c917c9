"""OpenVINO folders: converted from ONNX and written, the same bytes for the same model."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

LAYERS = ("Convolution", "GroupConvolution", "ConvolutionBackpropData", "MatMul")  # whose weights are most of a file


def onnx_to_openvino(onnx_file: Path, out: Path, metadata: Mapping[str, str], precision: str) -> None:
    """Convert an ONNX file to an OpenVINO folder (model.xml, model.bin), one image a batch.

    Args:
        precision: f32, or f16 for weights that are stored so; with both the engine computes in what it is asked for.
    """
    import openvino

    model = openvino.convert_model(onnx_file)
    model.reshape([1, *list(model.input().partial_shape)[1:]])  # static, yet another batch can be given to it
    if precision == "f16":
        layers_to_f16(model)
    save_openvino(model, out, {**metadata, "precision": precision})


def layers_to_f16(model: Any) -> None:
    """Store the weights of a model's layers as f16, in place.

    OpenVINO's own compression rounds every constant. Places in the input, such as an R-CNN's anchors, would be off by a
    sixteenth of a pixel at 160 px, and by more at larger sizes.
    """
    import openvino
    from openvino import opset13

    for node in model.get_ordered_ops():
        if node.get_type_name() != "Constant" or node.get_element_type() != openvino.Type.f32:
            continue
        users = list(node.output(0).get_target_inputs())
        if users and all(user.get_node().get_type_name() in LAYERS for user in users):
            half = opset13.constant(node.data.astype(np.float16), name=f"{node.get_friendly_name()}/f16")
            full = opset13.convert(half, "f32", name=node.get_friendly_name())
            for user in users:
                user.replace_source_output(full.output(0))


def save_openvino(model: Any, out: Path, metadata: Mapping[str, str], name: str = "model") -> None:
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
    openvino.save_model(model, out / f"{name}.xml", compress_to_fp16=False)


def add_metadata(folder: Path, metadata: Mapping[str, str]) -> None:
    """Write an OpenVINO folder again with more metadata; its weights stay as they are, byte for byte."""
    import openvino

    core = openvino.Core()
    core.set_property({"ENABLE_MMAP": "NO"})  # the file that it would read from is replaced
    model = core.read_model(folder / "model.xml")
    save_openvino(model, folder, metadata)
