"""Our loop over epochs and batches computes what ultralytics' does, bit for bit, and so do the threads beside it."""

from __future__ import annotations

import platform
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from ultralytics.engine.trainer import BaseTrainer

from seamline.training import yolo, yolo_trainer
from seamline.training.checkpoints import Beside, to_host
from seamline.training.yolo_batches import draws_at_random, one_ahead
from seamline.training.yolo_trainer import Trainer, fused
from tests.conftest import PROJECT
from tests.training.test_run import trained


@pytest.fixture(autouse=True)
def in_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(PROJECT)
    torch.set_num_threads(1)


class Theirs(Trainer):
    """Ours with ultralytics' own loop, which validates after the last epoch only."""

    _do_train = BaseTrainer._do_train

    def on_train_start(self) -> None:
        self.steps = len(self.train_loader)
        super().on_train_start()

    def on_train_epoch_start(self) -> None:
        self.args.val = False
        super().on_train_epoch_start()

    def optimizer_step(self) -> None:
        super().optimizer_step()
        self.last_step = self.step_number

    def save_model(self) -> bool:
        return False

    def final_eval(self) -> None: ...


# Two batches an epoch; with nbs 12 a step falls across the epochs' ends, and the warm-up ends within one.
@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"nbs": 12, "warmup_epochs": 1.5},
        {"optimizer": "SGD", "close_mosaic": 1, "mosaic": 1.0},
        {"optimizer": "MuSGD", "warmup_epochs": 0, "epochs": 2},
    ],
)
def test_the_loop_computes_what_ultralytics_loop_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: tuple[Path, Path], changes: dict[str, Any]
) -> None:
    ours = trained(data, tmp_path / "ours", val_period=100, **changes)
    monkeypatch.setattr(yolo, "Trainer", Theirs)
    assert trained(data, tmp_path / "theirs", val_period=100, **changes) == ours


@pytest.mark.slow
def test_batches_that_are_loaded_ahead_and_a_state_written_beside_change_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: tuple[Path, Path]
) -> None:
    threads: set[str] = set()

    def ahead(batches: Iterator[Any]) -> Generator[Any]:
        def watched() -> Iterator[Any]:
            for batch in batches:
                threads.add(threading.current_thread().name)
                yield batch

        return one_ahead(watched())

    monkeypatch.setattr(yolo_trainer, "one_ahead", ahead)
    ours = trained(data, tmp_path / "ahead")
    assert threads == {"batches_0"}

    def at_once(self: Beside, work: Callable[[], None]) -> None:
        work()

    monkeypatch.setattr(yolo_trainer, "one_ahead", lambda batches: (batch for batch in batches))
    monkeypatch.setattr(Beside, "do", at_once)
    assert trained(data, tmp_path / "in turns") == ours


def test_one_batch_is_made_ahead_and_none_after_the_end() -> None:
    made: list[int] = []

    def batches() -> Iterator[int]:
        for number in range(9):
            made.append(number)
            yield number

    assert list(one_ahead(batches())) == list(range(9))
    made.clear()
    ahead = one_ahead(batches())
    assert next(ahead) == 0
    ahead.close()
    assert made == [0, 1]


def test_an_error_in_loading_is_raised() -> None:
    def batches() -> Iterator[int]:
        yield 1
        raise ValueError("damaged")

    with pytest.raises(ValueError, match="damaged"):
        list(one_ahead(batches()))


def test_a_model_with_dropout_draws_at_random() -> None:
    assert draws_at_random(torch.nn.Sequential(torch.nn.Linear(1, 1), torch.nn.Dropout(0.1)))
    assert not draws_at_random(torch.nn.Sequential(torch.nn.Linear(1, 1), torch.nn.Dropout(0.0)))


def test_a_copy_of_a_state_does_not_change_with_the_training() -> None:
    weights = torch.rand(2, 3, 4, 5).contiguous(memory_format=torch.channels_last)
    state = {"model": {"w": weights}, "groups": [{"lr": 0.1, "steps": (torch.tensor(3),)}], "epoch": 1}
    buffers: dict[tuple[Any, ...], torch.Tensor] = {}
    copy = to_host(state, buffers)
    expected = weights.clone()
    weights.zero_()
    assert torch.equal(copy["model"]["w"], expected)
    assert copy["model"]["w"].stride() == weights.stride()
    assert copy["groups"][0] == {"lr": 0.1, "steps": (torch.tensor(3),)}
    again = to_host(state, buffers)
    assert again["model"]["w"] is copy["model"]["w"]  # no new memory
    assert not again["model"]["w"].any()
    assert to_host({"model": {"w": torch.ones(2)}}, buffers)["model"]["w"].shape == (2,)


def test_work_beside_is_done_one_after_the_other_and_its_errors_are_raised() -> None:
    beside = Beside()
    done: list[str] = []

    def work(name: str) -> None:
        time.sleep(0.02)
        done.append(name)

    beside.do(lambda: work("first"))
    beside.check()
    beside.do(lambda: work("second"))
    assert done == ["first"]
    beside.wait()
    assert done == ["first", "second"]

    def fail() -> None:
        raise OSError("no space left")

    beside.do(fail)
    with pytest.raises(OSError, match="no space left"):
        beside.wait()
    beside.wait()  # it is raised once
    beside.do(fail)
    beside.close()  # as an error of the training is being raised
    with pytest.raises(OSError, match="no space left"):
        beside.check()


def test_a_fused_optimizer_keeps_groups_and_takes_the_same_steps() -> None:
    kinds: list[tuple[Any, dict[str, Any]]] = [
        (torch.optim.AdamW, {}),
        (torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
    ]
    for kind, settings in kinds:
        torch.manual_seed(0)
        plain, ours = (torch.nn.Linear(3, 2) for _ in range(2))
        ours.load_state_dict(plain.state_dict())
        optimizers: list[torch.optim.Optimizer] = []
        for model in (plain, ours):
            groups = [{"params": [model.weight], "weight_decay": 0.1}, {"params": [model.bias], "param_group": "bias"}]
            optimizers.append(kind(groups, lr=0.1, **settings))
        optimizers[1] = fused(optimizers[1])
        assert [group.get("param_group") for group in optimizers[1].param_groups] == [None, "bias"]
        for _ in range(3):
            inputs = torch.rand(4, 3)
            for model, optimizer in zip((plain, ours), optimizers, strict=True):
                optimizer.zero_grad()
                model(inputs).sum().backward()
                optimizer.step()
        torch.testing.assert_close(ours.weight, plain.weight)
        torch.testing.assert_close(ours.bias, plain.bias)
    other = torch.optim.RAdam(plain.parameters())
    assert fused(other) is other


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be asked to")
def test_the_c_library_is_asked_to_keep_memory_and_takes_it() -> None:
    """In a process of its own: memory that is freed and taken again has been cleared once."""
    code = """
import resource, sys
from seamline.training.memory import keep_freed_memory
import numpy as np

if sys.argv[1] == "kept":
    assert keep_freed_memory()

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

np.ones(20_000_000, np.uint8)
before = faults()
for _ in range(5):
    np.ones(20_000_000, np.uint8)
print(faults() - before)
"""
    counts = [
        int(subprocess.run([sys.executable, "-c", code, how], capture_output=True, text=True, check=True).stdout)
        for how in ("given back", "kept")
    ]
    assert counts[1] < counts[0] / 4
