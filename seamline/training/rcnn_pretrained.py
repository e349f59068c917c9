"""Weights that an R-CNN starts from: torchvision's by its own names, a package's, or a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.hub import load_state_dict_from_url
from torchvision.models import MobileNet_V3_Large_Weights, ResNet50_Weights
from torchvision.models.detection import (
    FasterRCNN_MobileNet_V3_Large_320_FPN_Weights,
    FasterRCNN_ResNet50_FPN_V2_Weights,
    MaskRCNN_ResNet50_FPN_V2_Weights,
)
from torchvision.models.detection.faster_rcnn import FasterRCNN

from seamline.base.errors import SeamlineError
from seamline.base.files import sha256_of
from seamline.models.lite0 import another_network, is_counter, lite0_file, load_in_order
from seamline.models.rcnn_weights import load_data
from seamline.training.finished import project_around

COCO: dict[str, Any] = {
    "maskrcnn_resnet50_fpn_v2": MaskRCNN_ResNet50_FPN_V2_Weights.COCO_V1,
    "fasterrcnn_resnet50_fpn_v2": FasterRCNN_ResNet50_FPN_V2_Weights.COCO_V1,
    "fasterrcnn_mobilenet_v3_large_320_fpn": FasterRCNN_MobileNet_V3_Large_320_FPN_Weights.COCO_V1,
}
# As torchvision's builders of these models take them.
RESNET, MOBILENET = ResNet50_Weights.IMAGENET1K_V1, MobileNet_V3_Large_Weights.IMAGENET1K_V1
START = "rcnn.start"  # the key of params.yaml that names weights
# Layers whose outputs are the classes'.
HEADS = ("roi_heads.box_predictor.", "roi_heads.mask_predictor.mask_fcn_logits.")


def find_start(start: str, model: str, weights: Path) -> Path | None:
    """The file that rcnn.start names; torchvision's are downloaded where they are not here; None: no weights.

    Raises:
        SeamlineError: when there is none, or it cannot be had.
    """
    if start == "none":
        return None
    if start == "coco":
        if model not in COCO:
            raise SeamlineError(
                f"rcnn.start: torchvision has no COCO weights of {model}; take imagenet, none or a file."
            )
        return torchvision_file(COCO[model], weights)
    if start == "imagenet":
        if "efficientnet_lite0" in model:
            return lite0_file(START)
        return torchvision_file(RESNET if "resnet50" in model else MOBILENET, weights)
    for candidate in (Path(start), project_around() / start, weights / Path(start).name):
        if candidate.is_file():
            return candidate
    raise SeamlineError(f"rcnn.start: there is no file {start!r}; coco, imagenet, none or a file is allowed.")


def torchvision_file(found: Any, weights: Path, key: str = START) -> Path:
    """A file of torchvision's in this folder, whose hash its name says; downloaded where it is not there.

    Args:
        key: of params.yaml, that asked for it.
    """
    path: Path = weights / found.url.rpartition("/")[2]
    if not path.is_file():
        weights.mkdir(parents=True, exist_ok=True)
        try:
            load_state_dict_from_url(
                found.url, str(weights), map_location="cpu", progress=False, check_hash=True, weights_only=True
            )
        except (OSError, RuntimeError) as error:
            raise SeamlineError(
                f"{key}: torchvision's weights are not in {weights}, and could not be downloaded "
                f"({str(error).partition(chr(10))[0][:100]}); put the file of {found.url} there, or take "
                f"{key}: none."
            ) from None
    if not sha256_of(path).startswith(path.stem.rpartition("-")[2]):
        raise SeamlineError(f"{path}: is damaged: its hash is not the one in its name; delete it.")
    return path


def start_from(network: FasterRCNN, path: Path, names: list[str]) -> None:
    """Give a network the weights in a file; what depends on the classes stays random where these are others.

    Args:
        names: of the classes, in the network's order.

    Raises:
        SeamlineError: when the file is not of tensors and plain data, or of another network.
    """
    found, classes = read_weights(path)
    if any(name.startswith("roi_heads.") for name in found):
        load_whole(network, found, path, classes == names)
    elif "_conv_stem.weight" in found:
        load_in_order(network.backbone.body, found, path)
    else:
        load_backbone(network.backbone.body, found, path)


def read_weights(path: Path) -> tuple[dict[str, Tensor], list[str] | None]:
    """The tensors in a file of weights, by name, and the classes that it says they find.

    Raises:
        SeamlineError: when the file is not of tensors and plain data, or has none by name.
    """
    content = load_data(path, "cpu")
    weights = content.get("weights", content) if isinstance(content, dict) else None
    if not isinstance(weights, dict):
        raise SeamlineError(f"{path}: has no weights: no tensors by the names of layers.")
    return {str(name): one for name, one in weights.items() if isinstance(one, Tensor)}, content.get("names")


def load_whole(network: FasterRCNN, found: dict[str, Tensor], path: Path, with_heads: bool) -> None:
    own = network.state_dict()
    found = {name: tensor for name, tensor in found.items() if with_heads or not name.startswith(HEADS)}
    fitting = {name: tensor for name, tensor in found.items() if name in own and own[name].shape == tensor.shape}
    missing = [name for name in own if name not in fitting and not name.startswith(HEADS) and not is_counter(name)]
    if missing:
        raise another_network(path, missing[0])
    network.load_state_dict({**own, **fitting})


def load_backbone(body: nn.Module, found: dict[str, Tensor], path: Path) -> None:
    """torchvision's weights of a classifier, whose features have the names of the backbone's layers."""
    found = {name.removeprefix("features."): tensor for name, tensor in found.items()}
    own = body.state_dict()
    fitting = {name: tensor for name, tensor in found.items() if name in own and own[name].shape == tensor.shape}
    missing = [name for name in own if name not in fitting and not is_counter(name)]
    if missing:
        raise another_network(path, missing[0])
    body.load_state_dict({**own, **fitting})
