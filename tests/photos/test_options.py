"""What predict's options make: some classes only, polygons, cut-outs, lists of photos; and what was passed over."""

from __future__ import annotations

import io
import json
import os
import re
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO

from bench.predicting import write_photos
from seamline.base.errors import SeamlineError
from seamline.base.progress import CountProgress
from seamline.images.budget import PixelBudget
from seamline.images.files import MAX_PIXELS
from seamline.images.reading import read_image
from seamline.inference.detector import Detector
from seamline.masks.rle import rle_to_mask
from seamline.models.detections import Detections
from seamline.photos.drawing import class_folders, crop_png
from seamline.photos.finding import find_photos, words
from seamline.photos.records import mask_to_polygons
from seamline.photos.remote import Remote
from seamline.photos.suffixes import passed_over_text
from seamline.verbs.predict import main, names_to_classes
from tests.photos.test_predicting import found_names, rows_of
from tests.tiny_family import NAMES as TINY_NAMES
from tests.tiny_family import Tiny
from tests.untrained import NAMES, Untrained


def predict(*arguments: Path | str) -> None:
    main([*map(str, arguments), "--confidence", "0.1", "--overlays", "0"])


def results_of(out: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((out / "results.json").read_text())
    return found


def test_some_classes_alone(untrained: Untrained, tmp_path: Path) -> None:
    """Are what all of them have of these; ids and the list of classes stay the model's."""
    model, photos = untrained.models()["onnx"], untrained.images()[:4]
    predict(model, *photos, "--out", tmp_path / "all")
    predict(model, *photos, "--out", tmp_path / "one", "--classes", NAMES[1])
    predict(model, *photos, "--out", tmp_path / "both", "--classes", f"{NAMES[1]}, {NAMES[0]}")
    everything = results_of(tmp_path / "all")
    one = [record for record in everything if record["category_id"] == 2]
    assert 0 < len(one) < len(everything)
    assert results_of(tmp_path / "one") == one
    assert results_of(tmp_path / "both") == everything
    for name in ("all", "one"):
        categories = json.loads((tmp_path / name / "images.json").read_text())["categories"]
        assert categories == [{"id": number, "name": own} for number, own in enumerate(NAMES, 1)]


def test_classes_are_named_as_the_model_names_them() -> None:
    names = ["shirt", "coat, long", "dress"]
    assert names_to_classes("dress,shirt", names) == ["shirt", "dress"]
    assert names_to_classes("coat, long", names) == ["coat, long"]
    for wrong, said in (("dress,shrt", "'shrt'"), ("Dress", "'Dress'"), (",", "','"), ("0", "'0'")):
        with pytest.raises(SeamlineError, match=rf"the model has no class {said}; it has shirt, coat, long, dress\.$"):
            names_to_classes(wrong, names)


def test_polygons_are_what_pycocotools_reads(untrained: Untrained, tmp_path: Path) -> None:
    """Also those of masks without a pixel, and close to the masks that RLE has."""
    model, photos = untrained.models()["onnx"], untrained.images()[:2]
    for name in ("rle", "polygons"):
        predict(model, *photos, "--out", tmp_path / name, "--format", name)
    loaded = [
        COCO(str(tmp_path / name / "images.json")).loadRes(str(tmp_path / name / "results.json"))
        for name in ("rle", "polygons")
    ]
    assert len(loaded[0].anns) == len(loaded[1].anns) > 3
    for number, annotation in loaded[0].anns.items():
        other = loaded[1].anns[number]
        assert isinstance(other["segmentation"], list)
        assert (annotation["bbox"], annotation["score"]) == (other["bbox"], other["score"])
        first, second = loaded[0].annToMask(annotation), loaded[1].annToMask(other)
        assert (first & second).sum() >= 0.9 * (first | second).sum()
    assert rows_of(tmp_path / "rle" / "predictions.csv") == rows_of(tmp_path / "polygons" / "predictions.csv")


def empty_mask() -> Detections:
    boxes = np.array([[3.5, 4.5, 9, 9]], np.float32)
    return Detections(boxes, boxes[:, 0], np.zeros(1, np.int64), [np.zeros(0, np.int64)], 20, 20)


def test_a_mask_without_a_pixel_is_a_polygon_without_one() -> None:
    truth = COCO()
    truth.dataset = {"images": [{"id": 1, "height": 20, "width": 20}], "annotations": [], "categories": [{"id": 1}]}
    truth.createIndex()
    record = {"image_id": 1, "category_id": 1, "bbox": [3.5, 4.5, 5.5, 4.5], "score": 0.5}
    found = truth.loadRes([{**record, "segmentation": mask_to_polygons(empty_mask(), 0)}])
    assert found.annToMask(found.anns[1]).sum() == 0


def test_an_instance_is_cut_out_by_its_mask(untrained: Untrained, tmp_path: Path) -> None:
    model, photos, out = untrained.models()["onnx"], untrained.images()[:2], tmp_path / "out"
    predict(model, *photos, "--out", out, "--crops")
    rows, results = rows_of(out / "predictions.csv"), results_of(out)
    assert len(rows) == len(results) > 3
    for row, record in zip(rows, results, strict=True):
        mask = rle_to_mask(record["segmentation"]) > 0
        if not mask.any():
            assert row["crop"] == ""
            continue
        x, y, width, height = record["bbox"]
        part = np.s_[int(np.floor(y)) : int(np.ceil(y + height)), int(np.floor(x)) : int(np.ceil(x + width))]
        crop = cv2.imread(str(out / row["crop"]), cv2.IMREAD_UNCHANGED)
        assert crop is not None
        np.testing.assert_array_equal(crop[..., 3], 255 * mask[part])
        assert mask[part].sum() == mask.sum()
        photo = read_image(photos[record["image_id"] - 1])[part]
        np.testing.assert_array_equal(crop[mask[part]][:, :3], photo[mask[part]])
        assert (crop[~mask[part]] == [255, 255, 255, 0]).all()
        assert row["crop"].startswith(f"crops/{class_folders(NAMES)[record['category_id'] - 1]}/")
    written = {path.relative_to(out).as_posix() for path in (out / "crops").rglob("*.png")}
    assert written == {row["crop"] for row in rows if row["crop"]}

    predict(model, photos[0], "--out", out, "--crops")
    left = {path.relative_to(out).as_posix() for path in (out / "crops").rglob("*.png")}
    assert left == {row["crop"] for row in rows_of(out / "predictions.csv") if row["crop"]}, "an earlier run's stayed"
    (out / "crops" / "mine.png").write_bytes(b"")
    with pytest.raises(SeamlineError, match=r"mine\.png: is not a crop, and would be lost"):
        predict(model, photos[0], "--out", out, "--crops")


def test_whatever_decodes_a_photo_does_so_within_the_budget(
    untrained: Untrained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once for the model, once to cut out what was found, once for its picture."""
    counted: list[int] = []
    taken = PixelBudget.taken

    def counting(budget: PixelBudget, pixels: int) -> Any:
        counted.append(pixels)
        return taken(budget, pixels)

    monkeypatch.setattr(PixelBudget, "taken", counting)
    photo = untrained.images()[0]
    main([*map(str, [untrained.models()["onnx"], photo, "--out", tmp_path / "out"]), "--crops", "--confidence", "0.1"])
    height, width = read_image(photo).shape[:2]
    assert counted == [height * width] * 3


@pytest.mark.usefixtures("tiny_family")
@pytest.mark.parametrize("form", ["rle", "polygons"])
def test_a_model_that_finds_boxes_only(tiny: Tiny, tmp_path: Path, form: str) -> None:
    """Records without a segmentation, which pycocotools reads; tables without an area; crops and pictures by box."""
    out, photos = tmp_path / "out", tiny.photos()[:6]
    main([*map(str, [tiny.models()["onnx"], *photos, "--out", out]), "--crops", "--overlays", "all", "--format", form])
    rows, results = rows_of(out / "predictions.csv"), results_of(out)
    assert len(rows) == len(results) > 5
    loaded = COCO(str(out / "images.json")).loadRes(str(out / "results.json"))
    with Detector(tiny.models()["onnx"]) as detector:
        found = {number: detector.detect(photo) for number, photo in enumerate(photos, 1)}
    assert sum(map(len, found.values())) == len(loaded.anns)
    for row, record in zip(rows, results, strict=True):
        assert set(record) == {"image_id", "category_id", "bbox", "score"}
        assert (row["mask_area_px"], row["class"]) == ("", TINY_NAMES[record["category_id"] - 1])
        x, y, width, height = map(round, record["bbox"])  # whole pixels: cells of the photo
        crop = cv2.imread(str(out / row["crop"]), cv2.IMREAD_UNCHANGED)
        assert crop is not None
        photo = read_image(photos[record["image_id"] - 1])
        np.testing.assert_array_equal(crop[..., :3], photo[y : y + height, x : x + width])
        assert (crop[..., 3] == 255).all()
    pictures = sorted((out / "overlays").iterdir())
    assert len(pictures) == len(photos)
    for number, picture in enumerate(pictures, 1):
        drawn, plain = read_image(picture), read_image(photos[number - 1])
        plain = cv2.resize(plain, drawn.shape[1::-1], interpolation=cv2.INTER_LINEAR).astype(np.uint8)
        changed = np.abs(drawn.astype(int) - plain).max(axis=2) > 60
        assert changed.any() == bool(len(found[number]))
        assert changed.mean() < 0.25, "the edge of a box, not the whole of it"


def test_the_crop_of_a_mask_without_a_pixel_is_none() -> None:
    assert crop_png(np.zeros((20, 20, 3), np.uint8), empty_mask(), 0) == b""


def test_no_two_classes_share_a_folder_and_none_leads_elsewhere() -> None:
    folders = class_folders(["a b", "a/b", "A_B", "..", "../x", "", "shirt", "上衣", "x" * 300])
    numbered = class_folders(["a_2", "a b", "a/b", "a!", "A_B", "a b_2", "a_b_3"])
    for made in (folders, numbered, class_folders(["a_b_2", "a b", "a_b"])):
        assert len({folder.casefold() for folder in made}) == len(made)
    assert all(re.fullmatch(r"[\w-]+", folder) and len(folder) <= 70 for folder in folders)
    assert {"shirt", "上衣"} <= set(folders)


def listed(path: str) -> list[str]:
    return [photo.name for photo in find_photos(words([], [path]), Path("predictions"), Remote())]


def test_photos_from_a_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_photos(tmp_path / "shoot", 3)
    monkeypatch.chdir(tmp_path)
    raw = os.fsencode("shoot/") + b"\xff.jpg"
    Path(os.fsdecode(raw)).write_bytes(b"")
    lines = b"\xef\xbb\xbfshoot/000001.jpg\r\n\n  \nshoot/000000.jpg\n" + raw + b"\nshoot\n"
    Path("list.txt").write_bytes(lines)
    expected = ["shoot/000001.jpg", "shoot/000000.jpg", "shoot/\ufffd.jpg", "shoot/000002.jpg"]
    assert listed("list.txt") == expected
    stream = io.TextIOWrapper(io.BytesIO(lines))
    monkeypatch.setattr("sys.stdin", stream)
    assert listed("-") == expected
    Path("list.txt").write_text("shoot/000001.jpg\n\nnothing.jpg\n")
    with pytest.raises(SeamlineError, match=r"^list\.txt, line 3: nothing\.jpg: there is no such file or folder\.$"):
        listed("list.txt")
    Path("list.txt").write_text("shoot\n", encoding="utf-16")
    with pytest.raises(SeamlineError, match=r"^list\.txt, line 1: "):
        listed("list.txt")
    Path("list.txt").write_text("\n\n")
    with pytest.raises(SeamlineError, match=r"^the list of photos is empty\.$"):
        listed("list.txt")
    with pytest.raises(SeamlineError, match=r"^none\.txt: cannot be read as a list of photos"):
        listed("none.txt")


def test_a_run_needs_photos(capsys: Any) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["model.onnx"])
    assert "name images, or with --list a file that lists them" in capsys.readouterr().err


def test_what_is_passed_over_is_counted_by_suffix(
    untrained: Untrained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    photos = write_photos(tmp_path / "photos", 1)
    monkeypatch.setattr("seamline.photos.suffixes.UNREAD_SUFFIXES", {".heix": "pip install x", ".film": "video"})
    for name in ("a.HEIX", "b.heix", "c.film", "._d.heix", "notes.txt", "link.jpg"):
        path = photos / name
        path.symlink_to("nowhere") if name == "link.jpg" else path.touch()
    predict(untrained.models()["onnx"], photos, "--out", tmp_path / "out")
    said = "4 files were passed over: 2 .heix (pip install x), 1 .film (video), 1 .jpg (link to nothing)\n"
    assert said in capsys.readouterr().out
    assert passed_over_text(Counter()) == ""


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_folder_that_cannot_be_read_is_counted(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", 1)
    (photos / "locked").mkdir(mode=0)
    found = find_photos(words([str(photos)], []), tmp_path, Remote())
    assert found.passed_over == {("folder", "cannot be read"): 1}


def test_what_a_run_has_made_is_not_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photos = write_photos(tmp_path / "photos", 2)
    left_by_a_kill = (".overlays.tmp/0001_a.jpg", ".overlays.old.tmp/0001_a.jpg", ".crops.tmp/shirt/0001_a_1.png")
    made = ("overlays/0001_a.jpg", "crops/shirt/0001_a_1.png", "unfinished/crops/ab/c.png", *left_by_a_kill)
    for name in (*made, "mine/a.jpg"):
        (photos / "out" / name).parent.mkdir(parents=True, exist_ok=True)
        (photos / "out" / name).touch()
    expected = ["000000.jpg", "000001.jpg", "out/mine/a.jpg"]
    for argument in (photos, f"{photos}/**"):
        found = find_photos(words([str(argument)], []), photos / "out", Remote())
        assert [photo.name for photo in found] == [f"{photos}/{name}" for name in expected]
    by_name = photos / "out" / "overlays" / "0001_a.jpg"
    assert found_names(by_name) == [str(by_name)]


def test_a_folder_that_links_to_itself_has_an_end(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", 2)
    (photos / "again").symlink_to(photos)
    (photos / "film.mov").touch()
    found = find_photos(words([str(photos)], []), tmp_path, Remote())
    assert len(found) == 2
    assert sum(found.passed_over.values()) == 1, "it was searched more than once"


def test_a_photo_of_another_size_or_time_has_another_stamp(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"

    def stamp(data: bytes, time_ns: int) -> str:
        path.write_bytes(data)
        os.utime(path, ns=(time_ns, time_ns))
        [photo] = find_photos(words([str(path)], []), tmp_path, Remote())
        return photo.stamp

    stamps = [stamp(data, 1_800_000_000_000_000_000 + time_ns) for data in (b"1", b"22") for time_ns in (0, 1000)]
    assert len(set(stamps)) == 4


def test_the_pixels_of_a_photo_may_be_limited(
    untrained: Untrained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The option is the Detector's."""
    asked = []

    class Limited(Detector):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            asked.append(options["max_pixels"])
            super().__init__(*arguments, **options)

    monkeypatch.setattr("seamline.inference.detector.Detector", Limited)
    for options in ((), ("--max-pixels", "1000000")):
        predict(untrained.models()["onnx"], untrained.images()[0], "--out", tmp_path / "out", *options)
    assert asked == [MAX_PIXELS, 1_000_000]


def test_a_log_gets_lines(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr("seamline.base.progress.LINE_EVERY_S", 0.0)
    progress = CountProgress("predicted", "images", 3000, before=1200)
    progress.add()
    progress.add(bad=True)
    progress.close()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert re.fullmatch(r"predicted 1,202 of 3,000 images, [\d.]+ a second, 1 of them cannot be used", lines[1])
    assert CountProgress("found", "photos").line(1.0) == "found 0 photos, 0.0 a second"
