"""An R-CNN's training, made to survive a kill: the state of every epoch is written, and a training resumes from it.

The loop is that of torchvision's references/detection, with an average of the weights (EMA), which is validated and
kept. On a CPU a training that resumes computes bit for bit what an uninterrupted one does: what is drawn at random
depends on seed and epoch alone.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Generator
from contextlib import closing
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel
from torchvision.models.detection.faster_rcnn import FasterRCNN
from torchvision.models.detection.image_list import ImageList
from tqdm import tqdm

from seamline.base.coco import Record
from seamline.base.errors import SeamlineError
from seamline.base.parallel import usable_cores
from seamline.models.rcnn_network import Architecture, build_network
from seamline.models.rcnn_weights import weights_to_write, write
from seamline.training.checkpoints import Beside, State, read_state, write_epoch
from seamline.training.devices import is_cpu
from seamline.training.history import record_to_line
from seamline.training.memory import keep_freed_memory
from seamline.training.rcnn_data import (
    Augmentation,
    Batch,
    Samples,
    augmented,
    made_ahead,
    read_part,
    samples_to_batch,
)
from seamline.training.rcnn_pretrained import start_from
from seamline.training.rcnn_validation import validated
from seamline.training.trial import diverged

if TYPE_CHECKING:
    from seamline.training.rcnn import Plan

OPTIMIZERS = ("SGD", "Adam", "AdamW", "NAdam", "RAdam", "RMSProp")
FUSED = ("SGD", "Adam", "AdamW")  # those that take a step in few operations over all weights
MOMENTUM = 0.9  # of SGD and RMSProp, as in torchvision's reference
MAX_NORM = 10.0  # of the gradients; larger ones are shortened
EMA_DECAY, EMA_RAMP = 0.9999, 500  # ultralytics' formula; at first, when the weights change much, it is short
KEPT_BYTES = 4 * 2**30  # of canvases, kept in memory where those of all processes are of less
# torchvision's losses by the names that tables and plots have.
LOSSES = {
    "loss_box_reg": "box_loss",
    "loss_mask": "seg_loss",
    "loss_classifier": "cls_loss",
    "loss_objectness": "object_loss",
    "loss_rpn_box_reg": "proposal_loss",
}


class Losses(nn.Module):
    """A network as what its losses are computed by, so that torch can spread it over processes."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, network: FasterRCNN, frozen: list[str]) -> None:
        super().__init__()
        self.network, self.frozen = network, frozen
        for name, values in (("mean", network.transform.image_mean), ("std", network.transform.image_std)):
            self.register_buffer(name, torch.tensor(values).reshape(1, 3, 1, 1), persistent=False)

    def forward(self, canvases: torch.Tensor, targets: list[dict[str, torch.Tensor]]) -> torch.Tensor:
        """The losses in the order of LOSSES, as network(images, targets) gives them, without copies of the images."""
        images = canvases.flip(-1).permute(0, 3, 1, 2).float().div_(255).sub_(self.mean).div_(self.std)
        sizes = [(images.shape[2], images.shape[3])] * len(images)
        listed = ImageList(images, sizes)
        maps = self.network.backbone(images)
        proposals, losses = self.network.rpn(listed, maps, targets)
        _, more = self.network.roi_heads(maps, proposals, sizes, targets)
        found = {**losses, **more}
        return torch.stack([found[name] for name in LOSSES if name in found])

    def train(self, mode: bool = True) -> Losses:
        super().train(mode)
        for name in self.frozen:  # their normalisations keep their statistics too
            self.network.backbone.body.get_submodule(name).eval()
        return self


class Trainer:
    """One training. On several processors each process has one; the first process validates and writes."""

    def __init__(self, plan: Plan, architecture: Architecture, folder: Path) -> None:
        self.plan, self.train_params, self.architecture, self.folder = plan, plan.train, architecture, folder
        self.rank, self.world = int(os.environ.get("RANK", "-1")), int(os.environ.get("WORLD_SIZE", "1"))
        self.device = device_of(plan.device, max(self.rank, 0))
        self.history: list[Record] = []
        self.resumed_after: list[int] = []
        self.start_epoch, self.updates = 0, 0
        self.best_fitness, self.best_epoch = -1.0, 0
        self.beside = Beside()
        self.set_up()

    @property
    def is_first(self) -> bool:
        return self.rank in (-1, 0)

    def set_up(self) -> None:
        params = self.train_params
        if self.device.type == "cpu":
            keep_freed_memory()
            torch.set_num_threads(max(1, (usable_cores() - 1) // self.world))  # the last one makes batches
        else:
            torch.cuda.set_device(self.device)
        part = read_part(self.plan.data[0], "train", self.plan.images)
        self.names = part.names
        photos = read_part(self.plan.data[0], "val", self.plan.images).photos
        # Each process sees all photos of train, sooner or later.
        keep = (len(part.photos) * self.world + len(photos)) * 3 * params.imgsz**2 < KEPT_BYTES
        self.samples = Samples(part.photos, params.imgsz, keep)
        self.validation = Samples([one._replace(labels=[], segmentations=[]) for one in photos], params.imgsz, keep)
        torch.manual_seed(params.seed)
        network = build_network(self.architecture)
        if self.plan.start is not None:
            start_from(network, self.plan.start, self.names)
        frozen = layers_up_to(network, self.plan.rcnn.frozen_stride if self.plan.start is not None else 0)
        network.to(self.device, memory_format=torch.channels_last)  # a tenth less time a step, 2 cores, AVX-512
        for name in frozen:
            network.backbone.body.get_submodule(name).requires_grad_(False)
        self.network, self.ema = network, deepcopy(network).eval().requires_grad_(False)
        self.losses: nn.Module = Losses(network, frozen).to(self.device)
        if self.world > 1:
            distributed.init_process_group(
                "gloo" if self.device.type == "cpu" else "nccl", rank=self.rank, world_size=self.world
            )
            ids = None if self.device.type == "cpu" else [self.device.index]
            self.losses = DistributedDataParallel(self.losses, device_ids=ids)
        self.optimizer = optimizer_of(network, params.optimizer, params.lr0, params.weight_decay)
        self.autocast = None  # on a CPU it would be bf16: slow where the processor has none, and other weights
        if params.amp and self.device.type != "cpu":
            self.autocast = torch.bfloat16 if params.amp == "bf16" else torch.float16
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.autocast is torch.float16)
        self.batches_a_step = max(1, round(params.nbs / params.batch))
        self.steps = math.ceil(len(part.photos) / params.batch)  # batches of an epoch

    def train(self) -> None:
        self.resume()
        self.begun = time.perf_counter()
        if self.is_first:
            if self.start_epoch:
                tqdm.write(f"resumes after epoch {self.start_epoch} of {self.train_params.epochs}")
            total, done = self.train_params.epochs * self.steps, self.start_epoch * self.steps
            self.bar = tqdm(total=total, initial=done, desc="training", unit="step", disable=None)
        try:
            for epoch in range(self.start_epoch, self.train_params.epochs):
                losses = self.train_epoch(epoch)
                if self.end_epoch(epoch, losses):
                    break
            self.beside.wait()
        finally:
            self.beside.close()
            if self.is_first:
                self.bar.close()
            if self.world > 1:
                distributed.destroy_process_group()

    def train_epoch(self, epoch: int) -> torch.Tensor:
        """The mean of each loss."""
        self.losses.train()
        torch.manual_seed(self.seed_of(epoch))
        total = torch.zeros((), device=self.device)
        with closing(self.batches(epoch)) as batches:
            for number, batch in enumerate(batches):
                self.beside.check()
                self.set_rate(epoch, number)
                canvases, targets = to_device(batch, self.device)
                is_last = number + 1 == self.steps
                with torch.autocast(self.device.type, self.autocast, enabled=self.autocast is not None):
                    losses = self.losses(canvases, targets)
                self.scaler.scale(losses.sum() / self.batches_a_step).backward()
                if (number + 1) % self.batches_a_step == 0 or is_last:
                    self.step(epoch)
                total = total + losses.detach()
                if self.is_first:
                    self.bar.update()
        return total / self.steps

    def batches(self, epoch: int) -> Generator[Batch]:
        """Those of this process, each photo once an epoch; the last one may be smaller."""
        params = self.train_params
        order = np.random.default_rng((params.seed, epoch)).permutation(len(self.samples.photos))
        order = np.concatenate((order, np.resize(order, -len(order) % self.world)))  # as many for each process
        how = Augmentation(*(getattr(params, name) for name in Augmentation._fields))

        def make(start: int) -> Batch:
            own = order[start : start + params.batch][max(self.rank, 0) :: self.world]
            found = [augmented(self.samples.sample(int(one)), how, (params.seed, epoch, int(one))) for one in own]
            return samples_to_batch(found, self.architecture.has_masks)

        threads = 1 if self.device.type == "cpu" else max(1, usable_cores() // self.world)
        return made_ahead(make, range(0, len(order), params.batch), threads, 2 * threads)

    def set_rate(self, epoch: int, number: int) -> None:
        """lr0 falls to its share lrf, epoch by epoch; at first it rises from 0, step by step."""
        params = self.train_params
        done = epoch / params.epochs
        fallen = (1 - math.cos(math.pi * done)) / 2 if params.cos_lr else done
        warmed = (epoch * self.steps + number + 1) / max(params.warmup_epochs * self.steps, 1)
        for group in self.optimizer.param_groups:
            group["lr"] = params.lr0 * (1 + fallen * (params.lrf - 1)) * min(1.0, warmed)

    def step(self, epoch: int) -> None:
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), MAX_NORM)
        if not self.scaler.is_enabled() and not math.isfinite(norm):  # torchvision's pooling does not survive NaN
            raise diverged(epoch + 1, self.train_params.lr0, self.folder)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()
        if self.is_first:
            self.average()

    def average(self) -> None:
        self.updates += 1
        share = 1 - EMA_DECAY * (1 - math.exp(-self.updates / EMA_RAMP))
        own, theirs = self.ema.state_dict(), self.network.state_dict()
        floats = [name for name, tensor in own.items() if tensor.is_floating_point()]
        torch._foreach_lerp_([own[name] for name in floats], [theirs[name] for name in floats], share)

    def end_epoch(self, epoch: int, losses: torch.Tensor) -> bool:
        """Validate where it is time to, and write the state; returns whether this epoch is the last one."""
        params = self.train_params
        self.check_finite(epoch, losses)
        ended = epoch + 1 == params.epochs
        stop = torch.tensor(float(ended))
        if self.is_first:
            names = [name for key, name in LOSSES.items() if self.architecture.has_masks or key != "loss_mask"]
            means = {name: round(value, 5) for name, value in zip(names, losses.tolist(), strict=True)}
            record = {"epoch": epoch + 1, **means, "lr": round(float(self.optimizer.param_groups[0]["lr"]), 8)}
            best = None
            if (epoch + 1) % params.val_period == 0 or ended:
                record |= self.validate()
                fitness = record[f"val_{'mask' if self.architecture.has_masks else 'box'}_mAP50_95"]
                if fitness > self.best_fitness:
                    self.best_fitness, self.best_epoch = fitness, epoch + 1
                    best = weights_to_write(self.ema, self.architecture, self.names)
                elif epoch + 1 - self.best_epoch >= params.patience:
                    stop.fill_(1.0)
            self.history.append(record)
            line = f"{record_to_line(record, params.epochs)}  {time.perf_counter() - self.begun:.0f} s"
            self.beside.wait()
            state = self.beside.copied(self.to_state(epoch, bool(stop)), self.device)
            write_best = None if best is None else partial(write, best)
            self.beside.do(lambda: write_epoch(self.folder, state(), write_best, line))
        if self.world > 1:
            stop = stop.to(self.device)
            distributed.broadcast(stop, 0)
        return bool(stop)

    def validate(self) -> Record:
        return validated(
            self.ema, self.architecture, self.names, self.validation, self.plan.data[0], self.train_params.batch
        )

    def check_finite(self, epoch: int, losses: torch.Tensor) -> None:
        """Raises SeamlineError, in all processes or none, when a loss was NaN or infinite."""
        verdict = (~losses.isfinite().all()).float()
        if self.world > 1:
            distributed.all_reduce(verdict, op=distributed.ReduceOp.MAX)
        if verdict.item():
            raise diverged(epoch + 1, self.train_params.lr0, self.folder)

    def to_state(self, epoch: int, finished: bool) -> State:
        """All that the next epoch depends on. Its tensors are the trainer's own, and change with it."""
        return {
            "epoch": epoch + 1,
            "finished": finished,
            "model": self.network.state_dict(),
            "ema": self.ema.state_dict(),
            "updates": self.updates,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "best_fitness": self.best_fitness,
            "best_epoch": self.best_epoch,
            "history": self.history,
            "resumed_after": self.resumed_after,
            "threads": torch.get_num_threads() if self.device.type == "cpu" else None,
        }

    def resume(self) -> None:
        """Take up what an earlier run has left in the folder."""
        state = read_state(self.folder)
        if state is None:
            return
        try:
            self.network.load_state_dict(state["model"])
            self.ema.load_state_dict(state["ema"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.scaler.load_state_dict(state["scaler"])
            self.updates, self.history = state["updates"], state["history"]
            self.best_fitness, self.best_epoch = state["best_fitness"], state["best_epoch"]
            self.start_epoch = state["epoch"]
            self.resumed_after = [*state["resumed_after"], self.start_epoch]
        except (KeyError, ValueError, RuntimeError) as error:
            raise SeamlineError(
                f"{self.folder}: the state there is not this model's ({str(error).partition(chr(10))[0][:200]}); "
                "delete the folder to train from the start."
            ) from None

    def seed_of(self, epoch: int) -> int:
        entropy = (self.train_params.seed, epoch, max(self.rank, 0))
        return int(np.random.SeedSequence(entropy).generate_state(1)[0])


def device_of(name: str, rank: int) -> torch.device:
    return torch.device("cpu" if is_cpu(name) else f"cuda:{name.split(',')[rank]}")


def layers_up_to(network: FasterRCNN, stride: int) -> list[str]:
    """Names of the backbone's layers whose outputs have this stride at most, in their order."""
    found: list[str] = []
    side = 64
    tensor = torch.zeros(1, 3, side, side)
    body = network.backbone.body.eval()
    with torch.no_grad():
        for name, layer in body.named_children():
            tensor = layer(tensor)
            if side // tensor.shape[-1] > stride:
                break
            found.append(name)
    return found


def optimizer_of(network: FasterRCNN, name: str, rate: float, decay: float) -> torch.optim.Optimizer:
    """Biases and normalisations are not kept small."""
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    groups = [
        {"params": [one for one in trained if one.ndim > 1], "weight_decay": decay},
        {"params": [one for one in trained if one.ndim <= 1], "weight_decay": 0.0},
    ]
    kind = getattr(torch.optim, "RMSprop" if name == "RMSProp" else name)
    more: dict[str, Any] = {"fused": True} if name in FUSED else {}
    if name in ("SGD", "RMSProp"):
        more["momentum"] = MOMENTUM
    optimizer: torch.optim.Optimizer = kind(groups, lr=rate, **more)
    return optimizer


def to_device(batch: Batch, device: torch.device) -> tuple[torch.Tensor, list[dict[str, torch.Tensor]]]:
    if device.type == "cpu":
        return batch.canvases, batch.targets
    targets = [{key: one.to(device, non_blocking=True) for key, one in target.items()} for target in batch.targets]
    return batch.canvases.to(device, non_blocking=True), targets
