"""Objects on S3, or on what speaks its protocol, through s3fs's client and the standard AWS configuration."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import aiohttp
from botocore import exceptions as aws
from botocore.parsers import ResponseParserError

from seamline.addresses import client_reason
from seamline.archives import SUFFIXES
from seamline.checksums import etag_parts, known_checksums
from seamline.errors import SeamlineError
from seamline.stores.objects import Body, Changed, Damaged, Facts, RemoteObject, Transient, Unreachable

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
OVERLOADED = {"SlowDown", "RequestTimeout", "RequestTimeTooSkewed", "Throttling", "InternalError"}
# Encrypted with keys of one's own, an object has an ETag that is no MD5.
WITH_KEYS = {"aws:kms", "aws:kms:dsse"}


class S3Store:
    """The objects below s3://bucket/prefix, or the one archive of that name."""

    in_parts = True

    def __init__(self, url: str, client: Any) -> None:
        self.shown = url
        self.client = client
        self.bucket, _, key = url.removeprefix("s3://").partition("/")
        self.single = key.lower().endswith(SUFFIXES)
        self.prefix = key.rpartition("/")[0] if self.single else key.rstrip("/")
        self.prefix += "/" if self.prefix else ""
        self.name = key.removeprefix(self.prefix)

    def address(self, key: str) -> str:
        return f"s3://{self.bucket}/{self.prefix}{key}"

    async def listed(self) -> list[RemoteObject]:
        if self.single:
            with translated(self.shown):
                found = await self.client.head_object(Bucket=self.bucket, Key=self.prefix + self.name)
            return [RemoteObject(self.name, found["ContentLength"], found.get("ETag", "").strip('"'))]
        items = []
        page: dict[str, Any] = {"IsTruncated": True}
        while page.get("IsTruncated"):
            token = {"ContinuationToken": page["NextContinuationToken"]} if "NextContinuationToken" in page else {}
            with translated(self.shown):
                page = await self.client.list_objects_v2(Bucket=self.bucket, Prefix=self.prefix, **token)
            for entry in page.get("Contents", []):
                key = entry["Key"].removeprefix(self.prefix)
                # A key that ends in / is what consoles make of a folder, and holds nothing.
                if entry["Size"] or not (key.endswith("/") or key == ""):
                    items.append(RemoteObject(key, entry["Size"], entry["ETag"].strip('"')))
        return sorted(items)

    async def facts(self, item: RemoteObject) -> Facts:
        asked = {"Bucket": self.bucket, "Key": self.prefix + item.key}
        with translated(self.address(item.key), item):
            answer = await self.client.head_object(**asked, IfMatch=f'"{item.etag}"', ChecksumMode="ENABLED")
            part_bytes = None
            parts = etag_parts(item.etag)
            if parts is not None and parts > 1:
                # Without IfMatch: some servers hold it against the part's own ETag.
                part = await self.client.head_object(**asked, PartNumber=1)
                part_bytes = part["ContentLength"] if part.get("PartsCount") == parts else None
        return answer_to_facts(answer, part_bytes)

    @asynccontextmanager
    async def read(self, item: RemoteObject, start: int, stop: int | None) -> AsyncIterator[Body]:
        asked: dict[str, Any] = {"Bucket": self.bucket, "Key": self.prefix + item.key, "IfMatch": f'"{item.etag}"'}
        asked |= {"ChecksumMode": "ENABLED"} if stop is None else {"Range": f"bytes={start}-{stop - 1}"}
        with translated(self.address(item.key), item):
            answer = await self.client.get_object(**asked)
            if answer.get("ETag", "").strip('"') != item.etag:  # not every server heeds IfMatch
                raise Changed(self.address(item.key))
            body = answer["Body"]
            try:
                yield Body(answer_to_facts(answer, None), chunks(body))
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
        "retries": {"total_max_attempts": 1},  # seamline.patience tries again, bodies included
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


def answer_to_facts(answer: dict[str, Any], part_bytes: int | None) -> Facts:
    """What an answer's headers say.

    Of an object uploaded in parts, checksums may be made of the parts' checksums (COMPOSITE); those are left aside,
    and so are those of which the server does not say what they are.
    """
    etag = answer.get("ETag", "").strip('"')
    kind = answer.get("ChecksumType", "FULL_OBJECT" if etag_parts(etag) is None else "COMPOSITE")
    found = {
        name.removeprefix("Checksum").lower(): value
        for name, value in answer.items()
        if name.startswith("Checksum") and name != "ChecksumType" and kind == "FULL_OBJECT" and "-" not in value
    }
    encrypted = answer.get("ServerSideEncryption") in WITH_KEYS or "SSECustomerAlgorithm" in answer
    return Facts(
        version=answer.get("VersionId", ""),
        etag_is_md5=not encrypted and re.fullmatch(r"[0-9a-f]{32}(-\d+)?", etag) is not None,
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
        raise Transient(client_reason(error)) from None
    except (aiohttp.ClientError, ConnectionError, TimeoutError) as error:
        raise Transient(client_reason(error)) from None
    except (aws.BotoCoreError, ValueError) as error:  # an unknown profile, a bad region, endpoint or bucket name
        raise SeamlineError(f"pull.source: {address} cannot be read ({client_reason(error)}).") from None


def answer_to_error(error: aws.ClientError, address: str, item: RemoteObject | None) -> Exception:
    code = str(error.response.get("Error", {}).get("Code", ""))
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if status >= 500 or status == 429 or code in OVERLOADED:
        return Transient(client_reason(error))
    if item is not None and (status in (404, 412) or code in ("NoSuchKey", "PreconditionFailed")):
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
