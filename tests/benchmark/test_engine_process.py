"""Processes of models: those that hang, die or refuse are named and leave nothing behind."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import cv2
import pytest
import threadpoolctl

from seamline.base.errors import SeamlineError
from seamline.benchmark.engine_process import EngineProcess, engine_processes
from seamline.benchmark.machine import usable_core_ids
from seamline.inference.detector import Detector

CORES = usable_core_ids(1)


# Called in an engine's process, so they have to be importable there.


def no_detector() -> None:
    return None


def refuse() -> Detector:
    raise SeamlineError("model.onnx: is broken.")


def hang(detector: object) -> None:
    time.sleep(60)


def die(detector: object) -> None:
    os._exit(3)


def process_id(detector: object) -> int:
    return os.getpid()


def environment_of(detector: object) -> tuple[str, str, set[int], int, set[int]]:
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(CORES)
    blas = {pool["num_threads"] for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"}
    return os.environ["OMP_NUM_THREADS"], os.environ["GOMP_SPINCOUNT"], cores, cv2.getNumThreads(), blas


def still_runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def started(opener: Callable[[], object] = no_detector, timeout_s: float = 60) -> EngineProcess:
    return EngineProcess("onnx", opener, CORES, timeout_s)  # type: ignore[arg-type]


def test_processes_are_set_up_alike_and_end_with_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    before = dict(os.environ)
    with engine_processes() as processes:
        processes.append(started())
        pid = processes[0].ask(process_id)
        assert processes[0].ask(environment_of) == ("1", "10000", set(CORES), 1, {1})
        assert still_runs(pid)
        process = processes[0].process
        ended = process.join
        monkeypatch.setattr(process, "join", lambda timeout=None: ended(60))  # however long a busy machine takes
    assert process.exitcode == 0, "it had to be killed"
    assert not still_runs(pid)
    assert dict(os.environ) == before


def test_a_hanging_engine_is_stopped_at_its_limit() -> None:
    with engine_processes() as processes:
        processes.append(started())
        pid = processes[0].ask(process_id)
        processes[0].left_s = 0.5
        with pytest.raises(SeamlineError, match=r"^onnx: took longer than benchmark\.timeout_s \(60 s\) .*; raise"):
            processes[0].ask(hang)
    assert not still_runs(pid)


def test_an_engine_that_dies_is_named_with_its_exit_code() -> None:
    with engine_processes() as processes:
        processes.append(started())
        pid = processes[0].ask(process_id)
        with pytest.raises(SeamlineError, match=r"^onnx: its process ended by itself, exit code 3"):
            processes[0].ask(die)
        with pytest.raises(SeamlineError, match=r"^onnx: its process ended by itself"):
            processes[0].ask(process_id)
    assert not still_runs(pid)


def test_an_engine_that_refuses_gives_its_reason() -> None:
    with engine_processes() as processes:
        processes.append(started(refuse))
        with pytest.raises(SeamlineError, match=r"^onnx: model\.onnx: is broken\."):
            processes[0].ask(process_id)


def test_an_engine_whose_parent_is_gone_ends() -> None:
    process = started()
    pid = process.ask(process_id)
    process.connection.close()  # what the kernel does when the parent is killed
    process.process.join(60)
    assert not still_runs(pid)
