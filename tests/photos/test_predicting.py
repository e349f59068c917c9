"""`seamline predict` as a user runs it: what images are found, what is written, and what becomes of the others."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from seamline.base.errors import SeamlineError
from seamline.images.colours import COLOURS, hex_to_bgr
from seamline.images.overlays import SIDE_PX
from seamline.images.reading import ImageError, read_image
from seamline.inference.detector import Detector
from seamline.masks.rle import mask_to_rle
from seamline.photos import writing
from seamline.photos.drawing import found_in
from seamline.photos.finding import find_photos, words
from seamline.photos.remote import Remote
from seamline.verbs.predict import main
from tests.conftest import PROJECT
from tests.untrained import NAMES, WITHOUT_TORCH, Untrained

CONFIDENCE = 0.05
FILES = ["errors.csv", "images.json", "overlays", "predictions.csv", "results.json"]
BLOCKED = (
    WITHOUT_TORCH
    + """
import runpy

sys.argv = sys.argv[1:]
runpy.run_module(sys.argv[0], run_name="__main__")
"""
)


@pytest.fixture
def photos(untrained: Untrained, tmp_path: Path) -> Path:
    """A folder of four photos, one of them two folders down, with names as people give them, and other files."""
    folder = tmp_path / "my photos"
    names = ["b.jpg", "a b.JPG", "ünï ✓.jpg", "sub/deep er/c.jpeg"]
    for name, image in zip(names, untrained.images(), strict=False):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(image.read_bytes())
    (folder / "notes.txt").write_text("no image")
    (folder / "README").write_text("no suffix")
    (folder / "sub" / "._c.jpeg").write_bytes(b"left by a system")
    return folder


def predict(*arguments: Path | str) -> None:
    """In this process; raises SystemExit or SeamlineError where the command would not exit with 0."""
    main([*map(str, arguments), "--confidence", str(CONFIDENCE)])


def predict_command(*arguments: Path | str, before: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    words = ["seamline", "predict", *map(str, arguments), "--confidence", str(CONFIDENCE)]
    command = [sys.executable, *(before or ("-m",)), *words]
    return subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def file_names(out: Path) -> list[str]:
    return [image["file_name"] for image in json.loads((out / "images.json").read_text())["images"]]


def found_names(*arguments: Path | str) -> list[str]:
    named = words([str(argument) for argument in arguments], [])
    return [photo.name for photo in find_photos(named, Path("predictions"), Remote())]


def test_a_folder_is_searched_to_its_end(photos: Path) -> None:
    (photos / "sub" / "__MACOSX").mkdir()
    (photos / "sub" / "__MACOSX" / "c.jpeg").write_bytes(b"left by an archive")
    names = ["a b.JPG", "b.jpg", "sub/deep er/c.jpeg", "ünï ✓.jpg"]
    assert found_names(photos) == [f"{photos}/{name}" for name in names]
    assert found_names(photos / "sub") == [f"{photos}/sub/deep er/c.jpeg"]


def test_files_keep_their_order_and_any_suffix(photos: Path) -> None:
    assert found_names(photos / "notes.txt", photos / "b.jpg", photos / "a b.JPG") == [
        f"{photos}/notes.txt",
        f"{photos}/b.jpg",
        f"{photos}/a b.JPG",
    ]


def test_globs(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert found_names(f"{photos}/*.jpg") == [f"{photos}/b.jpg", f"{photos}/ünï ✓.jpg"]
    assert found_names(f"{photos}/**/*.jp*g") == [
        f"{photos}/b.jpg",
        f"{photos}/sub/deep er/c.jpeg",
        f"{photos}/ünï ✓.jpg",
    ]
    assert len(found_names(f"{photos}/**")) == 4
    assert found_names(f"{photos}/*.txt") == [f"{photos}/notes.txt"]
    monkeypatch.chdir(photos)
    assert found_names("*.jpg") == ["b.jpg", "ünï ✓.jpg"]
    (photos / "b[1].jpg").write_bytes(b"")
    assert found_names("b[1].jpg") == ["b[1].jpg"]


def test_a_file_named_twice_is_found_once(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(photos)
    (photos.parent / "link").symlink_to(photos)
    again = [str(photos / "b.jpg"), "./b.jpg", "sub/../b.jpg", "*.jpg", "../link/b.jpg", "b.jpg"]
    assert found_names(*again) == [f"{photos}/b.jpg", "ünï ✓.jpg"]


def test_two_photos_that_are_links_to_one_cached_file_are_two(photos: Path) -> None:
    """As DVC makes them of a dataset with two equal files, where cache.type is symlink."""
    folder = photos.parent / "checked out"
    folder.mkdir()
    for name in ("one.jpg", "two.jpg"):
        (folder / name).symlink_to(photos / "b.jpg")
    assert found_names(folder) == [f"{folder}/one.jpg", f"{folder}/two.jpg"]


def test_a_name_that_is_not_utf8_can_be_written_down(photos: Path) -> None:
    raw = os.fsencode(photos) + b"/\xff.jpg"
    Path(os.fsdecode(raw)).write_bytes(b"")
    assert f"{photos}/\ufffd.jpg" in found_names(photos)


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("nothing.jpg", r"^nothing\.jpg: there is no such file or folder\.$"),
        ("", "^'': there is no such file or folder"),
        ("n" * 300, "^n{300}: cannot be read"),
        ("hollow", r"^hollow: there is no image there \(.*\.bmp, "),
        ("*.jpg", r"^\*\.jpg: there is no image there"),
        ("/dev/null", "^/dev/null: is not a file and not a folder"),
        ("a\0b.jpg", "cannot be the name of a file"),
        (
            "file:///etc/passwd",
            r"^file:///etc/passwd: cannot be read; addresses begin with s3://, https:// or http://\.$",
        ),
        ("zip://*.jpg::s3://bucket/a.zip", "^zip://.* addresses begin with"),
        ("simplecache::s3://bucket/a.jpg", "addresses begin with"),
        ("gs://bucket/a.jpg", "addresses begin with"),
        ("memory://bucket/a.jpg", "addresses begin with"),
        ("s3:///a.jpg", "^s3:/+a.jpg: has to be s3://BUCKET/KEY"),
        ("s3://key:secret@bucket/a.jpg", "^s3://bucket/a.jpg: has to be s3://BUCKET/KEY, without a user or password"),
        ("http://[::1", r"^http://\[::1: is not an address"),
        ("https:///a.jpg", "is not an address"),
        ("http://host:x/a.jpg", "is not an address"),
        ("clip.mp4", r"^clip\.mp4: is a video; save its frames as images"),
        ("photos.zip", r"^photos\.zip: is an archive; unpack it"),
        ("films", r"there is no image there .*; 2 files were passed over: 2 \.mp4 \(.*video"),
    ],
)
def test_what_names_nothing_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, argument: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hollow").mkdir()
    (tmp_path / "films" / "more").mkdir(parents=True)
    for name in ("there.png", "clip.mp4", "photos.zip", "films/a.MP4", "films/more/b.mp4"):
        (tmp_path / name).touch()
    with pytest.raises(SeamlineError, match=message):
        found_names("there.png", argument)


def test_results_are_the_detectors_own(untrained: Untrained, photos: Path, tmp_path: Path, capsys: Any) -> None:
    """And belong together: COCO loads both files, and the table says the same as the masks."""
    model, out = untrained.models()["onnx"], tmp_path / "out"
    predict(model, photos, "--out", out)
    names = ["a b.JPG", "b.jpg", "sub/deep er/c.jpeg", "ünï ✓.jpg"]
    assert sorted(path.name for path in out.iterdir()) == FILES
    images = json.loads((out / "images.json").read_text())
    assert images["categories"] == [{"id": 1, "name": NAMES[0]}, {"id": 2, "name": NAMES[1]}]
    assert [image["file_name"] for image in images["images"]] == [f"{photos}/{name}" for name in names]
    for number, (image, name) in enumerate(zip(images["images"], names, strict=True), 1):
        height, width = read_image(photos / name).shape[:2]
        assert (image["id"], image["height"], image["width"]) == (number, height, width)

    detector = Detector(model, CONFIDENCE)
    expected = [
        record
        for number, name in enumerate(names, 1)
        for record in detector.detect(photos / name).to_coco(number, [1, 2])
    ]
    results = json.loads((out / "results.json").read_text())
    assert len(results) == len(expected) > 20
    assert {record["category_id"] for record in results} == {1, 2}
    for record, wanted in zip(results, expected, strict=True):
        assert (record["image_id"], record["category_id"]) == (wanted["image_id"], wanted["category_id"])
        np.testing.assert_allclose(record["bbox"], wanted["bbox"], atol=0.05)
        assert record["score"] == pytest.approx(wanted["score"], abs=1e-4)
        assert coco_mask.iou([record["segmentation"]], [wanted["segmentation"]], [0])[0, 0] > 0.99

    loaded = COCO(str(out / "images.json")).loadRes(str(out / "results.json"))
    rows = rows_of(out / "predictions.csv")
    assert list(rows[0]) == ["image_id", "file_name", "class", "score", "x", "y", "width", "height", "mask_area_px"]
    assert len(rows) == len(loaded.anns) == len(results)
    for row, annotation in zip(rows, loaded.anns.values(), strict=True):
        assert (
            int(row["mask_area_px"])
            == loaded.annToMask(annotation).sum()
            == coco_mask.area(loaded.annToRLE(annotation))
        )
        assert int(row["image_id"]) == annotation["image_id"]
        assert row["file_name"] == f"{photos}/{names[annotation['image_id'] - 1]}"
        assert row["class"] == NAMES[annotation["category_id"] - 1]
        assert float(row["score"]) == annotation["score"]
        assert [float(row[side]) for side in ("x", "y", "width", "height")] == annotation["bbox"]
    assert sum(int(row["mask_area_px"]) for row in rows) > 0
    assert (out / "errors.csv").read_text() == "file_name,reason\n"

    printed = capsys.readouterr().out
    assert printed.startswith("4 images in ")
    counts = [sum(row["class"] == name for row in rows) for name in NAMES]
    assert f"{len(rows)} instances: {NAMES[0]} {counts[0]}, {NAMES[1]} {counts[1]}" in printed
    assert f"see {out}" in printed


def test_bad_files_are_listed_and_the_others_predicted(untrained: Untrained, photos: Path, tmp_path: Path) -> None:
    model, out = untrained.models()["onnx"], tmp_path / "out"
    good = (photos / "b.jpg").read_bytes()
    (photos / "half.jpg").write_bytes(good[: len(good) // 2])
    (photos / "empty.png").touch()
    (photos / "text.png").write_text("no image")
    (photos / "small.png").write_bytes(cv2.imencode(".png", np.zeros((4, 4, 3), np.uint8))[1].tobytes())
    frames = [Image.new("RGB", (40, 40), colour) for colour in ("red", "blue")]
    frames[0].save(photos / "moves.webp", save_all=True, append_images=frames[1:])
    reasons = {
        "empty.png": "is empty.",
        "half.jpg": "is not an image that can be decoded",
        "moves.webp": "has 2 pictures",
        "small.png": "has 4 x 4 pixels",
        "text.png": "is not an image that can be decoded",
    }
    done = predict_command(model, photos, photos / "notes.txt", "--out", out)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    listed = done.stderr.strip().splitlines()
    assert listed[0] == f"6 of 10 files cannot be used ({out}/errors.csv):"
    rows = rows_of(out / "errors.csv")
    assert listed[1:] == [f"{row['file_name']}: {row['reason']}" for row in rows]
    assert [row["file_name"] for row in rows] == [f"{photos}/{name}" for name in [*reasons, "notes.txt"]]
    for row, reason in zip(rows, reasons.values(), strict=False):
        assert row["reason"].startswith(reason)
    assert done.stdout.startswith("4 images in ")
    assert [Path(name).name for name in file_names(out)] == ["a b.JPG", "b.jpg", "c.jpeg", "ünï ✓.jpg"]
    assert {record["image_id"] for record in json.loads((out / "results.json").read_text())} == {1, 2, 3, 4}
    assert sorted(path.name for path in (out / "overlays").iterdir()) == [
        "0001_a_b.jpg", "0002_b.jpg", "0003_c.jpg", "0004_ünï_.jpg",
    ]  # fmt: skip


def test_nothing_but_bad_files_leaves_empty_results(photos: Path, untrained: Untrained, tmp_path: Path) -> None:
    done = predict_command(untrained.models()["onnx"], photos / "notes.txt", "--out", tmp_path / "out")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 2
    assert json.loads((tmp_path / "out" / "results.json").read_text()) == []
    assert done.stdout.splitlines()[1] == "no image could be used"
    assert file_names(tmp_path / "out") == []
    assert rows_of(tmp_path / "out" / "predictions.csv") == []


def test_what_a_user_gets_wrong_is_one_sentence(untrained: Untrained, photos: Path, tmp_path: Path) -> None:
    model, out = untrained.models()["onnx"], tmp_path / "out"
    (tmp_path / "file").touch()
    for arguments, status, message in [
        (
            (model, photos, tmp_path / "nothing.jpg"),
            1,
            f"error: {tmp_path}/nothing.jpg: there is no such file or folder.",
        ),
        ((tmp_path / "no.onnx", photos), 1, f"error: {tmp_path}/no.onnx: there is no such model"),
        ((model, photos, "--precision", "f16"), 1, "cannot be run in f16 on cpu"),
        ((model, photos, "--out", tmp_path / "file"), 1, f"error: {tmp_path}/file"),
        ((model,), 2, "images"),
    ]:
        done = predict_command(*arguments[:1], *arguments[1:], *(() if "--out" in arguments else ("--out", out)))
        assert done.returncode == status, done.stderr
        assert message in done.stderr
        assert "Traceback" not in done.stderr
        assert done.stdout == ""
    assert not out.exists()
    assert (tmp_path / "file").read_bytes() == b""


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--confidence", "1.1"),
        ("--confidence", "nan"),
        ("--threads", "0"),
        ("--threads", "two"),
        ("--batch", "-1"),
        ("--overlays", "some"),
        ("--overlays", "-1"),
    ],
)
def test_options_out_of_range_are_refused(capsys: Any, option: str, value: str) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["model.onnx", "photo.jpg", option, value])
    assert f"argument {option}: has to be a number from " in capsys.readouterr().err


def test_a_model_that_fails_is_one_sentence(
    untrained: Untrained, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from seamline.models.engines.onnx import OnnxEngine

    def fail(*_: Any) -> Any:
        raise RuntimeError("out of\nmemory")

    monkeypatch.setattr(OnnxEngine, "infer_beside", fail)
    with pytest.raises(SeamlineError, match=r"cannot be run on these images \(RuntimeError: out of memory\)\.$"):
        predict(untrained.models()["onnx"], photos, "--out", tmp_path / "out")


@pytest.mark.parametrize("name", ["onnx", "openvino"])
def test_deployed_models_need_neither_torch_nor_ultralytics(untrained: Untrained, tmp_path: Path, name: str) -> None:
    image, out = untrained.images()[0], tmp_path / "out"
    done = predict_command(untrained.models()[name], image, "--out", out, before=("-c", BLOCKED))
    assert done.returncode == 0, done.stderr
    assert len(rows_of(out / "predictions.csv")) > 0
    assert len(list((out / "overlays").glob("0001_*.jpg"))) == 1
    refused = predict_command(untrained.weights, image, "--out", out, before=("-c", BLOCKED))
    assert "torch is blocked" in refused.stderr, "the test blocks nothing"


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("pytorch", ("--threads", "1")),
        ("onnx", ("--batch", "3")),
        ("openvino", ("--batch", "2", "--threads", "2")),
    ],
)
def test_every_format_batch_and_number_of_threads_finds_what_one_image_at_a_time_does(
    untrained: Untrained, tmp_path: Path, name: str, options: tuple[str, ...]
) -> None:
    images, model = untrained.images()[:5], untrained.models()[name]
    predict(model, *images, "--out", tmp_path, *options)
    assert file_names(tmp_path) == [str(image) for image in images]
    detector = Detector(model, CONFIDENCE)
    strong = 0
    for image in images:
        found = detector.detect(image)
        rows = [row for row in rows_of(tmp_path / "predictions.csv") if row["file_name"] == str(image)]
        assert abs(len(rows) - len(found.scores)) <= 1  # one may lie on the threshold
        expected = [NAMES[number] for number, score in zip(found.classes, found.scores, strict=True) if score > 0.3]
        assert sorted(row["class"] for row in rows if float(row["score"]) > 0.3) == sorted(expected)
        strong += len(expected)
    assert strong > 5


def test_two_runs_write_the_same_bytes(untrained: Untrained, photos: Path, tmp_path: Path) -> None:
    written = []
    for out in (tmp_path / "one", tmp_path / "two"):
        assert predict_command(untrained.models()["openvino"], photos, "--out", out).returncode == 0
        files = [path for path in sorted(out.rglob("*")) if path.is_file()]
        written.append({path.relative_to(out).as_posix(): path.read_bytes() for path in files})
    assert len(written[0]) == 4 + 4
    assert written[0] == written[1]


def test_overlays_are_spread_and_those_of_an_earlier_run_go(untrained: Untrained, tmp_path: Path) -> None:
    model, images, out = untrained.models()["onnx"], untrained.images()[:6], tmp_path / "out"
    for count, expected in [("all", {1, 2, 3, 4, 5, 6}), ("3", {1, 3, 5}), ("100", set(range(1, 7))), ("0", set())]:
        predict(model, *images, "--out", out, "--overlays", count)
        assert {int(path.name[:4]) for path in (out / "overlays").iterdir()} == set(expected)
    assert sorted(path.name for path in out.iterdir()) == FILES
    predict(model, *images, "--out", out, "--overlays", "1")
    assert not sorted(tmp_path.rglob(".*")), "a temporary file was left"


def test_pictures_of_an_earlier_run_are_no_photos(untrained: Untrained, photos: Path) -> None:
    for _ in range(2):
        predict(untrained.models()["onnx"], photos, "--out", photos / "out")
        assert len(file_names(photos / "out")) == 4
    assert len(list((photos / "out" / "overlays").iterdir())) == 4


def test_a_folder_of_other_pictures_is_not_replaced(untrained: Untrained, photos: Path, tmp_path: Path) -> None:
    own = tmp_path / "overlays" / "holiday.jpg"
    own.parent.mkdir()
    own.write_bytes(b"mine")
    with pytest.raises(SeamlineError, match=r"holiday\.jpg: is not an overlay, and would be lost"):
        predict(untrained.models()["onnx"], photos, "--out", tmp_path)
    assert own.read_bytes() == b"mine"
    assert not (tmp_path / "results.json").exists()


def test_a_picture_shows_each_class_in_its_colour() -> None:
    """Also where the photo is far larger than the picture, which keeps its shape."""
    image = np.full((1200, 600, 3), 200, np.uint8)
    masks = [np.zeros((1200, 600), np.uint8) for _ in range(2)]
    masks[0][100:500, 100:500] = 1
    masks[1][700:1100, 100:500] = 1
    records = [
        {"category_id": number, "score": 0.9, "segmentation": mask_to_rle(mask)}
        for number, mask in zip((2, 1), masks, strict=True)
    ]
    picture = found_in(image, records, ["top", "trousers"])
    assert picture.shape == (SIDE_PX, SIDE_PX // 2, 3)
    scale = SIDE_PX / 1200
    for y, index in ((150, 1), (750, 0)):  # above the label
        tinted = 0.55 * 200 + 0.45 * np.array(hex_to_bgr(COLOURS[index]))
        np.testing.assert_allclose(picture[round(y * scale), round(300 * scale)], tinted, atol=2)
    np.testing.assert_array_equal(picture[round(600 * scale), round(300 * scale)], [200, 200, 200])
    written = picture[round(300 * scale) - 8 : round(300 * scale) + 8]
    assert (written == 255).all(axis=2).any(), "no label"


def test_a_table_for_people_has_no_formula_and_files_for_programs_every_name_as_it_is(
    untrained: Untrained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "=1+1.jpg").write_bytes(untrained.images()[0].read_bytes())
    (tmp_path / "@half.jpg").write_bytes(untrained.images()[0].read_bytes()[:700])
    with pytest.raises(SystemExit, match="1"):
        predict(untrained.models()["onnx"], "*.jpg", "--out", tmp_path / "out")
    assert {row["file_name"] for row in rows_of(tmp_path / "out" / "predictions.csv")} == {"'=1+1.jpg"}
    assert [row["file_name"] for row in rows_of(tmp_path / "out" / "errors.csv")] == ["'@half.jpg"]
    assert file_names(tmp_path / "out") == ["=1+1.jpg"]


def test_a_photo_that_cannot_be_drawn_has_no_formula_in_the_table_either(
    untrained: Untrained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "=1+1.jpg").write_bytes(untrained.images()[0].read_bytes())

    def gone(*_: Any) -> None:
        raise ImageError("=1+1.jpg: there is no such file.")

    monkeypatch.setattr(writing, "read_within_budget", gone)
    with pytest.raises(SystemExit, match="1"):
        predict(untrained.models()["onnx"], "*.jpg", "--out", tmp_path / "out")
    [row] = rows_of(tmp_path / "out" / "errors.csv")
    assert row["file_name"] == "'=1+1.jpg" and "cannot be drawn" in row["reason"]


def test_a_name_is_not_a_command_to_a_terminal(untrained: Untrained, tmp_path: Path) -> None:
    """Photos come from anybody: one whose name would paint the terminal or begin a line of its own, and is damaged."""
    name = "x\x1b[31m\x1b]0;title\x07\nerror: all is lost\u202egpj.jpg"
    (tmp_path / name).write_bytes(untrained.images()[0].read_bytes()[:700])
    shown = r"x\x1b[31m\x1b]0;title\x07\nerror: all is lost\u202egpj.jpg"
    listed = predict_command(untrained.models()["onnx"], tmp_path, "--out", tmp_path / "out")
    refused = predict_command(untrained.models()["onnx"], tmp_path / f"no {name}", "--out", tmp_path / "out")
    assert shown in listed.stderr and shown in refused.stderr
    for said in (listed.stdout, listed.stderr, refused.stderr):
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]|^error: all", said, re.MULTILINE)
