"""The loss that does not wait for the GPU is ultralytics' loss, and a training asks the device nothing in a batch."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from ultralytics.nn.tasks import SegmentationModel
from ultralytics.utils import DEFAULT_CFG
from ultralytics.utils.loss import v8SegmentationLoss

from seamline.training import yolo_loss
from seamline.training.yolo_loss import INSTANCES, instances_of, loss_without_waiting, positives
from seamline.training.yolo_trainer import Trainer
from tests.conftest import PROJECT, TINY
from tests.training.test_run import trained

# What a GPU is waited for to answer: a number for Python, or how many there are of something.
ASKS = {
    "_local_scalar_dense", "item", "nonzero", "masked_select", "is_nonzero", "equal", "_unique2", "unique_dim",
    "unique_consecutive", "bincount", "repeat_interleave", "lift_fresh", "argwhere",
}  # fmt: skip


class Asked(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the operations that would wait for a GPU; `lift_fresh` is a tensor made of Python's numbers."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = function._schema.name.removeprefix("aten::")
        by_mask = name in ("index", "index_put", "index_put_", "_index_put_impl_") and any(
            index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1]
        )
        if name in ASKS or by_mask:
            self.counts[name] += 1
        return function(*args, **(kwargs or {}))


def model_of(overlap: bool, classes: int = 3) -> Any:
    torch.manual_seed(0)
    model = SegmentationModel(str(TINY), nc=classes, verbose=False)
    model.args = DEFAULT_CFG.__class__(**{**vars(DEFAULT_CFG), "overlap_mask": overlap})
    return model.train()


def batch_of(counts: list[int], overlap: bool, seed: int = 0, side: int = 96) -> dict[str, Any]:
    """Random instances: rectangles, some of them tiny, some of one image over each other."""
    rng = np.random.default_rng(seed)
    small = side // 4
    boxes, masks = [], np.zeros((sum(counts), small, small), np.uint8)
    joined = np.zeros((len(counts), small, small), np.uint8)
    number = 0
    for image, count in enumerate(counts):
        for within in range(count):
            w, h = rng.uniform(0.02, 0.7, 2)
            x, y = rng.uniform(w / 2, 1 - w / 2), rng.uniform(h / 2, 1 - h / 2)
            boxes.append((x, y, w, h))
            rows = slice(int((y - h / 2) * small), int((y + h / 2) * small) + 1)
            columns = slice(int((x - w / 2) * small), int((x + w / 2) * small) + 1)
            masks[number, rows, columns] = 1
            joined[image, rows, columns] = within + 1
            number += 1
    batch = {
        "img": torch.rand(len(counts), 3, side, side, generator=torch.Generator().manual_seed(seed)),
        "batch_idx": torch.tensor(np.repeat(np.arange(len(counts)), counts), dtype=torch.float32),
        "cls": torch.tensor(rng.integers(0, 3, (sum(counts), 1)), dtype=torch.float32),
        "bboxes": torch.tensor(np.array(boxes).reshape(-1, 4), dtype=torch.float32),
        "masks": torch.from_numpy(joined if overlap else masks),
    }
    return {**batch, INSTANCES: instances_of(batch)}


def loss_and_gradients(model: Any, loss: Any, batch: dict[str, Any]) -> tuple[torch.Tensor, dict[str, Any], list[Any]]:
    model.zero_grad()
    losses, items = loss(model(batch["img"]), batch)
    losses.sum().backward()
    return (
        losses.detach(),
        items,
        [parameter.grad.clone() for parameter in model.parameters() if parameter.requires_grad],
    )


@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("counts", [[3, 1, 2, 5], [0, 4, 0, 1], [1], [30, 2], [0, 0]], ids=str)
def test_losses_and_gradients_are_those_of_ultralytics(counts: list[int], overlap: bool) -> None:
    model, batch = model_of(overlap), batch_of(counts, overlap)
    ours = loss_without_waiting(model)
    assert ours is not None
    for other in (batch, {**batch, "cls": batch["cls"] * 0}):
        expected, expected_items, expected_gradients = loss_and_gradients(model, v8SegmentationLoss(model), other)
        found, items, gradients = loss_and_gradients(model, ours, other)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
        assert list(items) == list(expected_items)
        for one, wanted in zip(gradients, expected_gradients, strict=True):
            torch.testing.assert_close(one, wanted, rtol=1e-3, atol=1e-4 * float(wanted.abs().max() + 1))
        if sum(counts):
            assert all(expected_items[name] > 0 for name in ("box_loss", "seg_loss", "cls_loss", "dfl_loss"))


def test_many_pairs_are_looked_at_as_ultralytics_does(monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = model_of(False), batch_of([3, 2], False)
    ours = loss_without_waiting(model)
    expected = loss_and_gradients(model, ours, batch)[0]
    monkeypatch.setattr(yolo_loss, "MOST_PAIRS", 0)
    with Asked() as asked:
        found = loss_and_gradients(model, ours, batch)[0]
    torch.testing.assert_close(found, expected)
    assert asked.counts == {"nonzero": 1}


def test_a_loss_asks_for_nothing_and_ultralytics_asks_much() -> None:
    model, batch = model_of(False), batch_of([3, 1, 0, 5], False)
    ours = loss_without_waiting(model)
    loss_and_gradients(model, ours, batch)  # anchors are made at the first batch of a size
    with Asked() as asked:
        loss_and_gradients(model, ours, batch)
    assert not asked.counts
    with Asked() as asked:
        loss_and_gradients(model, v8SegmentationLoss(model), batch)
    assert asked.counts.total() > 20


def test_another_loss_than_the_usual_one_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    class Another(v8SegmentationLoss): ...  # type: ignore[misc]

    model = model_of(False)
    monkeypatch.setattr(model, "init_criterion", lambda: Another(model))
    assert loss_without_waiting(model) is None


def test_positives_are_filled_up() -> None:
    index, is_positive = positives(torch.tensor([False, True, False, True]), 3)
    assert index.tolist() == [1, 3, 0]
    assert is_positive.tolist() == [True, True, False]
    index, is_positive = positives(torch.tensor([True]), 5)
    assert index.tolist() == [0]
    assert is_positive.tolist() == [True]


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["AdamW", "SGD"])
def test_a_training_asks_the_device_for_nothing_in_a_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: tuple[Path, Path], optimizer: str
) -> None:
    monkeypatch.chdir(PROJECT)
    torch.set_num_threads(1)
    setup, start, end = Trainer._setup_train, Trainer.on_train_batch_start, Trainer.on_train_batch_end
    asked: list[Counter[str]] = []
    modes: list[ExitStack] = []
    monkeypatch.setattr(Trainer, "_setup_train", lambda self: (setup(self), self.loss_without_waiting()))

    def begin(self: Trainer) -> None:
        start(self)
        if self.step_number >= 2:
            modes.append(ExitStack())
            asked.append(modes[-1].enter_context(Asked()).counts)

    def finish(self: Trainer) -> None:
        if modes:
            modes.pop().close()
        end(self)

    monkeypatch.setattr(Trainer, "on_train_batch_start", begin)
    monkeypatch.setattr(Trainer, "on_train_batch_end", finish)
    trained(data, tmp_path, optimizer=optimizer)
    assert asked == [Counter()] * 6


@pytest.mark.slow
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("optimizer", ["AdamW", "SGD"])
def test_a_gpu_is_not_waited_for_in_a_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: tuple[Path, Path], optimizer: str
) -> None:
    monkeypatch.chdir(PROJECT)
    start, end = Trainer.on_train_batch_start, Trainer.on_train_batch_end

    def begin(self: Trainer) -> None:
        start(self)
        torch.cuda.set_sync_debug_mode("error" if self.step_number >= 2 else "default")

    def finish(self: Trainer) -> None:
        torch.cuda.set_sync_debug_mode("default")
        end(self)

    monkeypatch.setattr(Trainer, "on_train_batch_start", begin)
    monkeypatch.setattr(Trainer, "on_train_batch_end", finish)
    _, facts = trained(data, tmp_path, optimizer=optimizer, device="0")
    assert len(facts["history"]) == 4
