"""ONNX Runtime: sessions on its CPU, CUDA or TensorRT provider, and the engine for CPUs."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from seamline.base.errors import SeamlineError
from seamline.models.arrays import Canvases, Outputs
from seamline.models.engines.engine import in_parts
from seamline.models.families import family_of
from seamline.models.forks import keep_in_forks
from seamline.models.kinds import metadata_to_detector_facts

T = TypeVar("T")
CPU_PROVIDER, CUDA_PROVIDER = "CPUExecutionProvider", "CUDAExecutionProvider"
TENSORRT_PROVIDER = "TensorrtExecutionProvider"
PRECISIONS = {"tensor(float)": "f32", "tensor(float16)": "f16"}  # the provider computes in what the file has


def import_onnxruntime() -> Any:
    """onnxruntime, kept from reporting to its maker what it runs on what, as it does by itself from 1.29 on."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # read when it is imported; nothing is made or sent then
    import onnxruntime

    onnxruntime.disable_telemetry_events()  # where it was imported before
    return onnxruntime


class OnnxEngine:
    device, readers, tensors = "cpu", 0, None

    def __init__(self, path: Path, threads: int, streams: int | None) -> None:
        keep_in_forks(self)
        self.path, self.threads = path, threads
        self.streams = min(streams or threads, threads)
        self.callers = self.streams + max(threads // 2, 1)
        self.free_streams = threading.Semaphore(self.streams)
        self.one_at_a_time = threading.Lock()
        self.session = open_session(path, threads)
        self.facts = metadata_to_detector_facts(self.session.get_modelmeta().custom_metadata_map, path)
        self.family = family_of(self.facts.family, path)
        self.input: str = self.session.get_inputs()[0].name
        self.precision = session_precision(self.session)

    def infer(self, canvases: Canvases, decode: Callable[[Outputs], T]) -> T:
        with self.one_at_a_time:
            outputs = self._infer(self.session, canvases)
        return decode(outputs)

    def infer_beside(self, canvases: Canvases, decode: Callable[[Outputs], T]) -> T:
        with self.one_at_a_time:
            session = self._shared_session  # made by the first who needs it
        with self.free_streams:
            outputs = self._infer(session, canvases)
        return decode(outputs)

    @functools.cached_property
    def _shared_session(self) -> Any:
        return self.session if self.streams == 1 else open_session(self.path, self.threads // self.streams)

    def _infer(self, session: Any, canvases: Canvases) -> Outputs:
        def compute(some: Canvases) -> Outputs:
            return tuple(session.run(None, {self.input: self.family.canvases_to_tensor(some)}))

        return in_parts(canvases, self.family.EXPORTED_BATCH, compute)


def open_session(path: Path, threads: int, device: str = "cpu", precision: str = "f32") -> Any:
    """A session on that device.

    Raises:
        SeamlineError: when this onnxruntime cannot use it, or has fallen back to another.
    """
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.force_spinning_stop", "1")  # spin while it runs, not after
    providers = providers_for(device, precision)
    wanted = providers[0][0]
    if wanted not in onnxruntime.get_available_providers():
        raise SeamlineError(
            f"{path}: device {device} was asked for, and onnxruntime {onnxruntime.__version__} is built "
            f"without {wanted}; install onnxruntime-gpu in its place."
        )
    session = onnxruntime.InferenceSession(str(path), options, providers=providers)
    found = session.get_providers()[0]
    if found != wanted:
        raise SeamlineError(
            f"{path}: onnxruntime runs it on {found} and not on {device}; it may not find the libraries "
            "(CUDA, cuDNN, TensorRT) that it was built for."
        )
    return session


def kind_of_input(session: Any) -> str:
    given = session.get_inputs()[0].type
    return PRECISIONS.get(given, str(given))


def session_precision(session: Any) -> str:
    """That of the file; TensorRT rounds products of f32 to tf32 by itself, and computes in f16 where it may."""
    kind, options = kind_of_input(session), session.get_provider_options().get(TENSORRT_PROVIDER)
    if options is None or kind != "f32":
        return kind
    return "f16" if options["trt_fp16_enable"] in ("1", "True") else "tf32"


def providers_for(device: str, precision: str) -> list[tuple[str, dict[str, int]]]:
    """What onnxruntime may run a model on, the one that was asked for first; what that lacks the next ones run.

    TensorRT builds an engine for each shape of the input, which takes minutes at the first batch.
    """
    kind, _, number = device.partition(":")
    found: list[tuple[str, dict[str, int]]] = [(CPU_PROVIDER, {})]
    if kind != "cpu":
        found.insert(0, (CUDA_PROVIDER, {"device_id": int(number), "use_tf32": 0}))  # f32 is f32
    if kind == "tensorrt":
        found.insert(0, (TENSORRT_PROVIDER, {"device_id": int(number), "trt_fp16_enable": int(precision == "f16")}))
    return found
