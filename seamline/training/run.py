"""A training made once: taken from the store where the same was made before, else trained now and stored."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from seamline.params.train import Train
from seamline.training import yolo as family  # torchvision's trainer is the next one; train.model will say which it is
from seamline.training.devices import device_kind
from seamline.training.finished import (
    MAX_FINISHED,
    Training,
    discard_unfinished,
    holding,
    store_training,
    stored_training,
)
from seamline.training.keys import code_hashes, run_key

FAMILY = "yolo"


class Identity(NamedTuple):
    """What a training is known by."""

    key: str  # changes with everything that makes it, our code included
    # The same wherever the same was asked for of the same data, also when our code has changed since.
    revision: str
    data_sha256: str
    device: str  # its kind


def identity_of(plan: family.Plan) -> Identity:
    asked, kind = plan.values(), device_kind(plan.device)
    made_by = {"device": kind, "numpy": np.__version__, "opencv": cv2.__version__, "code": code_hashes(FAMILY)}
    files, libraries = plan.files(), family.LIBRARIES
    key, revision = run_key({**asked, **made_by}, files, libraries), run_key(asked, files, libraries)
    return Identity(key, revision, asked["data_sha256"], kind)


def identity_of_params(params: Train, split: Path, labelled: Path) -> Identity:
    """Of the training that finished_training() would make."""
    return identity_of(family.plan_training(params, split, labelled))


@contextmanager
def finished_training(
    params: Train, split: Path, labelled: Path, scratch: Path, most: int = MAX_FINISHED
) -> Iterator[Training]:
    """The training of these parameters and data: from the store in `scratch`, or made now and stored there.

    While the block lasts no other process makes the same one, or discards it.

    Args:
        split: folder with the splits.
        labelled: folder with images and labels.
        most: how many finished trainings are stored at most, this one included.

    Raises:
        SeamlineError: when the model, its weights or the device is not there, a class has no instance in train, an
            argument is not allowed, memory is short, or the loss is NaN.
    """
    plan = family.plan_training(params, split, labelled)
    key, revision, data_sha256, kind = identity_of(plan)
    with holding(scratch, key):
        training = stored_training(scratch, key)
        if training is None:
            discard_unfinished(scratch, key)
            made = family.train(plan, scratch / key)
            facts = {"device": kind, "training_revision": revision, "data_sha256": data_sha256}
            training = store_training(scratch, key, made._replace(facts=facts | made.facts), most)
        else:
            print(f"the same was trained before; taken from {training.weights.parent}", flush=True)
        yield training
