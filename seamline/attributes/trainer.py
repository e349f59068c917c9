"""A training of attributes, made to survive a kill: the state of every epoch is written, and it resumes from there.

First the heads alone learn, from what the frozen backbone makes of each garment: that is computed once, all epochs of
it take a second or two, and the best of them is taken. Then all layers learn, each part at its own rate. On a CPU a
training that resumes computes bit for bit what an uninterrupted one does: what is drawn at random depends on seed and
epoch alone.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from seamline.attributes.augmenting import augmented
from seamline.attributes.backbones import Backbone, freeze_up_to, start_from
from seamline.attributes.labelled import Example, Ints, images_of, labels_of
from seamline.attributes.losses import Balance, masked_cross_entropy
from seamline.attributes.measures import mean_macro_f1
from seamline.attributes.network import build_network, weights_to_write
from seamline.base.coco import Record
from seamline.base.errors import SeamlineError
from seamline.base.parallel import usable_cores
from seamline.images.cutouts import mean_to_bgr, squares_to_tensor, to_square
from seamline.images.reading import Image
from seamline.models.rcnn_weights import write
from seamline.params.classify import Classify
from seamline.training.checkpoints import State, read_state, write_epoch
from seamline.training.memory import keep_freed_memory

VIEWS = 3  # of each garment that heads alone learn from: the first as it is, the others changed at random
WARMUP_EPOCHS = 1  # in which the rates rise, once all layers learn
MAX_NORM = 10.0  # of the gradients; larger ones are shortened
AT_ONCE = 64  # garments, where nothing is learnt


class Start(NamedTuple):
    """What a training begins with."""

    params: Classify
    attributes: dict[str, list[str]]
    train: list[Example]
    val: list[Example]
    weights: Path | None  # of the backbone; None: random
    device: str  # cpu or cuda


class Trainer:
    def __init__(self, start: Start, folder: Path) -> None:
        self.start, self.params, self.folder = start, start.params, folder
        self.device = torch.device(start.device)
        self.history: list[Record] = []
        self.resumed_after: list[int] = []
        self.best, self.best_epoch = -1.0, 0
        self.epochs = self.params.frozen_epochs + self.params.epochs
        if self.device.type == "cpu":
            keep_freed_memory()
            torch.set_num_threads(usable_cores())
        torch.manual_seed(self.params.seed)
        self.network, self.backbone = build_network(self.params.backbone, start.attributes)
        if start.weights is not None:
            start_from(self.network.backbone, self.params.backbone, start.weights)
        self.network.to(self.device).to(memory_format=torch.channels_last)  # two thirds of the time on a CPU
        self.labels, self.val_labels = labels_of(start.train), labels_of(start.val)
        self.sizes = [len(values) for values in start.attributes.values()]
        self.balance = Balance(self.params.balance, self.labels, self.sizes).to(self.device)
        self.squares = squares_of(start.train, self.params.imgsz, self.backbone)
        self.val_squares = squares_of(start.val, self.params.imgsz, self.backbone)

    def train(self) -> State:
        """The state after the last epoch, or after the one at which it stops early."""
        self.begun = time.perf_counter()
        state = read_state(self.folder)
        if state is None and self.params.frozen_epochs:
            self.train_heads()
            state = self.write(self.params.frozen_epochs, None, True)
        if state is not None and state["finished"]:
            return state
        freeze_up_to(self.network.backbone, self.params.frozen_stride)
        optimizer = self.optimizer_of_all()
        done = 0 if state is None else self.resume(state, optimizer)
        with tqdm(total=self.epochs, initial=done, desc="training", unit="epoch", disable=None) as bar:
            for epoch in range(done, self.epochs):
                state = self.train_and_write(epoch, optimizer)
                bar.update()
                if state["finished"]:
                    break
        if state is None:
            raise SeamlineError("classify: frozen_epochs and epochs are both 0, so that nothing would be learnt.")
        return state

    def train_heads(self) -> None:
        """Train the heads to the epoch that is best on val, with the backbone as it is."""
        labels = torch.from_numpy(np.tile(self.labels, (VIEWS, 1))).to(self.device)
        features = torch.cat([self.features(self.view(number)) for number in range(VIEWS)])
        val_features = self.features(self.val_squares)
        heads = self.network.heads
        optimizer = torch.optim.AdamW(heads.parameters(), self.params.lr_heads, weight_decay=self.params.weight_decay)
        best = {name: tensor.clone() for name, tensor in heads.state_dict().items()}
        for epoch in range(self.params.frozen_epochs):
            set_rates(optimizer, epoch / self.params.frozen_epochs)
            losses = []
            for own in self.batches(epoch, len(labels)):
                losses.append(self.step(optimizer, self.network.named(features[own]), labels[own], epoch))
            with torch.no_grad():
                logits = self.network.named(val_features)
            if self.record(epoch, optimizer, losses, logits):
                best = {name: tensor.clone() for name, tensor in heads.state_dict().items()}
        heads.load_state_dict(best)

    def train_and_write(self, epoch: int, optimizer: torch.optim.Optimizer) -> State:
        frozen, losses = self.params.frozen_epochs, []
        self.network.train()
        torch.manual_seed(self.seed_of(epoch))  # of layers that drop out
        chosen = self.batches(epoch, len(self.squares))
        labels = torch.from_numpy(self.labels).to(self.device)
        for number, own in enumerate(chosen):
            done = epoch - frozen + number / len(chosen)
            set_rates(optimizer, done / self.params.epochs, min(1.0, (done + 1 / len(chosen)) / WARMUP_EPOCHS))
            pictures = self.to_tensor([self.changed(int(index), epoch) for index in own])
            losses.append(self.step(optimizer, self.network(pictures), labels[own], epoch))
        self.network.eval()
        with torch.no_grad():
            logits = torch.cat([self.network(self.to_tensor(part)) for part in in_parts(self.val_squares)])
        is_best = self.record(epoch, optimizer, losses, logits)
        return self.write(epoch + 1, optimizer, is_best)

    def step(self, optimizer: torch.optim.Optimizer, logits: Tensor, labels: Tensor, epoch: int) -> float:
        """Returns the loss; raises SeamlineError where it is not a number."""
        loss = masked_cross_entropy(logits, labels, self.balance)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise SeamlineError(
                f"classify: the loss is NaN or infinite in epoch {epoch + 1}; classify.lr_heads or lr_backbone may be "
                "too high."
            )
        if loss.requires_grad:  # a batch may have no label
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(self.network.parameters(), MAX_NORM)
            optimizer.step()
        return value

    def record(self, epoch: int, optimizer: torch.optim.Optimizer, losses: list[float], logits: Tensor) -> bool:
        """Note what an epoch was like; returns whether it is the best one so far."""
        rates = [float(group["lr"]) for group in optimizer.param_groups]
        found = mean_macro_f1(logits.cpu().numpy(), self.val_labels, self.sizes)
        self.history.append(
            {
                "epoch": epoch + 1,
                "loss": round(float(np.mean(losses)), 5),
                "lr_heads": round(rates[0], 8),
                "lr_backbone": round(rates[1] if len(rates) > 1 else 0.0, 8),
                "val_macro_f1": round(found, 5),
            }
        )
        is_best = found > self.best
        if is_best:
            self.best, self.best_epoch = found, epoch + 1
        return is_best

    def write(self, done: int, optimizer: torch.optim.Optimizer | None, is_best: bool) -> State:
        """The state after this number of epochs, written."""
        since = done - max(self.best_epoch, self.params.frozen_epochs)
        state: State = {
            "epoch": done,
            "finished": done == self.epochs or since >= self.params.stop_after,
            "model": self.network.state_dict(),
            "optimizer": None if optimizer is None else optimizer.state_dict(),
            "best": self.best,
            "best_epoch": self.best_epoch,
            "history": self.history,
            "resumed_after": self.resumed_after,
            "threads": torch.get_num_threads() if self.device.type == "cpu" else None,
        }
        write_best: Callable[[Path], None] | None = None
        if is_best:
            content = weights_to_write(self.network, self.params.backbone, self.start.attributes)
            write_best = partial(write, content)
        self.folder.mkdir(parents=True, exist_ok=True)
        last = self.history[-1]
        line = (
            f"epoch {done}/{self.epochs}  loss {last['loss']:.3f}  val macro F1 {last['val_macro_f1']:.3f}  "
            f"{time.perf_counter() - self.begun:.0f} s"
        )
        write_epoch(self.folder, state, write_best, line)
        return state

    def resume(self, state: State, optimizer: torch.optim.Optimizer) -> int:
        """Take up what an earlier run, or the training of the heads, has left; returns how many epochs are done."""
        try:
            self.network.load_state_dict(state["model"])
            if state["optimizer"] is not None:
                optimizer.load_state_dict(state["optimizer"])
            is_ours = self.history == state["history"]
            self.history, self.best, self.best_epoch = state["history"], state["best"], state["best_epoch"]
            done: int = state["epoch"]
            if not is_ours:
                self.resumed_after = [*state["resumed_after"], done]
                tqdm.write(f"resumes after epoch {done} of {self.epochs}")
        except (KeyError, ValueError, RuntimeError) as error:
            raise SeamlineError(
                f"{self.folder}: the state there is not this model's ({str(error).partition(chr(10))[0][:200]}); "
                "delete the folder to train from the start."
            ) from None
        return done

    def optimizer_of_all(self) -> torch.optim.Optimizer:
        """The heads and what is not frozen of the backbone, each with its rate."""
        groups = [
            {"params": list(self.network.heads.parameters()), "lr": self.params.lr_heads},
            {
                "params": [one for one in self.network.backbone.parameters() if one.requires_grad],
                "lr": self.params.lr_backbone,
            },
        ]
        return torch.optim.AdamW([one for one in groups if one["params"]], weight_decay=self.params.weight_decay)

    def features(self, squares: list[Image]) -> Tensor:
        """What the backbone makes of pictures, (n, channels)."""
        self.network.eval()
        with torch.no_grad():
            return torch.cat([self.network.backbone(self.to_tensor(part)) for part in in_parts(squares)])

    def view(self, number: int) -> list[Image]:
        """The garments of train as they are, or changed at random."""
        return self.squares if number == 0 else [self.changed(index, -number) for index in range(len(self.squares))]

    def changed(self, index: int, epoch: int) -> Image:
        seed = (self.params.seed, epoch % 2**32, index)
        return augmented(self.squares[index], self.params.augment, seed, mean_to_bgr(self.backbone.mean))

    def batches(self, epoch: int, count: int) -> list[Ints]:
        order = np.random.default_rng((self.params.seed, epoch)).permutation(count)
        return np.array_split(order, math.ceil(count / self.params.batch))

    def to_tensor(self, squares: list[Image]) -> Tensor:
        pictures = torch.from_numpy(squares_to_tensor(squares, self.backbone.mean, self.backbone.std))
        return pictures.to(self.device, memory_format=torch.channels_last)

    def seed_of(self, epoch: int) -> int:
        return int(np.random.SeedSequence((self.params.seed, epoch)).generate_state(1)[0])


def squares_of(examples: list[Example], imgsz: int, backbone: Backbone) -> list[Image]:
    """Garments as the model's input, still BGR from 0 to 255."""
    return [to_square(image, imgsz, "pad", "bilinear", backbone.mean) for image in images_of(examples)]


def in_parts(squares: list[Image]) -> list[list[Image]]:
    return [squares[start : start + AT_ONCE] for start in range(0, len(squares), AT_ONCE)]


def set_rates(optimizer: torch.optim.Optimizer, done: float, warmed: float = 1.0) -> None:
    """Rates fall from their first value to 0 as half a cosine does.

    Args:
        done: share of the steps that are done.
        warmed: share that the rates have reached while they rise.
    """
    for group in optimizer.param_groups:
        first = group.setdefault("initial_lr", group["lr"])
        group["lr"] = first * (1 + math.cos(math.pi * done)) / 2 * warmed
