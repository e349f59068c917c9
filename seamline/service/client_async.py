"""The client for code with asyncio; client.py has the one for all other code, and says what both are."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import AsyncGenerator, Iterable, Sequence
from typing import Any

from seamline.base.errors import SeamlineError, not_installed
from seamline.base.urls import client_reason

try:
    import httpx
except ModuleNotFoundError as error:
    raise not_installed("seamline.service.client", error) from None

from seamline.service.client_answers import (
    Answer,
    Image,
    ServiceError,
    response_to_answer,
    response_to_json,
)
from seamline.service.client_attempts import Attempts
from seamline.service.client_requests import (
    Filters,
    Masks,
    Options,
    Photo,
    check_are_several,
    checked_address,
    given_fields,
    key_to_headers,
    name_of,
    photos_to_request,
    question_to_request,
    read_photos,
)

CONNECT_SECONDS = 5.0  # to reach the server; then it is tried again
FIRST_POLL_SECONDS, LAST_POLL_SECONDS = 0.05, 1.0  # between two questions whether the service is ready
SURELY_TAKEN_BYTES = 2**20  # by any service and proxy, so that the limit need not be asked for
AT_ONCE = 4  # requests of predict_all()


class AsyncClient:
    """For code with asyncio; Client is the same for all other code. Belongs to one event loop.

    A call that the service refuses because it has too much to do (429, 503), or that gets no answer because the
    connection is lost, is made again, with growing pauses and at least as long as Retry-After says: a prediction
    changes nothing, so that it may be repeated. Connections are kept and used again.

    Args:
        address: where the service is, such as http://127.0.0.1:8000 or https://example.com/garments.
        key: API key, where the service asks for one.
        timeout: seconds that a call takes at most, with all attempts and the pauses between them. An answer that is not
            there by then is not asked for again: a service that is too slow is not helped by more to do.
        retries: how often an attempt is made again at most.
        trust_env: whether the environment's proxies (HTTPS_PROXY, NO_PROXY) and certificates (SSL_CERT_FILE) are used.

    Raises:
        SeamlineError: for an address or a key that cannot be one.
    """

    def __init__(
        self,
        address: str,
        key: str | None = None,
        *,
        timeout: float = 60.0,
        retries: int = 8,
        trust_env: bool = True,
    ) -> None:
        self.address = checked_address(address)
        self.timeout, self.retries = timeout, retries
        self._chance = random.SystemRandom()  # differs from client to client, as it has to
        headers = key_to_headers(key)
        connections = httpx.Limits(max_connections=None)
        limit = httpx.Timeout(None, connect=CONNECT_SECONDS)  # the whole is limited by `timeout`
        try:
            self._http = httpx.AsyncClient(
                base_url=self.address, headers=headers, timeout=limit, limits=connections, trust_env=trust_env
            )
        except (httpx.InvalidURL, ValueError, ImportError, OSError) as error:
            raise SeamlineError(
                f"{self.address}: cannot be used with this address, or with the environment's proxies or certificates "
                f"({client_reason(error)}); trust_env=False leaves the environment out."
            ) from None

    async def predict(
        self,
        photo: Photo | Sequence[Photo],
        *,
        masks: Masks = "rle",
        confidence: float | None = None,
        classes: Sequence[str] | None = None,
        attributes: bool = False,
        embed: bool = False,
    ) -> Answer:
        """What is in a photo, or in several that are sent in one request.

        Args:
            photo: a path, bytes, a file opened with "rb", or an address that the service fetches, where it may; or a
                list of these.
            masks: rle, polygon, png or none.
            confidence: leave out weaker detections; None: the model's own threshold.
            classes: find these classes only.
            attributes, embed: give each garment attributes, or a vector, where the service has a model for them.

        Raises:
            ServiceError: when the service refuses the request, or gives no answer in time. A photo that cannot be used
                is an error of its own among several (Image.error), and of the whole request where it is the only one.
            SeamlineError: when a photo cannot be read here.
        """
        return await self._predict(photo, Options(masks, confidence, classes, attributes, embed))

    async def _predict(self, photo: Photo | Sequence[Photo], options: Options) -> Answer:
        return await self._of_photos("v1/predict", photo, options.fields())

    async def embed(
        self,
        photo: Photo | Sequence[Photo],
        *,
        whole: bool = False,
        confidence: float | None = None,
        classes: Sequence[str] | None = None,
    ) -> Answer:
        """A vector for each garment (Instance.embedding), or for the photo as it is (Image.embedding).

        Args:
            whole: the photo as it is; no garments are looked for.
            photo, confidence, classes: as of predict().

        Raises:
            ServiceError, SeamlineError: as predict().
        """
        fields = given_fields(whole=whole or None, confidence=confidence, classes=classes)
        return await self._of_photos("v1/embed", photo, fields)

    async def search(
        self,
        photo: Photo | Sequence[Photo] | None = None,
        *,
        vector: Sequence[float] | None = None,
        text: str | None = None,
        garment: int | None = None,
        whole: bool = False,
        k: int = 10,
        min_score: float | None = None,
        filters: Filters | None = None,
        confidence: float | None = None,
        classes: Sequence[str] | None = None,
    ) -> Answer:
        """What in the service's catalogue is similar to each garment in a photo, to a photo, a vector or a text.

        Args:
            photo: as of predict(); Instance.matches has what is similar.
            vector: in its place, such as embed() gives; Answer.matches has what is similar.
            text: in its place, where the service's embedder takes texts.
            garment: search for the photo's Nth garment alone, from 1.
            whole: search for the photo as it is; Image.matches has what is similar.
            k: similar garments at most, for each.
            min_score: leave out those that are less similar.
            filters: what an answer has to be, such as {"classes": ["dress"], "columns": {"brand": ["a", "b"]}}.
            confidence, classes: garments that are looked for in the photo, as of predict().

        Raises:
            ServiceError, SeamlineError: as predict().
        """
        fields = given_fields(
            k=k,
            min_score=min_score,
            filters=filters,
            garment=garment,
            whole=whole or None,
            confidence=confidence,
            classes=classes,
        )
        if sum(one is not None for one in (photo, vector, text)) != 1:
            raise SeamlineError("search: takes one of photo, vector and text.")
        if photo is not None:
            return await self._of_photos("v1/search", photo, fields)
        request = question_to_request(vector, text, fields)
        return response_to_answer(await self._ask("POST", "v1/search", **request), [], self.address)

    async def _of_photos(self, path: str, photo: Photo | Sequence[Photo], fields: dict[str, Any]) -> Answer:
        photos = await asyncio.to_thread(read_photos, photo)
        response = await self._ask("POST", path, **photos_to_request(photos, fields))
        return response_to_answer(response, [one.name for one in photos], self.address)

    async def predict_all(
        self,
        photos: Iterable[Photo],
        *,
        masks: Masks = "rle",
        confidence: float | None = None,
        classes: Sequence[str] | None = None,
        attributes: bool = False,
        embed: bool = False,
        at_once: int = AT_ONCE,
    ) -> AsyncGenerator[Image, None]:
        """What is in any number of photos, in their order: each in a request of its own, `at_once` of them at a time.

        A photo that cannot be used, here or there, gives an Image with an error, and the others are done.

        Raises:
            ServiceError: when the service refuses a request for another reason than its photo, or gives no answer.
        """
        check_are_several(photos)
        options = Options(masks, confidence, classes, attributes, embed)
        running = semaphore(at_once)
        waiting: deque[asyncio.Task[Image]] = deque()
        try:
            for photo in photos:
                waiting.append(asyncio.create_task(self._image(photo, options, running)))
                if len(waiting) >= 2 * at_once:  # so that one that takes long does not keep the others waiting
                    yield await waiting.popleft()
            while waiting:
                yield await waiting.popleft()
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    async def _image(self, photo: Photo, options: Options, running: asyncio.Semaphore) -> Image:
        async with running:
            name = name_of(photo)
            try:
                answer = await self._predict([photo], options)
            except ServiceError as error:
                if not is_of_a_photo(error, name):
                    raise
                return Image(file_name=name, error=error.detail)
            except SeamlineError as error:  # cannot be read here
                return Image(file_name=name, error=str(error))
        return answer.images[0]

    async def about(self) -> dict[str, Any]:
        """The model's facts, its licence, where its source is, and the service's limits, as /v1/about has them."""
        return response_to_json(await self._ask("GET", "v1/about"), self.address)

    async def ready(self) -> bool:
        """Whether the service answers and is ready for photos."""
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                response = await self._http.get("v2/health/ready")
        except (httpx.RequestError, TimeoutError):
            return False
        return response.is_success

    async def wait_until_ready(self, seconds: float) -> None:
        """Return as soon as the service is ready for photos.

        Raises:
            ServiceError: when it is not after so long.
        """
        pause = FIRST_POLL_SECONDS
        try:
            async with asyncio.timeout(seconds):
                while not await self.ready():
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, LAST_POLL_SECONDS)
        except TimeoutError:
            raise ServiceError(
                None, "Not Ready", f"the service is not ready after {seconds:g} s", address=self.address
            ) from None

    async def aclose(self) -> None:
        await self._http.aclose()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *reason: object) -> None:
        await self.aclose()

    async def _ask(self, method: str, path: str, **request: Any) -> httpx.Response:
        """A successful response.

        Raises:
            ServiceError: when there is none.
        """
        attempts = Attempts(self.address, self.retries, self.timeout, self._chance)
        try:
            async with asyncio.timeout(self.timeout):
                while True:
                    try:
                        response = await self._http.request(method, path, **request)
                    except httpx.RequestError as error:
                        await self._check_length(error)
                        pause = attempts.pause_without_answer(error)
                    else:
                        if response.is_success:
                            return response
                        pause = attempts.pause_after(response)
                    await asyncio.sleep(pause)
        except TimeoutError:
            raise attempts.out_of_time() from None

    async def _check_length(self, error: httpx.RequestError) -> None:
        """Raises ServiceError where a connection was lost over a body that is too large.

        A proxy that refuses one may cut the connection while the client still sends, and what it answered is lost.
        """
        length = sent_bytes(error)
        if length <= SURELY_TAKEN_BYTES:
            return
        try:
            limit = int((await self._http.get("v1/about")).json()["limits"]["body_bytes"])
        except (httpx.RequestError, ValueError, KeyError, TypeError):
            return
        if length > limit:
            detail = f"the request has {length / 2**20:.1f} MB, and the service takes {limit / 2**20:g} MB at most"
            raise ServiceError(413, "Content Too Large", detail, address=self.address) from None


def sent_bytes(error: httpx.RequestError) -> int:
    """Length of the body of the request that failed; 0 where it never came to one."""
    try:
        return int(error.request.headers.get("content-length", 0))
    except RuntimeError:  # httpx: no request was made
        return 0


def semaphore(at_once: int) -> asyncio.Semaphore:
    if at_once < 1:
        raise SeamlineError(f"at_once has to be 1 or more, not {at_once}.")
    return asyncio.Semaphore(at_once)


def is_of_a_photo(error: ServiceError, name: str) -> bool:
    """Whether a request with a single photo was refused because of that photo."""
    return error.status == 413 or (error.status == 422 and error.detail.startswith(f"{name}: "))
