"""Models of several families under the same conditions: what is the same for all, what cannot be, what is refused."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from seamline.base.coco import Record, read_coco
from seamline.base.errors import SeamlineError, counted, some
from seamline.base.files import sha256_of
from seamline.base.splits import SPLITS
from seamline.params.evaluate import Evaluate
from seamline.params.loading.loader import Params
from seamline.params.loading.types import Section
from seamline.params.rcnn import Rcnn
from seamline.params.train import Train
from seamline.training.run import family_of_model

LEAST_SHARE = 0.5  # of the images that params.yaml has a training see
FAMILY_NAMES = {"yolo": "YOLO (ultralytics)", "rcnn": "R-CNN (torchvision)"}  # for people
RELEASED = re.compile(r"yolo\w+-seg\.pt")  # ultralytics' weights, all trained on COCO
# What the trials multiply the family's lr0 by, in this order.
FACTORS = (1.0, 0.5, 2.0, 0.25, 4.0, 0.125, 8.0)
# Parameters of train that all families go by, and all models get the same values of.
SHARED = (
    "imgsz", "batch", "nbs", "optimizer", "lrf", "cos_lr", "warmup_epochs", "weight_decay", "amp", "val_period",
    "device",
)  # fmt: skip
AUGMENTATION = ("degrees", "translate", "scale", "fliplr", "hsv_h", "hsv_s", "hsv_v")


class Entrant(NamedTuple):
    """A model that is compared."""

    model: str
    family: str
    start: str  # none, imagenet, coco, or a file
    params: Params  # of all of its trainings, but for lr0 and the seed


class Budget(NamedTuple):
    """How long every training is."""

    images: int  # of the train split
    epochs: int
    share: float  # of what params.yaml has a training see

    @property
    def images_seen(self) -> int:
        return self.images * self.epochs


class Fair(NamedTuple):
    """What a comparison trains."""

    entrants: list[Entrant]
    budget: Budget
    kind: str  # of shapes that all models find: mask, or box
    not_the_same: list[str]  # sentences


def plan_comparison(
    models: Sequence[str],
    params: Params,
    split: Path,
    images_seen: int | None,
    start: str | None,
    mixed_starts: bool,
    lr0: Mapping[str, float],
) -> Fair:
    """The models under the same conditions.

    Args:
        models: as train.model takes them, at least two.
        split: folder with the splits.
        images_seen: in each training; None: as many as params.yaml has.
        start: what all models start from; None: what train.model and rcnn.start say.
        mixed_starts: allow models that start from different kinds of weights.
        lr0: what the search begins with in a family; train.lr0 where it is not named.

    Raises:
        SeamlineError: when a start is not to be had, the starts differ, or the budget is too small.
    """
    budget = budget_of(images_seen, params[Train].epochs, len(read_coco(split / "train.json").images))
    entrants = [entrant_of(model, params, budget, start, lr0) for model in models]
    starts = {one.model: one.start for one in entrants}
    if len(set(starts.values())) > 1 and not mixed_starts:
        raise SeamlineError(
            f"families: the models start from different weights ({starts_to_text(starts)}), which is not a fair "
            f"comparison; take --start none, or allow it with --mixed-starts, which the page then says."
        )
    boxes_only = any(model.startswith("fasterrcnn_") for model in models)
    return Fair(entrants, budget, "box" if boxes_only else "mask", what_differs(entrants, params))


def budget_of(images_seen: int | None, default_epochs: int, images: int) -> Budget:
    """Whole epochs of about that many images; refused below half of the default's."""
    default = default_epochs * images
    epochs = default_epochs if images_seen is None else max(1, round(images_seen / max(images, 1)))
    if epochs * images < LEAST_SHARE * default:
        raise SeamlineError(
            f"--images-seen: {images_seen} are {counted(epochs, 'epoch')} of {images} train images, less than half of "
            f"the {default} that train.epochs {default_epochs} has a training see; at least {-(-default // 2)} are "
            "needed."
        )
    return Budget(images, epochs, epochs / default_epochs)


def entrant_of(model: str, params: Params, budget: Budget, start: str | None, lr0: Mapping[str, float]) -> Entrant:
    """A model with the parameters that all share, its family's lr0, and its own start."""
    family = family_of_model(model)
    train = msgspec.structs.replace(params[Train], lr0=lr0.get(family, params[Train].lr0))
    sections: dict[type[Section], Section] = {**params.by_type, Train: shared_train(train, model, budget)}
    if family == "rcnn":
        own = start or params[Rcnn].start
        sections[Rcnn] = msgspec.structs.replace(params[Rcnn], start=own)
        return Entrant(model, family, own, Params(sections))
    own = "none" if not model.endswith(".pt") else "coco" if RELEASED.fullmatch(Path(model).name) else model
    if start is not None and own != start:
        having = "a description (.yaml)" if start == "none" else "weights of ultralytics' that were trained so (.pt)"
        what = "ultralytics has no weights of ImageNet" if start == "imagenet" else f"name {having} in its place"
        raise SeamlineError(f"--start: {model} cannot start from {start}, it starts from {own}; {what}.")
    return Entrant(model, family, own, Params(sections))


def shared_train(train: Train, model: str, budget: Budget) -> Train:
    """The section train of every model: no augmentation that only one family has, and no early stop."""
    return msgspec.structs.replace(
        train,
        model=model,
        epochs=budget.epochs,
        patience=max(train.patience, budget.epochs),
        mosaic=0.0,
        close_mosaic=0,
        others={},
    )


def with_setting(params: Params, lr0: float, seed: int) -> Params:
    """The parameters of one training."""
    return Params({**params.by_type, Train: msgspec.structs.replace(params[Train], lr0=lr0, seed=seed)})


def rates_to_try(lr0: float, trials: int) -> list[float]:
    """lr0 and multiples of it, the same for every model.

    Raises:
        SeamlineError: when there are not that many.
    """
    if not 2 <= trials <= len(FACTORS):
        raise SeamlineError(f"--trials: {trials} is not allowed; 2 to {len(FACTORS)} are.")
    return [float(f"{lr0 * factor:.6g}") for factor in FACTORS[:trials]]


def words_to_lr0(words: Sequence[str]) -> dict[str, float]:
    """Of each family what rcnn=0.001 says.

    Raises:
        SeamlineError: when it is not a family, or not a number above 0.
    """
    found = {}
    for word in words:
        family, _, text = word.partition("=")
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if family not in FAMILY_NAMES or not 0 < value < math.inf:
            raise SeamlineError(
                f"--lr0: {word!r} is not allowed; FAMILY=NUMBER is, such as rcnn=0.001, of {', '.join(FAMILY_NAMES)}."
            )
        found[family] = value
    return found


def starts_to_text(starts: Mapping[str, str]) -> str:
    return some([f"{model}: {start}" for model, start in starts.items()])


def what_differs(entrants: Sequence[Entrant], params: Params) -> list[str]:
    """What is not the same for all models, in sentences."""
    train, found = params[Train], []
    yolo = [one.model for one in entrants if one.family == "yolo"]
    starts = {one.model: one.start for one in entrants}
    if len(set(starts.values())) > 1:
        found.append(f"The models start from different weights, as --mixed-starts allowed: {starts_to_text(starts)}.")
    if yolo and train.mosaic > 0:
        found.append(
            f"Mosaic, which only YOLO has, was off; {some(yolo)} may be better with train.mosaic {train.mosaic:g}."
        )
    if train.others:
        found.append(
            f"Arguments of ultralytics' alone were left out: {some([f'train.{one}' for one in train.others])}."
        )
    rates = {FAMILY_NAMES[one.family]: one.params[Train].lr0 for one in entrants}
    if len(set(rates.values())) > 1:
        text = ", ".join(f"{value:g} of {name}" for name, value in rates.items())
        found.append(f"The search began with the lr0 that --lr0 named for a family: {text}.")
    if len({one.family for one in entrants}) > 1:
        found.append(
            "Losses, the warm-up of the first epochs, and how the average of the weights is made are each family's own."
        )
    found.append("The same images seen are not the same work: what each training took is in the table.")
    return found


def same_for_all(fair: Fair, params: Params, split: Path, classes: Sequence[str], seeds: Sequence[int]) -> Record:
    """What was the same for all models, for the report."""
    train, limits = fair.entrants[0].params[Train], params[Evaluate]
    return {
        "classes": list(classes),
        "split_sha256": {name: sha256_of(split / f"{name}.json") for name in SPLITS},
        "train_images": fair.budget.images,
        "epochs": fair.budget.epochs,
        "images_seen": fair.budget.images_seen,
        "share_of_default": round(fair.budget.share, 4),
        "start": fair.entrants[0].start if len({one.start for one in fair.entrants}) == 1 else None,
        "training": {name: getattr(train, name) for name in SHARED},
        "augmentation": {name: getattr(train, name) for name in AUGMENTATION},
        "seeds": list(seeds),
        "evaluation": {name: getattr(limits, name) for name in ("confidence", "nms_iou", "max_detections")},
    }
