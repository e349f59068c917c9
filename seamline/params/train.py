from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta

from seamline.params.loading.types import AtLeastZero, Count, Fraction, Positive, Section, Seed, Text

# Parts of ultralytics' list of settings that matter to training a segmentation model.
TRAINER_SECTIONS = ("Train settings", "Segmentation", "Hyperparameters")
SET_BY_SEAMLINE = MappingProxyType(
    {
        "data": "the split stage makes it",
        "project": "outputs are dvc.yaml's",
        "name": "outputs are dvc.yaml's",
        "exist_ok": "outputs are dvc.yaml's",
        "save": "the state is saved after every epoch, and the best weights",
        "save_period": "the state is saved after every epoch, and the best weights",
        "resume": "a killed training resumes by itself",
        "pretrained": "name weights (.pt) or a description (.yaml) as train.model",
        "time": "the result would depend on the machine's speed; use train.epochs",
        "verbose": "losses and metrics are in reports/train",
        "profile": "speed is the benchmark stage's",
        "val": "use train.val_period",
        "plots": "losses and metrics are in reports/train",
        "single_cls": "merge classes in subset.classes, so that evaluation sees the same ones",
        "distill_model": "the result would depend on a file that is not part of the pipeline",
    }
)


class Train(Section):
    refused: ClassVar = SET_BY_SEAMLINE

    model: Text
    epochs: Count
    imgsz: Annotated[int, Meta(ge=32, multiple_of=32)]
    batch: Count
    nbs: Count
    optimizer: Literal["SGD", "Adam", "AdamW", "NAdam", "RAdam", "RMSProp", "MuSGD", "auto"]
    lr0: Positive
    lrf: Annotated[float, Meta(gt=0, le=1)]
    cos_lr: bool
    warmup_epochs: AtLeastZero
    weight_decay: AtLeastZero
    box: AtLeastZero
    cls: AtLeastZero
    dfl: AtLeastZero
    overlap_mask: bool
    mask_ratio: Count
    mosaic: Fraction
    close_mosaic: Annotated[int, Meta(ge=0)]
    degrees: Annotated[float, Meta(ge=0, le=180)]
    translate: Fraction
    scale: Fraction
    fliplr: Fraction
    hsv_h: Fraction
    hsv_s: Fraction
    hsv_v: Fraction
    val_period: Count
    patience: Count
    amp: bool | Literal["fp16", "bf16"]
    compile: bool | Literal["reduce-overhead"]
    device: Text
    seed: Seed
    # More of ultralytics' arguments. In the file they stand beside those above; nobody can write this name there.
    others: dict[str, Any] = msgspec.field(default_factory=dict, name="(others)")

    @classmethod
    def own_keys(cls) -> set[str]:
        return {field.encode_name for field in msgspec.structs.fields(cls)}

    @classmethod
    def allowed_keys(cls) -> list[str]:
        named = super().allowed_keys()
        return [*named, *(name for name in trainer_arguments() or () if name not in named)]

    @classmethod
    def prepared(cls, values: dict[Any, Any]) -> dict[Any, Any]:
        """The arguments that only ultralytics knows are put into `others`; unknown ones stay where they are.

        Where ultralytics is not installed, as beside a model in production, nobody trains and all are let through.
        """
        known, arguments = cls.own_keys(), trainer_arguments()
        passed_on = [key for key in values if key not in known and (arguments is None or key in arguments)]
        rest = {key: value for key, value in values.items() if key not in passed_on}
        return {**rest, "(others)": {key: values[key] for key in passed_on}}


def trainer_arguments() -> list[str] | None:
    """The arguments of ultralytics' training that users may set, from the list it brings, without importing it.

    None where it is not installed.
    """
    package = find_spec("ultralytics")
    if package is None or package.origin is None:
        return None
    text = (Path(package.origin).parent / "cfg" / "default.yaml").read_text(encoding="utf-8")
    names, section = [], ""
    for line in text.splitlines():
        if line.startswith("# "):
            section = line[2:].partition(" --")[0]
        elif section in TRAINER_SECTIONS and (found := re.match(r"(\w+):", line)):
            names.append(found[1])
    return [name for name in names if name not in SET_BY_SEAMLINE]
