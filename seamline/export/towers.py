"""A model that vectors are made with, before it is exported."""

from __future__ import annotations

from typing import Any, NamedTuple

from seamline.models.embedder_facts import EmbedderFacts


class Towers(NamedTuple):
    """A model that is to be exported: what makes vectors of squares, and of texts."""

    facts: EmbedderFacts
    image: Any  # torch's module: (n, 3, imgsz, imgsz) -> (n, dimension)
    text: Any = None  # (n, length) of whole numbers -> (n, dimension)
    text_length: int = 0
    tokenizer: str = ""  # tokenizer.json's text, with padding and truncation to text_length
    is_transformer: bool = False
