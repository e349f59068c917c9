"""Backbones of R-CNNs that torchvision does not put together: features at strides 8, 16 and 32, and a slim pyramid."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor, nn
from torchvision.models import mobilenet_v3_large
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.ops import FeaturePyramidNetwork, FrozenBatchNorm2d
from torchvision.ops.misc import Conv2dNormActivation

STRIDES = (8, 16, 32)
Norm = Callable[..., nn.Module]


class Stage(NamedTuple):
    """Blocks of EfficientNet-Lite0 that put out equally many channels."""

    blocks: int
    kernel: int
    stride: int  # of the first one
    expansion: int
    channels: int


# EfficientNet-B0's, without squeeze and excitation and with ReLU6 (Liu 2020, Higher accuracy on vision models with
# EfficientNet-Lite, TensorFlow's blog).
LITE0_STEM = 32
LITE0 = (
    Stage(1, 3, 1, 1, 16), Stage(2, 3, 2, 6, 24), Stage(2, 5, 2, 6, 40), Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112), Stage(4, 5, 2, 6, 192), Stage(1, 3, 1, 6, 320),
)  # fmt: skip
LITE0_MEAN, LITE0_STD = 127 / 255, 128 / 255  # of the images that its ImageNet weights were trained with
LITE0_EPS = MOBILENET_EPS = 1e-3  # of the normalisations that their ImageNet weights were trained with


class PyramidBackbone(nn.Module):
    """A body's features of strides 8, 16 and 32 as maps "0", "1" and "2" of equally many channels."""

    def __init__(self, body: nn.Module, layers: dict[str, int], out_channels: int) -> None:
        """layers: names of the body's children whose outputs are taken, finest first, and their channels."""
        super().__init__()
        self.body = IntermediateLayerGetter(body, {name: str(level) for level, name in enumerate(layers)})
        self.fpn = FeaturePyramidNetwork(list(layers.values()), out_channels)
        self.out_channels = out_channels

    def forward(self, tensor: Tensor) -> dict[str, Tensor]:
        maps: dict[str, Tensor] = self.fpn(self.body(tensor))
        return maps


class SamePad(nn.ZeroPad2d):
    """TensorFlow's padding of a convolution that halves an even number of rows: one more behind than before."""

    def __init__(self, kernel: int) -> None:
        before, behind = (kernel - 2) // 2, (kernel - 1) // 2
        super().__init__((before, behind, before, behind))


class LiteBlock(nn.Module):
    """A mobile inverted bottleneck: channels are expanded, filtered each alone, and brought down again."""

    def __init__(self, channels: int, stage: Stage, stride: int, norm: Norm) -> None:
        super().__init__()
        wide = channels * stage.expansion
        layers: list[nn.Module] = [] if stage.expansion == 1 else [pointwise(channels, wide, norm, nn.ReLU6)]
        layers += [*filters(wide, wide, stage.kernel, stride, norm, groups=wide)]
        self.layers = nn.Sequential(*layers, pointwise(wide, stage.channels, norm, None))
        self.is_residual = stride == 1 and channels == stage.channels

    def forward(self, tensor: Tensor) -> Tensor:
        made: Tensor = self.layers(tensor)
        return tensor + made if self.is_residual else made


def pointwise(channels: int, out: int, norm: Norm, activation: type[nn.Module] | None) -> nn.Module:
    layer: nn.Module = Conv2dNormActivation(channels, out, 1, norm_layer=norm, activation_layer=activation)
    return layer


def filters(channels: int, out: int, kernel: int, stride: int, norm: Norm, groups: int = 1) -> list[nn.Module]:
    own = {"norm_layer": norm, "activation_layer": nn.ReLU6, "groups": groups}
    if stride == 1:
        return [Conv2dNormActivation(channels, out, kernel, **own)]
    return [SamePad(kernel), Conv2dNormActivation(channels, out, kernel, stride, padding=0, **own)]


def lite0_features(norm: Norm) -> nn.Sequential:
    """EfficientNet-Lite0 up to its last block, a child a stage: "0" is the stem, "3", "5" and "7" end a stride.

    Its convolutions and normalisations come in the order of the original's, in which its weights are stored.
    """
    stages: list[nn.Module] = [nn.Sequential(*filters(3, LITE0_STEM, 3, 2, norm))]
    channels = LITE0_STEM
    for stage in LITE0:
        blocks = []
        for number in range(stage.blocks):
            blocks.append(LiteBlock(channels, stage, 1 if number else stage.stride, norm))
            channels = stage.channels
        stages.append(nn.Sequential(*blocks))
    return nn.Sequential(*stages)


def lite0_backbone(out_channels: int, frozen_norm: bool) -> PyramidBackbone:
    norm = norm_layer(frozen_norm, LITE0_EPS)
    return PyramidBackbone(lite0_features(norm), {"3": 40, "5": 112, "7": 320}, out_channels)


def mobilenet_backbone(out_channels: int, frozen_norm: bool) -> PyramidBackbone:
    """torchvision's MobileNetV3-Large, the names of its ImageNet weights' features included."""
    features = mobilenet_v3_large(weights=None, norm_layer=norm_layer(frozen_norm, MOBILENET_EPS)).features
    return PyramidBackbone(features, {"6": 40, "12": 112, "16": 960}, out_channels)


def norm_layer(frozen: bool, eps: float) -> Norm:
    return functools.partial(FrozenBatchNorm2d if frozen else nn.BatchNorm2d, eps=eps)
