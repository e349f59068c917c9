"""What every engine is: batches of canvases in, a model's raw outputs out, from any number of threads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

import numpy as np

from seamline.base.errors import SeamlineError
from seamline.models.arrays import Canvases, Outputs
from seamline.models.families import TensorFamily
from seamline.models.model_facts import ModelFacts

T = TypeVar("T")
WAITING = 4  # batches that lie ready, so that no stream waits for Python


class OutOfDeviceMemory(SeamlineError):
    """A batch does not fit into a GPU's memory; a smaller one may."""


class Engine(Protocol):
    """One batch in, and what decode makes of the outputs: they are the engine's own, and decode may not keep them.

    infer() and infer_beside() may be called from any number of threads.
    """

    facts: ModelFacts

    @property
    def device(self) -> str:
        """Where it computes: cpu, cuda:0."""

    @property
    def tensors(self) -> TensorFamily | None:
        """What decodes its outputs, a batch at once, if they are tensors on a device; None: they are numpy's arrays."""

    @property
    def readers(self) -> int:
        """How many threads decode images beside it, where a GPU leaves the processor to them; 0: its callers do."""

    @property
    def precision(self) -> str:
        """What it computes in, as read back from it: f32, tf32, f16, bf16, int8."""

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


def in_parts(canvases: Canvases, most: int | None, compute: Callable[[Canvases], Outputs]) -> Outputs:
    """A batch's outputs from a model that takes no more than `most` images at once; None: any number."""
    if most is None or len(canvases) <= most:
        return compute(canvases)
    parts = [copied(compute(canvases[start : start + most])) for start in range(0, len(canvases), most)]
    return tuple(np.concatenate(outputs) for outputs in zip(*parts, strict=True))


def copied(outputs: Outputs) -> Outputs:
    """For infer(): raw outputs that may be kept."""
    return tuple(
        output.copy() if isinstance(output, np.ndarray) else output.float().cpu().numpy().copy() for output in outputs
    )
