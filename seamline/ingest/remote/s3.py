"""Objects on S3, or on what speaks its protocol, through s3fs's client and the standard AWS configuration."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import aiohttp
from botocore import exceptions as aws
from botocore.parsers import ResponseParserError

from seamline.base.errors import SeamlineError
from seamline.base.urls import client_reason
from seamline.ingest.archives import SUFFIXES
from seamline.ingest.remote.checksums import etag_parts, known_checksums
from seamline.ingest.remote.objects import Body, Changed, Damaged, Facts, RemoteObject, Transient, Unreachable

CONNECT_TIMEOUT_S = 10
READ_TIMEOUT_S = 30  # without a byte
CHUNK_BYTES = 1 << 18
NO_CREDENTIALS = (
    aws.NoCredentialsError,
    aws.PartialCredentialsError,
    aws.CredentialRetrievalError,
    aws.TokenRetrievalError,
    aws.UnauthorizedSSOTokenError,
    aws.SSOTokenLoadError,
)
# Inside what a client calls an error of the network: a certificate that is not there, a key id with a line break in it.
PERMANENT = (FileNotFoundError, ValueError)
OVERLOADED = {"SlowDown", "RequestTimeout", "RequestTimeTooSkewed", "Throttling", "InternalError"}
GONE = {"NoSuchKey", "PreconditionFailed", "InvalidRange"}
# Encrypted with keys of one's own, an object has an ETag that is not an MD5.
WITH_KEYS = {"aws:kms", "aws:kms:dsse"}
# And in a directory bucket (or behind an access point of one), whose names end so, no ETag is.
DIRECTORY_BUCKETS = ("--x-s3", "--xa-s3")
UNEXPLAINED = (301, 307, 400, 403)  # what a HEAD is answered with, and without a reason


class S3Store:
    """The objects below s3://bucket/prefix, or the one archive of that name."""

    in_parts = True

    def __init__(self, url: str, client: Any) -> None:
        self.shown = url
        self.client = client
        self.bucket, _, key = url.partition("://")[2].partition("/")
        self.etags_are_md5 = not self.bucket.endswith(DIRECTORY_BUCKETS)
        self.single = key.lower().endswith(SUFFIXES)
        self.prefix = key.rpartition("/")[0] if self.single else key.rstrip("/")
        self.prefix += "/" if self.prefix else ""
        self.name = key.removeprefix(self.prefix)

    def address(self, key: str) -> str:
        return f"s3://{self.bucket}/{self.prefix}{key}"

    async def page(self, token: str) -> tuple[list[RemoteObject], str]:
        if self.single:
            with translated(self.shown):
                found = await self.head(self.prefix + self.name)
            return [RemoteObject(self.name, found["ContentLength"], answer_to_etag(found))], ""
        items, following = await self.entries(self.prefix, token)
        if not following:
            await self.check_prefix()
        return items, following

    async def entries(self, prefix: str, token: str) -> tuple[list[RemoteObject], str]:
        """As page(), of the objects whose keys begin so."""
        asked = {"ContinuationToken": token} if token else {}
        with translated(self.shown):
            answer = await self.client.list_objects_v2(Bucket=self.bucket, Prefix=prefix, **asked)
        entries = [(entry["Key"].removeprefix(self.prefix), entry) for entry in answer.get("Contents", [])]
        # A key that ends in / is what consoles make of a folder, and holds nothing.
        items = [
            RemoteObject(key, entry["Size"], answer_to_etag(entry))
            for key, entry in entries
            if entry["Size"] or not (key.endswith("/") or key == "")
        ]
        if not answer.get("IsTruncated"):
            return items, ""
        following = answer.get("NextContinuationToken", "")
        if following in ("", token):
            raise SeamlineError(
                f"pull.source: {self.shown}: the server cuts its listing short, and does not send the rest."
            )
        return items, following

    async def check_prefix(self) -> None:
        """Raise a SeamlineError where the prefix is an object's key too: DVC takes it for that, and sees no other."""
        if self.prefix and await self.object_at(self.prefix.rstrip("/")) is not None:
            raise SeamlineError(
                f"pull.source: {self.shown} is an object that is not an archive, and DVC would see nothing of what "
                "lies below it; name another prefix, or remove or rename that object."
            )

    async def object_at(self, key: str) -> RemoteObject | None:
        """The object of this very key, which is the whole one in the bucket; None where there is none."""
        with translated(self.shown):
            try:
                found = await self.head(key)
            except aws.ClientError as error:
                if answer_status(error) != 404:
                    raise
                return None
        return RemoteObject(key, found["ContentLength"], answer_to_etag(found))

    async def head(self, key: str, **asked: Any) -> dict[str, Any]:
        """What the bucket says of an object.

        Raises:
            ClientError: with the reason, which answers to HEAD lack, being without a body.
        """
        named = {"Bucket": self.bucket, "Key": key}
        try:
            answer: dict[str, Any] = await self.client.head_object(**named, **asked)
        except aws.ClientError as error:
            if answer_status(error) in UNEXPLAINED:
                (await self.client.get_object(**named))["Body"].close()
            raise
        return answer

    async def facts(self, item: RemoteObject, every_part: bool = False) -> Facts:
        with translated(self.address(item.key), item):
            answer = await self.head(self.prefix + item.key, **if_match(item), ChecksumMode="ENABLED")
            return answer_to_facts(answer, await self.part_sizes(item, every_part), self.etags_are_md5)

    async def part_sizes(self, item: RemoteObject, every_part: bool) -> Sequence[int]:
        """Of an object uploaded in parts; () where the bucket does not say."""
        parts, size = etag_parts(item.etag) or 1, item.size or 0

        async def part_size(number: int) -> int:
            # Without IfMatch: some servers hold it against the part's own ETag.
            part = await self.head(self.prefix + item.key, PartNumber=number)
            return int(part["ContentLength"]) if part.get("PartsCount") == parts else 0

        usual = await part_size(1) if parts > 1 else 0
        last = size - (parts - 1) * usual
        if not usual:
            return ()
        if 0 < last <= usual and not every_part:
            return [*[usual] * (parts - 1), last]
        sizes = [usual, *await asyncio.gather(*(part_size(number) for number in range(2, parts + 1)))]
        return sizes if all(sizes) and sum(sizes) == size else ()

    @asynccontextmanager
    async def read(self, item: RemoteObject, start: int, stop: int | None) -> AsyncIterator[Body]:
        asked = {"Bucket": self.bucket, "Key": self.prefix + item.key, **if_match(item)}
        asked |= {"ChecksumMode": "ENABLED"} if stop is None else {"Range": f"bytes={start}-{stop - 1}"}
        with translated(self.address(item.key), item):
            answer = await self.client.get_object(**asked)
            body = answer["Body"]
            try:
                if item.etag and answer_to_etag(answer) != item.etag:  # not every server heeds IfMatch
                    raise Changed(self.address(item.key))
                yield Body(answer_to_facts(answer, (), self.etags_are_md5), chunks(body))
            finally:
                body.close()


@asynccontextmanager
async def open_s3(url: str, connections: int) -> AsyncIterator[S3Store]:
    """A store for s3://bucket/prefix, with as many connections at once."""
    import s3fs

    settings = {
        "connect_timeout": CONNECT_TIMEOUT_S,
        "read_timeout": READ_TIMEOUT_S,
        "max_pool_connections": connections,
        "retries": {"total_max_attempts": 1},  # seamline.ingest.remote.retries tries again, bodies included
    }
    with translated(url):
        filesystem = s3fs.S3FileSystem(
            asynchronous=True,
            skip_instance_cache=True,
            config_kwargs=settings,
        )
        client = await filesystem.set_session()
    try:
        yield S3Store(url, client)
    finally:
        await client.close()


async def chunks(body: Any) -> AsyncIterator[bytes]:
    while data := await body.read(CHUNK_BYTES):
        yield data


def if_match(item: RemoteObject) -> dict[str, str]:
    return {"IfMatch": f'"{item.etag}"'} if item.etag else {}


def answer_to_etag(answer: dict[str, Any]) -> str:
    return str(answer.get("ETag", "")).strip('"')


def answer_to_facts(answer: dict[str, Any], part_bytes: Sequence[int], etags_are_md5: bool) -> Facts:
    """What an answer's headers say.

    Of an object uploaded in parts, checksums may be made of the parts' checksums (COMPOSITE); those are left aside,
    and so are those of which the server does not say what they are.
    """
    etag = answer_to_etag(answer)
    kind = answer.get("ChecksumType", "FULL_OBJECT" if etag_parts(etag) is None else "COMPOSITE")
    found = {
        name.removeprefix("Checksum").lower(): value
        for name, value in answer.items()
        if name.startswith("Checksum") and name != "ChecksumType" and kind == "FULL_OBJECT" and "-" not in value
    }
    encrypted = answer.get("ServerSideEncryption") in WITH_KEYS or "SSECustomerAlgorithm" in answer
    return Facts(
        version=answer.get("VersionId", ""),
        etag_is_md5=etags_are_md5 and not encrypted and re.fullmatch(r"[0-9a-f]{32}(-\d+)?", etag) is not None,
        part_bytes=part_bytes,
        checksums=known_checksums(found),
    )


@contextmanager
def translated(address: str, item: RemoteObject | None = None) -> Iterator[None]:
    """What a client raises, as what the download knows: Transient, Changed, or a sentence for the user."""
    try:
        yield
    except aws.ClientError as error:
        raise answer_to_error(error, address, item) from None
    except NO_CREDENTIALS as error:
        raise SeamlineError(
            f"pull.source: no AWS credentials were found for {address} ({client_reason(error)}); set AWS_PROFILE, or "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
        ) from None
    except (aws.EndpointConnectionError, aws.ConnectTimeoutError, aws.ProxyConnectionError) as error:
        raise Unreachable(client_reason(error)) from None
    except aws.FlexibleChecksumError as error:  # botocore checks some by itself
        raise Damaged(client_reason(error)) from None
    except (aws.HTTPClientError, aws.IncompleteReadError, ResponseParserError) as error:
        if isinstance(getattr(error, "kwargs", {}).get("error"), PERMANENT):
            raise SeamlineError(f"pull.source: {address} cannot be read ({client_reason(error)}).") from None
        raise Transient(client_reason(error)) from None
    except (aiohttp.ClientError, ConnectionError, TimeoutError) as error:
        raise Transient(client_reason(error)) from None
    except (aws.BotoCoreError, ValueError) as error:  # an unknown profile, a bad region, endpoint or bucket name
        raise SeamlineError(f"pull.source: {address} cannot be read ({client_reason(error)}).") from None


def answer_to_error(error: aws.ClientError, address: str, item: RemoteObject | None) -> Exception:
    code = str(error.response.get("Error", {}).get("Code", ""))
    status = answer_status(error)
    if status >= 500 or status == 429 or code in OVERLOADED:
        return Transient(client_reason(error))
    if item is not None and (status in (404, 412, 416) or code in GONE):  # 416: shorter than it was
        return Changed(address)
    if code == "InvalidObjectState":
        return SeamlineError(f"pull.source: {address} is in an archive class such as GLACIER; restore it first.")
    if code == "NoSuchBucket":
        return SeamlineError(f"pull.source: {address}: there is no such bucket.")
    if status == 404:
        return SeamlineError(f"pull.source: there is nothing at {address}.")
    if status in (401, 403):
        return SeamlineError(
            f"pull.source: access to {address} is denied ({code or status}); the AWS credentials in use "
            "(AWS_PROFILE, AWS_ACCESS_KEY_ID) need s3:ListBucket on the bucket and s3:GetObject on its objects."
        )
    return SeamlineError(f"pull.source: {address} cannot be read ({client_reason(error)}).")


def answer_status(error: aws.ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
