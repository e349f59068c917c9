"""The typed sections of params.yaml, one a stage.

Every stage checks the whole file before it works, so that a typing error in `benchmark` is found before the
training and not after it.
"""

from __future__ import annotations

import difflib
import functools
import math
import re
import reprlib
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import msgspec
import numpy as np
import numpy.typing as npt
import yaml
from msgspec import Meta

from seamline.base.errors import SeamlineError
from seamline.base.splits import SPLITS
from seamline.base.urls import gives_access

AtLeastZero = Annotated[float, Meta(ge=0)]
Fraction = Annotated[float, Meta(ge=0, le=1)]
Positive = Annotated[float, Meta(gt=0)]
Count = Annotated[int, Meta(ge=1)]
Seed = Annotated[int, Meta(ge=0, le=2**32 - 1)]
Text = Annotated[str, Meta(min_length=1)]
# Parts of ultralytics' list of settings that matter to training a segmentation model.
TRAINER_SECTIONS = ("Train settings", "Segmentation", "Hyperparameters")
SET_BY_SEAMLINE = {
    "data": "the split stage makes it",
    "project": "outputs are dvc.yaml's",
    "name": "outputs are dvc.yaml's",
    "exist_ok": "outputs are dvc.yaml's",
    "save": "the state is kept after every epoch, and the best weights",
    "save_period": "the state is kept after every epoch, and the best weights",
    "resume": "a killed training goes on by itself",
    "pretrained": "name weights (.pt) or a description (.yaml) as train.model",
    "time": "the result would depend on the machine's speed; use train.epochs",
    "verbose": "losses and metrics are in reports/train",
    "profile": "speed is the benchmark stage's",
    "val": "use train.val_period",
    "plots": "losses and metrics are in reports/train",
    "single_cls": "merge classes in subset.classes, so that evaluation sees the same ones",
    "distill_model": "the result would depend on a file that is no part of the pipeline",
}


class Section(msgspec.Struct, forbid_unknown_fields=True):
    """A section or part of one: every key is known and typed."""


class Pull(Section):
    source: Text
    layout: Literal["coco", "deepfashion2", "fashionpedia", "ccp"] | None
    annotations: Text | Annotated[dict[str, Text], Meta(min_length=1)] | None

    def __post_init__(self) -> None:
        if not self.source.isprintable():
            raise ValueError("source has a character in its name that cannot be printed; rename it")
        if gives_access(self.source):  # which DVC would write into dvc.lock
            raise ValueError(
                "source has a password, key or signature in its address, or an argument that may be one; name it "
                "without, and give access by the AWS configuration (AWS_PROFILE, ...) or, on the web, by ~/.netrc"
            )
        for split in self.annotations if isinstance(self.annotations, dict) else ():
            if split not in SPLITS:
                raise ValueError(f"{split!r} in annotations is no split; allowed are {', '.join(SPLITS)}")


class Subset(Section):
    classes: Annotated[list[Text], Meta(min_length=1)] | Annotated[dict[Text, list[Text]], Meta(min_length=1)] | None
    images: Count | None
    background: Annotated[float, Meta(ge=0, lt=1)]
    min_area_px: AtLeastZero
    crowd: bool
    group_by: Text | None
    seed: Seed

    def __post_init__(self) -> None:
        sources = [name for names in self.sources_by_class().values() for name in names]
        twice = sorted({name for name in sources if sources.count(name) > 1})
        if twice:
            raise ValueError(f"{twice[0]!r} stands twice in classes; a source class may go to one class only")

    def sources_by_class(self, shown: Sequence[str] = ()) -> dict[str, list[str]]:
        """Class names in the order of their ids, each with the source's names that are merged into it.

        Args:
            shown: the source's names that have an annotation, which are the classes where none are chosen.
        """
        if self.classes is None:
            return {name: [name] for name in shown}
        if isinstance(self.classes, list):
            return {name: [name] for name in self.classes}
        return {name: sources or [name] for name, sources in self.classes.items()}


class Convert(Section):
    min_mean_iou: Fraction


class Ratios(Section):
    train: Annotated[float, Meta(gt=0, lt=1)]
    val: Annotated[float, Meta(gt=0, lt=1)]
    test: Annotated[float, Meta(gt=0, lt=1)]

    def __post_init__(self) -> None:
        total = self.train + self.val + self.test
        if not math.isclose(total, 1, abs_tol=1e-6):
            raise ValueError(f"train + val + test add up to {total:g}; they have to add up to 1")


class Split(Section):
    ratios: Ratios
    official: Annotated[dict[str, Text], Meta(min_length=1)] | None
    group_by: Text | None
    near_duplicate_bits: Annotated[int, Meta(ge=0, le=24)] | None
    seed: Seed

    def __post_init__(self) -> None:
        for split in self.official or ():
            if split not in SPLITS:
                raise ValueError(f"{split!r} in official is no split; allowed are {', '.join(SPLITS)}")


class Train(Section):
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
    device: Text
    seed: Seed
    # More of ultralytics' arguments. In the file they stand beside those above; nobody can write this name there.
    others: dict[str, Any] = msgspec.field(default_factory=dict, name="(others)")


class IouThresholds(Section):
    """COCO's thresholds of overlap, from low to high."""

    low: float
    high: float
    step: Positive

    def __post_init__(self) -> None:
        found = self.values()
        if (self.low, self.high) != (0.5, 0.95) or not {0.75, 0.95} <= {round(float(value), 9) for value in found}:
            raise ValueError(
                "mAP50_95 is the mean from 0.5 to 0.95 and mAP75 has to be among them; 0.05 is COCO's step"
            )

    def values(self) -> npt.NDArray[np.float64]:
        """As pycocotools computes its own, to the last digit."""
        return np.linspace(self.low, self.high, int(np.round((self.high - self.low) / self.step)) + 1)


class Evaluate(Section):
    confidence: Annotated[float, Meta(ge=0, lt=1)]
    nms_iou: Annotated[float, Meta(gt=0, le=1)]
    max_detections: Annotated[int, Meta(ge=1, le=100)]
    iou_thresholds: IouThresholds
    bootstrap_samples: Annotated[int, Meta(ge=100, le=10000)]
    slices: dict[Text, dict[Text, Text] | None]
    overlays: Annotated[int, Meta(ge=1, le=100)]
    seed: Seed


class Int8(Section):
    calibration_images: Count
    max_drop: Fraction


class Export(Section):
    opset: Annotated[int, Meta(ge=17, le=22)]
    confidence: Annotated[float, Meta(ge=0, lt=1)]
    max_drift: Fraction
    min_matched: Fraction
    int8: Int8


class Benchmark(Section):
    profile: Literal["quick", "full"]
    images: Count | None
    threads: Count | None
    rounds: Count | None
    timeout_s: Positive | None


class Report(Section):
    title: Text
    purpose: Text | None


class Range(Section):
    low: int | float
    high: int | float
    log: bool = False

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise ValueError(f"low {self.low:g} has to be less than high {self.high:g}")
        if self.log and self.low <= 0:
            raise ValueError(f"low {self.low:g} has to be above 0 where log is true")


class Sweep(Section):
    trials: Count
    startup_trials: Count
    epochs_before_pruning: Annotated[int, Meta(ge=0)]
    space: Annotated[dict[Text, Range | Annotated[list[Any], Meta(min_length=1)]], Meta(min_length=1)]
    seed: Seed

    def __post_init__(self) -> None:
        arguments = trainer_arguments()
        known = {field.encode_name for field in msgspec.structs.fields(Train)} | set(arguments or ())
        for key in self.space:
            section, _, name = key.partition(".")
            if section != "train" or (arguments is not None and name not in known):
                near = difflib.get_close_matches(key, [f"train.{known_name}" for known_name in known], n=1)
                raise ValueError(
                    f"{key!r} in space is no parameter of train" + (f"; did you mean {near[0]}?" if near else "")
                )


class Params(Section):
    pull: Pull
    subset: Subset
    convert: Convert
    split: Split
    train: Train
    evaluate: Evaluate
    export: Export
    benchmark: Benchmark
    report: Report
    sweep: Sweep


def load_params(path: Path = Path("params.yaml")) -> Params:
    """Read and check params.yaml.

    Raises:
        SeamlineError: in one sentence the key, its value and what is allowed.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SeamlineError(f"{path}: there is no such file; run stages from the project's top folder.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SeamlineError(f"{path}: is not YAML ({' '.join(str(error).split())}).") from None
    if isinstance(values, dict) and isinstance(values.get("train"), dict):
        values["train"] = with_others_apart(values["train"])
    try:
        return msgspec.convert(values, Params)
    except msgspec.ValidationError as error:
        raise SeamlineError(f"{path}: {validation_error_to_sentence(str(error), values)}") from None


def with_others_apart(section: dict[Any, Any]) -> dict[Any, Any]:
    """train: with the arguments that only ultralytics knows put into `others`; unknown ones stay where they are.

    Where ultralytics is not installed, as beside a model in production, nobody trains and all are let through.
    """
    known = {field.encode_name for field in msgspec.structs.fields(Train)}
    arguments = trainer_arguments()
    passed_on = [key for key in section if key not in known and (arguments is None or key in arguments)]
    rest = {key: value for key, value in section.items() if key not in passed_on}
    return {**rest, "(others)": {key: section[key] for key in passed_on}}


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


def validation_error_to_sentence(message: str, values: Any) -> str:
    """Turn msgspec's "Expected `int` >= 1 - at `$.train.epochs`" into a sentence with key, value and remedy."""
    text, _, place = message.partition(" - at ")
    if place.startswith("`key` in"):
        key = ".".join(re.findall(r"[\w-]+", place.removeprefix("`key` in").strip().strip("`")))
        return f"{key}: every name in it has to be text; put numbers in quotes."
    place, inside_mapping, _ = place.strip("`").removeprefix("$").partition("[...]")
    keys = re.findall(r"[\w-]+", place)
    dotted = ".".join(keys)
    if inside_mapping:
        key, value = refused_item(keys, values)
        return f"{dotted}.{key}: {value!r} is not allowed; {plain_words(text)}."
    if unknown := re.search(r"unknown field `(.*)`", text):
        allowed = field_names(keys)
        if keys == ["train"]:
            if reason := SET_BY_SEAMLINE.get(unknown[1]):
                return f"train.{unknown[1]}: cannot be set; {reason}."
            allowed = [*allowed, *(name for name in trainer_arguments() or () if name not in allowed)]
        near = difflib.get_close_matches(unknown[1], allowed, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        return f"{'.'.join([*keys, unknown[1]])}: unknown key; {hint}allowed here: {', '.join(allowed)}."
    if missing := re.search(r"missing required field `(.*)`", text):
        return f"{'.'.join([*keys, missing[1]])}: is missing."
    value = values
    for key in keys:
        value = value[int(key)] if isinstance(value, list) and key.isdigit() else value.get(key, {})
    if text.startswith("Invalid enum value"):
        text = f"Expected one of {', '.join(get_args(field_type(keys)))}"
    if text.startswith("Expected"):
        wanted = plain_words(text) + nearest_multiples(text, value)
        return f"{dotted or 'top level'}: {SHORT.repr(value)} is not allowed; {wanted}."
    return f"{dotted}: {text}."


def refused_item(keys: Sequence[str], values: Any) -> tuple[str, Any]:
    """Which item of the mapping that `keys` lead to is refused: msgspec's message does not say."""
    mapping: Mapping[str, Any] = functools.reduce(lambda inside, key: inside[key], keys, values)
    for item in mapping.items():
        try:
            msgspec.convert(dict([item]), field_type(keys))
        except msgspec.ValidationError:
            return item
    raise AssertionError(f"{keys}: every item of it is allowed by itself")


# A few lines of YAML can say a list of a billion items, by naming others.
SHORT = reprlib.Repr()
SHORT.maxlevel, SHORT.maxlist, SHORT.maxdict, SHORT.maxstring, SHORT.maxother = 2, 10, 10, 200, 200

# msgspec's names of types, and what they are called in YAML.
WORDS = {
    "object": "mapping",
    "array": "list",
    "str": "text",
    "int": "whole number",
    "float": "number",
    "bool": "true or false",
}


def plain_words(text: str) -> str:
    """ "Expected `object | array`, got `str`" as "expected mapping or list, got text"."""

    def worded(quoted: re.Match[str]) -> str:
        return " or ".join(WORDS.get(word, word) for word in quoted[1].split(" | "))

    plain = re.sub(r"`([^`]*)`", worded, text)
    return plain[:1].lower() + plain[1:]


def nearest_multiples(text: str, value: Any) -> str:
    """What to take in place of a number that has to be a multiple of another; "" where that is not what is wrong."""
    found = re.search(r"multiple of (\d+)$", text)
    if found is None or not isinstance(value, int):
        return ""
    step = int(found[1])
    below = value // step * step
    return f", such as {below} or {below + step}" if below > 0 else f", such as {step}"


def field_type(keys: Sequence[str]) -> Any:
    """The type of what `keys` lead to."""
    kind: Any = Params
    for key in keys:
        kind = {field.name: field.type for field in msgspec.structs.fields(kind)}[key]
    return kind


def field_names(keys: list[str]) -> list[str]:
    """The keys allowed inside the section that `keys` lead to."""
    return [field.name for field in msgspec.structs.fields(field_type(keys)) if field.name == field.encode_name]
