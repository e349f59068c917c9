"""Refusals: what is wrong with a request, as a sentence and as problem details (RFC 9457)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus

MEDIA_TYPE = "application/problem+json"


class Problem(Exception):
    """A request is refused; `detail` is one sentence for whoever sent it."""

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status, self.detail, self.headers = status, detail, dict(headers or {})

    @property
    def title(self) -> str:
        return HTTPStatus(self.status).phrase


def problem_to_json(problem: Problem, request_id: str) -> bytes:
    fields = {
        "type": "about:blank",
        "title": problem.title,
        "status": problem.status,
        "detail": problem.detail,
        "instance": f"urn:request:{request_id}",
    }
    return json.dumps(fields, ensure_ascii=False).encode("utf-8", "replace")


def overloaded(seconds: int, what: str = "photos under way") -> Problem:
    return Problem(
        503,
        f"There are as many {what} as this service takes; try again in {seconds} s (Retry-After).",
        {"Retry-After": str(seconds)},
    )
