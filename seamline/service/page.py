"""The service's page: one file that loads nothing from anywhere but the service that it comes from."""

from __future__ import annotations

import base64
import hashlib
import re
from importlib.resources import files

POLICY = (
    "default-src 'none'; connect-src 'self'; img-src blob: data:; style-src {style}; script-src {script}; "
    "form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)


def page_and_csp() -> tuple[bytes, str]:
    """The page and its Content-Security-Policy, which lets the page's own style and script run, and nothing else.

    Both are known by their SHA-256, so that a text that gets into the page by a mistake is not run.
    """
    page = (files("seamline.service") / "page" / "index.html").read_bytes()
    return page, POLICY.format(style=element_to_source(page, "style"), script=element_to_source(page, "script"))


def element_to_source(page: bytes, element: str) -> str:
    """The only element of that name as a source of the policy, such as 'sha256-…'."""
    [text] = re.findall(rf"<{element}>(.*?)</{element}>".encode(), page, re.DOTALL)
    return f"'sha256-{base64.b64encode(hashlib.sha256(text).digest()).decode()}'"
