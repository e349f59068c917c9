"""Weights that an earlier version has trained, stored as the finished training of the present parameters.

`train` then takes them from the store and trains nothing. That is allowed only if nothing but our own code has changed:
parameters, data, torch and the family's own library have to be the same, which the training revision stands for. The
record of their training stays as it was, and says in addition that they were taken over.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from seamline.base.coco import Record
from seamline.base.errors import SeamlineError
from seamline.base.files import read_json, sha256_of
from seamline.models.weights import load_weights, weights_to_family
from seamline.params.loading.loader import Params
from seamline.params.train import Train
from seamline.report.contents import read_csv
from seamline.training.finished import FINISHED, WEIGHTS, Training, holding, store_training
from seamline.training.run import Identity, identity_of, planned

ORIGIN = ("training_revision", "data_sha256")


def take_over(params: Params, folder: Path, report: Path, data: tuple[Path, Path], scratch: Path) -> Path:
    """Store the weights in a folder of train's as the training of these parameters and data; returns where.

    Args:
        folder: what train has made: best.pt and training.json.
        report: train's report on it: summary.json, losses.csv and validation.csv.
        data: the folder with the splits, and the one with images and labels.

    Raises:
        SeamlineError: when the weights or their report are missing, they belong to another training than that of these
            parameters and data, or this code has finished that training with other weights.
    """
    training = read_made(folder, report)
    for file in (data[0] / "data.yaml", data[1] / "labels"):
        if not file.exists():
            raise SeamlineError(f"{file}: is missing, with which to compare; dvc repro convert split makes it.")
    found = planned(params, *data)
    identity = identity_of(found)
    check_same(folder, training.facts, identity, found.libraries)
    with holding(scratch, identity.key):
        stored = scratch / FINISHED / identity.key
        if not stored.exists():
            (scratch / identity.key).mkdir(parents=True, exist_ok=True)
            store_training(scratch, identity.key, training)
        elif sha256_of(stored / WEIGHTS) != sha256_of(training.weights):
            raise SeamlineError(f"{stored}: has other weights of this training; `make clear-trainings` deletes them.")
    return stored


def read_made(folder: Path, report: Path) -> Training:
    """What train has made, with what its report says of it."""
    if not (folder / "best.pt").is_file():
        raise SeamlineError(f"{folder}: has no best.pt; name the folder that train has made, such as models/train.")
    origin, summary = read_json(folder / "training.json"), read_json(report / "summary.json")
    if any(key not in origin or origin[key] != summary.get(key) for key in ORIGIN):
        raise SeamlineError(
            f"{report}: is the report on another training than that of {folder}; name it with --report."
        )
    missing = [key for key in ("best_epoch", "device", "threads", "resumed_after_epochs") if key not in summary]
    if missing:
        raise SeamlineError(
            f"{report / 'summary.json'}: lacks {', '.join(missing)}, as those of before do; docs/experiments.md says "
            "how the weights stay in use."
        )
    facts: Record = {
        **{key: origin[key] for key in ORIGIN},
        **{key: summary[key] for key in ("best_epoch", "device", "threads")},
        "resumed_after": summary["resumed_after_epochs"],
        **{key: summary[key] for key in ("weights_sha256", "processor") if key in summary},
        "taken_over": True,
    }
    validation = {row["epoch"]: row for row in read_csv(report / "validation.csv")}
    history: list[dict[str, Any]] = [row | validation.get(row["epoch"], {}) for row in read_csv(report / "losses.csv")]
    return Training(folder / "best.pt", facts, history)


def check_weights(weights: Path, params: Params, split: Path) -> None:
    """Raise SeamlineError when the file is not a model, or not one of these classes and this input size."""
    found = classes_and_imgsz(weights)
    names = yaml.safe_load((split / "data.yaml").read_text(encoding="utf-8"))["names"]
    wanted = (list(names.values()), params[Train].imgsz)
    if wanted != found:
        raise SeamlineError(
            f"{weights}: is not the model of these parameters and data: it has the classes {', '.join(found[0])} and "
            f"imgsz {found[1]}, and they {', '.join(wanted[0])} and {wanted[1]}."
        )


def classes_and_imgsz(weights: Path) -> tuple[list[str], int]:
    """What a .pt file of either family says of its model."""
    if weights_to_family(weights) == "rcnn":
        from seamline.models.rcnn_weights import load_network

        loaded = load_network(weights)
        return loaded.names, loaded.architecture.imgsz
    try:
        model, checkpoint = load_weights(weights)
    except SeamlineError:
        raise
    except Exception as error:  # of any kind, as torch has it for a damaged file
        raise SeamlineError(f"{weights}: cannot be opened as a model ({' '.join(str(error).split())}).") from None
    return list(model.names.values()), checkpoint["train_args"]["imgsz"]


def check_same(folder: Path, facts: Record, identity: Identity, libraries: Sequence[str]) -> None:
    if facts["data_sha256"] != identity.data_sha256:
        raise SeamlineError(
            f"{folder}: was trained on other data than the present splits, whose val and test may have been in them."
        )
    if facts["training_revision"] != identity.revision:
        raise SeamlineError(
            f"{folder}: was trained with other parameters, another {' or '.join(libraries)}, or on another device: its "
            f"training revision is {facts['training_revision']}, and that of params.yaml {identity.revision}."
        )
