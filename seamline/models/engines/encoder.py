"""Encoders: models that make arrays of float tensors, such as embeddings or attributes of garments; without torch.

Items are computed one by one, several at once where there are cores: each has the same bits alone, beside others and in
any batch, and shapes stay static, since INT8 models of dynamic ones have crashed on AMX processors. Batches were no
quicker on CPUs.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from seamline.base.errors import SeamlineError
from seamline.models.engines.onnx import open_session, session_precision
from seamline.models.engines.opening import is_openvino, model_at, opening_errors
from seamline.models.engines.openvino import compiled_precision, import_openvino, requests_of, rt_info
from seamline.models.forks import keep_in_forks

STREAMS = 4  # of OpenVINO, at most; a photo has a few garments, and one alone is to use the cores too
LAYERS = ("Convolution", "FullyConnected", "MatMul", "Gemm")
PRECISIONS = ("f32", "bf16")
Tensor = npt.NDArray[Any]
Arrays = tuple[Tensor, ...]


class Encoder(Protocol):
    """run() may be called from any number of threads, in the process that opened it and not in its forks."""

    metadata: Mapping[str, str]  # what the file says of itself
    input_shape: tuple[int, ...]  # of one item

    @property
    def precision(self) -> str:
        """What it computes in, as read back from it: f32, bf16, int8."""

    def run(self, tensor: Tensor) -> Arrays:
        """The outputs for n items, each (n, ...), the caller's own.

        Args:
            tensor: (n, *input_shape), of the type that the model's input has.
        """


class OnnxEncoder:
    def __init__(self, path: Path, threads: int) -> None:
        keep_in_forks(self)
        self.session = open_session(path, threads)
        self.metadata: Mapping[str, str] = self.session.get_modelmeta().custom_metadata_map
        [given] = self.session.get_inputs()
        self.input, self.input_shape = str(given.name), static_shape(given.shape[1:], path)
        self.output_shapes = [tuple(output.shape[1:]) for output in self.session.get_outputs()]
        self.precision = session_precision(self.session) if "float" in given.type else "f32"
        self.one_at_a_time = threading.Lock()

    def run(self, tensor: Tensor) -> Arrays:
        with self.one_at_a_time:  # on all threads
            made = [self.session.run(None, {self.input: item[None]}) for item in tensor]
        return joined(made, self.output_shapes)


class OpenVinoEncoder:
    def __init__(self, path: Path, threads: int, precision: str) -> None:
        openvino = import_openvino()
        keep_in_forks(self)
        core = openvino.Core()
        model = core.read_model(path)
        self.metadata: Mapping[str, str] = rt_info(model)
        shape = model.input().partial_shape
        self.input_shape = static_shape([one.get_length() if one.is_static else None for one in list(shape)[1:]], path)
        model.reshape([1, *self.input_shape])
        self.compiled = core.compile_model(
            model,
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": precision,
                "INFERENCE_NUM_THREADS": threads,
                "NUM_STREAMS": min(threads, STREAMS),
            },
        )
        self.output_shapes = [tuple(output.shape)[1:] for output in self.compiled.outputs]
        self.streams = min(threads, STREAMS)
        self.requests = requests_of(self.compiled, self.streams)

    @property
    def precision(self) -> str:
        return compiled_precision(self.compiled, LAYERS)

    def run(self, tensor: Tensor) -> Arrays:
        made: list[list[Tensor]] = []
        while len(made) < len(tensor):
            made += self._next(tensor[len(made) :])
        return joined(made, self.output_shapes)

    def _next(self, tensor: Tensor) -> list[list[Tensor]]:
        """The outputs for the first items, as many as there are free requests for; at least one is waited for."""
        held = [self.requests.get()]
        begun: list[Any] = []
        try:
            with contextlib.suppress(queue.Empty):
                while len(held) < len(tensor):
                    held.append(self.requests.get_nowait())
            for request, item in zip(held, tensor, strict=False):
                # Not infer(), for which OpenVINO makes threads of each caller's own.
                request.start_async([np.ascontiguousarray(item[None])], share_inputs=True)
                begun.append(request)
            for request in begun:
                request.wait()
            return [[output.data.copy() for output in request.output_tensors] for request in begun]
        finally:
            for request in held:
                self.requests.put(request)


def open_encoder(path: Path, threads: int, precision: str = "f32") -> Encoder:
    """The encoder in an ONNX file (or a folder with model.onnx) or in an OpenVINO folder or its .xml file.

    Args:
        threads: that it computes on, in all.
        precision: f32, or bf16 on OpenVINO where the processor has it; INT8 models are INT8 where they were quantised
            and this elsewhere.

    Raises:
        SeamlineError: when there is no such model, or it cannot be read or not be run like this.
    """
    path = model_at(path)
    file = path / "model.xml" if is_openvino(path) else path
    if precision not in PRECISIONS or (file.suffix == ".onnx" and precision != "f32"):
        raise SeamlineError(
            f"{path}: cannot be run in {precision!r}; f32 is for all encoders, bf16 for those of OpenVINO."
        )
    with opening_errors(path):
        if file.suffix == ".xml":
            return OpenVinoEncoder(file, threads, precision)
        if file.suffix == ".onnx":
            return OnnxEncoder(file, threads)
    raise SeamlineError(
        f"{path}: is not a model that can be opened here; it has to be an .onnx file, or a folder with model.onnx or "
        "model.xml."
    )


def check_square(encoder: Encoder, imgsz: int, path: Path) -> None:
    """Raises SeamlineError where a model does not take the RGB squares that it says it takes."""
    if encoder.input_shape != (3, imgsz, imgsz):
        raise SeamlineError(
            f"{path}: says that it takes {imgsz} px a side, and takes {encoder.input_shape}; dvc repro makes it."
        )


def static_shape(shape: Any, path: Path) -> tuple[int, ...]:
    """Raises SeamlineError where a side is not a number."""
    if not all(isinstance(side, int) for side in shape):
        raise SeamlineError(f"{path}: takes items of any size ({list(shape)}); an encoder's have one size.")
    return tuple(shape)


def joined(made: list[list[Tensor]], shapes: list[tuple[int, ...]]) -> Arrays:
    """One array an output, of items' own, each (1, ...); of no items they are empty."""
    if not made:
        return tuple(np.zeros((0, *shape), np.float32) for shape in shapes)
    return tuple(np.concatenate(outputs) for outputs in zip(*made, strict=True))
