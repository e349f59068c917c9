"""A client of the service: photos in, garments out, over HTTP. Needs httpx (the extra client), and no model.

Example:
    with Client("http://127.0.0.1:8000") as client:
        for instance in client.predict("photo.jpg").images[0].instances:
            print(instance.class_name, instance.score, instance.bbox)
"""

from __future__ import annotations

import asyncio
import os
import random
import threading
import weakref
from collections import deque
from collections.abc import AsyncGenerator, Coroutine, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, Future
from typing import Any, TypeVar

from seamline.base.errors import SeamlineError, not_installed
from seamline.base.urls import client_reason

try:
    import httpx
except ModuleNotFoundError as error:
    raise not_installed("seamline.service.client", error) from None

from seamline.service.client_answers import Answer, Image, ServiceError, response_to_answer, response_to_json
from seamline.service.client_attempts import Attempts
from seamline.service.client_requests import (
    Masks,
    Options,
    Photo,
    check_are_several,
    checked_address,
    key_to_headers,
    name_of,
    photos_to_request,
    read_photos,
)

__all__ = ["Answer", "AsyncClient", "Client", "Image", "ServiceError"]

T = TypeVar("T")
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
                f"{self.address}: cannot be asked with this address, or the environment's proxies or certificates "
                f"({client_reason(error)}); trust_env=False leaves the environment out."
            ) from None

    async def predict(
        self,
        photo: Photo | Sequence[Photo],
        *,
        masks: Masks = "rle",
        confidence: float | None = None,
        classes: Sequence[str] | None = None,
    ) -> Answer:
        """What is in a photo, or in several that are sent in one request.

        Args:
            photo: a path, bytes, a file opened with "rb", or an address that the service fetches, where it may; or a
                list of these.
            masks: rle, polygon, png or none.
            confidence: leave out weaker detections; None: the model's own threshold.
            classes: find these classes only.

        Raises:
            ServiceError: when the service refuses the request, or gives no answer in time. A photo that cannot be used
                is an error of its own among several (Image.error), and of the whole request where it is the only one.
            SeamlineError: when a photo cannot be read here.
        """
        options = Options(masks, confidence, classes)
        photos = await asyncio.to_thread(read_photos, photo)
        request = photos_to_request(photos, options)
        response = await self._ask("POST", "v1/predict", **request)
        return response_to_answer(response, [one.name for one in photos], self.address)

    async def predict_all(
        self,
        photos: Iterable[Photo],
        *,
        masks: Masks = "rle",
        confidence: float | None = None,
        classes: Sequence[str] | None = None,
        at_once: int = AT_ONCE,
    ) -> AsyncGenerator[Image, None]:
        """What is in any number of photos, in their order: each in a request of its own, `at_once` of them at a time.

        A photo that cannot be used, here or there, gives an Image with an error, and the others are done.

        Raises:
            ServiceError: when the service refuses a request for another reason than its photo, or gives no answer.
        """
        check_are_several(photos)
        options = Options(masks, confidence, classes)
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
                answer = await self.predict(
                    [photo], masks=options.masks, confidence=options.confidence, classes=options.classes
                )
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


class Client:
    """For code without asyncio: AsyncClient, run by a thread of its own. May be used from any number of threads.

    Not after a fork: a process opens its own. The arguments are AsyncClient's.
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
        self._client = AsyncClient(address, key, timeout=timeout, retries=retries, trust_env=trust_env)
        self._process = os.getpid()
        self._starting = threading.Lock()
        self._is_closed = False
        self._loop = asyncio.new_event_loop()
        arguments = self._loop, self._client
        self._thread = threading.Thread(target=run_loop, args=arguments, name="seamline client", daemon=True)
        self._thread.start()
        self._stop = weakref.finalize(self, self._loop.call_soon_threadsafe, self._loop.stop)  # if nobody closes it

    @property
    def address(self) -> str:
        return self._client.address

    def predict(
        self,
        photo: Photo | Sequence[Photo],
        *,
        masks: Masks = "rle",
        confidence: float | None = None,
        classes: Sequence[str] | None = None,
    ) -> Answer:
        """As AsyncClient.predict()."""
        return self._wait(self._client.predict(photo, masks=masks, confidence=confidence, classes=classes))

    def predict_all(
        self,
        photos: Iterable[Photo],
        *,
        masks: Masks = "rle",
        confidence: float | None = None,
        classes: Sequence[str] | None = None,
        at_once: int = AT_ONCE,
    ) -> Iterator[Image]:
        """As AsyncClient.predict_all(); `photos` is iterated in the caller's thread."""
        check_are_several(photos)
        options = Options(masks, confidence, classes)
        running = semaphore(at_once)
        waiting: deque[Future[Image]] = deque()
        try:
            for photo in photos:
                waiting.append(self._start(self._client._image(photo, options, running)))
                if len(waiting) >= 2 * at_once:
                    yield self._result(waiting.popleft())
            while waiting:
                yield self._result(waiting.popleft())
        finally:
            for future in waiting:
                future.cancel()

    def about(self) -> dict[str, Any]:
        """As AsyncClient.about()."""
        return self._wait(self._client.about())

    def ready(self) -> bool:
        """As AsyncClient.ready()."""
        return self._wait(self._client.ready())

    def wait_until_ready(self, seconds: float) -> None:
        """As AsyncClient.wait_until_ready()."""
        self._wait(self._client.wait_until_ready(seconds))

    def close(self) -> None:
        """End the thread and the connections; calls under way end with an error."""
        with self._starting:
            if self._is_closed or self._process != os.getpid():
                return
            self._is_closed = True
        self._stop()
        self._thread.join()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *reason: object) -> None:
        self.close()

    def _wait(self, call: Coroutine[Any, Any, T]) -> T:
        return self._result(self._start(call))

    def _start(self, call: Coroutine[Any, Any, T]) -> Future[T]:
        with self._starting:  # what is started is started before the loop is stopped, and so cancelled with it
            if self._is_closed or self._process != os.getpid():
                call.close()
                where = "was closed" if self._is_closed else "was opened in another process; open one in this one"
                raise SeamlineError(f"{self.address}: the client {where}.")
            return asyncio.run_coroutine_threadsafe(call, self._loop)

    def _result(self, future: Future[T]) -> T:
        try:
            return future.result()
        except CancelledError:
            raise SeamlineError(f"{self.address}: the client was closed.") from None
        except BaseException:  # Ctrl-C
            future.cancel()
            raise


def run_loop(loop: asyncio.AbstractEventLoop, client: AsyncClient) -> None:
    """A thread's work: the loop, until it is stopped."""
    loop.run_forever()
    loop.run_until_complete(end_calls(client))
    loop.close()


async def end_calls(client: AsyncClient) -> None:
    """Let those go who wait for an answer, and close the connections."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await client.aclose()
    await asyncio.get_running_loop().shutdown_default_executor()


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
