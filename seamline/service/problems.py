"""Refusals: what is wrong with a request, as a sentence and as problem details (RFC 9457)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus

MEDIA_TYPE = "application/problem+json"
# Under which of metrics.REASONS a status is counted where the refusal names none itself.
REASON_OF_STATUS = {
    400: "unreadable", 401: "no_key", 403: "host", 408: "slow", 413: "too_large", 415: "media_type", 421: "host",
    422: "invalid", 431: "headers_too_large", 504: "late",
}  # fmt: skip
INFERENCE = "/v2"  # below which errors have the form of the Open Inference Protocol


class Problem(Exception):
    """A request is refused; `detail` is one sentence for whoever sent it."""

    def __init__(
        self, status: int, detail: str, headers: Mapping[str, str] | None = None, reason: str | None = None
    ) -> None:
        super().__init__(detail)
        self.status, self.detail, self.headers = status, detail, dict(headers or {})
        self.reason = reason or REASON_OF_STATUS.get(status, "other")  # of metrics.REASONS

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


def problem_to_body(problem: Problem, request_id: str, path: str) -> tuple[bytes, str]:
    """What is answered at a path, and its media type."""
    if path == INFERENCE or path.startswith(f"{INFERENCE}/"):
        return json.dumps({"error": problem.detail}, ensure_ascii=False).encode("utf-8", "replace"), "application/json"
    return problem_to_json(problem, request_id), MEDIA_TYPE


FULL = {"queue_full": "photos", "bytes_full": "bytes of requests", "connections_full": "connections"}


def overloaded(seconds: int, reason: str) -> Problem:
    """There is no room; `reason` is one of FULL."""
    return Problem(
        503,
        f"There are as many {FULL[reason]} under way as this service accepts; try again in {seconds} s (Retry-After).",
        {"Retry-After": str(seconds)},
        reason,
    )
