from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
import yaml
from ultralytics.utils import ROOT as ULTRALYTICS

from seamline.base.errors import SeamlineError
from seamline.training import yolo_weights
from seamline.training.devices import find_device
from seamline.training.history import write_history
from seamline.training.yolo import check_arguments
from seamline.training.yolo_weights import check_weights, find_model
from tests.conftest import PROJECT


@pytest.fixture(autouse=True)
def in_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(PROJECT)


def test_models_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yolo_weights, "check_weights", lambda _: None)
    assert find_model("yolov9t-seg.yaml", tmp_path) == Path("architectures/yolov9t-seg.yaml")
    assert find_model("yolov9c-seg.yaml", tmp_path).name == "yolov9c-seg.yaml"
    assert find_model("yolov8n-seg.yaml", tmp_path) == Path("yolov8n-seg.yaml")  # a size of yolov8-seg.yaml
    (tmp_path / "mine.pt").write_bytes(b"")
    assert find_model(str(tmp_path / "mine.pt"), tmp_path / "w") == tmp_path / "mine.pt"
    assert find_model("mine.pt", tmp_path) == tmp_path / "mine.pt"


def test_weights_of_another_kind_or_broken_are_one_sentence(tmp_path: Path) -> None:
    from ultralytics.nn.tasks import DetectionModel, SegmentationModel

    for name, model in (
        ("seg.pt", SegmentationModel("architectures/yolov9t-seg.yaml", nc=2, verbose=False)),
        ("detect.pt", DetectionModel("yolov8n.yaml", nc=2, verbose=False)),
    ):
        torch.save({"model": model, "train_args": {}, "version": "8", "epoch": -1}, tmp_path / name)
    check_weights(tmp_path / "seg.pt")
    with pytest.raises(SeamlineError, match=r"detect\.pt is a model for the task detect; training needs a -seg model"):
        check_weights(tmp_path / "detect.pt")
    torch.save({"weights": torch.zeros(3)}, tmp_path / "foreign.pt")
    (tmp_path / "cut.pt").write_bytes((tmp_path / "seg.pt").read_bytes()[:5000])
    (tmp_path / "empty.pt").touch()
    for name in ("foreign.pt", "cut.pt", "empty.pt"):
        with pytest.raises(SeamlineError, match=rf"{name} is not a model of ultralytics'") as error:
            check_weights(tmp_path / name)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"mixup": 3}, "train.mixup: 'mixup=3' is an invalid value. Valid 'mixup' values are between 0.0 and 1.0"),
        ({"cache": "disk"}, "train.cache: 'disk' is not allowed; true, false or ram"),
        ({"freeze": 3, "workers": "many"}, "train.workers: 'workers=many' is of invalid type str"),
    ],
)
def test_a_value_that_ultralytics_refuses_is_one_sentence(values: dict[str, object], sentence: str) -> None:
    with pytest.raises(SeamlineError, match=re.escape(sentence)) as error:
        check_arguments(values)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("yolov9q-seg.yaml", "there is no 'yolov9q-seg.yaml'; descriptions are .*yolov9t-seg.yaml"),
        ("yolov9c", "neither a description"),
        (
            "yolov9c-seg.pt",
            r"not be downloaded; put the file there \(https://.*\), or train from scratch with yolov9c-seg.yaml",
        ),
    ],
)
def test_a_model_that_is_not_there_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, sentence: str
) -> None:
    def no_internet(*_: object, **__: object) -> str:
        raise ConnectionError("no internet")

    monkeypatch.setattr(yolo_weights, "attempt_download_asset", no_internet)
    with pytest.raises(SeamlineError, match=sentence):
        find_model(name, tmp_path / "weights")


def test_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert find_device("auto", 8) == find_device("cpu", 8) == "cpu"
    for name in ("0", "gpu"):
        with pytest.raises(SeamlineError, match="this machine has 0 GPUs"):
            find_device(name, 8)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert find_device("auto", 8) == "0"
    assert find_device("1", 8) == "1"
    assert find_device("0, 1", 8) == "0,1"
    with pytest.raises(SeamlineError, match="9 cannot be shared out evenly over the 2 GPUs '0,1'"):
        find_device("0,1", 9)


def test_the_default_model_is_a_yolov9t_with_a_segmentation_head() -> None:
    from ultralytics.nn.tasks import SegmentationModel

    ours = SegmentationModel("architectures/yolov9t-seg.yaml", nc=2, verbose=False)
    theirs = yaml.safe_load((ULTRALYTICS / "cfg/models/v9/yolov9t.yaml").read_text())
    assert ours.yaml["backbone"] == theirs["backbone"]
    assert ours.yaml["head"][:-1] == theirs["head"][:-1]
    assert ours.yaml["head"][-1][2] == "Segment"


def test_history_becomes_two_tables(tmp_path: Path) -> None:
    history = [
        {"epoch": 1, "box_loss": 2.0, "lr": 0.1},
        {"epoch": 2, "box_loss": 1.0, "lr": 0.05, "val_mask_mAP50_95": 0.5},
    ]
    write_history(history, tmp_path / "losses.csv", tmp_path / "validation.csv")
    assert (tmp_path / "losses.csv").read_text() == "epoch,box_loss,lr\n1,2.0,0.1\n2,1.0,0.05\n"
    assert (tmp_path / "validation.csv").read_text() == "epoch,val_mask_mAP50_95\n2,0.5\n"
