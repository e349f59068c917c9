"""Archives are unpacked safely, with passwords and archives inside them, or refused by name."""

from __future__ import annotations

import io
import struct
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
import pyzipper

from seamline.base import files
from seamline.base.errors import SeamlineError
from seamline.ingest.archives import PASSWORD_VARIABLE, unpacked
from seamline.ingest.layouts.matching import names_to_paths


def make_zip(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def make_tar(path: Path, members: dict[str, bytes], link: str | None = None) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        if link:
            info = tarfile.TarInfo("link")
            info.type, info.linkname = tarfile.SYMTYPE, link
            archive.addfile(info)
    return path


@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_an_archive_is_unpacked(tmp_path: Path, make: object) -> None:
    name = "a.zip" if make is make_zip else "a.tar.gz"
    maker = make_zip if make is make_zip else make_tar
    archive = maker(tmp_path / name, {"x/1.txt": b"one", "2.txt": b"two"})
    folder = unpacked(archive, tmp_path / "scratch")
    assert (folder / "x" / "1.txt").read_bytes() == b"one"
    assert (folder / "2.txt").read_bytes() == b"two"


def test_archives_in_a_folder_are_unpacked_and_the_rest_is_linked_to(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "more").mkdir(parents=True)
    make_zip(source / "train.zip", {"image/1.jpg": b"one"})
    make_tar(source / "more" / "val.tar.gz", {"image/1.jpg": b"two"})
    (source / "a.json").write_bytes(b"{}")
    folder = unpacked(source, tmp_path / "scratch")
    assert (folder / "train" / "image" / "1.jpg").read_bytes() == b"one"
    assert (folder / "more" / "val" / "image" / "1.jpg").read_bytes() == b"two"
    assert (folder / "a.json").is_symlink()
    assert sorted(path.name for path in source.rglob("*") if path.is_file()) == ["a.json", "train.zip", "val.tar.gz"]
    assert unpacked(source / "more", tmp_path / "other") != source / "more"
    (tmp_path / "plain").mkdir()
    assert unpacked(tmp_path / "plain", tmp_path / "other") == tmp_path / "plain"


def test_an_archive_beside_its_own_folder_is_not_unpacked_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_zip(tmp_path / "train.zip", {"1.jpg": b"one"})
    make_zip(tmp_path / "._val.zip", {"1.jpg": b"one"})
    (tmp_path / "train").mkdir()
    assert unpacked(tmp_path, tmp_path / "train" / "scratch") == tmp_path
    assert "train.zip is left alone" in capsys.readouterr().out


def test_what_systems_leave_in_archives_is_passed_over(tmp_path: Path) -> None:
    inner = make_zip(tmp_path / "train.zip", {"1.jpg": b"one"}).read_bytes()
    archive = make_zip(
        tmp_path / "a.zip", {"ds/train.zip": inner, "__MACOSX/ds/._train.zip": b"x", "12:30 a.png": b"2"}
    )
    folder = unpacked(archive, tmp_path / "scratch")
    assert (folder / "ds" / "train" / "1.jpg").read_bytes() == b"one"
    assert (folder / "12:30 a.png").read_bytes() == b"2"


def test_archives_inside_an_archive_are_unpacked_next_to_what_is_there(tmp_path: Path) -> None:
    inner = make_zip(tmp_path / "train.zip", {"1.jpg": b"one"}).read_bytes()
    archive = make_zip(tmp_path / "all.zip", {"train.zip": inner, "train/2.jpg": b"two"})
    folder = unpacked(archive, tmp_path / "scratch")
    assert (folder / "train_" / "1.jpg").read_bytes() == b"one"
    assert (folder / "train" / "2.jpg").read_bytes() == b"two"


@pytest.mark.process
@pytest.mark.parametrize("kind", ["zipcrypto", "aes"])
def test_a_password_comes_from_the_environment(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = {f"image/{number}.txt": str(number).encode() * 50 for number in range(700)}  # more than one process's share
    archive = tmp_path / "a.zip"
    if kind == "aes":
        with pyzipper.AESZipFile(archive, "w", encryption=pyzipper.WZ_AES) as opened:
            opened.setpassword(b"2019Deepfashion2")
            for name, content in data.items():
                opened.writestr(name, content)
    else:
        archive.write_bytes(zipcrypto(data, b"2019Deepfashion2"))
    monkeypatch.delenv(PASSWORD_VARIABLE, raising=False)
    with pytest.raises(SeamlineError, match=f"protected by a password; put it into the .* {PASSWORD_VARIABLE}"):
        unpacked(archive, tmp_path / "scratch")
    monkeypatch.setenv(PASSWORD_VARIABLE, "wrong")
    with pytest.raises(SeamlineError, match=r"a\.zip: (the password|is not a readable archive)") as error:
        unpacked(archive, tmp_path / "scratch")
    assert "wrong" not in str(error.value)
    monkeypatch.setenv(PASSWORD_VARIABLE, "2019Deepfashion2")
    folder = unpacked(archive, tmp_path / "scratch")
    assert {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.txt")} == data


def zipcrypto(members: dict[str, bytes], password: bytes) -> bytes:
    """A zip with the usual encryption, which no library here can write (PKWARE APPNOTE 6.1), stored uncompressed."""
    table = [0] * 256
    for value in range(256):
        crc = value
        for _ in range(8):
            crc = crc >> 1 ^ (0xEDB88320 if crc & 1 else 0)
        table[value] = crc
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as opened:
        for name, data in members.items():
            opened.writestr(name, bytes(12) + data)
    plain = bytearray(stream.getvalue())
    with zipfile.ZipFile(io.BytesIO(bytes(plain))) as opened:
        infos = opened.infolist()
        directory = opened.start_dir
    for info in infos:
        keys = [0x12345678, 0x23456789, 0x34567890]

        def update(byte: int, keys: list[int] = keys) -> None:
            keys[0] = keys[0] >> 8 ^ table[(keys[0] ^ byte) & 0xFF]
            keys[1] = ((keys[1] + (keys[0] & 0xFF)) * 134775813 + 1) & 0xFFFFFFFF
            keys[2] = keys[2] >> 8 ^ table[(keys[2] ^ keys[1] >> 24) & 0xFF]

        for byte in password:
            update(byte)
        data = members[info.filename]
        crc = zlib.crc32(data)
        begun = info.header_offset + 30 + len(info.filename)
        for at, byte in enumerate(bytes(11) + bytes([crc >> 24]) + data):
            mixed = keys[2] | 2
            plain[begun + at] = byte ^ (mixed * (mixed ^ 1) >> 8 & 0xFF)
            update(byte)
        for header, flags_at, crc_at in ((info.header_offset, 6, 14), (directory, 8, 16)):
            plain[header + flags_at] |= 1
            plain[header + crc_at : header + crc_at + 4] = crc.to_bytes(4, "little")
            size = len(data).to_bytes(4, "little")
            plain[header + crc_at + 8 : header + crc_at + 12] = size
        directory += 46 + len(info.filename)
    return bytes(plain)


@pytest.mark.parametrize("name", ["../out.txt", "/etc/out.txt", "a/../../out.txt", "c:\\out.txt"])
@pytest.mark.parametrize("suffix", [".zip", ".tar.gz"])
def test_a_member_that_leads_outside_is_refused(tmp_path: Path, name: str, suffix: str) -> None:
    maker = make_zip if suffix == ".zip" else make_tar
    archive = maker(tmp_path / f"a{suffix}", {"good.txt": b"1", name: b"bad"})
    with pytest.raises(SeamlineError, match="leads outside"):
        unpacked(archive, tmp_path / "scratch")
    assert not list((tmp_path / "scratch").rglob("*.txt"))  # not even the good one


def test_a_link_is_refused(tmp_path: Path) -> None:
    archive = make_tar(tmp_path / "a.tar.gz", {"good.txt": b"1"}, link="/etc/passwd")
    with pytest.raises(SeamlineError, match="'link' is a link"):
        unpacked(archive, tmp_path / "scratch")
    info = zipfile.ZipInfo("link")
    info.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as opened:
        opened.writestr(info, "/etc/passwd")
    with pytest.raises(SeamlineError, match="'link' is a link"):
        unpacked(tmp_path / "a.zip", tmp_path / "scratch")


@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_an_archive_that_unpacks_to_a_thousand_times_its_size_is_refused(tmp_path: Path, make: object) -> None:
    name = "a.zip" if make is make_zip else "a.tar.gz"
    maker = make_zip if make is make_zip else make_tar
    archive = maker(tmp_path / name, {"1.txt": b"one", "zeros": bytes(8_000_000)})
    with pytest.raises(SeamlineError, match=rf"{name}: unpacks to 8,000,\d+ bytes or more, over 250 times"):
        unpacked(archive, tmp_path / "scratch")
    assert not [path for path in (tmp_path / "scratch").rglob("*") if path.is_file()]


def test_nor_may_archives_inside_it_together(tmp_path: Path) -> None:
    inner = make_zip(tmp_path / "inner.zip", {"zeros": bytes(900_000)}).read_bytes()
    archive = make_zip(tmp_path / "a.zip", {f"{number}.zip": inner for number in range(3)})
    with pytest.raises(SeamlineError, match=r"\d\.zip: unpacks to 900,000 bytes or more"):
        unpacked(archive, tmp_path / "scratch")


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.zip", b"no zip", "is not a readable archive"),
        ("a.tar.gz", b"no tar", "is not a readable archive"),
        ("a.zip", b"", "is not a readable archive"),
    ],
)
def test_what_is_not_an_archive_is_one_sentence(tmp_path: Path, name: str, content: bytes, sentence: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SeamlineError, match=sentence):
        unpacked(tmp_path / name, tmp_path / "scratch")


def test_a_damaged_zip_is_one_sentence(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.zip", {"x.txt": bytes(range(256)) * 100})
    data = bytearray(archive.read_bytes())
    data[60] ^= 0xFF
    archive.write_bytes(data)
    with pytest.raises(SeamlineError, match="is not a readable archive"):
        unpacked(archive, tmp_path / "scratch")


@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_members_that_would_be_one_file_are_refused_before_one_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path, dict[str, bytes]], Path]
) -> None:
    monkeypatch.setattr(files, "tells_case", lambda folder: False)
    archive = make(tmp_path / ("a.zip" if make is make_zip else "a.tar.gz"), {"A.jpg": b"1", "a.jpg": b"2"})
    with pytest.raises(SeamlineError, match=r"'A\.jpg' and 'a\.jpg' are one file on this disk"):
        unpacked(archive, tmp_path / "scratch")
    assert list((tmp_path / "scratch").rglob("*.jpg")) == []


def with_raw_name(data: bytes, sign: str, raw: bytes) -> bytes:
    """A zip in which a name of ASCII signs has become these bytes, without the flag for UTF-8, as in old ones."""
    assert data.count(sign.encode() * len(raw)) == 2  # beside the file, and in the list at the end
    return data.replace(sign.encode() * len(raw), raw)


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        ("été.jpg".encode(), "été.jpg"),
        (unicodedata.normalize("NFD", "été.jpg").encode(), unicodedata.normalize("NFD", "été.jpg")),
        ("红色.jpg".encode(), "红色.jpg"),
        ("été.jpg".encode("cp437"), "été.jpg"),
        ("été.jpg".encode("cp1252"), "été.jpg".encode("cp1252").decode("cp437")),  # found by its form later
        ("红色.jpg".encode("gbk"), "红色.jpg".encode("gbk").decode("cp437")),
    ],
)
def test_names_in_zips_that_do_not_say_how_they_are_coded(tmp_path: Path, raw: bytes, name: str) -> None:
    data = make_zip(
        tmp_path / "a.zip", {"a/" + "#" * len(raw): b"one", "a/2.jpg": b"two", "ü.jpg": b"three"}
    ).read_bytes()
    (tmp_path / "a.zip").write_bytes(with_raw_name(data, "#", raw))
    folder = unpacked(tmp_path / "a.zip", tmp_path / "scratch")
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert found == {f"a/{name}": b"one", "a/2.jpg": b"two", "ü.jpg": b"three"}


JAPANESE = ("表.jpg", "写真/ソックス表.jpg", "能/1.jpg", "予2.jpg")  # the second byte of each first one is 0x5C


@pytest.mark.parametrize(
    ("page", "names"),
    [("cp932", JAPANESE), ("big5", ("功.jpg", "許/1.jpg")), ("gbk", ("癨.jpg", "癨/1.jpg"))],
)
def test_a_backslash_that_is_half_of_a_character_makes_no_folder(
    tmp_path: Path, page: str, names: tuple[str, ...]
) -> None:
    """And matching finds what the annotations call the file."""
    assert any(b"\\" in name.encode(page) for name in names)
    files = {name.encode(page): name.encode() for name in names}
    folder = unpacked(raw_zip(tmp_path / "a.zip", files), tmp_path / "scratch")
    paths = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    matches = names_to_paths(names, paths)
    assert {name: (folder / matches.paths[name]).read_bytes() for name in names} == {one: one.encode() for one in names}


def test_backslashes_that_separate_folders_still_do(tmp_path: Path) -> None:
    """A folder whose last letter looks like half of a Japanese character, beside plain ones."""
    files = {"Röcke grün\\1.jpg".encode("cp850"): b"1", "kleidä\\2.jpg".encode("cp850"): b"2"}
    folder = unpacked(raw_zip(tmp_path / "a.zip", files), tmp_path / "scratch")
    assert sorted(path.name for path in folder.rglob("*.jpg")) == ["1.jpg", "2.jpg"]
    alone = raw_zip(tmp_path / "b.zip", {"kleidä\\2.jpg".encode("cp850"): b"2"})  # nothing else says which it is
    folder = unpacked(alone, tmp_path / "again")
    paths = [path.relative_to(folder).as_posix() for path in folder.rglob("*.jpg")]
    for name in ("kleidä/2.jpg", "2.jpg"):
        assert names_to_paths([name], paths).paths == {name: paths[0]}


def test_such_a_name_leads_nowhere(tmp_path: Path) -> None:
    archive = raw_zip(tmp_path / "a.zip", {b"\x95\\..\\..\\evil.jpg": b"1", b"a/b.jpg": b"2"})
    with pytest.raises(SeamlineError, match="leads outside"):
        unpacked(archive, tmp_path / "scratch")


def raw_zip(path: Path, files: dict[bytes, bytes]) -> Path:
    """A zip whose names are these bytes, without saying how they are coded."""
    for number, (raw, data) in enumerate(files.items()):
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr(chr(ord("A") + number) * len(raw), data)
    content = path.read_bytes()
    for number, raw in enumerate(files):
        content = with_raw_name(content, chr(ord("A") + number), raw)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("right", [True, False])
def test_a_name_that_info_zip_gives_beside_the_old_one(tmp_path: Path, right: bool) -> None:
    raw, better = "élan.jpg".encode("cp1252"), "élan.jpg".encode()
    info = zipfile.ZipInfo("#" * len(raw))
    check = zlib.crc32(raw if right else b"another name")  # it counts only with the checksum of the name it belongs to
    info.extra = struct.pack("<HHBL", 0x7075, 5 + len(better), 1, check) + better
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(info, b"one")
    (tmp_path / "a.zip").write_bytes(with_raw_name((tmp_path / "a.zip").read_bytes(), "#", raw))
    [path] = unpacked(tmp_path / "a.zip", tmp_path / "scratch").iterdir()
    assert path.name == ("élan.jpg" if right else raw.decode("cp437"))
    assert path.read_bytes() == b"one"


def test_folders_that_windows_packs_as_files(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name in ("a\\", "a\\b\\", "a/", "flagged", "parent"):
            info = zipfile.ZipInfo()
            info.filename = name
            info.external_attr = 0x10 if name == "flagged" else 0
            archive.writestr(info, b"")
        for name in ("a\\b\\1.jpg", "flagged/2.jpg", "parent/3.jpg", "empty.txt"):
            info = zipfile.ZipInfo()
            info.filename = name
            archive.writestr(info, b"" if name == "empty.txt" else name.encode())
    folder = unpacked(tmp_path / "a.zip", tmp_path / "scratch")
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert found == {"a/b/1.jpg": b"a\\b\\1.jpg", "flagged/2.jpg": b"flagged/2.jpg", "parent/3.jpg": b"parent/3.jpg",
                     "empty.txt": b""}  # fmt: skip


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_that_is_there_twice_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for data in (b"first", b"second"):
            archive.writestr("1.jpg", data)
    folder = unpacked(tmp_path / "a.zip", tmp_path / "scratch")
    assert (folder / "1.jpg").read_bytes() == b"second"
    assert "a.zip: has names more than once (1), such as '1.jpg'; the last file is taken" in capsys.readouterr().out


def test_names_in_tars_that_are_not_utf_8(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.GNU_FORMAT, encoding="latin-1") as archive:
        info = tarfile.TarInfo("é/été.jpg")
        info.size = 3
        archive.addfile(info, io.BytesIO(b"one"))
    [path] = unpacked(tmp_path / "a.tar", tmp_path / "scratch").rglob("*.jpg")
    assert path.read_bytes() == b"one"
    assert path.name.encode("cp437").decode("latin-1") == "été.jpg"
    path.name.encode()  # a name that every disk and every list takes


def tar_of_links(path: Path, *members: tuple[str, bytes | str]) -> Path:
    """A tar in which text is a hard link's target."""
    with tarfile.open(path, "w") as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            if isinstance(data, str):
                info.type, info.linkname = tarfile.LNKTYPE, data
                archive.addfile(info)
            else:
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    return path


def test_a_hard_link_to_a_file_of_the_tar_is_that_file(tmp_path: Path) -> None:
    archive = tar_of_links(
        tmp_path / "a.tar", ("./a/1", b"one"), ("b/2", "a/1"), ("3", "./4"), ("4", b"four"), ("4", "4")
    )
    folder = unpacked(archive, tmp_path / "scratch")
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert found == {"a/1": b"one", "b/2": b"one", "3": b"four", "4": b"four"}


def test_a_hard_link_that_would_be_one_file_with_another_member_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "tells_case", lambda folder: False)
    archive = tar_of_links(tmp_path / "a.tar", ("A.jpg", b"1"), ("b.jpg", b"2"), ("a.jpg", "b.jpg"))
    with pytest.raises(SeamlineError, match=r"'A\.jpg' and 'a\.jpg' are one file on this disk"):
        unpacked(archive, tmp_path / "scratch")
    assert list((tmp_path / "scratch").rglob("*.jpg")) == []


@pytest.mark.parametrize("target", ["../../etc/passwd", "/etc/passwd", "none", "b", "folder"])
def test_other_hard_links_are_refused(tmp_path: Path, target: str) -> None:
    archive = tar_of_links(tmp_path / "a.tar", ("folder/1", b"one"), ("b", target), ("c", target))
    with pytest.raises(SeamlineError, match=r"leads outside|link to .* such links are refused"):
        unpacked(archive, tmp_path / "scratch")
    assert not [path for path in (tmp_path / "scratch").rglob("*") if path.is_file()]


def test_a_hard_link_to_a_hard_link_is_the_file_at_the_end(tmp_path: Path) -> None:
    archive = tar_of_links(tmp_path / "a.tar", ("4", "3"), ("1", b"one"), ("2", "1"), ("3", "./2"))
    folder = unpacked(archive, tmp_path / "scratch")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == dict.fromkeys("1234", b"one")
    circle = tar_of_links(tmp_path / "b.tar", ("1", b"one"), ("2", "3"), ("3", "4"), ("4", "2"))
    with pytest.raises(SeamlineError, match=r"link to .* such links are refused"):
        unpacked(circle, tmp_path / "circle")


def test_hard_links_count_in_what_a_tar_unpacks_to(tmp_path: Path) -> None:
    members = [(str(number), "big") for number in range(400)]
    archive = tar_of_links(tmp_path / "a.tar", ("big", bytes(1 << 20)), *members)
    with pytest.raises(SeamlineError, match="over 250 times its size"):
        unpacked(archive, tmp_path / "scratch")
