"""The three engines: raw outputs of a model for canvases, on a given number of CPU threads, in a precision asked for.

Each is a class with what its model file says of itself (facts), infer() for one batch on all threads, and
infer_beside() for one of several batches at once, each on its share of the threads. Both may be called from any number
of threads. The ONNX and OpenVINO ones import neither torch nor ultralytics.
"""

from __future__ import annotations

import functools
import json
import os
import queue
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from seamline.base.errors import SeamlineError, not_installed
from seamline.base.escaping import has_control_character
from seamline.base.files import mode_of
from seamline.base.process import quiet_ultralytics, without_openvino_telemetry
from seamline.images.reading import canvases_to_tensor
from seamline.models.forks import check_torch_process, keep_in_forks
from seamline.models.weights import load_weights

Floats = npt.NDArray[np.float32]
Canvases = npt.NDArray[np.uint8]  # (batch, imgsz, imgsz, 3), BGR
# Predictions (batch, 4 + classes + coefficients, anchors) and prototypes (batch, coefficients, height, width).
Outputs = tuple[Floats, Floats]
T = TypeVar("T")
NO_MODEL = "no_model.txt"  # in the place of a model that was not made, with the reason
importing = threading.Lock()
PRECISIONS = ("f32", "bf16")
DEVICES = ("cpu", "cuda")
MAX_IMGSZ = 8192
CUDA_PROVIDER = "CUDAExecutionProvider"
ONNX_PRECISIONS = {"tensor(float)": "f32", "tensor(float16)": "f16"}  # the provider computes in what the file has
Requests = queue.LifoQueue[Any]  # of OpenVINO's, that are free
# How long PyTorch's threads spin at a barrier, read when OpenMP loads. Left alone they do so long: an inference of 17
# ms on two idle cores took 2 s where something else used one of them. With 10,000 it is 19 and 113 ms, with 1,000 it is
# 41 and 40.
SPIN_COUNT = "10000"
WAITING = 4  # batches that lie ready, so that no stream waits for Python


class ModelFacts(NamedTuple):
    """What a model file says of itself, so that nothing else is needed to predict with it."""

    names: list[str]
    imgsz: int
    confidence: float = 0.25
    nms_iou: float = 0.7
    max_detections: int = 100


class Engine(Protocol):
    """One batch in, and what decode makes of the outputs: they are the engine's own, and decode may not keep them."""

    facts: ModelFacts

    @property
    def precision(self) -> str:
        """What it computes in, as read back from it: f32, bf16, int8."""

    @property
    def streams(self) -> int:
        """How many batches are computed at once by infer_beside()."""

    @property
    def callers(self) -> int:
        """How many threads have to call infer_beside() for all streams to be at work while others prepare images."""

    def infer(self, canvases: Canvases, decode: Callable[[Outputs], T]) -> T:
        """As soon as can be: on all threads; of several callers one after the other is computed."""

    def infer_beside(self, canvases: Canvases, decode: Callable[[Outputs], T]) -> T:
        """As many batches a second as can be: on the threads of one stream."""


class TorchEngine:
    """A trained best.pt, its convolutions fused with their normalisations as ultralytics does for inference."""

    def __init__(self, path: Path, threads: int, streams: int | None, device: str = "cpu") -> None:
        os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)
        quiet_ultralytics()
        check_torch_process(path)
        import torch

        if device == "cuda":
            if not torch.cuda.is_available():
                raise SeamlineError(f"{path}: device cuda was asked for, and torch {torch.__version__} sees no GPU.")
            torch.backends.cudnn.allow_tf32 = False  # f32 is f32
        self.device, self.threads = device, threads
        self.one_at_a_time = threading.Lock()
        self.streams = 1 if device == "cuda" else min(streams or threads, threads)
        self.callers = self.streams + max(threads // 2, 1)
        self.free_streams = threading.Semaphore(self.streams)
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

    def infer(self, canvases: Canvases, decode: Callable[[Outputs], T]) -> T:
        with self.one_at_a_time:
            outputs = self._infer(canvases, self.threads)
        return decode(outputs)

    def infer_beside(self, canvases: Canvases, decode: Callable[[Outputs], T]) -> T:
        with self.free_streams:
            outputs = self._infer(canvases, max(self.threads // self.streams, 1))
        return decode(outputs)

    def _infer(self, canvases: Canvases, threads: int) -> Outputs:
        import torch

        with torch.inference_mode(), torch_threads(threads if self.device == "cpu" else None):
            tensor = torch.from_numpy(canvases_to_tensor(canvases)).to(self.device, memory_format=self.layout)
            (predictions, prototypes), *_ = self.model(tensor)
            return predictions.cpu().numpy(), prototypes.cpu().numpy()  # waits for a GPU


@contextmanager
def torch_threads(threads: int | None) -> Iterator[None]:
    """So many threads for what this thread computes; each thread has a number of its own, and gets its own back."""
    import torch

    before = torch.get_num_threads()
    if threads in (None, before):
        yield
        return
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def import_onnxruntime() -> Any:
    """onnxruntime, kept from reporting to its maker what it runs on what, as it does by itself from 1.29 on."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # read when it is imported; nothing is made or sent then
    import onnxruntime

    onnxruntime.disable_telemetry_events()  # where it was imported before
    return onnxruntime


def import_openvino() -> Any:
    """openvino, kept from reporting to its maker that it was imported."""
    without_openvino_telemetry()
    with importing:
        import openvino

        # Its first array is turned into a tensor here, by one thread: two that did so at once have waited for each
        # other without end, one with Python's lock and the other with that of a table which OpenVINO makes then.
        _ = openvino.Tensor(np.zeros(1, np.uint8), shared_memory=True).data
    return openvino


class OnnxEngine:
    """An ONNX file on onnxruntime's CPU or CUDA provider."""

    def __init__(self, path: Path, threads: int, streams: int | None, device: str = "cpu") -> None:
        keep_in_forks(self)
        self.path, self.threads, self.device = path, threads, device
        self.streams = 1 if device == "cuda" else min(streams or threads, threads)
        self.callers = self.streams + max(threads // 2, 1)
        self.free_streams = threading.Semaphore(self.streams)
        self.one_at_a_time = threading.Lock()
        self.session = self._session(threads)
        self.facts = metadata_to_facts(self.session.get_modelmeta().custom_metadata_map, path)
        given = self.session.get_inputs()[0]
        self.input, self.precision = given.name, ONNX_PRECISIONS.get(given.type, given.type)

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
        keep_in_forks(self)
        self.core = openvino.Core()
        model = self.core.read_model(path / "model.xml")
        self.facts = metadata_to_facts(rt_info(model), path)
        self.model, self.batch = model, batch
        self.compiling = threading.Lock()
        self.wanted = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": threads}
        self.many: dict[str, Any] = {"PERFORMANCE_HINT": "THROUGHPUT", "ENABLE_CPU_PINNING": True}
        if streams:
            self.many["NUM_STREAMS"] = min(streams, threads)

    @property
    def precision(self) -> str:
        """Of the kernels that compute the convolutions, whatever the file says."""
        with self.compiling:
            compiled = self._beside[0] if "_beside" in self.__dict__ else self._alone[0]
        kernels = {
            node.get_rt_info()["primitiveType"].astype(str).rpartition("_")[2].lower()
            for node in compiled.get_runtime_model().get_ops()
            if node.get_rt_info()["layerType"].astype(str) == "Convolution"
        }
        return "int8" if kernels & {"u8", "i8"} else "bf16" if "bf16" in kernels else "/".join(sorted(kernels))

    @property
    def streams(self) -> int:
        with self.compiling:
            return int(self._beside[0].get_property("NUM_STREAMS"))

    @property
    def callers(self) -> int:
        return self.streams + WAITING

    def infer(self, canvases: Canvases, decode: Callable[[Outputs], T]) -> T:
        with self.compiling:
            _, requests = self._alone
        return infer_with(requests, canvases, len(canvases), decode)

    def infer_beside(self, canvases: Canvases, decode: Callable[[Outputs], T]) -> T:
        with self.compiling:
            _, requests = self._beside
        count = len(canvases)
        if count < self.batch:  # the last ones; the shape is static
            canvases = np.concatenate([canvases, np.zeros((self.batch - count, *canvases.shape[1:]), np.uint8)])
        return infer_with(requests, canvases, count, decode)

    @functools.cached_property
    def _alone(self) -> tuple[Any, Requests]:
        """Compiled for one image at a time; with two requests, one is computed while the other is decoded."""
        compiled = self.core.compile_model(
            with_canvas_input(self.model, 1), "CPU", self.wanted | {"PERFORMANCE_HINT": "LATENCY"}
        )
        return compiled, requests_of(compiled, 2)

    @functools.cached_property
    def _beside(self) -> tuple[Any, Requests]:
        compiled = self.core.compile_model(with_canvas_input(self.model, self.batch), "CPU", self.wanted | self.many)
        return compiled, requests_of(compiled, int(compiled.get_property("NUM_STREAMS")) + WAITING)


def requests_of(compiled: Any, count: int) -> Requests:
    """Requests to take, use and put back; the one used last is taken first, whose memory is still in the caches."""
    requests: Requests = queue.LifoQueue()
    for _ in range(count):
        requests.put(compiled.create_infer_request())
    return requests


def infer_with(requests: Requests, canvases: Canvases, count: int, decode: Callable[[Outputs], T]) -> T:
    """Wait for a request, and keep it until its outputs, which are its own memory, are decoded."""
    request = requests.get()
    try:
        # Not infer(), for which OpenVINO makes threads of each caller's own.
        request.start_async([canvases], share_inputs=True)
        request.wait()
        predictions, prototypes = (request.get_output_tensor(index).data[:count] for index in (0, 1))
        return decode((predictions, prototypes))
    finally:
        requests.put(request)


def copied(outputs: Outputs) -> Outputs:
    """For infer(): raw outputs that may be kept."""
    predictions, prototypes = outputs
    return predictions.copy(), prototypes.copy()


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
        streams: batches worked on at once by infer_beside(), each on threads / streams of them; None: as many as
            threads, or what OpenVINO thinks best.
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
    engine: Engine
    try:
        if is_openvino:
            engine = OpenVinoEngine(path, threads, streams, precision, batch)
        elif path.suffix == ".onnx":
            engine = OnnxEngine(path, threads, streams, device)
        elif path.suffix == ".pt":
            engine = TorchEngine(path, threads, streams, device)
        else:
            raise SeamlineError(f"{path}: is not a model; a model is a .pt or .onnx file or a folder with model.xml.")
    except SeamlineError:
        raise
    except ModuleNotFoundError as error:
        raise not_installed(str(path), error) from None
    except Exception as error:  # every engine has its own for a damaged file
        reason = " ".join(str(error).split())[:200]
        raise SeamlineError(f"{path}: cannot be opened as a model ({type(error).__name__}: {reason}).") from error
    check_facts(engine.facts, path)
    return engine


def check_facts(facts: ModelFacts, path: Path) -> None:
    """Raise SeamlineError where a model file says of itself what a terminal would obey, or no memory could hold."""
    for name in facts.names:
        if has_control_character(name):
            raise SeamlineError(f"{path}: the class {name!r} has a control character in its name; rename it.")
    if not 0 < facts.imgsz <= MAX_IMGSZ:
        raise SeamlineError(f"{path}: says that its input has {facts.imgsz} px a side; it has to be 1 to {MAX_IMGSZ}.")
