"""A training that was interrupted and goes on is the one that was not, bit for bit; a broken state is one sentence."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import yaml
from ultralytics.models.yolo.segment import SegmentationTrainer

from seamline import training
from seamline.checkpoints import KEPT_UNFINISHED, STATE, State, discard_old, read_state, run_key, write_state
from seamline.errors import SeamlineError
from seamline.params import Train, load_params
from tests.conftest import PARAMS, PROJECT, TINY

SMALLEST = {
    "epochs": 4, "imgsz": 32, "batch": 4, "nbs": 4, "val_period": 2, "close_mosaic": 2, "warmup_epochs": 1,
    "device": "cpu", "model": str(TINY),
}  # fmt: skip


@pytest.fixture(autouse=True)
def in_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(PROJECT)
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A split of ten images, each with a rectangle of two classes."""
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for kind in ("images", "labels"):
        (root / "yolo" / kind).mkdir(parents=True)
    (root / "split").mkdir()
    names = [f"{number:02d}" for number in range(10)]
    for number, name in enumerate(names):
        image = rng.integers(0, 255, (40, 40, 3), dtype=np.uint8)
        cv2.rectangle(image, (8, 8), (30, 30), (255 * (number % 2), 40, 200), -1)
        cv2.imwrite(str(root / "yolo" / "images" / f"{name}.png"), image)
        (root / "yolo" / "labels" / f"{name}.txt").write_text(f"{number % 2} 0.2 0.2 0.75 0.2 0.75 0.75 0.2 0.75\n")
    for part, members in (("train", names[:7]), ("val", names[7:])):
        (root / "split" / f"{part}.txt").write_text("".join(f"./../yolo/images/{name}.png\n" for name in members))
    (root / "split" / "data.yaml").write_text(yaml.safe_dump({"names": {0: "a", 1: "b"}}))
    return root / "split", root / "yolo"


def small_params(**changes: Any) -> Train:
    params = load_params(PARAMS).train
    for key, value in {**SMALLEST, **changes}.items():
        setattr(params, key, value)
    return params


def trained(data: tuple[Path, Path], scratch: Path, **changes: Any) -> tuple[bytes, State, Path]:
    folder, state = training.train_model(small_params(**changes), *data, scratch)
    return training.best_weights(folder, state["best_epoch"]).read_bytes(), state, folder


class Killed(BaseException):
    """As a signal: nothing of ours catches it."""


def killed_at(monkeypatch: pytest.MonkeyPatch, step: int) -> Callable[[], None]:
    """Let the training die in the batch of this number, over all epochs; returns what undoes it."""
    original = training.Trainer.on_train_batch_start

    def die(trainer: training.Trainer) -> None:
        original(trainer)
        if trainer.step_number == step:
            raise Killed

    monkeypatch.setattr(training.Trainer, "on_train_batch_start", die)
    return lambda: monkeypatch.setattr(training.Trainer, "on_train_batch_start", original)


# Two batches an epoch. nbs 12 sums gradients over three of them, so that a step falls across the epochs' ends.
@pytest.mark.slow
@pytest.mark.parametrize("nbs", [4, 12])
def test_what_goes_on_is_bit_for_bit_what_was_never_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: tuple[Path, Path], nbs: int
) -> None:
    whole, state, _ = trained(data, tmp_path / "whole", nbs=nbs)
    assert state["resumed_after"] == []
    assert [record["epoch"] for record in state["history"]] == [1, 2, 3, 4]
    for step in (3, 4, 6):  # within the second epoch, at the start of the third and of the fourth
        revive = killed_at(monkeypatch, step)
        with pytest.raises(Killed):
            trained(data, tmp_path / "cut", nbs=nbs)
        revive()
    weights, resumed, folder = trained(data, tmp_path / "cut", nbs=nbs)
    assert resumed["resumed_after"] == [1, 2, 3]
    assert resumed["history"] == state["history"]
    assert weights == whole
    for key, value in state["ema"].items():
        assert torch.equal(value, resumed["ema"][key]), key
    assert sorted(path.name for path in folder.glob("*.pt")) == [f"best-{state['best_epoch']:05d}.pt", STATE]


@pytest.mark.slow
def test_a_finished_training_whose_results_were_lost_is_not_trained_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: tuple[Path, Path]
) -> None:
    first, _, folder = trained(data, tmp_path, epochs=1)
    monkeypatch.setattr(training, "run_trainer", lambda *_: pytest.fail("trained again"))
    assert trained(data, tmp_path, epochs=1)[0] == first
    (folder / STATE).write_bytes((folder / STATE).read_bytes()[:1000])
    with pytest.raises(SeamlineError, match=r"state\.pt: the state of an interrupted training cannot be read"):
        trained(data, tmp_path, epochs=1)


@pytest.mark.slow
def test_a_state_of_another_model_a_nan_and_no_memory_are_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: tuple[Path, Path]
) -> None:
    _, state, folder = trained(data, tmp_path, epochs=2)
    state["model"].popitem()
    write_state(folder, {**state, "finished": False, "epoch": 1})
    with pytest.raises(SeamlineError, match=r"the state there is not this model's .* delete the folder"):
        trained(data, tmp_path, epochs=2)

    original = training.Trainer.preprocess_batch

    def none_left(trainer: training.Trainer, batch: Any) -> Any:
        if trainer.epoch == 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return original(trainer, batch)

    def broken(trainer: training.Trainer, batch: Any) -> Any:
        if trainer.epoch == 1:
            raise RuntimeError("mat1 and mat2\ncannot be multiplied")
        return original(trainer, batch)

    def no_numbers(trainer: training.Trainer, batch: Any) -> Any:
        batch = original(trainer, batch)
        return {**batch, "img": batch["img"] * np.nan} if trainer.epoch == 1 else batch

    for fault, epochs, sentence in (
        (none_left, 3, r"memory is too small for train.batch 4 at train.imgsz 32; .* What was trained is in "),
        (broken, 5, r"ultralytics stopped with RuntimeError: mat1 and mat2 \(.*error\.txt has all of it\) *"),
        (no_numbers, 4, r"no number any more in epoch 2; train.lr0 0.002 may be too high\. What was trained before "),
    ):
        monkeypatch.setattr(training.Trainer, "preprocess_batch", fault)
        with pytest.raises(SeamlineError, match=sentence) as error:
            trained(data, tmp_path, epochs=epochs)
        assert "\n" not in str(error.value)
    kept = [read_state(path.parent) for path in tmp_path.glob(f"*/{STATE}")]
    assert [state and state["epoch"] for state in kept] == [1, 1, 1, 1]
    assert "cannot be multiplied" in next(tmp_path.glob("*/error.txt")).read_text()


@pytest.mark.slow
def test_a_batch_too_large_for_the_memory_is_not_made_smaller(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: tuple[Path, Path]
) -> None:
    """ultralytics would halve it in the first epoch, up to three times, and train with another than was asked for."""
    tried: list[int] = []

    def none_left(trainer: training.Trainer, batch: Any) -> Any:
        tried.append(len(batch["img"]))
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    monkeypatch.setattr(training.Trainer, "preprocess_batch", none_left)
    with pytest.raises(SeamlineError, match=r"memory is too small for train\.batch 4 at train\.imgsz 32"):
        trained(data, tmp_path)
    assert tried == [4]


def test_other_processes_than_the_first_get_no_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of several GPUs' processes ultralytics gives them to the first one only."""
    trainer = training.Trainer.__new__(training.Trainer)
    trainer.best_fitness, trainer.epoch = None, 3
    monkeypatch.setattr(SegmentationTrainer, "validate", lambda self: (None, None))
    assert trainer.validate() == (None, None)


def test_the_key_changes_with_every_byte_of_data_and_every_parameter(data: tuple[Path, Path], tmp_path: Path) -> None:
    shutil.copytree(data[0], tmp_path / "split")
    shutil.copytree(data[1], tmp_path / "yolo")

    files = training.data_files(tmp_path / "split", tmp_path / "yolo")

    def key(**values: Any) -> str:
        return run_key({"lr0": 0.1, **values}, files)

    before = key()
    assert key() == before
    assert key(lr0=0.2) != before
    assert len(files) == 3 + 2 * 10
    for path in files:
        content = path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        assert key() != before, path
        path.write_bytes(content)
    assert key() == before


def test_only_the_latest_unfinished_trainings_are_kept(tmp_path: Path) -> None:
    import os

    for number in range(6):
        write_state(tmp_path / f"run{number}", {"epoch": number})
        os.utime(tmp_path / f"run{number}" / STATE, (number, number))
    discard_old(tmp_path, "run0")
    kept = sorted(path.name for path in tmp_path.iterdir())
    assert kept == ["run0", *(f"run{number}" for number in range(6 - KEPT_UNFINISHED, 6))]
