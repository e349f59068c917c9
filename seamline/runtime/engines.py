"""The three engines: raw outputs of a model for canvases, on a given number of CPU threads, in a precision asked for.

Each is a class with what its model file says of itself (facts), infer() for one batch on all threads, and submit()
for many batches at once, each on its share of the threads. The ONNX and OpenVINO ones import neither torch nor
ultralytics.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import json
import os
import weakref
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from seamline.errors import SeamlineError, not_installed
from seamline.files import mode_of
from seamline.runtime.images import canvases_to_tensor
from seamline.stage import quiet_ultralytics, without_openvino_telemetry
from seamline.weights import load_weights

Floats = npt.NDArray[np.float32]
Canvases = npt.NDArray[np.uint8]  # (batch, imgsz, imgsz, 3), BGR
# Predictions (batch, 4 + classes + coefficients, anchors) and prototypes (batch, coefficients, height, width).
Outputs = tuple[Floats, Floats]
T = TypeVar("T")
NO_MODEL = "no_model.txt"  # in the place of a model that was not made, with the reason
PRECISIONS = ("f32", "bf16")
DEVICES = ("cpu", "cuda")
CUDA_PROVIDER = "CUDAExecutionProvider"
ONNX_PRECISIONS = {"tensor(float)": "f32", "tensor(float16)": "f16"}  # the provider computes in what the file has
FAILED_AFTER_S = 10  # without a result it is worth asking whether an inference failed
WAITING = 4  # batches that lie ready, so that no stream waits for Python


class ModelFacts(NamedTuple):
    """What a model file says of itself, so that nothing else is needed to predict with it."""

    names: list[str]
    imgsz: int
    confidence: float = 0.25
    nms_iou: float = 0.7
    max_detections: int = 100


class Engine(Protocol):
    facts: ModelFacts

    @property
    def precision(self) -> str:
        """What it computes in, as read back from it: f32, bf16, int8."""

    @property
    def streams(self) -> int:
        """How many batches submit() works on at once."""

    def infer(self, canvases: Canvases) -> Outputs: ...

    def submit(self, canvases: Canvases, decode: Callable[[Outputs], T]) -> Future[T]:
        """Infer and decode in another thread. The outputs are the engine's own: decode may not keep them."""

    def wait(self, submitted: Future[T]) -> T:
        """What was submitted, or the error it ended with."""


class TorchEngine:
    """A trained best.pt, its convolutions fused with their normalisations as ultralytics does for inference."""

    def __init__(self, path: Path, threads: int, streams: int | None, device: str = "cpu") -> None:
        # Read when OpenMP loads. Left alone, its threads spin long at every barrier: where something else used a
        # core, an inference of 20 ms took 2 s, and so 50 ms. Without any spinning it took 42 ms on idle cores.
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")
        quiet_ultralytics()
        import torch

        if device == "cuda":
            if not torch.cuda.is_available():
                raise SeamlineError(f"{path}: device cuda was asked for, and torch {torch.__version__} sees no GPU.")
            torch.backends.cudnn.allow_tf32 = False  # f32 is f32
        self.device, self.threads = device, threads
        self.streams = 1 if device == "cuda" else min(streams or threads, threads)
        model, checkpoint = load_weights(path, device, fuse=True)
        if "Segment" not in type(model.model[-1]).__name__:
            raise SeamlineError(f"{path}: is a model of the task {model.task!r}; it has to be one of segmentation.")
        # On a CPU convolutions take 0.7 to 0.9 of the time where the channels lie together.
        self.layout = torch.channels_last if device == "cpu" else torch.contiguous_format
        self.model = model.float().eval().to(memory_format=self.layout)
        self.facts = ModelFacts(
            [str(name) for _, name in sorted(model.names.items())], int(checkpoint["train_args"]["imgsz"])
        )
        kinds = {parameter.dtype for parameter in self.model.parameters()}
        self.precision = "f32" if kinds == {torch.float32} else "/".join(sorted(map(str, kinds)))

    def infer(self, canvases: Canvases) -> Outputs:
        return self._infer(canvases, self.threads)

    def submit(self, canvases: Canvases, decode: Callable[[Outputs], T]) -> Future[T]:
        return self._workers.submit(lambda: decode(self._infer(canvases, self.threads // self.streams)))

    def wait(self, submitted: Future[T]) -> T:
        return submitted.result()

    @functools.cached_property
    def _workers(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self.streams, thread_name_prefix="torch")

    def _infer(self, canvases: Canvases, threads: int) -> Outputs:
        import torch

        if self.device == "cpu" and torch.get_num_threads() != threads:
            torch.set_num_threads(threads)  # of this thread; each has a number of its own
        with torch.inference_mode():
            tensor = torch.from_numpy(canvases_to_tensor(canvases)).to(self.device, memory_format=self.layout)
            (predictions, prototypes), *_ = self.model(tensor)
            return predictions.cpu().numpy(), prototypes.cpu().numpy()  # waits for a GPU


def import_onnxruntime() -> Any:
    """onnxruntime, kept from reporting to its maker what it runs on what, as it does by itself from 1.29 on."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # read when it is imported; nothing is made or sent then
    import onnxruntime

    onnxruntime.disable_telemetry_events()  # where it was imported before
    return onnxruntime


def import_openvino() -> Any:
    """openvino, kept from reporting to its maker that it was imported."""
    without_openvino_telemetry()
    import openvino

    return openvino


class OnnxEngine:
    """An ONNX file on onnxruntime's CPU or CUDA provider."""

    def __init__(self, path: Path, threads: int, streams: int | None, device: str = "cpu") -> None:
        self.path, self.threads, self.device = path, threads, device
        self.streams = 1 if device == "cuda" else min(streams or threads, threads)
        self.session = self._session(threads)
        self.facts = metadata_to_facts(self.session.get_modelmeta().custom_metadata_map, path)
        given = self.session.get_inputs()[0]
        self.input, self.precision = given.name, ONNX_PRECISIONS.get(given.type, given.type)

    def infer(self, canvases: Canvases) -> Outputs:
        return self._infer(self.session, canvases)

    def submit(self, canvases: Canvases, decode: Callable[[Outputs], T]) -> Future[T]:
        session = self._shared_session  # made here, and not by all workers at once
        return self._workers.submit(lambda: decode(self._infer(session, canvases)))

    def wait(self, submitted: Future[T]) -> T:
        return submitted.result()

    @functools.cached_property
    def _workers(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self.streams, thread_name_prefix="onnx")

    @functools.cached_property
    def _shared_session(self) -> Any:
        return self.session if self.streams == 1 else self._session(self.threads // self.streams)

    def _infer(self, session: Any, canvases: Canvases) -> Outputs:
        predictions, prototypes = session.run(None, {self.input: canvases_to_tensor(canvases)})
        return predictions, prototypes

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


class OpenVinoEngine:
    """An OpenVINO folder (model.xml, model.bin) on its CPU plugin.

    Left alone, OpenVINO computes in bf16 where the processor can; beside f32 engines that is no fair row, so the
    precision is always asked for. Shapes are static, whatever the file allows: INT8 models of dynamic shape have
    crashed on AMX processors.
    """

    def __init__(self, path: Path, threads: int, streams: int | None, precision: str = "f32", batch: int = 1) -> None:
        openvino = import_openvino()
        self.core = openvino.Core()
        model = self.core.read_model(path / "model.xml")
        self.facts = metadata_to_facts(rt_info(model), path)
        self.model, self.batch = model, batch
        self.wanted = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": threads}
        self.many: dict[str, Any] = {"PERFORMANCE_HINT": "THROUGHPUT", "ENABLE_CPU_PINNING": True}
        if streams:
            self.many["NUM_STREAMS"] = min(streams, threads)

    @property
    def precision(self) -> str:
        """Of the kernels that compute the convolutions, whatever the file says."""
        compiled = self._queue_compiled if "_queue_compiled" in self.__dict__ else self._compiled
        kernels = {
            node.get_rt_info()["primitiveType"].astype(str).rpartition("_")[2].lower()
            for node in compiled.get_runtime_model().get_ops()
            if node.get_rt_info()["layerType"].astype(str) == "Convolution"
        }
        return "int8" if kernels & {"u8", "i8"} else "bf16" if "bf16" in kernels else "/".join(sorted(kernels))

    @property
    def streams(self) -> int:
        return int(self._queue_compiled.get_property("NUM_STREAMS"))

    def infer(self, canvases: Canvases) -> Outputs:
        outputs = self._request.infer([canvases], share_inputs=True, share_outputs=True)
        return outputs[0], outputs[1]

    def submit(self, canvases: Canvases, decode: Callable[[Outputs], T]) -> Future[T]:
        future: Future[T] = Future()
        count = len(canvases)
        if count < self.batch:  # the last ones; the shape is static
            canvases = np.concatenate([canvases, np.zeros((self.batch - count, *canvases.shape[1:]), np.uint8)])
        self._queue.start_async([canvases], [future, decode, canvases, count], share_inputs=True)
        return future

    def wait(self, submitted: Future[T]) -> T:
        """OpenVINO calls nobody back where an inference fails, and says so only when all are waited for."""
        done, _ = concurrent.futures.wait([submitted], timeout=FAILED_AFTER_S)
        if not done:
            self._queue.wait_all()
        return submitted.result()

    @functools.cached_property
    def _compiled(self) -> Any:
        return self.core.compile_model(
            with_canvas_input(self.model, 1), "CPU", self.wanted | {"PERFORMANCE_HINT": "LATENCY"}
        )

    @functools.cached_property
    def _request(self) -> Any:
        return self._compiled.create_infer_request()

    @functools.cached_property
    def _queue_compiled(self) -> Any:
        return self.core.compile_model(with_canvas_input(self.model, self.batch), "CPU", self.wanted | self.many)

    @functools.cached_property
    def _queue(self) -> Any:
        import openvino

        queue = openvino.AsyncInferQueue(self._queue_compiled, self.streams + WAITING)
        queue.set_callback(finish)
        # A callback that is still at work when the engine or Python itself goes takes the process down with it.
        weakref.finalize(self, let_end, queue)
        return queue


def rt_info(model: Any) -> dict[str, str]:
    """What the export stage stored inside an OpenVINO model; {} where it did not make it."""
    if not model.has_rt_info(["seamline"]):
        return {}
    return {key: str(value) for key, value in model.get_rt_info(["seamline"]).value.items()}


def with_canvas_input(model: Any, batch: int) -> Any:
    """The model with canvases for its input, batch of them, so that the engine itself makes tensors of them."""
    import openvino
    from openvino.preprocess import ColorFormat, PrePostProcessor

    model = model.clone()
    model.reshape([batch, *list(model.input().partial_shape)[1:]])
    processor = PrePostProcessor(model)
    tensor = processor.input().tensor()
    tensor.set_element_type(openvino.Type.u8).set_layout(openvino.Layout("NHWC")).set_color_format(ColorFormat.BGR)
    processor.input().model().set_layout(openvino.Layout("NCHW"))
    steps = processor.input().preprocess()
    steps.convert_element_type(openvino.Type.f32).convert_color(ColorFormat.RGB).scale(255.0)
    return processor.build()


def let_end(queue: Any) -> None:
    with contextlib.suppress(RuntimeError):  # of an inference that failed, and was told of by wait()
        queue.wait_all()


def finish(request: Any, job: list[Any]) -> None:
    """OpenVINO's callback: the outputs belong to the request, which is used again after this."""
    future, decode, _, count = job
    job.clear()  # the request keeps it until its next one, and with it the detector, which would never go
    try:
        predictions, prototypes = (request.get_output_tensor(index).data[:count] for index in (0, 1))
        future.set_result(decode((predictions, prototypes)))
    except BaseException as error:  # to be raised where the result is asked for
        future.set_exception(error)


def metadata_to_facts(metadata: Mapping[str, str], path: Path) -> ModelFacts:
    """What the export stage stored inside a model.

    Raises:
        SeamlineError: when it is not there, as in models that were exported by something else.
    """
    try:
        return ModelFacts(
            [str(name) for name in json.loads(metadata["names"])],
            int(metadata["imgsz"]),
            float(metadata["confidence"]),
            float(metadata["nms_iou"]),
            int(metadata["max_detections"]),
        )
    except (KeyError, ValueError, TypeError):
        raise SeamlineError(
            f"{path}: has no Seamline metadata ({', '.join(ModelFacts._fields)}); the export stage writes it."
        ) from None


def open_engine(
    path: Path,
    threads: int,
    streams: int | None = None,
    batch: int = 1,
    precision: str = "f32",
    device: str = "cpu",
) -> Engine:
    """The engine that a model's path asks for: *.pt, *.onnx, or a folder with model.xml.

    Args:
        threads: CPU threads that the model runs on, in all; detect_all decodes images in half as many beside
            them.
        streams: batches worked on at once by submit(), each on threads / streams of them; None: as many as threads,
            or what OpenVINO thinks best.
        batch: images in each of them.
        precision: f32 or, on OpenVINO, bf16; INT8 models are INT8 where they were quantised and this elsewhere.
        device: cpu or, for PyTorch and ONNX, cuda.

    Raises:
        SeamlineError: when there is no such model, or it cannot be read or not be run like this.
    """
    try:
        there = mode_of(path)
    except OSError as error:
        raise SeamlineError(f"{path}: cannot be opened as a model ({error.strerror}).") from None
    if not there:
        raise SeamlineError(f"{path}: there is no such model; dvc repro makes it.")
    if (path / NO_MODEL).is_file():
        raise SeamlineError(f"{path}: there is no model; {(path / NO_MODEL).read_text(encoding='utf-8').strip()}")
    if precision not in PRECISIONS or device not in DEVICES:
        raise SeamlineError(
            f"{path}: precision {precision!r} on {device!r} was asked for; a precision is one of "
            f"{', '.join(PRECISIONS)}, a device of {', '.join(DEVICES)}."
        )
    is_openvino = (path / "model.xml").is_file()
    if (precision != "f32" and not is_openvino) or (device != "cpu" and is_openvino):
        raise SeamlineError(f"{path}: bf16 is for OpenVINO models only, and cuda for all others.")
    try:
        if is_openvino:
            return OpenVinoEngine(path, threads, streams, precision, batch)
        if path.suffix == ".onnx":
            return OnnxEngine(path, threads, streams, device)
        if path.suffix == ".pt":
            return TorchEngine(path, threads, streams, device)
    except SeamlineError:
        raise
    except ModuleNotFoundError as error:
        raise not_installed(str(path), error) from None
    except Exception as error:  # every engine has its own for a damaged file
        reason = " ".join(str(error).split())[:200]
        raise SeamlineError(f"{path}: cannot be opened as a model ({type(error).__name__}: {reason}).") from error
    raise SeamlineError(f"{path}: is no model; a model is a .pt or .onnx file or a folder with model.xml.")
