"""EfficientNet-Lite0 as an embedder: its vectors beside timm's, its files' bytes, and the stage that makes them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
import yaml

from seamline.base.errors import SeamlineError
from seamline.export.embedder import check_vectors, towers_of, write_onnx, write_openvino
from seamline.export.gates import Drifted
from seamline.export.towers import Towers
from seamline.inference.embedder import Embedder, with_length_1
from seamline.models.embedder_facts import facts_to_identity
from seamline.models.engines.pytorch import torch_threads
from seamline.models.lite0 import lite0_file
from seamline.params.embed import Embed, EmbedInt8
from stages import embed as stage
from tests.conftest import PARAMS, merged, write_dataset

IMGSZ = 64


def settings(sha256: str | None = None) -> Embed:
    return Embed("efficientnet-lite0", None, sha256, IMGSZ, "keep", 0.05, EmbedInt8(8, 0.05, "val"))


@pytest.fixture(scope="module")
def towers() -> Towers:
    return towers_of(settings())


def test_the_weights_are_what_they_are_said_to_be(towers: Towers) -> None:
    assert towers_of(settings(towers.facts.weights_sha256)).facts == towers.facts
    with pytest.raises(SeamlineError, match=r"embed\.sha256: the weights of efficientnet-lite0 have the hash 57934424"):
        towers_of(settings("0" * 64))


def test_vectors_are_those_of_timms_network(towers: Towers, tmp_path: Path) -> None:
    import timm

    network: Any = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    found = torch.load(lite0_file("embed.model"), map_location="cpu", weights_only=True)
    own = network.state_dict()
    network.load_state_dict(dict(zip(own, found.values(), strict=True)))
    tensor = np.random.default_rng(0).standard_normal((3, 3, IMGSZ, IMGSZ)).astype(np.float32)
    with torch.inference_mode(), torch_threads(1):
        given = torch.from_numpy(tensor)
        expected = with_length_1(network.forward_head(network.forward_features(given), pre_logits=True).numpy())
    for folder in ("onnx", "openvino", "again"):
        (tmp_path / folder).mkdir()
    write_onnx(towers, tmp_path / "onnx")
    write_openvino(tmp_path / "onnx", towers.facts, tmp_path / "openvino")
    for path in (tmp_path / "onnx", tmp_path / "openvino"):
        embedder = Embedder(path, 1)
        assert embedder.facts.dimension == 1280
        np.testing.assert_allclose(embedder.embed_tensor(tensor), expected, atol=1e-4)
    write_onnx(towers, tmp_path / "again")
    assert (tmp_path / "again" / "model.onnx").read_bytes() == (tmp_path / "onnx" / "model.onnx").read_bytes()
    other = towers._replace(image=lambda tensor: torch.ones(1, 1280))
    with pytest.raises(Drifted, match=r"onnx: a vector's cosine with PyTorch's is 0\.\d+, and at least 0\.9999"):
        check_vectors("onnx", Embedder(tmp_path / "onnx", 1), other, [tensor[:1]])


def tiny_towers(wanted: Embed) -> Towers:
    """Two convolutions nobody trained, which take a moment to export and to quantise."""
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, 2), torch.nn.ReLU(), torch.nn.Conv2d(8, 16, 3, 2),
        torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(),
    )  # fmt: skip
    facts = towers_of(wanted).facts
    return Towers(msgspec.structs.replace(facts, name="tiny", dimension=16), network.eval())


def write_splits(root: Path) -> None:
    coco = json.loads((write_dataset(root / "data", 12) / "instances.json").read_text())
    (root / "split").mkdir()
    groups: dict[str, int] = {}
    for name, chosen in (("train", range(1, 7)), ("val", range(7, 13))):
        images = [image for image in coco["images"] if image["id"] in chosen]
        own = [one for one in coco["annotations"] if one["image_id"] in chosen]
        (root / "split" / f"{name}.json").write_text(
            json.dumps({"images": images, "annotations": own, "categories": coco["categories"]})
        )
        groups |= {str(image["id"]): image["pair_id"] for image in images}
    (root / "split" / "groups.json").write_text(json.dumps(groups))


@pytest.mark.parametrize("model", ["tiny", pytest.param("lite0", marks=pytest.mark.thorough)])
def test_the_stage_makes_every_format_and_says_what_it_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], model: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_splits(tmp_path)
    changes = {"embed": {"imgsz": IMGSZ, "int8": {"calibration_garments": 4}}}
    Path("params.yaml").write_text(yaml.safe_dump(merged(yaml.safe_load(PARAMS.read_text()), changes)))
    if model == "tiny":
        monkeypatch.setattr(stage, "towers_of", tiny_towers)
    monkeypatch.setattr(sys, "argv", ["stages.embed", "split", "data/photos", "models"])
    stage.main()
    said = capsys.readouterr().out
    report = json.loads(Path("models-report.json").read_text())
    assert report["int8_outcome"] == "not known"
    assert report["int8_said"] in said
    assert report["calibration_garments"] == 4
    assert report["int8_gate"] == {"on": "val", "images": 6, "groups": 3, "left_out": 0}
    assert min(report["smallest_cosine"].values()) > 0.9999
    embedders = {name: Embedder(Path("models") / name, 1) for name in ("onnx", "openvino", "openvino_int8")}
    assert embedders["onnx"].identity == embedders["openvino"].identity == report["identity"]
    assert embedders["openvino_int8"].identity != report["identity"]
    assert {name: one.precision for name, one in embedders.items()} == {
        "onnx": "f32", "openvino": "f32", "openvino_int8": "int8",
    }  # fmt: skip
    assert facts_to_identity(embedders["onnx"].facts) == report["identity"]
    before = {path: path.read_bytes() for path in Path("models").rglob("model.*")}
    assert len(before) == 5
    stage.main()
    assert {path: path.read_bytes() for path in before} == before
