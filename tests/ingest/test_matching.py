"""Names and files: each test makes the files and changes their names itself, so that it knows which is whose."""

from __future__ import annotations

import random
import time
import unicodedata
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest

from seamline.base.errors import SeamlineError
from seamline.ingest.layouts.matching import Matches, Split, lies_beside_photos, names_to_paths


def matched(names: list[str], files: list[str], beside: str = "") -> dict[str, str]:
    return names_to_paths(names, files, beside).paths


def test_folders_that_both_have_agree() -> None:
    files = ["sku1/front.jpg", "sku9/front.jpg", "images/a/look.jpg", "top.jpg"]
    for name, file in {
        "sku1/front.jpg": "sku1/front.jpg",
        "shop/sku9/front.jpg": "sku9/front.jpg",  # a folder that the source does not have
        "a/look.jpg": "images/a/look.jpg",  # and one that only the source has
        "look.jpg": "images/a/look.jpg",
        "any/top.jpg": "top.jpg",
        ".\\sku1\\front.jpg": "sku1/front.jpg",
    }.items():
        assert matched([name], files) == {name: file}
    for name in ("sku6/front.jpg", "b/look.jpg", "images/b/look.jpg", "x/a/b.jpg", "", "..", "/"):
        assert matched([name], files) == {}


def test_a_missing_photo_takes_no_other_and_taken_files_are_no_rivals() -> None:
    files = [f"sku{number}/front.jpg" for number in range(5)]
    names = [*files, "sku5/front.jpg"]
    assert matched(names, files) == {name: name for name in files}
    # A bare name has five rivals, four of which are taken by their own names.
    assert matched([*files[1:], "front.jpg"], files)["front.jpg"] == files[0]
    with pytest.raises(SeamlineError, match=r"'front\.jpg' fits 2 files, such as sku0/front\.jpg, sku1/front\.jpg; .*"):
        matched([*files[2:], "front.jpg"], files)
    # Two names that mean one file: neither is certain.
    assert matched(["a/top.jpg", "b/top.jpg"], ["top.jpg"]) == {}


def test_the_folder_in_which_all_names_lay_may_be_called_otherwise() -> None:
    files = [f"images/{number}.jpg" for number in range(3)]
    names = [f"dataset/v2/{number}.jpg" for number in range(3)]
    assert matched(names, files) == dict(zip(names, files, strict=True))
    assert matched(names[:1], files) == {}  # of one nobody knows which folders all of them share
    assert matched([*names, files[0]], files) == {files[0]: files[0]}  # and here names have the source's folders
    assert matched([*names, "dataset/v1/0.jpg"], files) == {}
    assert matched(names, [f"batch1/{number}.jpg" for number in range(3)]) == {}  # which is not dataset/v2


def test_a_folder_that_the_source_has_is_called_as_it_is_there() -> None:
    """The exact name says that data/photos is the source's own: photo 2 of it is missing, and another has its end."""
    files = ["data/photos/1.jpg", "data/2.jpg"]
    assert matched(["data/photos/1.jpg", "data/photos/2.jpg"], files) == {files[0]: files[0]}


def test_one_name_of_another_machine_does_not_say_which_folders_all_of_them_share() -> None:
    files = ["summer/1.jpg", "summer/2.jpg"]
    assert matched(["/home/me/winter/1.jpg"], files) == {}
    names = ["/home/me/winter/1.jpg", "/home/me/winter/2.jpg"]
    assert matched(names, files) == dict(zip(names, files, strict=True))


def test_the_code_page_of_most_names_goes_first() -> None:
    """Windows-1251 has written them all; in DOS' page 866 the bytes of one are the letters of another."""
    names = ["гбл.jpg", "усы.jpg", "шарф.jpg"]
    files = [name.encode("cp1251").decode("cp437") for name in names]
    assert "гбл".encode("cp1251") == "усы".encode("cp866")
    assert matched(names, files) == dict(zip(names, files, strict=True))


def test_what_is_left_of_names_and_files_does_not_share_a_folder_by_that() -> None:
    """Two photos of one product are missing, and two of another have no record; all else is found, some by its form."""
    files = [f"clothes/sku{number}/{view}.jpg" for number in (1, 2, 9) for view in "ab"]
    names = [f"/w/sku{number}/{view}.JPG" for number in (1, 2, 6) for view in "ab"]
    assert matched(names, files) == dict(zip(names[:4], files[:4], strict=True))


def test_what_is_not_certain_is_said() -> None:
    matches = names_to_paths(["new/look.jpg"], ["old/look.jpg"])
    assert matches == Matches({}, set(), {"new/look.jpg": ["old/look.jpg"]})


FOREIGN = ("/home/me/shop/", "C:\\Users\\me\\shop\\", "\\\\server\\share\\shop\\", "..\\..\\shop\\", "../../shop/",
           "https://host.example/shop/", "s3://bucket/shop/", "file:///home/me/shop/", "D:/shop/",
           "/data/local-files/?d=shop/", "images/../../shop/")  # fmt: skip


@pytest.mark.parametrize("prefix", FOREIGN)
@pytest.mark.parametrize("folder", ["", "images/", "clothes/summer/"])
def test_names_of_another_machine_are_matched_by_their_end(prefix: str, folder: str) -> None:
    files = [f"{folder}{number}.jpg" for number in range(4)]
    assert matched([f"{prefix}{number}.jpg" for number in range(5)], files) == {
        f"{prefix}{number}.jpg": f"{folder}{number}.jpg" for number in range(4)
    }
    products = [f"{folder}sku{number}/front.jpg" for number in range(4)]
    names = [f"{prefix}sku{number}/front.jpg" for number in (0, 1, 9)]
    assert matched(names, products) == {names[0]: products[0], names[1]: products[1]}


def test_an_address_with_a_query_means_its_path() -> None:
    names = [
        "https://host.example/a/look%201.jpg?X-Amz-Signature=0f&x=/b.jpg",
        "/storage-data/uploaded/?filepath=upload/3/2.jpg",
    ]
    assert matched(names, ["photos/look 1.jpg", "upload/3/2.jpg"]) == {
        names[0]: "photos/look 1.jpg",
        names[1]: "upload/3/2.jpg",
    }


def test_a_relative_name_is_also_one_from_the_annotation_file() -> None:
    files = ["photos/1.jpg", "export/photos/1.jpg", "export/2.jpg"]
    assert matched(["../photos/1.jpg", "2.jpg"], files, "export") == {
        "../photos/1.jpg": "photos/1.jpg",
        "2.jpg": "export/2.jpg",
    }


def test_a_name_without_folders_means_no_file_away_from_the_annotation_file_if_others_lie_beside_it() -> None:
    files = ["valid/1.jpg", "valid/more/3.jpg", "valid/4.JPG", "train/2.jpg", "1.jpg"]
    beside = matched(["1.jpg", "2.jpg", "3.jpg", "4.jpg"], files, "valid")
    assert beside == {"1.jpg": "valid/1.jpg", "3.jpg": "valid/more/3.jpg", "4.jpg": "valid/4.JPG"}
    assert matched(["2.jpg"], ["photos/2.jpg"], "annotations") == {"2.jpg": "photos/2.jpg"}


def test_a_photo_of_another_split_is_not_taken_where_the_split_has_some() -> None:
    of_valid = Split(lambda path: "/valid/" in path, lambda path: "/train/" in path)
    files = ["images/train/1.jpg", "images/train/2.jpg", "images/valid/1.jpg"]
    assert names_to_paths(["1.jpg", "2.jpg"], files, "annotations", of_valid).paths == {"1.jpg": "images/valid/1.jpg"}
    # All photos may lie in a folder that is called like one of the splits.
    assert len(names_to_paths(["1.jpg", "2.jpg"], files[:2], "annotations", of_valid).paths) == 2


def decomposed(text: str) -> str:
    return unicodedata.normalize("NFD", text)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("été.jpg", decomposed("été.jpg")), (decomposed("Müller/1.jpg"), "Müller/1.jpg"), ("IMG_1.JPG", "img_1.jpg"),
        (quote("robe d'été.jpg"), "robe d'été.jpg"), (quote("jupe bleue.jpg").lower(), "Jupe Bleue.JPG"),
        ("50% off.jpg", quote("50% off.jpg")), ("robe+bleue.jpg", "robe bleue.jpg"),
        (quote(decomposed("é/1.jpg")), "photos/É/1.jpg"), ("/home/me/LOOK.jpg", "images/look.jpg"),
        ("红色.jpg", "红色.jpg".encode("gbk").decode("cp437")),
        ("シャツ.jpg", "シャツ.jpg".encode("shift_jis").decode("cp437")),
        ("été.jpg", "été.jpg".encode("cp1252").decode("cp437")), ("été.jpg", "été.jpg".encode().decode("cp437")),
        ("юбка/1.jpg", "юбка/1.jpg".encode("cp1251").decode("cp437")),
        ("치마.jpg", "치마.jpg".encode("euc_kr").decode("cp437")),
        ("été.jpg", "été.jpg".encode("latin-1").decode("utf-8", "surrogateescape")),
        ("\ufffdt\ufffd.jpg", "été.jpg".encode("latin-1").decode("utf-8", "surrogateescape")),
    ],
)  # fmt: skip
def test_names_that_differ_in_their_form_alone(name: str, file: str) -> None:
    matches = names_to_paths([name, "plain.jpg"], [file, "plain.jpg", "other.jpg"])
    assert matches.paths == {name: file, "plain.jpg": "plain.jpg"}
    assert matches.other_form == {name}


def test_a_form_that_fits_twice_is_not_certain() -> None:
    assert matched(["look.jpg"], ["Look.jpg", "LOOK.jpg"]) == {}
    assert matched(["Look.jpg", "LOOK.jpg"], ["look.jpg"]) == {}
    assert matched(["look.jpg", "Look.jpg"], ["Look.jpg", "LOOK.jpg"]) == {
        "Look.jpg": "Look.jpg",
        "look.jpg": "LOOK.jpg",
    }
    assert matched(["50%25off.jpg", "50%off.jpg"], ["50%25off.jpg"]) == {"50%25off.jpg": "50%25off.jpg"}


def test_only_the_exact_name_takes_a_mask_a_thumbnail_or_a_hidden_file() -> None:
    for folder in (".thumbnails", "images/.git", "masks", "SegmentationClass", "@eaDir", "a/Thumbnails"):
        file = f"{folder}/1.png"
        assert lies_beside_photos(file)
        assert matched(["1.png"], [file]) == {}
        assert matched(["1.png"], [file, "images/1.png"]) == {"1.png": "images/1.png"}
        assert matched([file], [file, "images/1.png"]) == {file: file}


def test_shuffled_names_find_their_own_files() -> None:
    """A generator that knows each name's file: the name is changed in form, shortened, lengthened, or has no file."""
    chance = random.Random(0)
    changes: list[Callable[[str], str]] = [str, decomposed, quote, str.upper]
    words = ["été", "Müller", "robe bleue", "look", "IMG", "ß", "红", "50% off"]
    for _ in range(200):
        top = chance.choice(["", "data/set/", "photos/"])
        files = [f"{top}{chance.choice(words)} {number}/{chance.choice(words)}.jpg" for number in range(20)]
        right, kept = dict[str, str](), []
        for file in files:
            name = chance.choice(changes)(file[len(top) :])
            if chance.random() < 0.8:
                right[name] = file
                kept.append(file)
            else:
                right[name] = ""
        found = matched(list(right), kept)
        assert found == {name: file for name, file in right.items() if file}


@pytest.mark.parametrize("name", ["{}/0.png", "x/{}/0.png", "{}/0.PNG", "/a/{}/0.png", "none/{}.png"])
def test_time_grows_with_the_names_alone(name: str) -> None:
    """Every file is called 0.png: each among all of them took hours."""
    files = [f"images/{number}/0.png" for number in range(20_000)]
    begun = time.process_time()
    matched([name.format(number) for number in range(20_000)], files)
    assert time.process_time() - begun < 6


def test_nothing_is_opened(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("builtins.open", None)
    monkeypatch.setattr("os.open", None)
    monkeypatch.setattr("os.stat", None)
    assert matched([str(tmp_path / "1.jpg")], ["1.jpg"]) == {str(tmp_path / "1.jpg"): "1.jpg"}


@pytest.mark.parametrize(
    ("name", "paths", "wanted"),
    [
        ("b/1.jpg", ["a/b/1.jpg", "1.jpg"], "a/b/1.jpg"),  # the longest common end
        ("https://host/a/1.jpg#part", ["a/1.jpg"], "a/1.jpg"),
        ("C:1.jpg", ["1.jpg"], "1.jpg"),
        ("a%2Bb.jpg", ["a+b.jpg"], "a+b.jpg"),  # this plus is no space
        ("\u00c9.jpg", ["E\u0301.jpg", "\u00e9.jpg"], "E\u0301.jpg"),  # the closest form goes first
    ],
)
def test_the_closest_file_is_taken(name: str, paths: list[str], wanted: str) -> None:
    assert names_to_paths([name], paths).paths == {name: wanted}


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("p1", "images/p1.jpg"), ("p1.png", "images/p1.jpg"), ("P1.JPEG", "p1.jpg"), ("a/p1.heic", "a/p1.webp"),
        ("p1.jpg ", "p1.jpg"), (" a /p1.jpg", "a/p1.jpg"), ("images/1a2b3c4d-p1.jpg", "images/p1.jpg"),
        ("p1.jpg", "upload/1a2b3c4d-p1.jpg"), ("p1.v2", "p1.v2.jpg"),
    ],
)  # fmt: skip
def test_a_name_is_a_files_but_for_its_suffix_a_blank_or_a_prefix(name: str, path: str) -> None:
    found = names_to_paths([name], [path])
    assert (found.paths, found.other_form) == ({name: path}, {name})


@pytest.mark.parametrize(
    ("name", "paths"),
    [
        ("1.jpg", ["1.png", "2.jpg", "2.png"]),  # masks beside the photos, and a photo is missing
        ("1.tif", ["1.jpg", "1.png"]), ("p1", ["a/p1.jpg", "b/p1.jpg"]), ("p1.jpg", ["p1.txt"]),
        ("p1.jpg", ["p11.jpg"]),
        ("1a2b3c4d-p1.jpg", ["1a2b3c4e-p1.png", "1a2b3c4f-p1.png"]), ("p1.v2", ["p1.jpg"]),
    ],
)  # fmt: skip
def test_another_picture_of_its_stem_is_not_taken(name: str, paths: list[str]) -> None:
    assert name not in names_to_paths([name, "2.jpg"], paths).paths


def test_the_other_half_of_a_pair_is_not_taken() -> None:
    assert names_to_paths(["1.jpg", "1.tif"], ["1.jpg", "1.png"]).paths == {"1.jpg": "1.jpg"}


def test_one_file_with_the_prefix_of_uploads_is_another_photo() -> None:
    """Label Studio puts it before all names: beside photos without it, such a file comes from somewhere else."""
    names = [f"{number}.jpg" for number in range(4)]
    assert matched(names, ["0.jpg", "1.jpg", "2.jpg", "deadbeef-3.jpg"]) == {name: name for name in names[:3]}
    uploads = [f"deadbee{number}-{number}.jpg" for number in range(1, 4)]
    assert matched(names, ["0.jpg", *uploads]) == dict(zip(names, ["0.jpg", *uploads], strict=True))
