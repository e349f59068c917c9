"""Other forms of a file's name, as file systems, archives, web servers and annotation tools leave them."""

from __future__ import annotations

import re
import unicodedata
from urllib.parse import unquote

from seamline.base.files import folded
from seamline.images.files import SUFFIXES, UNREAD_SUFFIXES
from seamline.ingest.layouts.text import without_surrogates

UPLOAD = re.compile(r"(^|/)[0-9a-f]{8}-(?=[^/]+$)")  # Label Studio's, before the name of a file that was uploaded


def composed(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def unescaped(text: str) -> str:
    """As folded, and %20 is a space."""
    return folded(unquote(text))


def without_plus(text: str) -> str:
    """As unescaped, and + is a space too, as in forms on the web."""
    return unescaped(text.replace("+", " "))


def as_text(text: str) -> str:
    """As folded, and bytes that are not UTF-8 are what they have become in the records."""
    return without_surrogates(folded(text))


def trimmed(text: str) -> str:
    """As text, and without blanks around its parts."""
    return "/".join(part.strip() for part in as_text(text).split("/"))


def without_upload(text: str) -> str:
    """As trimmed, and without what Label Studio puts before the name of an uploaded file."""
    return UPLOAD.sub(r"\1", trimmed(text))


def suffix_of(text: str) -> str:
    """The suffix in small letters, if it is one of pictures, else ""."""
    dot = text.rfind(".")
    suffix = text[dot:].strip().lower() if dot > text.rfind("/") + 1 else ""
    return suffix if suffix in SUFFIXES or suffix in UNREAD_SUFFIXES else ""


def stem_of(text: str) -> str:
    """As without_upload, and without the suffix of a picture."""
    plain = without_upload(text)
    suffix = suffix_of(plain)
    return plain[: -len(suffix)] if suffix else plain


FORMS = (
    composed, folded, unescaped, without_plus, as_text, trimmed, without_upload,
)  # the closest first  # fmt: skip
