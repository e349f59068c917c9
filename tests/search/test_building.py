"""A catalogue of photos: resumed after a kill with the same bytes, and a photo that is broken costs itself alone."""

from __future__ import annotations

import itertools
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from pycocotools import mask as coco_mask

from seamline.base.errors import SeamlineError
from seamline.images.reading import Image
from seamline.models.detections import Attribute, Detections
from seamline.photos.remote import Remote
from seamline.search.building import crop_jpeg, instance_to_garment, listed_to_entries, open_journal, run_key
from seamline.search.catalogue import open_catalogue
from seamline.search.sources import find_listing
from tests.conftest import PROJECT
from tests.search.made import HalvesDetector, tools, write_photos
from tests.search.process import SHA256, build


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def start(*arguments: object) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.search.process", *map(str, arguments)]
    process = subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    return process


@pytest.mark.parametrize(
    ("count", "cuts"), [(60, (0, 25)), pytest.param(150, (0, 15, 40, 65, 90, 115), marks=pytest.mark.thorough)]
)
def test_a_killed_build_resumes_with_the_same_bytes_and_answers(
    tmp_path: Path, count: int, cuts: tuple[int, ...]
) -> None:
    write_photos(tmp_path / "photos", count)
    (tmp_path / "photos" / "torn.jpg").write_bytes(b"\xff\xd8\xff\xe0 torn")
    build(tmp_path / "photos", tmp_path / "whole", tmp_path / "scratch1", tools(whole_photos=True))
    journal, done = tmp_path / "scratch2", [0]

    def in_journal() -> int:
        return sum(path.read_bytes().count(b"\n") for path in journal.glob("*/done.jsonl"))

    for photos in cuts:  # what is done, since a busy machine's clock would decide
        process = start("build", tmp_path / "photos", tmp_path / "killed", journal)
        while process.poll() is None and in_journal() < photos:
            time.sleep(0.002)
        process.kill()
        process.wait()
        done.append(in_journal())
    assert done == sorted(done), "a kill lost what was done"
    assert max(photos for photos in done if photos <= count) > 0
    process = start("build", tmp_path / "photos", tmp_path / "killed", journal)
    assert process.wait(timeout=60) == 0, process.stderr
    assert files_of(tmp_path / "killed") == files_of(tmp_path / "whole")
    assert not journal.exists()
    with open_catalogue(tmp_path / "killed") as one, open_catalogue(tmp_path / "whole") as other:
        queries = np.random.default_rng(1).normal(size=(20, 24))
        assert one.search(queries, 5) == other.search(queries, 5)
        assert [name for name, _ in one.table.unusable()] == ["torn.jpg"]


def test_what_the_journal_has_is_not_looked_at_again(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", 12)
    ours = tools()
    detector = ours.detector
    assert isinstance(detector, HalvesDetector)
    listing = find_listing(str(tmp_path / "photos"), None, {}, ours.remote)
    with pytest.raises(KeyboardInterrupt), open_journal(tmp_path / "scratch", tmp_path / "out", "key") as journal:
        list(listed_to_entries(listing.photos, ours, journal))
        raise KeyboardInterrupt
    assert detector.looked_at == 12
    write_photos(tmp_path / "photos", 1, first=40)
    (tmp_path / "photos" / "040.png").replace(photos[3])  # another photo under its name
    listing = find_listing(str(tmp_path / "photos"), None, {}, ours.remote)
    with open_journal(tmp_path / "scratch", tmp_path / "out", "key") as journal:
        entries = list(listed_to_entries(listing.photos, ours, journal))
    assert detector.looked_at == 13
    assert [entry.name for entry in entries] == [path.name for path in photos]


def test_a_line_that_a_kill_has_torn_is_made_again(tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", 5)
    ours = tools()
    listing = find_listing(str(tmp_path / "photos"), None, {}, ours.remote)
    with pytest.raises(KeyboardInterrupt), open_journal(tmp_path / "scratch", tmp_path / "out", "key") as journal:
        before = list(listed_to_entries(listing.photos, ours, journal))
        raise KeyboardInterrupt
    path = tmp_path / "scratch" / "key" / "done.jsonl"
    path.write_bytes(path.read_bytes()[:-100])
    with open_journal(tmp_path / "scratch", tmp_path / "out", "key") as journal:
        assert list(listed_to_entries(listing.photos, ours, journal)) == before


def test_each_broken_photo_is_listed_and_the_others_are_there(tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", 4)
    (tmp_path / "photos" / "a.jpg").write_bytes(b"")
    (tmp_path / "photos" / "b.jpg").write_text("<html>")
    unusable = build(tmp_path / "photos", tmp_path / "out", tmp_path / "scratch", tools())
    assert [name for name, _ in unusable] == ["a.jpg", "b.jpg"]
    assert all(reason and str(tmp_path) not in reason for _, reason in unusable)
    with open_catalogue(tmp_path / "out") as catalogue:
        assert (catalogue.facts.photos, catalogue.facts.garments, catalogue.facts.unusable) == (4, 8, 2)
        assert catalogue.table.unusable() == unusable


def test_the_same_photos_elsewhere_give_the_same_bytes(tmp_path: Path) -> None:
    for place in ("here", "there"):
        write_photos(tmp_path / place / "photos", 6)
        build(tmp_path / place / "photos", tmp_path / place / "out", tmp_path / place / "scratch", tools())
    assert files_of(tmp_path / "here" / "out") == files_of(tmp_path / "there" / "out")


def test_a_photo_under_two_names_is_counted_and_is_one_answer(tmp_path: Path) -> None:
    first, *_ = write_photos(tmp_path / "photos", 3)
    (tmp_path / "photos" / "twice.png").write_bytes(first.read_bytes())
    build(tmp_path / "photos", tmp_path / "out", tmp_path / "scratch", tools())
    with open_catalogue(tmp_path / "out") as catalogue:
        assert catalogue.facts.photos_twice == 1
        [row] = [row for row in catalogue.rows_with_id("000.png") if row.number == 1]
        [found] = catalogue.search(catalogue.vectors_of([row.row]), 2)
        assert (found[0].id, found[0].duplicates[:1]) == ("000.png#1", ["twice.png#1"])


def test_an_embedder_that_is_broken_stops_it(tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", 2)
    ours = tools()
    ours.embedder.embed = lambda image, found: np.full((2, 24), np.nan, np.float32)  # type: ignore[method-assign]
    with pytest.raises(SeamlineError, match="the embedder's output: vector 1 has no direction"):
        build(tmp_path / "photos", tmp_path / "out", tmp_path / "scratch", ours)
    assert not (tmp_path / "out").exists()


def test_a_garment_that_the_embedder_finds_nothing_in_costs_its_photo_alone(tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", 3)
    ours = tools()
    embed = ours.embedder.embed
    photos = itertools.count()

    def nothing_in_one(image: Image, found: Detections) -> npt.NDArray[np.float32]:
        vectors = embed(image, found)
        if next(photos) == 1:
            vectors[1] = 0
        return vectors

    ours.embedder.embed = nothing_in_one  # type: ignore[method-assign]
    [(name, reason)] = build(tmp_path / "photos", tmp_path / "out", tmp_path / "scratch", ours)
    assert name in ("000.png", "001.png", "002.png")
    assert reason == "the embedding of it, or of a garment in it, is all zeros, so nothing is like it."
    with open_catalogue(tmp_path / "out") as catalogue:
        assert (catalogue.facts.photos, catalogue.facts.garments, catalogue.facts.unusable) == (2, 4, 1)


def test_two_processes_do_not_work_on_one_catalogue(tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", 3)
    with open_journal(tmp_path / "scratch", tmp_path / "out", "key"):
        second = start("build", tmp_path / "photos", tmp_path / "out", tmp_path / "scratch")
        _, said = second.communicate(timeout=60)
    assert second.returncode == 1
    assert b"is at work there; let it end." in said
    assert not (tmp_path / "out").exists()


def test_another_model_embedder_or_crop_is_another_run() -> None:
    keys = {run_key(tools(), SHA256), run_key(tools(seed=1), SHA256), run_key(tools(), "d" * 64)}
    keys |= {run_key(tools()._replace(crop_px=64), SHA256), run_key(tools(whole_photos=True), SHA256)}
    weaker = tools()
    weaker.detector.confidence = 0.1
    rounder = tools()
    rounder.detector.precision = "int8"  # type: ignore[misc]
    assert len(keys | {run_key(weaker, SHA256), run_key(rounder, SHA256)}) == 7


def test_what_is_known_of_a_garment_and_its_photo_is_in_its_entry(tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", 2)
    [one, gone] = find_listing(str(tmp_path / "photos"), None, {}, Remote()).photos
    one, gone = one._replace(split="val", values=["red"]), gone._replace(split="test", values=["blue"])
    (tmp_path / "photos" / "001.png").unlink()  # after it was listed
    with open_journal(tmp_path / "scratch", tmp_path / "out", "key") as journal:
        found, broken = listed_to_entries([one, gone], tools(), journal)
    assert (found.split, found.values, len(found.garments)) == ("val", ["red"], 2)
    size = [60, 60]
    rows = [coco_mask.decode({"size": size, "counts": str(garment.mask).encode()}) for garment in found.garments]
    assert [(rows[0].sum(), rows[0][:30].all()), (rows[1].sum(), rows[1][30:].all())] == [(1800, True)] * 2
    assert broken.reason == "cannot be read (No such file or directory)." and broken.again
    named = {"neck": Attribute("v", 0.9, "v"), "hem": Attribute(None, 0.4, "long")}
    image = np.zeros((60, 120, 3), np.uint8)
    lower = tools().detector.detect_beside(image).chosen(np.array([1]))
    garment = instance_to_garment(image, lower, 0, b"", named, tools())
    assert garment.attributes == {"neck": "v"}  # and no value that is not sure
    picture = cv2.imdecode(np.frombuffer(garment.crop, np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None and picture.shape == (13, 48, 3)  # 32 x 120, made smaller
    small = cv2.imdecode(np.frombuffer(crop_jpeg(image, [0, 0, 30, 20], 48), np.uint8), cv2.IMREAD_COLOR)
    assert small is not None and small.shape == (21, 32, 3)  # and not larger
