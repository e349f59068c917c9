"""ultralytics' trainer, made to survive a kill: the state of every epoch is written, and a training resumes from it.

The loop over epochs and batches is ours. It computes what ultralytics' loop does, but waits for the GPU once an epoch
and not in every batch, writes the state beside the next epoch, and leaves out what contradicts params.yaml: smaller
batches where memory is short, and going back where the loss is NaN.

On a CPU a training that resumes computes bit for bit what an uninterrupted one does: every epoch draws its random
numbers from a seed of its own.
"""

from __future__ import annotations

import math
import os
import random
import time
import warnings
from collections.abc import Generator
from contextlib import closing, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import distributed
from tqdm import tqdm
from ultralytics.models.yolo.segment import SegmentationTrainer
from ultralytics.utils import DEFAULT_CFG, RANK
from ultralytics.utils.torch_utils import autocast, unwrap_model

from seamline.base.coco import Record
from seamline.base.errors import SeamlineError
from seamline.models.ultralytics_patches import replaced_for_cpus
from seamline.models.weights import opened_as_data
from seamline.training.checkpoints import Beside, read_state, write_epoch
from seamline.training.history import record_to_line
from seamline.training.memory import keep_freed_memory
from seamline.training.trial import diverged
from seamline.training.yolo_batches import draws_at_random, one_ahead
from seamline.training.yolo_loss import INSTANCES, instances_of, loss_without_waiting
from seamline.training.yolo_state import epoch_record, restore, trainer_to_state
from seamline.training.yolo_weights import weights_to_write, write_weights

MASK_FITNESS = "metrics/mAP50-95(M)"
# Environment variable by which the processes of a training on several GPUs learn train.val_period, which is not an
# argument of ultralytics'.
VAL_PERIOD = "SEAMLINE_VAL_PERIOD"


class Trainer(SegmentationTrainer):  # type: ignore[misc]
    """ultralytics' trainer; the best model is chosen by mask mAP alone, and a training resumes after any epoch.

    Where ultralytics runs callbacks, this runs its own method of that name first. On several processors each process
    has one; the first process writes.
    """

    best_fitness: float | None
    fitness: float | None
    accumulate: int  # batches whose gradients are added up for a step
    loss_names: tuple[str, ...]
    validated_epoch = -1
    best_epoch = 0  # counted from 1
    step_number = -1  # of the batch in work, over all epochs
    last_step = -1  # the batch after which the optimizer stepped last
    mosaic_closed = False

    def __init__(self, cfg: Any = DEFAULT_CFG, overrides: Any = None, _callbacks: Any = None) -> None:
        self.folder = Path((overrides or {})["project"])
        self.history: list[Record] = []
        self.resumed_after: list[int] = []
        self.waiting_gradients: dict[str, torch.Tensor] = {}
        self.beside = Beside()
        super().__init__(cfg, overrides, _callbacks)
        if self.device.type == "cpu":
            keep_freed_memory()
        if RANK != -1:
            self.world_size = int(os.environ["WORLD_SIZE"])  # ultralytics knows of several GPUs only

    def run_callbacks(self, event: str) -> None:
        own = getattr(self, event, None)
        if own is not None:
            own()
        super().run_callbacks(event)

    def _do_train(self) -> None:
        if self.world_size > 1:
            self._setup_ddp()
        self._setup_train()
        self.steps = len(self.train_loader)  # of an epoch
        self.warmup_steps = self._get_warmup_iterations(self.steps)
        self.full_accumulate = self.accumulate  # which the warm-up approaches
        self.optimizer.zero_grad()
        self.run_callbacks("on_train_start")
        for epoch in range(self.start_epoch, self.epochs):
            self.epoch = epoch
            self.run_callbacks("on_train_epoch_start")
            self.train_epoch()
            self.run_callbacks("on_train_epoch_end")
            self.judge_epoch()
            self.run_callbacks("on_fit_epoch_end")
            self._clear_memory(0.5)
            if self.all_stop():
                break
        self.beside.wait()
        if RANK in {-1, 0}:
            self.run_callbacks("on_train_end")
        self._clear_memory()
        for loader in (self.train_loader, self.test_loader):
            loader.close()
        if self.world_size > 1:
            distributed.destroy_process_group()

    def train_epoch(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a schedule that steps before the optimizer has
            self.scheduler.step()
        self._model_train()
        if RANK != -1:
            self.train_loader.sampler.set_epoch(self.epoch)
        if self.args.close_mosaic and not self.mosaic_closed and self.epoch >= self.epochs - self.args.close_mosaic:
            self.mosaic_closed = True
            self._close_dataloader_mosaic()
            self.train_loader.reset()
        mean = torch.empty(0)
        with closing(self.batches()) as batches:
            for number, batch in enumerate(batches):
                self.run_callbacks("on_train_batch_start")
                self.warm_up()
                losses = self.forward_and_backward(batch)
                mean = (mean * number + losses) / (number + 1) if number else losses
                if self.step_number - self.last_step >= self.accumulate:
                    self.optimizer_step()
                    self.last_step = self.step_number
                self.run_callbacks("on_train_batch_end")
        self.tloss = dict(zip(self.loss_names, mean, strict=True))

    def batches(self) -> Generator[Any]:
        """Those of the epoch; where this process loads them, while the one before is in work."""
        batches = iter(self.train_loader)
        if self.train_loader.num_workers or self.args.multi_scale or draws_at_random(self.model):
            yield from batches
        else:
            yield from one_ahead(batches)

    def warm_up(self) -> None:
        """Of the first epochs: the biases' learning rate falls to its value, the others rise from 0."""
        if not self.warmup_steps or self.step_number > self.warmup_steps:
            return
        done = [0, self.warmup_steps]
        self.accumulate = max(1, int(np.interp(self.step_number, done, [1, self.full_accumulate]).round()))
        for group in self.optimizer.param_groups:
            first = self.args.warmup_bias_lr if group.get("param_group") == "bias" else 0.0
            rates = [first, group["initial_lr"] * self.lf(self.epoch)]
            group["lr"] = float(np.interp(self.step_number, done, rates))
            if "momentum" in group:
                momenta = [self.args.warmup_momentum, self.args.momentum]
                group["momentum"] = float(np.interp(self.step_number, done, momenta))

    def forward_and_backward(self, batch: Any) -> torch.Tensor:
        """The batch's losses by kind, on the device."""
        with autocast(torch.bfloat16 if self.args.amp == "bf16" else self.amp, device=self.device.type):
            batch = self.preprocess_batch(batch)
            if self.args.compile:  # the model alone is compiled; the loss has other shapes in every batch
                loss, self.loss_items = unwrap_model(self.model).loss(batch, self.model(batch["img"]))
            else:
                loss, self.loss_items = self.model(batch)
            self.loss = loss.sum()
            if RANK != -1:
                self.loss *= self.world_size
        if not self.loss_names:
            self.loss_names = tuple(self.loss_items)
        self.scaler.scale(self.loss).backward()
        return torch.stack(list(self.loss_items.values()))

    def judge_epoch(self) -> None:
        """Validate where it is time to; decide whether this epoch is the last one."""
        criterion = unwrap_model(self.model).criterion
        if hasattr(criterion, "update"):
            criterion.update()
        self.lr = {f"lr/pg{number}": group["lr"] for number, group in enumerate(self.optimizer.param_groups)}
        if RANK in {-1, 0}:
            self.ema.update_attr(self.model, include=["yaml", "nc", "args", "names", "stride", "class_weights"])
        last = self.epoch + 1 >= self.epochs
        if (self.epoch + 1) % int(os.environ[VAL_PERIOD]) == 0 or last or self.stopper.possible_stop:
            self._clear_memory(0.5)
            self.metrics, self.fitness = self.validate()
        self.check_finite()
        if RANK in {-1, 0}:
            self.stop = bool(self.stopper(self.epoch + 1, self.fitness)) or last

    def all_stop(self) -> bool:
        """Whether the first process has decided to stop, after which all have to."""
        if RANK != -1:
            decided = [self.stop, self.stopper.possible_stop]  # the latter makes all validate after the next epoch
            distributed.broadcast_object_list(decided, 0)
            self.stop, self.stopper.possible_stop = decided
        return bool(self.stop)

    def validate(self) -> tuple[dict[str, float] | None, float | None]:
        best_before = self.best_fitness
        metrics, _ = super().validate()
        if metrics is None:  # of several processes only the first one gets them
            return metrics, None
        fitness = float(metrics[MASK_FITNESS])
        self.best_fitness = fitness if best_before is None else max(best_before, fitness)
        self.validated_epoch = self.epoch
        if best_before is None or fitness > best_before:
            self.best_epoch = self.epoch + 1
        return metrics, fitness

    def _setup_ddp(self) -> None:
        if self.device.type == "cpu":
            distributed.init_process_group("gloo", rank=RANK, world_size=self.world_size)
        else:
            super()._setup_ddp()

    def _setup_train(self) -> None:
        with replaced_for_cpus() if RANK != -1 and self.device.type == "cpu" else nullcontext():
            super()._setup_train()
        is_compiled = hasattr(getattr(self.model, "module", self.model), "_orig_mod")
        if self.args.compile and not is_compiled:  # ultralytics would train without, and not say so
            raise SeamlineError(
                "train.compile: torch cannot compile here; a CPU needs a C++ compiler, a GPU Triton; "
                "set train.compile: false."
            )
        if self.device.type != "cpu":  # where there is something to wait for
            self.loss_without_waiting()

    def loss_without_waiting(self) -> None:
        model = unwrap_model(self.model)
        model.criterion = loss_without_waiting(model)

    def setup_model(self) -> Any:
        with opened_as_data(Path(self.args.model)):
            found = super().setup_model()
        if self.device.type == "cpu":  # measured 16 to 19% less time a step than the default layout, 2 cores, AVX-512
            self.model.to(memory_format=torch.channels_last)
        return found

    def build_optimizer(self, *args: Any, **kwargs: Any) -> torch.optim.Optimizer:
        return fused(super().build_optimizer(*args, **kwargs))

    def preprocess_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
        batch[INSTANCES] = instances_of(batch)
        batch = super().preprocess_batch(batch)
        if self.device.type == "cpu":
            batch["img"] = batch["img"].contiguous(memory_format=torch.channels_last)
        return batch

    def resume_training(self, ckpt: Any) -> None:
        state = read_state(self.folder)
        if state is None:
            return
        try:
            restore(self, state)
        except (KeyError, ValueError, RuntimeError) as error:
            raise SeamlineError(
                f"{self.folder}: the state there is not this model's ({str(error).partition(chr(10))[0][:200]}); "
                "delete the folder to train from the start."
            ) from None

    def on_train_start(self) -> None:
        if self.start_epoch and self.train_loader.num_workers:  # or the order of the first epochs would come again
            self.train_loader.generator.manual_seed(self.epoch_seed(self.start_epoch))
        for name, parameter in unwrap_model(self.model).named_parameters():
            if name in self.waiting_gradients:
                parameter.grad = self.waiting_gradients[name].to(parameter.device)
        self.waiting_gradients = {}
        self.begun = time.perf_counter()
        if RANK in {-1, 0}:
            if self.start_epoch:
                tqdm.write(f"resumes after epoch {self.start_epoch} of {self.epochs}")
            done = self.start_epoch * self.steps
            self.bar = tqdm(total=self.epochs * self.steps, initial=done, desc="training", unit="step", disable=None)

    def on_train_epoch_start(self) -> None:
        self.step_number = self.epoch * self.steps - 1
        if self.train_loader.num_workers == 0:
            self.seed_epoch()

    def seed_epoch(self) -> None:
        """Make the epoch's random numbers depend on seed, epoch and process alone.

        Not where other processes load the images: to restart them every epoch would cost more than it is worth on a
        GPU, which is not deterministic anyway.
        """
        seed = self.epoch_seed(self.epoch)
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        self.train_loader.reset()
        self.train_loader.generator.manual_seed(seed)
        dataset = self.train_loader.dataset
        if dataset.cache != "ram":  # mosaics take the images loaded last
            for index in dataset.buffer:
                dataset.ims[index] = dataset.im_hw0[index] = dataset.im_hw[index] = None
            dataset.buffer.clear()

    def epoch_seed(self, epoch: int) -> int:
        entropy = (self.args.seed, epoch) if RANK == -1 else (self.args.seed, epoch, RANK)
        return int(np.random.SeedSequence(entropy).generate_state(1)[0])

    def on_train_batch_start(self) -> None:
        self.beside.check()
        self.step_number += 1

    def on_train_batch_end(self) -> None:
        if RANK in {-1, 0}:
            self.bar.update()

    def check_finite(self) -> None:
        """Raises SeamlineError when the loss, or what it has made of the model, is NaN or infinite."""
        tensors = [tensor for tensor in self.ema.ema.state_dict().values() if tensor.is_floating_point()]
        largest = torch.nn.utils.get_total_norm([*tensors, self.loss.detach()], math.inf)  # one number to wait for
        if RANK != -1:  # all stop or none, or the first process would write a state that the others call diverged
            verdict = (~largest.isfinite()).float()
            distributed.all_reduce(verdict, op=distributed.ReduceOp.MAX)
            finite = not verdict.item()
        else:
            finite = bool(largest.isfinite())
        if finite and (self.fitness is None or math.isfinite(self.fitness)):
            return
        raise diverged(self.epoch + 1, self.args.lr0, self.folder)

    def on_fit_epoch_end(self) -> None:
        if RANK not in {-1, 0}:
            return
        self.history.append(epoch_record(self))
        line = f"{record_to_line(self.history[-1], self.epochs)}  {time.perf_counter() - self.begun:.0f} s"
        self.beside.wait()
        state = self.beside.copied(trainer_to_state(self), self.device)
        best = weights_to_write(self.ema.ema, dict(vars(self.args))) if self.best_epoch == self.epoch + 1 else None
        write_best = None if best is None else partial(write_weights, best)
        self.beside.do(lambda: write_epoch(self.folder, state(), write_best, line))

    def teardown(self) -> None:
        self.beside.close()
        if hasattr(self, "bar"):
            self.bar.close()


def fused(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """The same optimizer, which takes a step in few operations over all weights, on a CPU too; others as they are."""
    kind = type(optimizer)
    if kind not in (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW):
        return optimizer
    groups = [{**group, "fused": True, "foreach": None} for group in optimizer.param_groups]
    return kind(groups, lr=optimizer.defaults["lr"], fused=True)
