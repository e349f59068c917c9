"""What an R-CNN is trained on: the split's masks on the canvas of inference, changed at random by a seed."""

from __future__ import annotations

import json
import shutil
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from seamline.base.coco import Record, write_coco
from seamline.base.errors import SeamlineError
from seamline.images.reading import read_image
from seamline.models.letterbox import image_to_letterbox
from seamline.training.rcnn_data import (
    Augmentation,
    Photo,
    Sample,
    Samples,
    augmented,
    check_classes_shown,
    data_sha256,
    made_ahead,
    mask_on_canvas,
    masks_to_boxes,
    read_part,
    samples_to_batch,
)
from seamline.training.rcnn_labels import masks_at_trained_sizes

NOTHING = Augmentation(0, 0, 0, 0, 0, 0, 0)
ALL = Augmentation(20, 0.1, 0.4, 0.5, 0.4, 0.7, 0.4)


def sample_with(*boxes: tuple[int, int, int, int], side: int = 64) -> Sample:
    """White rectangles on grey, (x, y, width, height), of classes 0, 1, ..."""
    canvas = np.full((side, side, 3), 114, np.uint8)
    masks = np.zeros((len(boxes), side, side), np.uint8)
    for mask, (x, y, width, height) in zip(masks, boxes, strict=True):
        mask[y : y + height, x : x + width] = 1
        canvas[mask > 0] = 255
    return Sample(canvas, np.arange(len(boxes)), masks)


def test_a_photo_lies_as_at_inference_and_its_masks_cover_it_there(tmp_path: Path) -> None:
    image = np.full((60, 100, 3), 114, np.uint8)
    polygon = [20, 10, 80, 10, 80, 50, 20, 50]
    cv2.rectangle(image, (20, 10), (79, 49), (0, 0, 255), -1)
    cv2.imwrite(str(tmp_path / "a.png"), image)
    photo = Photo(1, tmp_path / "a.png", 60, 100, [2], [[polygon]])
    for keep in (True, False):
        samples = Samples([photo], 64, keep)
        for _ in range(2):
            found = samples.sample(0)
            assert np.array_equal(found.canvas, image_to_letterbox(read_image(photo.path), 64)[0])
            assert found.labels.tolist() == [2]
            red = found.canvas[:, :, 2].astype(int) - found.canvas[:, :, 0] > 127  # more than half of the colour
            assert (red != found.masks[0]).mean() < 0.005


def test_a_photo_of_another_size_than_its_record_is_one_sentence(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((60, 100, 3), np.uint8))
    with pytest.raises(SeamlineError, match=r"a\.png: has 100 x 60 pixels, and its record 100 x 61"):
        Samples([Photo(1, tmp_path / "a.png", 61, 100, [], [])], 64, False).sample(0)


def test_a_mask_on_the_canvas_has_the_area_of_the_source(tmp_path: Path) -> None:
    circle = [
        value
        for angle in np.linspace(0, 2 * np.pi, 200)[:-1]
        for value in (150 + 90 * np.cos(angle), 100 + 90 * np.sin(angle))
    ]
    mask = mask_on_canvas([circle], Photo(1, tmp_path, 200, 300, [0], []), 96)
    assert mask.sum() == pytest.approx(np.pi * (90 * 96 / 300) ** 2, rel=0.01)


def test_crowds_are_left_out_and_classes_without_an_instance_refused(tmp_path: Path) -> None:
    images = [{"id": 5, "file_name": "a.png", "width": 40, "height": 40}]
    shape = [[1, 1, 30, 1, 30, 30]]
    annotations = [
        {"id": 1, "image_id": 5, "category_id": 7, "segmentation": shape},
        {"id": 2, "image_id": 5, "category_id": 9, "segmentation": shape, "iscrowd": 1},
    ]
    write_coco(tmp_path / "train.json", images, annotations, [{"id": 9, "name": "coat"}, {"id": 7, "name": "hat"}])
    part = read_part(tmp_path, "train", tmp_path / "images")
    assert part.names == ["coat", "hat"]
    assert [(photo.labels, photo.segmentations) for photo in part.photos] == [([1], [shape])]
    with pytest.raises(SeamlineError, match="no training image shows 'coat'"):
        check_classes_shown(part)
    write_coco(tmp_path / "train.json", [], [], [])
    with pytest.raises(SeamlineError, match=r"train\.json: is empty; ask for more images"):
        read_part(tmp_path, "train", tmp_path)


def test_what_is_changed_at_random_depends_on_the_seed_alone() -> None:
    sample = sample_with((10, 10, 30, 20), (5, 40, 50, 20))
    first, again, other = (augmented(sample, ALL, seed) for seed in ((0, 1, 2), (0, 1, 2), (0, 1, 3)))
    assert np.array_equal(first.canvas, again.canvas)
    assert np.array_equal(first.masks, again.masks)
    assert not np.array_equal(first.canvas, other.canvas)
    same = augmented(sample, NOTHING, (0, 0, 0))
    assert np.array_equal(same.canvas, sample.canvas)
    assert np.array_equal(same.masks, sample.masks)


@pytest.mark.parametrize("number", range(20))
def test_masks_move_with_what_they_show(number: int) -> None:
    sample = sample_with((14, 20, 30, 24))
    found = augmented(sample, ALL._replace(hsv_h=0, hsv_s=0, hsv_v=0), (number,))
    white = found.canvas[:, :, 0] > (114 + 255) / 2
    assert (white != found.masks[0]).sum() <= 0.05 * white.sum()


def test_flipping_mirrors_and_scaling_by_up_to_its_share_scales() -> None:
    sample = sample_with((4, 10, 20, 30))
    flipped = augmented(sample, NOTHING._replace(fliplr=1.0), (0,))
    assert masks_to_boxes(flipped.masks).tolist() == [[40, 10, 60, 40]]
    centred = sample_with((22, 22, 20, 20))
    widths = []
    for seed in range(200):
        [box] = masks_to_boxes(augmented(centred, NOTHING._replace(scale=0.4), (seed,)).masks)
        widths.append(box[2] - box[0])
        assert box[0] + box[2] == pytest.approx(64, abs=2)
    assert 11 <= min(widths) < 14
    assert 26 < max(widths) <= 29


def test_colours_change_within_their_shares_and_grey_has_no_hue_to_change() -> None:
    canvas = np.zeros((8, 8, 3), np.uint8)
    canvas[:4], canvas[4:] = (200, 100, 50), 128
    how = NOTHING._replace(hsv_h=0.4, hsv_s=0.7)
    values, hues = [], []
    for seed in range(50):
        found = augmented(Sample(canvas, np.zeros(0, np.int64), np.zeros((0, 8, 8), np.uint8)), how, (seed,)).canvas
        assert np.array_equal(found[4:], canvas[4:])
        hue, _, value = cv2.cvtColor(found, cv2.COLOR_BGR2HSV)[0, 0]
        values.append(value)
        hues.append(hue)
    assert set(values) == {200}
    assert len(set(hues)) > 30


def test_an_instance_that_has_nearly_left_the_canvas_is_no_longer_one() -> None:
    sample = sample_with((0, 0, 10, 10), (28, 28, 8, 8))
    found = [augmented(sample, NOTHING._replace(translate=0.3), (seed,)).labels.tolist() for seed in range(60)]
    assert [0, 1] in found
    assert [1] in found
    assert all(1 in labels for labels in found)


def test_what_lies_outside_of_a_photo_that_was_moved_is_grey_as_around_it() -> None:
    sample = Sample(np.full((64, 64, 3), 200, np.uint8), np.zeros(0, np.int64), np.zeros((0, 64, 64), np.uint8))
    for seed in range(5):
        shades = {*augmented(sample, NOTHING._replace(translate=0.3), (seed,)).canvas.flatten().tolist()}
        assert 114 in shades
        assert min(shades) == 114


def test_an_instance_that_is_small_since_the_photo_was_made_smaller_stays_one() -> None:
    how = NOTHING._replace(scale=0.9)
    found = [augmented(sample_with((22, 22, 20, 20)), how, (seed,)) for seed in range(60)]
    assert all(sample.labels.tolist() == [0] for sample in found)
    assert min(sample.masks.sum() for sample in found) < 0.05 * 20 * 20


def test_boxes_go_around_masks_to_their_outer_edges_and_thin_ones_are_left_out() -> None:
    samples = [sample_with((3, 5, 10, 20), (0, 0, 1, 30)), sample_with()]
    batch = samples_to_batch(samples, masks=True)
    assert batch.canvases.shape == (2, 64, 64, 3)
    assert batch.targets[0]["boxes"].tolist() == [[3, 5, 13, 25]]
    assert batch.targets[0]["labels"].tolist() == [1]
    assert torch.equal(batch.targets[0]["masks"], torch.from_numpy(samples[0].masks[:1]))
    assert [tuple(batch.targets[1][key].shape) for key in ("boxes", "labels", "masks")] == [(0, 4), (0,), (0, 64, 64)]
    assert "masks" not in samples_to_batch(samples, masks=False).targets[0]


def test_work_ahead_is_done_in_threads_in_its_order_and_stops_when_it_is_closed() -> None:
    begun: list[int] = []

    def make(number: int) -> tuple[int, str]:
        begun.append(number)
        time.sleep(0.02 if number % 2 else 0)
        return number, threading.current_thread().name

    found = list(made_ahead(make, range(9), 3, 6))
    assert [number for number, _ in found] == list(range(9))
    assert all(name.startswith("batches") for _, name in found)
    begun.clear()
    ahead = made_ahead(make, range(99), 1, 2)
    next(ahead)
    ahead.close()
    assert len(begun) <= 3


def test_the_hash_of_the_data_changes_with_photos_and_masks_and_not_with_yolo_labels(
    tmp_path: Path, data: tuple[Path, Path]
) -> None:
    import shutil

    shutil.copytree(data[0].parent, tmp_path / "copy")
    split, images = tmp_path / "copy" / "split", tmp_path / "copy" / "yolo" / "images"
    first = data_sha256(data[0], data[1] / "images")
    shutil.rmtree(images.parent / "labels")
    assert data_sha256(split, images) == first
    content = json.loads((split / "val.json").read_text())
    content["annotations"][0]["segmentation"][0][0] += 1
    (split / "val.json").write_text(json.dumps(content))
    changed = data_sha256(split, images)
    cv2.imwrite(str(images / "00.png"), np.zeros((40, 40, 3), np.uint8))
    assert len({first, changed, data_sha256(split, images)}) == 3


def test_a_photo_that_is_missing_is_one_sentence(data: tuple[Path, Path], tmp_path: Path) -> None:
    shutil.copytree(data[1] / "images", tmp_path / "images")
    (tmp_path / "images" / "08.png").unlink()
    with pytest.raises(
        SeamlineError, match=r"images/08\.png: is missing, which \S+/val\.json names; run stage convert"
    ):
        data_sha256(data[0], tmp_path / "images")


@pytest.mark.parametrize(("imgsz", "too_thin"), [(640, 0), (352, 0), (160, 1), (32, 2)])
def test_instances_that_are_too_thin_to_be_learned_are_counted(tmp_path: Path, imgsz: int, too_thin: int) -> None:
    """Strips of 4 and 20 pixels in a photo of 640; what is not counted becomes a batch."""
    cv2.imwrite(str(tmp_path / "0.png"), np.zeros((640, 640, 3), np.uint8))
    annotations: list[Record] = []
    for height in (4, 20):
        outline = [100, 200, 600, 200, 600, 200 + height, 100, 200 + height]
        record = {"id": height, "image_id": 1, "category_id": 1, "segmentation": [outline], "iscrowd": 0}
        annotations.append({**record, "bbox": [100, 200, 500, height], "area": 500 * height})
    images: list[Record] = [{"id": 1, "file_name": "0.png", "width": 640, "height": 640}]
    write_coco(tmp_path / "train.json", images, annotations, [{"id": 1, "name": "a"}])
    write_coco(tmp_path / "val.json", images, [], [{"id": 1, "name": "a"}])
    assert masks_at_trained_sizes(tmp_path, imgsz)["too_thin"] == too_thin
    photos = read_part(tmp_path, "train", tmp_path).photos
    batch = samples_to_batch([Samples(photos, imgsz, keep=False).sample(0)], masks=True)
    assert len(batch.targets[0]["boxes"]) == 2 - too_thin


def test_what_a_mask_heads_grid_leaves_of_masks(data: tuple[Path, Path]) -> None:
    found = masks_at_trained_sizes(data[0], 64)
    assert found["too_thin"] == 0
    assert (found["images"], found["instances_measured"]) == (10, 10)
    assert found["at_imgsz"]["min_iou"] == 1
    assert found["at_loss_size"]["side_px"] == 28
    assert found["at_loss_size"]["mean_iou"] == 1  # rectangles
