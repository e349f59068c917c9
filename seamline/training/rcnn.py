"""The trainer of the R-CNNs: torchvision's Mask R-CNN and Faster R-CNN, without anything of ultralytics'.

What is trained is torchvision's network with torchvision's losses; the data are the split's own masks.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from seamline.base.coco import Record
from seamline.base.errors import SeamlineError
from seamline.base.files import sha256_of
from seamline.models.rcnn_backbones import STRIDES
from seamline.models.rcnn_network import Architecture, check_anchors, default_anchors
from seamline.params.rcnn import MODELS, Rcnn
from seamline.params.train import Train
from seamline.training.checkpoints import State, best_weights, read_state
from seamline.training.devices import find_device, processes_of
from seamline.training.finished import Training, weights_folder
from seamline.training.finishing import errors_in_a_sentence, train_to_the_end
from seamline.training.rcnn_data import check_classes_shown, data_sha256, read_part
from seamline.training.rcnn_pretrained import find_start
from seamline.training.rcnn_trainer import OPTIMIZERS, Trainer

# Parameters of train that an R-CNN's training goes by; the others are ultralytics'.
USED = (
    "epochs", "imgsz", "batch", "nbs", "optimizer", "lr0", "lrf", "cos_lr", "warmup_epochs", "weight_decay", "degrees",
    "translate", "scale", "fliplr", "hsv_h", "hsv_s", "hsv_v", "val_period", "patience", "amp", "seed",
)  # fmt: skip
# Fields of Architecture that the section rcnn has under the same names.
OF_ARCHITECTURE = tuple(name for name in Architecture.__struct_fields__ if name in Rcnn.__struct_fields__)
# What a change of their versions makes another training of.
LIBRARIES = ("torch", "torchvision")


class Plan(NamedTuple):
    """A training that can begin: the device and the weights to start from are there."""

    train: Train
    rcnn: Rcnn
    start: Path | None  # weights
    device: str
    data: tuple[Path, Path]  # the split, and the folder with images/

    def values(self) -> Record:
        """All that was asked for, for the training's key and revision."""
        found = {name: getattr(self.train, name) for name in ("model", *USED)}
        own = msgspec.to_builtins(self.rcnn)
        if self.start is not None:  # where they lie changes nothing; their bytes count
            del own["start"]
        return {**found, "rcnn": own, "device": self.device, "data_sha256": data_sha256(self.data[0], self.images)}

    def files(self) -> list[Path]:
        """Files whose contents belong to the key and the revision."""
        return [] if self.start is None else [self.start]

    @property
    def images(self) -> Path:
        return self.data[1] / "images"


def plan_training(train: Train, rcnn: Rcnn, split: Path, labelled: Path) -> Plan:
    """Check what was asked for, and find the weights to start from and the device.

    Raises:
        SeamlineError: when the weights or the device is not there, or a value does not fit the model.
    """
    if train.model not in MODELS:
        raise SeamlineError(f"train.model: there is no R-CNN {train.model!r}; there are {', '.join(MODELS)}.")
    if train.others:
        name = next(iter(train.others))
        raise SeamlineError(f"train.{name}: is an argument of ultralytics', which does not train {train.model}.")
    if train.optimizer not in OPTIMIZERS:
        names = ", ".join(OPTIMIZERS)
        raise SeamlineError(f"train.optimizer: {train.optimizer} is ultralytics'; {train.model} takes {names}.")
    check_anchors(params_to_architecture(train, rcnn, 1))
    start = find_start(rcnn.start, train.model, weights_folder())
    return Plan(train, rcnn, start, find_device(train.device, train.batch), (split, labelled))


def params_to_architecture(train: Train, rcnn: Rcnn, classes: int) -> Architecture:
    """What the two sections say of a network, with this number of classes."""
    model: Any = train.model
    shares = rcnn.anchors
    sides = (
        default_anchors(model, train.imgsz) if shares is None else [[s * train.imgsz for s in row] for row in shares]
    )
    own = {name: getattr(rcnn, name) for name in OF_ARCHITECTURE}
    return Architecture(**{**own, "model": model, "classes": classes, "imgsz": train.imgsz, "anchors": sides})


def train(plan: Plan, folder: Path) -> Training:
    """Train to the end in this folder, or resume what a killed run has left there.

    Raises:
        SeamlineError: when a class has no instance in train, memory is short, or the loss is NaN.
    """
    state = read_state(folder)
    if state is None or not state["finished"]:
        state = finish(plan, folder)
    facts = {name: state[name] for name in ("threads", "best_epoch", "resumed_after")}
    if plan.start is not None:  # they may have been downloaded and are no dependency of the stage: which were they?
        facts["weights_sha256"] = sha256_of(plan.start)
    return Training(best_weights(folder, state["best_epoch"]), facts, state["history"])


def finish(plan: Plan, folder: Path) -> State:
    part = read_part(plan.data[0], "train", plan.images)
    check_classes_shown(part)
    check_batches(plan, len(part.photos))
    folder.mkdir(parents=True, exist_ok=True)
    return train_to_the_end(
        folder,
        plan.device,
        "seamline.training.rcnn_process",
        lambda: plan_to_record(plan),
        lambda: run_trainer(plan, folder),
    )


def check_batches(plan: Plan, photos: int) -> None:
    """Raise SeamlineError where a batch would give a normalisation one single value to learn from.

    That is where the coarsest features have one cell, and a batch, or the last one of an epoch, one photo.
    """
    batch, processes = plan.train.batch, processes_of(plan.device)
    photos += -photos % processes  # some come twice, so that each process has as many
    smallest = min(batch, photos % batch or batch, photos) // processes
    is_frozen = plan.rcnn.frozen_norm and "resnet50" not in plan.train.model  # whose pyramid has some of its own
    if smallest == 1 and plan.train.imgsz <= max(STRIDES) and not is_frozen:
        raise SeamlineError(
            f"train.imgsz: at {plan.train.imgsz} a batch of one photo, such as the last of {photos} by "
            f"{batch}, has one value a channel, of which nothing is learned; take 64 or more, or another train.batch."
        )


def run_trainer(plan: Plan, folder: Path) -> None:
    """Train in this process, alone or as one of several."""
    with errors_in_a_sentence("torchvision", plan.train.batch, plan.train.imgsz, folder):
        Trainer(plan, params_to_architecture(plan.train, plan.rcnn, class_count(plan)), folder).train()


def class_count(plan: Plan) -> int:
    return len(read_part(plan.data[0], "val", plan.images).names)


def plan_to_record(plan: Plan) -> Record:
    """For the processes of a training on several processors."""
    return {
        "train": msgspec.to_builtins(plan.train),
        "rcnn": msgspec.to_builtins(plan.rcnn),
        "start": None if plan.start is None else str(plan.start),
        "device": plan.device,
        "data": [str(folder) for folder in plan.data],
    }


def record_to_plan(record: Record) -> Plan:
    split, labelled = record["data"]
    return Plan(
        msgspec.convert(record["train"], Train),
        msgspec.convert(record["rcnn"], Rcnn),
        None if record["start"] is None else Path(record["start"]),
        record["device"],
        (Path(split), Path(labelled)),
    )
