"""What goes in and out of /v1/embed and /v1/search as JSON, as types; those of /v1/predict are in schemas.py."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from seamline.service.schemas import (
    AskedPhoto,
    Category,
    EmbedOptions,
    FoundInstance,
    ModelName,
    PhotoJson,
    Vector,
)

MOST_MATCHES = 100  # for each garment
MAX_TEXT = 1000  # characters
Choice = list[str] | str


class EmbedJson(EmbedOptions, kw_only=True, forbid_unknown_fields=True):
    """image or images, and options."""

    image: PhotoJson | None = None
    images: list[PhotoJson] | None = None


class Filters(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What an answer has to be: of each that is named one of the values."""

    classes: Annotated[Choice, Meta(description="Classes that the catalogue has.")] | None = None
    attributes: Annotated[dict[str, Choice], Meta(description="Values of attributes, by name.")] | None = None
    columns: (
        Annotated[
            dict[str, Choice],
            Meta(description="Of the catalogue's columns, by name; photo, split and id are there too."),
        ]
        | None
    ) = None


class SearchOptions(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What is searched for, and how much of it."""

    confidence: (
        Annotated[float, Meta(ge=0, le=1, description="Weaker garments are not searched for; null: the model's limit.")]
        | None
    ) = None
    classes: (
        Annotated[list[str], Meta(description="Garments of these classes are searched for; null: of all.")] | None
    ) = None
    whole: Annotated[bool, Meta(description="Search for the photo as it is, and not for the garments in it.")] = False
    garment: (
        Annotated[int, Meta(ge=1, description="Only this one, by its place among the photo's instances, from 1.")]
        | None
    ) = None
    k: Annotated[int, Meta(ge=1, le=MOST_MATCHES, description="Similar garments at most, for each.")] = 10
    min_score: Annotated[float, Meta(ge=-1, le=1, description="Those that are less similar are left out.")] | None = (
        None
    )
    filters: Annotated[Filters, Meta(description="What an answer has to be; JSON in a form or a query.")] | None = None


class SearchJson(SearchOptions, kw_only=True, forbid_unknown_fields=True):
    """image, images, vector or text, and options."""

    image: PhotoJson | None = None
    images: list[PhotoJson] | None = None
    vector: Annotated[list[float], Meta(description="Of /v1/embed, or of another of the same embedder.")] | None = None
    text: (
        Annotated[str, Meta(max_length=MAX_TEXT, description="Where the embedder takes texts (see /v1/about).")] | None
    ) = None


class EmbedderName(msgspec.Struct):
    name: str
    identity: Annotated[str, Meta(description="The same for embedders whose vectors can be compared.")]


class EmbeddedInstance(FoundInstance, kw_only=True):
    """A garment and its vector."""

    embedding: Vector


class EmbeddedPhoto(AskedPhoto, kw_only=True):
    """A photo: with error where it cannot be used; with embedding where it was asked for as a whole."""

    embedding: Vector | msgspec.UnsetType = msgspec.UNSET
    instances: list[EmbeddedInstance] | msgspec.UnsetType = msgspec.UNSET


class Embedding(msgspec.Struct):
    """The answer of /v1/embed; images are in the request's order."""

    model: ModelName
    embedder: EmbedderName
    categories: list[Category]
    images: list[EmbeddedPhoto]


class Match(msgspec.Struct, kw_only=True):
    """A garment of the catalogue."""

    id: Annotated[str, Meta(description="Its picture is at /v1/catalogue/crop?id=...")]
    photo: Annotated[str, Meta(description="What the catalogue calls the photo.")]
    class_name: str
    similarity: Annotated[float, Meta(description="Cosine of the two vectors, from -1 to 1.")]
    bbox: Annotated[list[float], Meta(description="x, y, width, height in pixels of the photo.")]
    score: Annotated[float, Meta(description="Of the detection.")]
    split: Annotated[str | None, Meta(description="Which the photo was in when the detector was trained, if any.")]
    columns: dict[str, str | None]
    attributes: dict[str, str]
    duplicates: Annotated[list[str], Meta(description="Ids of garments that are nearly the same picture.")]


class SearchedInstance(FoundInstance, kw_only=True):
    """A garment, and what is like it."""

    matches: Annotated[list[Match], Meta(description="Most similar first.")]


class SearchedPhoto(AskedPhoto, kw_only=True):
    """A photo: with error where it cannot be used; with matches where it was asked for as a whole."""

    matches: list[Match] | msgspec.UnsetType = msgspec.UNSET
    instances: list[SearchedInstance] | msgspec.UnsetType = msgspec.UNSET


class SearchAnswer(msgspec.Struct, kw_only=True):
    """The answer of /v1/search: images in the request's order, or matches of a vector or a text."""

    model: ModelName
    embedder: EmbedderName
    categories: list[Category]
    images: list[SearchedPhoto] | msgspec.UnsetType = msgspec.UNSET
    matches: list[Match] | msgspec.UnsetType = msgspec.UNSET
