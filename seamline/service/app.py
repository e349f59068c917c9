"""The service as an ASGI application: routes, who may ask, and what is answered."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router

from seamline.service.about import to_categories, to_name
from seamline.service.admission import Admission, check_count
from seamline.service.answers import Answer, answers_to_timing, images_to_text
from seamline.service.bodies import PREDICT, Asked, Kind, Photo, body_to_asked, read_body
from seamline.service.from_urls import FromUrls
from seamline.service.hosts import check_host
from seamline.service.inference_protocol import (
    answers_to_response,
    body_to_inference,
    model_metadata,
    server_metadata,
)
from seamline.service.keys import Keys
from seamline.service.metrics import Metrics
from seamline.service.openapi import openapi
from seamline.service.page import page_and_csp
from seamline.service.problems import Problem
from seamline.service.requests import ClientGone, Exchange, Receive, Send
from seamline.service.schemas import About, Options
from seamline.service.serving import Server
from seamline.service.similar import Similar
from seamline.service.tasks import Task, check_served, names_to_classes

if TYPE_CHECKING:  # aiohttp takes a while to import, and most services fetch nothing; nor do most have a catalogue
    from seamline.search.catalogue import Catalogue
    from seamline.service.fetching import Fetcher

T = TypeVar("T")
LOG = logging.getLogger("seamline.service")
JSON = "application/json"
OPEN_ROUTES = ("health", "page", "openapi")  # for which no key is needed
NO_ANSWER = 499  # the status under which a request is counted whose client had gone before
PARSED_AT_ONCE_BYTES = 2**20  # larger bodies are taken apart in a thread, beside other requests


class App:
    """All that the service answers."""

    def __init__(
        self,
        server: Server,
        about: About,
        keys: Keys | None,
        only_local: bool,
        fetcher: Fetcher | None = None,
        catalogue: Catalogue | None = None,
    ) -> None:
        """
        Args:
            keys: who may ask; None: everybody.
            only_local: whether the address is for this machine alone.
            fetcher: of photos that are named by URLs; None: they are refused.
            catalogue: that is searched; its embedder is the server's.
        """
        self.server, self.about, self.keys, self.only_local = server, about, keys, only_local
        self.fetcher = fetcher
        self.admission: Admission = server.admission
        self.settings = server.admission.settings
        self.metrics = Metrics(about.model.classes, described=server.describer is not None)
        self.metrics.model(about.model.name, about.model.revision, about.model.family, about.model.precision)
        self.metrics.photos_limit(self.settings.queue)
        self.is_stopping = False
        self._about = msgspec.json.encode(about)
        self._page, self._policy = page_and_csp()
        self._openapi = json.dumps(openapi(keys is not None)).encode()
        head = {"model": to_name(about), "categories": to_categories(about)}
        self._head = msgspec.json.encode(head)[:-1] + b',"images":['
        self.similar = Similar(self, catalogue)
        self._router = Router(
            [
                Route("/", self.get_page, name="page"),
                Route("/v1/predict", self.predict, methods=["POST"], name="predict"),
                Route("/v1/embed", self.similar.embed, methods=["POST"], name="embed"),
                Route("/v1/search", self.similar.search, methods=["POST"], name="search"),
                Route("/v1/catalogue/crop", self.similar.crop, name="crop"),
                Route("/v1/about", self.get_about, name="about"),
                Route("/openapi.json", self.get_openapi, name="openapi"),
                Route("/metrics", self.get_metrics, name="metrics"),
                Route("/v2/health/live", self.get_live, name="health"),
                Route("/v2/health/ready", self.get_ready, name="health"),
                Route("/v2", self.get_server, name="server"),
                *[
                    route
                    for path in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}")
                    for route in (
                        Route(path, self.get_model, name="model"),
                        Route(f"{path}/ready", self.get_model_ready, name="health"),
                        Route(f"{path}/infer", self.infer, methods=["POST"], name="infer"),
                    )
                ],
            ],
            redirect_slashes=False,  # to an address that the caller's Host header names
        )

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        exchange = Exchange(scope, receive, send)
        scope["exchange"], scope["app"] = exchange, self  # app: Starlette then raises what it does not find
        begun = time.perf_counter()
        try:
            await self._answer(exchange)
        except ClientGone:
            scope["seamline.close"]()
        finally:
            del scope["exchange"]  # each holds the other: headers and body would wait for the garbage collector
        seconds, status = time.perf_counter() - begun, exchange.status or NO_ANSWER
        self.metrics.request_done(exchange.route, scope["method"], status, seconds)
        if self.settings.access_log:
            values = (scope["method"], exchange.route, status, 1000 * seconds, exchange.id)
            LOG.info("%s %s %d %.1f ms %s", *values)

    async def _answer(self, exchange: Exchange) -> None:
        try:
            await self._router(exchange.scope, exchange.receive, exchange.send)
        except Problem as problem:
            self.metrics.rejected(problem.reason)
            await exchange.refuse(problem)
        except HTTPException as error:
            sentence = "There is no such address." if error.status_code == 404 else "This method is not allowed here."
            await exchange.refuse(Problem(error.status_code, sentence, error.headers))
        except ClientGone:
            raise
        except asyncio.CancelledError:  # the service has waited long enough for this to end
            await exchange.end(Problem(503, "The service is stopping.", {"Retry-After": "1"}))
        except Exception:
            LOG.exception("request %s failed", exchange.id)
            await exchange.refuse(Problem(500, "The service has failed; its log says more under this id."))

    def admit(self, request: Request, route: str) -> Exchange:
        """The exchange of a request that may be answered; raises Problem for others."""
        exchange: Exchange = request.scope["exchange"]
        exchange.route = route
        check_host(exchange.text("host") or "", exchange.text("origin"), self.settings.hosts, self.only_local)
        if self.keys is not None and route not in OPEN_ROUTES:
            headers = exchange.headers
            given = headers.get(b"authorization"), headers.get(b"x-api-key")
            if not self.keys.knows(*given):
                sentence = "A key is needed: send it as Authorization: Bearer KEY, or as X-API-Key."
                if any(given):
                    sentence = "The key is unknown here; send it as Authorization: Bearer KEY, or as X-API-Key."
                raise Problem(401, sentence, {"WWW-Authenticate": "Bearer"})
        return exchange

    async def get_page(self, request: Request) -> Response:
        self.admit(request, "page")
        headers = {"Content-Security-Policy": self._policy, "Cache-Control": "no-cache"}
        return Response(self._page, media_type="text/html", headers=headers)

    async def get_about(self, request: Request) -> Response:
        self.admit(request, "about")
        return Response(self._about, media_type=JSON)

    async def get_openapi(self, request: Request) -> Response:
        self.admit(request, "openapi")
        return Response(self._openapi, media_type=JSON)

    async def get_metrics(self, request: Request) -> Response:
        self.admit(request, "metrics")
        self.metrics.under_way(self.admission.photos, self.admission.body_bytes)
        page, media_type = self.metrics.page()
        return Response(page, headers={"Content-Type": media_type})

    async def get_live(self, request: Request) -> Response:
        request.scope["exchange"].route = "health"
        return Response(b'{"live":true}', media_type=JSON)

    async def get_ready(self, request: Request) -> Response:
        request.scope["exchange"].route = "health"
        if self.is_stopping:
            raise Problem(503, "The service is stopping.", {"Retry-After": "1"}, "stopping")
        return Response(b'{"live":true,"ready":true}', media_type=JSON)

    async def close(self) -> None:
        if self.fetcher is not None:
            await self.fetcher.close()

    async def get_server(self, request: Request) -> Response:
        self.admit(request, "server")
        return Response(msgspec.json.encode(server_metadata()), media_type=JSON)

    async def get_model(self, request: Request) -> Response:
        self.admit(request, "model")
        self._check_model(request)
        return Response(msgspec.json.encode(model_metadata(self.about.model)), media_type=JSON)

    async def get_model_ready(self, request: Request) -> Response:
        self._check_model(request)
        await self.get_ready(request)
        return Response(msgspec.json.encode({"name": self.about.model.name, "ready": True}), media_type=JSON)

    def _check_model(self, request: Request) -> None:
        model, asked = self.about.model, request.path_params
        if asked["model"] != model.name or asked.get("version", model.revision) != model.revision:
            raise Problem(
                404, "There is no model of this name and version here; /v1/about names the one that is served."
            )

    async def infer(self, request: Request) -> Response:
        """As predict, in the form of the Open Inference Protocol: a photo that cannot be used fails the request."""
        begun = time.perf_counter()
        exchange = self.admit(request, "infer")
        self._check_model(request)
        body = await self._read(exchange)
        try:
            header_length = exchange.text("inference-header-content-length")
            asked = await self._in_thread_if_large(
                len(body), body_to_inference, body, header_length, self.about.model, self.settings
            )
            answers = await self.answer_all(exchange, asked.photos, self._task(asked.options))
        except Problem as problem:
            raise Problem(400, problem.detail, reason=problem.reason) if problem.status == 422 else problem from None
        finally:
            self.admission.give_bytes_back(len(body))
        total_ms = 1000 * (time.perf_counter() - begun)
        self.count(answers, total_ms)
        records = []
        for photo, answer in zip(asked.photos, answers, strict=True):
            if isinstance(answer, str):
                raise Problem(400, f"{photo.name}: {answer}")
            records.append(answer.records or [])
        text, length = answers_to_response(records, asked, self.about.model)
        headers = {"Server-Timing": answers_to_timing(answers, total_ms)}
        if length is None:
            return Response(text, media_type=JSON, headers=headers)
        headers["Inference-Header-Content-Length"] = str(length)
        return Response(text, media_type="application/octet-stream", headers=headers)

    async def predict(self, request: Request) -> Response:
        begun = time.perf_counter()
        exchange = self.admit(request, "predict")
        async with self.asked(exchange, PREDICT) as asked:
            answers = await self.answer_all(exchange, asked.photos, self._task(asked.options))
        total_ms = 1000 * (time.perf_counter() - begun)
        self.count(answers, total_ms)
        if len(answers) == 1 and isinstance(answers[0], str):
            raise Problem(422, f"{asked.photos[0].name}: {answers[0]}")
        text = self._head + ",".join(images_to_text(asked.photos, answers)).encode("utf-8", "replace") + b"]}"
        timing = answers_to_timing(answers, total_ms)
        return Response(text, media_type=JSON, headers={"Server-Timing": timing})

    def _task(self, options: Options) -> Task:
        """Raises Problem for what cannot be answered."""
        describer = self.server.describer
        if options.embed:
            check_served("embed", describer is not None and describer.embedder is not None, "--embed")
        if options.attributes:
            check_served("attributes", describer is not None and describer.classifier is not None, "--attributes")
        classes = names_to_classes(options.classes, self.about.model.classes)
        return Task(classes, options.masks, options.confidence, options.attributes, options.embed)

    def count(self, answers: Sequence[Answer | str], total_ms: float) -> None:
        """What became of each photo of a request."""
        for answer in answers:
            if isinstance(answer, str):
                self.metrics.photo_done("unusable", {})
            else:
                classes, scores = [index for index, _ in answer.found], [score for _, score in answer.found]
                self.metrics.photo_done("ok", {**answer.parts_ms, "total": total_ms}, classes, scores)

    @contextlib.asynccontextmanager
    async def asked(self, exchange: Exchange, of: Kind) -> AsyncIterator[Asked]:
        """What a request asks; its body is counted as long as the block lasts."""
        body = await self._read(exchange)
        try:
            kind = exchange.text("content-type") or ""
            yield await self._in_thread_if_large(len(body), body_to_asked, body, kind, exchange.query, of)
        finally:
            self.admission.give_bytes_back(len(body))

    async def _read(self, exchange: Exchange) -> bytes:
        """The body of a request for which there is room; it is counted."""
        self.admission.check_room()
        if (exchange.text("content-encoding") or "identity").lower() != "identity":
            raise Problem(415, "The body is compressed; it has to be sent as it is.")
        return await read_body(exchange.receive, declared_length(exchange), self.admission)

    async def _in_thread_if_large(self, size: int, work: Callable[..., Any], *arguments: Any) -> Any:
        if size <= PARSED_AT_ONCE_BYTES:
            return work(*arguments)
        return await asyncio.get_running_loop().run_in_executor(None, functools.partial(work, *arguments))

    async def answer_all(self, exchange: Exchange, asked: Sequence[Photo], task: Task) -> list[Answer | str]:
        """What is found in each photo, or why it cannot be used."""
        check_count(len(asked), self.settings)
        with FromUrls(self.fetcher, self.admission, asked) as urls:
            photos: Sequence[Photo | str] = asked
            if urls.count:
                fetching = [asyncio.ensure_future(urls.file(photo)) for photo in asked]
                photos = await self.all_or_gone(exchange, fetching)
            usable = [photo for photo in photos if isinstance(photo, Photo)]
            self.admission.take_photos(len(usable))
            futures = self.server.answers(usable, task)
            found = iter(await self.all_or_gone(exchange, futures))
        return [photo if isinstance(photo, str) else next(found) for photo in photos]

    async def all_or_gone(self, exchange: Exchange, futures: Sequence[asyncio.Future[T]]) -> list[T]:
        """Wait for all; where the client goes, or it takes too long, what has not begun never begins."""
        if not futures:
            return []
        gone = asyncio.ensure_future(until_gone(exchange))
        all_done = asyncio.ensure_future(asyncio.wait(futures))
        both: list[asyncio.Future[Any]] = [gone, all_done]
        try:
            await asyncio.wait(both, timeout=self.settings.answer_seconds, return_when=asyncio.FIRST_COMPLETED)
            if all_done.done():
                return [future.result() for future in futures]
            if gone.done():
                raise ClientGone
            raise Problem(504, f"The answer took more than {self.settings.answer_seconds:g} s.")
        finally:
            for _ in futures if not all_done.done() else ():
                self.metrics.photo_done("abandoned", {})
            for pending in [*both, *futures]:
                pending.cancel()


async def until_gone(exchange: Exchange) -> None:
    while (await exchange.receive())["type"] != "http.disconnect":
        pass


def declared_length(exchange: Exchange) -> int | None:
    text = exchange.text("content-length")
    return int(text) if text is not None and text.isdigit() else None
