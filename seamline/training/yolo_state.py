"""What a YOLO training writes after each epoch, and takes up again when it resumes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from ultralytics.nn.modules.head import Segment26
from ultralytics.utils.torch_utils import unwrap_model

from seamline.base.coco import Record
from seamline.training.checkpoints import State

if TYPE_CHECKING:
    from seamline.training.yolo_trainer import Trainer


def trainer_to_state(trainer: Trainer) -> State:
    """All that the next epoch depends on. Its tensors are the trainer's own, and change with it."""
    model = unwrap_model(trainer.model)
    waiting = trainer.last_step != trainer.step_number
    return {
        "epoch": trainer.epoch + 1,
        "finished": bool(trainer.stop),
        "model": model.state_dict(),
        "ema": trainer.ema.ema.state_dict(),
        "ema_updates": trainer.ema.updates,
        "optimizer": trainer.optimizer.state_dict(),
        "scaler": trainer.scaler.state_dict(),
        "stopper": {key: getattr(trainer.stopper, key) for key in ("best_fitness", "best_epoch", "possible_stop")},
        "best_fitness": trainer.best_fitness,
        "fitness": trainer.fitness,
        "best_epoch": trainer.best_epoch,
        "history": trainer.history,
        "resumed_after": trainer.resumed_after,
        "threads": torch.get_num_threads() if trainer.device.type == "cpu" else None,
        "last_step": trainer.last_step,
        "gradients": {
            name: parameter.grad
            for name, parameter in model.named_parameters()
            if waiting and parameter.grad is not None
        },
    }


def restore(trainer: Trainer, state: State) -> None:
    """Put a trainer that has been set up into the state that an earlier one has left.

    Raises:
        KeyError, ValueError, RuntimeError: when it is the state of another model.
    """
    model = unwrap_model(trainer.model)
    model.load_state_dict(state["model"])
    trainer.ema.ema.load_state_dict(state["ema"])
    trainer.ema.updates = state["ema_updates"]
    trainer.optimizer.load_state_dict(state["optimizer"])
    trainer.scaler.load_state_dict(state["scaler"])
    trainer.stopper.__dict__.update(state["stopper"])
    trainer.best_fitness, trainer.fitness = state["best_fitness"], state["fitness"]
    trainer.best_epoch, trainer.history = state["best_epoch"], state["history"]
    trainer.last_step, trainer.waiting_gradients = state["last_step"], state["gradients"]
    trainer.start_epoch = state["epoch"]
    trainer.resumed_after = [*state["resumed_after"], trainer.start_epoch]
    if getattr(model.model[-1], "one2one_cv2", None) is not None:  # as ultralytics does on resuming
        model.criterion = model.init_criterion()
        model.criterion.updates = trainer.start_epoch - 1
        model.criterion.update()


def epoch_record(trainer: Trainer) -> Record:
    """Losses, learning rate and, where it was validated, metrics of the epoch that has ended."""
    record: Record = {"epoch": trainer.epoch + 1}
    losses = torch.stack(list(trainer.tloss.values())).tolist()
    has_semantic = isinstance(unwrap_model(trainer.model).model[-1], Segment26)  # others' loss of it is always 0
    record |= {
        f"{name.removesuffix('_loss')}_loss": round(loss, 5)
        for name, loss in zip(trainer.tloss, losses, strict=True)
        if name != "sem_loss" or has_semantic
    }
    record["lr"] = round(float(trainer.optimizer.param_groups[0]["lr"]), 8)
    if trainer.metrics is not None and trainer.validated_epoch == trainer.epoch:
        for kind, letter in (("box", "B"), ("mask", "M")):
            for name, key in (("mAP50", "mAP50"), ("mAP50_95", "mAP50-95")):
                record[f"val_{kind}_{name}"] = round(float(trainer.metrics[f"metrics/{key}({letter})"]), 5)
    return record
