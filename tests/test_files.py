from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from seamline import files
from seamline.errors import SeamlineError
from seamline.files import (
    beside,
    check_out,
    link_or_copy,
    mode_of,
    read_json,
    refuse_alike,
    whole_file,
    whole_folder,
    write_json,
)


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "a" / "x.txt"
    write_json(target, {"b": 1})
    assert target.read_text() == '{\n  "b": 1\n}\n'
    with pytest.raises(ValueError, match="stop"), whole_file(target) as temporary:
        temporary.write_text("half")
        raise ValueError("stop")
    assert json.loads(target.read_text()) == {"b": 1}
    assert [path.name for path in target.parent.iterdir()] == ["x.txt"]


def test_what_cannot_be_looked_at_is_not_taken_for_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert stat.S_ISREG(mode_of(tmp_path / "file"))
    assert stat.S_ISDIR(mode_of(tmp_path))
    assert mode_of(tmp_path / "nothing") == mode_of(tmp_path / "file" / "below") == 0
    with pytest.raises(OSError, match="name too long"):
        mode_of(tmp_path / ("n" * 300))


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "a"
    (tmp_path / ".a.tmp").mkdir()  # what a killed run leaves
    (tmp_path / ".a.tmp" / "half").write_text("")
    with whole_folder(target) as temporary:
        (temporary / "x").write_text("1")
    with pytest.raises(ValueError, match="stop"), whole_folder(target) as temporary:
        (temporary / "y").write_text("2")
        raise ValueError("stop")
    assert [path.name for path in tmp_path.rglob("*")] == ["a", "x"]


def test_nan_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "x.json", {"a": float("nan")})
    assert not list(tmp_path.iterdir())


def test_reading_what_is_not_there_or_no_json_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(SeamlineError, match="run the stage that makes it"):
        read_json(tmp_path / "x.json")
    (tmp_path / "x.json").write_bytes(b"\xff{")
    with pytest.raises(SeamlineError, match="is not JSON"):
        read_json(tmp_path / "x.json")


ALIKE = [["A.jpg", "b.jpg", "a.jpg"], ["x/1.JPG", "X/1.jpg"], ["caf\u00e9.png", "cafe\u0301.png"]]


@pytest.mark.parametrize("names", ALIKE)
def test_names_that_would_be_one_file_are_refused_where_they_would(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: list[str]
) -> None:
    """On a disk that does not tell upper from lower case, as on most Macs; this one does, most likely."""
    monkeypatch.setattr(files, "tells_case", lambda folder: True)
    refuse_alike(names, tmp_path, "all.zip")
    monkeypatch.setattr(files, "tells_case", lambda folder: False)
    with pytest.raises(SeamlineError, match=r"^all\.zip: '.*' and '.*' are one file on this disk, which does not tell"):
        refuse_alike(names, tmp_path, "all.zip")
    refuse_alike([*names[:1], *names[:1], "other.jpg"], tmp_path, "all.zip")


def test_whether_a_disk_tells_case_is_tried_out_and_nothing_is_left(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    assert files.tells_case(tmp_path) == (not (tmp_path / "A").exists())
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_disk_on_which_a_capital_finds_the_small_letter_does_not_tell_case(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As most of Macs have; here it is the look-up that does not tell."""
    monkeypatch.setattr(Path, "exists", lambda path: path.with_name(path.name.lower()).is_file())
    assert not files.tells_case(tmp_path)


def test_what_is_written_beside_an_output_has_its_whole_name() -> None:
    """Else v1.1 would take the place of v1.0's."""
    assert beside(Path("made/v1.0"), "report.json") == Path("made/v1.0-report.json")


def test_linking_takes_no_space_and_falls_back_to_copying(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x").write_text("1")
    link_or_copy(tmp_path / "x", tmp_path / "a" / "y")
    assert (tmp_path / "a" / "y").stat().st_ino == (tmp_path / "x").stat().st_ino

    def no_links(*_: object) -> None:
        raise OSError("no links here")

    monkeypatch.setattr("os.link", no_links)
    link_or_copy(tmp_path / "x", tmp_path / "z")
    assert (tmp_path / "z").read_text() == "1"
    assert (tmp_path / "z").stat().st_ino != (tmp_path / "x").stat().st_ino


OURS = ("annotations.json", "images", "*.txt")


@pytest.mark.parametrize("out", [".", "..", "./", "sub/..", "/"])
def test_the_current_folder_and_those_around_it_are_never_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str
) -> None:
    (tmp_path / "project" / "sub").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "project")
    with pytest.raises(SeamlineError, match="is the current folder or has it inside"):
        check_out(Path(out), OURS)


def test_a_folder_is_replaced_where_it_has_nothing_but_what_the_stage_makes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    out = Path("out")
    check_out(out, OURS)  # it is not there
    (out / "images").mkdir(parents=True)
    (out / "train.txt").touch()
    check_out(out, OURS, [Path("out-of-it"), Path("in")])
    with pytest.raises(SeamlineError, match="out: would be replaced, and out/images is read from it"):
        check_out(out, OURS, [Path("in"), out / "images"])
    with pytest.raises(SeamlineError, match="out: would be replaced, and out is read from it"):
        check_out(out, OURS, [out])
    (out / "holiday.jpg").touch()
    with pytest.raises(SeamlineError, match=r"out: has 'holiday.jpg', which this stage has not made and would delete"):
        check_out(out, OURS)
    Path("link").symlink_to(out)
    with pytest.raises(SeamlineError, match="link: is a link"):
        check_out(Path("link"), OURS)


def test_a_dataset_of_the_users_looks_like_ours_and_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("project", "photos"):
        (tmp_path / name / "images").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "project")
    with pytest.raises(SeamlineError, match="is there already, outside of the project"):
        check_out(Path("../photos"), OURS, inside=True)
    check_out(Path("../photos"), OURS)
    check_out(Path("../new"), OURS, inside=True)
