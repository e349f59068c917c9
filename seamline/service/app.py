"""The service as an ASGI application: routes, who may ask, and what is answered."""

from __future__ import annotations

import asyncio
import functools
import json
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router

from seamline.base.escaping import to_terminal
from seamline.photos.records import to_text
from seamline.service.about import to_categories, to_name
from seamline.service.admission import Admission, check_count
from seamline.service.answers import PARTS, Answer
from seamline.service.bodies import Asked, Photo, body_to_asked, read_body
from seamline.service.hosts import check_host
from seamline.service.keys import Keys
from seamline.service.openapi import openapi
from seamline.service.problems import Problem
from seamline.service.requests import Exchange, Receive, Send
from seamline.service.schemas import About, Options
from seamline.service.serving import Server

LOG = logging.getLogger("seamline.service")
JSON = "application/json"
OPEN_ROUTES = ("health", "page", "openapi")  # for which no key is needed
PARSED_AT_ONCE_BYTES = 2**20  # larger bodies are taken apart in a thread, beside other requests


class App:
    """All that the service answers."""

    def __init__(self, server: Server, about: About, keys: Keys | None, only_local: bool) -> None:
        """
        Args:
            keys: who may ask; None: everybody.
            only_local: whether the address is for this machine alone.
        """
        self.server, self.about, self.keys, self.only_local = server, about, keys, only_local
        self.admission: Admission = server.admission
        self.settings = server.admission.settings
        self.is_stopping = False
        self._about = msgspec.json.encode(about)
        self._openapi = json.dumps(openapi(keys is not None)).encode()
        head = {"model": to_name(about), "categories": to_categories(about)}
        self._head = msgspec.json.encode(head)[:-1] + b',"images":['
        self._router = Router(
            [
                Route("/v1/predict", self.predict, methods=["POST"], name="predict"),
                Route("/v1/about", self.get_about, name="about"),
                Route("/openapi.json", self.get_openapi, name="openapi"),
                Route("/v2/health/live", self.get_live, name="health"),
                Route("/v2/health/ready", self.get_ready, name="health"),
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
        except (ConnectionError, TimeoutError):  # the other side has gone, or takes nothing
            scope["seamline.close"]()
        if self.settings.access_log:
            milliseconds = 1000 * (time.perf_counter() - begun)
            LOG.info("%s %s %d %.1f ms %s", scope["method"], exchange.route, exchange.status, milliseconds, exchange.id)

    async def _answer(self, exchange: Exchange) -> None:
        try:
            await self._router(exchange.scope, exchange.receive, exchange.send)
        except Problem as problem:
            await exchange.refuse(problem)
        except HTTPException as error:
            sentence = "There is no such address." if error.status_code == 404 else "This method is not allowed here."
            await exchange.refuse(Problem(error.status_code, sentence, error.headers))
        except (ConnectionError, TimeoutError):
            raise
        except asyncio.CancelledError:  # the service has waited long enough for this to end
            await exchange.end(Problem(503, "The service is stopping.", {"Retry-After": "1"}))
        except Exception:
            LOG.exception("request %s failed", exchange.id)
            await exchange.refuse(Problem(500, "The service has failed; its log says more under this id."))

    def _admit(self, request: Request, route: str) -> Exchange:
        """The exchange of a request that may be answered; raises Problem for others."""
        exchange: Exchange = request.scope["exchange"]
        exchange.route = route
        check_host(exchange.text("host") or "", exchange.text("origin"), self.settings.hosts, self.only_local)
        if self.keys is not None and route not in OPEN_ROUTES:
            headers = exchange.headers
            if not self.keys.knows(headers.get(b"authorization"), headers.get(b"x-api-key")):
                sentence = "A key is needed: send it as Authorization: Bearer KEY, or as X-API-Key."
                raise Problem(401, sentence, {"WWW-Authenticate": "Bearer"})
        return exchange

    async def get_about(self, request: Request) -> Response:
        self._admit(request, "about")
        return Response(self._about, media_type=JSON)

    async def get_openapi(self, request: Request) -> Response:
        self._admit(request, "openapi")
        return Response(self._openapi, media_type=JSON)

    async def get_live(self, request: Request) -> Response:
        request.scope["exchange"].route = "health"
        return Response(b'{"live":true}', media_type=JSON)

    async def get_ready(self, request: Request) -> Response:
        request.scope["exchange"].route = "health"
        if self.is_stopping:
            raise Problem(503, "The service is stopping.", {"Retry-After": "1"})
        return Response(b'{"ready":true}', media_type=JSON)

    async def predict(self, request: Request) -> Response:
        begun = time.perf_counter()
        exchange = self._admit(request, "predict")
        self.admission.check_room()
        body = await read_body(exchange.receive, declared_length(exchange), self.admission)
        try:
            asked = await self._in_thread_if_large(
                len(body), body_to_asked, body, exchange.text("content-type") or "", exchange.query
            )
            answers = await self._predict_all(exchange, asked)
        finally:
            self.admission.give_bytes_back(len(body))
        if len(answers) == 1 and isinstance(answers[0], str):
            raise Problem(422, f"{asked.photos[0].name}: {answers[0]}")
        text = self._head + ",".join(images_to_text(asked.photos, answers)).encode("utf-8", "replace") + b"]}"
        timing = answers_to_timing(answers, 1000 * (time.perf_counter() - begun))
        return Response(text, media_type=JSON, headers={"Server-Timing": timing})

    async def _in_thread_if_large(self, size: int, work: Callable[..., Any], *arguments: Any) -> Any:
        if size <= PARSED_AT_ONCE_BYTES:
            return work(*arguments)
        return await asyncio.get_running_loop().run_in_executor(None, functools.partial(work, *arguments))

    async def _predict_all(self, exchange: Exchange, asked: Asked) -> list[Answer | str]:
        options = asked.options
        check_options(options)
        classes = options_to_classes(options, self.about.model.classes)
        check_count(len(asked.photos), self.settings)
        for photo in asked.photos:
            if photo.url is not None:
                raise Problem(422, "This service does not fetch photos from addresses; send the file.")
        self.admission.take_photos(len(asked.photos))
        futures = [self.server.answer(photo, classes, options.masks, options.confidence) for photo in asked.photos]
        return await self._all_or_gone(exchange, futures)

    async def _all_or_gone(
        self, exchange: Exchange, futures: Sequence[asyncio.Future[Answer | str]]
    ) -> list[Answer | str]:
        """Wait for all; where the other side goes, or it takes too long, what has not begun is not begun."""
        gone = asyncio.ensure_future(until_gone(exchange))
        all_done = asyncio.ensure_future(asyncio.wait(futures))
        both: list[asyncio.Future[Any]] = [gone, all_done]
        try:
            await asyncio.wait(both, timeout=self.settings.answer_seconds, return_when=asyncio.FIRST_COMPLETED)
            if all_done.done():
                return [future.result() for future in futures]
            if gone.done():
                raise ConnectionError
            raise Problem(504, f"The answer took more than {self.settings.answer_seconds:g} s.")
        finally:
            for pending in [*both, *futures]:
                pending.cancel()


async def until_gone(exchange: Exchange) -> None:
    while (await exchange.receive())["type"] != "http.disconnect":
        pass


def declared_length(exchange: Exchange) -> int | None:
    text = exchange.text("content-length")
    return int(text) if text is not None and text.isdigit() else None


def check_options(options: Options) -> None:
    for name, asked in (("embed", options.embed), ("attributes", options.attributes)):
        if asked:
            raise Problem(422, f"{name} is not available yet; leave it out.")


def options_to_classes(options: Options, names: Sequence[str]) -> frozenset[int]:
    """Indices of the classes that are asked for; text of a query may name several, with commas."""
    if options.classes is None:
        return frozenset(range(len(names)))
    chosen = []
    for text in options.classes:
        chosen += [text] if text in names else [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in chosen if name not in names]
    if unknown or not chosen:
        shown = to_terminal(repr((unknown or [""])[0][:100]))
        raise Problem(422, f"The model has no class {shown}; it has {', '.join(names)}.")
    return frozenset(index for index, name in enumerate(names) if name in chosen)


def images_to_text(photos: Sequence[Photo], answers: Sequence[Answer | str]) -> list[str]:
    """JSON of each photo. Those that can be used are numbered from 1, as `seamline predict` does."""
    texts, number = [], 0
    for photo, answer in zip(photos, answers, strict=True):
        if isinstance(answer, str):
            texts.append(to_text({"file_name": photo.name, "error": f"{photo.name}: {answer}"}))
            continue
        number += 1
        image = {"image_id": number, "file_name": photo.name, "height": answer.height, "width": answer.width}
        records = ", ".join(numbered(record, number) for record in answer.records)
        texts.append(f'{to_text(image)[:-1]}, "instances": [{records}]}}')
    return texts


def numbered(record: str, number: int) -> str:
    """The JSON of a record with its image's number, which results.json has first."""
    return f'{{"image_id": {number}, {record[1:]}'


def answers_to_timing(answers: Sequence[Answer | str], total_ms: float) -> str:
    """Server-Timing; of several photos the longest of each part."""
    parts = [answer.parts_ms for answer in answers if isinstance(answer, Answer)]
    longest = [max(values) for values in zip(*parts, strict=True)]
    named = zip((*PARTS, "total"), (*(longest or [0.0] * len(PARTS)), total_ms), strict=True)
    return ", ".join(f"{name};dur={milliseconds:.2f}" for name, milliseconds in named)
