"""A request's body taken apart, what is counted of it, and keys: without a service."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from seamline.base.errors import SeamlineError
from seamline.service import admission, bodies
from seamline.service.admission import Admission, check_count
from seamline.service.bodies import MOST_PARTS, PREDICT, SEARCH, Kind, Photo, body_to_asked, read_body
from seamline.service.keys import read_keys
from seamline.service.listening import open_address
from seamline.service.problems import Problem, problem_to_body
from seamline.service.settings import Settings

JSON = "application/json"
PHOTO = {"image": {"base64": "eA=="}}


def read(pieces: list[bytes], seconds: float = 0.0, **settings: Any) -> tuple[bytes, Admission]:
    """A body whose pieces come one after the other."""
    left = list(pieces)
    counts = Admission(Settings(**settings))

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(seconds)
        return {"type": "http.request", "body": left.pop(0), "more_body": bool(left)}

    return asyncio.run(read_body(receive, None, counts)), counts


def test_a_body_may_be_as_large_as_the_limit() -> None:
    body, counts = read([b"abc", b"de"], body_bytes=5, bodies_bytes=5)
    assert (body, counts.body_bytes) == (b"abcde", 5)
    with pytest.raises(Problem, match="as many bytes of requests under way"):
        counts.take_bytes(1)
    with pytest.raises(Problem, match="at most 5 bytes"):
        read([b"abc", b"def"], body_bytes=5)


def test_how_slow_a_body_may_be_is_by_the_second(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "GRACE_SECONDS", 0.3)
    monkeypatch.setattr(bodies, "SLOWEST_BYTES_A_SECOND", 30_000)
    assert len(read([b"x" * 28_000, *[b"x"] * 9], 0.04)[0]) == 28_009


def test_a_request_has_no_more_photos_than_the_queue() -> None:
    check_count(2, Settings(photos=5, queue=2))
    with pytest.raises(Problem, match="has 3 photos; at most 2 are taken in one"):
        check_count(3, Settings(photos=5, queue=2))


def test_it_pays_to_try_again_when_the_photos_under_way_are_done(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([0.0, 2.0, 4.0])  # one in two seconds
    monkeypatch.setattr(admission, "time", SimpleNamespace(monotonic=lambda: next(now)))
    counts = Admission(Settings(queue=6))
    counts.take_photos(6)
    for _ in range(3):
        counts.photo_ended()
    assert counts.retry_seconds() == 6


@pytest.mark.parametrize(
    ("body", "kind", "query", "of"),
    [
        ('{"classes":["a"' + ',"a"' * 20_001 + '],"image":{"base64":"eA=="}}', JSON, "", PREDICT),
        ("x", "image/png", 'filters={"classes":["a"' + ',"a"' * 20_001 + "]}", SEARCH),
    ],
)
def test_json_of_many_values_is_refused_before_it_is_read(body: str, kind: str, query: str, of: Kind) -> None:
    with pytest.raises(Problem, match="The JSON has too many parts; it may have , at most 20,000 times") as refused:
        body_to_asked(body.encode(), kind, query, of)
    assert refused.value.status == 413


@pytest.mark.parametrize(("count", "is_refused"), [(MOST_PARTS, False), (MOST_PARTS + 1, True)])
def test_a_form_of_too_many_parts_is_refused(count: int, is_refused: bool) -> None:
    part = b'--b\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\nx\r\n'
    body = part * count + b"--b--\r\n"
    if is_refused:
        with pytest.raises(Problem, match="more than 1,100 parts"):
            body_to_asked(body, "multipart/form-data; boundary=b", "")
    else:
        photos = body_to_asked(body, "multipart/form-data; boundary=b", "").photos
        assert photos == [Photo("a.png", b"x")] * count


def test_a_query_changes_the_options_that_it_names_alone() -> None:
    body = json.dumps({**PHOTO, "masks": "png", "classes": ["top"], "confidence": 0.1}).encode()
    found = body_to_asked(body, JSON, "confidence=0.5&classes=dress").options
    assert (found.masks, found.classes, found.confidence) == ("png", ["dress"], 0.5)


@pytest.mark.parametrize(
    ("body", "kind", "query", "status", "words"),
    [
        (b'--b\r\nContent-Disposition: form-data; name="image"\r\n\r\nx\r\n--b\r\n',
         "multipart/form-data; boundary=b", "", 400, "The form is cut short"),
        (b"x", "image/png", "masks=%ff", 400, "The query cannot be read"),
    ],
)  # fmt: skip
def test_what_is_cut_short_or_not_text_is_said(body: bytes, kind: str, query: str, status: int, words: str) -> None:
    with pytest.raises(Problem, match=words) as refused:
        body_to_asked(body, kind, query)
    assert refused.value.status == status


def test_of_a_long_name_of_a_file_the_end_is_answered_with() -> None:
    head = 'Content-Disposition: form-data; name="image"; filename="' + "a" * 300 + '.png"'
    body = f"--b\r\n{head}\r\n\r\nx\r\n--b--\r\n".encode()
    [photo] = body_to_asked(body, "multipart/form-data; boundary=b", "").photos
    assert photo.name == "a" * 196 + ".png"


def test_errors_have_the_protocols_form_below_its_address_alone() -> None:
    types = [problem_to_body(Problem(404, "No."), "1", path)[1] for path in ("/v2", "/v2/x", "/v2x", "/v1/predict")]
    assert types == [JSON, JSON, "application/problem+json", "application/problem+json"]


def test_keys_are_lines_of_ascii_and_others_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text("# of the shop, since 2026\n\n  a-key-of-the-shop \nanother-key-of-it\n")
    assert read_keys(path) == ["a-key-of-the-shop", "another-key-of-it"]
    for text in ("a-key-of-the-shöp", "a key of the shop", "fifteen-letters", "a-key-of\x07the-shop"):
        path.write_text(text)
        with pytest.raises(SeamlineError, match="the key in line 1 cannot be used"):
            read_keys(path)
    path.write_text("# none\n")
    with pytest.raises(SeamlineError, match="there is no key"):
        read_keys(path)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "shop.example"])
def test_wherever_others_reach_it_a_key_is_needed(host: str) -> None:
    with pytest.raises(SeamlineError, match="others could reach the service without a key"):
        open_address(host, 0, None, False)


@pytest.mark.parametrize(
    "body",
    [
        b'{"confidence": 1e400, "image": {"base64": ""}}',
        b'{"confidence": "high", "image": 1e400}',
        b'{"confidence": 2, garbage',
        b'{"confidence": 2, "image": ' + b"[" * 100_000,
        b'{"confidence": 2, "image": {"base64": "\xff"}}',
    ],
)
def test_a_bad_option_is_named_even_where_what_follows_cannot_be_read(body: bytes) -> None:
    with pytest.raises(Problem, match=r"^confidence: has to be a number from 0 to 1\.$") as found:
        body_to_asked(body, JSON, "")
    assert found.value.status == 422
