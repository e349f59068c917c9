"""/openapi.json, made from the types that requests are checked by."""

from __future__ import annotations

from typing import Any

import msgspec

from seamline import __version__
from seamline.service.problems import MEDIA_TYPE
from seamline.service.schemas import About, Options, Prediction, PredictJson, ProblemJson

REFUSALS = {
    "400": "The request cannot be read.",
    "401": "A key is needed, and the one that was sent is not known.",
    "403": "A page of another site asks.",
    "408": "The body came too slowly.",
    "413": "The body, or the number of photos, is too large.",
    "415": "The body is of a type that is not taken.",
    "421": "The service does not answer under this name.",
    "422": "An option, or the only photo, cannot be used; or what is asked for is not available yet.",
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
    types = (PredictJson, Options, Prediction, About, ProblemJson)
    _, components = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    problem = {"content": {MEDIA_TYPE: {"schema": ref("ProblemJson")}}}
    refusals = {status: {"description": text, **problem} for status, text in REFUSALS.items()}
    refusals["503"]["headers"] = RETRY_AFTER
    document: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": "Seamline",
            "version": __version__,
            "description": "A photo in, garments out: outlines, names and scores.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": {
            "/v1/predict": {"post": predict_operation(refusals)},
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


def predict_operation(refusals: dict[str, Any]) -> dict[str, Any]:
    photo = {"schema": {"type": "string", "format": "binary"}}
    options = msgspec.json.schema_components((Options,))[1]["Options"]["properties"]
    form = {"image": {"type": "array", "items": {"type": "string", "format": "binary"}, "minItems": 1}, **options}
    return {
        "operationId": "predict",
        "summary": "Find the garments in one photo or several.",
        "description": "Options stand in the query, in a form's fields or in the JSON; those of the query count.",
        "parameters": [
            {"name": name, "in": "query", "required": False, "schema": schema} for name, schema in options.items()
        ],
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {"schema": {"type": "object", "required": ["image"], "properties": form}},
                "application/json": {"schema": ref("PredictJson")},
                "application/octet-stream": photo,
                **{f"image/{kind}": photo for kind in ("jpeg", "png", "webp")},
            },
        },
        "responses": {
            "200": answer(
                "Prediction",
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


def answer(name: str, headers: dict[str, Any] | None = None) -> dict[str, Any]:
    content = {"application/json": {"schema": ref(name)}}
    return {"description": name, "content": content, "headers": {**REQUEST_ID, **(headers or {})}}


def ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}
