"""Detector: a model file and images in, instances out, the same way for every format.

Example:
    detector = Detector(Path("models/export/openvino_int8"))
    found = detector.detect(Path("photo.jpg"))
    for path, found in zip(paths, detector.detect_all(paths)):
        print(path, found if isinstance(found, ImageError) else len(found.scores))
"""

from __future__ import annotations

import functools
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, TypeVar

import cv2
import numpy as np
import threadpoolctl

from seamline.parallel import usable_cores
from seamline.runtime.engines import WAITING, Engine, Outputs, open_engine
from seamline.runtime.images import Image, ImageError, Letterbox, Source, image_to_canvas, read_image
from seamline.runtime.instances import Instances, outputs_to_instances

T = TypeVar("T")
R = TypeVar("R")


class Prepared(NamedTuple):
    canvas: Image
    letterbox: Letterbox


class Detector:
    """Opens best.pt, an ONNX file or an OpenVINO folder; the model file itself says all that is needed.

    Attributes:
        names: class names by index.
        imgsz: side of the model's square input, in pixels.
        confidence, nms_iou, max_detections: what is reported; see instances.outputs_to_instances. May be set.
        timings_ms: what the last detect() took, as (preprocess, inference, postprocess).
    """

    def __init__(
        self,
        model: Path | str | Engine,
        confidence: float | None = None,
        nms_iou: float | None = None,
        max_detections: int | None = None,
        threads: int | None = None,
        streams: int | None = None,
        batch: int = 1,
        precision: str = "f32",
        device: str = "cpu",
    ) -> None:
        """Open a model; thresholds left out are its own, the rest is for open_engine, all usable cores for threads.

        Raises:
            SeamlineError: when there is no such model, or it cannot be read or not be run like this.
        """
        # Idle threads of numpy's matrix products and of OpenCV spin for some 20 ms, and took the cores from the next
        # image's inference (OpenVINO's median on two cores: 24 ms; so 11 ms). Both have little to do here.
        threadpoolctl.threadpool_limits(1, user_api="blas")
        cv2.setNumThreads(1)
        self.threads = threads or usable_cores()
        self.batch = batch
        self.engine = (
            open_engine(Path(model), self.threads, streams, batch, precision, device)
            if isinstance(model, Path | str)
            else model
        )
        facts = self.engine.facts
        self.names, self.imgsz = facts.names, facts.imgsz
        self.confidence = facts.confidence if confidence is None else confidence
        self.nms_iou = facts.nms_iou if nms_iou is None else nms_iou
        self.max_detections = facts.max_detections if max_detections is None else max_detections
        self.timings_ms = (0.0, 0.0, 0.0)

    @property
    def precision(self) -> str:
        """What the engine computes in, read back from it."""
        return self.engine.precision

    def detect(self, source: Source) -> Instances:
        """Instances in one image, as soon as can be: every thread works on it.

        Raises:
            ImageError: when the image cannot be used.
        """
        start = time.perf_counter()
        canvas, letterbox = image_to_canvas(read_image(source), self.imgsz)
        preprocessed = time.perf_counter()
        outputs = self.engine.infer(canvas[None])
        inferred = time.perf_counter()
        [instances] = self._decode([letterbox], outputs)
        done = time.perf_counter()
        self.timings_ms = (
            1000 * (preprocessed - start),
            1000 * (inferred - preprocessed),
            1000 * (done - inferred),
        )
        return instances

    def detect_all(self, sources: Iterable[Source]) -> Iterator[Instances | ImageError]:
        """Instances in each image, in their order; the error in the place of one that cannot be used.

        As many images a second as can be: some are decoded, others inferred, the masks of others made, all at once.
        Few are held at a time, however many there are.
        """
        ahead = 2 * max(self.threads, self.batch)
        # With as many as cores, small images came 10% slower: they take the cores from each other and from the model.
        pool = ThreadPoolExecutor(max(self.threads // 2, 1), thread_name_prefix="decode")
        try:
            running: deque[tuple[list[Prepared | ImageError], Future[list[Instances]]]] = deque()
            for group in grouped(in_order(pool, self._prepare, enumerate(sources, 1), ahead), self.batch):
                running.append((group, self._submit(group)))
                if len(running) > self.engine.streams + WAITING:
                    yield from self._put_together(*running.popleft())
            while running:
                yield from self._put_together(*running.popleft())
        finally:
            pool.shutdown(cancel_futures=True)  # nobody waits for what was read ahead

    def _prepare(self, numbered: tuple[int, Source]) -> Prepared | ImageError:
        number, source = numbered
        try:
            return Prepared(*image_to_canvas(read_image(source, f"image {number}"), self.imgsz))
        except ImageError as error:
            return error

    def _submit(self, group: list[Prepared | ImageError]) -> Future[list[Instances]]:
        good = [one for one in group if isinstance(one, Prepared)]
        if not good:
            nothing: Future[list[Instances]] = Future()
            nothing.set_result([])
            return nothing
        canvases = good[0].canvas[None] if len(good) == 1 else np.stack([one.canvas for one in good])
        return self.engine.submit(canvases, functools.partial(self._decode, [one.letterbox for one in good]))

    def _put_together(
        self, group: list[Prepared | ImageError], found: Future[list[Instances]]
    ) -> Iterator[Instances | ImageError]:
        """Instances and errors of a batch, in the order of its images."""
        all_found = self.engine.wait(found)
        instances = iter(all_found)
        return (one if isinstance(one, ImageError) else next(instances) for one in group)

    def _decode(self, letterboxes: list[Letterbox], outputs: Outputs) -> list[Instances]:
        return [
            outputs_to_instances(
                predictions,
                prototypes,
                letterbox,
                self.imgsz,
                len(self.names),
                self.confidence,
                self.nms_iou,
                self.max_detections,
            )
            for predictions, prototypes, letterbox in zip(*outputs, letterboxes, strict=True)
        ]


def in_order(pool: ThreadPoolExecutor, function: Callable[[T], R], items: Iterable[T], ahead: int) -> Iterator[R]:
    """Map over items in the pool, results in the order of the items, so many of them ahead of what is asked for."""
    waiting: deque[Future[R]] = deque()
    for item in items:
        waiting.append(pool.submit(function, item))
        if len(waiting) > ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def grouped(items: Iterable[T], size: int) -> Iterator[list[T]]:
    group: list[T] = []
    for item in items:
        group.append(item)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group
