"""A GPU: weights or an ONNX file there, and everything between a canvas and a detection computed beside them.

The same code computes on a CPU (device="cpu"), which is how it is tested; the engines for CPUs are in modules of their
own.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np

from seamline.base.errors import SeamlineError, counted
from seamline.models import rcnn_tensors, yolo_tensors
from seamline.models.arrays import Canvases, Outputs
from seamline.models.devices import check_gpu
from seamline.models.engines.engine import OutOfDeviceMemory
from seamline.models.engines.onnx import kind_of_input, open_session, session_precision
from seamline.models.engines.pytorch import torch_threads
from seamline.models.families import Family, TensorFamily, family_of
from seamline.models.forks import check_torch_process, keep_in_forks
from seamline.models.kinds import metadata_to_detector_facts
from seamline.models.model_facts import YOLO, ModelFacts
from seamline.models.rcnn import RCNN
from seamline.models.weights import weights_to_family

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

T = TypeVar("T")
# Families whose work before and behind the network is done on the GPU too. Those of others is done by the processor.
TENSOR_FAMILIES: dict[str, TensorFamily] = {YOLO: yolo_tensors, RCNN: rcnn_tensors}
# tf32 is f32 whose products are rounded to 10 binary digits, as cuDNN computes convolutions if nobody forbids it.
DTYPES = {"f32": "float32", "tf32": "float32", "f16": "float16", "bf16": "bfloat16"}  # what torch calls them
NAMES = {"torch.float32": "f32", "torch.float16": "f16", "torch.bfloat16": "bf16"}
BATCHES_AT_ONCE = 2  # while one waits for the processor, as between NMS and masks, the GPU computes another
LARGEST_IN_BF16 = 1024  # px of the input: places of cells beyond need more than bf16's 8 binary digits
setting_tf32 = threading.Lock()


class Network(Protocol):
    """What computes a batch of tensors on the device."""

    @property
    def precision(self) -> str:
        """What it computes in, read back from it."""

    def __call__(self, given: Tensor) -> Sequence[Tensor]:
        """The raw outputs of a model's input, NCHW in f32, computed on the stream that is current."""


class DeviceEngine:
    """A model on a GPU, with a network of PyTorch's or ONNX Runtime's; see weights_on_device and onnx_on_device.

    Canvases go up as bytes from pinned memory, on a stream of their own beside what is being computed.

    Attributes:
        tensors: what makes detections of the outputs where they are; None where they are copied and the family does.
    """

    def __init__(self, network: Network, facts: ModelFacts, family: Family, device: str, threads: int) -> None:
        """threads: that decode images beside it; on a CPU those that compute, too."""
        self.network, self.facts, self.family = network, facts, family
        self.device, self.threads, self.on_gpu = device, threads, device != "cpu"
        self.tensors = TENSOR_FAMILIES.get(facts.family)
        self.streams = BATCHES_AT_ONCE if self.on_gpu else 1
        self.callers, self.readers = self.streams + 1, threads
        self.copying = self._stream()
        self.free: queue.SimpleQueue[torch.cuda.Stream | None] = queue.SimpleQueue()
        for _ in range(self.streams):
            self.free.put(self._stream())

    @property
    def precision(self) -> str:
        return self.network.precision

    def _stream(self) -> torch.cuda.Stream | None:
        import torch

        return torch.cuda.Stream(device=torch_device(self.device)) if self.on_gpu else None  # type: ignore[no-untyped-call]

    def infer(self, canvases: Canvases, decode: Callable[[Outputs], T]) -> T:
        """Raises OutOfDeviceMemory where the batch is too large for what is left of the GPU's memory."""
        import torch

        try:
            return self._infer(canvases, decode)
        except torch.OutOfMemoryError:
            pass  # what the exception holds of the batch is free from here on
        if self.on_gpu:
            torch.cuda.empty_cache()
        images = counted(len(canvases), "image")
        raise OutOfDeviceMemory(
            f"{self.device}: has not enough free memory for {images}; end what else uses it (nvidia-smi shows it), or "
            "take another device."
        )

    infer_beside = infer

    def _infer(self, canvases: Canvases, decode: Callable[[Outputs], T]) -> T:
        import torch

        with torch.inference_mode(), contextlib.nullcontext() if self.on_gpu else torch_threads(self.threads):
            uploaded, there = self._upload(canvases)
            stream = self.free.get()
            try:
                with torch.cuda.stream(stream) if stream else contextlib.nullcontext():
                    return decode(self._outputs(uploaded, stream, there))
            finally:
                self.free.put(stream)

    def _upload(self, canvases: Canvases) -> tuple[Tensor, torch.cuda.Event | None]:
        """The model's input as bytes where the family can take it so, and when it is there."""
        import torch

        host = torch.from_numpy(canvases if self.tensors else self.family.canvases_to_tensor(canvases))
        if self.copying is None:
            return host, None
        with torch.cuda.stream(self.copying):
            return host.pin_memory().to(torch_device(self.device), non_blocking=True), self.copying.record_event()

    def _outputs(self, uploaded: Tensor, stream: torch.cuda.Stream | None, there: torch.cuda.Event | None) -> Outputs:
        if stream and there:
            stream.wait_event(there)
            uploaded.record_stream(stream)
        given = self.tensors.canvases_to_tensor(uploaded) if self.tensors else uploaded
        outputs = self.network(given)
        if stream:
            stream.synchronize()  # so that each time is its own; meanwhile the other batch's work is queued
        return tuple(outputs) if self.tensors else tuple(output.cpu().numpy() for output in outputs)


class TorchNetwork:
    """A torch module."""

    def __init__(self, module: nn.Module, precision: str, layout: torch.memory_format) -> None:
        import torch

        self.module, self.layout = module.eval().to(memory_format=layout), layout
        self.dtype: torch.dtype = getattr(torch, DTYPES[precision])
        self.tf32 = precision == "tf32"

    @property
    def precision(self) -> str:
        """What most of the module's numbers are in."""
        kinds: Counter[str] = Counter()
        for parameter in self.module.parameters():
            kinds[str(parameter.dtype)] += parameter.numel()
        kind = kinds.most_common(1)[0][0]
        name = NAMES.get(kind, kind)
        return "tf32" if self.tf32 and name == "f32" else name

    def __call__(self, given: Tensor) -> Sequence[Tensor]:
        with products_in_tf32(self.tf32):
            return tuple(self.module(given.to(self.dtype, memory_format=self.layout)))


class OnnxNetwork:
    """A session of ONNX Runtime whose input and outputs stay on the device."""

    def __init__(self, session: Any, device: str, most: int | None) -> None:
        """most: images that the file takes at once; None: any number."""
        kind, _, number = torch_device(device).partition(":")
        self.session, self.place, self.most = session, (kind, int(number or 0)), most
        self.input: str = session.get_inputs()[0].name
        self.dtype = {"f16": np.float16}.get(kind_of_input(session), np.float32)

    @property
    def precision(self) -> str:
        return session_precision(self.session)

    def __call__(self, given: Tensor) -> Sequence[Tensor]:
        import torch
        from torch.utils.dlpack import from_dlpack

        if self.most and len(given) > self.most:
            parts = [self(given[start : start + self.most]) for start in range(0, len(given), self.most)]
            return tuple(torch.cat(outputs) for outputs in zip(*parts, strict=True))
        given = given.to(torch.float16 if self.dtype == np.float16 else torch.float32).contiguous()
        if given.is_cuda:
            torch.cuda.current_stream().synchronize()  # the session has a stream of its own
        binding = self.session.io_binding()
        binding.bind_input(self.input, *self.place, self.dtype, tuple(given.shape), given.data_ptr())
        for output in self.session.get_outputs():
            binding.bind_output(output.name, *self.place)
        self.session.run_with_iobinding(binding)
        binding.synchronize_outputs()
        return tuple(from_dlpack(value) for value in binding.get_outputs())


def weights_on_device(
    path: Path, threads: int, device: str, precision: str = "f32", channels_last: bool | None = None
) -> DeviceEngine:
    """A .pt file in f32, tf32, f16 or bf16.

    Args:
        device: cuda:NUMBER, or cpu.
        channels_last: whether the channels of a pixel lie together in memory; None: wherever tensor cores compute, that
            is in all precisions but f32, and on a CPU.

    Raises:
        SeamlineError: when torch cannot use that GPU, or bf16 is too coarse for the model.
    """
    check_torch_process(path)
    import torch

    on_gpu = device != "cpu"
    if on_gpu:
        check_gpu(path, device)
    name = weights_to_family(path)
    family = family_of(name, path)
    module, facts = family.load_module(path, device)
    if precision == "bf16" and facts.imgsz > LARGEST_IN_BF16:
        raise SeamlineError(
            f"{path}: bf16 is too coarse for an input of {facts.imgsz} px; it does up to {LARGEST_IN_BF16}. Take f16."
        )
    dtype = getattr(torch, DTYPES[precision])
    if name in TENSOR_FAMILIES:
        TENSOR_FAMILIES[name].convert_module(module, dtype)
    else:
        module.to(dtype)
    together = channels_last if channels_last is not None else not on_gpu or precision != "f32"
    layout = torch.channels_last if together else torch.contiguous_format
    return DeviceEngine(TorchNetwork(module, precision, layout), facts, family, device, threads)


def onnx_on_device(path: Path, threads: int, device: str, precision: str = "f32") -> DeviceEngine:
    """An ONNX file on cuda:NUMBER, tensorrt:NUMBER or, for tests, cpu.

    Raises:
        SeamlineError: when torch or ONNX Runtime cannot use that GPU.
    """
    check_torch_process(path)
    session = open_session(path, threads, device, precision)
    if device != "cpu":
        check_gpu(path, torch_device(device))
    facts = metadata_to_detector_facts(session.get_modelmeta().custom_metadata_map, path)
    family = family_of(facts.family, path)
    engine = DeviceEngine(OnnxNetwork(session, device, family.EXPORTED_BATCH), facts, family, device, threads)
    keep_in_forks(engine)
    return engine


def torch_device(device: str) -> str:
    """What torch calls it: TensorRT runs on a GPU of CUDA's."""
    return device.replace("tensorrt", "cuda")


@contextlib.contextmanager
def products_in_tf32(allowed: bool) -> Iterator[None]:
    """Whether a GPU may round what convolutions and matrix products multiply; settings of the whole process."""
    import torch

    convolutions: Any = torch.backends.cudnn.conv  # type: ignore[attr-defined]
    products: Any = torch.backends.cuda.matmul
    with setting_tf32:
        before = convolutions.fp32_precision, products.fp32_precision
        convolutions.fp32_precision = products.fp32_precision = "tf32" if allowed else "ieee"
        try:
            yield
        finally:
            convolutions.fp32_precision, products.fp32_precision = before
