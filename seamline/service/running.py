"""Starting the service, and ending it: what is under way is answered first."""

from __future__ import annotations

import asyncio
import logging
import resource
import socket
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import msgspec
import uvicorn

from seamline.base.errors import counted
from seamline.people.detector import AnyDetector
from seamline.service.about import about
from seamline.service.admission import Admission
from seamline.service.app import App
from seamline.service.listening import BACKLOG, Address
from seamline.service.protocol import REFUSED, limited_protocol
from seamline.service.serving import Server
from seamline.service.settings import Settings

if TYPE_CHECKING:
    from seamline.service.describing import Described
    from seamline.service.fetching import Fetcher

LOG = logging.getLogger("seamline.service")
IDLE_SECONDS = 75  # longer than proxies keep a connection without a request, so that they end it and not we
ACCEPTED_AT_ONCE = 100
FILES_BESIDE_CONNECTIONS = 200 + 3 * ACCEPTED_AT_ONCE  # as many are open before those that are too many are cut


class Stopping(uvicorn.Server):
    """uvicorn's server, which is no longer ready once it is stopping, while requests under way are still answered."""

    def __init__(self, config: uvicorn.Config, app: App) -> None:
        super().__init__(config)
        self.app = app
        self.unanswered = 0  # requests that were under way when it did not wait any longer

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Say that it is ready as soon as it is: earlier, connections would be refused, and signals not be heard."""
        await super().startup(sockets)
        for listening in sockets or []:
            listening.listen(BACKLOG)  # asyncio has asked for a queue no longer than what it accepts at once
            host, port = listening.getsockname()[:2]
            print(f"ready on http://{f'[{host}]' if ':' in host else host}:{port} (Ctrl-C stops it)", flush=True)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await super().shutdown(sockets)
        self.unanswered = max(self.unanswered, len(self.server_state.tasks))
        await self.app.close()

    def handle_exit(self, sig: int, frame: Any) -> None:
        """The first signal ends the service in order, the second at once; uvicorn would then kill itself by it."""
        self.app.is_stopping = True
        if self.should_exit:
            self.force_exit = True
            self.unanswered = len(self.server_state.tasks)
            for connection in list(self.server_state.connections):
                connection.loop.call_soon_threadsafe(connection.transport.abort)
        self.should_exit = True


def serve_detector(
    model: Path,
    detector: AnyDetector,
    settings: Settings,
    address: Address,
    source: str | None,
    described: Described | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT."""
    quiet_log()
    settings = within_open_files(settings)
    server = Server(detector, Admission(settings), described and described.describer)
    server.warm()
    own = about(detector, model, settings, source, described)
    catalogue = described.catalogue if described else None
    app = App(server, own, address.keys, address.is_local, url_fetcher(settings), catalogue)
    stopping = app_to_server(app)
    try:
        asyncio.run(stopping.serve(sockets=[address.listening]))
    finally:
        server.close()
    if stopping.unanswered:
        sys.exit(f"stopped; {counted(stopping.unanswered, 'request')} under way could not be answered")
    print("stopped; what was under way has been answered", flush=True)


def url_fetcher(settings: Settings) -> Fetcher | None:
    if not settings.fetch_urls:
        return None
    from seamline.service.fetching import Fetcher  # and aiohttp, which takes a while

    return Fetcher(settings.body_bytes, settings.fetch_seconds, settings.fetches)


def quiet_log() -> None:
    """A log of requests and failures alone.

    Libraries note what is wrong with each form and photo, and so does the answer to it; Python would also remember
    the text of each of their warnings for as long as it runs.
    """
    logging.basicConfig(stream=sys.stderr, format="%(message)s", level=logging.INFO)
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    for library in ("python_multipart", "PIL"):
        logging.getLogger(library).setLevel(logging.CRITICAL)
    warnings.simplefilter("ignore")
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


def app_to_server(app: App) -> Stopping:
    config = uvicorn.Config(
        app,
        http=limited_protocol(app.settings, app.metrics.rejected),
        loop="asyncio",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=IDLE_SECONDS,
        timeout_graceful_shutdown=int(app.settings.answer_seconds),
        backlog=ACCEPTED_AT_ONCE,
    )
    return Stopping(config, app)


def within_open_files(settings: Settings) -> Settings:
    """The settings, with no more connections than the limit on open files allows.

    Where there is no file left for a connection, asyncio writes hundreds of lines to the log, each second anew.
    """
    files = raise_file_limit(REFUSED * settings.connections + FILES_BESIDE_CONNECTIONS)
    most = max((files - FILES_BESIDE_CONNECTIONS) // REFUSED, 1)
    if most >= settings.connections:
        return settings
    LOG.warning("%s connections are served at once, since %s open files are allowed (ulimit -n).", most, files)
    return msgspec.structs.replace(settings, connections=most)


def raise_file_limit(wanted: int) -> int:
    """How many files may be open; each connection is one, and many systems allow 1,024 unless asked for more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return most
