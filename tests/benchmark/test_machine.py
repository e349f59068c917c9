"""What is said of the machine, and of what disturbed a measurement on it."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from seamline.base import parallel, processors
from seamline.base.errors import SeamlineError
from seamline.benchmark import machine
from seamline.benchmark.machine import Snapshot, conditions, machine_facts, peak_rss_mb, snapshot, usable_core_ids

STEADY = [1.0, 1.01, 0.99, 1.0, 1.01, 0.99]
BEFORE = Snapshot(100, 50, 1, 10, 0)


def test_more_threads_than_cores_is_refused() -> None:
    with pytest.raises(SeamlineError, match=r"benchmark\.threads: 9999 is more than the \d+ cores"):
        usable_core_ids(9999)


def test_machine_facts_hold_nothing_private() -> None:
    facts = machine_facts([0, 1])
    assert facts["cores_used"] == 2
    assert facts["libraries"]["numpy"]
    assert os.uname().nodename not in json.dumps(facts)
    assert str(Path.home()) not in json.dumps(facts)


def test_an_undisturbed_machine_has_nothing_to_say() -> None:
    found = conditions(BEFORE, Snapshot(120, 55, 1.1, 24.8, 0.2), STEADY)
    assert found["disturbances"] == []
    assert found["stolen_share"] == pytest.approx(0.005)
    assert found["other_share"] == pytest.approx(0.005)  # of 20 s: 5 idle, 0.1 stolen, 14.8 ours
    assert found["throttled_share"] == pytest.approx(0.01)
    assert found["pace_spread"] == pytest.approx(0.02)
    assert found["pace_trend"] == pytest.approx(0, abs=0.01)


@pytest.mark.parametrize(
    ("after", "pace", "words"),
    [
        (Snapshot(120, 55, 4, 22, 0), STEADY, "Other virtual machines on the same host took 15% of the cores' time."),
        (Snapshot(120, 55, 1, 17, 0), STEADY, "Other processes took 40% of the cores' time."),
        (Snapshot(120, 55, 1, 25, 5), STEADY, "processor time stopped the benchmark for 25% of the time."),
        (Snapshot(120, 55, 1, 25, 0), [1, 1, 1.04, 1.06, 1.09, 1.09], "every format took 9% longer at the end than"),
        (Snapshot(120, 55, 1, 25, 0), [1, 1.3, 1, 1.3, 1, 1.3], "some rounds took 26% longer than others"),
    ],
)
def test_each_disturbance_has_a_sentence(after: Snapshot, pace: list[float], words: str) -> None:
    [sentence] = [one for one in conditions(BEFORE, after, pace)["disturbances"] if words in one]
    assert sentence.endswith(".")


# What only Linux says, as it is on macOS: unknown, with the reason, and no zero that looks measured.


@pytest.fixture
def without_proc(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setattr(machine, "PROC", tmp_path / "proc")
    monkeypatch.setattr(processors, "CPUINFO", tmp_path / "proc" / "cpuinfo")
    processors.processor_fields.cache_clear()
    yield
    processors.processor_fields.cache_clear()


def test_without_proc_it_is_not_known_what_others_took(without_proc: None) -> None:
    assert snapshot(usable_core_ids(None), []) is None
    found = conditions(None, None, STEADY)
    assert [found[f"{name}_share"] for name in ("stolen", "other", "throttled")] == [None] * 3
    assert found["pace_spread"] == pytest.approx(0.02)
    [sentence] = found["disturbances"]
    assert sentence == f"How much of the cores' time others took is not known, as {machine.PROC / 'stat'} does not say."


def test_nor_where_the_cores_have_other_numbers_there() -> None:
    assert snapshot([10**6], []) is None


def test_without_a_control_group_it_is_not_known_whether_a_limit_held_it_up(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(machine, "GROUP_TIMES", tmp_path / "cpu.stat")
    taken = snapshot(usable_core_ids(None), [])
    assert taken is not None
    assert taken.throttled_s is None
    found = conditions(taken._replace(total_s=0), taken, STEADY)
    assert found["throttled_share"] is None
    assert found["stolen_share"] is not None
    assert f"is not known, as there is no {tmp_path / 'cpu.stat'}." in found["disturbances"][0]


def test_without_a_way_to_keep_to_cores_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_setaffinity")
    [sentence] = conditions(BEFORE, Snapshot(120, 55, 1.1, 24.8, 0.2), STEADY)["disturbances"]
    assert sentence.startswith("The formats were not bound to the same cores")


def test_without_a_list_of_usable_cores_it_takes_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    assert usable_core_ids(None) == [0, 1, 2]
    assert parallel.usable_cores() == 3


def test_without_proc_the_processor_is_named_by_macos_and_its_instructions_are_unknown(
    without_proc: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    monkeypatch.setattr(platform, "processor", lambda: "arm")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert machine_facts([0])["processor"] == "arm"
    (tmp_path / "sysctl").write_text('#!/bin/sh\n[ "$*" = "-n machdep.cpu.brand_string" ] && echo Apple M4\n')
    (tmp_path / "sysctl").chmod(0o755)
    facts = machine_facts([0])
    assert (facts["processor"], facts["instructions"]) == ("Apple M4", None)


def test_a_system_that_does_not_say_how_much_memory_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown_name(name: str) -> int:
        raise ValueError("unrecognized configuration name")

    monkeypatch.setattr(os, "sysconf", unknown_name)
    assert machine_facts([0])["memory_gb"] is None


def test_without_proc_peak_memory_is_what_the_system_counts(
    without_proc: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Linux counts KiB, macOS bytes."""
    counted = peak_rss_mb()
    assert 50 < counted < 50_000
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    assert peak_rss_mb() == pytest.approx(counted / 1024, rel=0.1)


@pytest.mark.skipif(not Path("/proc/stat").exists(), reason="counts what /proc/stat tells, which this system lacks")
def test_work_of_others_is_kept_apart_from_our_own() -> None:
    """A process that keeps a core busy: once as one of ours, once as another's."""
    core = usable_core_ids(1)
    code = f"import os; os.sched_setaffinity(0, {core})\nwhile True: pass"
    busy = subprocess.Popen([sys.executable, "-c", code])
    try:
        process = psutil.Process(busy.pid)
        while process.cpu_affinity() != core:  # until it has begun
            time.sleep(0.01)
        before, begun = [snapshot(core, []), snapshot(core, [busy.pid])], process.cpu_times()
        while process.cpu_times().user < begun.user + 0.5:  # however busy the machine is
            time.sleep(0.1)
        after, ended = [snapshot(core, []), snapshot(core, [busy.pid])], process.cpu_times()
    finally:
        busy.kill()
        busy.wait()
    others, ours = (conditions(one, two, STEADY)["other_share"] for one, two in zip(before, after, strict=True))
    assert before[0] is not None
    assert after[0] is not None
    took = ended.user + ended.system - begun.user - begun.system
    assert others - ours == pytest.approx(took / (after[0].total_s - before[0].total_s), abs=0.1)
