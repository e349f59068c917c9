"""`seamline describe`: the table of attributes in the form of the CSV that the model learned from."""

from __future__ import annotations

import csv
import json
import zipfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from seamline.base.errors import SeamlineError
from seamline.photos import product_photos
from seamline.verbs.describe import main
from tests.describers import CODES, make_classifier

# What each photo is, drawn: blue, green and red, and the values that follow.
PHOTOS = {
    "a.png": ((10, 10, 200), "red", None),
    "b.png": ((250, 240, 230), "blue", "bright"),
    "deep/c.png": ((0, 0, 0), "red", "dark"),  # as red as blue: the first
    "=d.png": ((255, 30, 0), "blue", None),
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_classifier(tmp_path_factory.mktemp("model"), 4.0)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    for name, (colour, _, _) in PHOTOS.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / name), np.full((40, 30, 3), colour, np.uint8))
    return folder


def describe(model: Path, *words: Any) -> None:
    main([*map(str, words), "--model", str(model), "--threads", "2"])


def table(path: Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.reader(stream))


def expected_rows() -> list[list[str]]:
    """By name, as folders are gone through."""
    rows = []
    for name in ("=d.png", "a.png", "b.png", "deep/c.png"):
        _, colour, tone = PHOTOS[name]
        shown = Path(name).name
        code = "" if tone is None else CODES["tone"][tone]
        rows.append([f"'{shown}" if shown.startswith("=") else shown, CODES["colour"][colour], code])
    return rows


def test_a_folder_becomes_a_table_in_the_form_of_the_training_csv(model: Path, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    describe(model, photos, "--out", out)
    header, *rows = table(out / "Output.csv")
    assert header == ["filename", "colour_code", "'=tone"]
    assert rows == expected_rows()
    names, *confidences = table(out / "confidences.csv")
    assert names == header
    assert [row[0] for row in confidences] == [row[0] for row in rows]
    for row, own in zip(rows, confidences, strict=True):
        assert 0.5 <= float(own[1]) <= 1
        assert (float(own[2]) >= 0.7) == bool(row[2])
    assert table(out / "errors.csv") == [["filename", "reason"]]
    assert sorted(path.name for path in out.iterdir()) == ["Output.csv", "confidences.csv", "errors.csv"]


def test_the_likeliest_value_is_named_where_that_is_asked_for(model: Path, photos: Path, tmp_path: Path) -> None:
    describe(model, photos, "--out", tmp_path / "out", "--likeliest")
    rows = table(tmp_path / "out" / "Output.csv")[1:]
    assert all(cell for row in rows for cell in row)
    assert [row[1] for row in rows] == [row[1] for row in expected_rows()]


def test_a_table_of_somebodys_is_not_lost(model: Path, photos: Path, tmp_path: Path) -> None:
    own = tmp_path / "shop" / "Output.csv"
    own.parent.mkdir()
    own.write_text("mine")
    with pytest.raises(SeamlineError, match="was not made by seamline describe, and would be lost"):
        describe(model, photos, "--out", own.parent)
    assert own.read_text() == "mine" and list(own.parent.iterdir()) == [own]
    own.unlink()
    for _ in range(2):
        describe(model, photos, "--out", own.parent)
    assert len(table(own)) == 1 + len(PHOTOS)


def test_a_zip_is_read_as_its_folder_and_leaves_nothing(
    model: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive = tmp_path / "shop.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("film.mov", "not read")
        for name in PHOTOS:
            packed.write(photos / name, name)
    describe(model, archive, "--out", tmp_path / "out")
    assert "1 file was passed over: 1 .mov" in capsys.readouterr().out
    assert table(tmp_path / "out" / "Output.csv")[1:] == expected_rows()
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["Output.csv", "confidences.csv", "errors.csv"]


def test_photos_of_one_name_are_named_by_their_paths(model: Path, photos: Path, tmp_path: Path) -> None:
    (photos / "deep" / "a.png").write_bytes((photos / "b.png").read_bytes())
    describe(model, photos, "--out", tmp_path / "out")
    names = [row[0] for row in table(tmp_path / "out" / "Output.csv")[1:]]
    assert names == ["'=d.png", f"{photos}/a.png", "b.png", f"{photos}/deep/a.png", "c.png"]


def test_broken_photos_are_listed_and_all_others_done(
    model: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "broken.png").write_bytes(b"not a photo")
    with pytest.raises(SystemExit) as ended:
        describe(model, photos, "--out", tmp_path / "out")
    assert ended.value.code == 1
    assert table(tmp_path / "out" / "Output.csv")[1:] == expected_rows()
    [(name, reason)] = table(tmp_path / "out" / "errors.csv")[1:]
    assert (name, "is not an image" in reason) == (f"{photos}/broken.png", True)
    assert "1 of 5 files cannot be used" in capsys.readouterr().err


def test_a_run_that_was_cut_resumes(
    model: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"

    def cut(*arguments: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(product_photos, "csv_writer", cut)
        describe(model, photos, "--out", out)
    lines = (out / "unfinished" / "done.jsonl").read_text().splitlines()
    assert len(lines) == 4
    (out / "unfinished" / "done.jsonl").write_text("\n".join(lines[:2]) + '\n{"pho')
    with pytest.raises(SeamlineError, match="is an unfinished run with another --likeliest"):
        describe(model, photos, "--out", out, "--likeliest")
    capsys.readouterr()
    describe(model, photos, "--out", out)
    assert "2 of 4 photos are done already" in capsys.readouterr().out
    assert table(out / "Output.csv")[1:] == expected_rows()
    assert json.loads(lines[0])["instances"][0]["attributes"]["colour"]["value"] == "blue"


def test_what_is_not_a_model_of_attributes_or_names_nothing(model: Path, photos: Path, tmp_path: Path) -> None:
    with pytest.raises(SeamlineError, match=r"there is no such file or folder"):
        describe(model, tmp_path / "none", "--out", tmp_path / "out")
    with pytest.raises(SystemExit):
        main(["--model", str(model)])
    with zipfile.ZipFile(tmp_path / "empty.zip", "w") as packed:
        packed.writestr("notes.txt", "no photo")
    with pytest.raises(SeamlineError, match=r"empty.zip: there is no image in it"):
        describe(model, tmp_path / "empty.zip", "--out", tmp_path / "out")
    (tmp_path / "bad.zip").write_bytes(b"PK")
    with pytest.raises(SeamlineError, match=r"bad.zip: is not a readable archive"):
        describe(model, tmp_path / "bad.zip", "--out", tmp_path / "out")
