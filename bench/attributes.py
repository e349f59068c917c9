"""Labels that are missing: left out of the loss, or made up, on the sample's T-shirts with labels removed at random.

A softmax for each attribute with cross-entropy over the labels that are there, as the classify stage has it, beside
what is often done instead: sigmoids with binary cross-entropy, and missing labels replaced by the most frequent value
(mode) or by what most of the five nearest garments have (neighbours). All of them learn linear heads on the same frozen
features (EfficientNet-Lite0, ImageNet) of train, where a share of the labels was removed by the seed; all are measured
on val and test, where every label is there. Prints docs/attributes.md's table, and writes --json.

Example, some minutes: python -m bench.attributes --json .seamline/bench/attributes.json
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from samples.make_tshirts import write_sample
from seamline.attributes.backbones import build_backbone, find_start, start_from
from seamline.attributes.labelled import MISSING, Ints, groups_of, labels_of, read_labelled
from seamline.attributes.losses import Balance, masked_cross_entropy
from seamline.attributes.measures import columns_of, labels_to_confusion, macro_f1
from seamline.attributes.sources import source_folder
from seamline.attributes.trainer import in_parts, squares_of
from seamline.base.coco import Record
from seamline.base.files import write_json
from seamline.base.process import run
from seamline.evaluation.bootstrap import draw_weights, interval_of_difference
from seamline.images.cutouts import squares_to_tensor
from seamline.params.attributes import Attributes
from seamline.params.classify import Classify
from seamline.params.loading.loader import load_params
from stages.attributes import make

SCRATCH = Path(".seamline/bench/attributes")
RATES, SEEDS = (0.0, 0.3, 0.6), (0, 1, 2)
LOSSES, FILLINGS = ("softmax", "sigmoid"), ("masked", "mode", "neighbours")
OURS = ("softmax", "masked")
NEIGHBOURS = 5
STEPS, RATE, DECAY = 300, 0.01, 0.05  # of AdamW, on all of train at once
DRAWS = 2000


class Data(NamedTuple):
    features: Tensor  # (n, channels) of train
    labels: Ints  # (n, attributes) of train, all there
    measured: Tensor  # features of val and test
    truth: Ints
    groups: Ints  # of val and test
    sizes: list[int]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="file for all figures")
    args = parser.parse_args()
    data = read_data()
    print(f"{len(data.labels)} garments of train, {len(data.truth)} of val and test")
    jobs = [(rate, loss, filling) for rate in RATES for loss in LOSSES for filling in FILLINGS]
    jobs = [job for job in jobs if job[0] > 0 or job[2] == "masked"]  # with all labels there is nothing to fill
    predicted = {job: [predictions(data, *job, seed) for seed in SEEDS] for job in tqdm(jobs, disable=None)}
    rows = [compared(data, job, predicted) for job in jobs]
    print(*table(rows), sep="\n")
    if args.json:
        write_json(args.json, {"garments": {"train": len(data.labels), "measured": len(data.truth)}, "rows": rows})


def read_data() -> Data:
    """The sample's T-shirts with every label, in the pipeline's form, and what the frozen backbone makes of them."""
    params = load_params()
    classify = params[Classify]
    shutil.rmtree(SCRATCH, ignore_errors=True)
    (SCRATCH / "data").mkdir(parents=True)
    (SCRATCH / "report").mkdir()
    archive = SCRATCH / "tshirts.zip"
    write_sample(archive, True)
    own = msgspec.structs.replace(params[Attributes], source=str(archive))
    with source_folder(own.source, (SCRATCH / "source").resolve()) as folder:
        make(folder, SCRATCH / "data", SCRATCH / "report", Path("data/split"), own)
    labelled = read_labelled(SCRATCH / "data")
    backbone = build_backbone(classify.backbone)
    start = find_start(classify.backbone, classify.start)
    if start is not None:
        start_from(backbone.module, classify.backbone, start)
    backbone.module.eval()
    measured = [*labelled.splits["val"], *labelled.splits["test"]]
    found = []
    for examples in (labelled.splits["train"], measured):
        parts = in_parts(squares_of(examples, classify.imgsz, backbone))
        with torch.no_grad():
            tensors = (torch.from_numpy(squares_to_tensor(part, backbone.mean, backbone.std)) for part in parts)
            found.append(torch.cat([backbone.module(tensor) for tensor in tensors]))
    sizes = [len(values) for values in labelled.attributes.values()]
    train, truth = labels_of(labelled.splits["train"]), labels_of(measured)
    return Data(found[0], train, found[1], truth, groups_of(measured), sizes)


def predictions(data: Data, rate: float, loss: str, filling: str, seed: int) -> Ints:
    """(n, attributes): the likeliest value for each garment of val and test."""
    labels = data.labels.copy()
    labels[np.random.default_rng(seed).random(labels.shape) < rate] = MISSING  # the same ones for all methods
    if filling != "masked":
        labels = filled(labels, data.features.numpy(), data.sizes, filling)
    torch.manual_seed(seed)
    heads = torch.nn.Linear(data.features.shape[1], sum(data.sizes))
    optimizer = torch.optim.AdamW(heads.parameters(), RATE, weight_decay=DECAY)
    balance, wanted = Balance("none", labels, data.sizes), torch.from_numpy(labels)
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = RATE * (1 + np.cos(np.pi * step / STEPS)) / 2
        made = heads(data.features)
        value = masked_cross_entropy(made, wanted, balance) if loss == "softmax" else binary(made, wanted, data.sizes)
        optimizer.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    with torch.no_grad():
        found = heads(data.measured).numpy()
    return np.stack([own.argmax(axis=1) for own in columns_of(found, data.sizes)], axis=1)


def filled(labels: Ints, features: npt.NDArray[np.float32], sizes: list[int], filling: str) -> Ints:
    """Labels in which missing ones were made up."""
    directions = features / np.linalg.norm(features, axis=1, keepdims=True)
    likeness = directions @ directions.T
    labels = labels.copy()
    for column, size in enumerate(sizes):
        there = np.flatnonzero(labels[:, column] != MISSING)
        own = labels[there, column]
        for index in np.flatnonzero(labels[:, column] == MISSING):
            nearest = np.argsort(-likeness[index, there], kind="stable")[:NEIGHBOURS]
            asked = own[nearest] if filling == "neighbours" else own
            labels[index, column] = np.bincount(asked, minlength=size).argmax()
    return labels


def binary(made: Tensor, labels: Tensor, sizes: list[int]) -> Tensor:
    """Binary cross-entropy of a sigmoid for each value, over the labels that are there."""
    total, start = made.new_zeros(()), 0
    for column, size in enumerate(sizes):
        own, there = made[:, start : start + size], labels[:, column] != MISSING
        wanted = functional.one_hot(labels[there, column], size).float()
        total = total + functional.binary_cross_entropy_with_logits(own[there], wanted)
        start += size
    return total / len(sizes)


def mean_f1(data: Data, predicted: Ints, weights: Ints) -> npt.NDArray[np.float64]:
    """(draws,): the mean of the attributes' macro F1."""
    found = [
        macro_f1(labels_to_confusion(data.truth[:, column], predicted[:, column], size, weights))
        for column, size in enumerate(data.sizes)
    ]
    return np.asarray(np.mean(found, axis=0))


def compared(data: Data, job: tuple[float, str, str], predicted: dict[tuple[float, str, str], list[Ints]]) -> Record:
    """A method's macro F1 of each seed, and how much less it is than ours, over groups of garments drawn again."""
    once, weights = np.ones((1, len(data.truth)), np.int64), draw_weights(data.groups, DRAWS, 0)
    values = [float(mean_f1(data, one, once)[0]) for one in predicted[job]]
    ours = predicted[job[0], *OURS]
    own = np.mean([mean_f1(data, one, once)[0] for one in ours]) - np.mean(values)
    drawn = np.mean([mean_f1(data, one, weights) for one in ours], axis=0)
    drawn = drawn - np.mean([mean_f1(data, one, weights) for one in predicted[job]], axis=0)
    groups = len(np.unique(data.groups))
    return {
        "removed": job[0],
        "loss": job[1],
        "missing": job[2],
        "macro_f1": [round(value, 4) for value in values],
        "less_than_ours": round(float(own), 4),
        "interval": interval_of_difference(drawn, groups, float(own)),
    }


def table(rows: list[Record]) -> list[str]:
    lines = [
        "| labels removed | loss | missing labels | macro F1: mean (three seeds) | less than masked softmax (95%) |",
        "| --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        seeds = ", ".join(f"{value:.3f}" for value in row["macro_f1"])
        less = "" if (row["loss"], row["missing"]) == OURS else f"{row['less_than_ours']:+.3f}"
        if row["interval"]:
            less += f" ({row['interval'][0]:+.3f} to {row['interval'][1]:+.3f})"
        missing = row["missing"] if row["removed"] else "none"
        mean = float(np.mean(row["macro_f1"]))
        lines.append(f"| {row['removed']:.0%} | {row['loss']} | {missing} | {mean:.3f} ({seeds}) | {less} |")
    return lines


if __name__ == "__main__":
    run(main)
