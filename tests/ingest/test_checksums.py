"""Digests against independent ones: hashlib over the whole, botocore's checksums, moto's ETags of uploads in parts."""

from __future__ import annotations

import base64
import hashlib

import pytest
from botocore.httpchecksum import CrtCrc32cChecksum, CrtCrc64NvmeChecksum
from hypothesis import given
from hypothesis import strategies as st

from seamline.ingest.remote.checksums import Digests, etag_parts, known_checksums
from seamline.ingest.remote.objects import Facts, RemoteObject
from seamline.ingest.remote.s3 import answer_to_facts

BODIES = st.lists(st.binary(max_size=50), max_size=12)


def digested(chunks: list[bytes], facts: Facts) -> Digests:
    digests = Digests(facts)
    for chunk in chunks:
        digests.update(chunk)
    return digests


def in_base64(digest: bytes) -> str:
    return base64.b64encode(digest).decode()


@given(chunks=BODIES)
def test_checksums_do_not_depend_on_the_chunks(chunks: list[bytes]) -> None:
    body = b"".join(chunks)
    expected = {
        "crc32c": CrtCrc32cChecksum().handle(body),
        "crc64nvme": CrtCrc64NvmeChecksum().handle(body),
        "sha1": in_base64(hashlib.sha1(body).digest()),
        "sha256": in_base64(hashlib.sha256(body).digest()),
    }
    item = RemoteObject("a", len(body), hashlib.md5(body).hexdigest())
    digests = digested(chunks, Facts(etag_is_md5=True, checksums=expected))
    assert digests.contradiction(item) == ""
    assert digests.proves_content(item)
    for algorithm in expected:
        spoiled = expected | {algorithm: in_base64(b"12345678")}
        problem = digested(chunks, Facts(etag_is_md5=True, checksums=spoiled)).contradiction(item)
        assert problem == f"its {algorithm.upper()} is not the one that the store has of it"


@given(chunks=BODIES.filter(any), part=st.integers(1, 70))
def test_etags_of_uploads_in_parts(chunks: list[bytes], part: int) -> None:
    body = b"".join(chunks)
    md5s = [hashlib.md5(body[start : start + part]).digest() for start in range(0, len(body), part)]
    etag = f"{hashlib.md5(b''.join(md5s)).hexdigest()}-{len(md5s)}"
    sizes = [len(body[start : start + part]) for start in range(0, len(body), part)]
    facts = Facts(etag_is_md5=True, part_bytes=sizes)
    assert digested(chunks, facts).contradiction(RemoteObject("a", len(body), etag)) == ""
    damaged = [*chunks[:-1], bytes(byte ^ 1 for byte in chunks[-1])]
    if damaged != chunks:
        wrong = digested(damaged, facts).contradiction(RemoteObject("a", len(body), etag))
        assert wrong == "its MD5 is not the one in its ETag"


def test_known_values() -> None:
    """The check values of the CRC catalogue."""
    digests = digested([b"1234", b"56789"], Facts(checksums={"crc64nvme": "", "crc32c": "", "crc32": ""}))
    assert digests.checksum("crc64nvme") == in_base64(0xAE8B14860A799888.to_bytes(8, "big"))
    assert digests.checksum("crc32c") == in_base64(0xE3069283.to_bytes(4, "big"))
    assert digests.checksum("crc32") == in_base64(0xCBF43926.to_bytes(4, "big"))


def test_another_size_is_a_contradiction_before_all_else() -> None:
    problem = digested([b"abc"], Facts()).contradiction(RemoteObject("a", 4, ""))
    assert problem == "3 bytes came in place of 4"
    assert digested([b"abc"], Facts()).contradiction(RemoteObject("a", None, "")) == ""


MD5 = "0123456789abcdef0123456789abcdef"


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"ETag": f'"{MD5}"'}, Facts(etag_is_md5=True)),
        ({"ETag": f'"{MD5}"', "ServerSideEncryption": "AES256", "VersionId": "v"}, Facts("v", True)),
        ({"ETag": f'"{MD5}"', "ServerSideEncryption": "aws:kms"}, Facts()),
        ({"ETag": f'"{MD5}"', "SSECustomerAlgorithm": "AES256"}, Facts()),
        ({"ETag": '"0x8DC"'}, Facts()),
        (
            {"ETag": f'"{MD5}"', "ServerSideEncryption": "aws:kms", "ChecksumCRC64NVME": "c", "ChecksumMD2": "m"},
            Facts(checksums={"crc64nvme": "c"}),
        ),
        ({"ETag": f'"{MD5}-2"', "ChecksumCRC32": "c-2", "ChecksumType": "COMPOSITE"}, Facts(etag_is_md5=True)),
        ({"ETag": f'"{MD5}-2"', "ChecksumCRC32": "c"}, Facts(etag_is_md5=True)),
        (
            {"ETag": f'"{MD5}-2"', "ChecksumCRC64NVME": "c", "ChecksumType": "FULL_OBJECT"},
            Facts(etag_is_md5=True, checksums={"crc64nvme": "c"}),
        ),
    ],
)
def test_what_an_answer_says_of_its_object(answer: dict[str, str], expected: Facts) -> None:
    assert answer_to_facts(answer, (), True) == expected
    assert answer_to_facts(answer, (), False) == expected._replace(etag_is_md5=False)  # a directory bucket's


def test_a_checksum_of_the_whole_outweighs_an_etag() -> None:
    item = RemoteObject("a", 3, MD5)
    checksums = {"sha256": in_base64(hashlib.sha256(b"abc").digest())}
    assert digested([b"abc"], Facts(etag_is_md5=True, checksums=checksums)).contradiction(item) == ""
    assert digested([b"abc"], Facts(etag_is_md5=True)).contradiction(item) == "its MD5 is not the one in its ETag"


def test_an_etag_of_unknown_parts_proves_nothing() -> None:
    item = RemoteObject("a", 3, f"{MD5}-2")
    digests = digested([b"abc"], Facts(etag_is_md5=True))
    assert digests.contradiction(item) == ""
    assert not digests.proves_content(item)


def test_parts_of_an_etag() -> None:
    assert [etag_parts(etag) for etag in (MD5, f"{MD5}-12", "a-b", "")] == [None, 12, None, None]
    assert known_checksums({"crc32": "a", "xxhash64": "b"}) == {"crc32": "a"}
