"""Weights and descriptions of models from strangers: whatever is in them, nothing of it is executed."""

from __future__ import annotations

import functools
import os
import pickle
import warnings
import zipfile
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from ultralytics.nn import tasks
from ultralytics.nn.distill_model import DistillationModel
from ultralytics.nn.modules import Conv
from ultralytics.utils import checks

from seamline.base.errors import SeamlineError
from seamline.base.process import SAFE_LOAD, quiet_environment
from seamline.export.yolo import weights_to_onnx
from seamline.models.engines.opening import open_engine
from seamline.models.weights import calls_of, load_weights
from seamline.training.yolo_trainer import Trainer
from seamline.training.yolo_weights import check_weights
from tests.untrained import Untrained


class Calls:
    """An object that is pickled as a call of something with arguments."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.call


class Rebuilt:
    """One that is pickled as a class without its constructor and a state that is put into it."""

    def __init__(self, function: Any, state: Any) -> None:
        self.made = (function, (), state)

    def __reduce__(self) -> tuple[Any, tuple[Any, ...], Any]:
        return self.made


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    """What the hostile files make when they are executed."""
    return tmp_path / "PWNED"


@pytest.fixture(autouse=True)
def safe_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SAFE_LOAD, raising=False)
    # As where a program of the user's has imported ultralytics before us.
    monkeypatch.setattr(tasks, "SAFE_LOAD", False)


def checkpoint_of(model: Any = None, **more: Any) -> dict[str, Any]:
    """What a .pt file of ultralytics' holds, around as small a model as there is."""
    return {"model": model or Conv(3, 4), "train_args": {"imgsz": 32}, "version": "8", "epoch": -1, **more}


def in_the_file(bad: Any, path: Path) -> None:
    torch.save(checkpoint_of(note=bad), path)


def in_place_of_the_model(bad: Any, path: Path) -> None:
    torch.save(checkpoint_of(bad), path)


def as_an_attribute(bad: Any, path: Path) -> None:
    model = Conv(3, 4)
    model.fuse = bad
    torch.save(checkpoint_of(model), path)


def in_the_description(bad: Any, path: Path) -> None:
    model = Conv(3, 4)
    model.yaml = {"head": [[bad, bad]], "backbone": bad}
    torch.save(checkpoint_of(model), path)


def as_an_old_file(bad: Any, path: Path) -> None:
    torch.save(checkpoint_of(note=bad), path, _use_new_zipfile_serialization=False)


def as_a_pickle(bad: Any, path: Path) -> None:
    path.write_bytes(pickle.dumps(bad))


def as_a_pickle_of_protocol_0(bad: Any, path: Path) -> None:
    path.write_bytes(pickle.dumps(bad, protocol=0))


def behind_a_second_name(bad: Any, path: Path) -> None:
    """Two members of the same name, of which readers of zip files take different ones."""
    torch.save(checkpoint_of(), path)
    with zipfile.ZipFile(path) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist()]
    name = next(name for name, _ in members if name.endswith("/data.pkl"))
    with warnings.catch_warnings(action="ignore"), zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for member, data in [(name, pickle.dumps(checkpoint_of(bad), protocol=2)), *members]:
            archive.writestr(member, data)


PLACES = [
    in_the_file, in_place_of_the_model, as_an_attribute, in_the_description, as_an_old_file, as_a_pickle,
    as_a_pickle_of_protocol_0, behind_a_second_name,
]  # fmt: skip
TRICKS: dict[str, Callable[[Path], Any]] = {
    "system": lambda marker: Calls(os.system, f"touch {marker}"),
    "eval": lambda marker: Calls(eval, f"open({str(marker)!r}, 'w')"),
    "getattr": lambda marker: Calls(getattr, str, "format"),
    "writer": lambda marker: Calls(Path.write_text, marker, "x"),
    "numpy": lambda marker: Calls(np.save, str(marker), np.zeros(1)),
    "jit": lambda marker: Calls(torch.jit.load, str(marker)),
    "hook": lambda marker: Calls(functools.partial, os.system, f"touch {marker}"),
    # Permitted by ultralytics: makes a model by calling a class, which looks a file up by its name, or fetches it.
    "layers": lambda marker: Calls(tasks.SegmentationModel, str(marker.with_name("hostile.yaml"))),
    "teacher": lambda marker: Calls(DistillationModel, str(marker.with_name("hostile.pt")), Conv(3, 4)),
}


@pytest.mark.parametrize("trick", TRICKS)
@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.__name__)
def test_no_weights_are_executed(place: Callable[[Any, Path], None], trick: str, tmp_path: Path, marker: Path) -> None:
    path = tmp_path / "foreign.pt"
    place(TRICKS[trick](marker), path)
    in_place_of_the_model(TRICKS["system"](marker), tmp_path / "hostile.pt")
    (tmp_path / "hostile.yaml").write_text(f"activation: __import__('os').system('touch {marker}')")
    with pytest.raises((SeamlineError, TypeError)) as error:
        load_weights(path)
    assert not marker.exists()
    if place is not as_a_pickle_of_protocol_0:
        assert isinstance(error.value, SeamlineError)
        assert str(error.value).endswith(
            "set ULTRALYTICS_SAFE_LOAD=0 if you trust whoever made it: its code is run then."
        )
        assert "\n" not in str(error.value)


def test_who_trusts_a_file_says_so(tmp_path: Path, marker: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And so the test above can fail."""
    in_the_file(TRICKS["system"](marker), tmp_path / "mine.pt")
    for value in ("1", "", "maybe"):
        monkeypatch.setenv(SAFE_LOAD, value)
        with pytest.raises(SeamlineError, match=r"mine\.pt: is opened as data only, and it names posix\.system; set"):
            load_weights(tmp_path / "mine.pt")
        assert not marker.exists()
    monkeypatch.setenv(SAFE_LOAD, "0")
    load_weights(tmp_path / "mine.pt")
    assert marker.exists()


def test_a_process_of_ours_keeps_what_the_user_has_said(monkeypatch: pytest.MonkeyPatch) -> None:
    for value, expected in ((None, "1"), ("", "1"), ("0", "0"), ("1", "1")):
        if value is not None:
            monkeypatch.setenv(SAFE_LOAD, value)
        quiet_environment()
        assert os.environ[SAFE_LOAD] == expected


def test_others_use_of_ultralytics_stays_theirs(tmp_path: Path) -> None:
    torch.save(checkpoint_of(), tmp_path / "mine.pt")
    load_weights(tmp_path / "mine.pt")
    assert tasks.SAFE_LOAD is False


def test_every_opener_refuses(tmp_path: Path, marker: Path) -> None:
    path = tmp_path / "foreign.pt"
    in_the_file(TRICKS["system"](marker), path)
    openers: dict[str, Callable[[], Any]] = {
        "predictions": lambda: open_engine(path, threads=1),
        "train": lambda: check_weights(path),
        "export": lambda: weights_to_onnx(path, tmp_path / "model.onnx", 17, {"imgsz": "32"}),
    }
    for opener in openers.values():
        with pytest.raises(SeamlineError, match=r"foreign\.pt: is opened as data only, and it names"):
            opener()
    assert not marker.exists()


def test_no_package_is_installed_for_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Quantised weights need a package of their own, which ultralytics would have pip install."""
    started: list[Any] = []
    for name in ("AUTOINSTALL", "ONLINE"):
        monkeypatch.setattr(checks, name, True)
    monkeypatch.setattr(checks.subprocess, "check_output", lambda *words, **_: started.append(words))
    torch.save(checkpoint_of(modelopt={"modelopt": {}, "ranges": {}}), tmp_path / "quantised.pt")
    for trusted in ("1", "0"):
        monkeypatch.setenv(SAFE_LOAD, trusted)
        with pytest.raises(SeamlineError, match="modelopt"):
            open_engine(tmp_path / "quantised.pt", threads=1)
    assert not started
    assert checks.AUTOINSTALL is True


@pytest.mark.filterwarnings("ignore:`torch.jit")
def test_torchscript_and_damaged_files_are_no_models(tmp_path: Path, marker: Path) -> None:
    torch.jit.save(torch.jit.script(torch.nn.Linear(1, 1)), str(tmp_path / "script.pt"))
    (tmp_path / "empty.pt").touch()
    (tmp_path / "page.pt").write_text("<html>")
    with zipfile.ZipFile(tmp_path / "zip.pt", "w") as archive:
        archive.writestr("zip/readme", "x")
    for name in ("script.pt", "empty.pt", "page.pt", "zip.pt"):
        with pytest.raises(SeamlineError, match=rf"{name}: cannot be opened as a model"):
            open_engine(tmp_path / name, threads=1)


def test_a_file_of_torch_calls_no_layer(untrained: Untrained) -> None:
    data = torch._C.PyTorchFileReader(str(untrained.weights)).get_record("data.pkl")
    names = {f"{module}.{name}" for module, name in calls_of(data)}
    assert names <= {
        "__builtin__.set",
        "torch.Size",
        "torch._utils._rebuild_parameter",
        "torch._utils._rebuild_tensor_v2",
    }
    model, checkpoint = load_weights(untrained.weights)
    assert type(model).__name__ == "SegmentationModel" and checkpoint["train_args"]["imgsz"]


def described(folder: Path, **changes: Any) -> Path:
    path = folder / "mine-seg.yaml"
    plain = {
        "nc": 1,
        "backbone": [[-1, 1, "Conv", [8, 3, 2]], [-1, 1, "Conv", [16, 3, 2]]],
        "head": [[[0, 1], 1, "Segment", ["nc", 4, 8]]],
    }
    path.write_text(yaml.safe_dump({**plain, **changes}), encoding="utf-8")
    return path


def build(path: Path) -> Any:
    """As a training does."""
    trainer = Trainer.__new__(Trainer)
    trainer.args = SimpleNamespace(model=str(path), pretrained=False, distill_model=None)
    trainer.device = torch.device("cpu")
    trainer.model, trainer.resume, trainer.data = str(path), False, {"nc": 1, "channels": 3}
    trainer.setup_model()
    return trainer.model


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"activation": "__import__('os').system('touch PWNED')"}, "activation '__import__"),
        ({"activation": "nn.SiLU(inplace=__import__('os').system('touch PWNED'))"}, "activation 'nn.SiLU"),
        ({"activation": "[open('PWNED', 'w') for _ in 'x'][0] and nn.SiLU()"}, "activation '"),
        ({"activation": "nn.init.constant_(1, 2)"}, "activation 'nn.init"),
        ({"backbone": [[-1, 1, "torch_safe_load", ["hostile.pt"]]]}, "module '<function torch_safe_load"),
        ({"backbone": [[-1, 1, "load_checkpoint", ["hostile.pt"]]]}, "module '<function load_checkpoint"),
        ({"backbone": [[-1, 1, "check_requirements", ["evil"]]]}, "module '"),
        ({"backbone": [[-1, 1, "Path", ["PWNED"]]]}, "module '"),
    ],
)
def test_no_description_is_executed(changes: Any, named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    in_the_file(TRICKS["system"](tmp_path / "PWNED"), tmp_path / "hostile.pt")
    with pytest.raises(SeamlineError, match="is opened as data only, and it names") as error:
        build(described(tmp_path, **changes))
    assert (
        named in str(error.value) and "\n" not in str(error.value) and "set ULTRALYTICS_SAFE_LOAD=0" in str(error.value)
    )
    assert not (tmp_path / "PWNED").exists()
    assert tasks.SAFE_LOAD is False


def test_the_description_inside_weights_is_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A training makes its model from it, and ultralytics finds the task in it."""
    monkeypatch.chdir(tmp_path)
    model = build(described(tmp_path))
    for key, value in (
        ("activation", "__import__('os').system('touch PWNED')"),
        ("head", [[-1, 1, "__import__('os').system('touch PWNED')", []]]),
        ("backbone", [[-1, 1, "torch_safe_load", ["hostile.pt"]]]),
    ):
        changed = deepcopy(model)
        changed.yaml = {**model.yaml, key: value}
        torch.save(checkpoint_of(changed), tmp_path / "mine.pt")
        load_weights(tmp_path / "mine.pt")  # what is in the weights is the model, made already
        with pytest.raises((SeamlineError, KeyError)):
            check_weights(tmp_path / "mine.pt")
            build(tmp_path / "mine.pt")
        assert not (tmp_path / "PWNED").exists()


def test_no_tag_of_yaml_makes_an_object(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = described(tmp_path)
    path.write_text(path.read_text() + "activation: !!python/object/apply:os.system ['touch PWNED']\n")
    with pytest.raises(ValueError, match="could not determine a constructor"):
        build(path)
    assert not (tmp_path / "PWNED").exists()


@pytest.mark.parametrize("activation", ["nn.SiLU()", "torch.nn.LeakyReLU(0.1)", "nn.ReLU(inplace=True)"])
def test_plain_descriptions_are_built(activation: str, tmp_path: Path) -> None:
    model = build(described(tmp_path, activation=activation))
    assert type(model.model[0].act).__name__ == activation.partition("(")[0].rpartition(".")[2]


def test_an_ultralytics_that_cannot_open_as_data_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save(checkpoint_of(), tmp_path / "mine.pt")
    monkeypatch.delattr(tasks, "SAFE_LOAD")
    with pytest.raises(SeamlineError, match="cannot open it as data only; install newer ones, or set"):
        load_weights(tmp_path / "mine.pt")
