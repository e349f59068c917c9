"""Networks that make a vector of a picture, by name: EfficientNet-Lite0, torchvision's classifiers, timm's models."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torchvision import models as zoo

from seamline.base.errors import SeamlineError
from seamline.models.lite0 import LITE0_HEAD, is_counter, lite0_file, lite0_layers, load_in_order
from seamline.models.rcnn_backbones import LITE0_MEAN, LITE0_STD
from seamline.training.finished import project_around, weights_folder
from seamline.training.rcnn_pretrained import read_weights, torchvision_file

LITE0_NAME, TIMM = "efficientnet_lite0", "timm/"
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
Triple = tuple[float, float, float]


class Backbone(NamedTuple):
    module: nn.Module  # (n, 3, side, side), normalised, to (n, channels)
    channels: int
    mean: Triple  # of the pictures that its weights were trained with: red, green and blue from 0 to 1
    std: Triple


def build_backbone(name: str) -> Backbone:
    """A backbone with random weights.

    Raises:
        SeamlineError: when there is none of this name, or timm is not installed.
    """
    if name == LITE0_NAME:
        return Backbone(lite0_layers(), LITE0_HEAD, (LITE0_MEAN,) * 3, (LITE0_STD,) * 3)
    if name.startswith(TIMM):
        return timm_backbone(name.removeprefix(TIMM))
    return torchvision_backbone(name)


def torchvision_backbone(name: str) -> Backbone:
    """torchvision's classifier of this name without its last layer."""
    check_torchvision_name(name)
    module = zoo.get_model(name, weights=None)
    last = last_linear(module)
    if last is None or name in ("googlenet", "inception_v3"):
        raise SeamlineError(
            f"classify.backbone: {name} cannot be used: it does not end with one linear layer; take another one."
        )
    parent, _, own = last.rpartition(".")
    channels = module.get_submodule(last).in_features
    setattr(module.get_submodule(parent), own, nn.Identity())
    return Backbone(module, channels, IMAGENET_MEAN, IMAGENET_STD)


def check_torchvision_name(name: str) -> None:
    if name not in zoo.list_models(module=zoo):
        raise SeamlineError(
            f"classify.backbone: there is no {name!r}; {LITE0_NAME}, a classifier of torchvision's (such as "
            f"mobilenet_v3_large, resnet50, convnext_tiny) or {TIMM}NAME is allowed."
        )


def last_linear(module: nn.Module) -> str | None:
    """The name of its last layer; None where that is not a linear one."""
    leaves = [(name, one) for name, one in module.named_modules() if any(True for _ in one.parameters(recurse=False))]
    return leaves[-1][0] if leaves and isinstance(leaves[-1][1], nn.Linear) else None


def timm_backbone(name: str) -> Backbone:
    if find_spec("timm") is None:
        raise SeamlineError(f"classify.backbone: {TIMM}{name} needs timm, which is not installed; pip install timm.")
    import timm  # type: ignore[import-not-found, unused-ignore]

    if name not in timm.list_models():
        raise SeamlineError(f"classify.backbone: timm {timm.__version__} has no model {name!r}.")
    module: Any = timm.create_model(name, pretrained=False, num_classes=0)
    given = module.pretrained_cfg
    mean, std = (tuple(float(one) for one in given[key]) for key in ("mean", "std"))
    return Backbone(module, int(module.num_features), mean, std)  # type: ignore[arg-type]


def find_start(name: str, start: str) -> Path | None:
    """The file of weights that classify.start names; torchvision's are downloaded where they are not here; None: none.

    Raises:
        SeamlineError: when there is none, or it cannot be had.
    """
    if start == "none":
        return None
    if start == "imagenet":
        return imagenet_file(name)
    for candidate in (Path(start), project_around() / start, weights_folder() / Path(start).name):
        if candidate.is_file():
            return candidate
    raise SeamlineError(f"classify.start: there is no file {start!r}; imagenet, none or a file is allowed.")


def imagenet_file(name: str) -> Path:
    if name == LITE0_NAME:
        return lite0_file("classify.start")
    if name.startswith(TIMM):
        raise SeamlineError(
            "classify.start: imagenet is for torchvision's models and EfficientNet-Lite0; of timm's models name a "
            "file of weights, or take none."
        )
    check_torchvision_name(name)
    return torchvision_file(zoo.get_model_weights(name).DEFAULT, weights_folder(), "classify.start")


def licence_of(name: str, start: str) -> str:
    """Of the weights that a training begins with."""
    if start == "none":
        return "none: it was trained from random weights"
    if start != "imagenet":
        return "of the weights that classify.start names"
    return "Apache-2.0" if name == LITE0_NAME else "BSD-3-Clause (torchvision)"


def start_from(module: nn.Module, name: str, path: Path) -> None:
    """Give a backbone the weights in a file, without those of the layers that are not in it.

    Raises:
        SeamlineError: when the file is not of tensors and plain data, or of another network.
    """
    found, _ = read_weights(path)
    if name == LITE0_NAME and "_conv_stem.weight" in found:
        load_in_order(module, found, path)
        return
    own = module.state_dict()
    fitting = {key: tensor for key, tensor in found.items() if key in own and own[key].shape == tensor.shape}
    missing = [key for key in own if key not in fitting and not is_counter(key)]
    if missing:
        raise SeamlineError(f"{path}: is not of {name}: its layer {missing[0]} is missing there, or has another shape.")
    module.load_state_dict({**own, **fitting})


def freeze_up_to(module: nn.Module, stride: int) -> None:
    """Keep the first layers as they are, those whose outputs have this stride at most; 0: none of them."""
    frozen: list[nn.Module] = []
    ended = [stride == 0]
    side = 128

    def look(layer: nn.Module, _: Any, made: Tensor) -> None:
        ended[0] = ended[0] or made.ndim != 4 or side // made.shape[-1] > stride
        if not ended[0]:
            frozen.append(layer)

    leaves = [one for one in module.modules() if any(True for _ in one.parameters(recurse=False))]
    handles = [one.register_forward_hook(look) for one in leaves]
    was_training = module.training
    with torch.no_grad():
        module.eval()(torch.zeros(1, 3, side, side))
    module.train(was_training)
    for handle in handles:
        handle.remove()
    for layer in frozen:
        layer.requires_grad_(False)
