"""What goes in and out as JSON, as types: requests are checked by them, and /openapi.json is made from them."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Masks = Literal["rle", "polygon", "png", "none"]
MAX_NAME = 200  # characters
MAX_URL = 4000


Confidence = (
    Annotated[float, Meta(ge=0, le=1, description="Weaker detections are left out; null: the model's own limit.")]
    | None
)
Classes = Annotated[list[str], Meta(description="Names of the classes to find; null: all of them.")] | None


class Options(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What is asked for, of all photos of a request."""

    masks: Annotated[Masks, Meta(description="How masks are written; none leaves them out.")] = "rle"
    confidence: Confidence = None
    classes: Classes = None
    embed: Annotated[
        bool, Meta(description="Each garment's vector, where the service has an embedder (see /v1/about).")
    ] = False
    attributes: Annotated[
        bool, Meta(description="Each garment's attributes, where the service has a model of them (see /v1/about).")
    ] = False


class EmbedOptions(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What is to have a vector, of all photos of a request."""

    confidence: Confidence = None
    classes: Classes = None
    whole: Annotated[bool, Meta(description="The photo as it is, in the place of the garments in it.")] = False


class PhotoJson(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """One photo: its file in base64, or its address where the service fetches photos."""

    base64: Annotated[str, Meta(description="The file in base64, with or without data:image/...;base64,")] | None = None
    url: (
        Annotated[
            str,
            Meta(description="Its https:// URL, where the service fetches photos (see /v1/about)", max_length=MAX_URL),
        ]
        | None
    ) = None
    name: Annotated[str, Meta(description="What it is called in the answer", max_length=MAX_NAME)] | None = None


class PredictJson(Options, kw_only=True, forbid_unknown_fields=True):
    """image or images, and options."""

    image: PhotoJson | None = None
    images: list[PhotoJson] | None = None


class ModelName(msgspec.Struct):
    name: str
    revision: Annotated[str, Meta(description="Of the model's contents: equal models have equal revisions.")]


class Category(msgspec.Struct):
    id: int
    name: str


class Mask(msgspec.Struct):
    """A mask of the photo's size: RLE as pycocotools reads it, or a PNG in base64 with pixels of 0 or 255."""

    size: Annotated[list[int], Meta(description="Height and width of the photo, in pixels.")] | msgspec.UnsetType = (
        msgspec.UNSET
    )
    counts: str | msgspec.UnsetType = msgspec.UNSET
    png: str | msgspec.UnsetType = msgspec.UNSET


class AttributeJson(msgspec.Struct):
    """One attribute of a garment, such as its neck."""

    value: Annotated[str | None, Meta(description="null where the model is not sure enough to name one.")]
    confidence: Annotated[float, Meta(ge=0, le=1, description="Of the likeliest value.")]


Vector = Annotated[
    list[float], Meta(description="Of length 1; near those of garments that look alike, by the same embedder.")
]


class FoundInstance(msgspec.Struct, kw_only=True):
    """What is said of every garment that was found, whatever was asked for."""

    image_id: int
    category_id: int
    bbox: Annotated[list[float], Meta(description="x, y, width, height in pixels of the photo.")]
    score: Annotated[float, Meta(ge=0, le=1)]
    person: (
        Annotated[int, Meta(description="Whom it belongs to: the index in the photo's persons; null: nobody.")]
        | msgspec.UnsetType
        | None
    ) = msgspec.UNSET


class Instance(FoundInstance, kw_only=True):
    """A garment, as a record of COCO's results files, which `seamline predict` writes too."""

    attributes: (
        Annotated[
            dict[str, AttributeJson],
            Meta(description="By name, where they were asked for; {} for a class that /v1/about does not list."),
        ]
        | msgspec.UnsetType
    ) = msgspec.UNSET
    segmentation: Mask | list[list[float]] | msgspec.UnsetType = msgspec.UNSET
    embedding: Vector | msgspec.UnsetType = msgspec.UNSET


class Person(msgspec.Struct):
    bbox: Annotated[list[float], Meta(description="x, y, width, height in pixels of the photo.")]
    score: Annotated[float, Meta(ge=0, le=1)]


class AskedPhoto(msgspec.Struct, kw_only=True):
    """What is said of every photo, whatever was asked for."""

    file_name: str
    image_id: int | msgspec.UnsetType = msgspec.UNSET
    height: int | msgspec.UnsetType = msgspec.UNSET
    width: int | msgspec.UnsetType = msgspec.UNSET
    persons: (
        Annotated[list[Person], Meta(description="The people in it, where the service looks for people.")]
        | msgspec.UnsetType
    ) = msgspec.UNSET
    error: str | msgspec.UnsetType = msgspec.UNSET


class PhotoAnswer(AskedPhoto, kw_only=True):
    """A photo: with error where it cannot be used, else with all others."""

    instances: list[Instance] | msgspec.UnsetType = msgspec.UNSET


class Prediction(msgspec.Struct):
    """The answer of /v1/predict; images are in the request's order."""

    model: ModelName
    categories: list[Category]
    images: list[PhotoAnswer]


class ProblemJson(msgspec.Struct):
    """Problem details (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    instance: str


class ModelAbout(msgspec.Struct, kw_only=True):
    name: str
    revision: str
    family: str
    format: str
    precision: str
    imgsz: Annotated[int, Meta(description="Side of the model's square input, in pixels.")]
    classes: list[str]
    has_masks: bool
    confidence: float
    nms_iou: float
    max_detections: int
    int8_gate: Annotated[str, Meta(description="accepted, refused or not known; null unless it is INT8.")] | None
    licence: str
    source: Annotated[str, Meta(description="Where the source of the model and its training is.")] | None


class PeopleAbout(msgspec.Struct, kw_only=True):
    """The model that finds people, and how garments are found in what is cut out for each."""

    name: str
    revision: str
    person_class: str
    confidence: Annotated[float, Meta(description="Weaker people are left out.")]
    margin: Annotated[float, Meta(description="Around a person, as a share of the sides of the box.")]
    most: Annotated[int, Meta(description="People in a photo that are cut out.")]
    licence: str


class AttributesAbout(msgspec.Struct, kw_only=True):
    """The model that says attributes of garments."""

    name: str
    revision: str
    precision: str
    attributes: Annotated[dict[str, list[str]], Meta(description="The values of each.")]
    classes: Annotated[list[str] | None, Meta(description="Of garments that get attributes; null: all.")]
    licence: Annotated[str, Meta(description="Of the weights that its training began with.")]


class EmbedderAbout(msgspec.Struct, kw_only=True):
    """The model that gives garments vectors."""

    name: str
    revision: str
    identity: Annotated[str, Meta(description="The same for embedders whose vectors can be compared.")]
    precision: str
    dimension: Annotated[int, Meta(description="Numbers in a vector.")]
    background: Annotated[str, Meta(description="What it sees around a garment: keep, white or mean.")]
    margin: Annotated[float, Meta(description="Around a garment, as a share of the sides of its box.")]
    has_text: Annotated[bool, Meta(description="Whether a text can be searched for.")]
    licence: str


class CatalogueAbout(msgspec.Struct, kw_only=True):
    """The garments that are searched."""

    photos: int
    garments: int
    classes: Annotated[dict[str, int], Meta(description="How many garments there are of each.")]
    columns: Annotated[list[str], Meta(description="What else is known of them, to filter by.")]
    index: Annotated[str, Meta(description="exact or hnsw")]
    revision: Annotated[str, Meta(description="Of its contents: equal catalogues have equal revisions.")]


class LimitsAbout(msgspec.Struct, kw_only=True):
    body_bytes: int
    photos: Annotated[int, Meta(description="In a request.")]
    pixels: Annotated[int, Meta(description="Of a photo.")]
    queue: Annotated[int, Meta(description="Photos under way at once, of all requests.")]
    fetches_urls: bool


class About(msgspec.Struct):
    """What is served."""

    model: ModelAbout
    limits: LimitsAbout
    version: Annotated[str, Meta(description="Of seamline.")]
    people: Annotated[PeopleAbout | None, Meta(description="null where nobody looks for people.")] = None
    # Left out where there are none, so that other services answer as they always have.
    attributes: AttributesAbout | msgspec.UnsetType = msgspec.UNSET
    embedder: EmbedderAbout | msgspec.UnsetType = msgspec.UNSET
    catalogue: CatalogueAbout | msgspec.UnsetType = msgspec.UNSET
