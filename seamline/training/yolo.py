"""The trainer of the family YOLO: ultralytics' segmentation models, kept to a scratch folder.

Nothing is written into the data or the home folder, and nothing is downloaded that was not asked for.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from ultralytics.cfg import check_cfg

from seamline.base.coco import Record
from seamline.base.errors import SeamlineError
from seamline.base.files import sha256_of
from seamline.base.process import library_folder
from seamline.models.ultralytics_patches import replaced_for_training
from seamline.params.train import Train
from seamline.training.checkpoints import State, best_weights, read_state
from seamline.training.devices import find_device, is_cpu
from seamline.training.finished import Training, weights_folder
from seamline.training.finishing import errors_in_a_sentence, train_to_the_end
from seamline.training.yolo_data import data_sha256, linked_dataset
from seamline.training.yolo_trainer import VAL_PERIOD, Trainer
from seamline.training.yolo_weights import find_model

# Parameters of train that are ours and not arguments of ultralytics'.
OURS = {"model", "device", "val_period", "others"}
# Where torch stores what it compiles, otherwise in the system's folder for temporary files and in the home folder.
COMPILER_CACHES = ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR")
# What a change of their versions makes another training of.
LIBRARIES = ("torch", "ultralytics")


class Plan(NamedTuple):
    """A training that can begin: the model and the device are there, and every argument is allowed."""

    arguments: Record  # of ultralytics'
    val_period: int
    model: Path  # a description or weights
    device: str
    data: tuple[Path, Path]  # the split, and the images with their labels

    def values(self) -> Record:
        """All that was asked for, for the training's key and revision."""
        found = {**self.arguments, "val_period": self.val_period, "device": self.device}
        if self.model.suffix == ".yaml":  # ultralytics takes the size from its name
            found["model"] = self.model.name
        return {**found, "data_sha256": data_sha256(*self.data)}

    def files(self) -> list[Path]:
        """Files whose contents belong to the key and the revision."""
        return [self.model] if self.model.is_file() else []


def plan_training(params: Train, split: Path, yolo: Path) -> Plan:
    """Check what was asked for, and find the model and the device.

    Raises:
        SeamlineError: when the model, its weights or the device is not there, or an argument is not allowed.
    """
    arguments = {key: getattr(params, key) for key in params.__struct_fields__ if key not in OURS} | params.others
    check_arguments(arguments)
    with replaced_for_training(weights_folder()):
        model = find_model(params.model, weights_folder())
    return Plan(arguments, params.val_period, model, find_device(params.device, params.batch), (split, yolo))


def train(plan: Plan, folder: Path) -> Training:
    """Train to the end in this folder, or resume what a killed run has left there.

    Raises:
        SeamlineError: when a class has no instance in train, memory is short, or the loss is NaN.
    """
    state = read_state(folder)
    if state is None or not state["finished"]:
        state = finish(plan, folder)
    facts = {name: state[name] for name in ("threads", "best_epoch", "resumed_after")}
    if plan.model.suffix == ".pt":  # they may have been downloaded and are no dependency of the stage: which were they?
        facts["weights_sha256"] = sha256_of(plan.model)
    return Training(best_weights(folder, state["best_epoch"]), facts, state["history"])


def finish(plan: Plan, folder: Path) -> State:
    # The links and lists for ultralytics are made anew every time, since the project may have been moved.
    dataset = linked_dataset(*plan.data, folder / "data")
    os.environ[VAL_PERIOD] = str(plan.val_period)
    for name in COMPILER_CACHES:
        os.environ.setdefault(name, str(library_folder() / "compiled"))
    arguments = ultralytics_arguments(plan, dataset, folder)
    return train_to_the_end(
        folder, plan.device, "seamline.training.yolo_process", lambda: arguments, lambda: run_trainer(arguments, folder)
    )


def ultralytics_arguments(plan: Plan, dataset: Path, folder: Path) -> Record:
    """All arguments of ultralytics' trainer: those of params.yaml, and what the pipeline decides."""
    arguments = {
        "cache": "ram" if is_cpu(plan.device) else False,
        "deterministic": True,
        **plan.arguments,
        "model": str(plan.model),
        "data": str(dataset),
        "device": "cpu" if is_cpu(plan.device) else plan.device,
        "project": str(folder),
        "name": "run",
        "exist_ok": True,
        "plots": False,
        "verbose": False,
        "pretrained": plan.model.suffix == ".pt",
    }
    if is_cpu(plan.device):
        arguments["amp"] = False  # it would be bf16 there: slow where the processor has none, and other weights
    return arguments


def run_trainer(overrides: Record, folder: Path) -> None:
    """Train in this process, alone or as one of several."""
    with (
        errors_in_a_sentence("ultralytics", overrides["batch"], overrides["imgsz"], folder),
        replaced_for_training(weights_folder()),
    ):
        Trainer(overrides=overrides).train()


def check_arguments(values: Record) -> None:
    """Raises SeamlineError when ultralytics does not accept an argument's value; params/ has checked the names."""
    for key, value in values.items():
        if key == "cache" and value not in (True, False, "ram"):
            raise SeamlineError(
                f"train.cache: {value!r} is not allowed; true, false or ram are: others write into the data."
            )
        try:
            check_cfg({key: value})
        except (TypeError, ValueError) as error:
            raise SeamlineError(f"train.{key}: {str(error).replace(chr(10), ' ')}") from None
