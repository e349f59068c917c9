"""The models at work for the service: photos in, answers out, as many at once as pay."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from seamline.base.errors import counted
from seamline.images.budget import PixelBudget
from seamline.images.reading import Image, ImageError, read_within_budget
from seamline.models.detections import Detections
from seamline.people.detector import AnyDetector
from seamline.photos.predicting import text_of
from seamline.service.admission import Admission
from seamline.service.answers import Answer, found_to_answer, photo_to_answer
from seamline.service.bodies import Photo
from seamline.service.tasks import Task

if TYPE_CHECKING:  # most services have neither
    from seamline.photos.describing import Describer

T = TypeVar("T")


class Server:
    """A detector whose photos come from many requests.

    A photo that is alone is given every thread, since its answer then comes soonest; photos beside others go through
    the engine's streams, since most of them are then done in a second. Both find the same.
    """

    def __init__(self, detector: AnyDetector, admission: Admission, describer: Describer | None = None) -> None:
        """
        Args:
            describer: of garments, with the models that there are; None: there are none.
        """
        self.detector, self.admission, self.describer = detector, admission, describer
        # Of photos that a describer needs as long as the detector does. Not the detector's own, whose queue would hold
        # up a photo behind others that wait for its pixels.
        self._budget = PixelBudget()
        # They decode photos, wait for the streams, and make the answers: as many as keep every stream at work.
        self._pool = ThreadPoolExecutor(detector.engine.callers, thread_name_prefix="answer")
        self._lock = threading.Lock()
        self._under_way = 0  # photos that have not ended
        self._streams = detector.engine.streams
        self._is_compiled = threading.Event()  # for a photo that is alone

    def warm(self) -> None:
        """Compile what is compiled at a first photo, so that no request waits for it.

        What a photo beside others needs is compiled at once. What is for a photo that is alone is compiled while the
        first requests are answered without it.
        """
        grey = np.full((self.detector.imgsz, self.detector.imgsz, 3), 114, np.uint8)
        self.detector.detect_beside(grey)
        self._pool.submit(self._compile_for_one, grey)

    def _compile_for_one(self, grey: Image) -> None:
        self.detector.detect(grey)
        self._is_compiled.set()

    def answers(self, photos: Sequence[Photo], task: Task) -> list[asyncio.Future[Answer | str]]:
        """What is found in each photo of a request, or why it cannot be used.

        The photos have been admitted, and each is let go at its end. Where nothing else is under way, and one photo is
        left over when each stream has had as many, that one waits for the others: on one stream it would take longer
        than it then takes on every thread.
        """
        loop = asyncio.get_running_loop()
        work = functools.partial(self._work, time.perf_counter(), task)
        with self._lock:
            waits = self._under_way == 0 and len(photos) > 1 and len(photos) % self._streams == 1
            self._under_way += len(photos)
        begun: list[Future[Answer | str]] = []
        for number, photo in enumerate(photos, 1):
            others = tuple(begun) if waits and number == len(photos) else ()
            held = [photo]
            begun.append(self._pool.submit(work, held, others))
            begun[-1].add_done_callback(functools.partial(self._ended, loop, held))
        return [asyncio.wrap_future(future) for future in begun]

    def other(self, work: Callable[[], T]) -> asyncio.Future[T]:
        """Run work other than a photo's in a thread; it is admitted, and counted until it ends, as a photo is."""
        loop = asyncio.get_running_loop()
        future = self._pool.submit(work)
        future.add_done_callback(lambda _: self._let_admission_go(loop))
        return asyncio.wrap_future(future)

    def _ended(self, loop: asyncio.AbstractEventLoop, held: list[Photo], future: Future[Answer | str]) -> None:
        held.clear()
        if future.cancelled():  # before _work has begun
            self._let_go()
        self._let_admission_go(loop)

    def _let_admission_go(self, loop: asyncio.AbstractEventLoop) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has been closed: a second signal ended it
            loop.call_soon_threadsafe(self.admission.photo_ended)

    def _let_go(self) -> None:
        with self._lock:
            self._under_way -= 1

    def _work(self, came: float, task: Task, held: list[Photo], others: Sequence[Future[Answer | str]]) -> Answer | str:
        """
        Args:
            held: the photo, taken out at the beginning, or where nobody waits any more: the pool remembers its work
                longer.
            others: that have to end before.
        """
        try:
            data = held.pop().data
            if not task.needs_pixels and not others:
                waited_ms = 1000 * (time.perf_counter() - came)
                return found_to_answer(self._detect(data, task.confidence), task, waited_ms)
            if task.needs_pixels:
                wait(others)  # they may need the budget that this one would hold
            look = functools.partial(self._look, task=task, others=others, came=came, begun=time.perf_counter())
            return read_within_budget(data, "image", self.detector.max_pixels, self._budget, look)
        except ImageError as error:
            error.__traceback__ = error.__context__ = None  # whose frames hold the file until garbage is collected
            return text_of(error).removeprefix("image: ")
        finally:
            self._let_go()

    def _look(
        self, image: Image, task: Task, others: Sequence[Future[Answer | str]], came: float, begun: float
    ) -> Answer:
        """The answer where a photo has been read before the detector gets it; it was begun to be read at `begun`."""
        decode_ms = 1000 * (time.perf_counter() - begun)
        wait(others)
        waited_ms = 1000 * (time.perf_counter() - came) - decode_ms
        if not task.needs_pixels:
            found = self._detect(image, task.confidence)
            return found_to_answer(with_decoding(found, decode_ms), task, waited_ms)
        if self.describer is None:
            raise RuntimeError("nothing describes garments here, so no request that asks for it is admitted")
        if task.whole:
            return photo_to_answer(image, self.describer, task, waited_ms, decode_ms)
        found = with_decoding(self._detect(image, task.confidence), decode_ms)
        chosen = np.flatnonzero(np.isin(found.classes, [*task.classes]))
        if task.garment is not None:
            if task.garment > len(chosen):
                raise ImageError(
                    f"image: has {counted(len(chosen), 'garment')}, and number {task.garment} is asked for."
                )
            chosen = chosen[[task.garment - 1]]
        described = self.describer.describe(image, found.chosen(chosen), task.attributes, task.needs_vectors)
        parts_ms = {"attributes": described.attributes_ms} if task.attributes else {}
        parts_ms |= {"embedding": described.embedding_ms} if task.needs_vectors else {}
        return found_to_answer(described.found, task, waited_ms, parts_ms)

    def _detect(self, data: bytes | Image, confidence: float | None) -> Detections:
        if self._under_way == 1 and self._is_compiled.is_set():
            return self.detector.detect(data, confidence)
        return self.detector.detect_beside(data, confidence)

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)
        self.detector.close()


def with_decoding(found: Detections, decode_ms: float) -> Detections:
    """What was found in a photo that was decoded before, with that time in its first part."""
    return found.with_timings(decode_ms + found.timings_ms[0], *found.timings_ms[1:])
