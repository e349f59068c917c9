"""The network that names attributes: a backbone, and a linear layer for each attribute."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from seamline.attributes.backbones import Backbone, build_backbone

FAMILY = "attributes"


class AttributeNetwork(nn.Module):
    """Pictures (n, 3, side, side), normalised, to outputs (n, values of all attributes), attribute by attribute."""

    def __init__(self, backbone: Backbone, sizes: Sequence[int]) -> None:
        super().__init__()
        self.backbone = backbone.module
        self.heads = nn.ModuleList(nn.Linear(backbone.channels, size) for size in sizes)

    def forward(self, pictures: Tensor) -> Tensor:
        return self.named(self.backbone(pictures))

    def named(self, features: Tensor) -> Tensor:
        """The outputs for what the backbone made of pictures, (n, channels)."""
        return torch.cat([head(features) for head in self.heads], dim=1)

    def train(self, mode: bool = True) -> AttributeNetwork:
        """Normalisations keep the statistics of their weights: those of a few garments a batch would say little."""
        super().train(mode)
        for layer in self.modules():
            if isinstance(layer, _BatchNorm):
                layer.eval()
        return self


def build_network(backbone: str, attributes: Mapping[str, Sequence[str]]) -> tuple[AttributeNetwork, Backbone]:
    """With random weights, by torch's own generator.

    Raises:
        SeamlineError: when there is no such backbone.
    """
    found = build_backbone(backbone)
    return AttributeNetwork(found, [len(values) for values in attributes.values()]), found


def weights_to_write(
    network: AttributeNetwork, backbone: str, attributes: Mapping[str, Sequence[str]]
) -> dict[str, Any]:
    """What best.pt holds: plain data, and the weights on the CPU."""
    return {
        "family": FAMILY,
        "backbone": backbone,
        "attributes": {name: list(values) for name, values in attributes.items()},
        "weights": {name: tensor.detach().cpu().clone() for name, tensor in network.state_dict().items()},
    }


def load_network(path: Path) -> AttributeNetwork:
    """The network in a .pt file that a training has stored, for inference."""
    content = torch.load(path, map_location="cpu", weights_only=True)
    network, _ = build_network(content["backbone"], content["attributes"])
    network.load_state_dict(content["weights"])
    return network.eval()
