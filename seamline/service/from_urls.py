"""Photos that a request names by URLs: fetched before they queue for the model, and counted until it was answered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from seamline.base.errors import SeamlineError
from seamline.service.admission import Admission
from seamline.service.bodies import Photo
from seamline.service.problems import Problem

if TYPE_CHECKING:  # aiohttp takes a while to import, and most services fetch nothing
    from seamline.service.fetching import Fetcher


class FromUrls:
    """The photos of one request; use it in a `with` block, whose end gives back what was counted."""

    def __init__(self, fetcher: Fetcher | None, admission: Admission, photos: Sequence[Photo]) -> None:
        """Raises Problem where photos are to be fetched and the service does not do that."""
        self.fetcher, self.admission = fetcher, admission
        self.count = sum(photo.url is not None for photo in photos)
        self._bytes = 0
        if self.count and fetcher is None:
            raise Problem(422, "This service does not fetch photos from URLs; send the file.")

    def __enter__(self) -> FromUrls:
        self.admission.take_fetches(self.count)
        return self

    def __exit__(self, *_: object) -> None:
        self.admission.fetches_ended(self.count)
        self.admission.give_bytes_back(self._bytes)

    async def file(self, photo: Photo) -> Photo | str:
        """The photo with its file, or why it could not be fetched."""
        if photo.url is None or self.fetcher is None:
            return photo
        try:
            return Photo(photo.name, await self.fetcher.fetch(photo.url, self._take_bytes))
        except SeamlineError as error:
            return str(error)

    def _take_bytes(self, size: int) -> None:
        self.admission.take_bytes(size)
        self._bytes += size
