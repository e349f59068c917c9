"""ONNX Runtime: an ONNX file on its CPU or CUDA provider."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from seamline.base.errors import SeamlineError
from seamline.models.arrays import Canvases, Outputs
from seamline.models.families import family_of
from seamline.models.forks import keep_in_forks
from seamline.models.model_facts import metadata_to_facts

T = TypeVar("T")
CUDA_PROVIDER = "CUDAExecutionProvider"
PRECISIONS = {"tensor(float)": "f32", "tensor(float16)": "f16"}  # the provider computes in what the file has


def import_onnxruntime() -> Any:
    """onnxruntime, kept from reporting to its maker what it runs on what, as it does by itself from 1.29 on."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # read when it is imported; nothing is made or sent then
    import onnxruntime

    onnxruntime.disable_telemetry_events()  # where it was imported before
    return onnxruntime


class OnnxEngine:
    def __init__(self, path: Path, threads: int, streams: int | None, device: str = "cpu") -> None:
        keep_in_forks(self)
        self.path, self.threads, self.device = path, threads, device
        self.streams = 1 if device == "cuda" else min(streams or threads, threads)
        self.callers = self.streams + max(threads // 2, 1)
        self.free_streams = threading.Semaphore(self.streams)
        self.one_at_a_time = threading.Lock()
        self.session = self._session(threads)
        self.facts = metadata_to_facts(self.session.get_modelmeta().custom_metadata_map, path)
        self.family = family_of(self.facts.family, path)
        given = self.session.get_inputs()[0]
        self.input, self.precision = given.name, PRECISIONS.get(given.type, given.type)

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
        return self.session if self.streams == 1 else self._session(self.threads // self.streams)

    def _infer(self, session: Any, canvases: Canvases) -> Outputs:
        return tuple(session.run(None, {self.input: self.family.canvases_to_tensor(canvases)}))

    def _session(self, threads: int) -> Any:
        onnxruntime = import_onnxruntime()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.force_spinning_stop", "1")  # spin while it runs, not after
        wanted: list[Any] = ["CPUExecutionProvider"]
        if self.device == "cuda":
            wanted.insert(0, (CUDA_PROVIDER, {"use_tf32": 0}))  # f32 is f32
            if CUDA_PROVIDER not in onnxruntime.get_available_providers():
                raise SeamlineError(
                    f"{self.path}: device cuda was asked for, and onnxruntime {onnxruntime.__version__} is built "
                    "without it; install onnxruntime-gpu in its place."
                )
        session = onnxruntime.InferenceSession(str(self.path), options, providers=wanted)
        if (session.get_providers()[0] == CUDA_PROVIDER) != (self.device == "cuda"):
            raise SeamlineError(
                f"{self.path}: onnxruntime runs it on {session.get_providers()[0]} and not on {self.device}; it may "
                "not find the libraries (CUDA, cuDNN) that it was built for."
            )
        return session
