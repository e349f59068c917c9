"""OpenVINO: a folder with model.xml and model.bin on its CPU plugin."""

from __future__ import annotations

import functools
import queue
import threading
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np

from seamline.base.process import without_openvino_telemetry
from seamline.models.arrays import Canvases, Outputs
from seamline.models.engines.compiling import Compiler, read_model, with_canvas_input
from seamline.models.engines.engine import WAITING, in_parts
from seamline.models.families import family_of
from seamline.models.forks import keep_in_forks
from seamline.models.kinds import metadata_to_detector_facts

T = TypeVar("T")
Requests = queue.LifoQueue[Any]  # of OpenVINO's, that are free
importing = threading.Lock()


def import_openvino() -> Any:
    """openvino, kept from reporting to its maker that it was imported."""
    without_openvino_telemetry()
    with importing:
        import openvino

        # Its first array is turned into a tensor here, by one thread: two that did so at once have waited for each
        # other without end, one with Python's lock and the other with that of a table which OpenVINO makes then.
        _ = openvino.Tensor(np.zeros(1, np.uint8), shared_memory=True).data
    return openvino


class Once(Generic[T]):
    """What takes long to make: made by the first who needs it, while others who need it wait."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make, self._lock = make, threading.Lock()
        self.is_made = False

    def get(self) -> T:
        with self._lock:
            if not self.is_made:
                self._made = self._make()
                self.is_made = True
            return self._made


class LayerTime(NamedTuple):
    """A convolution of a model, as the processor computes it."""

    ms: float  # the quickest of several inferences
    kernel: str  # that OpenVINO chose, such as brgconv_avx512_amx_I8
    input_channels: int
    output_channels: int


class OpenVinoEngine:
    """A model of static shapes, in the precision that was asked for.

    Left alone, OpenVINO computes in bf16 where the processor can; beside f32 engines that is not a fair row, so the
    precision is always set. Shapes are static, whatever the file allows: INT8 models of dynamic shape have
    crashed on AMX processors.
    """

    device, readers, tensors = "cpu", 0, None

    def __init__(
        self,
        path: Path,
        threads: int,
        streams: int | None,
        precision: str = "f32",
        batch: int = 1,
        compiled: Path | None = None,
    ) -> None:
        openvino = import_openvino()
        keep_in_forks(self)
        self.core = openvino.Core()
        read = read_model(self.core, path, hashed=compiled is not None)
        self.facts = metadata_to_detector_facts(rt_info(read.model), path)
        self.family = family_of(self.facts.family, path)
        self.model, self.batch = read.model, min(batch, self.family.EXPORTED_BATCH or batch)
        self.wanted = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": threads}
        latency = self.wanted | {"PERFORMANCE_HINT": "LATENCY"}
        throughput: dict[str, Any] = self.wanted | {"PERFORMANCE_HINT": "THROUGHPUT", "ENABLE_CPU_PINNING": True}
        if streams:
            throughput["NUM_STREAMS"] = min(streams, threads)
        # For one image at a time; with two requests, one is computed while the other is decoded.
        compiler = Compiler(self.core, read, self.family, precision, compiled)
        self.alone = Once(functools.partial(compiled_with_requests, compiler, 1, latency, 2))
        self.beside = Once(functools.partial(compiled_with_requests, compiler, self.batch, throughput, None))

    @property
    def precision(self) -> str:
        """Of the kernels that compute the convolutions, whatever the file says."""
        compiled, _ = (self.beside if self.beside.is_made else self.alone).get()
        return compiled_precision(compiled)

    @property
    def streams(self) -> int:
        compiled, _ = self.beside.get()
        return int(compiled.get_property("NUM_STREAMS"))

    @property
    def callers(self) -> int:
        return self.streams + WAITING

    def infer(self, canvases: Canvases, decode: Callable[[Outputs], T]) -> T:
        _, requests = self.alone.get()
        return infer_with(requests, canvases, len(canvases), self.family.EXPORTED_BATCH, decode)

    def infer_beside(self, canvases: Canvases, decode: Callable[[Outputs], T]) -> T:
        _, requests = self.beside.get()
        count = len(canvases)
        if count < self.batch:  # the last ones; the shape is static
            canvases = np.concatenate([canvases, np.zeros((self.batch - count, *canvases.shape[1:]), np.uint8)])
        return infer_with(requests, canvases, count, self.family.EXPORTED_BATCH, decode)

    def layer_times(self, canvases: Canvases, repeats: int) -> dict[str, LayerTime]:
        """Each convolution by its name in the ONNX file, one image at a time on all threads."""
        options = self.wanted | {"PERFORMANCE_HINT": "LATENCY", "PERF_COUNT": True}
        model = with_canvas_input(self.model, self.family, len(canvases))
        request = self.core.compile_model(model, "CPU", options).create_infer_request()
        found: dict[str, list[Any]] = {}
        for _ in range(repeats):
            request.start_async([canvases], share_inputs=True)
            request.wait()
            for layer in request.profiling_info:
                if layer.node_type == "Convolution":
                    found.setdefault(layer.node_name, []).append(layer)
        channels = convolution_channels(self.model)
        times: dict[str, LayerTime] = {}
        for name, layers in found.items():
            quickest = min(layer.cpu_time for layer in layers)
            own = name.removesuffix("/WithoutBiases")
            if own in channels:
                times[own] = LayerTime(1000 * quickest.total_seconds(), layers[0].exec_type, *channels[own])
        return times


def compiled_precision(compiled: Any, layers: Collection[str] = ("Convolution",)) -> str:
    """What a compiled model computes layers of these kinds in, by the kernels that OpenVINO chose."""
    kernels = {
        node.get_rt_info()["primitiveType"].astype(str).rpartition("_")[2].lower()
        for node in compiled.get_runtime_model().get_ops()
        if node.get_rt_info()["layerType"].astype(str) in layers
    }
    return "int8" if kernels & {"u8", "i8"} else "bf16" if "bf16" in kernels else "/".join(sorted(kernels))


def convolution_channels(model: Any) -> dict[str, tuple[int, int]]:
    """Input and output channels of each convolution by its name in the ONNX file."""
    found = {}
    for operation in model.get_ordered_ops():
        if operation.get_type_name() == "Convolution":
            outputs, inputs, *_ = operation.input(1).get_partial_shape()
            name = operation.get_friendly_name().removesuffix("/WithoutBiases")
            found[name] = (inputs.get_length(), outputs.get_length())
    return found


def compiled_with_requests(
    compiler: Compiler, batch: int, options: dict[str, Any], count: int | None
) -> tuple[Any, Requests]:
    """A model compiled for batches of canvases, with that many requests; None: enough that no stream waits."""
    compiled = compiler.compiled(batch, options)
    return compiled, requests_of(compiled, count or int(compiled.get_property("NUM_STREAMS")) + WAITING)


def requests_of(compiled: Any, count: int) -> Requests:
    """Requests to take, use and put back; the one used last is taken first, whose memory is still in the caches."""
    requests: Requests = queue.LifoQueue()
    for _ in range(count):
        requests.put(compiled.create_infer_request())
    return requests


def infer_with(
    requests: Requests, canvases: Canvases, count: int, most: int | None, decode: Callable[[Outputs], T]
) -> T:
    """Wait for a request, and keep it until its outputs, which are its own memory, are decoded.

    Args:
        count: of the canvases; what is behind them fills the batch.
        most: how many the model takes at once; None: any number.
    """
    request = requests.get()

    def compute(some: Canvases) -> Outputs:
        # Not infer(), for which OpenVINO makes threads of each caller's own.
        request.start_async([some], share_inputs=True)
        request.wait()
        return tuple(tensor.data for tensor in request.output_tensors)

    try:
        return decode(tuple(output[:count] for output in in_parts(canvases, most, compute)))
    finally:
        requests.put(request)


def rt_info(model: Any) -> dict[str, str]:
    """What the export stage stored inside an OpenVINO model; {} where it did not make it."""
    if not model.has_rt_info(["seamline"]):
        return {}
    return {key: str(value) for key, value in model.get_rt_info(["seamline"]).value.items()}
