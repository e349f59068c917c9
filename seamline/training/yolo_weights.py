"""Descriptions and weights of ultralytics' models: found by their names, checked, and written."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
import ultralytics
from ultralytics.nn.tasks import guess_model_scale, guess_model_task
from ultralytics.utils import ROOT as ULTRALYTICS
from ultralytics.utils.downloads import attempt_download_asset

from seamline.base.coco import Record
from seamline.base.errors import SeamlineError
from seamline.base.files import whole_file
from seamline.models.weights import load_weights
from seamline.training.finished import project_around

ARCHITECTURES = Path("architectures")
RELEASES = "https://github.com/ultralytics/assets/releases"


def find_model(name: str, weights: Path) -> Path:
    """A description of ours or ultralytics', or pretrained weights, downloaded by ultralytics where there is internet.

    Raises:
        SeamlineError: when it is neither, or the weights are not here and cannot be downloaded.
    """
    path = Path(name)
    if path.suffix == ".yaml":
        known = sorted(ARCHITECTURES.glob("*-seg.yaml")) + sorted((ULTRALYTICS / "cfg" / "models").rglob("*-seg.yaml"))
        candidates = [path, ARCHITECTURES / name, *(file for file in known if file.name == name)]
        # ultralytics describes yolov8n-seg, yolov8s-seg, ... in one file that its loader finds by name.
        found = next((one for one in candidates if one.is_file()), path if scaled_description(name, known) else None)
        if found is None:
            names = ", ".join(sorted({file.name for file in known}))
            raise SeamlineError(f"train.model: there is no {name!r}; descriptions are {names}; or name a .pt file.")
        return found
    if path.suffix != ".pt":
        raise SeamlineError(f"train.model: {name!r} is neither a description (.yaml) nor weights (.pt).")
    for candidate in (path, project_around() / path, weights / path.name):
        if candidate.is_file():
            check_weights(candidate)
            return candidate
    weights.mkdir(parents=True, exist_ok=True)
    try:
        downloaded = Path(attempt_download_asset(str(weights / path.name), retry=0))
    except (OSError, RuntimeError):
        downloaded = weights / path.name
    if not downloaded.is_file():
        raise SeamlineError(
            f"train.model: the weights {name!r} are neither here nor in {weights}, and could not be downloaded; "
            f"put the file there ({RELEASES} has ultralytics'), or train from scratch with {path.stem}.yaml."
        )
    check_weights(downloaded)
    return downloaded


def check_weights(path: Path) -> None:
    """Raises SeamlineError unless the file holds an ultralytics segmentation model, and no code."""
    try:
        task = guess_model_task(load_weights(path)[0].yaml)  # by its head, whatever the file says of it
    except SeamlineError:
        raise
    except Exception as error:  # unpickling a foreign file may raise anything
        reason = str(error).partition("\n")[0]
        raise SeamlineError(f"train.model: {path} is not a model of ultralytics' ({reason[:200]}).") from None
    if task != "segment":
        raise SeamlineError(f"train.model: {path} is a model for the task {task}; training needs a -seg model.")


def scaled_description(name: str, known: list[Path]) -> bool:
    """Whether a name such as yolov8n-seg.yaml is a size of a family's description, here yolov8-seg.yaml."""
    scale = guess_model_scale(name)
    return bool(scale) and any(file.name == name.replace(f"{scale}-seg", "-seg") for file in known)


def weights_to_write(ema: torch.nn.Module, train_args: Record) -> Record:
    """What inference and fine-tuning need of a model, and nothing that differs from run to run.

    ultralytics also stores dates, absolute paths and git remotes: two equal trainings would give different files.
    """
    model: Any = deepcopy(ema).half().to(memory_format=torch.contiguous_format).eval()
    model.criterion = None
    arguments = {key: train_args[key] for key in ("task", "imgsz", "overlap_mask", "mask_ratio", "single_cls")}
    model.args = arguments
    model.yaml = {key: value for key, value in model.yaml.items() if key != "yaml_file"}
    if hasattr(model, "pt_path"):
        del model.pt_path
    for parameter in model.parameters():
        parameter.requires_grad = False
    return {"model": model, "train_args": arguments, "version": ultralytics.__version__, "epoch": -1}


def write_weights(weights: Record, target: Path) -> None:
    weights["model"].cpu()
    with whole_file(target) as temporary, temporary.open("wb") as stream:
        torch.save(weights, stream)
