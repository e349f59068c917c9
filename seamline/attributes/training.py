"""A training of attributes made once: taken from the store where the same was made before, else trained and stored."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import cv2
import msgspec
import numpy as np
import PIL
import torch

from seamline.attributes.backbones import find_start
from seamline.attributes.garments import hash_of_data
from seamline.attributes.labelled import MISSING, TABLE, Labelled, labels_of
from seamline.attributes.trainer import Start, Trainer
from seamline.base.coco import Record
from seamline.base.errors import SeamlineError
from seamline.base.files import sha256_of
from seamline.base.process import SCRATCH
from seamline.base.splits import SPLITS
from seamline.params.classify import Classify
from seamline.training.checkpoints import best_weights
from seamline.training.devices import device_kind
from seamline.training.finished import (
    Training,
    discard_unfinished,
    holding,
    project_around,
    store_training,
    stored_training,
)
from seamline.training.keys import code_imported_by, hashes_of_code, run_key
from seamline.training.memory import is_out_of_memory

TRAINER = Path("seamline/attributes/trainer.py")
LIBRARIES = ("torch", "torchvision")
# Parameters that a training does not depend on: what is done with its weights.
AFTER_TRAINING = ("target_accuracy", "min_agreement", "int8", "device")


class Plan(NamedTuple):
    """A training that can begin."""

    start: Start
    asked: Record  # all that was asked for, for the training's revision
    data_sha256: str

    @property
    def files(self) -> list[Path]:
        """Whose contents belong to the key and the revision."""
        return [] if self.start.weights is None else [self.start.weights]


def attribute_trainings_folder() -> Path:
    return (project_around() / SCRATCH / "classify").resolve()


def plan_training(params: Classify, folder: Path, labelled: Labelled) -> Plan:
    """
    Args:
        folder: what the attributes stage made, of which `labelled` was read.

    Raises:
        SeamlineError: when the weights or the device is not there, or nothing would be learned.
    """
    if not params.frozen_epochs + params.epochs:
        raise SeamlineError("classify: frozen_epochs and epochs are both 0, so that nothing would be learned.")
    check_labels(labelled)
    weights = find_start(params.backbone, params.start)
    photos = [one.photo for split in SPLITS for one in labelled.splits[split]]
    data = hash_of_data(folder / TABLE, sorted(photos))
    values = msgspec.to_builtins(params)
    for name in AFTER_TRAINING:
        del values[name]
    if weights is not None:  # where they lie changes nothing; their bytes count
        del values["start"]
    start = Start(
        params, labelled.attributes, labelled.splits["train"], labelled.splits["val"], weights, device_of(params.device)
    )
    asked = {**values, "attributes": labelled.attributes, "data_sha256": data, "device": start.device}
    return Plan(start, asked, data)


def check_labels(labelled: Labelled) -> None:
    """Raises SeamlineError where an attribute has no label in train or val."""
    for split in ("train", "val"):
        labels = labels_of(labelled.splits[split])
        for column, name in enumerate(labelled.attributes):
            if (labels[:, column] == MISSING).all():
                raise SeamlineError(
                    f"classify: no garment of {split} has a value of {name!r}; give it more of them, or leave the "
                    "attribute out (attributes.labels)."
                )


def device_of(asked: str) -> str:
    """Raises SeamlineError where a GPU is asked for that is not there."""
    if asked == "cuda" and not torch.cuda.is_available():
        raise SeamlineError("classify.device: cuda was asked for, and this machine has no GPU; use auto or cpu.")
    return "cuda" if asked != "cpu" and torch.cuda.is_available() else "cpu"


@contextmanager
def finished_attribute_training(plan: Plan, scratch: Path) -> Iterator[Training]:
    """The training that was planned: from the store in `scratch`, or made now and stored there.

    While the block lasts no other process makes the same one, or discards it.

    Raises:
        SeamlineError: when memory is short, or the loss is NaN.
    """
    kind = device_kind("cpu" if plan.start.device == "cpu" else "0")
    made_by = {
        "device": kind,
        "numpy": np.__version__,
        "opencv": cv2.__version__,
        "pillow": PIL.__version__,
        "code": hashes_of_code(code_imported_by([TRAINER])),
    }
    key = run_key({**plan.asked, **made_by}, plan.files, LIBRARIES)
    with holding(scratch, key):
        training = stored_training(scratch, key)
        if training is None:
            discard_unfinished(scratch, key)
            facts = {
                "device": kind,
                "training_revision": run_key(plan.asked, plan.files, LIBRARIES),
                "data_sha256": plan.data_sha256,
            }
            made = train(plan, scratch / key)
            training = store_training(scratch, key, made._replace(facts=facts | made.facts))
        else:
            print(f"the same was trained before; taken from {training.weights.parent}", flush=True)
        yield training


def train(plan: Plan, folder: Path) -> Training:
    """Train to the end in this folder, or resume what a killed run has left there."""
    params = plan.start.params
    try:
        state = Trainer(plan.start, folder).train()
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise SeamlineError(
            f"classify: memory is too small for classify.batch {params.batch} at classify.imgsz {params.imgsz}; take a "
            f"smaller batch. What was trained is in {folder}."
        ) from None
    facts = {name: state[name] for name in ("threads", "best_epoch", "resumed_after")}
    if plan.start.weights is not None:
        facts["weights_sha256"] = sha256_of(plan.start.weights)
    return Training(best_weights(folder, state["best_epoch"]), facts, state["history"])
