"""The service in a thread of the test's own process, around a detector that answers when the test lets it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np

from seamline.images.reading import ImageError
from seamline.models.detections import Detections
from seamline.service.admission import Admission
from seamline.service.app import App
from seamline.service.keys import Keys
from seamline.service.listening import listen
from seamline.service.running import Stopping, app_to_server
from seamline.service.schemas import About, LimitsAbout, ModelAbout
from seamline.service.serving import Server
from seamline.service.settings import Settings
from tests.service.served import SECONDS, Address

BROKEN = b"broken"  # a photo that the detector refuses
FAILING = b"failing"  # one that it does not know what to do with
NOTHING = Detections(
    boxes=np.zeros((0, 4), np.float32),
    scores=np.zeros(0, np.float32),
    classes=np.zeros(0, np.int64),
    shapes=[],
    height=2,
    width=1,
)
MODEL = ModelAbout(
    name="none", revision="0", family="none", format="onnx", precision="f32", imgsz=32, classes=["dress", "top"],
    has_masks=True, confidence=0.5, nms_iou=0.5, max_detections=1, int8_gate=None, licence="none", source=None,
)  # fmt: skip


class HeldDetector:
    """Finds nothing, in one photo at a time, once `gate` is open."""

    imgsz = 32
    engine = SimpleNamespace(streams=1, callers=1)

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.seen: list[bytes] = []
        self.failure: Exception = RuntimeError("a failure")  # of FAILING

    def detect(self, data: Any, confidence: float | None = None) -> Detections:
        self.seen.append(data)
        assert self.gate.wait(SECONDS)
        if data == BROKEN:
            raise ImageError("image: is broken.")
        if data == FAILING:
            raise self.failure
        return NOTHING

    detect_beside = detect

    def close(self) -> None:
        pass


@dataclass
class Held(Address):
    detector: HeldDetector
    app: App
    server: Stopping

    @property
    def connections(self) -> set[Any]:
        return self.server.server_state.connections

    @property
    def admission(self) -> Admission:
        return self.app.admission


@contextlib.contextmanager
def held(settings: Settings | None = None, keys: Keys | None = None, only_local: bool = True) -> Iterator[Held]:
    """A service whose detector waits; at its end nothing may be under way."""
    settings = settings or Settings()
    detector = HeldDetector()
    server = Server(detector, Admission(settings))  # type: ignore[arg-type]
    app = App(server, About(MODEL, LimitsAbout(body_bytes=1, photos=1, pixels=1, queue=1, fetches_urls=False), "0"),
              keys, only_local)  # fmt: skip
    listening = listen("127.0.0.1", 0)
    host, port = listening.getsockname()
    stopping = app_to_server(app)
    thread = threading.Thread(target=lambda: asyncio.run(stopping.serve(sockets=[listening])))
    thread.start()
    until(lambda: stopping.started)
    try:
        yield Held(host, port, detector, app, stopping)
        detector.gate.set()
        until(lambda: app.admission.photos == 0 and app.admission.body_bytes == 0)
    finally:
        detector.gate.set()
        stopping.should_exit = True
        thread.join(SECONDS)
        server.close()
        assert not thread.is_alive()


def until(is_so: Callable[[], bool]) -> None:
    """Wait until something is so; fail where it never is."""
    end = time.monotonic() + SECONDS
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.005)
