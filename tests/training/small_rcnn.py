"""Small trainings of R-CNNs for tests; as a program: trains one, and kills itself with SIGKILL where that is asked for.

    python -m tests.training.small_rcnn SPLIT LABELLED SCRATCH CHANGES [EPOCH STEP | EPOCH weights]

CHANGES is JSON. Epochs and steps count from 0; "weights" is the moment when an epoch's weights are written and its
state is not.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch

from seamline.base.coco import Record
from seamline.params.loading.loader import Params, load_params
from seamline.params.rcnn import Rcnn
from seamline.params.train import Train
from seamline.training import checkpoints, rcnn_trainer
from seamline.training.run import finished_training
from tests.conftest import PARAMS

TRAIN = {
    "model": "maskrcnn_efficientnet_lite0_fpn", "epochs": 4, "imgsz": 64, "batch": 4, "nbs": 4, "val_period": 2,
    "warmup_epochs": 1, "device": "cpu",
}  # fmt: skip
RCNN = {
    "start": "none", "fpn_channels": 16, "box_channels": 16, "mask_channels": 8, "mask_layers": 1, "boxes_a_step": 16,
    "anchors_a_step": 32, "proposals_train": 30, "proposals": 20, "proposals_a_map": 20, "proposals_a_map_train": 30,
    "detections": 10,
}  # fmt: skip


def small(**changes: Any) -> Params:
    """Parameters of train and rcnn, by their names."""
    params = load_params(PARAMS)
    for key, value in {**TRAIN, **RCNN, **changes}.items():
        section = params[Rcnn] if key in Rcnn.__struct_fields__ else params[Train]
        assert key in type(section).__struct_fields__
        setattr(section, key, value)
    return params


def trained(data: tuple[Path, Path], scratch: Path, **changes: Any) -> tuple[bytes, Record]:
    """The bytes of the best weights, and the facts with the history."""
    with finished_training(small(**changes), *data, scratch) as found:
        return found.weights.read_bytes(), {**found.facts, "history": found.history}


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_at(epoch: int, moment: str) -> None:
    rate, write = rcnn_trainer.Trainer.set_rate, checkpoints.write_state

    def set_rate(self: rcnn_trainer.Trainer, now: int, number: int) -> None:
        if (now, str(number)) == (epoch, moment):
            self.beside.wait()  # for the state of the epoch before
            die()
        rate(self, now, number)

    def write_state(folder: Path, state: Record) -> None:
        if (state["epoch"], moment) == (epoch + 1, "weights"):
            die()
        write(folder, state)

    for owner, changed in ((rcnn_trainer.Trainer, set_rate), (checkpoints, write_state)):
        setattr(owner, changed.__name__, changed)


def main() -> None:
    split, labelled, scratch, changes, *when = sys.argv[1:]
    torch.set_num_threads(1)
    if when:
        die_at(int(when[0]), when[1])
    trained((Path(split), Path(labelled)), Path(scratch), **json.loads(changes))


if __name__ == "__main__":
    main()
