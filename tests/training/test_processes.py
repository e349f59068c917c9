"""Training in several processes, here two on the CPU: one is killed, one sentence says so, and it resumes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest
import torch

from seamline.base.errors import SeamlineError
from seamline.base.files import write_json
from seamline.params.rcnn import Rcnn
from seamline.params.train import Train
from seamline.training.checkpoints import STATE, read_state
from seamline.training.processes import cause_of, error_file, free_port
from seamline.training.trial import PROGRESS, Stopped, stop_file
from tests.conftest import PROJECT
from tests.training.test_run import small_params, trained

TWO = {"device": "cpu,cpu", "epochs": 6, "val_period": 2, "patience": 4, "warmup_epochs": 1.0}
# Trains as the train stage does, in a process of its own, whose outputs are the test's to read.
TRAIN = """
import sys
from pathlib import Path
import msgspec
from seamline.base.process import run
from seamline.params.loading.loader import Params
from seamline.params.rcnn import Rcnn
from seamline.params.train import Train

def main():
    from seamline.training.run import finished_training
    train, rcnn = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=tuple[Train, Rcnn])
    params = Params({Train: train, Rcnn: rcnn})
    with finished_training(params, Path(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4])) as found:
        print("trained", found.weights)

run(main)
"""


@pytest.fixture(autouse=True)
def in_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(PROJECT)
    torch.set_num_threads(1)


def stage(tmp_path: Path, data: tuple[Path, Path], scratch: Path, **changes: Any) -> subprocess.Popen[str]:
    params, asked = tmp_path / "params.json", small_params(**changes)
    params.write_bytes(msgspec.json.encode((asked[Train], asked[Rcnn])))
    command = [sys.executable, "-c", TRAIN, str(params), *map(str, data), str(scratch)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ranks_of(process: subprocess.Popen[str]) -> dict[int, psutil.Process]:
    return {
        int(child.environ()["RANK"]): child
        for child in psutil.Process(process.pid).children()
        if "RANK" in child.environ()
    }


@pytest.mark.thorough
def test_a_killed_process_ends_the_others_and_the_training_resumes_to_the_same_result(
    tmp_path: Path, data: tuple[Path, Path]
) -> None:
    whole, facts = trained(data, tmp_path / "whole", **TWO)
    assert facts["device"].endswith(", 2 processes")
    assert facts["resumed_after"] == []
    assert [record["epoch"] for record in facts["history"]] == [1, 2, 3, 4, 5, 6]
    one, _ = trained(data, tmp_path / "one", **{**TWO, "device": "cpu"})
    assert one != whole  # each process sees other images

    cut = stage(tmp_path, data, tmp_path / "cut", **TWO)
    assert cut.stdout is not None
    lines = []
    for line in cut.stdout:
        lines.append(line)
        if line.startswith("epoch 2/"):
            break
    ranks = ranks_of(cut)
    assert sorted(ranks) == [0, 1]
    os.kill(ranks[1].pid, signal.SIGKILL)
    _, error = cut.communicate(timeout=120)
    assert cut.returncode == 1
    [folder] = [path.parent for path in (tmp_path / "cut").glob(f"*/{STATE}")]
    assert error == (
        "error: train: process 2 of 2 was killed (SIGKILL); run dvc repro to resume after the last finished epoch "
        f"({folder}).\n"
    )
    psutil.wait_procs(ranks.values(), timeout=10)
    assert not any(process.is_running() for process in ranks.values())
    state = read_state(folder)
    assert state is not None
    assert 2 <= state["epoch"] < 6

    resumed = trained(data, tmp_path / "cut", **TWO)
    assert resumed[1] == {**facts, "resumed_after": [state["epoch"]]}
    assert resumed[0] == whole


@pytest.mark.thorough
def test_an_error_of_a_process_is_its_own_sentence_and_a_stopped_trial_is_one(
    tmp_path: Path, data: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SeamlineError, match="train: the loss is NaN or infinite in epoch 1; ") as error:
        trained(data, tmp_path, **{**TWO, "box": 1e38})
    assert "\n" not in str(error.value)
    monkeypatch.setenv(PROGRESS, str(tmp_path / "progress.json"))
    stop_file(tmp_path / "progress.json").touch()
    with pytest.raises(Stopped, match="the sweep stopped this trial after epoch 1"):
        trained(data, tmp_path / "scratch", **TWO)
    assert [path.name for path in (tmp_path / "scratch").iterdir()] == ["locks"]
    assert capfd.readouterr().err == ""


@pytest.mark.slow
def test_processes_end_with_the_stage(tmp_path: Path, data: tuple[Path, Path]) -> None:
    killed = stage(tmp_path, data, tmp_path / "scratch", **{**TWO, "epochs": 500})
    assert killed.stdout is not None
    assert next(line for line in killed.stdout if line.startswith("epoch 1/"))
    ranks = ranks_of(killed)
    killed.kill()
    killed.communicate()
    gone, alive = psutil.wait_procs(ranks.values(), timeout=30)
    assert len(gone) == 2
    assert not alive


def test_the_cause_is_the_killed_process_else_the_first_sentence_else_the_log(tmp_path: Path) -> None:
    write_json(error_file(tmp_path, 1), {"stopped": False, "sentence": "memory is too small"})
    time.sleep(0.02)
    write_json(error_file(tmp_path, 0), {"stopped": False, "sentence": "Connection closed by peer"})
    assert "process 3 of 3 was killed (SIGKILL)" in str(cause_of([1, 1, -9], tmp_path))
    assert str(cause_of([1, 1, None], tmp_path)) == "memory is too small"
    for rank in (0, 1):
        error_file(tmp_path, rank).unlink()
    assert str(cause_of([None, 2, 1], tmp_path)) == (
        f"train: process 2 of 3 ended with code 2; {tmp_path / 'process-1.log'} says why."
    )


def test_a_free_port_is_free() -> None:
    import socket

    with socket.socket() as one:
        one.bind(("127.0.0.1", free_port()))
