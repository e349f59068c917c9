"""R-CNNs are trained as torchvision computes their losses, and a training that was killed resumes to the same bytes."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, get_args

import cv2
import numpy as np
import pytest
import torch
from tqdm import tqdm

from seamline.base.coco import Record, write_coco
from seamline.base.errors import SeamlineError
from seamline.base.files import read_json
from seamline.models.rcnn_network import Architecture, Model, build_network, default_anchors
from seamline.models.rcnn_weights import load_network
from seamline.params.rcnn import MODELS, Rcnn
from seamline.params.train import Train
from seamline.training import rcnn_trainer, run
from seamline.training.checkpoints import STATE, read_state, write_state
from seamline.training.finished import FINISHED
from seamline.training.rcnn import (
    Plan,
    check_batches,
    params_to_architecture,
    plan_to_record,
    plan_training,
    record_to_plan,
)
from seamline.training.rcnn_data import Batch, Samples, read_part, samples_to_batch
from seamline.training.rcnn_trainer import LOSSES, Losses, Trainer, layers_up_to, optimizer_of
from seamline.training.trial import PROGRESS, stop_file
from stages import evaluate
from tests.conftest import PROJECT
from tests.training.small_rcnn import small, trained
from tests.untrained import run_stage

BOXES = "fasterrcnn_efficientnet_lite0_fpn"


@pytest.fixture(autouse=True)
def in_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(PROJECT)
    torch.set_num_threads(1)


def architecture_of(classes: int = 2, **changes: Any) -> Architecture:
    params = small(**changes)
    return params_to_architecture(params[Train], params[Rcnn], classes)


def batch_of(data: tuple[Path, Path], imgsz: int = 64, masks: bool = True) -> Batch:
    samples = Samples(read_part(data[0], "train", data[1] / "images").photos, imgsz, keep=False)
    return samples_to_batch([samples.sample(number) for number in range(4)], masks)


@pytest.mark.parametrize("model", ["maskrcnn_efficientnet_lite0_fpn", BOXES])
def test_the_losses_of_a_step_are_those_of_torchvisions_own_forward(data: tuple[Path, Path], model: str) -> None:
    # Frozen, since the statistics of so few images make much of the last digits, which differ by the layout in memory.
    architecture = architecture_of(model=model, frozen_norm=True)
    torch.manual_seed(0)
    network = build_network(architecture)
    canvases, targets = batch_of(data, masks=architecture.has_masks)
    theirs, ours = deepcopy(network).train(), Losses(network, []).train()
    torch.manual_seed(1)
    images = [canvas.flip(-1).permute(2, 0, 1) / 255 for canvas in canvases]
    expected = theirs(images, [{key: one.clone() for key, one in target.items()} for target in targets])
    torch.manual_seed(1)
    found = ours(canvases, targets)
    names = [name for name in LOSSES if name in expected]
    assert set(names) == set(expected)
    torch.testing.assert_close(found, torch.stack([expected[name] for name in names]), rtol=1e-4, atol=1e-5)
    found.sum().backward()
    sum(expected.values()).backward()
    one, other = (torch.cat([own.grad.ravel() for own in made.parameters()]) for made in (network, theirs))
    assert (one - other).norm() < 0.001 * other.norm()


def killed(data: tuple[Path, Path], scratch: Path, changes: Record, epoch: int, moment: str) -> str:
    """Train in a process of its own that kills itself; what it printed."""
    command = [sys.executable, "-m", "tests.training.small_rcnn", *map(str, (*data, scratch)), json.dumps(changes)]
    done = subprocess.run([*command, str(epoch), moment], capture_output=True, text=True, cwd=PROJECT)
    assert done.returncode == -9, done.stderr
    return done.stdout + done.stderr


@pytest.mark.thorough
def test_a_training_that_is_killed_again_and_again_ends_with_the_same_bytes(
    tmp_path: Path, data: tuple[Path, Path]
) -> None:
    whole, facts = trained(data, tmp_path / "whole")
    assert facts["resumed_after"] == []
    assert [record["epoch"] for record in facts["history"]] == [1, 2, 3, 4]
    cut = tmp_path / "cut"
    # Within the second epoch; then between the weights of the second epoch and its state; at the start of the last.
    for epoch, moment in ((1, "1"), (1, "weights"), (3, "0")):
        killed(data, cut, {}, epoch, moment)
    weights, resumed = trained(data, cut)
    assert resumed == {**facts, "resumed_after": [1, 3]}  # of the second run nothing was written
    assert weights == whole
    assert sorted(path.name for path in cut.iterdir()) == [FINISHED, "locks"]


def test_a_training_of_boxes_has_no_figures_of_masks_and_its_weights_open(
    tmp_path: Path, data: tuple[Path, Path]
) -> None:
    weights, facts = trained(data, tmp_path, model=BOXES, epochs=1)
    [record] = facts["history"]
    assert list(record) == [
        "epoch", "box_loss", "cls_loss", "object_loss", "proposal_loss", "lr", "val_box_mAP50", "val_box_mAP50_95",
    ]  # fmt: skip
    (tmp_path / "best.pt").write_bytes(weights)
    loaded = load_network(tmp_path / "best.pt")
    assert loaded.names == ["a", "b"]
    assert not loaded.architecture.has_masks
    assert facts["threads"] == torch.get_num_threads()


def test_a_model_of_boxes_is_evaluated_by_its_boxes_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: tuple[Path, Path]
) -> None:
    weights, _ = trained(data, tmp_path / "scratch", model=BOXES, epochs=1)
    (tmp_path / "best.pt").write_bytes(weights)
    shutil.copytree(data[0], tmp_path / "split")
    shutil.copy(data[0] / "val.json", tmp_path / "split" / "test.json")
    (tmp_path / "split" / "groups.json").write_text(json.dumps({str(number): number for number in range(10)}))
    inputs = tmp_path / "best.pt", tmp_path / "split", data[1] / "images"
    run_stage(monkeypatch, evaluate.main, *inputs, tmp_path / "out", "--report", tmp_path / "reports")
    model = read_json(tmp_path / "reports" / "evaluate" / "model.json")  # evaluate asks for 100 and 0.7
    assert (model["reported"]["max_detections"], model["reported"]["nms_iou"]) == (10, 0.5)
    metrics = read_json(tmp_path / "reports" / "metrics.json")
    assert {split: list(kinds) for split, kinds in metrics.items()} == {"val": ["box"], "test": ["box"]}
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"val_box.json", "test_box.json"}


@pytest.mark.thorough
def test_a_few_photos_are_learned_by_heart(tmp_path: Path) -> None:
    """Ellipses and rectangles of four photos, which are val as well."""
    rng = np.random.default_rng(0)
    images: list[Record] = []
    annotations: list[Record] = []
    for name in ("split", "labelled/images"):
        (tmp_path / name).mkdir(parents=True)
    for number in range(4):
        image = rng.integers(0, 120, (128, 128, 3), dtype=np.uint8)
        for category, colour in ((1, (250, 60, 60)), (2, (60, 250, 60))):
            x, y = int(rng.integers(35, 93)), 34 if category == 1 else 94
            square = [x - 28, y - 22, x + 28, y - 22, x + 28, y + 22, x - 28, y + 22]
            shape = ellipse(x, y, 30, 24) if category == 1 else square
            cv2.fillPoly(image, [np.array(shape).reshape(-1, 2).round().astype(np.int32)], colour)
            annotations.append(
                {
                    "id": len(annotations) + 1, "image_id": number, "category_id": category, "segmentation": [shape],
                    "bbox": box_of(shape), "area": 2000.0, "iscrowd": 0,
                }
            )  # fmt: skip
        cv2.imwrite(str(tmp_path / "labelled" / "images" / f"{number}.png"), image)
        images.append({"id": number, "file_name": f"{number}.png", "width": 128, "height": 128})
    for part in ("train", "val"):
        categories = [{"id": 1, "name": "ellipse"}, {"id": 2, "name": "rectangle"}]
        write_coco(tmp_path / "split" / f"{part}.json", images, annotations, categories)
    nothing = dict.fromkeys(("degrees", "translate", "scale", "fliplr", "hsv_h", "hsv_s", "hsv_v"), 0.0)
    slim = {"fpn_channels": 32, "box_channels": 64, "mask_channels": 32, "mask_layers": 2, "boxes_a_step": 32}
    wanted = {"imgsz": 128, "epochs": 240, "val_period": 60, "start": "imagenet", "lr0": 0.003}
    _, facts = trained((tmp_path / "split", tmp_path / "labelled"), tmp_path / "scratch", **nothing, **slim, **wanted)
    assert facts["history"][-1]["val_mask_mAP50_95"] > 0.9


def ellipse(x: int, y: int, width: int, height: int) -> list[float]:
    angles = np.linspace(0, 2 * np.pi, 60)[:-1]
    return [float(one) for one in np.stack((x + width * np.cos(angles), y + height * np.sin(angles)), 1).ravel()]


def box_of(shape: Sequence[float]) -> list[float]:
    corners = np.array(shape).reshape(-1, 2)
    low, high = corners.min(axis=0), corners.max(axis=0)
    return [*low.tolist(), *(high - low).tolist()]


@pytest.mark.thorough
def test_two_processes_train_together_and_come_to_the_same_bytes_again(tmp_path: Path, data: tuple[Path, Path]) -> None:
    two = {"device": "cpu,cpu", "epochs": 3, "val_period": 1}
    whole, facts = trained(data, tmp_path / "whole", **two)
    assert facts["device"].endswith(", 2 processes")
    assert [record["epoch"] for record in facts["history"]] == [1, 2, 3]
    one, _ = trained(data, tmp_path / "one", **{**two, "device": "cpu"})
    assert one != whole  # each process sees other images
    again, _ = trained(data, tmp_path / "again", **two)
    assert again == whole


@pytest.mark.thorough
def test_a_trial_of_two_processes_that_the_sweep_stopped_leaves_no_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: tuple[Path, Path]
) -> None:
    monkeypatch.setenv(PROGRESS, str(tmp_path / "progress.json"))
    stop_file(tmp_path / "progress.json").touch()
    with pytest.raises(SeamlineError, match="the sweep stopped this trial after epoch 1"):
        trained(data, tmp_path / "scratch", device="cpu,cpu")
    assert [path.name for path in (tmp_path / "scratch").iterdir()] == ["locks"]


WITHOUT = """
import sys
sys.modules["ultralytics"] = None
from pathlib import Path
from tests.training.small_rcnn import trained
weights, facts = trained((Path(sys.argv[1]), Path(sys.argv[2])), Path(sys.argv[3]), epochs=1)
assert facts["history"][0]["seg_loss"] > 0
"""


def test_it_trains_where_ultralytics_cannot_be_imported(tmp_path: Path, data: tuple[Path, Path]) -> None:
    command = [sys.executable, "-c", WITHOUT, *map(str, (*data, tmp_path))]
    done = subprocess.run(command, capture_output=True, text=True, cwd=PROJECT)
    assert done.returncode == 0, done.stderr


ALONE = """
import sys
from pathlib import Path
import torch
from seamline.params.loading.loader import load_params
from seamline.training.run import planned
found = planned(load_params(Path("tests/workspace/params.yaml")), Path(sys.argv[1]), Path(sys.argv[2]))
assert found.family == "yolo"
print(*(name for name in sys.modules if name.startswith("seamline.") and "rcnn" in name))
"""


def test_a_training_of_yolo_imports_nothing_of_this_family(data: tuple[Path, Path]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", ALONE, *map(str, data)], capture_output=True, text=True, cwd=PROJECT, check=True
    )
    assert done.stdout.split() == ["seamline.params.rcnn"]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"model": "maskrcnn_resnet18"}, "train.model: there is no R-CNN 'maskrcnn_resnet18'; there are maskrcnn_res"),
        ({"others": {"mixup": 0.1}}, "train.mixup: is an argument of ultralytics', which does not train maskrcnn_eff"),
        ({"optimizer": "MuSGD"}, "train.optimizer: MuSGD is ultralytics'; .* takes SGD, Adam, "),
        ({"anchors": [[0.1], [0.2, 0.3]]}, "has 3 feature maps; each needs equally many sides of anchors"),
        ({"start": "coco"}, "torchvision has no COCO weights of maskrcnn_efficientnet_lite0_fpn; take imagenet"),
        ({"start": "mine.pt"}, "rcnn.start: there is no file 'mine.pt'; coco, imagenet, none or a file is allowed"),
        ({"device": "7"}, "train.device: '7' is not there"),
    ],
)
def test_what_cannot_be_trained_is_one_sentence(tmp_path: Path, changes: Record, sentence: str) -> None:
    params = small(**changes)
    with pytest.raises(SeamlineError, match=sentence) as error:
        plan_training(params[Train], params[Rcnn], tmp_path, tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("imgsz", "batch", "photos", "device", "frozen", "sentence"),
    [
        (
            32,
            4,
            5,
            "cpu",
            False,
            "train.imgsz: at 32 a batch of one photo, such as the last of 5 by 4, has one value a ",
        ),
        (32, 1, 4, "cpu", False, "the last of 4 by 1"),
        (32, 8, 1, "cpu", False, "the last of 1 by 8"),
        (32, 4, 5, "0,1", False, "the last of 6 by 4"),
        (32, 4, 6, "cpu", False, None),
        (32, 4, 4, "cpu", False, None),
        (32, 8, 3, "cpu", False, None),
        (32, 4, 5, "cpu", True, None),
        (64, 1, 4, "cpu", False, None),
    ],
)
def test_a_batch_that_normalisations_learn_nothing_of_is_refused(
    tmp_path: Path, imgsz: int, batch: int, photos: int, device: str, frozen: bool, sentence: str | None
) -> None:
    params = small(imgsz=imgsz, batch=batch, frozen_norm=frozen)
    plan = Plan(params[Train], params[Rcnn], None, device, (tmp_path, tmp_path))
    network = build_network(params_to_architecture(plan.train, plan.rcnn, 2)).train()
    processes = len(device.split(","))
    least = min(one for one in (batch, photos % batch, photos) if one) // processes
    if sentence is None:
        check_batches(plan, photos)
        network.backbone(torch.rand(least, 3, imgsz, imgsz))
    else:
        with pytest.raises(SeamlineError, match=sentence):
            check_batches(plan, photos)
        with pytest.raises(ValueError, match="more than 1 value per channel"):
            network.backbone(torch.rand(max(least, 1), 3, imgsz, imgsz))


def test_every_model_can_be_planned_with_the_parameters_of_the_file(tmp_path: Path) -> None:
    assert get_args(Model) == MODELS
    for model in MODELS:
        params = small(model=model)
        plan = plan_training(params[Train], params[Rcnn], tmp_path, tmp_path)
        assert run.family_of_model(model) == "rcnn"
        assert params_to_architecture(plan.train, plan.rcnn, 3).model == model
    for name in ("yolov9t-seg.yaml", "maskrcnn_mine.pt", "mine.pt"):
        assert run.family_of_model(name) == "yolo"


def test_anchors_are_shares_of_the_canvas() -> None:
    found = architecture_of(anchors=[[0.25], [0.5], [1.0]])
    assert found.anchors == [[16], [32], [64]]
    assert architecture_of(classes=5).classes == 5
    assert architecture_of().anchors == default_anchors("maskrcnn_efficientnet_lite0_fpn", 64)


def plan_of(data: tuple[Path, Path], **changes: Any) -> Plan:
    params = small(**changes)
    return plan_training(params[Train], params[Rcnn], *data)


def test_a_plan_reaches_other_processes_whole(data: tuple[Path, Path]) -> None:
    plan = plan_of(data, start="imagenet", lr0=0.01)
    assert record_to_plan(json.loads(json.dumps(plan_to_record(plan)))) == plan


def test_what_yolo_alone_is_trained_by_makes_no_other_training(data: tuple[Path, Path], tmp_path: Path) -> None:
    first = plan_of(data).values()
    assert plan_of(data, mosaic=0.0, box=1.0, mask_ratio=1).values() == first
    for changes in ({"lr0": 0.1}, {"boxes_a_step": 8}, {"seed": 1}, {"start": "imagenet"}):
        assert plan_of(data, **changes).values() != first
    assert plan_of(data, start="imagenet").files()


@pytest.mark.parametrize(("stride", "names"), [(0, []), (2, ["0", "1"]), (4, ["0", "1", "2"]), (32, list("01234567"))])
def test_layers_up_to_a_stride_stay_as_they_are(stride: int, names: list[str]) -> None:
    assert layers_up_to(build_network(architecture_of()), stride) == names


def test_of_torchvisions_resnet_the_same_stay_as_torchvision_keeps() -> None:
    network = build_network(architecture_of(model="fasterrcnn_resnet50_fpn_v2"))
    assert layers_up_to(network, 4) == ["conv1", "bn1", "relu", "maxpool", "layer1"]


def test_frozen_layers_do_not_change_and_their_statistics_neither(data: tuple[Path, Path], tmp_path: Path) -> None:
    trainer = Trainer(plan_of(data, start="imagenet", frozen_stride=4, epochs=1), architecture_of(), tmp_path)
    before = deepcopy(trainer.network.backbone.body.state_dict())
    trainer.train()
    after = trainer.network.backbone.body.state_dict()
    same = {name.split(".")[0] for name in before if torch.equal(before[name], after[name])}
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert same == {"0", "1", "2"}
    assert changed == {"3", "4", "5", "6", "7"}


def test_the_learning_rate_rises_and_falls(data: tuple[Path, Path], tmp_path: Path) -> None:
    for cosine, half in ((True, 0.505), (False, 0.505)):
        trainer = Trainer(plan_of(data, cos_lr=cosine, lrf=0.01, lr0=1.0, epochs=10), architecture_of(), tmp_path)
        rates = []
        for epoch, number in ((0, 0), (0, 1), (5, 0), (9, 1)):
            trainer.set_rate(epoch, number)
            rates.append(trainer.optimizer.param_groups[0]["lr"])
        assert rates[:3] == pytest.approx([0.5, 1.0, half])
        assert rates[3] == pytest.approx(0.0342 if cosine else 0.109, abs=1e-3)


def test_each_epoch_shows_every_photo_once_in_an_order_and_a_change_of_its_own(
    data: tuple[Path, Path], tmp_path: Path
) -> None:
    def epochs(**changes: Any) -> list[list[bytes]]:
        trainer = Trainer(plan_of(data, batch=3, **changes), architecture_of(), tmp_path)
        shown: list[list[bytes]] = []
        for epoch in (0, 1):
            batches = [*trainer.batches(epoch)]
            assert [len(batch.targets) for batch in batches] == [3, 3, 1]
            shown.append([canvas.numpy().tobytes() for batch in batches for canvas in batch.canvases])
        return shown

    plain = dict.fromkeys(("scale", "translate", "fliplr", "hsv_h", "hsv_s", "hsv_v"), 0.0)
    first, second = epochs(**plain)
    assert len({*first}) == 7
    assert sorted(first) == sorted(second)
    assert first != second
    assert epochs(**plain, seed=1)[0] != first
    first, second = epochs(**{**plain, "hsv_v": 0.4})
    assert not {*first} & {*second}


def test_a_step_is_made_of_nbs_images_and_the_last_of_an_epoch_of_what_is_left(
    data: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for batch, nbs, steps in ((2, 4, 2), (2, 6, 2), (2, 2, 4), (4, 1, 2), (2, 100, 1)):
        trainer = Trainer(plan_of(data, batch=batch, nbs=nbs), architecture_of(), tmp_path)
        made: list[int] = []
        monkeypatch.setattr(trainer, "step", made.append)
        trainer.bar = tqdm(disable=True)
        trainer.train_epoch(0)
        assert made == [0] * steps, (batch, nbs)


def test_canvases_stay_in_memory_where_those_of_train_and_val_fit(
    data: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ten_photos = 10 * 3 * 64 * 64
    for limit, kept in ((ten_photos, None), (ten_photos + 1, {})):
        monkeypatch.setattr(rcnn_trainer, "KEPT_BYTES", limit)
        trainer = Trainer(plan_of(data), architecture_of(), tmp_path)
        assert trainer.samples.kept == trainer.validation.kept == kept


def test_gradients_that_are_too_long_are_shortened(data: tuple[Path, Path], tmp_path: Path) -> None:
    for size, length in ((1.0, 10.0), (1e-6, None)):
        trainer = Trainer(plan_of(data, optimizer="SGD", weight_decay=0.0), architecture_of(), tmp_path)
        trained_ones = [one for one in trainer.network.parameters() if one.requires_grad]
        before = [one.detach().clone() for one in trained_ones]
        for one in trained_ones:
            one.grad = torch.full_like(one, size)
        for group in trainer.optimizer.param_groups:
            group["lr"] = 0.1
        trainer.step(0)
        moved = sum(
            float((one.detach() - old).double().square().sum()) for one, old in zip(trained_ones, before, strict=True)
        )
        whole = size * sum(one.numel() for one in trained_ones) ** 0.5
        assert moved**0.5 == pytest.approx(0.1 * (length or whole), rel=0.05)


def test_the_average_of_the_weights_is_short_at_first(data: tuple[Path, Path], tmp_path: Path) -> None:
    """By ultralytics' formula: the first step leaves 0.9999 * (1 - exp(-1 / 500)) of what was there."""
    trainer = Trainer(plan_of(data), architecture_of(), tmp_path)
    averaged, own = (one.rpn.head.bbox_pred.weight.detach() for one in (trainer.ema, trainer.network))
    averaged.fill_(0.0)
    own.fill_(1.0)
    trainer.average()
    assert float(averaged.mean()) == pytest.approx(1 - 0.001997801, abs=1e-7)
    own.fill_(0.0)
    trainer.updates = 100_000
    trainer.average()
    assert float(averaged.mean()) == pytest.approx(0.998002199 * 0.9999, abs=1e-6)


def test_biases_and_normalisations_are_not_kept_small() -> None:
    optimizer = optimizer_of(build_network(architecture_of()), "SGD", 0.1, 0.01)
    decayed, others = optimizer.param_groups
    assert (decayed["weight_decay"], others["weight_decay"]) == (0.01, 0.0)
    assert all(one.ndim > 1 for one in decayed["params"])
    assert all(one.ndim == 1 for one in others["params"])
    for name in rcnn_trainer.OPTIMIZERS:
        optimizer = optimizer_of(build_network(architecture_of()), name, 0.1, 0.01)
        assert optimizer.defaults.get("momentum", 0.9) == 0.9  # of SGD and RMSProp, as in torchvision's reference


@pytest.mark.slow
def test_faults_in_training_are_one_sentence_and_what_was_trained_before_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: tuple[Path, Path]
) -> None:
    original = rcnn_trainer.to_device

    def at_second_epoch(fault: Callable[[Batch], Any]) -> None:
        seen: list[int] = []

        def spy(batch: Batch, device: torch.device) -> Any:
            seen.append(1)
            return fault(batch) if len(seen) > 2 else original(batch, device)

        monkeypatch.setattr(rcnn_trainer, "to_device", spy)

    def none_left(batch: Batch) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    def broken(batch: Batch) -> Any:
        raise RuntimeError("mat1 and mat2\ncannot be multiplied")

    def not_a_number(batch: Batch) -> Any:
        return batch.canvases * torch.nan, batch.targets

    for fault, epochs, sentence in (
        (none_left, 2, r"memory is too small for train.batch 4 at train.imgsz 64; .* What was trained is in "),
        (broken, 3, r"torchvision stopped with RuntimeError: mat1 and mat2 \(.*error\.txt has all of it\)"),
        (not_a_number, 4, r"the loss is NaN or infinite in epoch 2; train.lr0 0.002 may be too high\. What was "),
    ):
        at_second_epoch(fault)
        with pytest.raises(SeamlineError, match=sentence) as error:
            trained(data, tmp_path, epochs=epochs)
        assert "\n" not in str(error.value)
    states = [read_state(path.parent) for path in tmp_path.glob(f"*/{STATE}")]
    assert [state and state["epoch"] for state in states] == [1, 1, 1]
    monkeypatch.setattr(rcnn_trainer, "to_device", original)
    for path in tmp_path.glob(f"*/{STATE}"):
        state = read_state(path.parent)
        assert state is not None
        state["model"].popitem()
        write_state(path.parent, state)
    with pytest.raises(SeamlineError, match=r"the state there is not this model's .* delete the folder"):
        trained(data, tmp_path, epochs=2)


def test_it_stops_when_nothing_gets_better(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: tuple[Path, Path]
) -> None:
    fitness = iter((0.1, 0.3, 0.2, 0.3, 0.9))
    monkeypatch.setattr(Trainer, "validate", lambda self: {"val_mask_mAP50_95": next(fitness)})
    _, facts = trained(data, tmp_path, epochs=5, val_period=1, patience=2)
    assert [record["epoch"] for record in facts["history"]] == [1, 2, 3, 4]
    assert facts["best_epoch"] == 2


def test_lines_and_tables_name_the_losses(
    tmp_path: Path, data: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    trained(data, tmp_path, epochs=1)
    said = capsys.readouterr()
    assert re.search(
        r"epoch 1/1  box \d\.\d+  seg \d\.\d+  cls \d\.\d+  object \d\.\d+  proposal \d\.\d+  val mask mAP50-95 ",
        said.out + said.err,
    )
