"""The certificate at the trainer's own sizes, against what ultralytics' dataset itself hands to its loss."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from pycocotools import mask as coco_mask
from ultralytics.cfg import get_cfg
from ultralytics.data.augment import Format
from ultralytics.data.dataset import YOLODataset

from seamline.base.errors import SeamlineError
from seamline.dataset import trained_sizes
from seamline.dataset.conversion import write_labels
from seamline.dataset.trained_sizes import frame_of, labels_at_trained_sizes, trained_masks, true_masks
from seamline.masks.rle import Mask, mask_to_rle
from tests.masks.smooth import blobs

# Outlines of fewer than 1,000 corners: one with more has ultralytics put more points between those of all others.
SIZES = [(480, 640), (640, 480), (333, 200), (201, 517), (500, 700), (320, 320), (640, 640)]
SAME_MARGINS = [(480, 640), (640, 480), (100, 160), (320, 320)]
NO_AUGMENTATION = {
    "mosaic": 0.0, "degrees": 0.0, "translate": 0.0, "scale": 0.0, "shear": 0.0, "perspective": 0.0, "flipud": 0.0,
    "fliplr": 0.0, "hsv_h": 0.0, "hsv_s": 0.0, "hsv_v": 0.0, "erasing": 0.0, "mixup": 0.0, "copy_paste": 0.0,
    "overlap_mask": False,
}  # fmt: skip


def masks_of(number: int, height: int, width: int) -> list[Mask]:
    thin = np.zeros((height, width), np.uint8)
    cv2.line(thin, (2, 3), (width - 5, height - 9), 1, 2)
    return [blobs(number, height, width), thin]


def write_split_and_labels(folder: Path, sizes: list[tuple[int, int]]) -> dict[str, list[Mask]]:
    """A split of photos with two masks each, in train and val by turns, and the labels that convert makes."""
    masks: dict[str, list[Mask]] = {}
    cocos: list[dict[str, Any]] = [
        {"images": [], "annotations": [], "categories": [{"id": 7, "name": "shirt"}]} for _ in range(2)
    ]
    (folder / "raw" / "images").mkdir(parents=True)
    for kind in ("images", "labels"):
        (folder / "yolo" / kind).mkdir(parents=True)
    (folder / "split").mkdir()
    for number, (height, width) in enumerate(sizes):
        name = f"{number:03d}.png"
        cv2.imwrite(str(folder / "raw" / "images" / name), np.full((height, width, 3), 128, np.uint8))
        masks[name] = masks_of(number, height, width)
        records = [
            {"id": 10 * number + at, "image_id": number, "category_id": 7, "segmentation": mask_to_rle(mask)}
            for at, mask in enumerate(masks[name])
        ]
        crowd = {**records[0], "id": 10 * number + 9, "iscrowd": 1}
        coco = cocos[number % 2]
        coco["images"].append({"id": number, "file_name": name, "width": width, "height": height})
        coco["annotations"] += [crowd, *records]
        texts = [json.dumps(record).encode() for record in (crowd, *records)]
        write_labels([(name, height, width, texts)], {7: 0}, folder / "raw", folder / "yolo")
    for part, coco in zip(("train", "val"), cocos, strict=True):
        (folder / "split" / f"{part}.json").write_text(json.dumps(coco))
    return masks


def handed_to_the_loss(folder: Path, imgsz: int, mask_ratio: int, augment: bool) -> dict[str, list[Mask]]:
    """The masks of each photo that ultralytics' own dataset makes of the labels, one a mask."""
    hyp = get_cfg(overrides={**NO_AUGMENTATION, "imgsz": imgsz, "mask_ratio": mask_ratio})
    dataset = YOLODataset(
        img_path=str(folder / "yolo" / "images"), data={"names": {0: "shirt"}, "channels": 3}, task="segment",
        imgsz=imgsz, augment=augment, hyp=hyp, rect=False, cache=False,
    )  # fmt: skip
    formats = [transform for transform in dataset.transforms.transforms if isinstance(transform, Format)]
    assert [(one.mask_ratio, one.mask_overlap) for one in formats] == [(mask_ratio, False)]
    items = [dataset[index] for index in range(len(dataset))]
    return {Path(item["im_file"]).name: [mask.numpy() for mask in item["masks"]] for item in items}


@pytest.mark.parametrize(("imgsz", "mask_ratio"), [(320, 4), (320, 1), (256, 3), (640, 4)])
@pytest.mark.parametrize("augment", [False, True], ids=["val", "train"])
def test_masks_are_those_that_ultralytics_hands_to_its_loss(
    tmp_path: Path, imgsz: int, mask_ratio: int, augment: bool
) -> None:
    # In val ultralytics enlarges no photo; in train it moves one by half a pixel where its margins are not equal.
    sizes = SAME_MARGINS if augment else [size for size in SIZES if max(size) >= imgsz]
    masks = write_split_and_labels(tmp_path, sizes)
    small = handed_to_the_loss(tmp_path, imgsz, mask_ratio, augment)
    full = handed_to_the_loss(tmp_path, imgsz, 1, augment)
    for name, own in masks.items():
        lines = (tmp_path / "yolo" / "labels" / name).with_suffix(".txt").read_text().splitlines()
        assert len(lines) == len(small[name]) == 2
        frame = frame_of(own[0].shape[0], own[0].shape[1], imgsz)
        for line, *theirs in zip(lines, full[name], small[name], strict=True):
            ours = trained_masks(line, frame, imgsz, mask_ratio)
            assert all((mine == other).all() for mine, other in zip(ours, theirs, strict=True)), name


def area_shrunk(mask: npt.NDArray[Any], height: int, width: int) -> npt.NDArray[np.float64]:
    """How much of each pixel of a smaller raster a mask covers: the overlap of both along each axis."""

    def overlaps(many: int, few: int) -> npt.NDArray[np.float64]:
        edges = np.arange(few + 1) * many / few
        low, high = np.maximum(edges[:-1, None], np.arange(many)), np.minimum(edges[1:, None], np.arange(1, many + 1))
        return np.asarray(np.maximum(high - low, 0) * few / many)

    return np.asarray(overlaps(mask.shape[0], height) @ mask @ overlaps(mask.shape[1], width).T)


@pytest.mark.parametrize("size", [(480, 640), (640, 640), (500, 1333)])
def test_the_source_mask_is_shrunk_by_area(size: tuple[int, int]) -> None:
    mask = blobs(3, *size)
    frame = frame_of(*size, 320)
    full, small = true_masks(mask, frame, 320, 4)
    square = np.zeros((320, 320))
    square[frame.top : frame.top + frame.height, frame.left : frame.left + frame.width] = area_shrunk(
        mask, frame.height, frame.width
    )
    for ours, wanted in ((full, square), (small, area_shrunk(square, 80, 80))):
        clear = np.abs(wanted - 0.5) > 1e-5
        assert clear.mean() > 0.98
        assert (ours[clear] == (wanted > 0.5)[clear]).all()


def test_the_certificate_is_the_iou_of_each_mask_that_ultralytics_fills(tmp_path: Path) -> None:
    masks = write_split_and_labels(tmp_path, [size for size in SIZES if max(size) >= 320])
    found = labels_at_trained_sizes(tmp_path / "split", tmp_path / "yolo", 320, 4)
    assert (found["images"], found["images_measured"], found["instances_measured"]) == (len(masks),) * 2 + (
        2 * len(masks),
    )
    for key, ratio in (("at_imgsz", 1), ("at_loss_size", 4)):
        theirs = handed_to_the_loss(tmp_path, 320, ratio, augment=False)
        ious = []
        for name, own in masks.items():
            for mask, trained in zip(own, theirs[name], strict=True):
                true = true_masks(mask, frame_of(mask.shape[0], mask.shape[1], 320), 320, ratio).small
                rles = [coco_mask.encode(np.asfortranarray(one)) for one in (true, trained)]
                if true.any():
                    ious.append(float(coco_mask.iou(rles[:1], rles[1:], [0])[0, 0]))
        assert found[key]["side_px"] == 320 // ratio
        assert found[key]["without_a_pixel"] == 2 * len(masks) - len(ious)
        assert found[key]["mean_iou"] == pytest.approx(np.mean(ious), abs=1e-4)
        assert found[key]["min_iou"] == pytest.approx(min(ious), abs=1e-4)
        assert found[key]["p1_iou"] == pytest.approx(np.percentile(ious, 1), abs=1e-4)


def test_of_a_large_dataset_every_nth_photo_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_split_and_labels(tmp_path, [(40, 60)] * 20)  # with 60 annotations
    monkeypatch.setattr(trained_sizes, "MEASURED", 20)
    first, second = (labels_at_trained_sizes(tmp_path / "split", tmp_path / "yolo", 64, 4) for _ in range(2))
    assert first == second
    assert (first["images"], first["images_measured"], first["instances_measured"]) == (20, 8, 16)


def test_a_split_without_instances_has_no_figures(tmp_path: Path) -> None:
    write_split_and_labels(tmp_path, [])
    found = labels_at_trained_sizes(tmp_path / "split", tmp_path / "yolo", 64, 4)
    assert found["at_loss_size"] == {
        "side_px": 16, "mean_iou": None, "p1_iou": None, "min_iou": None, "without_a_pixel": 0,
    }  # fmt: skip


def test_labels_of_other_data_are_refused(tmp_path: Path) -> None:
    write_split_and_labels(tmp_path, [(40, 60)] * 2)
    label = tmp_path / "yolo" / "labels" / "001.txt"
    label.write_text("".join(label.read_text().splitlines(keepends=True)[:1]))
    with pytest.raises(SeamlineError, match=r"001\.txt: is not the label of the masks in the split"):
        labels_at_trained_sizes(tmp_path / "split", tmp_path / "yolo", 64, 4)


def test_a_ratio_that_leaves_no_pixel_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SeamlineError, match=r"train\.mask_ratio: 65 leaves no pixel of train\.imgsz 64"):
        labels_at_trained_sizes(tmp_path / "split", tmp_path / "yolo", 64, 65)


def test_a_ratio_that_leaves_one_pixel_is_allowed(tmp_path: Path) -> None:
    write_split_and_labels(tmp_path, [(40, 60)] * 2)
    assert labels_at_trained_sizes(tmp_path / "split", tmp_path / "yolo", 64, 64)["at_loss_size"]["side_px"] == 1
