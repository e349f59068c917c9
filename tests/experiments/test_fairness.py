"""What all models of a comparison get alike, and which comparisons are refused."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from seamline.base.errors import SeamlineError
from seamline.experiments.fairness import (
    Fair,
    plan_comparison,
    rates_to_try,
    same_for_all,
    with_setting,
    words_to_lr0,
)
from seamline.params.loading.loader import Params, load_params
from seamline.params.rcnn import Rcnn
from seamline.params.train import Train
from seamline.training import rcnn, yolo
from seamline.training.run import planned as planned_training
from tests.conftest import PARAMS, PROJECT

YOLO, OTHER_YOLO = "yolov9t-seg.yaml", "yolov9c-seg.yaml"
MASK, BOX = "maskrcnn_mobilenet_v3_large_fpn", "fasterrcnn_resnet50_fpn_v2"
EPOCHS, IMAGES = 10, 7


def params_with(**train: Any) -> Params:
    params = load_params(PARAMS)
    given = {"epochs": EPOCHS, "patience": 3, **train}
    return Params({**params.by_type, Train: msgspec.structs.replace(params[Train], **given)})


@pytest.fixture
def split(tmp_path: Path) -> Path:
    images = [{"id": number, "file_name": f"{number}.png", "width": 9, "height": 9} for number in range(IMAGES)]
    for name in ("train", "val", "test"):
        text = json.dumps({"images": images, "annotations": [], "categories": [{"id": 0, "name": "a"}]})
        (tmp_path / f"{name}.json").write_text(text)
    return tmp_path


def planned(split: Path, models: list[str], params: Params | None = None, **given: Any) -> Fair:
    options = {"images_seen": None, "start": None, "mixed_starts": False, "lr0": {}, **given}
    return plan_comparison(models, params or params_with(), split, **options)


def test_all_models_get_the_same_of_everything_that_both_families_go_by(
    split: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = params_with(mosaic=0.7, others={"mixup": 0.2, "workers": 3})
    fair = planned(split, [YOLO, MASK], params, start="none", images_seen=56)
    asked = []
    monkeypatch.chdir(PROJECT)
    for one in fair.entrants:
        setting = with_setting(one.params, 0.003, 5)
        made: Any = planned_training(setting, split, split).plan
        asked.append(made.arguments if isinstance(made, yolo.Plan) else msgspec.to_builtins(made.train))
    differing = {key for key in asked[0].keys() & asked[1].keys() if asked[0][key] != asked[1][key]}
    assert not differing
    assert asked[0].keys() >= set(rcnn.USED) - {"val_period"}  # which is not ultralytics'
    for values in asked:
        assert (values["lr0"], values["seed"], values["epochs"], values["mosaic"]) == (0.003, 5, 8, 0)
        assert values["close_mosaic"] == 0  # it would begin the last epochs anew
        assert values["patience"] >= values["epochs"]  # or one family would stop before the other
    assert "mixup" not in asked[0]
    said = " ".join(fair.not_the_same)
    assert f"{YOLO} may be better with train.mosaic 0.7" in said
    assert "train.mixup, train.workers" in said
    assert fair.budget == (IMAGES, 8, 0.8)
    assert fair.budget.images_seen == 56
    same = same_for_all(fair, params, split, ["a"], [0, 1, 2])
    assert (same["images_seen"], same["share_of_default"], same["start"]) == (56, 0.8, "none")
    assert json.loads(json.dumps(same)) == same


def test_of_mosaic_nothing_is_said_where_no_model_has_it(split: Path) -> None:
    models = [MASK, "maskrcnn_efficientnet_lite0_fpn"]
    fair = planned(split, models, params_with(mosaic=0.7), start="none")
    assert fair.not_the_same == ["The same images seen are not the same work: what each training took is in the table."]


def test_shapes_are_those_that_every_model_finds(split: Path) -> None:
    assert planned(split, [YOLO, OTHER_YOLO]).kind == "mask"
    assert planned(split, [YOLO, MASK], start="none").kind == "mask"
    assert planned(split, [YOLO, BOX, MASK], start="none").kind == "box"


@pytest.mark.parametrize(
    ("models", "given", "starts"),
    [
        ([YOLO, OTHER_YOLO], {}, ["none", "none"]),
        (["yolov9c-seg.pt", BOX], {"start": "coco"}, ["coco", "coco"]),
        ([MASK, BOX], {}, ["imagenet", "imagenet"]),  # as params.yaml has it
        ([MASK, BOX], {"start": "none"}, ["none", "none"]),
        ([YOLO, MASK], {"mixed_starts": True}, ["none", "imagenet"]),
        (["mine.pt", YOLO], {"mixed_starts": True}, ["mine.pt", "none"]),
    ],
)
def test_starts_are_of_one_kind(split: Path, models: list[str], given: dict[str, Any], starts: list[str]) -> None:
    fair = planned(split, models, **given)
    assert [one.start for one in fair.entrants] == starts
    for one in fair.entrants:
        if one.family == "rcnn":
            assert one.params[Rcnn].start == one.start
    mixed = [sentence for sentence in fair.not_the_same if "start from different weights" in sentence]
    assert bool(mixed) == (len(set(starts)) > 1)


@pytest.mark.parametrize(
    ("models", "given", "sentence"),
    [
        (
            [YOLO, MASK], {},
            f"families: the models start from different weights ({YOLO}: none, {MASK}: imagenet), which is not a fair "
            "comparison; take --start none, or allow it with --mixed-starts, which the page then says.",
        ),
        (["mine.pt", YOLO], {}, "families: the models start from different weights (mine.pt: mine.pt, "),
        (
            [YOLO, MASK], {"start": "imagenet"},
            f"--start: {YOLO} cannot start from imagenet, it starts from none; ultralytics has no weights of ImageNet.",
        ),
        (
            [YOLO, BOX], {"start": "coco"},
            f"--start: {YOLO} cannot start from coco, it starts from none; name weights of ultralytics' that were ",
        ),
        (["yolov9c-seg.pt", BOX], {"start": "none"}, "name a description (.yaml) in its place."),
        (
            [YOLO, OTHER_YOLO], {"images_seen": 31},
            "--images-seen: 31 are 4 epochs of 7 train images, less than half of the 70 that train.epochs 10 has a "
            "training see; at least 35 are needed.",
        ),
        ([YOLO, OTHER_YOLO], {"images_seen": -9}, "--images-seen: -9 are 1 epoch of"),
    ],
)  # fmt: skip
def test_what_is_not_fair_is_refused(split: Path, models: list[str], given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SeamlineError, match=re.escape(sentence)) as error:
        planned(split, models, **given)
    assert "\n" not in str(error.value)


def test_a_family_may_begin_its_search_elsewhere(split: Path) -> None:
    fair = planned(split, [YOLO, MASK, OTHER_YOLO], start="none", lr0=words_to_lr0(["rcnn=0.001"]))
    own = params_with()[Train].lr0
    assert [one.params[Train].lr0 for one in fair.entrants] == [own, 0.001, own]
    assert f"{own:g} of YOLO (ultralytics), 0.001 of R-CNN (torchvision)" in " ".join(fair.not_the_same)
    assert "--lr0" not in " ".join(planned(split, [YOLO, OTHER_YOLO], lr0={"yolo": 0.01}).not_the_same)
    for word in ("rcnn", "rcnn=", "rcnn=0", "rcnn=-1", "rcnn=inf", "rcnn=nan", "cnn=0.1", "0.1"):
        with pytest.raises(SeamlineError, match=f"--lr0: '{word}' is not allowed; FAMILY=NUMBER is"):
            words_to_lr0([word])


def test_half_of_the_images_is_enough(split: Path) -> None:
    assert planned(split, [YOLO, OTHER_YOLO], images_seen=35).budget == (IMAGES, 5, 0.5)
    assert planned(split, [YOLO, OTHER_YOLO]).budget == (IMAGES, EPOCHS, 1)


def test_every_model_tries_the_same_multiples() -> None:
    assert rates_to_try(0.002, 2) == [0.002, 0.001]
    assert rates_to_try(0.01, 5) == [0.01, 0.005, 0.02, 0.0025, 0.04]
    for trials in (1, 0, -1, 99):
        with pytest.raises(SeamlineError, match=f"--trials: {trials} is not allowed; 2 to 7 are."):
            rates_to_try(0.01, trials)
