"""PyTorch on a GPU: the weights of a training, with everything between a canvas and a detection computed there.

The same code computes on a CPU (device="cpu"), which is how it is tested; PyTorch's engine for CPUs is TorchEngine.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from seamline.base.errors import SeamlineError, counted
from seamline.models import yolo_tensors
from seamline.models.arrays import Canvases, Outputs
from seamline.models.devices import check_gpu
from seamline.models.engines.engine import OutOfDeviceMemory
from seamline.models.engines.pytorch import torch_threads
from seamline.models.families import TensorFamily, family_of
from seamline.models.forks import check_torch_process
from seamline.models.model_facts import YOLO
from seamline.models.weights import weights_to_family

T = TypeVar("T")
# Families whose work before and behind the network is done on the GPU too. Those of others is done by the processor.
TENSOR_FAMILIES: dict[str, TensorFamily] = {YOLO: yolo_tensors}
# tf32 is f32 whose products are rounded to 10 binary digits, as cuDNN computes convolutions if nobody forbids it.
DTYPES = {"f32": torch.float32, "tf32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
NAMES = {torch.float32: "f32", torch.float16: "f16", torch.bfloat16: "bf16"}
BATCHES_AT_ONCE = 2  # while one waits for the processor, as between NMS and masks, the GPU computes another
LARGEST_IN_BF16 = 1024  # px of the input: places of cells beyond need more than bf16's 8 binary digits
setting_tf32 = threading.Lock()


class DeviceEngine:
    """A .pt file on a GPU, in f32, tf32, f16 or bf16.

    Canvases go up as bytes from pinned memory, on a stream of their own beside what is being computed.

    Attributes:
        tensors: what makes detections of the outputs where they are; None where they are copied and the family does.
    """

    def __init__(
        self, path: Path, threads: int, device: str, precision: str = "f32", channels_last: bool | None = None
    ) -> None:
        """Open the weights.

        Args:
            threads: CPU threads that decode images beside it; on a CPU those that compute, too.
            device: cuda:NUMBER, or cpu.
            channels_last: whether the channels of a pixel lie together in memory; None: wherever tensor cores compute,
                that is in all precisions but f32, and on a CPU.

        Raises:
            SeamlineError: when torch cannot use that GPU, or bf16 is too coarse for the model.
        """
        check_torch_process(path)
        self.on_gpu = device != "cpu"
        if self.on_gpu:
            check_gpu(path, device)
        self.device, self.threads = device, threads
        self.streams = BATCHES_AT_ONCE if self.on_gpu else 1
        self.callers, self.readers = self.streams + 1, threads
        family = weights_to_family(path)
        self.family, self.tensors = family_of(family, path), TENSOR_FAMILIES.get(family)
        module, self.facts = self.family.load_module(path, device)
        if precision == "bf16" and self.facts.imgsz > LARGEST_IN_BF16:
            raise SeamlineError(
                f"{path}: bf16 is too coarse for an input of {self.facts.imgsz} px; it does up to {LARGEST_IN_BF16}. "
                "Take f16."
            )
        together = channels_last if channels_last is not None else not self.on_gpu or precision != "f32"
        self.layout = torch.channels_last if together else torch.contiguous_format
        self.dtype, self.tf32 = DTYPES[precision], precision == "tf32"
        if self.tensors:
            self.tensors.convert_module(module, self.dtype)
        else:
            module.to(self.dtype)
        self.model = module.eval().to(memory_format=self.layout)
        self.copying = self._stream()
        self.free: queue.SimpleQueue[torch.cuda.Stream | None] = queue.SimpleQueue()
        for _ in range(self.streams):
            self.free.put(self._stream())

    def _stream(self) -> torch.cuda.Stream | None:
        return torch.cuda.Stream(device=self.device) if self.on_gpu else None  # type: ignore[no-untyped-call]

    @property
    def precision(self) -> str:
        """What most of the model's numbers are in."""
        kinds: Counter[torch.dtype] = Counter()
        for parameter in self.model.parameters():
            kinds[parameter.dtype] += parameter.numel()
        kind = kinds.most_common(1)[0][0]
        return "tf32" if self.tf32 and kind == torch.float32 else NAMES.get(kind, str(kind))

    def infer(self, canvases: Canvases, decode: Callable[[Outputs], T]) -> T:
        """Raises OutOfDeviceMemory where the batch is too large for what is left of the GPU's memory."""
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
        host = torch.from_numpy(canvases if self.tensors else self.family.canvases_to_tensor(canvases))
        if self.copying is None:
            return host, None
        with torch.cuda.stream(self.copying):
            return host.pin_memory().to(self.device, non_blocking=True), self.copying.record_event()

    def _outputs(self, uploaded: Tensor, stream: torch.cuda.Stream | None, there: torch.cuda.Event | None) -> Outputs:
        if stream and there:
            stream.wait_event(there)
            uploaded.record_stream(stream)
        given = self.tensors.canvases_to_tensor(uploaded) if self.tensors else uploaded
        with products_in_tf32(self.tf32):
            outputs = self.model(given.to(self.dtype, memory_format=self.layout))
        if stream:
            stream.synchronize()  # so that each time is its own; meanwhile the other batch's work is queued
        return tuple(outputs) if self.tensors else tuple(output.cpu().numpy() for output in outputs)


@contextlib.contextmanager
def products_in_tf32(allowed: bool) -> Iterator[None]:
    """Whether a GPU may round what convolutions and matrix products multiply; settings of the whole process."""
    convolutions: Any = torch.backends.cudnn.conv  # type: ignore[attr-defined]
    products: Any = torch.backends.cuda.matmul
    with setting_tf32:
        before = convolutions.fp32_precision, products.fp32_precision
        convolutions.fp32_precision = products.fp32_precision = "tf32" if allowed else "ieee"
        try:
            yield
        finally:
            convolutions.fp32_precision, products.fp32_precision = before
