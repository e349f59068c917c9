"""A training of attributes: it learns, is made once, survives kills to the same bytes, and refuses in a sentence."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

from seamline.attributes.backbones import build_backbone, find_start, freeze_up_to, licence_of, start_from
from seamline.attributes.labelled import read_labelled
from seamline.attributes.network import load_network
from seamline.attributes.training import finished_attribute_training, plan_training
from seamline.base.errors import SeamlineError
from seamline.base.files import sha256_of
from seamline.params.classify import Classify
from tests.attributes.drawn import write_drawn

SMALL: dict[str, Any] = {
    "backbone": "efficientnet_lite0", "start": "imagenet", "imgsz": 32, "batch": 16, "frozen_epochs": 5, "epochs": 3,
    "frozen_stride": 4, "lr_heads": 0.01, "lr_backbone": 0.001, "weight_decay": 0.01, "balance": "none",
    "stop_after": 3, "target_accuracy": 0.9, "min_agreement": 0.9, "device": "cpu", "seed": 0,
    "augment": {
        "fliplr": 0.5, "degrees": 4.0, "scale": 0.1, "brightness": 0.05, "contrast": 0.05, "saturation": 0.0,
        "noise": 0.0,
    },
    "int8": {"calibration_garments": 8, "max_drop": 0.5},
}  # fmt: skip


def params(**changes: Any) -> Classify:
    return msgspec.convert(SMALL | changes, Classify)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_drawn(tmp_path_factory.mktemp("drawn") / "attributes")


def train(data: Path, scratch: Path, **changes: Any) -> tuple[str, dict[str, Any], list[dict[str, Any]]]:
    plan = plan_training(params(**changes), data, read_labelled(data))
    with finished_attribute_training(plan, scratch) as training:
        load_network(training.weights)
        return sha256_of(training.weights), training.facts, training.history


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Any], list[dict[str, Any]]]:
    return train(data, tmp_path_factory.mktemp("scratch"))


def test_it_learns_and_equal_trainings_give_equal_bytes(
    data: Path, tmp_path: Path, trained: tuple[str, dict[str, Any], list[dict[str, Any]]]
) -> None:
    digest, facts, history = trained
    assert [record["epoch"] for record in history] == list(range(1, 9))
    assert max(record["val_macro_f1"] for record in history) > 0.8
    assert facts["best_epoch"] == max(history, key=lambda record: record["val_macro_f1"])["epoch"]
    assert train(data, tmp_path)[0] == digest


def test_it_is_made_once(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = train(data, tmp_path, epochs=0)
    capsys.readouterr()
    again = train(
        data, tmp_path, epochs=0, target_accuracy=0.5
    )  # what is done with the weights makes no other training
    assert again[0] == first[0] and "taken from" in capsys.readouterr().out
    assert train(data, tmp_path, epochs=0, seed=1)[0] != first[0]


KILLED = """
import sys
from pathlib import Path
from tests.attributes.test_training import train
digest, facts, history = train(Path(sys.argv[1]), Path(sys.argv[2]))
print(digest, len(history))
"""


def test_killed_at_random_moments_it_ends_in_the_same_bytes(
    data: Path, tmp_path: Path, trained: tuple[str, dict[str, Any], list[dict[str, Any]]]
) -> None:
    """Killed while the heads learn, in an epoch, and while a state is written; the last run is left alone."""
    rng = random.Random(0)
    command = [sys.executable, "-c", KILLED, str(data), str(tmp_path)]
    kills, epochs_seen = 0, set()
    for _ in range(4):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert process.stdout is not None
        wanted = rng.choice(["heads", "epoch", "writing"])
        end = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < end:
            states = list(tmp_path.glob("*/state.pt"))
            temporary = list(tmp_path.glob("*/.*.tmp"))
            begun = any(tmp_path.glob("locks/*"))
            if (wanted == "heads" and begun and not states) or (wanted == "writing" and temporary):
                break
            if wanted != "heads" and states:
                epochs_seen.add(states[0].stat().st_mtime_ns)
                time.sleep(rng.uniform(0.05, 0.6))
                break
            if wanted == "heads" and states:
                break
            time.sleep(0.005)
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
            kills += 1
        process.wait()
    digest, _, history = train(data, tmp_path)
    assert kills >= 2
    assert digest == trained[0] and history == trained[2]


def test_a_state_of_something_else_is_refused(data: Path, tmp_path: Path) -> None:
    from seamline.attributes.trainer import Trainer

    plan = plan_training(params(), data, read_labelled(data))
    (tmp_path / "run").mkdir()
    torch.save({"epoch": 1, "history": [], "finished": False, "model": {}}, tmp_path / "run" / "state.pt")
    with pytest.raises(SeamlineError, match="the state there is not this model's"):
        Trainer(plan.start, tmp_path / "run").train()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"backbone": "resnet1"}, "classify.backbone: there is no 'resnet1'; efficientnet_lite0, a classifier"),
        ({"backbone": "squeezenet1_0", "start": "none"}, "does not end with one linear layer"),
        ({"start": "mine.pt"}, "classify.start: there is no file 'mine.pt'"),
        ({"frozen_epochs": 0, "epochs": 0}, "nothing would be learned"),
    ],
)
def test_what_cannot_be_trained_is_refused_in_a_sentence(data: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(SeamlineError, match=said):
        asked = params(**changes)
        plan = plan_training(asked, data, read_labelled(data))
        build_backbone(asked.backbone)
        assert plan is None


def test_timm_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("seamline.attributes.backbones.find_spec", lambda name: None)
    with pytest.raises(SeamlineError, match="timm/resnet18 needs timm, which is not installed"):
        build_backbone("timm/resnet18")
    with pytest.raises(SeamlineError, match="of timm's models name a file"):
        find_start("timm/resnet18", "imagenet")


def test_an_attribute_without_labels_is_refused(tmp_path: Path) -> None:
    folder = write_drawn(tmp_path / "drawn")
    lines = (folder / "garments.csv").read_text().splitlines()
    emptied = [line.rpartition(",")[0] + "," if ",val," in line else line for line in lines]
    (folder / "garments.csv").write_text("\n".join(emptied) + "\n")
    with pytest.raises(SeamlineError, match="no garment of val has a value of 'stripes'"):
        plan_training(params(), folder, read_labelled(folder))


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "resnet18", "convnext_tiny"])
def test_torchvisions_classifiers_lose_their_last_layer(name: str) -> None:
    found = build_backbone(name)
    with torch.no_grad():
        assert found.module.eval()(torch.zeros(2, 3, 224, 224)).shape == (2, found.channels)


def test_lite0_begins_with_all_of_its_weights_of_imagenet() -> None:
    """Its features are those of its package's network, put together by hand from the same tensors."""
    found = build_backbone("efficientnet_lite0")
    before = {name: tensor.clone() for name, tensor in found.module.state_dict().items()}
    path = find_start("efficientnet_lite0", "imagenet")
    assert path is not None and licence_of("efficientnet_lite0", "imagenet") == "Apache-2.0"
    start_from(found.module, "efficientnet_lite0", path)
    theirs = torch.load(path, weights_only=True)
    own = found.module.state_dict()
    assert torch.equal(own["8.0.weight"], theirs["_conv_head.weight"])
    changed = [
        name for name in own if not name.endswith("num_batches_tracked") and torch.equal(own[name], before[name])
    ]
    assert changed == []


def test_layers_up_to_a_stride_are_frozen() -> None:
    module = build_backbone("efficientnet_lite0").module
    freeze_up_to(module, 4)
    frozen = {name.partition(".")[0] for name, one in module.named_parameters() if not one.requires_grad}
    learning = {name.partition(".")[0] for name, one in module.named_parameters() if one.requires_grad}
    assert {"0", "1", "2"} <= frozen <= {"0", "1", "2", "3"}  # 3 begins at stride 4 and ends at 8
    assert {"4", "5", "6", "7", "8"} <= learning
    whole = build_backbone("efficientnet_lite0").module
    freeze_up_to(whole, 0)
    assert all(one.requires_grad for one in whole.parameters())
    freeze_up_to(whole, 32)
    assert not any(one.requires_grad for one in whole.parameters())


def test_facts_say_what_was_trained(data: Path, trained: tuple[str, dict[str, Any], list[dict[str, Any]]]) -> None:
    facts = trained[1]
    assert json.loads(json.dumps(facts)) == facts
    assert {"device", "training_revision", "data_sha256", "best_epoch", "threads", "weights_sha256"} <= set(facts)
