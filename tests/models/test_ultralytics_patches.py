"""What we replace in ultralytics: that the installed version has it, and that a version without it is refused."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import ultralytics
from ultralytics.data import utils
from ultralytics.engine import trainer
from ultralytics.nn import tasks
from ultralytics.utils import SETTINGS, callbacks, checks

from seamline.base.errors import SeamlineError
from seamline.models import ultralytics_patches as patches
from seamline.models.ultralytics_patches import INSTALLS, RESTRICTED, TRAINING, Replaced, replaced_for_training
from seamline.training.yolo_trainer import Trainer

ALL = (*TRAINING, INSTALLS, RESTRICTED)


@pytest.mark.parametrize("one", ALL, ids=lambda one: one.name)
def test_the_installed_ultralytics_has_what_we_replace(one: Replaced) -> None:
    """Fails when an upgrade renames, moves or changes it."""
    assert patches.what_is_lacking(one) is None


def test_every_method_that_our_trainer_overrides_is_checked() -> None:
    inherited = {name for name in vars(Trainer) if hasattr(trainer.BaseTrainer, name) and not name.startswith("__")}
    attributes = {"best_fitness", "fitness"}
    assert inherited - attributes == {one.name.removeprefix("BaseTrainer.") for one in patches.METHODS}
    ours = inspect.getsource(Trainer)  # whose loop runs the other events itself
    events = {name for name in vars(Trainer) if name in callbacks.default_callbacks}
    assert {name for name in events if f'run_callbacks("{name}")' not in ours} == {
        one.name for one in patches.LOOKED_UP
    }


def test_every_method_of_ultralytics_that_our_trainer_calls_is_checked() -> None:
    called = set(re.findall(r"\b(?:self|super\(\))\.(\w+)\(", inspect.getsource(Trainer)))
    private = {name for name in called if name.startswith("_") and not name.startswith("__")}
    checked = {one.name.removeprefix("BaseTrainer.") for one in (*patches.METHODS, *patches.CALLED)}
    assert private | {"optimizer_step"} <= checked


def other(*_: object) -> None: ...


@pytest.mark.parametrize(
    ("module", "name", "new", "lack"),
    [
        (utils, "_replace_image", None, "ultralytics.data.utils has no _replace_image"),
        (utils, "check_font", lambda name: None, "check_font of ultralytics.data.utils takes (name) and not (font)"),
        (utils, "check_image", other, "check_image of ultralytics.data.utils does not use _replace_image"),
        (utils, "check_det_dataset", None, "ultralytics.data.utils has no check_det_dataset"),
        (trainer, "check_amp", None, "ultralytics.engine.trainer has no check_amp"),
        (trainer.BaseTrainer, "optimizer_step", None, "has no BaseTrainer.optimizer_step"),
        (trainer.BaseTrainer, "_model_train", lambda self, mode: None, "takes (self, mode) and not (self)"),
        (trainer.BaseTrainer, "train", other, "does not use BaseTrainer._do_train"),
    ],
)
def test_an_ultralytics_that_lacks_something_is_refused_before_a_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: Any, name: str, new: Any, lack: str
) -> None:
    monkeypatch.setattr(ultralytics, "__version__", "9.0.0")
    if new is None:
        monkeypatch.delattr(module, name)
    else:
        monkeypatch.setattr(module, name, new)
    with (
        pytest.raises(
            SeamlineError, match=rf"ultralytics 9\.0\.0: .*{re.escape(lack)}.*, which Seamline relies on"
        ) as error,
        replaced_for_training(tmp_path),
    ):
        pytest.fail("begun")
    assert "\n" not in str(error.value)


def test_an_ultralytics_that_installs_packages_in_another_way_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(checks, "AUTOINSTALL")
    with (
        pytest.raises(SeamlineError, match=r"ultralytics\.utils\.checks has no AUTOINSTALL"),
        patches.replaced_for_opening(restricted=False),
    ):
        pytest.fail("opened")


@pytest.mark.parametrize("restricted", [True, False])
def test_while_a_file_is_opened_nothing_is_installed_and_a_restricted_one_executes_nothing(restricted: bool) -> None:
    def values() -> tuple[bool, bool]:
        return checks.AUTOINSTALL, tasks.SAFE_LOAD

    before = values()
    with patches.replaced_for_opening(restricted):
        assert values() == (False, True if restricted else before[1])
    assert values() == before


def test_names_are_found_in_functions_inside_a_function_too() -> None:
    def outer() -> object:
        return lambda: print("an event")

    assert {"print", "an event"} <= patches.names_in(outer.__code__)


def test_what_is_replaced_is_restored(tmp_path: Path) -> None:
    before = utils._replace_image, utils.check_font, trainer.check_amp, SETTINGS["weights_dir"]
    with pytest.raises(KeyError), replaced_for_training(tmp_path / "weights"):
        assert SETTINGS["weights_dir"] == str(tmp_path / "weights")
        assert utils.check_font is utils._replace_image is patches.nothing
        raise KeyError
    assert before == (utils._replace_image, utils.check_font, trainer.check_amp, SETTINGS["weights_dir"])


def test_a_training_leaves_the_images_as_they_are(tmp_path: Path) -> None:
    """ultralytics re-encodes a JPEG that has bytes after its end, as some phones write them, in its place."""
    path = tmp_path / "a.jpg"
    cv2.imwrite(str(path), np.zeros((20, 20, 3), np.uint8))
    data = path.read_bytes() + b"phone"
    path.write_bytes(data)
    with replaced_for_training(tmp_path):
        utils.check_image(str(path))
    assert path.read_bytes() == data
    utils.check_image(str(path))
    assert path.read_bytes() != data  # so it would


def test_mixed_precision_is_for_gpus(tmp_path: Path) -> None:
    """On a CPU it would mean bf16, which is slow where the processor has none, and other weights where it has."""
    with replaced_for_training(tmp_path):
        assert trainer.check_amp(torch.nn.Linear(1, 1)) is False


def test_nothing_is_replaced_by_an_import_or_by_a_trainer_of_one_process() -> None:
    assert utils.check_font is not patches.nothing
    assert "replaced" not in vars(Trainer)
