"""A service in a thread of the tests, over real HTTP."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from seamline.inference.detector import Detector
from seamline.service.about import about
from seamline.service.admission import Admission
from seamline.service.app import App
from seamline.service.describing import opened_described
from seamline.service.fetching import Fetcher
from seamline.service.keys import Keys
from seamline.service.listening import listen
from seamline.service.running import app_to_server
from seamline.service.serving import Server
from seamline.service.settings import Settings


@contextmanager
def running(
    model: Path,
    settings: Settings | None = None,
    keys: Sequence[str] | None = None,
    only_local: bool = True,
    source: str | None = None,
    port: int = 0,
    fetcher: Fetcher | None = None,
    attributes: Path | None = None,
    embed: Path | None = None,
    catalogue: Path | None = None,
) -> Iterator[str]:
    """The address of a service over a model, for the length of a block."""
    settings = settings or Settings()
    describes = attributes is not None or embed is not None
    with Detector(model, threads=2, max_pixels=settings.pixels) as detector, ExitStack() as stack:
        described = None
        if describes:
            described = stack.enter_context(opened_described(attributes, embed, catalogue, detector.names, 2))
        server = Server(detector, Admission(settings), described.describer if described else None)
        of = about(detector, model, settings, source, described)
        found = described.catalogue if described else None
        app = App(server, of, Keys(keys) if keys else None, only_local, fetcher, found)
        listening = listen("127.0.0.1", port)
        uvicorn = app_to_server(app)
        thread = threading.Thread(target=lambda: asyncio.run(uvicorn.serve(sockets=[listening])), daemon=True)
        thread.start()
        try:
            while not uvicorn.started:  # until then connections are refused
                assert thread.is_alive()
                time.sleep(0.01)
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            uvicorn.should_exit = True
            thread.join(20)
            server.close()
            assert not thread.is_alive(), "the service did not stop"
