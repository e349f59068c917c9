"""A request's body: read within its limits, and taken apart into photos and options."""

from __future__ import annotations

import asyncio
import binascii
import contextlib
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias
from urllib.parse import parse_qsl

import msgspec
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from seamline.images.reading import Image
from seamline.params.loading.sentences import WORDS, plain_words
from seamline.service.admission import Admission
from seamline.service.problems import Problem
from seamline.service.requests import ClientGone
from seamline.service.schemas import MAX_NAME, EmbedOptions, Options, PhotoJson, PredictJson
from seamline.service.search_schemas import MOST_MATCHES, EmbedJson, Filters, SearchJson, SearchOptions

IMAGE_FIELDS = ("image", "images", "file", "files")
MOST_FIELDS = 100  # of a query
MOST_PARTS = 1100  # of a form: the photos that --photos may allow at most, and fields
SHOWN = 200  # characters of what a library says, which may have the whole value in it
SLOWEST_BYTES_A_SECOND = 4096  # averaged, once GRACE_SECONDS have passed
GRACE_SECONDS = 5
# Of JSON, whose texts are all that is long: as Python's objects, parts take ten times the room that they take as text.
MOST_OBJECTS, MOST_COMMAS = 4000, 20_000
ALLOWED = {"masks": "rle, polygon, png or none", "confidence": "a number from 0 to 1"}
ALLOWED |= dict.fromkeys(("embed", "attributes", "whole"), "true or false")
ALLOWED |= {"k": f"a whole number from 1 to {MOST_MATCHES}", "garment": "a whole number from 1 on"}
ALLOWED |= {"min_score": "a number from -1 to 1"}
FILTERS_ARE = (
    """they are JSON such as {"classes": ["dress"], "attributes": {"neck": ["v"]}, "columns": {"brand": ["a"]}}"""
)
JSON_WORDS = {**WORDS, "object": "object", "array": "array"}  # as whoever writes JSON knows them
FORMS = "multipart/form-data, application/json, image/... or application/octet-stream"


class Photo(NamedTuple):
    """A photo as it was sent: its file, its pixels, or the URL that it is to be fetched from."""

    name: str
    data: bytes | Image
    url: str | None = None


AnyOptions: TypeAlias = Options | EmbedOptions | SearchOptions


class Kind(NamedTuple):
    """A kind of request: its options, and its JSON, which has them beside what is asked about."""

    options: type[AnyOptions]
    json: type[PredictJson | EmbedJson | SearchJson]
    subjects: tuple[str, ...]  # fields of the JSON, one of which has to be there


PREDICT = Kind(Options, PredictJson, ("image", "images"))
EMBED = Kind(EmbedOptions, EmbedJson, ("image", "images"))
SEARCH = Kind(SearchOptions, SearchJson, ("image", "images", "vector", "text"))


class Asked(NamedTuple):
    photos: list[Photo]
    options: Any  # of the request's kind
    question: str | list[float] | None = None  # a text or a vector in the place of photos


async def read_body(
    receive: Callable[[], Awaitable[Mapping[str, Any]]], declared: int | None, admission: Admission
) -> bytes:
    """The whole body. Its bytes are counted as they come; the caller has to give them back (give_bytes_back()).

    Args:
        declared: Content-Length.

    Raises:
        Problem: where it is too large, or comes too slowly; what was counted has been given back.
        ClientGone: where the other side has gone.
    """
    settings = admission.settings
    if declared is not None and declared > settings.body_bytes:
        raise too_large(settings.body_bytes)
    begun, size, chunks = asyncio.get_running_loop().time(), 0, []
    try:
        async with asyncio.timeout(settings.body_seconds):
            while True:
                async with asyncio.timeout(GRACE_SECONDS):  # wait_for() may lose the end of the time in all
                    message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientGone
                chunk = message.get("body", b"")
                if size + len(chunk) > settings.body_bytes:
                    raise too_large(settings.body_bytes)
                admission.take_bytes(len(chunk))
                size += len(chunk)
                chunks.append(chunk)
                if not message.get("more_body", False):
                    return b"".join(chunks) if len(chunks) > 1 else chunk
                seconds = asyncio.get_running_loop().time() - begun
                if seconds > GRACE_SECONDS and size < SLOWEST_BYTES_A_SECOND * seconds:
                    raise TimeoutError
    except TimeoutError:
        admission.give_bytes_back(size)
        raise Problem(408, "The body arrived too slowly.", {"Connection": "close"}) from None
    except BaseException:
        admission.give_bytes_back(size)
        raise


def too_large(most: int) -> Problem:
    return Problem(413, f"The body is too large; at most {most:,} bytes are taken.")


def body_to_asked(body: bytes, content_type: str, query: str, of: Kind = PREDICT) -> Asked:
    """Photos and options from a body.

    Raises:
        Problem: saying what is wrong with it.
    """
    kind, parameters = parse_options_header(content_type)
    if kind == b"multipart/form-data":
        photos, fields = multipart_to_photos(body, parameters.get(b"boundary", b""))
        asked = Asked(photos, values_to_options(fields, of))
    elif kind == b"application/json":
        asked = json_to_asked(body, of)
    elif kind.startswith(b"image/") or kind == b"application/octet-stream":
        asked = Asked([Photo("image", body)] if body else [], of.options())
    else:
        shown = kind.decode("latin-1")[:100] or "no type"
        raise Problem(415, f"The body has the type {shown!r}; it has to be {FORMS}.")
    values = query_to_values(query)
    given = msgspec.structs.asdict(values_to_options(values, of))
    return asked._replace(options=msgspec.structs.replace(asked.options, **{name: given[name] for name in values}))


def query_to_values(query: str) -> dict[str, list[str]]:
    values: dict[str, list[str]] = {}
    try:
        for name, value in parse_qsl(query, keep_blank_values=True, max_num_fields=MOST_FIELDS, errors="strict"):
            values.setdefault(name, []).append(value)
    except ValueError:
        raise Problem(400, f"The query cannot be read; it has at most {MOST_FIELDS} fields, in UTF-8.") from None
    return values


def values_to_options(values: dict[str, list[str]], of: Kind = PREDICT) -> Any:
    """Options from a query or a form. Only classes may have several values."""
    for name, given in values.items():
        if name != "classes" and len(given) > 1:
            raise Problem(422, f"The option {name[:100]!r} is given {len(given)} times; give it once.")
    single: dict[str, Any] = {name: given if name == "classes" else given[0] for name, given in values.items()}
    if "filters" in single and "filters" in of.options.__struct_fields__:
        single["filters"] = text_to_filters(single["filters"])
    try:
        return msgspec.convert(single, of.options, strict=False)
    except msgspec.ValidationError as error:
        raise Problem(422, option_error(single, str(error), of)) from None


def text_to_filters(text: str) -> Filters:
    """The filters of a search as a form or a query has them: JSON."""
    check_parts(text.encode(), b",", MOST_COMMAS)
    try:
        return msgspec.json.decode(text, type=Filters)
    except (msgspec.DecodeError, RecursionError, ValueError) as error:
        raise Problem(422, f"filters: cannot be used ({plain_error(str(error))}); {FILTERS_ARE}.") from None


def option_error(values: Mapping[str, Any], error: str, of: Kind = PREDICT) -> str:
    """A sentence about the option that msgspec names by its path, such as $.masks, or does not know."""
    path = re.search(r"\$\.(\w+)", error)
    if path and path[1] in ALLOWED:
        return f"{path[1]}: has to be {ALLOWED[path[1]]}, not {str(values[path[1]])[:SHOWN]!r}."
    names = of.options.__struct_fields__
    unknown = next((name for name in values if name not in names), None)
    if unknown is None:
        return f"The options cannot be used: {plain_error(error)}."
    return f"There is no option {unknown[:SHOWN]!r}; there are {', '.join(names[:-1])} and {names[-1]}."


def json_error(body: bytes, error: str, of: Kind = PREDICT) -> str:
    """A sentence about what msgspec does not take in a request's JSON."""
    path = re.search(r"`\$\.(\w+)", error)
    if path and path[1] in ALLOWED:
        # What follows the bad value has not been read yet: it need not be JSON, or a number that no float can be.
        with contextlib.suppress(msgspec.MsgspecError, RecursionError, ValueError):
            return option_error(msgspec.json.decode(body), error, of)
        return f"{path[1]}: has to be {ALLOWED[path[1]]}."
    return f"The JSON is not as /openapi.json describes it: {plain_error(error)}."


def plain_error(error: str) -> str:
    """msgspec's "Expected `str`, got `int` - at `$.images[0].name`" in plain words, the field first."""
    text, _, path = error.partition(" - at ")
    where = path.strip("`").removeprefix("$").removeprefix(".")
    if unknown := re.search(r"unknown field `(.*)`", text):
        text = f"there is no field {unknown[1]!r}"
    elif missing := re.search(r"missing required field `(.*)`", text):
        text = f"the field {missing[1]!r} is missing"
    said = plain_words(text, JSON_WORDS)
    return (f"{where}: {said}" if where else said)[:SHOWN]


def check_parts(data: bytes, sign: bytes, most: int) -> None:
    """Raise Problem where JSON has more parts than its text may have, counted by the sign that each of them has."""
    if data.count(sign) > most:
        raise Problem(413, f"The JSON has too many parts; it may have {sign.decode()} at most {most:,} times.")


def json_to_asked(body: bytes, of: Kind = PREDICT) -> Asked:
    check_parts(body, b"{", MOST_OBJECTS)
    check_parts(body, b",", MOST_COMMAS)
    try:
        asked: Any = msgspec.json.decode(body, type=of.json)
    except msgspec.ValidationError as error:
        raise Problem(422, json_error(body, str(error), of)) from None
    except (msgspec.DecodeError, RecursionError, ValueError) as error:
        raise Problem(400, f"The body is not JSON: {str(error)[:SHOWN]}.") from None
    given = [name for name in of.subjects if getattr(asked, name) is not None]
    if len(given) != 1:
        *first, last = of.subjects
        which = f"either {' or '.join(of.subjects)}" if len(first) == 1 else f"one of {', '.join(first)} and {last}"
        raise Problem(422, f"The JSON has to have {which}.")
    subject = getattr(asked, given[0])
    options = of.options(**{name: getattr(asked, name) for name in of.options.__struct_fields__})
    if given[0] not in ("image", "images"):
        return Asked([], options, subject)
    one_by_one = [subject] if given[0] == "image" else subject
    return Asked([json_to_photo(one, number) for number, one in enumerate(one_by_one, 1)], options)


def json_to_photo(one: PhotoJson, number: int) -> Photo:
    name = one.name or f"image {number}"
    if (one.base64 is None) == (one.url is None):
        raise Problem(422, f"{name}: has to have either base64 or url.")
    if one.url is not None:
        return Photo(name, b"", one.url)
    return Photo(name, base64_to_bytes(one.base64 or "", name))


def base64_to_bytes(text: str, name: str) -> bytes:
    """The file in base64, with or without what a browser puts in front of it."""
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        return binascii.a2b_base64(text.encode("ascii"), strict_mode=True)
    except ValueError:  # of what is not ASCII too
        raise Problem(422, f"{name}: is not base64.") from None


class Part(NamedTuple):
    """A part of a form."""

    headers: dict[bytes, bytes]
    data: bytes


def multipart_to_photos(body: bytes, boundary: bytes) -> tuple[list[Photo], dict[str, list[str]]]:
    """The photos of a form, and its other fields."""
    photos: list[Photo] = []
    fields: dict[str, list[str]] = {}
    for part in multipart_to_parts(body, boundary):
        _, options = parse_options_header(part.headers.get(b"content-disposition", b""))
        field, name = options.get(b"name", b"").decode("utf-8", "replace"), options.get(b"filename")
        if field in IMAGE_FIELDS:
            if name is None and is_text(part.data):
                raise Problem(422, f"The form has text in the field {field!r}; curl needs an @: {field}=@photo.jpg.")
            shown = (name or b"").decode("utf-8", "replace")[-MAX_NAME:] or f"image {len(photos) + 1}"
            photos.append(Photo(shown, part.data))
        elif name is not None:
            raise Problem(422, f"The form has a file in the field {field[:100]!r}; photos go into {IMAGE_FIELDS[0]}.")
        else:
            try:
                fields.setdefault(field, []).append(part.data.decode("utf-8"))
            except UnicodeDecodeError:
                raise Problem(422, f"The form's field {field[:100]!r} is not UTF-8.") from None
    return photos, fields


def is_text(data: bytes) -> bool:
    """Whether it may be a file's name or address, sent in the file's place; no format of photos is text."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return 0 < len(text) <= MAX_NAME and text.isprintable()


def multipart_to_parts(body: bytes, boundary: bytes) -> Sequence[Part]:
    """The parts of a form.

    Raises:
        Problem: where it is not one, or has too many parts.
    """
    if not boundary:
        raise Problem(400, "The form's Content-Type does not name its boundary.")
    parts: list[Part] = []
    headers: dict[bytes, bytes] = {}
    name, value = bytearray(), bytearray()
    pieces: list[bytes] = []
    ended = False

    def begin_part() -> None:
        headers.clear()
        pieces.clear()
        if len(parts) >= MOST_PARTS:
            raise Problem(413, f"The form has more than {MOST_PARTS:,} parts.")

    def end_header() -> None:
        headers[bytes(name).lower()] = bytes(value)
        name.clear()
        value.clear()

    def end() -> None:
        nonlocal ended
        ended = True

    try:
        parser = MultipartParser(
            boundary,
            {
                "on_part_begin": begin_part,
                "on_part_data": lambda data, start, stop: pieces.append(data[start:stop]),
                "on_part_end": lambda: parts.append(Part(dict(headers), b"".join(pieces))),
                "on_header_field": lambda data, start, stop: name.extend(data[start:stop]),
                "on_header_value": lambda data, start, stop: value.extend(data[start:stop]),
                "on_header_end": end_header,
                "on_end": end,
            },
        )
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise Problem(400, f"The body is not a form: {error}.") from None
    if not ended:
        raise Problem(400, "The form is cut short: its last boundary is missing.")
    return parts
