"""ultralytics' trainer, made to survive a kill: the state of every epoch is written, and a training resumes from it.

On a CPU a training that resumes computes bit for bit what an uninterrupted one does: every epoch draws its random
numbers from a seed of its own.
"""

from __future__ import annotations

import math
import os
import random
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm
from ultralytics.models.yolo.segment import SegmentationTrainer
from ultralytics.utils import DEFAULT_CFG, RANK
from ultralytics.utils.torch_utils import unwrap_model

from seamline.base.coco import Record
from seamline.base.errors import SeamlineError
from seamline.base.process import end_with_named
from seamline.models.ultralytics_patches import replaced_for_training
from seamline.models.weights import opened_as_data
from seamline.training.checkpoints import State, read_state, write_state
from seamline.training.finished import weights_folder
from seamline.training.history import record_to_line
from seamline.training.trial import DIVERGED, tell_progress
from seamline.training.yolo_weights import best_weights, write_weights

MASK_FITNESS = "metrics/mAP50-95(M)"
# Environment variable by which the processes of a training on several GPUs learn train.val_period, which is not an
# argument of ultralytics'.
VAL_PERIOD = "SEAMLINE_VAL_PERIOD"


class Trainer(SegmentationTrainer):  # type: ignore[misc]
    """ultralytics' trainer; the best model is chosen by mask mAP alone, and a training resumes after any epoch.

    Where ultralytics runs callbacks, this runs its own method of that name first. On several GPUs each process has one,
    made from its arguments alone; the first process writes.
    """

    best_fitness: float | None
    fitness: float | None
    validated_epoch = -1
    best_epoch = 0  # counted from 1
    step_number = -1  # of the batch in work, over all epochs
    last_step = -1  # the batch after which the optimizer stepped last
    offset = 0

    def __init__(self, cfg: Any = DEFAULT_CFG, overrides: Any = None, _callbacks: Any = None) -> None:
        if RANK != -1:  # the process of one GPU begins here, and ends with this object
            end_with_named()  # the launcher between us and the stage outlives it
            self.replaced = ExitStack()
            self.replaced.enter_context(replaced_for_training(weights_folder()))
        self.folder = Path((overrides or {})["project"])
        self.history: list[Record] = []
        self.resumed_after: list[int] = []
        self.waiting_gradients: dict[str, torch.Tensor] = {}
        super().__init__(cfg, overrides, _callbacks)

    def run_callbacks(self, event: str) -> None:
        own = getattr(self, event, None)
        if own is not None:
            own()
        super().run_callbacks(event)

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

    def save_model(self) -> bool:
        return False  # on_fit_epoch_end does, whole and with all that resuming needs

    def final_eval(self) -> None:
        """Nothing: the evaluate stage measures the final model."""

    def setup_model(self) -> Any:
        with opened_as_data(Path(self.args.model)):
            return super().setup_model()

    def _setup_train(self) -> None:
        super()._setup_train()
        if self.device.type == "cpu":  # measured 16 to 19% less time a step than the default layout, 2 cores, AVX-512
            self.model.to(memory_format=torch.channels_last)

    def preprocess_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
        batch = super().preprocess_batch(batch)
        if self.device.type == "cpu":
            batch["img"] = batch["img"].contiguous(memory_format=torch.channels_last)
        return batch

    # Gradients may be summed over several batches, across the end of an epoch. ultralytics' loop has the last step in a
    # local variable, -1 at the start; with the offset added, it steps after the same batch as an uninterrupted one.
    @property
    def accumulate(self) -> int:
        return self.nominal_accumulate + self.offset

    @accumulate.setter
    def accumulate(self, value: int) -> None:
        self.nominal_accumulate = value

    def optimizer_step(self) -> None:
        super().optimizer_step()
        self.last_step, self.offset = self.step_number, 0

    def resume_training(self, ckpt: Any) -> None:
        state = read_state(self.folder)
        if state is None:
            return
        try:
            self.restore(state)
        except (KeyError, ValueError, RuntimeError) as error:
            raise SeamlineError(
                f"{self.folder}: the state there is not this model's ({str(error).partition(chr(10))[0][:200]}); "
                "delete the folder to train from the start."
            ) from None

    def restore(self, state: State) -> None:
        model = unwrap_model(self.model)
        model.load_state_dict(state["model"])
        self.ema.ema.load_state_dict(state["ema"])
        self.ema.updates = state["ema_updates"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.stopper.__dict__.update(state["stopper"])
        self.best_fitness, self.fitness = state["best_fitness"], state["fitness"]
        self.best_epoch, self.history = state["best_epoch"], state["history"]
        self.last_step, self.waiting_gradients = state["last_step"], state["gradients"]
        self.start_epoch = state["epoch"]
        self.resumed_after = [*state["resumed_after"], self.start_epoch]
        if getattr(model.model[-1], "one2one_cv2", None) is not None:  # as ultralytics does on resuming
            model.criterion = model.init_criterion()
            model.criterion.updates = self.start_epoch - 1
            model.criterion.update()

    def on_train_start(self) -> None:
        self.offset = self.last_step + 1
        if self.start_epoch and self.train_loader.num_workers:  # or the order of the first epochs would come again
            self.train_loader.generator.manual_seed(self.epoch_seed(self.start_epoch))
        self.begun = time.perf_counter()
        if RANK in {-1, 0}:
            steps = len(self.train_loader)
            if self.start_epoch:
                tqdm.write(f"resumes after epoch {self.start_epoch} of {self.epochs}")
            self.bar = tqdm(
                total=self.epochs * steps, initial=self.start_epoch * steps, desc="training", unit="step", disable=None
            )

    def on_train_epoch_start(self) -> None:
        self.args.val = (self.epoch + 1) % int(os.environ[VAL_PERIOD]) == 0
        # Otherwise ultralytics would halve the batch when memory is short, whatever params.yaml says.
        self._oom_retries = 3
        self.step_number = self.epoch * len(self.train_loader) - 1
        for name, parameter in unwrap_model(self.model).named_parameters():
            if name in self.waiting_gradients:
                parameter.grad = self.waiting_gradients[name].to(parameter.device)
        self.waiting_gradients = {}
        if self.train_loader.num_workers == 0:
            self.seed_epoch()

    def seed_epoch(self) -> None:
        """Make the epoch's random numbers depend on seed and epoch alone.

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
        return int(np.random.SeedSequence((self.args.seed, epoch)).generate_state(1)[0])

    def on_train_batch_start(self) -> None:
        self.step_number += 1

    def on_train_batch_end(self) -> None:
        if RANK in {-1, 0}:
            self.bar.update()

    def _handle_nan_recovery(self, epoch: int) -> bool:
        tensors = [tensor for tensor in self.ema.ema.state_dict().values() if tensor.is_floating_point()]
        finite = bool(self.loss.isfinite()) and all(bool(tensor.isfinite().all()) for tensor in tensors)
        finite = finite and (self.fitness is None or math.isfinite(self.fitness))
        if RANK != -1:  # all stop or none, or the first process would write a state that the others call diverged
            verdict = torch.tensor(float(not finite), device=self.device)
            torch.distributed.all_reduce(verdict, op=torch.distributed.ReduceOp.MAX)
            finite = not verdict.item()
        if finite:
            return False
        raise SeamlineError(
            f"train: {DIVERGED} in epoch {epoch + 1}; train.lr0 {self.args.lr0:g} may be too high. "
            f"What was trained before that epoch is in {self.folder}."
        )

    def on_fit_epoch_end(self) -> None:
        if RANK not in {-1, 0}:
            return
        self.history.append(epoch_record(self))
        # First the weights, then the state that names them; then the weights that it no longer names are deleted.
        if self.best_epoch == self.epoch + 1:
            write_weights(self.ema.ema, dict(vars(self.args)), best_weights(self.folder, self.best_epoch))
        write_state(self.folder, self.state())
        for path in self.folder.glob("best-*.pt"):
            if path != best_weights(self.folder, self.best_epoch):
                path.unlink()
        # Printed last: an epoch that was printed is not run again.
        tqdm.write(f"{record_to_line(self.history[-1], self.epochs)}  {time.perf_counter() - self.begun:.0f} s")
        tell_progress(self.history)

    def state(self) -> State:
        model = unwrap_model(self.model)
        waiting = self.last_step != self.step_number
        return {
            "epoch": self.epoch + 1,
            "finished": bool(self.stop),
            "model": model.state_dict(),
            "ema": self.ema.ema.state_dict(),
            "ema_updates": self.ema.updates,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "stopper": {key: getattr(self.stopper, key) for key in ("best_fitness", "best_epoch", "possible_stop")},
            "best_fitness": self.best_fitness,
            "fitness": self.fitness,
            "best_epoch": self.best_epoch,
            "history": self.history,
            "resumed_after": self.resumed_after,
            "threads": torch.get_num_threads() if self.device.type == "cpu" else None,
            "last_step": self.last_step,
            "gradients": {
                name: parameter.grad
                for name, parameter in model.named_parameters()
                if waiting and parameter.grad is not None
            },
        }

    def teardown(self) -> None:
        if hasattr(self, "bar"):
            self.bar.close()


def epoch_record(trainer: Trainer) -> Record:
    """Losses, learning rate and, where it was validated, metrics of the epoch that has ended."""
    record: Record = {"epoch": trainer.epoch + 1}
    record |= {f"{name.removesuffix('_loss')}_loss": round(float(value), 5) for name, value in trainer.tloss.items()}
    record["lr"] = round(float(trainer.optimizer.param_groups[0]["lr"]), 8)
    if trainer.validated_epoch == trainer.epoch:
        for kind, letter in (("box", "B"), ("mask", "M")):
            for name, key in (("mAP50", "mAP50"), ("mAP50_95", "mAP50-95")):
                record[f"val_{kind}_{name}"] = round(float(trainer.metrics[f"metrics/{key}({letter})"]), 5)
    return record
