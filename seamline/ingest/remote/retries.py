"""Trying again: what may pass, how often, and after which waits."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from seamline.base.errors import SeamlineError
from seamline.ingest.remote.objects import Damaged, Transient, Unreachable

# Waits double from half a second to 20 seconds: half a minute to a minute of them in all.
ATTEMPTS = 8
FIRST_DELAY_S = 0.5
LONGEST_DELAY_S = 20.0
ATTEMPTS_TO_REACH = 2  # before anything has answered
ATTEMPTS_AT_DAMAGED = 3
RUN_AGAIN = "What was fetched is kept: run the same command again to resume"
REPRO_RESUMES = "`dvc checkout data/raw && dvc repro --downstream subset` uses what was pulled before"

T = TypeVar("T")


class GaveUp(SeamlineError):
    """What did not pass; its reason is without the advice for those who pull."""

    def __init__(self, text: str, reason: str = "") -> None:
        super().__init__(text)  # alone: an exception comes back from a process by what this was given
        self.reason = reason


def gave_up(address: str, reason: str, advice: str) -> GaveUp:
    return GaveUp(f"pull.source: {address} {reason}{advice}", reason)


class Retries:
    """Those of one pull from one store.

    Args:
        reached: whether the store has answered before.
    """

    def __init__(self, reached: bool = False) -> None:
        self.reached = reached
        self.waits = random.Random(0)  # so that those who failed at once do not all come again at once  # nosec B311

    async def with_(self, action: Callable[[], Awaitable[T]], address: str) -> T:
        """The action's result, tried again after what may pass.

        Raises:
            GaveUp: when it does not.
        """
        damaged = 0
        for attempt in range(ATTEMPTS):
            try:
                result = await action()
            except Transient as error:
                fault = error
            else:
                self.reached = True
                return result
            if isinstance(fault, Unreachable) and not self.reached and attempt + 1 == ATTEMPTS_TO_REACH:
                raise gave_up(address, f"cannot be reached ({fault})", f"; {REPRO_RESUMES}.")
            damaged += isinstance(fault, Damaged)
            if damaged == ATTEMPTS_AT_DAMAGED:
                raise gave_up(
                    address,
                    f"came {damaged} times with other bytes than the store has of it ({fault})",
                    "; where its checksums are not to be relied on, copy the data with another tool and pull the "
                    "folder.",
                )
            if attempt + 1 < ATTEMPTS:
                longest_s = min(LONGEST_DELAY_S, FIRST_DELAY_S * 2**attempt)
                await asyncio.sleep(longest_s * self.waits.uniform(0.5, 1))
        raise gave_up(
            address,
            f"cannot be read: {ATTEMPTS} attempts failed, the last with {fault}",
            f". {RUN_AGAIN}; or {REPRO_RESUMES}.",
        )
