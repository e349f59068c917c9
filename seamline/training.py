"""Training with ultralytics, kept inside a scratch folder: nothing is written into the data or the home folder."""

from __future__ import annotations

import math
import shutil
import time
from collections import Counter
from pathlib import Path
from typing import Any

import torch
import ultralytics.data.utils
import ultralytics.engine.trainer
import ultralytics.utils
import yaml
from tqdm import tqdm
from ultralytics.models.yolo.segment import SegmentationTrainer
from ultralytics.utils import ROOT as ULTRALYTICS
from ultralytics.utils.downloads import attempt_download_asset

from seamline.coco import Record
from seamline.errors import SeamlineError
from seamline.files import whole_file, write_csv
from seamline.params import Train

ARCHITECTURES = Path("architectures")
MASK_FITNESS = "metrics/mAP50-95(M)"
# What of train: is ours and not an argument of ultralytics'.
OURS = {"model", "device", "val_period"}


class Trainer(SegmentationTrainer):  # type: ignore[misc]
    """ultralytics' trainer, with the best model chosen by mask mAP alone and validation every few epochs."""

    validated_epoch = -1
    best_fitness: float | None
    fitness: float | None

    def validate(self) -> tuple[dict[str, float], float]:
        best_before = self.best_fitness
        metrics, _ = super().validate()
        fitness = float(metrics[MASK_FITNESS])
        self.best_fitness = fitness if best_before is None else max(best_before, fitness)
        self.validated_epoch = self.epoch
        return metrics, fitness

    def save_model(self) -> bool:
        # In an epoch without validation the fitness is still the last one's, and would pass for the best again.
        kept = self.fitness
        self.fitness = kept if self.validated_epoch == self.epoch else math.nan
        try:
            return bool(super().save_model())
        finally:
            self.fitness = kept

    def final_eval(self) -> None:
        """Nothing: the evaluate stage measures the final model."""

    def _setup_train(self) -> None:
        super()._setup_train()
        if self.device.type == "cpu":  # measured 16 to 19% less time a step than the default layout, 2 cores, AVX-512
            self.model.to(memory_format=torch.channels_last)

    def preprocess_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
        batch = super().preprocess_batch(batch)
        if self.device.type == "cpu":
            batch["img"] = batch["img"].contiguous(memory_format=torch.channels_last)
        return batch


def train_model(params: Train, split: Path, yolo: Path, scratch: Path) -> tuple[Path, list[Record]]:
    """Train, with everything that is written below `scratch`.

    Returns:
        The best checkpoint, and a record an epoch: losses, learning rate and, where it was validated, metrics.

    Raises:
        SeamlineError: when the model, its weights or the device is not there, or a class has no instance in train.
    """
    keep_to_scratch(scratch)
    model = find_model(params.model, scratch / "weights")
    data = linked_dataset(split, yolo, scratch / "data")
    values = {key: getattr(params, key) for key in params.__struct_fields__ if key not in OURS}
    device = find_device(params.device)
    trainer = Trainer(
        overrides={
            **values,
            "model": str(model),
            "data": str(data),
            "device": device,
            "project": str(scratch.resolve()),
            "name": "run",
            "exist_ok": True,
            "plots": False,
            "verbose": False,
            "deterministic": True,
            "cache": "ram" if device == "cpu" else False,
            "pretrained": model.suffix == ".pt",
        }
    )
    history: list[Record] = []
    watch(trainer, history, params.val_period, params.epochs)
    trainer.train()
    return trainer.best, history


def keep_to_scratch(scratch: Path) -> None:
    """Stop what ultralytics does to the data and over the network where nobody asked it to.

    It re-encodes JPEGs with bytes after their end, in place; fetches a font for plots that are not drawn; and, on a
    GPU, fetches another model to see whether mixed precision works.
    """
    ultralytics.data.utils._replace_image = lambda *_: None
    ultralytics.data.utils.check_font = lambda *_: None
    ultralytics.engine.trainer.check_amp = lambda model: next(model.parameters()).is_cuda  # on a CPU it would be bf16
    weights = (scratch / "weights").resolve()
    weights.mkdir(parents=True, exist_ok=True)
    ultralytics.utils.SETTINGS["weights_dir"] = str(weights)


def find_model(name: str, weights: Path) -> Path:
    """A description of ours or ultralytics', or pretrained weights, fetched by ultralytics where there is internet.

    Raises:
        SeamlineError: when it is neither, or the weights are not here and cannot be fetched.
    """
    path = Path(name)
    if path.suffix == ".yaml":
        known = sorted(ARCHITECTURES.glob("*-seg.yaml")) + sorted((ULTRALYTICS / "cfg" / "models").rglob("*-seg.yaml"))
        places = [path, ARCHITECTURES / name, *(file for file in known if file.name == name)]
        # ultralytics describes yolov8n-seg, yolov8s-seg, ... in one file that its loader finds by name.
        found = next((place for place in places if place.is_file()), path if scaled_description(name, known) else None)
        if found is None:
            names = ", ".join(sorted({file.name for file in known}))
            raise SeamlineError(f"train.model: there is no {name!r}; descriptions are {names}; or name a .pt file.")
        return found
    if path.suffix != ".pt":
        raise SeamlineError(f"train.model: {name!r} is neither a description (.yaml) nor weights (.pt).")
    for place in (path, weights / path.name):
        if place.is_file():
            return place
    weights.mkdir(parents=True, exist_ok=True)
    try:
        fetched = Path(attempt_download_asset(str(weights / path.name), retry=0))
    except (OSError, RuntimeError):
        fetched = weights / path.name
    if not fetched.is_file():
        raise SeamlineError(
            f"train.model: the weights {name!r} are neither here nor in {weights}, and could not be downloaded; "
            f"put the file there, or train from scratch with {path.stem}.yaml."
        )
    return fetched


def scaled_description(name: str, known: list[Path]) -> bool:
    """Whether a name such as yolov8n-seg.yaml is a size of a family's description, here yolov8-seg.yaml."""
    from ultralytics.nn.tasks import guess_model_scale

    scale = guess_model_scale(name)
    return bool(scale) and any(file.name == name.replace(f"{scale}-seg", "-seg") for file in known)


def find_device(name: str) -> str:
    """auto: the first GPU where there is one.

    Raises:
        SeamlineError: when a GPU is asked for that is not there.
    """
    count = torch.cuda.device_count()
    if name == "auto":
        return "0" if count else "cpu"
    numbers = [] if name == "cpu" else name.split(",")
    if len(numbers) > 1:
        raise SeamlineError(f"train.device: {name!r} names several GPUs; training runs on one: auto, cpu or a number.")
    if any(not number.strip().isdigit() or int(number) >= count for number in numbers):
        raise SeamlineError(f"train.device: {name!r} is not there; this machine has {count} GPUs: use auto or cpu.")
    return name


def linked_dataset(split: Path, yolo: Path, target: Path) -> Path:
    """A data.yaml for ultralytics over links to images and labels, so that its label cache falls into scratch.

    Raises:
        SeamlineError: when a split is empty, or a class has no instance in train.
    """
    names: dict[int, str] = yaml.safe_load((split / "data.yaml").read_text(encoding="utf-8"))["names"]
    shutil.rmtree(target, ignore_errors=True)
    for part in ("train", "val"):
        files = [Path(line).name for line in (split / f"{part}.txt").read_text(encoding="utf-8").splitlines()]
        if not files:
            raise SeamlineError(f"{split / part}.txt: is empty; ask for more images (subset.images) or other ratios.")
        folder = target.resolve() / part
        folder.mkdir(parents=True)
        for kind in ("images", "labels"):
            (folder / kind).symlink_to((yolo / kind).resolve())
        listing = "".join(f"{folder / 'images' / file}\n" for file in files)
        (target / f"{part}.txt").write_text(listing, encoding="utf-8")
        if part == "train":
            check_classes_shown(names, [(folder / "labels" / file).with_suffix(".txt") for file in files])
    data = {"path": str(target.resolve()), "train": "train.txt", "val": "val.txt", "names": names}
    (target / "data.yaml").write_text(yaml.safe_dump(data, sort_keys=False), encoding="utf-8")
    return target / "data.yaml"


def check_classes_shown(names: dict[int, str], labels: list[Path]) -> None:
    instances = Counter(
        int(line.split(maxsplit=1)[0]) for label in labels for line in label.read_text(encoding="ascii").splitlines()
    )
    unseen = [name for index, name in names.items() if not instances[index]]
    if unseen:
        raise SeamlineError(
            f"train: no training image shows {unseen[0]!r}; ask for more images or leave the class out."
        )


def watch(trainer: Trainer, history: list[Record], val_period: int, epochs: int) -> None:
    """A bar over all steps on a terminal, a line an epoch in a log, and the numbers of each epoch in `history`."""
    bar = tqdm(total=None, desc="training", unit="step", disable=None)
    begun = time.perf_counter()

    def start_epoch(running: Trainer) -> None:
        running.args.val = (running.epoch + 1) % val_period == 0
        bar.total = epochs * len(running.train_loader)

    def end_step(running: Trainer) -> None:
        bar.update()

    def end_epoch(running: Trainer) -> None:
        losses = {name.removesuffix("_loss"): round(float(value), 5) for name, value in running.tloss.items()}
        record: Record = {"epoch": running.epoch + 1, **{f"{name}_loss": value for name, value in losses.items()}}
        record["lr"] = round(float(running.optimizer.param_groups[0]["lr"]), 8)
        line = f"epoch {running.epoch + 1}/{epochs}  " + "  ".join(f"{name} {losses[name]:.3f}" for name in losses)
        if running.validated_epoch == running.epoch:
            record |= {
                "val_box_mAP50": round(float(running.metrics["metrics/mAP50(B)"]), 5),
                "val_box_mAP50_95": round(float(running.metrics["metrics/mAP50-95(B)"]), 5),
                "val_mask_mAP50": round(float(running.metrics["metrics/mAP50(M)"]), 5),
                "val_mask_mAP50_95": round(float(running.metrics[MASK_FITNESS]), 5),
            }
            line += f"  val mask mAP50-95 {record['val_mask_mAP50_95']:.3f}"
        history.append(record)
        tqdm.write(f"{line}  {time.perf_counter() - begun:.0f} s")

    def end(running: Trainer) -> None:
        bar.close()

    trainer.add_callback("on_train_epoch_start", start_epoch)
    trainer.add_callback("on_train_batch_end", end_step)
    trainer.add_callback("on_fit_epoch_end", end_epoch)
    trainer.add_callback("teardown", end)


def save_weights(checkpoint: Path, target: Path) -> None:
    """Keep of a checkpoint what inference and fine-tuning need, and nothing that differs from run to run.

    ultralytics stores dates, absolute paths and git remotes; two equal trainings would give different files.
    """
    stored = torch.load(checkpoint, map_location="cpu", weights_only=False)
    model = stored["ema"].half().eval()
    kept = {key: stored["train_args"][key] for key in ("task", "imgsz", "overlap_mask", "mask_ratio", "single_cls")}
    model.args = kept
    model.yaml = {key: value for key, value in model.yaml.items() if key != "yaml_file"}
    if hasattr(model, "pt_path"):
        del model.pt_path
    for parameter in model.parameters():
        parameter.requires_grad = False
    with whole_file(target) as temporary, temporary.open("wb") as stream:
        torch.save({"model": model, "train_args": kept, "version": stored["version"], "epoch": -1}, stream)


def write_history(history: list[Record], losses: Path, validation: Path) -> None:
    """Losses and learning rate of every epoch, and the metrics of those that were validated, as CSV for dvc plots."""
    for path, validated in ((losses, False), (validation, True)):
        keys = ["epoch", *(key for key in history[-1] if key != "epoch" and key.startswith("val_") == validated)]
        write_csv(path, keys, ([record[key] for key in keys] for record in history if keys[-1] in record))
