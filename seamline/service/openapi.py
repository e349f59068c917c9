"""/openapi.json, made from the types that requests are checked by."""

from __future__ import annotations

from typing import Any

import msgspec

from seamline import __version__
from seamline.service.bodies import EMBED, PREDICT, SEARCH, Kind
from seamline.service.problems import MEDIA_TYPE
from seamline.service.schemas import About, Prediction, ProblemJson
from seamline.service.search_schemas import Embedding, SearchAnswer

REFUSALS = {
    "400": "The request cannot be read.",
    "401": "A key is needed, and the one that was sent is not known.",
    "403": "A page of another site asks.",
    "408": "The body arrived too slowly.",
    "413": "The body, or the number of photos, is too large.",
    "415": "The body is of a type that is not taken.",
    "421": "The service does not answer under this name.",
    "422": "An option, or the only photo, cannot be used; or what is asked for is not served here.",
    "431": "The headers are too large.",
    "500": "The service has failed; its log says more.",
    "503": "There are as many photos under way as the service takes; Retry-After says when to try again.",
    "504": "The answer took too long.",
}
OF_ANY_REQUEST = ("400", "401", "403", "408", "421", "431", "500", "503")
REQUEST_ID = {
    "X-Request-Id": {
        "description": "The caller's own, where it is 1 to 64 of A-Z a-z 0-9 . _ -; else one that is made.",
        "schema": {"type": "string"},
    }
}
RETRY_AFTER = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}}


def openapi(keys: bool) -> dict[str, Any]:
    """The document; `keys`: whether callers need one."""
    types = (
        *(part for kind in (PREDICT, EMBED, SEARCH) for part in (kind.json, kind.options)),
        *(Prediction, Embedding, SearchAnswer, About, ProblemJson),
    )
    _, components = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    problem = {"content": {MEDIA_TYPE: {"schema": ref("ProblemJson")}}}
    refusals = {status: {"description": text, **problem} for status, text in REFUSALS.items()}
    refusals["503"]["headers"] = RETRY_AFTER
    document: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": "Seamline",
            "version": __version__,
            "description": "A photo in, garments out: outlines, names and scores; attributes, and similar garments.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": {
            "/v1/predict": {
                "post": photos_operation(
                    "predict", "Find the garments in one photo or several.", PREDICT, "Prediction", refusals
                )
            },
            "/v1/embed": {
                "post": photos_operation(
                    "embed", "Vectors of garments, or of photos as they are.", EMBED, "Embedding", refusals
                )
            },
            "/v1/search": {
                "post": photos_operation(
                    "search",
                    "Garments of the catalogue that are like those in photos, a vector or a text.",
                    SEARCH,
                    "SearchAnswer",
                    refusals,
                )
            },
            "/v1/catalogue/crop": {"get": crop_operation(refusals)},
            "/v1/about": {
                "get": {
                    "operationId": "about",
                    "summary": "The model that is served, and the limits.",
                    "responses": {"200": answer("About"), **{status: refusals[status] for status in OF_ANY_REQUEST}},
                }
            },
        },
        "components": {"schemas": components},
    }
    if keys:
        document["components"]["securitySchemes"] = {
            "bearer": {"type": "http", "scheme": "bearer"},
            "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        }
        document["security"] = [{"bearer": []}, {"header": []}]
    return document


def photos_operation(name: str, summary: str, of: Kind, answered: str, refusals: dict[str, Any]) -> dict[str, Any]:
    photo = {"schema": {"type": "string", "format": "binary"}}
    options = options_of(of)
    form = {"image": {"type": "array", "items": {"type": "string", "format": "binary"}, "minItems": 1}, **options}
    return {
        "operationId": name,
        "summary": summary,
        "description": "Options stand in the query, in a form's fields or in the JSON; those of the query count.",
        "parameters": [
            {"name": option, "in": "query", "required": False, "schema": schema} for option, schema in options.items()
        ],
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {"schema": {"type": "object", "required": ["image"], "properties": form}},
                "application/json": {"schema": ref(of.json.__name__)},
                "application/octet-stream": photo,
                **{f"image/{kind}": photo for kind in ("jpeg", "png", "webp")},
            },
        },
        "responses": {
            "200": answer(
                answered,
                {
                    "Server-Timing": {
                        "description": "What each step took, in ms; of several photos the longest.",
                        "schema": {"type": "string"},
                    }
                },
            ),
            **refusals,
        },
    }


def options_of(of: Kind) -> dict[str, Any]:
    """Schemas of the options as a query and a form have them, where filters are a text with JSON in it."""
    options: dict[str, Any] = dict(msgspec.json.schema_components((of.options,))[1][of.options.__name__]["properties"])
    if "filters" in options:
        text = {"type": "string", "contentMediaType": "application/json", "contentSchema": ref("Filters")}
        options["filters"] = {**text, "description": "What an answer has to be, as JSON."}
    return options


def crop_operation(refusals: dict[str, Any]) -> dict[str, Any]:
    picture = {"image/jpeg": {"schema": {"type": "string", "format": "binary"}}}
    refused = {status: refusals[status] for status in (*OF_ANY_REQUEST, "422")}
    refused["404"] = {**refusals["400"], "description": "The catalogue has no picture of this id."}
    return {
        "operationId": "crop",
        "summary": "A small picture of a garment of the catalogue.",
        "parameters": [{"name": "id", "in": "query", "required": True, "schema": {"type": "string"}}],
        "responses": {"200": {"description": "JPEG", "content": picture, "headers": REQUEST_ID}, **refused},
    }


def answer(name: str, headers: dict[str, Any] | None = None) -> dict[str, Any]:
    content = {"application/json": {"schema": ref(name)}}
    return {"description": name, "content": content, "headers": {**REQUEST_ID, **(headers or {})}}


def ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}
