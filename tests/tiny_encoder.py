"""A tiny model that makes vectors of tensors, as ONNX and OpenVINO, put together without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from msgspec import structs

IMGSZ, DIMENSION = 24, 6
WORDS, LENGTH = 11, 5


def image_model(**metadata: str) -> Any:
    """A convolution, the mean of what it finds, and a layer: (n, 3, IMGSZ, IMGSZ) -> (n, DIMENSION)."""
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    weights = {
        "kernel": rng.standard_normal((8, 3, 3, 3)) / 5,
        "bias": rng.standard_normal(8) / 5,
        "layer": rng.standard_normal((8, DIMENSION)),
    }
    nodes = [
        helper.make_node("Conv", ["images", "kernel", "bias"], ["found"], name="conv", strides=[2, 2]),
        helper.make_node("Relu", ["found"], ["positive"], name="relu"),
        helper.make_node("GlobalAveragePool", ["positive"], ["mean"], name="mean"),
        helper.make_node("Flatten", ["mean"], ["flat"], name="flat"),
        helper.make_node("MatMul", ["flat", "layer"], ["embedding"], name="layer"),
    ]
    shape, made = [1, 3, IMGSZ, IMGSZ], [1, DIMENSION]
    return model_of(nodes, weights, ("images", TensorProto.FLOAT, shape), made, numpy_helper, metadata)


def text_model(**metadata: str) -> Any:
    """The mean of words' vectors: (n, LENGTH) of int64 -> (n, DIMENSION)."""
    from onnx import TensorProto, helper, numpy_helper

    weights = {"words": np.random.default_rng(0).standard_normal((WORDS, DIMENSION))}
    nodes = [
        helper.make_node("Gather", ["words", "tokens"], ["vectors"], name="words"),
        helper.make_node("ReduceMean", ["vectors"], ["embedding"], name="mean", axes=[1], keepdims=0),
    ]
    return model_of(
        nodes, weights, ("tokens", TensorProto.INT64, [1, LENGTH]), [1, DIMENSION], numpy_helper, metadata, 17
    )


def model_of(
    nodes: list[Any],
    weights: dict[str, Any],
    given: tuple[str, int, list[int]],
    made: list[int],
    numpy_helper: Any,
    metadata: dict[str, str],
    opset: int = 20,
) -> Any:
    from onnx import TensorProto, checker, helper

    tensors = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(*given)],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, made)],
        tensors,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    helper.set_model_props(model, metadata)
    checker.check_model(model, full_check=True)
    return model


def embedder_facts(**changes: Any) -> Any:
    from seamline.models.embedder_facts import EmbedderFacts

    facts = EmbedderFacts(
        name="tiny", revision="1", weights_sha256="0" * 64, licence="MIT", dimension=DIMENSION, imgsz=IMGSZ,
        squaring="squash", interpolation="bicubic", mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4), margin=0.1,
        background="white",
    )  # fmt: skip
    return structs.replace(facts, **changes)


def save_embedder(folder: Path, **changes: Any) -> tuple[Path, Path]:
    """A tiny embedder as an ONNX file and an OpenVINO folder."""
    from seamline.models.embedder_facts import facts_to_metadata

    file, xml = save_encoder(image_model(**facts_to_metadata(embedder_facts(**changes))), folder)
    return file, xml.parent


def save_encoder(model: Any, folder: Path, name: str = "model") -> tuple[Path, Path]:
    """The model as an ONNX file, and as an OpenVINO folder's .xml file."""
    import onnx
    import openvino

    from seamline.export.openvino import save_openvino

    (folder / "onnx").mkdir(parents=True, exist_ok=True)
    (folder / "openvino").mkdir(exist_ok=True)
    file = folder / "onnx" / f"{name}.onnx"
    onnx.save(model, file)
    converted = openvino.convert_model(file)
    metadata = {prop.key: prop.value for prop in model.metadata_props}
    save_openvino(converted, folder / "openvino", metadata, name)
    return file, folder / "openvino" / f"{name}.xml"
