"""The model at work for the service: photos in, answers out, as many at once as pay."""

from __future__ import annotations

import asyncio
import functools
import threading
import time
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from seamline.images.reading import Image, ImageError
from seamline.inference.detector import Detector
from seamline.models.detections import Detections
from seamline.photos.predicting import text_of
from seamline.service.admission import Admission
from seamline.service.answers import Answer, found_to_answer
from seamline.service.bodies import Photo


class Server:
    """A Detector whose photos come from many requests.

    A photo that is alone is given every thread, since its answer then comes soonest; photos beside others go through
    the engine's streams, since most of them are then done in a second. Both find the same.
    """

    def __init__(self, detector: Detector, admission: Admission) -> None:
        self.detector, self.admission = detector, admission
        self._pool = ThreadPoolExecutor(detector.ahead, thread_name_prefix="answer")
        self._lock = threading.Lock()
        self._working = 0

    def warm(self) -> None:
        """Compile what is compiled at a first photo, so that no request waits for it."""
        grey = np.full((self.detector.imgsz, self.detector.imgsz, 3), 114, np.uint8)
        self.detector.detect(grey)
        self.detector.submit(grey).result()

    def answer(
        self, photo: Photo, classes: Collection[int], masks: str, confidence: float | None
    ) -> asyncio.Future[Answer | str]:
        """What is found in a photo, or why it cannot be used. The photo has been admitted, and is let go at its end."""
        loop = asyncio.get_running_loop()
        work = functools.partial(self._work, photo, classes, masks, confidence, time.perf_counter())
        future = self._pool.submit(work)
        future.add_done_callback(lambda _: loop.call_soon_threadsafe(self.admission.photo_ended))
        return asyncio.wrap_future(future)

    def _work(
        self, photo: Photo, classes: Collection[int], masks: str, confidence: float | None, came: float
    ) -> Answer | str:
        waited_ms = 1000 * (time.perf_counter() - came)
        try:
            return found_to_answer(self._detect(photo.data, confidence), classes, masks, waited_ms)
        except ImageError as error:
            return text_of(error).removeprefix("image: ")

    def _detect(self, data: bytes | Image, confidence: float | None) -> Detections:
        with self._lock:
            self._working += 1
            alone = self._working == 1 and self.admission.photos <= 1
        try:
            if alone:
                return self.detector.detect(data, confidence)
            return self.detector.submit(data, confidence).result()
        finally:
            with self._lock:
                self._working -= 1

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)
        self.detector.close()
