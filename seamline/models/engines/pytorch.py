"""PyTorch on a CPU: the weights of a training."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from seamline.models.arrays import Canvases, Outputs
from seamline.models.families import family_of
from seamline.models.forks import check_torch_process
from seamline.models.weights import weights_to_family

T = TypeVar("T")


class TorchEngine:
    """A .pt file, computed in f32."""

    device, readers, tensors = "cpu", 0, None

    def __init__(self, path: Path, threads: int, streams: int | None) -> None:
        check_torch_process(path)
        import torch

        self.threads = threads
        self.one_at_a_time = threading.Lock()
        self.streams = min(streams or threads, threads)
        self.callers = self.streams + max(threads // 2, 1)
        self.free_streams = threading.Semaphore(self.streams)
        self.family = family_of(weights_to_family(path), path)
        module, self.facts = self.family.load_module(path, "cpu")
        self.layout = torch.channels_last  # convolutions take 0.7 to 0.9 of the time where the channels lie together
        self.model = module.float().eval().to(memory_format=self.layout)
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

        with torch.inference_mode(), torch_threads(threads):
            tensor = torch.from_numpy(self.family.canvases_to_tensor(canvases))
            return tuple(output.numpy() for output in self.model(tensor.to(memory_format=self.layout)))


@contextmanager
def torch_threads(threads: int) -> Iterator[None]:
    """This number of threads for what this thread computes; each thread has its own number, and gets it back."""
    import torch

    before = torch.get_num_threads()
    if threads == before:
        yield
        return
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
