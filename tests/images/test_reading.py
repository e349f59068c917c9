"""Reading images: every form they come in, and a sentence for what is not an image."""

from __future__ import annotations

import io
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import PIL.Image
import pytest
import torch

from seamline.images import reading as images
from seamline.images.budget import PixelBudget
from seamline.images.files import MAX_PIXELS, SUFFIXES, UNREAD_SUFFIXES
from seamline.images.reading import ImageError, read_image
from seamline.inference.detector import Detector
from seamline.models.detections import Detections
from tests.conftest import PROJECT
from tests.untrained import Untrained, alike


def a_picture(image_format: str, mode: str = "RGB", **options: Any) -> bytes:
    data = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8)
    PIL.Image.fromarray(noise).convert(mode).save(data, image_format, **options)
    return data.getvalue()


def huge_png() -> bytes:
    """A PNG that says it has 40,000 x 40,000 pixels, with none of them in it."""

    def chunk(content: bytes) -> bytes:
        return (len(content) - 4).to_bytes(4, "big") + content + zlib.crc32(content).to_bytes(4, "big")

    head = b"IHDR" + (40_000).to_bytes(4, "big") * 2 + bytes([8, 2, 0, 0, 0])
    return b"\x89PNG\r\n\x1a\n" + chunk(head) + chunk(b"IDAT" + zlib.compress(b"")) + chunk(b"IEND")


FRAMES = [PIL.Image.new("RGB", (40, 40), (value, 0, 0)) for value in (0, 90, 180)]


ANIMATED = {"save_all": True, "append_images": FRAMES[1:]}


UNUSABLE = {
    "half.jpg": (a_picture("JPEG")[:-400], "is not an image that can be decoded; it is damaged, or"),
    "half.png": (a_picture("PNG")[:-400], "is not an image that can be decoded; it is damaged, or"),
    "half.webp": (a_picture("WEBP")[:-400], "is not an image that can be decoded; it is damaged, or"),
    "corrupt.jpg": (b"\xff\xd8\xff\xe0" + bytes(500), "is not an image that can be decoded"),
    "text.jpg": (
        b"<html>404</html>",
        "is not an image that can be decoded; it is damaged, or not in a format that is read (AVIF, BMP, GIF",
    ),
    "empty.jpg": (b"", "is empty"),
    "huge.png": (huge_png(), f"40000 x 40000 pixels; at most {MAX_PIXELS:,}|more pixels than the {MAX_PIXELS:,}"),
    "pixel.png": (cv2.imencode(".png", np.zeros((1, 1, 3), np.uint8))[1].tobytes(), "has 1 x 1 pixels; a side needs"),
    "frames.gif": (b"GIF", ""),
    "frames.webp": (b"WEBP", "has 3 pictures"),
    "frames.png": (b"PNG", "has 3 pictures"),
    "pages.tif": (b"TIFF", "has 3 pictures"),
}


def test_images_that_cannot_be_used_are_named_and_the_rest_go_on(untrained: Untrained, tmp_path: Path) -> None:
    good = untrained.images()[0]
    sources: list[Path] = []
    for name, (data, _) in UNUSABLE.items():
        if data in (b"GIF", b"WEBP", b"PNG", b"TIFF"):
            FRAMES[0].save(tmp_path / name, data.decode(), **ANIMATED)
        else:
            (tmp_path / name).write_bytes(data)
        sources += [tmp_path / name, good]
    sources += [tmp_path / "absent.jpg", tmp_path, good]
    reasons = [reason for _, reason in UNUSABLE.values()] + ["there is no such file", "is not a file"]
    detector = Detector(untrained.models()["onnx"], 0.05, threads=2, batch=2)
    found = list(detector.detect_all(sources))
    assert len(found) == len(sources)
    expected = detector.detect(good)
    errors = []
    for source, one in zip(sources, found, strict=True):
        if source == good:
            assert isinstance(one, Detections)
            alike(one, expected)
        else:
            assert isinstance(one, ImageError), source
            assert str(one).startswith(f"{source}: ")
            errors.append(str(one))
    for error, reason in zip(errors, reasons, strict=True):
        assert any(part in error for part in reason.split("|")), (error, reason)


def test_unusable_bytes_and_arrays_are_named_by_their_place(untrained: Untrained) -> None:
    detector = Detector(untrained.models()["onnx"])
    sources: list[Any] = [b"no", np.zeros((50, 50, 2), np.uint8), np.zeros((50, 50, 3), np.float32)]
    first, second, third = map(str, detector.detect_all(sources))
    assert first.startswith("image 1: is not an image")
    assert second == (
        "image 2: is an array of uint8 and shape (50, 50, 2), which is not taken; it has to be of uint8 and "
        "(height, width, 3), blue first, or with 4 channels, or grey with 1 or none."
    )
    assert third.startswith("image 3: is an array of float32")


def test_cmyk_greyscale_16_bits_and_alpha_are_read_as_colour() -> None:
    for data in (a_picture("JPEG", "CMYK"), a_picture("PNG", "L"), a_picture("PNG", "RGBA"), a_picture("TIFF")):
        assert read_image(data).shape == (60, 80, 3)
    wide = cv2.imencode(".png", np.full((60, 80), 40_000, np.uint16))[1].tobytes()
    assert read_image(wide).mean() == pytest.approx(40_000 / 256, abs=1)
    # A CMYK picture is the same picture, as far as JPEG can tell.
    grey = PIL.Image.new("RGB", (80, 60), (200, 60, 60))
    cmyk = io.BytesIO()
    grey.convert("CMYK").save(cmyk, "JPEG", quality=95)
    np.testing.assert_allclose(read_image(cmyk.getvalue()).mean(axis=(0, 1)), (60, 60, 200), atol=4)


@pytest.mark.parametrize(("kind", "mode"), [(np.float32, "F"), (np.int32, "I")])
def test_a_tiff_with_samples_of_32_bits_is_said_to_be_that(kind: Any, mode: str) -> None:
    stream = io.BytesIO()
    PIL.Image.fromarray(np.full((60, 80), 200, kind), mode).save(stream, "TIFF")
    with pytest.raises(ImageError, match="has samples of 32 bits; save it with 8 or 16"):
        read_image(stream.getvalue())


def test_a_file_that_is_too_large_is_refused_before_it_is_decoded() -> None:
    stream = io.BytesIO()
    PIL.Image.new("RGB", (30, 20)).save(stream, "PNG")
    with pytest.raises(ImageError, match="has 30 x 20 pixels; at most 599 are read"):
        read_image(stream.getvalue(), max_pixels=599)
    assert read_image(stream.getvalue(), max_pixels=600).shape == (20, 30, 3)


def test_a_photo_that_exif_turns_is_the_same_as_a_path_and_as_an_image_of_pillows(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    upright = cv2.GaussianBlur(rng.integers(0, 255, (60, 90, 3), np.uint8), (0, 0), 5)
    for orientation in range(1, 9):
        exif = PIL.Image.Exif()
        exif[0x0112] = orientation
        path = tmp_path / f"{orientation}.jpg"
        PIL.Image.fromarray(upright).save(path, exif=exif, quality=95)
        by_opencv = cv2.imread(str(path))
        assert by_opencv is not None
        with PIL.Image.open(path) as image:
            assert np.abs(read_image(image).astype(int) - by_opencv).max() <= 3  # two decoders


def test_sixteen_bits_are_the_same_by_both_readers() -> None:
    deep = np.random.default_rng(0).integers(0, 65535, (40, 50), np.uint16)
    data = cv2.imencode(".png", deep)[1].tobytes()
    with PIL.Image.open(io.BytesIO(data)) as image:
        np.testing.assert_array_equal(read_image(image), read_image(data))


class Something:
    """Neither an image nor anything to read one from."""


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (Something(), "is of type Something, which is not taken; it has to be a path, bytes, a binary file, an image"),
        (None, "is of type NoneType, which is not taken"),
        (7, "is of type int, which is not taken"),
        ([1, 2], "is of type list, which is not taken"),
        (torch.zeros(3, 50, 50), "is of type Tensor, which is not taken"),
        (io.StringIO("text"), "is a file that was opened as text"),
        (np.zeros((50, 50, 3), np.float64), "is an array of float64 and shape (50, 50, 3), which is not taken"),
        (np.zeros((2, 50, 50, 3), np.uint8), "shape (2, 50, 50, 3), which is not taken"),
        (np.zeros((5, 50, 3), np.uint8), "has 50 x 5 pixels; a side needs at least 10"),
        (np.zeros((0, 0, 3), np.uint8), "has 0 x 0 pixels; a side needs at least 10"),
        (b"", "is empty"),
        (io.BytesIO(b""), "is empty"),
        ("no/such\0name.jpg", "cannot be the name of a file"),
        (Path("/dev/null"), "is not a file"),
    ],
)  # fmt: skip
def test_what_is_not_taken_is_said_to_be_so_and_not_to_be_damaged(
    untrained: Untrained, source: Any, reason: str
) -> None:
    with Detector(untrained.models()["onnx"], threads=1) as detector:
        with pytest.raises(ImageError) as error:
            detector.detect(source)
        assert reason in str(error.value)
        [found] = detector.detect_all([source])
        assert isinstance(found, ImageError)
        assert reason in str(found)
        with pytest.raises(ImageError) as error:
            detector.submit(source).result()
        assert reason in str(error.value)


def test_a_heic_photo_is_said_to_be_one_where_nothing_reads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever its suffix: phones' photos are often renamed to .jpg."""
    monkeypatch.setattr(images, "FORMATS", [name for name in images.FORMATS if name != "HEIF"])
    for name, brand in (("iphone.heic", b"heic"), ("renamed.jpg", b"mif1")):
        (tmp_path / name).write_bytes(b"\0\0\0\x18ftyp" + brand + b"\0\0\0\0mif1heic" + bytes(100))
        with pytest.raises(ImageError, match=rf"{name}: is a HEIC photo, .* pip install pillow-heif\.$"):
            read_image(tmp_path / name)
    (tmp_path / "clip.jpg").write_bytes(b"\0\0\0\x18ftypqt  " + bytes(100))
    with pytest.raises(ImageError, match="not in a format that is read"):
        read_image(tmp_path / "clip.jpg")


def test_heic_and_avif_are_recognised_where_they_begin_alike() -> None:
    """Some cameras call both "mif1", and name HEIC or AVIF behind that."""
    pytest.importorskip("pillow_heif").register_heif_opener()
    image = PIL.Image.effect_noise((64, 48), 40)
    for image_format in ("HEIF", "AVIF"):
        stream = io.BytesIO()
        image.convert("RGB").save(stream, image_format)
        data = stream.getvalue()
        assert data[8:12] in (b"heic", b"avif")
        np.testing.assert_array_equal(read_image(data[:8] + b"mif1" + data[12:]), read_image(data))


def test_gif_avif_and_jfif_are_read_and_what_is_not_has_a_reason(tmp_path: Path) -> None:
    noise = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 255, (64, 96, 3), np.uint8), (0, 0), 6)
    image = PIL.Image.fromarray(noise[:, :, ::-1])
    for suffix, options, close in ((".avif", {"quality": 95}, 12), (".gif", {}, 60), (".jfif", {"format": "JPEG"}, 12)):
        image.save(tmp_path / f"photo{suffix}", **options)
        assert suffix in SUFFIXES
        assert np.abs(read_image(tmp_path / f"photo{suffix}").astype(int) - noise).max() < close
    turned = PIL.Image.Exif()
    turned[0x0112] = 6
    image.save(tmp_path / "turned.avif", exif=turned)
    assert read_image(tmp_path / "turned.avif").shape == (96, 64, 3)
    assert {".jxl", ".mov", ".cr2"} <= set(UNREAD_SUFFIXES)
    assert not SUFFIXES & set(UNREAD_SUFFIXES)


@pytest.mark.skipif(".avif" not in SUFFIXES, reason="Pillow has no AVIF here")
def test_a_damaged_avif_is_one_bad_image() -> None:
    """Its library raises another error than Pillow's own readers; one such photo has ended a whole run."""
    stream = io.BytesIO()
    PIL.Image.radial_gradient("L").convert("RGB").resize((64, 48)).save(stream, "AVIF")
    whole = stream.getvalue()
    refused = 0
    for at in range(0, len(whole), 3):
        damaged = whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :]
        try:
            read_image(damaged)
        except ImageError:
            refused += 1
    assert refused > 20


@pytest.mark.parametrize("kind", ["bytes", "file", "large file", "pillow"])
def test_an_image_is_decoded_and_used_while_its_pixels_are_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    budget, seen = PixelBudget(), list[int]()

    def recorded(decode: Any) -> Any:
        def record(*arguments: Any) -> Any:
            seen.append(budget._under_way)
            return decode(*arguments)

        return record

    def use(image: images.Image) -> tuple[int, ...]:
        seen.append(budget._under_way)
        return image.shape

    for name in ("pixels_of", "pillow_to_pixels"):
        monkeypatch.setattr(images, name, recorded(getattr(images, name)))
    path = tmp_path / "a.png"
    PIL.Image.new("RGB", (30, 20)).save(path)
    monkeypatch.setattr(images, "READ_AT_ONCE_BYTES", 10 if kind == "large file" else 1 << 20)
    source: Any = path.read_bytes() if kind == "bytes" else PIL.Image.open(path) if kind == "pillow" else path
    assert images.read_within_budget(source, "image", 1000, budget, use) == (20, 30, 3)
    assert (seen, budget._under_way) == ([600, 600], 0)
    with pytest.raises(ImageError, match="has 30 x 20 pixels; at most 599 are read"):
        images.read_within_budget(source, "image", 599, budget, use)


def bomb(side: int) -> bytes:
    """A PNG of one colour, some hundred times smaller than its pixels."""
    return cv2.imencode(".png", np.zeros((side, side), np.uint8), [cv2.IMWRITE_PNG_COMPRESSION, 9])[1].tobytes()


def test_the_limit_that_is_announced_is_the_one_that_holds(untrained: Untrained) -> None:
    """Pillow's own, at 178,956,970 pixels, is not asked."""
    data = bomb(14_000)
    assert len(data) < 400_000
    with pytest.raises(ImageError, match=r"has 14000 x 14000 pixels; at most 195,999,999 are read \(max_pixels\)"):
        read_image(data, max_pixels=14_000**2 - 1)
    with (
        Detector(untrained.models()["onnx"], max_pixels=1000) as detector,
        pytest.raises(ImageError, match="at most 1,000 are"),
    ):
        detector.detect(untrained.images()[0])
    with pytest.raises(ImageError, match=r"has 8,001 bytes; at most 8,000 are read"):
        read_image(io.BytesIO(b"x" * 9000), max_pixels=1000)


def test_a_file_of_as_many_bytes_as_its_pixels_may_have_is_read_and_one_more_is_not(tmp_path: Path) -> None:
    """8 bytes for each of 30 x 20 pixels; what stands behind a PNG's end is no part of it."""
    path = tmp_path / "a.png"
    PIL.Image.new("RGB", (30, 20)).save(path)
    data = path.read_bytes().ljust(4800, b"\0")
    path.write_bytes(data)
    for source in (path, io.BytesIO(data)):
        assert read_image(source, max_pixels=600).shape == (20, 30, 3)
    path.write_bytes(data + b"\0")
    for source in (path, io.BytesIO(data + b"\0")):
        with pytest.raises(ImageError, match=r"has 4,801 bytes; at most 4,800 are read \(8 for each pixel"):
            read_image(source, max_pixels=600)


@pytest.mark.thorough
def test_an_image_of_nearly_two_hundred_million_pixels_takes_six_bytes_each_at_most(tmp_path: Path) -> None:
    code = """
import sys
from seamline.images.reading import ImageError, read_image
from seamline.benchmark.machine import peak_rss_mb
before = peak_rss_mb()
print(read_image(open(sys.argv[1], "rb")).shape[0], peak_rss_mb() - before)
"""
    path = tmp_path / "bomb.png"
    path.write_bytes(bomb(14_000))
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, cwd=PROJECT)
    side, megabytes = map(float, done.stdout.split())
    assert (side, megabytes < 6.5 * 14_000**2 / 1e6) == (14_000, True), done
