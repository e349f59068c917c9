"""Detector: a model file and images in, detections out, the same way for every format, from any number of threads.

Example:
    detector = Detector(Path("models/export/openvino_int8"))
    found = detector.detect(Path("photo.jpg"))
    for path, found in zip(paths, detector.detect_all(paths)):
        print(path, found if isinstance(found, ImageError) else len(found))
"""

from __future__ import annotations

import contextlib
import functools
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from seamline.base.errors import counted
from seamline.base.parallel import usable_cores
from seamline.images.budget import PIXELS_UNDER_WAY, PixelBudget
from seamline.images.files import MAX_PIXELS
from seamline.images.reading import ImageError, Source, is_unchanging, read_within_budget
from seamline.inference.lifetime import Lifetime
from seamline.models.arrays import Canvas, Outputs
from seamline.models.detections import Detections
from seamline.models.devices import BATCH_ON_GPU
from seamline.models.engines.engine import WAITING, Engine, OutOfDeviceMemory
from seamline.models.engines.opening import open_engine
from seamline.models.families import FAMILIES
from seamline.models.model_facts import Limits

T = TypeVar("T")
R = TypeVar("R")


class Prepared(NamedTuple):
    canvas: Canvas
    placement: Any  # how the image lies in it, as its family says
    milliseconds: float  # that it took


class Taken(NamedTuple):
    """An image on its way, as the caller named it or ready for the model."""

    source: Source | Prepared | ImageError
    name: str


class Detector:
    """Opens best.pt, an ONNX file or an OpenVINO folder; the model file itself says all that is needed.

    detect(), detect_all() and submit() may be called from any number of threads, and give what they give alone. Not
    after a fork: a process opens its own.

    Attributes:
        names: class names by index.
        imgsz: side of the model's square input, in pixels.
        has_masks: whether detections have masks; False where the model finds boxes only.
        confidence, nms_iou, max_detections: what is reported; see model_facts.Limits. May be set; a call goes by what
            they are when it begins.
        max_pixels: larger images are refused.
    """

    def __init__(
        self,
        model: Path | str | Engine,
        confidence: float | None = None,
        nms_iou: float | None = None,
        max_detections: int | None = None,
        threads: int | None = None,
        streams: int | None = None,
        batch: int | None = None,
        precision: str = "f32",
        device: str = "cpu",
        max_pixels: int = MAX_PIXELS,
        pixels_under_way: int = PIXELS_UNDER_WAY,
        channels_last: bool | None = None,
        compiled: Path | None = None,
    ) -> None:
        """Open a model; thresholds left out are its own, the rest is for open_engine, all usable cores for threads.

        Args:
            batch: images that detect_all() puts together; None: 1 on a CPU, 16 on a GPU.
            max_pixels: the limit on one image.
            pixels_under_way: the limit on all images that are decoded at the same time, whatever the number of threads;
                an image of more waits until it is alone.
            compiled: folder in which OpenVINO's compiled models are stored, so that they are ready sooner next time.

        Raises:
            SeamlineError: when there is no such model, or it cannot be read or not be run like this.
        """
        self.threads = threads or usable_cores()
        self.max_pixels = max_pixels
        self.budget = PixelBudget(pixels_under_way)
        self.engine = (
            open_engine(Path(model), self.threads, streams, batch or 1, precision, device, channels_last, compiled)
            if isinstance(model, Path | str)
            else model
        )
        self.batch = batch or (1 if self.engine.device == "cpu" else BATCH_ON_GPU)
        facts = self.engine.facts
        self.family = FAMILIES[facts.family]
        self.names, self.imgsz, self.has_masks = facts.names, facts.imgsz, facts.masks
        self.confidence = facts.confidence if confidence is None else confidence
        self.nms_iou = facts.nms_iou if nms_iou is None else nms_iou
        self.max_detections = facts.max_detections if max_detections is None else max_detections
        self._making_pools = threading.Lock()
        self._most_at_once = self.batch  # fewer, once a batch did not fit into a GPU's memory
        self._lifetime = Lifetime("detector")

    @property
    def ahead(self) -> int:
        """How many batches detect_all() has under way, so that no thread waits for the one who asks for results."""
        return self.engine.callers + (1 if self.engine.readers else WAITING)  # a GPU's batches are large

    @property
    def precision(self) -> str:
        """What the engine computes in, read back from it."""
        return self.engine.precision

    @property
    def device(self) -> str:
        """Where it computes: cpu, cuda:0."""
        return self.engine.device

    def detect(self, source: Source, confidence: float | None = None) -> Detections:
        """What is found in one image, as soon as can be: every thread works on it.

        Args:
            confidence: for this image alone; None: the detector's own.

        Raises:
            ImageError: when the image cannot be used.
            SeamlineError: after close(), or in another process.
        """
        limits = self._begin(confidence)
        prepared = self._prepare(source, "image")
        [found] = self._infer(self.engine.infer, [prepared], limits)
        return found

    def detect_beside(self, source: Source, confidence: float | None = None) -> Detections:
        """What is found in one image, in the caller's thread, while other threads detect theirs.

        For services that have threads of their own: as many photos a second as with submit(), which hands each to a
        thread of the detector's.

        Args:
            confidence: for this image alone; None: the detector's own.

        Raises:
            ImageError: when the image cannot be used.
            SeamlineError: after close(), or in another process.
        """
        limits = self._begin(confidence)
        return detections_or_raise(self._detect_group([self._take((0, source))], limits)[0])

    def detect_all(self, sources: Iterable[Source]) -> Iterator[Detections | ImageError]:
        """What is found in each image, in their order; the error in the place of one that cannot be used.

        As many images a second as can be: some are decoded, others inferred, the masks of others made, all at once.
        Few are held at a time, however many there are. What is not a path or bytes is fitted into the model's input
        when it is taken from `sources`, and may be changed after that.

        Raises:
            SeamlineError: after close(), or in another process.
        """
        return self._detect_all(sources, self._begin())

    def submit(self, source: Source, confidence: float | None = None) -> Future[Detections]:
        """What is found in one image, later: for services, which get many at once. As detect_all, but one by one.

        The future raises ImageError where the image cannot be used. An image that is not a path or bytes is fitted into
        the model's input before this returns, and may be changed after that.

        Args:
            confidence: for this image alone; None: the detector's own.

        Raises:
            SeamlineError: after close(), or in another process.
        """
        limits = self._begin(confidence)
        taken = self._take((0, source))
        pool = self._readers if self.engine.readers else self._callers
        return self._lifetime.later(pool, lambda: detections_or_raise(self._detect_group([taken], limits)[0]))

    def close(self) -> None:
        """Wait for what is under way, and let threads go; what is asked after that is refused."""
        if self._lifetime.end():
            self._readers.shutdown()
            self._callers.shutdown()

    def __enter__(self) -> Detector:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _begin(self, confidence: float | None = None) -> Limits:
        self._lifetime.check()
        return Limits(self.confidence if confidence is None else confidence, self.nms_iou, self.max_detections)

    @property
    def _callers(self) -> ThreadPoolExecutor:
        """The threads that decode images, wait for the engine's streams, and decode their outputs."""
        return self._pools[0]

    @property
    def _readers(self) -> ThreadPoolExecutor:
        """The threads that decode images one by one beside a GPU, whose callers would wait for a batch of them."""
        return self._pools[1]

    @property
    def _pools(self) -> tuple[ThreadPoolExecutor, ThreadPoolExecutor]:
        with self._making_pools:
            return self._made_pools

    @functools.cached_property
    def _made_pools(self) -> tuple[ThreadPoolExecutor, ThreadPoolExecutor]:
        return (
            ThreadPoolExecutor(self.engine.callers, thread_name_prefix="detect"),
            ThreadPoolExecutor(self.engine.readers or 1, thread_name_prefix="decode"),
        )

    def _detect_all(self, sources: Iterable[Source], limits: Limits) -> Iterator[Detections | ImageError]:
        def begin(group: list[Taken]) -> Future[list[Detections | ImageError]]:
            return self._lifetime.later(self._callers, functools.partial(self._detect_group, group, limits))

        def decode(taken: Taken) -> Future[Taken]:
            return self._lifetime.later(self._readers, functools.partial(self._prepared, taken))

        with contextlib.ExitStack() as stack:
            taken: Iterator[Taken] = map(self._take, enumerate(sources, 1))
            if self.engine.readers:
                taken = stack.enter_context(
                    contextlib.closing(in_order(decode, taken, self.batch + self.engine.readers))
                )
            for found in in_order(begin, grouped(taken, self.batch), self.ahead):
                yield from found

    def _take(self, numbered: tuple[int, Source]) -> Taken:
        """A source as it may wait, its owner doing with it what he likes; the 0th is the only one."""
        number, source = numbered
        taken = Taken(source, f"image {number}" if number else "image")
        return taken if is_unchanging(source) else self._prepared(taken)

    def _prepared(self, taken: Taken) -> Taken:
        if isinstance(taken.source, Prepared | ImageError):
            return taken
        return taken._replace(source=self._prepared_or_error(taken.source, taken.name))

    def _detect_group(self, group: list[Taken], limits: Limits) -> list[Detections | ImageError]:
        """A batch from its sources to its detections, in one thread: handing it from thread to thread costs a tenth."""
        ready = [self._prepared(one).source for one in group]
        found = iter(self._infer(self.engine.infer_beside, [one for one in ready if isinstance(one, Prepared)], limits))
        return [one if isinstance(one, ImageError) else next(found) for one in ready]

    def _prepared_or_error(self, source: Any, name: str) -> Prepared | ImageError:
        try:
            return self._prepare(source, name)
        except ImageError as error:
            return error

    def _prepare(self, source: Source, name: str) -> Prepared:
        start = time.perf_counter()
        facts = self.engine.facts
        canvas, placement = read_within_budget(
            source, name, self.max_pixels, self.budget, lambda image: self.family.image_to_canvas(image, facts)
        )
        return Prepared(canvas, placement, 1000 * (time.perf_counter() - start))

    def _infer(self, infer: Callable[..., Any], group: list[Prepared], limits: Limits) -> list[Detections]:
        if not group:
            return []
        if len(group) > (most := self._most_at_once):
            parts = [group[start : start + most] for start in range(0, len(group), most)]
            return [one for part in parts for one in self._infer(infer, part, limits)]
        try:
            return self._infer_at_once(infer, group, limits)
        except OutOfDeviceMemory:
            if len(group) == 1:
                raise
        self._take_fewer(len(group) // 2)
        return self._infer(infer, group, limits)

    def _take_fewer(self, most: int) -> None:
        """Said once for each size, whichever thread notices it first."""
        with self._making_pools:
            if most < self._most_at_once:
                self._most_at_once = most
                said = f"{self.device}: out of memory; {counted(most, 'image')} at once from here on"
                print(said, file=sys.stderr, flush=True)

    def _infer_at_once(self, infer: Callable[..., Any], group: list[Prepared], limits: Limits) -> list[Detections]:
        canvases = group[0].canvas[None] if len(group) == 1 else np.stack([one.canvas for one in group])
        start = time.perf_counter()

        def decode(outputs: Outputs) -> list[Detections]:
            inferred = time.perf_counter()
            facts, tensors = self.engine.facts, self.engine.tensors
            if tensors:
                found = tensors.outputs_to_detections(outputs, [one.placement for one in group], facts, limits)
            else:
                found = [
                    self.family.outputs_to_detections(own, one.placement, facts, limits)
                    for own, one in zip(zip(*outputs, strict=True), group, strict=True)
                ]
            timings_ms = (1000 * (inferred - start), 1000 * (time.perf_counter() - inferred))
            return [one.with_timings(own.milliseconds, *timings_ms) for one, own in zip(found, group, strict=True)]

        found: list[Detections] = infer(canvases, decode)
        return found


def detections_or_raise(found: Detections | ImageError) -> Detections:
    if isinstance(found, ImageError):
        raise found
    return found


def in_order(begin: Callable[[T], Future[R]], items: Iterable[T], ahead: int) -> Generator[R, None, None]:
    """What is begun for each item, in the order of the items; up to `ahead` items more than were asked for."""
    waiting: deque[Future[R]] = deque()
    try:
        for item in items:
            waiting.append(begin(item))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:  # nobody waits for what was read ahead
            future.cancel()


def grouped(items: Iterable[T], size: int) -> Iterator[list[T]]:
    group: list[T] = []
    for item in items:
        group.append(item)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group
