"""What the client makes of the service's answers, and of its refusals."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from seamline.base.errors import SeamlineError
from seamline.base.urls import shown

if TYPE_CHECKING:
    import httpx
    import numpy as np
    import numpy.typing as npt

MOST_DETAIL = 1000  # characters of what somebody else's server says


class ServiceError(SeamlineError):
    """The service refused a request, or gave no answer. The fields are those of problem details (RFC 9457).

    Attributes:
        status: HTTP status; None where no answer came.
        title: what the status means.
        detail: what is wrong with this request, in a sentence.
        request_id: under which the service's log has the request; "" where it is not known.
    """

    def __init__(
        self, status: int | None, title: str, detail: str, request_id: str = "", address: str | None = None
    ) -> None:
        self.status, self.title, self.detail, self.request_id = status, title, detail, request_id
        sentence = detail if detail.endswith((".", "!", "?")) else f"{detail}."
        super().__init__(f"{address}: {sentence}" if address else sentence)


class Model(msgspec.Struct):
    name: str
    revision: str


class Category(msgspec.Struct):
    id: int
    name: str


class Attribute(msgspec.Struct):
    """value is None where the model is not sure enough; confidence is of the likeliest value."""

    value: str | None
    confidence: float


class Match(msgspec.Struct):
    """A garment of the catalogue.

    Attributes:
        similarity: cosine of the two vectors, from -1 to 1.
        bbox: x, y, width and height in pixels of the catalogue's photo.
        columns: what else the catalogue knows of it.
        duplicates: ids of garments that are nearly the same picture.
    """

    id: str
    photo: str
    class_name: str
    similarity: float
    bbox: tuple[float, float, float, float]
    score: float = 0.0
    split: str | None = None
    columns: dict[str, str | None] = {}
    attributes: dict[str, str] = {}
    duplicates: list[str] = []


class Instance(msgspec.Struct):
    """One garment in a photo.

    Attributes:
        bbox: x, y, width and height in pixels of the photo.
        segmentation: the mask as it was asked for: COCO's RLE or polygons, a PNG in base64; None without masks.
        person: index of the one it belongs to in the photo's persons; None for nobody, or where nobody looked.
        attributes, embedding, matches: what it is like, where that was asked for.
    """

    category_id: int
    score: float
    bbox: tuple[float, float, float, float]
    segmentation: Any = None
    person: int | None = None
    attributes: dict[str, Attribute] = {}
    embedding: list[float] | None = None
    matches: list[Match] = []  # most similar first
    image_id: int = 0
    class_name: str = ""  # filled in from the answer's categories
    size: tuple[int, int] = (0, 0)  # height and width of the photo, filled in

    def mask(self) -> npt.NDArray[np.uint8]:
        """The mask as pixels, (height, width) of the photo, 0 or 1.

        Raises:
            SeamlineError: when the answer has no masks, or a package is missing that decodes them.
        """
        if self.segmentation is None:
            raise SeamlineError(
                "the instance has no mask: none were asked for (masks='none'), or the model finds boxes only."
            )
        try:
            return segmentation_to_mask(self.segmentation, *self.size)
        except ModuleNotFoundError as error:
            raise SeamlineError(f"a mask's pixels need {error.name}, which is not installed.") from None


class Person(msgspec.Struct):
    bbox: tuple[float, float, float, float]
    score: float


class Image(msgspec.Struct):
    """What was found in one photo, or why the photo could not be used.

    Attributes:
        image_id: counts the request's photos that could be used, from 1; None for the others.
        height, width: in pixels, upright as the photo's EXIF orientation says.
        persons: the people in it; empty where the service does not look for them.
        embedding, matches: of the photo as it is, where that was asked for.
        error: a sentence, for a photo that could not be used; else None.
    """

    file_name: str
    image_id: int | None = None
    height: int = 0
    width: int = 0
    instances: list[Instance] = []
    persons: list[Person] = []
    embedding: list[float] | None = None
    matches: list[Match] = []
    error: str | None = None


class Answer(msgspec.Struct):
    """Images are in the order of the photos that were sent; matches are of a vector or a text."""

    model: Model
    categories: list[Category]
    images: list[Image] = []
    matches: list[Match] = []


def segmentation_to_mask(segmentation: Any, height: int, width: int) -> npt.NDArray[np.uint8]:
    """Pixels, (height, width), 0 or 1, of RLE, polygons, or {"png": base64}."""
    import numpy as np

    if isinstance(segmentation, dict) and "png" in segmentation:
        from PIL import Image as Pillow

        with Pillow.open(io.BytesIO(base64.b64decode(segmentation["png"]))) as picture:
            return (np.asarray(picture.convert("L")) > 0).astype(np.uint8)
    from pycocotools import mask as coco_mask

    if isinstance(segmentation, list):
        polygons = [polygon for polygon in segmentation if len(polygon) >= 6]
        if not polygons:  # of a mask that is too small for one
            return np.zeros((height, width), np.uint8)
        segmentation = coco_mask.merge(coco_mask.frPyObjects(polygons, height, width))
    pixels: npt.NDArray[np.uint8] = coco_mask.decode(segmentation)
    return pixels


def response_to_answer(response: httpx.Response, names: Sequence[str], address: str) -> Answer:
    """The answer to a request with photos of these names.

    Raises:
        ServiceError: when it is not one.
    """
    try:
        answer = msgspec.json.decode(response.content, type=Answer)
        classes = {category.id: category.name for category in answer.categories}
        for image, name in zip(answer.images, names, strict=True):
            image.file_name = name
            for instance in image.instances:
                instance.class_name = classes[instance.category_id]
                instance.size = image.height, image.width
    except (msgspec.DecodeError, ValueError, KeyError):
        raise not_the_service(response, address) from None
    return answer


def response_to_json(response: httpx.Response, address: str) -> dict[str, Any]:
    """A JSON object.

    Raises:
        ServiceError: when it is not one.
    """
    try:
        return msgspec.json.decode(response.content, type=dict[str, Any])
    except msgspec.DecodeError:
        raise not_the_service(response, address) from None


def not_the_service(response: httpx.Response, address: str) -> ServiceError:
    kind = response.headers.get("content-type", "of no type")
    detail = f"what answers there is not Seamline's service: its answer is {kind[:100]}, and not what was asked for"
    return ServiceError(response.status_code, "Not the Service", detail, address=address)


def response_to_error(response: httpx.Response, address: str) -> ServiceError:
    """Of problem details; of any other refusal, such as a proxy's, its status."""
    status, title = response.status_code, response.reason_phrase
    request_id = response.headers.get("x-request-id", "")
    if response.is_redirect:
        target = shown(response.headers.get("location", ""))
        return ServiceError(status, title, f"leads to {target}; use that address", request_id, address)
    try:
        fields = msgspec.json.decode(response.content, type=dict[str, Any])
    except msgspec.DecodeError:
        fields = {}
    detail = fields.get("detail")
    if not isinstance(detail, str) or not detail:
        detail = f"answered {status} {title}".rstrip()
    title = fields["title"] if isinstance(fields.get("title"), str) else title
    return ServiceError(status, title, detail[:MOST_DETAIL], request_id, address)
