"""R-CNNs are torchvision's: its weights fit, and what a module of fixed shapes finds is what torchvision's own does."""

from __future__ import annotations

import typing
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from torchvision.models import detection
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.ops import roi_align

from seamline.base.errors import SeamlineError
from seamline.models import rcnn_inference
from seamline.models.rcnn_inference import fuse
from seamline.models.rcnn_network import (
    TORCHVISION_STRIDES,
    Architecture,
    Model,
    build_network,
    default_anchors,
    network_to_module,
)
from tests.untrained_rcnn import small_architecture, spread_network

MODELS = typing.get_args(Model)
IMGSZ = 96


@pytest.mark.parametrize("model", TORCHVISION_STRIDES)
def test_torchvisions_weights_fit_its_models(model: Model) -> None:
    theirs = getattr(detection, model)(weights=None, weights_backbone=None, num_classes=91).state_dict()
    network = build_network(Architecture(model, 90, 320, default_anchors(model, 320)))
    assert {name: value.shape for name, value in network.state_dict().items()} == {
        name: value.shape for name, value in theirs.items()
    }
    network.load_state_dict(theirs)
    frozen = build_network(Architecture(model, 90, 320, default_anchors(model, 320), frozen_norm=True))
    frozen.load_state_dict(theirs)
    assert not any(".body." in name and "num_batches" in name for name in frozen.state_dict())


@pytest.mark.parametrize("model", MODELS)
def test_a_module_finds_what_torchvision_finds(model: Model) -> None:
    """Bit for bit, several images at once, and nothing is resized. Of equal scores the order is anybody's."""
    architecture = msgspec.structs.replace(small_architecture(model, IMGSZ), detections=100)  # all that there are
    canvases = torch.rand(2, 3, IMGSZ, IMGSZ, generator=torch.Generator().manual_seed(1))
    canvases[1, :, 30:60, 20:70] = 0.1
    with torch.inference_mode():
        network = spread_network(architecture, canvases, scores=1, blind_to_grey=False)
        theirs = outputs_of_torchvision(network, canvases)
        ours = network_to_module(network, architecture)(canvases)
    assert len(ours) == (4 if architecture.has_masks else 3)
    for their, *own in zip(theirs, *ours, strict=True):
        count = len(their["scores"])
        assert count > 5
        assert not any(part[count:].any() for part in own)
        expected = [their["boxes"], their["scores"], their["labels"] - 1]
        if architecture.has_masks:
            expected.append(their["masks"][:, 0])
        for part, same in zip(in_order(*own, count=count), in_order(*expected, count=count), strict=True):
            np.testing.assert_array_equal(part, same)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e30])
def test_weights_that_a_training_has_driven_apart_find_nothing(value: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such boxes would have roi_align read outside of its memory, and end the process."""
    pooled: list[bool] = []

    def checked(features: torch.Tensor, rois: torch.Tensor, *rest: Any) -> torch.Tensor:
        pooled.append(bool(rois.isfinite().all()) and float(rois[:, 1:].abs().max()) <= IMGSZ)
        assert pooled[-1]
        aligned: torch.Tensor = roi_align(features, rois, *rest)
        return aligned

    monkeypatch.setattr(rcnn_inference, "roi_align", checked)
    architecture = small_architecture("maskrcnn_efficientnet_lite0_fpn", IMGSZ)
    network = build_network(architecture).eval()
    with torch.no_grad():
        network.rpn.head.bbox_pred.weight.fill_(value)
        network.roi_heads.box_predictor.bbox_pred.weight.fill_(value)
        network.roi_heads.box_predictor.cls_score.weight.fill_(value)
        _, scores, *_ = network_to_module(network, architecture)(torch.rand(2, 3, IMGSZ, IMGSZ))
    assert pooled
    assert not (scores > 0).any()


def in_order(boxes: torch.Tensor, scores: torch.Tensor, *others: torch.Tensor, count: int) -> list[Any]:
    """The first ones by their scores, and by their boxes where these are equal."""
    keys = np.lexsort((*boxes[:count].T.numpy(), -scores[:count].numpy()))
    assert (np.diff(scores[:count].numpy()) <= 0).all()
    return [part[:count].numpy()[keys] for part in (boxes, scores, *others)]


def outputs_of_torchvision(network: Any, canvases: torch.Tensor) -> list[dict[str, torch.Tensor]]:
    """What its heads put out for each image, before masks are pasted."""
    found: list[Any] = []
    heads: RoIHeads = network.roi_heads
    hook = heads.register_forward_hook(lambda _module, _inputs, output: found.extend(map(dict, output[0])))
    network(list(canvases))
    hook.remove()
    return found


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("model", ["fasterrcnn_resnet50_fpn_v2", "maskrcnn_efficientnet_lite0_fpn"])
def test_fused_convolutions_give_the_same_without_normalisations(model: Model, frozen: bool) -> None:
    network = build_network(small_architecture(model, IMGSZ)).eval()
    for name, value in network.state_dict().items():
        if "running_var" in name:
            value.copy_(torch.rand(value.shape) + 0.5)
    if frozen:
        other = build_network(small_architecture(model, IMGSZ, frozen_norm=True)).eval()
        other.load_state_dict(network.state_dict(), strict=False)
        network = other
    canvas = torch.rand(1, 3, IMGSZ, IMGSZ)
    with torch.inference_mode():
        before = network.backbone(canvas)
        fuse(network)
        after = network.backbone(canvas)
    assert not [name for name in network.state_dict() if "running_var" in name]
    for name, own in before.items():
        torch.testing.assert_close(after[name], own, rtol=1e-3, atol=1e-3 * float(own.abs().max()))


def test_training_gives_torchvisions_losses() -> None:
    architecture = small_architecture("maskrcnn_efficientnet_lite0_fpn", IMGSZ)
    network = build_network(architecture)
    target = {
        "boxes": torch.tensor([[10.0, 10, 80, 90]]),
        "labels": torch.tensor([1]),
        "masks": torch.ones(1, IMGSZ, IMGSZ, dtype=torch.uint8),
    }
    losses = network(list(torch.rand(2, 3, IMGSZ, IMGSZ)), [target, target])
    names = {"loss_classifier", "loss_box_reg", "loss_mask", "loss_objectness", "loss_rpn_box_reg"}
    assert set(losses) == names
    sum(losses.values()).backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


@pytest.mark.parametrize("imgsz", [160, 640])
@pytest.mark.parametrize("model", ["maskrcnn_mobilenet_v3_large_fpn", "fasterrcnn_efficientnet_lite0_fpn"])
def test_anchors_of_light_models_are_shares_of_the_input(model: Model, imgsz: int) -> None:
    """So that garments that fill a small photo have anchors, and those that are a twentieth of a large one."""
    sides = [side for sides in default_anchors(model, imgsz) for side in sides]
    assert sides == sorted(sides)
    assert sides[0] <= imgsz / 20
    assert sides[-1] >= 0.8 * imgsz
    assert all(after / before < 2 for before, after in pairwise(sides))


@pytest.mark.parametrize(
    ("model", "anchors", "said"),
    [
        ("maskrcnn_efficientnet_lite0_fpn", [[8.0]], "has 3 feature maps; each needs equally many sides"),
        ("maskrcnn_efficientnet_lite0_fpn", [[8.0], [16.0], [32.0, 64.0]], "has 3 feature maps"),
        ("maskrcnn_efficientnet_lite0_fpn", [[], [], []], "has 3 feature maps"),
        ("maskrcnn_resnet50_fpn_v2", [[8.0, 9.0]] * 5, "needs 1 side of anchors for each feature map"),
        ("fasterrcnn_mobilenet_v3_large_320_fpn", [[8.0]] * 3, "needs 5 sides of anchors"),
    ],
)
def test_anchors_that_do_not_fit_are_one_sentence(model: Model, anchors: list[list[float]], said: str) -> None:
    with pytest.raises(SeamlineError, match=said):
        build_network(Architecture(model, 2, 96, anchors))
