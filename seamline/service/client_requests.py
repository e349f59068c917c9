"""What the client sends: photos and options as a request's body, an address, a key."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple, TypeAlias
from urllib.parse import urlsplit

import msgspec

from seamline.base.errors import SeamlineError
from seamline.base.urls import is_remote, shown

Masks: TypeAlias = Literal["rle", "polygon", "png", "none"]
Filters: TypeAlias = dict[str, Any]  # classes: list[str]; attributes, columns: dict[str, list[str]]
Photo: TypeAlias = str | os.PathLike[str] | bytes | BinaryIO

MOST_NAME = 200  # characters, as the service takes them
NOT_IN_A_FORM = re.compile(
    r'["\\\x00-\x1f\x7f-\x9f]'
)  # what a form has to write in another way, and not all read alike


class Options(NamedTuple):
    masks: Masks = "rle"
    confidence: float | None = None
    classes: Sequence[str] | None = None
    attributes: bool = False
    embed: bool = False

    def fields(self) -> dict[str, Any]:
        """Those that are not left to the service."""
        return given_fields(
            masks=self.masks,
            confidence=self.confidence,
            classes=self.classes,
            attributes=self.attributes or None,
            embed=self.embed or None,
        )


def given_fields(**options: Any) -> dict[str, Any]:
    """Those that are not None; classes as a list."""
    given = {name: value for name, value in options.items() if value is not None}
    if "classes" in given:
        classes = given["classes"]
        given["classes"] = [classes] if isinstance(classes, str) else list(classes)
    return given


class Sent(NamedTuple):
    """A photo on its way: its bytes, or the address that the service fetches it from."""

    name: str
    content: bytes | str


def read_photos(photo: Photo | Sequence[Photo]) -> list[Sent]:
    """Read what is on this machine.

    Raises:
        SeamlineError: when there is no photo, something is not one, or cannot be read.
    """
    photos = photo if isinstance(photo, list | tuple) else [photo]
    if not photos:
        raise SeamlineError("there is no photo in the list; give at least one.")
    return [read_photo(one, number) for number, one in enumerate(photos, 1)]


def check_are_several(photos: Any) -> None:
    """Raise SeamlineError for one photo in the place of several: each of its letters or bytes would count as one."""
    if isinstance(photos, str | os.PathLike | bytes | bytearray | memoryview) or hasattr(photos, "read"):
        raise SeamlineError(f"predict_all: takes several photos, such as a list, not {type(photos).__name__}.")


def read_photo(photo: Any, number: int) -> Sent:
    name = name_of(photo, number)
    if isinstance(photo, bytes | bytearray | memoryview):
        return Sent(name, bytes(photo))
    if isinstance(photo, str) and is_remote(photo):
        return Sent(name, photo)
    try:
        if isinstance(photo, str | os.PathLike):
            return Sent(name, Path(photo).read_bytes())
        content = photo.read()
    except (OSError, ValueError) as error:  # ValueError: of a name with a zero byte, or a file that was closed
        raise SeamlineError(f"{name}: cannot be read ({getattr(error, 'strerror', None) or error}).") from None
    except AttributeError:
        content = None
    if not isinstance(content, bytes):
        kind = type(photo).__name__
        raise SeamlineError(f"{name}: has to be a path, bytes, a file opened with 'rb', or an address, not {kind}.")
    return Sent(name, content)


def name_of(photo: Any, number: int = 1) -> str:
    """What a photo is called in the answer: its file's name, its address, or its number in the request."""
    if isinstance(photo, str) and is_remote(photo):
        name = shown(photo)
    else:
        path = photo if isinstance(photo, str | os.PathLike) else getattr(photo, "name", None)
        name = Path(path).name if isinstance(path, str | os.PathLike) else ""
    sendable = NOT_IN_A_FORM.sub("_", name.encode("utf-8", "replace").decode())
    return sendable.strip()[-MOST_NAME:] or f"photo {number}"


def photos_to_request(photos: Sequence[Sent], fields: Mapping[str, Any]) -> dict[str, Any]:
    """httpx's arguments: a form, which sends bytes as they are; JSON where the service is to fetch a photo."""
    if any(isinstance(photo.content, str) for photo in photos):
        images = [
            {"name": photo.name, "url" if isinstance(photo.content, str) else "base64": photo.content}
            for photo in photos
        ]
        return json_request({"images": images, **fields})  # bytes become base64
    files = [("image", (photo.name, photo.content, "application/octet-stream")) for photo in photos]
    texts = {name: json.dumps(value) if isinstance(value, dict) else value for name, value in fields.items()}
    return {"files": files, "data": texts}


def question_to_request(vector: Sequence[float] | None, text: str | None, fields: Mapping[str, Any]) -> dict[str, Any]:
    """httpx's arguments for a search without a photo."""
    try:
        question = {"text": text} if vector is None else {"vector": [float(number) for number in vector]}
    except (TypeError, ValueError):
        raise SeamlineError("search: vector has to be a list of numbers.") from None
    return json_request({**question, **fields})


def json_request(body: dict[str, Any]) -> dict[str, Any]:
    return {"content": msgspec.json.encode(body), "headers": {"Content-Type": "application/json"}}


def checked_address(address: str) -> str:
    """Without a slash at its end.

    Raises:
        SeamlineError: when it cannot be the address of a service.
    """
    try:
        parts = urlsplit(address)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        usable = False
    if not usable or parts.query or parts.fragment:
        raise SeamlineError(f"{shown(address)}: is not an address of a service, such as http://127.0.0.1:8000.")
    if "@" in parts.netloc:
        raise SeamlineError(f"{shown(address)}: has a user or password in it; a service takes an API key (key=).")
    return address.rstrip("/")


def key_to_headers(key: str | None) -> dict[str, str]:
    """Raises:
    SeamlineError: when a header cannot hold the key.
    """
    if key is None:
        return {}
    key = key.strip()
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise SeamlineError("the API key has characters that no key has; give one line of the service's file of keys.")
    return {"Authorization": f"Bearer {key}"}
