"""JSON as others write it; json and the codecs of Python say what is in it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from seamline.base.errors import SeamlineError
from seamline.ingest.layouts.annotation_files import AnnotationFile, looks_like_coco, read_annotation_file
from seamline.ingest.layouts.coco import category_names, read
from seamline.ingest.layouts.text import to_utf8, without_surrogates
from tests.conftest import write_dataset

DOCUMENT = {"note": 'é 红 👗 "a\\b" \u2028', "images": [{"file_name": "\\udce9.jpg"}]}


@pytest.mark.parametrize("ascii_only", [True, False])
@pytest.mark.parametrize(
    ("encoding", "mark"),
    [
        ("utf-8", ""), ("utf-16", ""), ("utf-16-le", ""), ("utf-16-be", ""), ("utf-32", ""), ("utf-32-le", ""),
        ("utf-32-be", ""), ("utf-16-be", "\ufeff"), ("utf-32-be", "\ufeff"),
        ("utf-16", "\ufeff"), ("utf-32", "\ufeff"),  # two marks: the encoding's, and one that the program wrote itself
    ],
)  # fmt: skip
def test_json_in_any_unicode(encoding: str, mark: str, ascii_only: bool) -> None:
    text = json.dumps(DOCUMENT, ensure_ascii=ascii_only)
    data, note = to_utf8((mark + text).encode(encoding))
    assert json.loads(data.decode("utf-8")) == DOCUMENT
    assert (encoding[:6].upper() in note) is (encoding != "utf-8")


@pytest.mark.parametrize(
    "value", ["a\udce9", "\ud83d", "\ud83dx\udc57", "\udc57\ud83d", "👗\ud800👗", "\\\udfff\\\\", "\\ud800"]
)
def test_halves_of_characters_become_the_sign_for_no_text(value: str) -> None:
    data, note = to_utf8(json.dumps({value: [value]}).encode())
    wanted = "".join("\ufffd" if 0xD800 <= ord(letter) < 0xE000 else letter for letter in value)
    assert json.loads(data.decode("utf-8")) == {wanted: [wanted]}
    assert bool(note) is (wanted != value)
    assert without_surrogates(value) == wanted


@pytest.mark.parametrize("data", [b"", b"\xff\xfe\x00", "é".encode("cp1252"), b"{\x00\xd8\xd8"])
def test_what_is_none_of_them_stays(data: bytes) -> None:
    assert to_utf8(data) == (data, "")


def test_the_lists_at_its_top_make_a_coco_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    lists: dict[str, list[int]] = {"images": [], "annotations": [], "categories": []}
    for document, right in (
        (lists, True), ({**lists, "more": float("nan")}, True), ({"splits": lists}, False), ([lists], False),
        ({**lists, "images": {}}, False), ({"features": lists, "mean": float("nan")}, False),
    ):  # fmt: skip
        for encoding in ("utf-8", "utf-16"):
            path.write_bytes(json.dumps(document).encode(encoding))
            assert looks_like_coco(path) is right, document
    path.write_text(json.dumps(lists)[:-2])
    assert not looks_like_coco(path)  # damaged: said before another file is taken


def test_a_file_that_is_cut_short_says_so_wherever_it_ends(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "in", count=1)
    path = folder / "instances.json"
    text = path.read_text().replace("trousers", "jupe d'\u00e9t\u00e9")
    whole = text.replace('"scale": 2', '"scale": -2.5e3').encode()
    for length in [*range(7, len(whole), 7), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(SeamlineError, match=rf"instances\.json:? is cut short: its JSON ends at byte {length:,}, "):
            read(folder, None)
    path.write_bytes(whole + b"\n")
    assert read(folder, None).parts[0].title == "instances.json"


def test_a_file_that_is_damaged_names_the_byte(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "in", count=1)
    path = folder / "instances.json"
    text = path.read_text().replace("short sleeve top", "\u00fcber").encode()
    at = text.index(b"400")  # the value of an area
    for start in (b"", b"\xef\xbb\xbf"):
        path.write_bytes(start + text[:at] + b"@" + text[at:])
        with pytest.raises(SeamlineError, match=rf"s\.json:? is not JSON from byte {len(start) + at:,} on; copy"):
            read(folder, None)


def test_a_split_that_is_cut_short_is_not_left_out_in_silence(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "in")
    text = (folder / "instances.json").read_text()
    (folder / "instances.json").rename(folder / "instances_train.json")
    (folder / "instances_val.json").write_text(text[:200])
    with pytest.raises(SeamlineError, match=r"instances_val\.json: is cut short: its JSON ends at byte 200"):
        read(folder, None)


def test_what_was_done_is_said_with_the_files_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_dataset(tmp_path / "in", count=1) / "instances.json"
    text = path.read_text().replace('"scale": 2', '"scale": "\\udc80"')
    path.write_text(text, encoding="utf-16")
    coco = read_annotation_file(path)
    assert [json.loads(bytes(raw))["scale"] for raw in coco.annotations] == ["\ufffd", "\ufffd"]
    said = capsys.readouterr().out
    assert said.startswith("instances.json: is in UTF-16")
    assert "2 halves of characters" in said


def test_a_category_in_another_code_page_stays_and_the_file_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Names that differ in one such character stay two classes."""
    path = write_dataset(tmp_path / "in", count=1) / "instances.json"
    text = (
        path.read_text().replace("trousers", "jupe d'\u00e9t\u00e9").replace("short sleeve top", "jupe d'\u00e8t\u00e9")
    )
    path.write_bytes(text.encode("cp1252"))
    assert sorted(category_names([AnnotationFile(None, path)])) == ["jupe d'\u00e8t\u00e9", "jupe d'\u00e9t\u00e9"]
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 2
    assert all(line.startswith("instances.json: a category is not UTF-8") for line in said)


def test_a_category_that_is_not_an_object_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"images": [], "annotations": [], "categories": ["shirt"]}')
    with pytest.raises(SeamlineError, match=r"^a\.json: the record .* cannot be read"):
        category_names([AnnotationFile(None, path)])
