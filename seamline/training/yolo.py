"""The trainer of the family YOLO: ultralytics' segmentation models, kept to a scratch folder.

Nothing is written into the data or the home folder, and nothing is downloaded that was not asked for.
"""

from __future__ import annotations

import os
import shutil
import traceback
from pathlib import Path
from typing import NamedTuple

from ultralytics.cfg import check_cfg

from seamline.base.coco import Record
from seamline.base.errors import SeamlineError
from seamline.base.files import sha256_of, write_text
from seamline.base.process import ENDS_WITH, library_folder
from seamline.models.ultralytics_patches import replaced_for_training
from seamline.params.train import Train
from seamline.training.checkpoints import State, read_state
from seamline.training.devices import find_device, is_cpu, processes_of
from seamline.training.finished import Training, weights_folder
from seamline.training.memory import is_out_of_memory
from seamline.training.processes import train_in_processes
from seamline.training.trial import Stopped
from seamline.training.yolo_data import data_sha256, linked_dataset
from seamline.training.yolo_trainer import VAL_PERIOD, Trainer
from seamline.training.yolo_weights import best_weights, find_model

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
        state = train_to_the_end(plan, folder)
    facts = {name: state[name] for name in ("threads", "best_epoch", "resumed_after")}
    if plan.model.suffix == ".pt":  # they may have been downloaded and are no dependency of the stage: which were they?
        facts["weights_sha256"] = sha256_of(plan.model)
    return Training(best_weights(folder, state["best_epoch"]), facts, state["history"])


def train_to_the_end(plan: Plan, folder: Path) -> State:
    # The links and lists for ultralytics are made anew every time, since the project may have been moved.
    dataset = linked_dataset(*plan.data, folder / "data")
    os.environ[VAL_PERIOD], os.environ[ENDS_WITH] = str(plan.val_period), str(os.getpid())
    for name in COMPILER_CACHES:
        os.environ.setdefault(name, str(library_folder() / "compiled"))
    arguments, processes = ultralytics_arguments(plan, dataset, folder), processes_of(plan.device)
    try:
        if processes > 1:
            train_in_processes("seamline.training.yolo_process", arguments, folder, processes)
        else:
            run_trainer(arguments, folder)
    except Stopped:  # nobody will resume it
        shutil.rmtree(folder)
        raise
    state = read_state(folder)
    if state is None or not state["finished"]:
        raise SeamlineError(f"train: the training ended before its last epoch; run dvc repro to resume it ({folder}).")
    return state


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
    try:
        with replaced_for_training(weights_folder()):
            Trainer(overrides=overrides).train()
    except SeamlineError:
        raise
    except Exception as error:  # of any kind: the cause is a value in params.yaml, or the data
        if is_out_of_memory(error):
            raise SeamlineError(
                f"train: memory is too small for train.batch {overrides['batch']} at train.imgsz {overrides['imgsz']}; "
                f"take a smaller batch (train.nbs keeps its steps the same). What was trained is in {folder}."
            ) from None
        write_text(folder / "error.txt", traceback.format_exc())
        first = str(error).strip().partition("\n")[0]
        raise SeamlineError(
            f"train: ultralytics stopped with {type(error).__name__}: {first} ({folder / 'error.txt'} has all of it)."
        ) from None


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
