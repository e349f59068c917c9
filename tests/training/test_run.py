"""A training that was interrupted and resumed is, bit for bit, one that was not; a broken state is one sentence."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from ultralytics.data import utils
from ultralytics.models.yolo.segment import SegmentationTrainer
from ultralytics.utils import NUM_THREADS

from seamline.base.coco import Record
from seamline.base.errors import SeamlineError
from seamline.models.ultralytics_patches import nothing
from seamline.models.weights import load_weights
from seamline.params.loading.loader import Params, load_params
from seamline.params.train import Train
from seamline.training import checkpoints, run, yolo, yolo_weights
from seamline.training.checkpoints import STATE, State, read_state, write_state
from seamline.training.finished import (
    FINISHED,
    MAX_FINISHED,
    MAX_UNFINISHED,
    holding,
    latest_first,
    trainings_folder,
)
from seamline.training.trial import PROGRESS, stop_file
from seamline.training.yolo_trainer import Trainer
from tests.conftest import PARAMS, PROJECT, TINY

SMALLEST = {
    "epochs": 4, "imgsz": 32, "batch": 4, "nbs": 4, "val_period": 2, "close_mosaic": 2, "warmup_epochs": 1,
    "device": "cpu", "model": str(TINY),
}  # fmt: skip


@pytest.fixture(autouse=True)
def in_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(PROJECT)
    torch.set_num_threads(1)


def small_params(**changes: Any) -> Params:
    params = load_params(PARAMS)
    for key, value in {**SMALLEST, **changes}.items():
        setattr(params[Train], key, value)
    return params


def trained(data: tuple[Path, Path], scratch: Path, **changes: Any) -> tuple[bytes, Record]:
    """The bytes of the best weights, and the facts with the history."""
    with run.finished_training(small_params(**changes), *data, scratch) as found:
        return found.weights.read_bytes(), {**found.facts, "history": found.history}


@pytest.fixture
def ends(monkeypatch: pytest.MonkeyPatch) -> list[tuple[State, list[str]]]:
    """The last states of the trainings in a test, each with the names of the weights that lie beside it."""
    found: list[tuple[State, list[str]]] = []
    original = yolo.finish

    def spy(plan: yolo.Plan, folder: Path) -> State:
        state = original(plan, folder)
        found.append((state, sorted(path.name for path in folder.glob("*.pt"))))
        return state

    monkeypatch.setattr(yolo, "finish", spy)
    return found


class Killed(BaseException):
    """As a signal: nothing of ours catches it."""


def killed_at(monkeypatch: pytest.MonkeyPatch, step: int) -> Callable[[], None]:
    """Let the training die in the batch of this number, over all epochs; returns what undoes it."""
    original = Trainer.on_train_batch_start

    def die(trainer: Trainer) -> None:
        original(trainer)
        if trainer.step_number == step:
            raise Killed

    monkeypatch.setattr(Trainer, "on_train_batch_start", die)
    return lambda: monkeypatch.setattr(Trainer, "on_train_batch_start", original)


# Two batches an epoch. nbs 12 sums gradients over three of them, so that a step falls across the epochs' ends.
@pytest.mark.slow
@pytest.mark.parametrize("nbs", [4, 12])
def test_a_resumed_training_is_bit_for_bit_one_that_was_never_interrupted(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    data: tuple[Path, Path],
    ends: list[tuple[State, list[str]]],
    nbs: int,
) -> None:
    whole, facts = trained(data, tmp_path / "whole", nbs=nbs)
    assert torch.get_num_threads() == facts["threads"] == NUM_THREADS
    assert facts["resumed_after"] == []
    assert [record["epoch"] for record in facts["history"]] == [1, 2, 3, 4]
    for step in (3, 4, 6):  # within the second epoch, at the start of the third and of the fourth
        revive = killed_at(monkeypatch, step)
        with pytest.raises(Killed):
            trained(data, tmp_path / "cut", nbs=nbs)
        revive()
    weights, resumed = trained(data, tmp_path / "cut", nbs=nbs)
    assert resumed == {**facts, "resumed_after": [1, 2, 3]}
    assert weights == whole
    (first, _), (second, left) = ends
    for key, value in first["ema"].items():
        assert torch.equal(value, second["ema"][key]), key
    assert left == [f"best-{facts['best_epoch']:05d}.pt", STATE]


@pytest.mark.thorough
@pytest.mark.skipif(not shutil.which("g++"), reason="torch compiles with a C++ compiler")
def test_a_compiled_training_is_stored_as_any_other_and_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: tuple[Path, Path]
) -> None:
    revive = killed_at(monkeypatch, 1)
    with pytest.raises(Killed):  # 1 batch an epoch: the second one is not full, and left out
        trained(data, tmp_path, epochs=2, compile=True)
    revive()
    weights, facts = trained(data, tmp_path, epochs=2, compile=True)
    assert facts["resumed_after"] == [1]
    plain, _ = trained(data, tmp_path / "plain", epochs=2)
    (tmp_path / "compiled.pt").write_bytes(weights)
    (tmp_path / "plain.pt").write_bytes(plain)
    models = [load_weights(tmp_path / name)[0] for name in ("compiled.pt", "plain.pt")]
    assert list(models[0].state_dict()) == list(models[1].state_dict())
    assert all(
        type(module).__module__.startswith(("torch.nn.modules", "ultralytics")) for module in models[0].modules()
    )


@pytest.mark.slow
def test_a_project_that_was_moved_resumes_like_one_that_was_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: tuple[Path, Path], ends: list[tuple[State, list[str]]]
) -> None:
    """Two clones: one is left alone, the other killed and moved. Nothing in either says where it lies."""
    clones = tmp_path / "one", tmp_path / "cut off"
    for clone in clones:
        shutil.copytree(data[0].parent, clone)
        shutil.copy(TINY, clone / "mine-seg.yaml")
    here = Path("split"), Path("yolo")

    monkeypatch.chdir(clones[0])
    weights, facts = trained(here, trainings_folder(), model="mine-seg.yaml")
    monkeypatch.chdir(clones[1])
    revive = killed_at(monkeypatch, 5)
    with pytest.raises(Killed):
        trained(here, trainings_folder(), model="mine-seg.yaml")
    revive()
    moved = tmp_path / "a" / "longer way" / "two"
    moved.parent.mkdir(parents=True)
    clones[1].rename(moved)
    monkeypatch.chdir(moved)
    assert trained(here, trainings_folder(), model="mine-seg.yaml") == (weights, {**facts, "resumed_after": [2]})
    (first, _), (second, _) = ends
    for key, value in first["ema"].items():
        assert torch.equal(value, second["ema"][key]), key
    keys = [[path.name for path in (clone / ".seamline/train" / FINISHED).iterdir()] for clone in (clones[0], moved)]
    assert keys[0] == keys[1]
    assert str(tmp_path).encode() not in weights  # a zip file that is not compressed


@pytest.mark.slow
def test_what_is_finished_is_not_trained_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:  # killed when the state is whole and nothing is stored yet
        patch.setattr(run, "store_training", raising_killed)
        with pytest.raises(Killed):
            trained(data, tmp_path, epochs=1)
    with monkeypatch.context() as patch:
        patch.setattr(yolo, "run_trainer", lambda *_: pytest.fail("trained again"))
        first = trained(data, tmp_path, epochs=1)
        assert trained(data, tmp_path, epochs=1) == first
    assert not list(tmp_path.glob(f"*/{STATE}"))
    assert "the same was trained before" in capsys.readouterr().out
    [folder] = (tmp_path / FINISHED).iterdir()
    for name in ("best.pt", "facts.json"):
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[:-2] + b"0" + content[-1:])
        assert trained(data, tmp_path, epochs=1) == first
        assert f"{folder}: the training that was stored here is damaged; it is trained again" in capsys.readouterr().out
        assert (folder / name).read_bytes() == content


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trains nothing: a training's key, its lock and the store take no real weights."""

    def done(plan: yolo.Plan, folder: Path) -> State:
        with holding(folder.parent, folder.name, wait=False) as free:
            assert not free
        folder.mkdir(parents=True)
        checkpoints.best_weights(folder, 1).touch()
        return {"best_epoch": 1, "resumed_after": [], "history": [], "threads": 1}

    monkeypatch.setattr(yolo, "finish", done)
    monkeypatch.setattr(yolo_weights, "check_weights", lambda path: None)


def stored(scratch: Path) -> list[str]:
    return sorted(path.name for path in (scratch / FINISHED).iterdir())


def test_weights_to_begin_with_count_by_their_bytes_and_not_by_their_name(
    tmp_path: Path, quick: None, data: tuple[Path, Path]
) -> None:
    revisions = []
    for name, content in (("a.pt", b"1"), ("b.pt", b"1"), ("a.pt", b"2")):
        (tmp_path / name).write_bytes(content)
        facts = trained(data, tmp_path / "scratch", model=str(tmp_path / name))[1]
        assert facts["weights_sha256"] == hashlib.sha256(content).hexdigest()
        revisions.append(facts["training_revision"])
    assert revisions[0] == revisions[1] != revisions[2]
    assert len(stored(tmp_path / "scratch")) == 2


def test_a_description_counts_by_its_name_too_from_which_ultralytics_takes_the_size(
    tmp_path: Path, quick: None, data: tuple[Path, Path]
) -> None:
    for name in ("yolov8n-seg.yaml", "yolov8s-seg.yaml"):
        shutil.copy(TINY, tmp_path / name)
        trained(data, tmp_path / "scratch", model=str(tmp_path / name))
    assert len(stored(tmp_path / "scratch")) == 2


@pytest.mark.parametrize("library", [np, cv2])
def test_another_version_of_what_computes_is_another_training_of_the_same_revision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick: None, data: tuple[Path, Path], library: Any
) -> None:
    facts = trained(data, tmp_path)[1]
    monkeypatch.setattr(library, "__version__", "of tomorrow")
    assert trained(data, tmp_path)[1] == facts
    assert len(stored(tmp_path)) == 2


def test_a_training_is_held_while_it_is_used_and_as_many_are_stored_as_were_asked_for(
    tmp_path: Path, quick: None, data: tuple[Path, Path]
) -> None:
    for number in range(MAX_UNFINISHED + 2):
        (tmp_path / f"{number:016x}").mkdir()
    for seed in range(MAX_FINISHED + 2):
        with run.finished_training(small_params(seed=seed), *data, tmp_path, MAX_FINISHED + 2) as found:
            key = found.weights.parent.name
            with holding(tmp_path, key, wait=False) as free:
                assert not free
    assert len(stored(tmp_path)) == MAX_FINISHED + 2
    assert len(latest_first(tmp_path)) == MAX_UNFINISHED


def raising_killed(*_: object) -> None:
    raise Killed


@pytest.mark.slow
def test_another_kind_of_processor_is_another_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: tuple[Path, Path]
) -> None:
    facts = trained(data, tmp_path, epochs=1)[1]
    assert facts["device"].startswith("CPU, ")
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "of tomorrow")
    other = trained(data, tmp_path, epochs=1)[1]
    assert other["device"].endswith(" of tomorrow")
    assert other["training_revision"] == facts["training_revision"]  # of what was asked for
    assert len(list((tmp_path / FINISHED).iterdir())) == 2


@pytest.mark.slow
def test_a_trial_that_the_sweep_stopped_leaves_no_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: tuple[Path, Path]
) -> None:
    monkeypatch.setenv(PROGRESS, str(tmp_path / "progress.json"))
    stop_file(tmp_path / "progress.json").touch()
    with pytest.raises(SeamlineError, match="the sweep stopped this trial after epoch 1"):
        trained(data, tmp_path / "scratch")
    assert [path.name for path in (tmp_path / "scratch").iterdir()] == ["locks"]


@pytest.mark.slow
def test_a_damaged_state_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: tuple[Path, Path]
) -> None:
    killed_at(monkeypatch, 2)
    with pytest.raises(Killed):
        trained(data, tmp_path)
    [state] = tmp_path.glob(f"*/{STATE}")
    state.write_bytes(state.read_bytes()[:1000])
    with pytest.raises(SeamlineError, match=r"state\.pt: the state of an interrupted training cannot be read"):
        trained(data, tmp_path)


@pytest.mark.slow
def test_a_state_of_another_model_a_nan_and_no_memory_are_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: tuple[Path, Path]
) -> None:
    revive = killed_at(monkeypatch, 2)
    with pytest.raises(Killed):
        trained(data, tmp_path, epochs=2)
    revive()
    [path] = tmp_path.glob(f"*/{STATE}")
    state = read_state(path.parent)
    assert state is not None
    state["model"].popitem()
    write_state(path.parent, state)
    with pytest.raises(SeamlineError, match=r"the state there is not this model's .* delete the folder"):
        trained(data, tmp_path, epochs=2)

    original = Trainer.preprocess_batch

    def none_left(trainer: Trainer, batch: Any) -> Any:
        if trainer.epoch == 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return original(trainer, batch)

    def broken(trainer: Trainer, batch: Any) -> Any:
        if trainer.epoch == 1:
            raise RuntimeError("mat1 and mat2\ncannot be multiplied")
        return original(trainer, batch)

    def not_a_number(trainer: Trainer, batch: Any) -> Any:
        batch = original(trainer, batch)
        return {**batch, "img": batch["img"] * np.nan} if trainer.epoch == 1 else batch

    for fault, epochs, sentence in (
        (none_left, 3, r"memory is too small for train.batch 4 at train.imgsz 32; .* What was trained is in "),
        (broken, 5, r"ultralytics stopped with RuntimeError: mat1 and mat2 \(.*error\.txt has all of it\) *"),
        (
            not_a_number,
            4,
            r"the loss is NaN or infinite in epoch 2; train.lr0 0.002 may be too high\. What was trained before ",
        ),
    ):
        monkeypatch.setattr(Trainer, "preprocess_batch", fault)
        with pytest.raises(SeamlineError, match=sentence) as error:
            trained(data, tmp_path, epochs=epochs)
        assert "\n" not in str(error.value)
    states = [read_state(path.parent) for path in tmp_path.glob(f"*/{STATE}")]
    assert [state and state["epoch"] for state in states] == [1, 1, 1, 1]
    assert "cannot be multiplied" in next(tmp_path.glob("*/error.txt")).read_text()


@pytest.mark.slow
def test_a_batch_too_large_for_the_memory_is_not_made_smaller(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: tuple[Path, Path]
) -> None:
    """ultralytics would halve it in the first epoch, up to three times, and train with another than was asked for."""
    tried: list[int] = []

    def none_left(trainer: Trainer, batch: Any) -> Any:
        tried.append(len(batch["img"]))
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    monkeypatch.setattr(Trainer, "preprocess_batch", none_left)
    with pytest.raises(SeamlineError, match=r"memory is too small for train\.batch 4 at train\.imgsz 32"):
        trained(data, tmp_path)
    assert tried == [4]


def test_other_processes_than_the_first_get_no_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of several GPUs' processes ultralytics gives them to the first one only."""
    trainer = Trainer.__new__(Trainer)
    trainer.best_fitness, trainer.epoch = None, 3
    monkeypatch.setattr(SegmentationTrainer, "validate", lambda self: (None, None))
    assert trainer.validate() == (None, None)


def test_each_process_that_trains_leaves_the_data_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[bool] = []

    class Looking:
        def __init__(self, overrides: Record) -> None: ...

        def train(self) -> None:
            found.append(utils.check_font is utils._replace_image is nothing)

    monkeypatch.setattr(yolo, "Trainer", Looking)
    monkeypatch.setattr(yolo, "weights_folder", lambda: tmp_path / "weights")
    yolo.run_trainer({"batch": 4, "imgsz": 64}, tmp_path)
    assert found == [True]
    assert utils.check_font is not nothing
