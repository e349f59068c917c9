from __future__ import annotations

import pytest

from seamline.base.urls import client_reason, gives_access, shown


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("s3://bucket/a b", "s3://bucket/a b"),
        ("https://user:pass@host/a.zip?X-Amz-Signature=abc#x", "https://host/a.zip"),
        ("../photos@home?.zip", "../photos@home?.zip"),
        ("http://me:pw@[x/a.zip", "http://[x/a.zip"),
    ],
)
def test_an_address_is_shown_without_secrets(url: str, expected: str) -> None:
    assert shown(url) == expected


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("s3://bucket/prefix", False),
        ("https://host/a.zip?download=1&version=3", False),
        ("s3://bucket/a#key=1", False),
        ("../user:pass@host", False),
        ("https://user:pass@host/a.zip", True),
        ("s3://AKID:secret@bucket/a", True),
        ("https://host/a.zip?X-Amz-Credential=x", True),
        ("https://host/a.zip?AWSAccessKeyId=x&Expires=1", True),
        ("https://host/a.zip?sv=1&sig=x", True),
        ("https://host/a.zip?access_token=x", True),
        ("https://host/a.zip?api_key=x", True),
        ("https://host/a.zip?key=x", True),
        ("https://host/a.zip?jwt=x", True),
        ("https://host/a.zip?Policy=x&Key-Pair-Id=y&download=1", True),
        ("https://host/a.zip#token=x", True),
    ],
)
def test_addresses_that_give_access_are_recognised(url: str, expected: bool) -> None:
    assert gives_access(url) == expected


def test_a_clients_reason_is_one_line_without_secrets() -> None:
    error = ValueError("cannot open https://me:pw@host/a.zip?sig=abc (really)\nsecond line")
    assert client_reason(error) == "ValueError: cannot open https://host/a.zip (really) second line"
    assert client_reason(TimeoutError()) == "TimeoutError"
    assert (
        client_reason(ValueError("Invalid endpoint: http://me:pa/ss@host:9"))
        == "ValueError: Invalid endpoint: http://host:9"
    )
    assert "secret" not in client_reason(ValueError("x" * 390 + " https://me:secret@host/a.zip"))
