"""Which photos are given every thread, and which go through the engine's streams."""

from __future__ import annotations

import asyncio
import threading
import weakref
from concurrent.futures import wait
from types import SimpleNamespace
from typing import Any, cast

import cv2
import numpy as np
import pytest

from seamline.images.budget import PixelBudget
from seamline.images.reading import ImageError, read_within_budget
from seamline.models.detections import Detections
from seamline.service import serving
from seamline.service.admission import Admission
from seamline.service.bodies import Photo
from seamline.service.serving import Server
from seamline.service.settings import Settings
from seamline.service.tasks import Task

STREAMS = 2


class Recorder:
    """Stands in for a Detector: says of each photo by which call it came, and finds that none can be used."""

    imgsz, max_pixels = 32, 10_000

    def __init__(self, callers: int = 10) -> None:
        self.engine = SimpleNamespace(streams=STREAMS, callers=callers)
        self.calls: list[tuple[str, bytes]] = []
        self.may_end = threading.Event()
        self.begun = threading.Semaphore(0)
        self.ended = 0
        self.ended_before: dict[bytes, int] = {}  # of the photos on every thread

    def detect(self, source: Any, confidence: float | None) -> Any:
        data = source if isinstance(source, bytes) else f"{source[0, 0, 0]:c}".encode()
        self.ended_before[data] = self.ended
        self.note("detect", data)
        return self.work()

    def detect_beside(self, data: bytes, confidence: float | None = None) -> Any:
        self.note("beside", data)
        return self.work()

    def close(self) -> None:
        self.calls.append(("close", b""))

    def note(self, call: str, data: bytes) -> None:
        self.calls.append((call, data))
        self.begun.release()

    def work(self) -> Any:
        assert self.may_end.wait(10)
        self.ended += 1
        raise ImageError("image: is none.")


def server_of(detector: Any) -> Server:
    """One whose models are compiled."""
    server = Server(detector, Admission(Settings()))
    server._is_compiled.set()
    return server


def picture(name: str) -> bytes:
    """A photo by whose pixels it is known."""
    return cv2.imencode(".png", np.full((32, 32, 3), ord(name), np.uint8))[1].tobytes()


def begin(server: Server, names: str) -> list[asyncio.Future[Any]]:
    server.admission.take_photos(len(names))
    return server.answers([Photo(name, name.encode()) for name in names], Task(frozenset(), "rle"))


def calls_for(names: str, at_once: int) -> dict[str, str]:
    """How the photos of one request are asked for, by name, while nothing else is under way.

    Args:
        at_once: how many of them are asked for before one has ended.
    """
    detector = Recorder()

    async def ask() -> None:
        server = server_of(detector)
        begun = begin(server, names)
        for _ in range(at_once):
            assert await asyncio.to_thread(detector.begun.acquire, timeout=10)
        detector.may_end.set()
        assert await asyncio.gather(*begun) == ["is none."] * len(names)
        await asyncio.sleep(0)
        assert server.admission.photos == 0
        server._pool.shutdown()

    asyncio.run(ask())
    return {data.decode(): call for call, data in detector.calls}


def test_a_photo_that_is_alone_is_given_every_thread() -> None:
    assert calls_for("a", 1) == {"a": "detect"}


def test_photos_that_fill_all_streams_go_through_them() -> None:
    assert calls_for("abcd", 4) == dict.fromkeys("abcd", "beside")


def test_the_odd_photo_of_a_request_is_read_meanwhile_and_given_every_thread_after_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    detector, read = Recorder(), threading.Event()

    def noted(data: bytes, name: str, most: int, budget: Any, use: Any) -> Any:
        def after(image: Any) -> Any:
            read.set()
            return use(image)

        return read_within_budget(data, name, most, budget, after)

    async def ask() -> None:
        server = server_of(detector)
        server.admission.take_photos(5)
        photos = [*(Photo(name, name.encode()) for name in "abcd"), Photo("e", picture("e"))]
        begun = server.answers(photos, Task(frozenset(), "rle"))
        for _ in "abcd":
            assert await asyncio.to_thread(detector.begun.acquire, timeout=10)
        assert await asyncio.to_thread(read.wait, 10)
        detector.may_end.set()
        assert await asyncio.gather(*begun) == ["is none."] * 5
        server._pool.shutdown()

    monkeypatch.setattr(serving, "read_within_budget", noted)
    asyncio.run(ask())
    assert sorted(detector.calls) == [*[("beside", name.encode()) for name in "abcd"], ("detect", b"e")]
    assert detector.ended_before == {b"e": 4}


def test_the_odd_photo_holds_no_room_that_the_others_need(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where all photos of a request are decoded within one budget, which is too small for two of them here."""

    class Pixels(Recorder):
        def detect_beside(self, source: Any, confidence: float | None = None) -> Any:
            return super().detect_beside(f"{source[0, 0, 0]:c}".encode(), confidence)

    detector, odd_is_read = Pixels(), threading.Event()
    detector.may_end.set()
    odd = picture("c")

    def late(data: bytes, *others: Any) -> Any:
        """The odd photo is read first, if it does not wait."""
        odd_is_read.set() if data == odd else odd_is_read.wait(0.5)
        return read_within_budget(data, *others)

    async def ask() -> None:
        server = server_of(detector)
        server.describer, server._budget = cast(Any, object()), PixelBudget(1)
        server.admission.take_photos(3)
        photos = [Photo("a", picture("a")), Photo("b", picture("b")), Photo("c", odd)]
        begun = server.answers(photos, Task(frozenset(), attributes=True))
        assert await asyncio.gather(*begun) == ["is none."] * 3
        server._pool.shutdown()

    monkeypatch.setattr(serving, "read_within_budget", late)
    monkeypatch.setattr(serving, "wait", lambda others: wait(others, timeout=5))
    asyncio.run(ask())
    assert detector.ended_before == {b"c": 2}


def test_the_odd_photo_does_not_wait_where_others_are_under_way() -> None:
    detector = Recorder()

    async def ask() -> None:
        server = server_of(detector)
        first = begin(server, "a")
        await asyncio.to_thread(detector.begun.acquire, timeout=10)
        others = begin(server, "bcd")
        for _ in others:
            assert await asyncio.to_thread(detector.begun.acquire, timeout=10)
        detector.may_end.set()
        await asyncio.gather(*first, *others)
        server._pool.shutdown()

    asyncio.run(ask())
    assert sorted(detector.calls) == [*[("beside", name.encode()) for name in "bcd"], ("detect", b"a")]


def test_what_is_cancelled_before_it_has_begun_no_longer_counts() -> None:
    detector = Recorder(callers=1)  # a second photo waits

    async def ask() -> None:
        server = server_of(detector)
        [first] = begin(server, "a")
        await asyncio.to_thread(detector.begun.acquire, timeout=10)
        [second] = begin(server, "b")
        second.cancel()
        await asyncio.wait([second])
        await asyncio.sleep(0)  # and the pool knows
        detector.may_end.set()
        await first
        await asyncio.gather(*begin(server, "c"))
        server._pool.shutdown()

    asyncio.run(ask())
    assert detector.calls == [("detect", b"a"), ("detect", b"c")]


def test_a_photo_that_nobody_waits_for_any_more_is_let_go_at_once() -> None:
    """And not when the pool comes to it."""
    detector = Recorder(callers=1)

    async def ask() -> None:
        server = server_of(detector)
        [first] = begin(server, "a")
        await asyncio.to_thread(detector.begun.acquire, timeout=10)
        pixels = np.zeros((2, 2, 3), np.uint8)
        there = weakref.ref(pixels)
        server.admission.take_photos(1)
        [second] = server.answers([Photo("b", pixels)], Task(frozenset(), "rle"))
        del pixels
        assert there() is not None
        second.cancel()
        await asyncio.wait([second])
        await asyncio.sleep(0)
        assert there() is None
        detector.may_end.set()
        await first
        server._pool.shutdown()

    asyncio.run(ask())


def test_its_end_waits_for_what_has_begun_and_nothing_more_is_begun() -> None:
    detector = Recorder(callers=1)

    async def ask() -> None:
        server = server_of(detector)
        first, second = *begin(server, "a"), *begin(server, "b")
        await asyncio.to_thread(detector.begun.acquire, timeout=10)
        closing = asyncio.ensure_future(asyncio.to_thread(server.close))
        await asyncio.wait([second])
        assert second.cancelled() and not closing.done()
        detector.may_end.set()
        await asyncio.gather(first, closing)

    asyncio.run(ask())
    assert detector.calls == [("detect", b"a"), ("close", b"")]


def test_it_is_ready_with_one_model_compiled_and_the_other_is_compiled_beside_the_first_requests() -> None:
    class Slow(Recorder):
        """Its model for one photo is not compiled before a test says so."""

        def detect(self, data: Any, confidence: float | None = None) -> Any:
            self.note("detect", data if isinstance(data, bytes) else b"grey")
            if not isinstance(data, bytes):
                assert self.may_end.wait(10)
            return Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64), None, 1, 1)

        def detect_beside(self, data: Any, confidence: float | None = None) -> Any:
            self.note("beside", data if isinstance(data, bytes) else b"grey")
            return Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64), None, 1, 1)

    detector = Slow()

    async def ask() -> None:
        server = Server(detector, Admission(Settings()))  # type: ignore[arg-type]
        server.warm()  # returns though the other model is not there
        await asyncio.gather(*begin(server, "a"))
        detector.may_end.set()
        assert await asyncio.to_thread(server._is_compiled.wait, 10)
        await asyncio.gather(*begin(server, "b"))
        server._pool.shutdown()

    asyncio.run(ask())
    beside, *rest = detector.calls
    assert beside == ("beside", b"grey")
    assert sorted(rest) == [("beside", b"a"), ("detect", b"b"), ("detect", b"grey")]
    assert rest.index(("beside", b"a")) < rest.index(("detect", b"b"))
