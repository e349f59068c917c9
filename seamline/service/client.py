"""A client of the service: photos in, garments out, over HTTP. Needs httpx (the extra client), and no model.

Example:
    with Client("http://127.0.0.1:8000") as client:
        for instance in client.predict("photo.jpg").images[0].instances:
            print(instance.class_name, instance.score, instance.bbox)
"""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections import deque
from collections.abc import Coroutine, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, Future
from typing import Any, TypeVar

from seamline.base.errors import SeamlineError
from seamline.service.client_answers import Answer, Image, ServiceError
from seamline.service.client_async import AT_ONCE, AsyncClient, semaphore
from seamline.service.client_requests import Filters, Masks, Options, Photo, check_are_several

__all__ = ["Answer", "AsyncClient", "Client", "Image", "ServiceError"]

T = TypeVar("T")


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
        attributes: bool = False,
        embed: bool = False,
    ) -> Answer:
        """As AsyncClient.predict()."""
        options = Options(masks, confidence, classes, attributes, embed)
        return self._wait(self._client._predict(photo, options))

    def predict_all(
        self,
        photos: Iterable[Photo],
        *,
        masks: Masks = "rle",
        confidence: float | None = None,
        classes: Sequence[str] | None = None,
        attributes: bool = False,
        embed: bool = False,
        at_once: int = AT_ONCE,
    ) -> Iterator[Image]:
        """As AsyncClient.predict_all(); `photos` is iterated in the caller's thread."""
        check_are_several(photos)
        options = Options(masks, confidence, classes, attributes, embed)
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

    def embed(
        self,
        photo: Photo | Sequence[Photo],
        *,
        whole: bool = False,
        confidence: float | None = None,
        classes: Sequence[str] | None = None,
    ) -> Answer:
        """As AsyncClient.embed()."""
        return self._wait(self._client.embed(photo, whole=whole, confidence=confidence, classes=classes))

    def search(
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
        """As AsyncClient.search()."""
        return self._wait(
            self._client.search(
                photo,
                vector=vector,
                text=text,
                garment=garment,
                whole=whole,
                k=k,
                min_score=min_score,
                filters=filters,
                confidence=confidence,
                classes=classes,
            )
        )

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
    """End the calls that wait for an answer, and close the connections."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await client.aclose()
    await asyncio.get_running_loop().shutdown_default_executor()
