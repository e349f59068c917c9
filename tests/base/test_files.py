from __future__ import annotations

import errno
import json
import os
import shutil
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from seamline.base import files
from seamline.base.errors import SeamlineError
from seamline.base.files import (
    beside,
    check_out,
    code_below,
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


@pytest.mark.process
@pytest.mark.parametrize("exchange", ["with", "without"])
def test_a_kill_at_any_moment_leaves_the_old_folder_or_the_new_one(tmp_path: Path, exchange: str) -> None:
    command = [sys.executable, "-m", "tests.killed", str(tmp_path), "2000", "15", exchange]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert not done.stderr
    moments, missing, left = done.stdout.split()
    assert int(moments) >= 50
    assert left == "new,old"
    if exchange == "without":
        assert int(missing) == 1  # between the two renamings; the next start has given it back
    elif exchanges(tmp_path):
        assert int(missing) == 0


def exchanges(folder: Path) -> bool:
    """Whether names can be exchanged here."""
    for name in ("one", "other"):
        (folder / name).mkdir()
    try:
        files.exchange(folder / "one", folder / "other")
    except OSError:
        return False
    return True


def test_who_reads_a_folder_finds_it_at_every_moment(tmp_path: Path) -> None:
    if not exchanges(tmp_path):
        pytest.skip("names cannot be exchanged here")
    target, over = tmp_path / "a", threading.Event()
    found: list[tuple[str, ...]] = []

    def replace() -> None:
        number = 0
        while number < 300 or len(found) <= 100:  # whichever of the two a busy machine lets run
            with whole_folder(target) as folder:
                (folder / str(number)).touch()
            number += 1
        over.set()

    with whole_folder(target) as folder:
        (folder / "first").touch()
    writer = threading.Thread(target=replace)
    writer.start()
    while not over.is_set():
        target.stat()
        found.append(tuple(path.name for path in target.iterdir()))
    writer.join()
    assert {len(names) for names in found} <= {0, 1}  # none: of one that was opened, and is deleted by now


@pytest.mark.parametrize("number", files.NO_EXCHANGE)
def test_a_folder_takes_the_others_place_where_names_cannot_be_exchanged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(one: Path, other: Path) -> None:
        raise OSError(number, os.strerror(number), str(other))

    monkeypatch.setattr(files, "exchange", refuse)
    replace_a_with_b(tmp_path / "f")


def test_a_folder_of_a_lower_layer_is_copied_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """overlayfs renames none of them; an old one is whole under one of its names all the time."""

    def refuse(one: Path, other: Path) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), str(other))

    rename = Path.rename

    def rename_unless_lower(path: Path, target: Path) -> Path:
        if path.name == "f":
            refuse(path, target)
        return rename(path, target)

    monkeypatch.setattr(files, "exchange", refuse)
    monkeypatch.setattr(Path, "rename", rename_unless_lower)
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / "link").symlink_to("nowhere")
    replace_a_with_b(tmp_path / "f")


def replace_a_with_b(target: Path) -> None:
    for name in ("a", "b"):
        with whole_folder(target) as folder:
            (folder / name).write_text(name)
    assert [path.name for path in target.parent.rglob("*")] == ["f", "b"]


def test_what_a_kill_between_two_names_left_is_mended_by_the_next_start(tmp_path: Path) -> None:
    target, old, new = tmp_path / "f", tmp_path / ".f.old.tmp", tmp_path / ".f.tmp"
    for folder in (old, new):
        folder.mkdir()
    (old / "a").touch()
    with pytest.raises(ValueError, match="stop"), whole_folder(target):
        raise ValueError("stop")  # a start that fails has mended it, too
    assert [path.name for path in tmp_path.rglob("*")] == ["f", "a"]
    old.mkdir()  # the new one has its name, and the old one was not deleted any more
    with pytest.raises(ValueError, match="stop"), whole_folder(target):
        raise ValueError("stop")
    assert [path.name for path in tmp_path.rglob("*")] == ["f", "a"], "the new one was lost"
    old.mkdir()
    with whole_folder(target) as folder:
        (folder / "b").touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["f", "b"]


def test_a_folder_that_was_half_deleted_is_the_old_one_again(tmp_path: Path) -> None:
    """A kill while the old one of a lower layer, which has a copy by then, was deleted."""
    for name, files_in_it in ((".f.old.tmp", "ab"), ("f", "b"), (".f.tmp", "c")):
        (tmp_path / name).mkdir()
        for file in files_in_it:
            (tmp_path / name / file).touch()
    with pytest.raises(ValueError, match="stop"), whole_folder(tmp_path / "f"):
        raise ValueError("stop")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", "b", "f"]


def test_an_exchange_that_fails_otherwise_leaves_the_old_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(one: Path, other: Path) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(other))

    monkeypatch.setattr(files, "exchange", refuse)
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        replace_a_with_b(tmp_path / "f")
    assert [path.name for path in tmp_path.rglob("*")] == ["f", "a"]


def test_of_a_link_the_link_is_deleted(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    for leads_to in ("kept", "nowhere"):
        link = tmp_path / "link"
        link.symlink_to(tmp_path / leads_to)
        files.delete(link)
        assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_a_folder_that_may_not_be_written_to_is_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, rmtree = tmp_path / "f", shutil.rmtree
    folder.mkdir(mode=0o500)

    def strict(path: Path) -> None:
        if not path.stat().st_mode & stat.S_IWUSR:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        rmtree(path)

    monkeypatch.setattr(shutil, "rmtree", strict)
    files.delete(folder)
    assert not folder.exists()


def test_a_mount_point_is_refused_before_anything_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "f"
    replace_a_with_b(target)
    with monkeypatch.context() as patched:
        patched.setattr(Path, "is_mount", lambda path: path == target)
        with pytest.raises(SeamlineError, match="f: is a mount point"), whole_folder(target):
            pytest.fail("nothing has to be made for it")

    def busy(one: Path, other: Path) -> None:
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), str(other))

    monkeypatch.setattr(files, "exchange", busy)  # one of the same disk, which looks like any folder
    with pytest.raises(SeamlineError, match="f: is a mount point"), whole_folder(target):
        pass
    assert [path.name for path in tmp_path.rglob("*")] == ["f", "b"]


def test_a_link_stays_and_the_folder_it_leads_to_is_replaced(tmp_path: Path) -> None:
    for there in ("elsewhere/there", "nowhere/yet"):
        link = tmp_path / f"link-{there[:4]}"
        link.symlink_to(tmp_path / there)
        for name in ("a", "b"):
            with whole_folder(link) as folder:
                (folder / name).touch()
        assert link.is_symlink()
        assert [path.name for path in (tmp_path / there).iterdir()] == ["b"]


def test_what_is_read_only_is_replaced_and_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files, as DVC links them, and folders; root may delete both, so that the refusal is acted here."""
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o500)
    target = tmp_path / "f"
    (target / "inner").mkdir(parents=True)
    (target / "inner" / "x").touch(0o400)
    (target / "link").symlink_to(outside)
    (target / "inner").chmod(0o500)
    rmtree = shutil.rmtree

    def strict(path: Path) -> None:
        if path.exists() and (path / "inner").exists() and not (path / "inner").stat().st_mode & stat.S_IWUSR:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        rmtree(path)

    monkeypatch.setattr(shutil, "rmtree", strict)
    with whole_folder(target) as folder:
        (folder / "b").touch()
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["b", "f", "outside"]
    assert stat.S_IMODE(outside.stat().st_mode) == 0o500


def test_names_as_long_as_they_may_be(tmp_path: Path) -> None:
    replace_a_with_b(tmp_path / "f")
    name = "ü" * 127
    write_json(tmp_path / f"{name}.", 1)
    with whole_folder(tmp_path / name) as folder:
        (folder / "x").touch()
    assert {path.name for path in tmp_path.iterdir()} == {"f", name, f"{name}."}


@pytest.mark.parametrize("name", ["a.", "CON", "a b", "-rf", "a\\b", "*", "\udcff"])
def test_odd_names(tmp_path: Path, name: str) -> None:
    if sys.platform == "darwin" and name == "\udcff":
        pytest.skip("a Mac's names are UTF-8")
    for content in ("a", "b"):
        with whole_folder(tmp_path / name) as folder:
            (folder / content).touch()
    assert [path.name for path in tmp_path.rglob("*")] == [name, "b"]


def test_a_file_reaches_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed = []

    def noted(descriptor: int) -> None:
        flushed.append(os.fstat(descriptor).st_ino)
        assert not (tmp_path / "x.json").exists()

    monkeypatch.setattr(os, "fsync", noted)
    write_json(tmp_path / "x.json", 1)
    assert flushed == [(tmp_path / "x.json").stat().st_ino]


@pytest.mark.parametrize("number", files.NO_FLUSH)
def test_a_file_system_that_cannot_flush_keeps_nobody_from_writing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    write_json(tmp_path / "x.json", 1)
    monkeypatch.setattr(os, "fsync", lambda descriptor: os.write(descriptor, b""))  # not opened for it
    with pytest.raises(OSError, match="Bad file descriptor"):
        write_json(tmp_path / "x.json", 2)
    assert read_json(tmp_path / "x.json") == 1


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


def test_code_is_what_somebody_wrote(tmp_path: Path) -> None:
    code = ("a.py", "b/c.py", "b/page.html")
    for name in (*code, ".a.py", "._a.py", "#a.py", ".checkpoints/a.py", "b/#d/a.py", "a.pyc", "a.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "b" / "gone.py").symlink_to("nowhere")
    (tmp_path / "folder.py").mkdir()
    assert code_below(tmp_path, {".py", ".html"}) == [tmp_path / name for name in code]
    assert code_below(tmp_path / ".checkpoints", {".py"}) == [tmp_path / ".checkpoints" / "a.py"]
