from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from seamline.params.loading.types import Count, Section, Text

HNSW_FROM = 250_000  # garments; the default of params.yaml, for tools that do without it


class Search(Section):
    backend: Literal["embedded", "qdrant"] = "embedded"
    hnsw_from: Count | None = HNSW_FROM
    url: Text = "http://localhost:6333"
    collection: Annotated[str, Meta(pattern=r"^[\w.-]{1,200}$")] = "garments"
