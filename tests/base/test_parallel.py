from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from seamline.base.errors import SeamlineError
from seamline.base.parallel import in_processes, in_threads


def square_of(number: int) -> int:
    if number < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return number * number


def refuse(number: int) -> int:
    raise SeamlineError(f"{number} is refused.")


@pytest.mark.parametrize("processes", [1, 2])
def test_results_come_in_the_order_of_the_work(processes: int) -> None:
    assert list(in_processes(square_of, range(20), processes)) == [number * number for number in range(20)]
    assert list(in_processes(square_of, [], processes)) == []


def test_threads_too_and_few_are_held_at_a_time() -> None:
    taken = []

    def numbers() -> Iterator[int]:
        for number in range(1000):
            taken.append(number)
            yield number

    results = in_threads(square_of, numbers())
    assert next(results) == 0
    assert len(taken) < 1000
    assert [0, *results] == [number * number for number in range(1000)]


def test_a_killed_process_is_one_sentence_and_no_wait_for_ever() -> None:
    with pytest.raises(SeamlineError, match="a process was killed"):
        list(in_processes(square_of, [1, 2, -1, 3, 4, 5, 6, 7, 8, 9], 2))


@pytest.mark.parametrize("processes", [1, 2])
def test_an_error_in_the_work_is_handed_on(processes: int) -> None:
    with pytest.raises(SeamlineError, match="7 is refused"):
        list(in_processes(refuse, [7, 8, 9], processes))
