"""/v1/embed and /v1/search: vectors of garments, and the garments of a catalogue that are like them."""

from __future__ import annotations

import functools
import time
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from starlette.requests import Request
from starlette.responses import Response

from seamline.base.coco import Record
from seamline.base.errors import SeamlineError
from seamline.models.arrays import Floats
from seamline.service.about import to_categories, to_name
from seamline.service.answers import answers_to_timing, images_to_text
from seamline.service.bodies import EMBED, SEARCH, Asked, query_to_values
from seamline.service.problems import Problem
from seamline.service.requests import Exchange
from seamline.service.search_schemas import Choice, EmbedderName, Filters, SearchOptions
from seamline.service.tasks import Search, Task, check_served, names_to_classes

if TYPE_CHECKING:  # usearch and SQLite, which most services have no use for
    from seamline.search.catalogue import Catalogue, Match
    from seamline.service.app import App

JSON = "application/json"
CROPS_KEPT_SECONDS = 3600  # by a browser


class Similar:
    """What the service answers about vectors."""

    def __init__(self, app: App, catalogue: Catalogue | None) -> None:
        self.app, self.catalogue = app, catalogue
        about = app.about
        head: dict[str, Any] = {"model": to_name(about)}
        if about.embedder is not msgspec.UNSET:
            head["embedder"] = EmbedderName(about.embedder.name, about.embedder.identity)
        self._head = msgspec.json.encode({**head, "categories": to_categories(about)})[:-1]

    async def embed(self, request: Request) -> Response:
        begun = time.perf_counter()
        exchange = self.app.admit(request, "embed")
        check_served("embed", self._embeds, "--embed")
        async with self.app.asked(exchange, EMBED) as asked:
            return await self._of_photos(exchange, asked, begun, self._task(asked.options)._replace(embed=True))

    async def search(self, request: Request) -> Response:
        begun = time.perf_counter()
        exchange = self.app.admit(request, "search")
        check_served("search", self.catalogue is not None, "--catalogue")
        async with self.app.asked(exchange, SEARCH) as asked:
            find = self._finder(asked.options)
            if asked.question is not None:
                refuse_of_photos(asked.options)
                return await self._of_question(exchange, asked.question, find, begun)
            options: SearchOptions = asked.options
            if options.garment is not None and (options.whole or len(asked.photos) > 1):
                raise Problem(422, "garment: needs a request with one photo, and cannot be combined with whole.")
            task = self._task(options)._replace(garment=options.garment, search=find)
            return await self._of_photos(exchange, asked, begun, task)

    async def crop(self, request: Request) -> Response:
        """A garment's picture, which lies in the catalogue's table under its id: no file is named by a request."""
        exchange = self.app.admit(request, "crop")
        check_served("catalogue", self.catalogue is not None, "--catalogue")
        [identity] = query_to_values(exchange.query).get("id", [""])[:1]
        self.app.admission.take_photos(1)
        jpeg = await self.app.server.other(functools.partial(self._catalogue.crop, identity))
        if not jpeg:
            raise Problem(404, "The catalogue has no picture of this id.")
        headers = {"Cache-Control": f"private, max-age={CROPS_KEPT_SECONDS}", "X-Content-Type-Options": "nosniff"}
        return Response(jpeg, media_type="image/jpeg", headers=headers)

    @property
    def _embeds(self) -> bool:
        describer = self.app.server.describer
        return describer is not None and describer.embedder is not None

    @property
    def _catalogue(self) -> Catalogue:
        if self.catalogue is None:
            raise RuntimeError("there is no catalogue here")
        return self.catalogue

    def _task(self, options: Any) -> Task:
        classes = names_to_classes(options.classes, self.app.about.model.classes)
        return Task(classes, confidence=options.confidence, whole=options.whole)

    def _finder(self, options: SearchOptions) -> Search:
        """Raises Problem for filters that the catalogue does not know."""
        from seamline.search.filters import check_filters

        catalogue = self._catalogue
        try:
            filters = to_own_filters(options.filters)
            check_filters(filters, catalogue.columns, catalogue.classes, catalogue.attributes)
        except SeamlineError as error:
            raise Problem(422, f"filters: {error}") from None

        def find(vectors: Floats) -> list[list[Record]]:
            found = catalogue.search(vectors, options.k, filters, options.min_score)
            return [[match_to_record(match) for match in matches] for matches in found]

        return find

    async def _of_photos(self, exchange: Exchange, asked: Asked, begun: float, task: Task) -> Response:
        answers = await self.app.answer_all(exchange, asked.photos, task)
        total_ms = 1000 * (time.perf_counter() - begun)
        self.app.count(answers, total_ms)
        if len(answers) == 1 and isinstance(answers[0], str):
            raise Problem(422, f"{asked.photos[0].name}: {answers[0]}")
        images = ",".join(images_to_text(asked.photos, answers)).encode("utf-8", "replace")
        headers = {"Server-Timing": answers_to_timing(answers, total_ms)}
        return Response(self._head + b',"images":[' + images + b"]}", media_type=JSON, headers=headers)

    async def _of_question(
        self, exchange: Exchange, question: str | list[float], find: Search, begun: float
    ) -> Response:
        self.app.admission.take_photos(1)
        work = functools.partial(self._answer, question, find)
        [(matches, parts_ms)] = await self.app.all_or_gone(exchange, [self.app.server.other(work)])
        if isinstance(matches, str):
            raise Problem(422, matches)
        parts_ms["total"] = 1000 * (time.perf_counter() - begun)
        timing = ", ".join(f"{name};dur={milliseconds:.2f}" for name, milliseconds in parts_ms.items())
        text = self._head + b',"matches":' + msgspec.json.encode(matches) + b"}"
        return Response(text, media_type=JSON, headers={"Server-Timing": timing})

    def _answer(self, question: str | list[float], find: Search) -> tuple[list[Record] | str, dict[str, float]]:
        """What is like a text or a vector, or why that cannot be searched for."""
        begun = time.perf_counter()
        try:
            if isinstance(question, str):
                describer = self.app.server.describer
                if describer is None or describer.embedder is None:
                    raise RuntimeError("a catalogue is never served without an embedder")
                vectors = describer.embedder.embed_texts([question])
            else:
                vectors = np.array([question], np.float64)
            embedded = time.perf_counter()
            [matches] = find(vectors)
        except SeamlineError as error:
            return str(error), {}
        parts_ms = {"embedding": 1000 * (embedded - begun), "search": 1000 * (time.perf_counter() - embedded)}
        return matches, parts_ms


def refuse_of_photos(options: SearchOptions) -> None:
    """Raises Problem for options that say what of a photo is searched for, where there is none.

    Somebody who names classes may mean those of the answers.
    """
    given = [name for name in ("classes", "confidence", "garment") if getattr(options, name) is not None]
    given += ["whole"] if options.whole else []
    if given:
        raise Problem(422, f"{given[0]}: goes with photos, not with a vector or a text; filters choose the answers.")


def to_own_filters(filters: Filters | None) -> Any:
    from seamline.search.filters import Filters as Own

    def values(choice: Choice) -> list[str]:
        return [choice] if isinstance(choice, str) else choice

    if filters is None:
        return Own()
    return Own(
        values(filters.classes or []),
        {name: values(choice) for name, choice in (filters.columns or {}).items()},
        {name: values(choice) for name, choice in (filters.attributes or {}).items()},
    )


def match_to_record(match: Match) -> Record:
    """As search_schemas.Match describes it."""
    x1, y1, x2, y2 = match.box
    return {
        "id": match.id,
        "photo": match.photo,
        "class_name": match.class_name,
        "similarity": match.similarity,
        "bbox": [round(side, 3) for side in (x1, y1, x2 - x1, y2 - y1)],
        "score": match.score,
        "split": match.split,
        "columns": match.columns,
        "attributes": match.attributes,
        "duplicates": match.duplicates,
    }
