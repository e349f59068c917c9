"""Weights of an earlier version are taken over whole and said to be so, or refused with the reason."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from seamline.base.errors import SeamlineError
from seamline.base.files import read_json, write_json
from seamline.base.processors import note_processor, processor_of_training
from seamline.experiments.taking_over import check_weights, read_made, take_over
from seamline.training import run, yolo
from seamline.training.history import write_history
from tests.conftest import PROJECT, Project
from tests.training.conftest import data  # noqa: F401
from tests.training.test_run import small_params
from tests.untrained import IMGSZ, NAMES, Untrained

HISTORY = [
    {"epoch": 1, "box_loss": 1.25, "seg_loss": 3.5, "lr": 0.002},
    {"epoch": 2, "box_loss": 1.0, "seg_loss": 3.00001, "lr": 1e-05, "val_box_mAP50": 0.5, "val_mask_mAP50_95": 0.12345},
]


class Earlier(NamedTuple):
    """What an earlier version has left."""

    folder: Path
    report: Path
    data: tuple[Path, Path]
    scratch: Path

    def take(self, **changes: Any) -> Path:
        return take_over(small_params(**changes), self.folder, self.report, self.data, self.scratch)


@pytest.fixture
def earlier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: tuple[Path, Path]) -> Earlier:  # noqa: F811
    monkeypatch.chdir(PROJECT)
    identity = run.identity_of_params(small_params(), *data)
    origin = {"training_revision": identity.revision, "data_sha256": identity.data_sha256}
    folder, report = tmp_path / "models" / "train", tmp_path / "reports" / "train"
    write_json(folder / "training.json", origin)
    (folder / "best.pt").write_bytes(b"of before")
    write_history(HISTORY, report / "losses.csv", report / "validation.csv")
    summary = {"model": "x.yaml", "epochs": 2, "best_epoch": 2, "resumed_after_epochs": [1], "threads": 3, **origin}
    write_json(report / "summary.json", {**summary, "device": "CPU, of before"})
    return Earlier(folder, report, data, tmp_path / "scratch")


def test_train_takes_them_with_what_is_known_of_them_and_trains_nothing(
    earlier: Earlier, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stored = earlier.take()
    monkeypatch.setattr(yolo, "train", lambda *_: pytest.fail("it trains"))
    with run.finished_training(small_params(), *earlier.data, earlier.scratch) as training:
        assert training.weights == stored / "best.pt"
        assert training.weights.read_bytes() == b"of before"
        assert training.facts == {
            **read_json(earlier.folder / "training.json"),
            "best_epoch": 2, "resumed_after": [1], "threads": 3, "device": "CPU, of before", "taken_over": True,
        }  # fmt: skip
        assert training.history == HISTORY
        write_history(training.history, tmp_path / "losses.csv", tmp_path / "validation.csv")
    for name in ("losses.csv", "validation.csv"):
        assert (tmp_path / name).read_bytes() == (earlier.report / name).read_bytes()
    assert (earlier.folder / "best.pt").read_bytes() == b"of before"
    assert earlier.take() == stored
    (earlier.folder / "best.pt").write_bytes(b"others")
    with pytest.raises(SeamlineError, match="has other weights of this training; `make clear-trainings` deletes them"):
        earlier.take()


def test_those_of_pretrained_weights_still_say_which_they_were(earlier: Earlier) -> None:
    summary = read_json(earlier.report / "summary.json")
    write_json(earlier.report / "summary.json", {**summary, "weights_sha256": "ab"})
    assert read_made(earlier.folder, earlier.report).facts["weights_sha256"] == "ab"


def test_those_of_another_processor_still_say_which_it_was(earlier: Earlier) -> None:
    other = {"name": "another", "instructions": ["avx2"]}
    summary = read_json(earlier.report / "summary.json")
    write_json(earlier.report / "summary.json", {**summary, "processor": other})
    stored = earlier.take()
    with run.finished_training(small_params(), *earlier.data, earlier.scratch) as training:
        note_processor(stored, {})
        assert processor_of_training(stored, training.facts) == other


def test_what_this_code_would_not_have_trained_is_refused(earlier: Earlier, tmp_path: Path) -> None:
    with pytest.raises(SeamlineError, match=r"was trained with other parameters, .* its training revision is [0-9a-f]"):
        earlier.take(lr0=0.5)
    other = tmp_path / "other"
    shutil.copytree(earlier.data[0].parent, other)
    label = next((other / "yolo" / "labels").iterdir())
    label.write_text(f"{label.read_text()}0 0.1 0.1 0.2 0.1 0.2 0.2\n")
    changed = earlier._replace(data=(other / "split", other / "yolo"))
    with pytest.raises(SeamlineError, match="was trained on other data than the present splits"):
        changed.take()
    with pytest.raises(SeamlineError, match=r"data\.yaml: is missing, .*; dvc repro convert split makes it\.$"):
        earlier._replace(data=(tmp_path / "nothing", other)).take()
    assert not earlier.scratch.exists()


def test_a_report_on_another_training_is_refused(earlier: Earlier) -> None:
    summary = read_json(earlier.report / "summary.json")
    write_json(earlier.report / "summary.json", {**summary, "training_revision": "0" * 16})
    with pytest.raises(SeamlineError, match=r"is the report on another training than .*; name it with --report"):
        earlier.take()
    (earlier.report / "summary.json").unlink()
    with pytest.raises(SeamlineError, match=r"summary\.json: there is no such file"):
        earlier.take()
    (earlier.folder / "best.pt").unlink()
    with pytest.raises(SeamlineError, match=r"has no best\.pt; name the folder that train has made"):
        earlier.take()


@pytest.mark.thorough
def test_after_an_upgrade_the_pipeline_runs_on_the_weights_of_before(finished: Project, tmp_path: Path) -> None:
    project = finished.copy(tmp_path / "project")
    shutil.rmtree(project.root / ".seamline")
    code = project.root / "seamline" / "training" / "run.py"
    code.write_text(f"{code.read_text()}\n# of a newer version\n")
    before = (project.root / "models" / "train" / "best.pt").read_bytes()
    losses = (project.root / "reports" / "train" / "losses.csv").read_bytes()
    summary = project.root / "reports" / "train" / "summary.json"
    record = json.loads(summary.read_text())

    said = project.run("python", "-m", "seamline", "trainings", "--take", "models/train").stdout
    assert "dvc repro uses it and trains nothing" in said
    done = project.run("dvc", "repro")
    assert "the same was trained before" in done.stdout
    assert "epoch 1/" not in done.stdout + done.stderr
    assert (project.root / "models" / "train" / "best.pt").read_bytes() == before
    assert (project.root / "reports" / "train" / "losses.csv").read_bytes() == losses
    assert json.loads(summary.read_text()) == {**record, "taken_over": True}
    assert project.stages_run() == []

    code.write_text(f"{code.read_text()}# and of a newer one\n")
    project.run("dvc", "commit", "--force", "train")
    assert "train" not in project.stages_run()
    assert (project.root / "models" / "train" / "best.pt").read_bytes() == before


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04" + bytes(2000)])
def test_a_damaged_file_is_not_taken(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "best.pt").write_bytes(content)
    with pytest.raises(SeamlineError, match=r"best\.pt: cannot be opened as a model"):
        check_weights(tmp_path / "best.pt", small_params(), tmp_path)


def test_another_model_is_not_taken(untrained: Untrained, tmp_path: Path) -> None:
    names = dict(enumerate(NAMES))
    for classes, imgsz, same in ((names, IMGSZ, True), (names, 2 * IMGSZ, False), ({0: "coat"}, IMGSZ, False)):
        (tmp_path / "data.yaml").write_text(yaml.safe_dump({"names": classes}))
        if same:
            check_weights(untrained.weights, small_params(imgsz=imgsz), tmp_path)
        else:
            with pytest.raises(SeamlineError, match="is not the model of these parameters and data"):
                check_weights(untrained.weights, small_params(imgsz=imgsz), tmp_path)


def test_a_report_of_long_ago_is_one_sentence(earlier: Earlier) -> None:
    summary = read_json(earlier.report / "summary.json")
    write_json(earlier.report / "summary.json", {key: summary[key] for key in summary if key != "device"})
    with pytest.raises(SeamlineError, match="lacks device, as those of before do"):
        earlier.take()


def test_labels_that_are_not_here_are_one_sentence(earlier: Earlier, tmp_path: Path) -> None:
    with pytest.raises(SeamlineError, match="labels: is missing, with which to compare"):
        take_over(small_params(), earlier.folder, earlier.report, (earlier.data[0], tmp_path), earlier.scratch)
