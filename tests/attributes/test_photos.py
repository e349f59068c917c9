"""The photos that training reads: as they are where they may be, else turned as EXIF says and made smaller."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from seamline.attributes.garments import Garment, hash_of_data
from seamline.attributes.photos import smaller, write_photos
from seamline.images.reading import read_image
from tests.attributes.shirts import options


def save(path: Path, width: int, height: int, orientation: int | None = None) -> Path:
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[:, : width // 2] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(path, exif=b"" if orientation is None else exif.tobytes())
    return path


def test_a_photo_that_exif_turns_is_written_turned(tmp_path: Path) -> None:
    paths = [save(tmp_path / "a.jpg", 40, 20), save(tmp_path / "b.jpg", 40, 20, 6), save(tmp_path / "c.png", 90, 30)]
    paths.append(save(tmp_path / "d.jpg", 20, 41))
    garments = [Garment(number, path, path.name, {}) for number, path in enumerate(paths, 1)]
    written = write_photos(garments, tmp_path / "photos", options(side_px=40))
    assert [path.name for path in written] == ["1.jpg", "2.jpg", "3.jpg", "4.jpg"]
    assert written[0].read_bytes() == paths[0].read_bytes()
    turned = read_image(written[1])
    assert turned.shape == (40, 20, 3) and b"Exif" not in written[1].read_bytes()
    assert turned[:15].mean() > 200 > 50 > turned[25:].mean()
    assert read_image(written[2]).shape == (13, 40, 3)
    assert read_image(written[3]).shape == (40, 20, 3)


@pytest.mark.parametrize(("size", "side", "expected"), [((30, 90), 90, (30, 90)), ((3, 300), 100, (1, 100))])
def test_nothing_is_made_larger_and_every_side_stays(
    size: tuple[int, int], side: int, expected: tuple[int, int]
) -> None:
    assert smaller(np.zeros((*size, 3), np.uint8), side).shape[:2] == expected


def test_the_hash_of_data_is_of_the_photos_names_and_bytes_and_of_the_table(tmp_path: Path) -> None:
    table, photo = tmp_path / "t.csv", tmp_path / "1.jpg"
    table.write_text("a")
    photo.write_text("b")
    hashes = {hash_of_data(table, [photo])}
    hashes.add(hash_of_data(table, [photo.rename(tmp_path / "2.jpg")]))
    (tmp_path / "2.jpg").write_text("c")
    hashes.add(hash_of_data(table, [tmp_path / "2.jpg"]))
    table.write_text("d")
    hashes |= {hash_of_data(table, [tmp_path / "2.jpg"]), hash_of_data(table, [])}
    assert len(hashes) == 5
