"""Whether and when the client makes a request again.

The pauses double, each a little longer by chance, so that clients that were refused together do not come back together
 (https://aws.amazon.com/builders-library/timeouts-retries-and-backoff-with-jitter/).
"""

from __future__ import annotations

import email.utils
import random
import ssl
import time

import httpx

from seamline.base.urls import client_reason
from seamline.service.client_answers import ServiceError, response_to_error

AGAIN = {429, 502, 503}  # too much to do, or a proxy whose service is just starting
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.1, 10.0
JITTER = 0.25  # of a pause, at most


class Attempts:
    """Of one call."""

    def __init__(self, address: str, retries: int, timeout: float, chance: random.Random) -> None:
        self.address, self.retries, self.timeout, self.chance = address, retries, timeout, chance
        self.made = 0
        self.begun = time.monotonic()
        self.last: ServiceError | None = None

    def pause_after(self, response: httpx.Response) -> float:
        """Seconds until the next attempt, after a refusal.

        Raises:
            ServiceError: when no further attempt is worth making.
        """
        error = response_to_error(response, self.address)
        if response.status_code not in AGAIN:
            raise error
        return self._pause(error, retry_after_seconds(response.headers.get("retry-after", ""), time.time()))

    def pause_without_answer(self, reason: httpx.RequestError) -> float:
        """Seconds until the next attempt, where the connection was lost, or there was none.

        Raises:
            ServiceError: when no further attempt is worth making.
        """
        error = ServiceError(None, "No Answer", f"no answer came ({client_reason(reason)})", address=self.address)
        if is_of_a_certificate(reason):
            raise error
        return self._pause(error, 0)

    def _pause(self, error: ServiceError, at_least: float) -> float:
        self.last = error
        self.made += 1
        pause: float = min(FIRST_PAUSE_SECONDS * 2.0 ** (self.made - 1), LONGEST_PAUSE_SECONDS)
        pause = max(pause, at_least) * (1 + JITTER * self.chance.random())
        if self.made > self.retries or time.monotonic() - self.begun + pause > self.timeout:
            raise error
        return pause

    def out_of_time(self) -> ServiceError:
        before = f", after {self.last.detail.rstrip('.')}" if self.last else ""
        return ServiceError(None, "Timeout", f"no answer came in {self.timeout:g} s{before}", address=self.address)


def is_of_a_certificate(error: BaseException | None) -> bool:
    """Whether the server is not who it says it is: that does not change with a retry."""
    while error is not None and not isinstance(error, ssl.SSLCertVerificationError):
        error = error.__cause__ or error.__context__
    return error is not None


def retry_after_seconds(header: str, now: float) -> float:
    """Retry-After (RFC 9110, 10.2.3): seconds, or a date; 0 for anything else.

    Args:
        now: seconds since 1970.
    """
    if header.isascii() and header.isdigit():
        return float(header)
    try:
        return max(email.utils.parsedate_to_datetime(header).timestamp() - now, 0.0)
    except (ValueError, OverflowError):
        return 0.0
