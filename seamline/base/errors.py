"""The one exception a user is meant to see: a sentence that says what is wrong and what is allowed."""

from __future__ import annotations

from collections.abc import Sequence

# Packages that only buckets and the web need, and those of the service.
EXTRAS = {"aiobotocore": "s3", "aiohttp": "s3", "awscrt": "s3", "botocore": "s3", "s3fs": "s3"}
EXTRAS |= dict.fromkeys(("httptools", "prometheus_client", "python_multipart", "starlette", "uvicorn"), "serve")
EXTRAS |= {"httpx": "client", "qdrant_client": "qdrant", "tokenizers": "text"}
EXTRAS |= dict.fromkeys(("huggingface_hub", "open_clip", "timm", "transformers"), "embed")
NAMED = 4  # things named in a sentence; the others are counted


class SeamlineError(Exception):
    """Something the user can fix; its text is one sentence naming file, record, value and what is allowed."""


def not_installed(what: str, error: ModuleNotFoundError) -> SeamlineError:
    """For a package that not every installation has, since only some need it."""
    extra = EXTRAS.get((error.name or "").partition(".")[0])
    remedy = f"the extra {extra} brings it" if extra else "docs/models.md says what brings it"
    return SeamlineError(f"{what}: needs {error.name}, which is not installed; {remedy}.")


def counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def some(things: Sequence[str]) -> str:
    """The first few, and how many more there are."""
    more = len(things) - NAMED
    return ", ".join(things[:NAMED]) + (f" and {more} more" if more > 0 else "")
