"""How much is under way: photos and the bytes of bodies are counted, and what is too much is refused at once."""

from __future__ import annotations

import math
import time
from collections import deque

from seamline.service.problems import Problem, overloaded
from seamline.service.settings import Settings

REMEMBERED = 64  # photos whose ends say how many are done in a second
LONGEST_RETRY_SECONDS = 30


class Admission:
    """Counts for one event loop; nothing here waits."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.photos = 0
        self.fetches = 0
        self.body_bytes = 0
        self._ends: deque[float] = deque(maxlen=REMEMBERED)

    def check_room(self, photos: int = 1) -> None:
        """Raise Problem where there is no room for that many photos more."""
        if self.photos + photos > self.settings.queue:
            raise overloaded(self.retry_seconds(), "queue_full")

    def take_photos(self, count: int) -> None:
        self.check_room(count)
        self.photos += count

    def photo_ended(self) -> None:
        self.photos -= 1
        self._ends.append(time.monotonic())

    def take_fetches(self, count: int) -> None:
        """Count photos that are to be fetched: they are not under way yet, but their number needs a limit too."""
        if self.fetches + count > self.settings.queue:
            raise overloaded(self.retry_seconds(), "queue_full")
        self.fetches += count

    def fetches_ended(self, count: int) -> None:
        self.fetches -= count

    def take_bytes(self, count: int) -> None:
        if self.body_bytes + count > self.settings.bodies_bytes:
            raise overloaded(self.retry_seconds(), "bytes_full")
        self.body_bytes += count

    def give_bytes_back(self, count: int) -> None:
        self.body_bytes -= count

    def retry_seconds(self) -> int:
        """After how long a photo would find room: what the photos under way take, by those that ended last."""
        if len(self._ends) < 2 or self._ends[-1] == self._ends[0]:
            return 1
        seconds_a_photo = (self._ends[-1] - self._ends[0]) / (len(self._ends) - 1)
        return min(max(math.ceil(self.photos * seconds_a_photo), 1), LONGEST_RETRY_SECONDS)


def check_count(count: int, settings: Settings) -> None:
    """Raise Problem where a request has no photo, or more than one request may have."""
    if count == 0:
        raise Problem(422, "There is no photo in the request; send one as image, or several.")
    most = min(settings.photos, settings.queue)
    if count > most:
        raise Problem(413, f"The request has {count} photos; at most {most} are taken in one.")
