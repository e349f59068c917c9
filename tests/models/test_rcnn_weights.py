"""best.pt of an R-CNN holds data and nothing else, in the same bytes each time; what is wrong with another is said."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from seamline.base.errors import SeamlineError
from seamline.inference.detector import Detector
from seamline.models.rcnn_network import build_network
from seamline.models.rcnn_weights import load_network, weights_to_write, write
from tests.untrained_rcnn import BOX, NAMES, UntrainedRcnn, small_architecture


class Code:
    """What runs a command when a pickle with it is opened."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> Any:
        return os.system, (f"touch '{self.folder / 'PWNED'}'",)


@pytest.fixture(scope="module")
def content() -> dict[str, Any]:
    architecture = small_architecture(BOX, 64)
    return weights_to_write(build_network(architecture), architecture, NAMES)


def test_what_is_written_is_what_is_loaded_and_the_same_bytes(content: dict[str, Any], tmp_path: Path) -> None:
    write(content, tmp_path / "best.pt")
    loaded = load_network(tmp_path / "best.pt")
    assert (loaded.architecture, loaded.names) == (small_architecture(BOX, 64), NAMES)
    assert not loaded.network.training
    for name, value in loaded.network.state_dict().items():
        assert torch.equal(value, content["weights"][name]), name
    write(weights_to_write(*loaded), tmp_path / "other name.pt")
    assert (tmp_path / "other name.pt").read_bytes() == (tmp_path / "best.pt").read_bytes()


def test_no_code_is_run(content: dict[str, Any], tmp_path: Path) -> None:
    for hostile in ({**content, "more": Code(tmp_path)}, {**content, "weights": Code(tmp_path)}):
        torch.save(hostile, tmp_path / "hostile.pt")
        for opened in (load_network, Detector):
            with pytest.raises(
                SeamlineError, match=r"hostile\.pt: is opened as tensors and plain data only, and it names"
            ):
                opened(tmp_path / "hostile.pt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Code(tmp_path)))
    with pytest.raises(SeamlineError, match="is opened as tensors and plain data only"):
        load_network(tmp_path / "plain.pt")
    assert not (tmp_path / "PWNED").exists()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"family": "yolo"}, "it does not say family: rcnn"),
        ({"names": ["top"]}, "it names 1 classes, and its network finds 2"),
        ({"names": "top"}, "Expected `array`, got `str`"),
        ({"weights": {"a": 1}}, "its weights are not all tensors"),
        ({"weights": {}}, r"its weights are not those of fasterrcnn_efficientnet_lite0_fpn \(Missing key"),
        ({"architecture": {}}, "missing required field `model`"),
    ],
)
def test_what_does_not_fit_is_one_sentence(
    content: dict[str, Any], changes: dict[str, Any], said: str, tmp_path: Path
) -> None:
    write({**content, **changes}, tmp_path / "mine.pt")
    with pytest.raises(SeamlineError, match=said) as error:
        load_network(tmp_path / "mine.pt")
    assert "\n" not in str(error.value) and str(error.value).endswith(".")


@pytest.mark.parametrize(
    ("name", "value"),
    [("model", "maskrcnn_huge"), ("fpn_channels", 10**9), ("imgsz", 100), ("detections", 0), ("more", 1)],
)
def test_an_architecture_is_within_its_bounds(content: dict[str, Any], name: str, value: Any, tmp_path: Path) -> None:
    write({**content, "architecture": {**content["architecture"], name: value}}, tmp_path / "mine.pt")
    with pytest.raises(SeamlineError, match="does not hold an R-CNN of Seamline's: "):
        load_network(tmp_path / "mine.pt")


def test_of_another_size_is_one_sentence(content: dict[str, Any], tmp_path: Path) -> None:
    write({**content, "architecture": {**content["architecture"], "fpn_channels": 32}}, tmp_path / "mine.pt")
    with pytest.raises(SeamlineError, match=r"its weights are not those of .* \(size mismatch for ") as error:
        load_network(tmp_path / "mine.pt")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kept", [0, 5, 4000, 0.5])
def test_a_damaged_file_is_one_sentence(mask_rcnn: UntrainedRcnn, kept: float, tmp_path: Path) -> None:
    whole = mask_rcnn.weights.read_bytes()
    (tmp_path / "mine.pt").write_bytes(whole[: int(kept * len(whole)) if kept < 1 else int(kept)])
    with pytest.raises(SeamlineError, match=r"mine\.pt: is damaged, or was not written by torch\.save"):
        load_network(tmp_path / "mine.pt")
    with pytest.raises(SeamlineError, match=r"mine\.pt: cannot be opened as a model"):
        Detector(tmp_path / "mine.pt")


def test_a_file_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(SeamlineError, match=r"none\.pt: cannot be read \(No such file or directory\)"):
        load_network(tmp_path / "none.pt")
