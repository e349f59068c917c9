"""best.pt of an R-CNN: tensors and plain data, the same bytes for the same weights, and opened as nothing else."""

from __future__ import annotations

import io
import pickle  # its error alone, which torch raises  # nosec B403
import re
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import torch
from torch import Tensor
from torchvision.models.detection.faster_rcnn import FasterRCNN

from seamline.base.errors import SeamlineError
from seamline.base.files import write_bytes
from seamline.models.rcnn import RCNN
from seamline.models.rcnn_network import Architecture, build_network


class Loaded(NamedTuple):
    """A network with its weights, for inference until somebody trains it."""

    network: FasterRCNN
    architecture: Architecture
    names: list[str]  # of the classes, in their order


def weights_to_write(network: FasterRCNN, architecture: Architecture, names: list[str]) -> dict[str, Any]:
    """What best.pt holds: plain data, and the weights on the CPU."""
    weights = {name: tensor.detach().cpu().clone() for name, tensor in network.state_dict().items()}
    return {
        "family": RCNN,
        "architecture": msgspec.to_builtins(architecture),
        "names": list(names),
        "imgsz": architecture.imgsz,
        "weights": weights,
    }


def write(content: dict[str, Any], path: Path) -> None:
    """Write a .pt file, whole or not at all; equal contents give equal bytes, whatever the file's name."""
    stream = io.BytesIO()  # torch would put the name of a file into it
    torch.save(content, stream)
    write_bytes(path, stream.getvalue())


def load_network(path: Path, device: str = "cpu") -> Loaded:
    """The network in a .pt file that write() has made.

    Raises:
        SeamlineError: when it holds anything but tensors and plain data, is damaged, or something else.
    """
    content = load_content(path, device)
    try:
        architecture = msgspec.convert(content["architecture"], Architecture)
        names = msgspec.convert(content["names"], list[str])
        weights = msgspec.convert(content["weights"], dict[str, Any])
        network = build_network(architecture)
    except KeyError as error:
        raise not_ours(path, f"it lacks {error}") from None
    except (msgspec.ValidationError, SeamlineError) as error:
        raise not_ours(path, str(error).rstrip(".")) from None
    if len(names) != architecture.classes:
        raise not_ours(path, f"it names {len(names)} classes, and its network finds {architecture.classes}")
    if not all(isinstance(tensor, Tensor) for tensor in weights.values()):
        raise not_ours(path, "its weights are not all tensors")
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        first = " ".join(str(error).split("\n\t")[1:2]).strip()[:200].rstrip(".")
        raise not_ours(path, f"its weights are not those of {architecture.model} ({first})") from None
    return Loaded(network.to(device).eval(), architecture, names)


def load_content(path: Path, device: str) -> dict[str, Any]:
    """What is in a file that write() has made; raises SeamlineError where it is another one."""
    content = load_data(path, device)
    if not isinstance(content, dict) or content.get("family") != RCNN:
        raise not_ours(path, f"it does not say family: {RCNN}")
    return content


def load_data(path: Path, device: str) -> Any:
    """What is in a .pt file, of which nothing is called; raises SeamlineError where it cannot be read so."""
    try:
        stream = io.BytesIO(path.read_bytes())
    except OSError as error:
        raise SeamlineError(f"{path}: cannot be read ({error.strerror}).") from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a pickle that torch has not written, which is refused next
            return torch.load(stream, map_location=device, weights_only=True)
    except pickle.UnpicklingError as error:
        named = re.search(r"(?:GLOBAL|global|class) `?([\w.]*\.\w+)", str(error))
        what = f"it names {named[1]}" if named else "it holds something else"
        raise SeamlineError(f"{path}: is opened as tensors and plain data only, and {what}.") from None
    except Exception as error:  # of a damaged file torch says this and that
        raise SeamlineError(f"{path}: is damaged, or was not written by torch.save ({type(error).__name__}).") from None


def not_ours(path: Path, why: str) -> SeamlineError:
    return SeamlineError(f"{path}: does not hold an R-CNN of Seamline's: {why}.")
