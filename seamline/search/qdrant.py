"""A catalogue on a Qdrant server, for one that outgrew the machine; the extra qdrant brings the client.

A garment is a point: its id is made of the garment's, its payload is what the table has, with the user's columns as c0,
c1 and so on, whatever their names are. A second collection, NAME_facts, holds the catalogue's facts; it is written
last, so that what it says is there.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Collection, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import numpy.typing as npt

from seamline.base.errors import SeamlineError, not_installed
from seamline.base.progress import CountProgress
from seamline.search.catalogue import (
    DUPLICATES,
    AnyEmbedder,
    Catalogue,
    Match,
    check_asking,
    checked_question,
    grouped,
)
from seamline.search.catalogue_facts import CatalogueFacts, check_embedder
from seamline.search.filters import Filters, check_filters
from seamline.search.table import Row
from seamline.search.vectors import Vectors

if TYPE_CHECKING:
    from qdrant_client import QdrantClient

KEY = "SEAMLINE_QDRANT_KEY"  # environment variable
NAMESPACE = uuid.UUID("6e0f7f3c-4f39-5b0c-9f5e-2f1c5f0a7a51")
AT_ONCE = 256  # points in a request
TIMEOUT_S = 30
INDEXED = ("class", "photo", "split", "id", "contents")


def connect(url: str) -> QdrantClient:
    """
    Raises:
        SeamlineError: when the client is not installed or the address is none.
    """
    try:
        from qdrant_client import QdrantClient
    except ModuleNotFoundError as error:
        raise not_installed(url, error) from None
    try:
        return QdrantClient(url=url, api_key=os.environ.get(KEY), timeout=TIMEOUT_S, check_compatibility=False)
    except Exception as error:  # the client has several kinds
        raise SeamlineError(f"{url}: is not the address of a Qdrant server ({error}).") from None


class QdrantCatalogue:
    """Searched as a Catalogue is; safe from any number of threads, as its client is."""

    def __init__(self, client: Any, name: str, url: str, embedder: AnyEmbedder | None = None) -> None:
        """
        Raises:
            SeamlineError: when the server cannot be reached, has no such catalogue, or one of another embedder.
        """
        self.client, self.name, self.url = client, name, url
        self.facts, self.contents = read_facts(client, name, url)
        if embedder is not None:
            check_asking(self.facts, embedder, url)

    @property
    def columns(self) -> list[str]:
        return self.facts.columns

    @property
    def classes(self) -> list[str]:
        return list(self.facts.classes)

    def search(
        self,
        vectors: npt.ArrayLike,
        k: int = 10,
        filters: Filters | None = None,
        min_score: float | None = None,
        duplicates: float | None = DUPLICATES,
        without_photos: Collection[str] = (),
    ) -> list[list[Match]]:
        """As Catalogue.search; the server's index decides how near to exact it is, filters are exact."""
        queries = checked_question(vectors, k, self.facts.dimension)
        condition = filters_to_conditions(filters or Filters(), self.facts, without_photos, self.contents)
        return [self._answers(query, k, condition, min_score, duplicates) for query in queries]

    def crop(self, identity: str) -> bytes:
        """The server has no pictures."""
        return b""

    def close(self) -> None:
        self.client.close()

    def __enter__(self) -> QdrantCatalogue:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _answers(
        self, query: Vectors, k: int, condition: Any, min_score: float | None, duplicates: float | None
    ) -> list[Match]:
        wanted = k if duplicates is None else 4 * k
        while True:
            with answering(self.url):
                found = self.client.query_points(
                    self.name,
                    query=query.tolist(),
                    query_filter=condition,
                    limit=wanted,
                    score_threshold=min_score,
                    with_payload=True,
                    with_vectors=duplicates is not None,
                ).points
            vectors = [point.vector or [] for point in found]
            own = np.array(vectors, np.float32).reshape(len(found), -1 if any(vectors) else 0)
            groups = grouped(own, k, duplicates)
            if len(groups) == k or len(found) < wanted:
                break
            wanted *= 4
        return [
            point_to_match(found[group[0]], self.columns, [found[place].payload["id"] for place in group[1:]])
            for group in groups
        ]


class answering:
    """What a server or the way to it does wrong, as a sentence."""

    def __init__(self, url: str) -> None:
        self.url = url

    def __enter__(self) -> None:
        return None

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if error is None or isinstance(error, SeamlineError) or not isinstance(error, Exception):
            return
        reason = " ".join(str(error).split())[:300]
        raise SeamlineError(f"{self.url}: the request to the Qdrant server failed ({reason}).") from None


def read_facts(client: Any, name: str, url: str) -> tuple[CatalogueFacts, str]:
    with answering(url):
        if not client.collection_exists(f"{name}_facts"):
            raise SeamlineError(f"{url}: has no catalogue {name!r}; seamline catalogue push sends one there.")
        found = client.retrieve(f"{name}_facts", ids=[1], with_payload=True)
        if not found:
            raise SeamlineError(f"{url}: the catalogue {name!r} is not whole; seamline catalogue push sends it again.")
        try:
            return msgspec.convert(found[0].payload["facts"], CatalogueFacts), str(found[0].payload["contents"])
        except (msgspec.ValidationError, KeyError) as error:
            raise SeamlineError(f"{url}: {name!r} does not describe a catalogue ({error}).") from None


def push(client: Any, name: str, url: str, catalogue: Catalogue) -> int:
    """Have the server's catalogue be this one; returns how many garments it has. Run again after a kill, it completes.

    Raises:
        SeamlineError: when the server has one of another embedder, or does not do what it is asked.
    """
    from qdrant_client import models

    facts = catalogue.facts
    contents = f"{facts.vectors_sha256[:16]}{facts.table_sha256[:16]}"
    with answering(url):
        if client.collection_exists(f"{name}_facts") and client.retrieve(f"{name}_facts", ids=[1]):
            before, _ = read_facts(client, name, url)
            check_embedder(before, facts.embedder_identity, str(facts.embedder.get("name", "?")), url)
        create(client, name, facts)
        with_progress = CountProgress("sent", "garments", facts.garments)
        for points in batches(catalogue, contents, models):
            client.upsert(name, points=points, wait=True)
            for _ in points:
                with_progress.add()
        with_progress.close()
        payload = {"facts": msgspec.to_builtins(facts), "contents": contents}
        client.upsert(f"{name}_facts", points=[models.PointStruct(id=1, vector=[1.0], payload=payload)], wait=True)
        others = models.FieldCondition(key="contents", match=models.MatchValue(value=contents))
        client.delete(name, points_selector=models.FilterSelector(filter=models.Filter(must_not=[others])), wait=True)
        return int(client.count(name, exact=True).count)


def create(client: Any, name: str, facts: CatalogueFacts) -> None:
    from qdrant_client import models

    if not client.collection_exists(name):
        vectors = models.VectorParams(size=facts.dimension, distance=models.Distance.COSINE, on_disk=True)
        client.create_collection(name, vectors_config=vectors)
        for key in INDEXED:
            client.create_payload_index(name, key, field_schema=models.PayloadSchemaType.KEYWORD)
    for index in range(len(facts.columns)):
        client.create_payload_index(name, f"c{index}", field_schema=models.PayloadSchemaType.KEYWORD)
    if not client.collection_exists(f"{name}_facts"):
        one = models.VectorParams(size=1, distance=models.Distance.DOT)
        client.create_collection(f"{name}_facts", vectors_config=one)


def batches(catalogue: Catalogue, contents: str, models: Any) -> Iterator[list[Any]]:
    numbers = iter(range(catalogue.facts.garments))
    while part := list(islice(numbers, AT_ONCE)):
        rows, vectors = catalogue.table.rows_at(part), catalogue.vectors_of(part)
        yield [
            models.PointStruct(
                id=point_id(contents, row.id),
                vector=vector.tolist(),
                payload=row_to_payload(row) | {"contents": contents},
            )
            for row, vector in zip(rows, vectors, strict=True)
        ]


def point_id(contents: str, identity: str) -> str:
    """Another one for each catalogue that was sent, so that the old one can be asked until the new one is whole."""
    return str(uuid.uuid5(NAMESPACE, f"{contents} {identity}"))


def row_to_payload(row: Row) -> dict[str, Any]:
    own = {
        "id": row.id, "photo": row.photo, "number": row.number, "class": row.class_name, "box": list(row.box),
        "score": row.score, "width": row.width, "height": row.height, "split": row.split, "person": row.person,
        "attributes": [{"name": name, "value": value} for name, value in sorted(row.attributes.items())],
    }  # fmt: skip
    return own | {f"c{index}": value for index, value in enumerate(row.values)}


def point_to_match(point: Any, columns: Sequence[str], duplicates: list[str]) -> Match:
    has = point.payload
    x1, y1, x2, y2 = has["box"]
    return Match(
        has["id"], has["photo"], has["number"], has["class"], round(float(point.score), 6), (x1, y1, x2, y2),
        has["score"], has["width"], has["height"], has["split"], has["person"],
        {name: has.get(f"c{index}") for index, name in enumerate(columns)},
        {one["name"]: one["value"] for one in has["attributes"]}, duplicates,
    )  # fmt: skip


def filters_to_conditions(
    filters: Filters, facts: CatalogueFacts, without_photos: Collection[str], contents: str
) -> Any:
    """Qdrant's filter; only points of the catalogue that the facts describe count.

    Raises:
        SeamlineError: see check_filters.
    """
    from qdrant_client import models

    check_filters(filters, facts.columns, facts.classes, None)

    def one_of(key: str, wanted: Collection[str]) -> Any:
        return models.FieldCondition(key=key, match=models.MatchAny(any=sorted(wanted)))

    must = [one_of("contents", [contents])]
    if filters.classes:
        must.append(one_of("class", filters.classes))
    for name, wanted in filters.columns.items():
        must.append(one_of(f"c{facts.columns.index(name)}" if name in facts.columns else name, wanted))
    for name, wanted in filters.attributes.items():
        both = models.Filter(must=[one_of("name", [name]), one_of("value", wanted)])
        must.append(models.NestedCondition(nested=models.Nested(key="attributes", filter=both)))
    must_not = [one_of("photo", without_photos)] if without_photos else None
    return models.Filter(must=must, must_not=must_not)
