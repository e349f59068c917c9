"""What is said of the machine, and of what disturbed a measurement on it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from seamline.errors import SeamlineError
from seamline.machine import Snapshot, conditions, machine_facts, snapshot, usable_core_ids

STEADY = [1.0, 1.01, 0.99, 1.0, 1.01, 0.99]
BEFORE = Snapshot(100, 50, 1, 10, 0)


def test_more_threads_than_cores_is_refused() -> None:
    with pytest.raises(SeamlineError, match=r"benchmark\.threads: 9999 is more than the \d+ cores"):
        usable_core_ids(9999)


def test_machine_facts_tell_nothing_private() -> None:
    facts = machine_facts([0, 1])
    assert facts["cores_used"] == 2
    assert facts["libraries"]["numpy"]
    assert os.uname().nodename not in json.dumps(facts)
    assert str(Path.home()) not in json.dumps(facts)


def test_a_machine_that_was_left_alone_has_nothing_to_tell() -> None:
    found = conditions(BEFORE, Snapshot(120, 55, 1.1, 24.8, 0.2), STEADY)
    assert found["disturbances"] == []
    assert found["stolen_share"] == pytest.approx(0.005)
    assert found["other_share"] == pytest.approx(0.005)  # of 20 s: 5 idle, 0.1 stolen, 14.8 ours
    assert found["throttled_share"] == pytest.approx(0.01)
    assert found["pace_spread"] == pytest.approx(0.02)
    assert found["pace_trend"] == pytest.approx(0, abs=0.01)


@pytest.mark.parametrize(
    ("after", "pace", "told"),
    [
        (Snapshot(120, 55, 4, 22, 0), STEADY, "Other virtual machines on the same host took 15% of the cores' time."),
        (Snapshot(120, 55, 1, 17, 0), STEADY, "Other processes took 40% of the cores' time."),
        (Snapshot(120, 55, 1, 25, 5), STEADY, "A limit on this container's processor time held it up for 25% of it."),
        (Snapshot(120, 55, 1, 25, 0), [1, 1, 1.04, 1.06, 1.09, 1.09], "every format took 9% longer at the end than"),
        (Snapshot(120, 55, 1, 25, 0), [1, 1.3, 1, 1.3, 1, 1.3], "some rounds took all formats 26% longer than others."),
    ],
)
def test_each_disturbance_is_told_in_a_sentence(after: Snapshot, pace: list[float], told: str) -> None:
    [sentence] = [one for one in conditions(BEFORE, after, pace)["disturbances"] if told in one]
    assert sentence.endswith(".")


def test_work_of_others_is_told_from_our_own() -> None:
    """A process that keeps a core busy: once as one of ours, once as another's."""
    core = usable_core_ids(1)
    code = f"import os; os.sched_setaffinity(0, {core})\nwhile True: pass"
    busy = subprocess.Popen([sys.executable, "-c", code])
    try:
        time.sleep(0.3)
        before = snapshot(core, []), snapshot(core, [busy.pid])
        time.sleep(1)
        after = snapshot(core, []), snapshot(core, [busy.pid])
    finally:
        busy.kill()
        busy.wait()
    others, ours = (conditions(one, two, STEADY)["other_share"] for one, two in zip(before, after, strict=True))
    assert others > ours + 0.4
