"""A training made once: taken from the store where the same was made before, else trained now and stored."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import cv2
import numpy as np

from seamline.base.coco import Record
from seamline.params.loading.loader import Params
from seamline.params.rcnn import Rcnn, is_rcnn
from seamline.params.train import Train
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


class Plan(Protocol):
    """What a family's plan_training() gives: a training that can begin."""

    @property
    def device(self) -> str: ...
    def values(self) -> Record:
        """All that was asked for, for the training's key and revision."""

    def files(self) -> list[Path]:
        """Files whose contents belong to the key and the revision."""


class Planned(NamedTuple):
    """A training that can begin, and what its family says of all of its trainings."""

    plan: Plan
    family: str
    libraries: Sequence[str]
    train: Callable[[Any, Path], Training]


class Identity(NamedTuple):
    """What a training is known by."""

    key: str  # changes with everything that makes it, our code included
    # The same wherever the same was asked for of the same data, also when our code has changed since.
    revision: str
    data_sha256: str
    device: str  # its kind


def family_of_model(model: str) -> str:
    """Of train.model; the others, all descriptions and weights, are YOLO's."""
    return "rcnn" if is_rcnn(model) else "yolo"


def planned(params: Params, split: Path, labelled: Path) -> Planned:
    """The training that was asked for; the other family's libraries are not imported.

    Raises:
        SeamlineError: when the model, its weights or the device is not there, or a value is not allowed.
    """
    train, family = params[Train], family_of_model(params[Train].model)
    if family == "rcnn":
        from seamline.training import rcnn

        return Planned(rcnn.plan_training(train, params[Rcnn], split, labelled), family, rcnn.LIBRARIES, rcnn.train)
    from seamline.training import yolo

    return Planned(yolo.plan_training(train, split, labelled), family, yolo.LIBRARIES, yolo.train)


def labels_of_training(params: Params, split: Path, labelled: Path) -> Record:
    """What reports/train/labels.json certifies: what is left of the masks at the sizes that the family sees them in.

    Raises:
        SeamlineError: when YOLO's labels are of other data than the splits, or masks would have no pixel.
    """
    train = params[Train]
    if family_of_model(train.model) == "rcnn":
        from seamline.training.rcnn_labels import masks_at_trained_sizes

        return masks_at_trained_sizes(split, train.imgsz)
    from seamline.dataset.trained_sizes import labels_at_trained_sizes

    return labels_at_trained_sizes(split, labelled, train.imgsz, train.mask_ratio)


def identity_of(found: Planned) -> Identity:
    asked, kind = found.plan.values(), device_kind(found.plan.device)
    made_by = {"device": kind, "numpy": np.__version__, "opencv": cv2.__version__, "code": code_hashes(found.family)}
    files, libraries = found.plan.files(), found.libraries
    key, revision = run_key({**asked, **made_by}, files, libraries), run_key(asked, files, libraries)
    return Identity(key, revision, asked["data_sha256"], kind)


def identity_of_params(params: Params, split: Path, labelled: Path) -> Identity:
    """Of the training that finished_training() would make."""
    return identity_of(planned(params, split, labelled))


@contextmanager
def finished_training(
    params: Params, split: Path, labelled: Path, scratch: Path, most: int = MAX_FINISHED
) -> Iterator[Training]:
    """The training of these parameters and data: from the store in `scratch`, or made now and stored there.

    While the block lasts no other process makes the same one, or discards it.

    Args:
        params: of which the sections train and rcnn are taken.
        split: folder with the splits.
        labelled: folder with images and labels.
        most: how many finished trainings are stored at most, this one included.

    Raises:
        SeamlineError: when the model, its weights or the device is not there, a class has no instance in train, an
            argument is not allowed, memory is short, or the loss is NaN.
    """
    found = planned(params, split, labelled)
    key, revision, data_sha256, kind = identity_of(found)
    with holding(scratch, key):
        training = stored_training(scratch, key)
        if training is None:
            discard_unfinished(scratch, key)
            made = found.train(found.plan, scratch / key)
            facts = {"device": kind, "training_revision": revision, "data_sha256": data_sha256}
            training = store_training(scratch, key, made._replace(facts=facts | made.facts), most)
        else:
            print(f"the same was trained before; taken from {training.weights.parent}", flush=True)
        yield training
