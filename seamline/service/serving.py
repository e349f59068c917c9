"""The model at work for the service: photos in, answers out, as many at once as pay."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import threading
import time
from collections.abc import Collection, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait

import numpy as np

from seamline.images.reading import Image, ImageError
from seamline.models.detections import Detections
from seamline.people.detector import AnyDetector
from seamline.photos.predicting import text_of
from seamline.service.admission import Admission
from seamline.service.answers import Answer, found_to_answer
from seamline.service.bodies import Photo


class Server:
    """A detector whose photos come from many requests.

    A photo that is alone is given every thread, since its answer then comes soonest; photos beside others go through
    the engine's streams, since most of them are then done in a second. Both find the same.
    """

    def __init__(self, detector: AnyDetector, admission: Admission) -> None:
        self.detector, self.admission = detector, admission
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

    def answers(
        self, photos: Sequence[Photo], classes: Collection[int], masks: str, confidence: float | None
    ) -> list[asyncio.Future[Answer | str]]:
        """What is found in each photo of a request, or why it cannot be used.

        The photos have been admitted, and each is let go at its end. Where nothing else is under way, and one photo is
        left over when each stream has had as many, that one waits for the others: on one stream it would take longer
        than it then takes on every thread.
        """
        loop = asyncio.get_running_loop()
        work = functools.partial(self._work, time.perf_counter(), classes, masks, confidence)
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

    def _ended(self, loop: asyncio.AbstractEventLoop, held: list[Photo], future: Future[Answer | str]) -> None:
        held.clear()
        if future.cancelled():  # before _work has begun
            self._let_go()
        with contextlib.suppress(RuntimeError):  # the loop has been closed: a second signal ended it
            loop.call_soon_threadsafe(self.admission.photo_ended)

    def _let_go(self) -> None:
        with self._lock:
            self._under_way -= 1

    def _work(
        self,
        came: float,
        classes: Collection[int],
        masks: str,
        confidence: float | None,
        held: list[Photo],
        others: Sequence[Future[Answer | str]],
    ) -> Answer | str:
        """
        Args:
            held: the photo, taken out at the beginning, or where nobody waits any more: the pool remembers its work
                longer.
            others: that have to end before.
        """
        try:
            wait(others)
            waited_ms = 1000 * (time.perf_counter() - came)
            return found_to_answer(self._detect(held.pop().data, confidence), classes, masks, waited_ms)
        except ImageError as error:
            return text_of(error).removeprefix("image: ")
        finally:
            self._let_go()

    def _detect(self, data: bytes | Image, confidence: float | None) -> Detections:
        if self._under_way == 1 and self._is_compiled.is_set():
            return self.detector.detect(data, confidence)
        return self.detector.detect_beside(data, confidence)

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)
        self.detector.close()
