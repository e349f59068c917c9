from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seamline.base.errors import SeamlineError
from seamline.dataset.near_duplicates import (
    candidates_between,
    fingerprint,
    joined_groups,
    likeness,
    near_duplicates,
    thumbnail_order,
)
from seamline.masks.rle import rle_to_mask, segmentation_to_rle
from tests.conftest import HAS_SHARED_DATA, SHARED_DATA

RATIOS = (0.7, 0.2, 0.1)
Ints = npt.NDArray[np.int64]


def test_near_duplicates_join_groups() -> None:
    groups = joined_groups(np.array([0, 0, 1, 2, 3]), np.array([[1, 2]]))
    assert groups[0] == groups[1] == groups[2]
    assert sorted(set(groups.tolist())) == [0, 1, 2]
    assert joined_groups(np.array([0, 1]), np.zeros((0, 2), np.int64)).tolist() == [0, 1]


def connected(pairs: list[Any], count: int) -> list[int]:
    """The lowest member of each one's component, by plain repetition."""
    lowest = list(range(count))
    for _ in range(count):
        for a, b in pairs:
            lowest[a] = lowest[b] = min(lowest[a], lowest[b])
    return lowest


def prints_of(values: list[bytes], colours: list[int]) -> npt.NDArray[np.uint8]:
    """Fingerprints of given hashes; thumbnails of one colour number are copies of one noise, those of 0 are blank."""
    noise = np.random.default_rng(0).integers(0, 256, (5, 768), np.uint8)
    noise[0] = 255
    hashes = np.array([list(value) for value in values], np.uint8).reshape(-1, 16)
    # Turned, they are like no other: their hashes are far from all.
    turned = np.random.default_rng(1).integers(0, 256, (len(values), 112), np.uint8)
    return np.concatenate((hashes, turned, noise[np.array(colours, dtype=int)].reshape(-1, 768)), axis=1)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.binary(min_size=16, max_size=16), st.integers(0, 4)), max_size=10), st.integers(0, 24))
def test_near_duplicates_are_those_of_the_plain_double_loop(entries: list[tuple[bytes, int]], bits: int) -> None:
    for value, colour in list(entries)[:4]:  # copies, some that differ in few bits, and some of another picture
        changed = [bytes([value[0] ^ 1]) + value[1:], bytes([value[0] ^ 255, value[1] ^ 255]) + value[2:]]
        entries += [
            (value, colour),
            (value, colour),
            *((other, colour) for other in changed),
            (value, (colour + 1) % 5),
        ]
    values, colours = [value for value, _ in entries], [colour for _, colour in entries]
    numbers = [int.from_bytes(value, "big") for value in values]
    plain = [
        (a, b)
        for b in range(len(values))
        for a in range(b)
        if (numbers[a] ^ numbers[b]).bit_count() <= bits and colours[a] == colours[b]
    ]
    pairs = [tuple(pair) for pair in near_duplicates(prints_of(values, colours), bits).tolist()]
    assert pairs == sorted(set(pairs))
    assert set(pairs) <= set(plain)
    assert connected(pairs, len(values)) == connected(plain, len(values))
    if len(set(entries)) == len(entries):
        assert pairs == sorted(plain)


def test_likeness_is_pearsons_correlation() -> None:
    rng = np.random.default_rng(1)
    rows = rng.integers(0, 256, (5000, 768), np.uint8)
    found = likeness(rows, np.arange(4999), np.arange(1, 5000))
    for index in (0, 17, 4998):
        assert found[index] == pytest.approx(np.corrcoef(rows[index], rows[index + 1])[0, 1], abs=1e-5)
    flat = np.array([[255] * 768, [0] * 768, rows[0].tolist()], np.uint8)
    assert likeness(flat, np.array([0, 0]), np.array([1, 2])).tolist() == [1, 0]


def test_thousands_of_copies_are_found_in_a_moment() -> None:
    """Every pair of 30,000 blank photos would be 450 million."""
    prints = np.zeros((30_000, 896), np.uint8)
    prints[-1, 3] = 1
    assert near_duplicates(prints, 8).tolist() == [[0, index] for index in range(1, 30_000)]


def test_hundreds_of_takes_of_one_photo_are_one_group() -> None:
    """Encoded again and again: hashes differ in a few bits, thumbnails in a few grey levels."""
    rng = np.random.default_rng(2)
    thumbnail = cv2.resize(rng.integers(0, 256, (4, 4, 3), np.uint8), (16, 16)).ravel().astype(int)
    prints = np.zeros((600, 896), np.uint8)
    prints[:, 128:] = np.clip(thumbnail + rng.integers(-3, 4, (600, 768)), 0, 255)
    prints[300:, 0] = 1 << rng.integers(0, 8, 300).astype(np.uint8)
    pairs = near_duplicates(prints, 8)
    assert len(set(joined_groups(np.arange(600), pairs).tolist())) == 1
    assert len(pairs) < 700  # not the 180,000 that there are


def test_a_fingerprint_survives_rescaling_and_tells_pictures_apart(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pictures = [cv2.resize(rng.integers(0, 255, (6, 6, 3), np.uint8), (200, 200)) for _ in range(2)]
    cv2.imwrite(str(tmp_path / "a.png"), pictures[0])
    cv2.imwrite(str(tmp_path / "b.jpg"), cv2.resize(pictures[0], (120, 130)))
    cv2.imwrite(str(tmp_path / "c.png"), pictures[1])
    first, again, other = (fingerprint(tmp_path / name, 120) for name in ("a.png", "b.jpg", "c.png"))
    assert np.bitwise_count(first[:16] ^ again[:16]).sum() <= 4
    assert np.bitwise_count(first[:16] ^ other[:16]).sum() > 20
    thumbnails = np.stack((first, again, other))[:, 128:]
    like = likeness(thumbnails, np.array([0, 0]), np.array([1, 2]))
    assert like[0] > 0.99
    assert like[1] < 0.5
    (tmp_path / "d.png").write_bytes(b"x")
    with pytest.raises(SeamlineError, match=r"d\.png"):
        fingerprint(tmp_path / "d.png", 100)


MIRRORED_AND_TURNED = {
    "left to right": lambda photo: cv2.flip(photo, 1),
    "top to bottom": lambda photo: cv2.flip(photo, 0),
    "by 90 degrees": lambda photo: cv2.rotate(photo, cv2.ROTATE_90_CLOCKWISE),
    "by 180 degrees": lambda photo: cv2.rotate(photo, cv2.ROTATE_180),
    "by 270 degrees": lambda photo: cv2.rotate(photo, cv2.ROTATE_90_COUNTERCLOCKWISE),
    "by 90 degrees and left to right": lambda photo: cv2.flip(cv2.rotate(photo, cv2.ROTATE_90_CLOCKWISE), 1),
    "by 270 degrees and left to right": lambda photo: cv2.flip(cv2.rotate(photo, cv2.ROTATE_90_COUNTERCLOCKWISE), 1),
}


@pytest.mark.parametrize("way", MIRRORED_AND_TURNED)
def test_a_mirrored_or_turned_copy_is_a_near_duplicate(way: str, tmp_path: Path) -> None:
    """OpenCV turns them; smaller and encoded again as well."""
    rng = np.random.default_rng(3)
    prints = []
    for index in range(12):
        photo = cv2.resize(rng.integers(0, 255, (7, 5, 3), np.uint8), (200, 280), interpolation=cv2.INTER_CUBIC)
        copy = cv2.resize(MIRRORED_AND_TURNED[way](photo), None, fx=0.6, fy=0.6, interpolation=cv2.INTER_AREA)
        for name, picture in (f"{index}a", photo), (f"{index}b", copy):
            cv2.imwrite(str(tmp_path / f"{name}.jpg"), picture, [cv2.IMWRITE_JPEG_QUALITY, 80])
            prints.append(fingerprint(tmp_path / f"{name}.jpg", min(picture.shape[:2])))
    assert near_duplicates(np.array(prints), 8).tolist() == [[index, index + 1] for index in range(0, 24, 2)]


@pytest.mark.parametrize("way", MIRRORED_AND_TURNED)
def test_hashes_of_orientations_are_those_of_turned_files(way: str, tmp_path: Path) -> None:
    noise = np.random.default_rng(4).integers(0, 255, (6, 5, 3), np.uint8)
    photo = cv2.resize(noise, (160, 200), interpolation=cv2.INTER_CUBIC)
    turned = MIRRORED_AND_TURNED[way](photo)
    for name, picture in ("a", photo), ("b", turned):
        cv2.imwrite(str(tmp_path / f"{name}.png"), picture)
    first, second = (fingerprint(tmp_path / f"{name}.png", 160) for name in "ab")
    of_first = [first[start : start + 16] for start in range(0, 128, 16)]
    differ = [int(np.bitwise_count(found ^ second[:16]).sum()) for found in of_first]
    same = [orientation for orientation, bits in enumerate(differ) if bits <= 2]  # cells are rounded
    assert len(same) == 1
    order = thumbnail_order(same[0])
    assert np.abs(first[128:][order].astype(int) - second[128:]).max() <= 1


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 24))
def test_candidates_between_are_those_of_the_plain_double_loop(seed: int, bits: int) -> None:
    rng = np.random.default_rng(seed)
    hashes = rng.integers(0, 256, (40, 16), np.uint8)
    hashes[20:] = hashes[:20] ^ np.packbits(rng.random((20, 128)) < rng.random((20, 1)) * 0.3, axis=1)
    queries = hashes[rng.permutation(40)] ^ np.packbits(rng.random((40, 128)) < 0.05, axis=1)
    numbers, asked = ([int.from_bytes(bytes(row.tolist()), "big") for row in rows] for rows in (hashes, queries))
    plain = {
        (a, b)
        for a, one in enumerate(asked)
        for b, other in enumerate(numbers)
        if a != b and (one ^ other).bit_count() <= bits
    }
    found = [np.stack(pair, axis=1) for pair in candidates_between(queries, hashes, bits)]
    assert {tuple(pair) for pair in np.concatenate(found).tolist()} == plain


def on_white(photo: npt.NDArray[np.uint8], mask: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """A garment cut out and put in the middle of white, as in a shop's catalogue."""
    top, left = (np.flatnonzero(mask.any(axis=axis))[0] for axis in (1, 0))
    bottom, right = (np.flatnonzero(mask.any(axis=axis))[-1] + 1 for axis in (1, 0))
    cut = np.where(mask[..., None] > 0, photo, np.uint8(255))[top:bottom, left:right]
    scale = 340 / max(cut.shape[:2])
    cut = cv2.resize(cut, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    canvas = np.full((400, 400, 3), 255, np.uint8)
    y, x = (400 - cut.shape[0]) // 2, (400 - cut.shape[1]) // 2
    canvas[y : y + cut.shape[0], x : x + cut.shape[1]] = cut
    return canvas


@pytest.mark.skipif(not HAS_SHARED_DATA, reason="the real photos are not on this machine")
def test_different_garments_on_white_are_not_near_duplicates(tmp_path: Path) -> None:
    """346 of them, with 26 pairs whose hashes alone are 8 bits or less apart."""
    coco = json.loads((SHARED_DATA / "ccp-mini" / "instances.json").read_text())
    images = {image["id"]: image for image in coco["images"]}
    prints = []
    for record in coco["annotations"]:
        image = images[record["image_id"]]
        mask = rle_to_mask(segmentation_to_rle(record["segmentation"], image["height"], image["width"]))
        if mask.sum() < 3000:
            continue
        photo = np.asarray(
            cv2.imread(str(SHARED_DATA / "ccp-mini" / "photos" / Path(image["file_name"]).name)), np.uint8
        )
        shown = on_white(photo, mask)
        for name, picture, quality in (("a", shown, 85), ("b", shown[::2, ::2], 60)):
            cv2.imwrite(str(tmp_path / f"{name}.jpg"), picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
            prints.append(fingerprint(tmp_path / f"{name}.jpg", min(picture.shape[:2])))
    pairs = near_duplicates(np.array(prints), 8)
    assert (pairs // 2 == pairs[:, :1] // 2).all()
    assert len(pairs) >= 0.97 * len(prints) / 2
    hashes = np.array(prints)[::2, :16]
    close = [np.bitwise_count(hashes[:index] ^ hashes[index]).sum(axis=1) <= 8 for index in range(len(hashes))]
    assert sum(int(row.sum()) for row in close) > 10  # which the thumbnails told apart


@pytest.mark.skipif(not HAS_SHARED_DATA, reason="the real photos are not on this machine")
@pytest.mark.parametrize("way", MIRRORED_AND_TURNED)
def test_real_photos_mirrored_or_turned_are_found_and_others_are_not(way: str, tmp_path: Path) -> None:
    """Of 28,680 pairs only the 120 true ones; each copy is smaller, and encoded again."""
    paths = sorted((SHARED_DATA / "ccp-mini" / "photos").glob("*.jpg"))
    prints = [fingerprint(path, 550) for path in paths]
    for path in paths:
        copy = MIRRORED_AND_TURNED[way](np.asarray(cv2.imread(str(path))))
        smaller = cv2.resize(copy, None, fx=0.6, fy=0.6, interpolation=cv2.INTER_AREA)
        cv2.imwrite(str(tmp_path / "a.jpg"), smaller, [cv2.IMWRITE_JPEG_QUALITY, 75])
        prints.append(fingerprint(tmp_path / "a.jpg", min(smaller.shape[:2])))
    pairs = near_duplicates(np.array(prints), 8)
    assert (pairs[:, 0] + len(paths) == pairs[:, 1]).all()
    assert len(pairs) >= 0.95 * len(paths)


@pytest.mark.skipif(not HAS_SHARED_DATA, reason="the real photos are not on this machine")
def test_real_photos_encoded_again_are_found_and_others_are_not(tmp_path: Path) -> None:
    photos = sorted((SHARED_DATA / "ccp-mini" / "photos").glob("*.jpg"))
    prints = [fingerprint(path, 550) for path in photos]
    for index, path in enumerate(photos):
        photo = np.asarray(cv2.imread(str(path)))
        smaller = cv2.resize(photo, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        brighter = cv2.convertScaleAbs(photo, alpha=1.05, beta=8)
        cv2.imwrite(str(tmp_path / f"{index}a.jpg"), smaller, [cv2.IMWRITE_JPEG_QUALITY, 70])
        cv2.imwrite(str(tmp_path / f"{index}b.jpg"), brighter, [cv2.IMWRITE_JPEG_QUALITY, 50])
        prints += [fingerprint(tmp_path / f"{index}{kind}.jpg", side) for kind, side in (("a", 275), ("b", 550))]
    pairs = near_duplicates(np.array(prints), 8)
    count = len(photos)
    origin = np.array([*range(count), *np.repeat(np.arange(count), 2)])
    assert (origin[pairs[:, 0]] == origin[pairs[:, 1]]).all()
    found = {int(index) for pair in pairs for index in pair}
    assert len(found) >= 0.97 * len(prints)


@pytest.mark.parametrize(("correlation", "found"), [(0.94, 0), (0.96, 1)])
def test_thumbnails_are_alike_from_a_correlation_of_0_95(correlation: float, found: int) -> None:
    """Two thumbnails of that correlation, by making one of the other and of noise that is orthogonal to it."""
    rng = np.random.default_rng(1)
    first, noise = rng.normal(size=(2, 768))
    first = (first - first.mean()) / first.std()
    noise -= noise.mean() + first * (noise @ first) / 768
    second = correlation * first + np.sqrt(1 - correlation**2) * noise / noise.std()
    thumbnails = np.clip(np.stack((first, second)) * 25 + 128, 0, 255).round().astype(np.uint8)
    assert np.corrcoef(thumbnails)[0, 1] == pytest.approx(correlation, abs=0.003)
    fingerprints = np.concatenate((np.zeros((2, 128), np.uint8), thumbnails), axis=1)
    fingerprints[:, 16:128] = 255  # turned they are like nothing
    assert len(near_duplicates(fingerprints, 4)) == found
    fingerprints[1, 0] = 1  # of another hash, near enough
    assert len(near_duplicates(fingerprints, 4)) == found
