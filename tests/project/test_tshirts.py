"""The second sample, T-shirts with attributes, is what it says, and its script makes it byte for byte."""

from __future__ import annotations

import csv
import io
import subprocess
import sys
import warnings
import zipfile
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from samples.drawing import to_jpeg
from samples.make_tshirts import (
    ATTRIBUTES,
    CONTRADICTIONS,
    JPEG_QUALITY,
    MISSING,
    PHOTOS_WITHOUT_ROW,
    ROWS_WITHOUT_PHOTO,
    SHIRTS,
    make_photo,
    plan_values,
)
from tests.conftest import PROJECT

ZIP = PROJECT / "samples" / "tshirts.zip"


@pytest.fixture(scope="module")
def photos() -> dict[str, bytes]:
    with zipfile.ZipFile(ZIP) as archive:
        return {Path(name).name: archive.read(name) for name in archive.namelist() if name.startswith("images/")}


@pytest.fixture(scope="module")
def rows() -> list[dict[str, str]]:
    with zipfile.ZipFile(ZIP) as archive:
        return list(csv.DictReader(io.StringIO(archive.read("attributes.csv").decode())))


def test_it_is_small_and_has_the_source_projects_form(photos: dict[str, bytes], rows: list[dict[str, str]]) -> None:
    assert ZIP.stat().st_size <= 3_000_000
    assert SHIRTS >= 600
    assert len(photos) > SHIRTS
    assert list(rows[0]) == ["filename", "neck", "sleeve_length", "pattern"]


def test_the_script_makes_every_thirtieth_photo_byte_for_byte(photos: dict[str, bytes]) -> None:
    """All of them take twenty seconds; each is drawn from a seed of its own."""
    contents = set(photos.values())
    for number, values in list(enumerate(plan_values(), 1))[::30]:
        assert to_jpeg(make_photo(number, values), JPEG_QUALITY) in contents, number


@pytest.mark.thorough
def test_the_script_makes_it_byte_for_byte(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "samples.make_tshirts", str(tmp_path / "again.zip")]
    subprocess.run(command, check=True, capture_output=True, cwd=PROJECT)
    assert (tmp_path / "again.zip").read_bytes() == ZIP.read_bytes()


def test_rows_are_as_odd_as_real_ones(photos: dict[str, bytes], rows: list[dict[str, str]]) -> None:
    named = Counter(row["filename"] for row in rows)
    assert sum(name not in photos for name in named) == ROWS_WITHOUT_PHOTO
    assert sum(name not in named for name in photos) == PHOTOS_WITHOUT_ROW
    said: dict[tuple[str, str], set[str]] = {}
    for row in rows:
        for name in ATTRIBUTES:
            if row[name] != MISSING:
                said.setdefault((row["filename"], name), set()).add(row[name])
    assert sum(len(values) > 1 for values in said.values()) == CONTRADICTIONS
    assert sum(count > 1 for count in named.values()) > 60
    assert len(set(photos.values())) < len(photos)
    assert sum(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) is None for data in photos.values()) == 1
    for name, values in ATTRIBUTES.items():
        share = sum(row[name] == MISSING for row in rows) / len(rows)
        assert 0.28 < share < 0.4, name
        assert {row[name] for row in rows} == {str(code) for _, code, _ in values} | {MISSING}


def small(data: bytes) -> npt.NDArray[np.float64] | None:
    """16 x 16 pixels in a row."""
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    return None if picture is None else cv2.resize(picture, (16, 16), interpolation=cv2.INTER_AREA).ravel() / 255


def test_16_by_16_pixels_do_not_say_an_attribute(photos: dict[str, bytes], rows: list[dict[str, str]]) -> None:
    """They are drawn as shapes: colours and positions alone do not say them."""
    pixels = {name: found for name, data in photos.items() if (found := small(data)) is not None}
    for name in ATTRIBUTES:
        codes = {row["filename"]: row[name] for row in rows if row[name] != MISSING and row["filename"] in pixels}
        features, truth = np.array([pixels[photo] for photo in codes]), np.array(list(codes.values()))
        scores = []
        for strength, weights in ((0.01, None), (0.01, "balanced"), (0.1, "balanced")):
            model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, class_weight=weights, max_iter=200))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                scores.append(f1_score(truth, cross_val_predict(model, features, truth, cv=3), average="macro"))
        assert max(scores) < 0.6, (name, scores)
