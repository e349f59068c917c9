"""Which file of a source each file_name means: a pure function over names and paths; nothing is opened here.

Exact names go first, so that a record whose own file is missing does not take another's. Then ends: a name may lack
leading folders or have some that the source does not, but the folders that both have agree. Only the folders in which
all names lay may be called otherwise here: those of another machine, or where all photos lie in images/ or the like.
A name without folders means a file beside the annotation file or below it, if others do; and no file of another split.
Then other forms of the name, as file systems, archives and web servers leave them. Whatever is not unique on both sides
is left missing.
"""

from __future__ import annotations

import functools
import posixpath
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import NamedTuple
from urllib.parse import unquote

from seamline.base.errors import SeamlineError
from seamline.base.files import folded
from seamline.images.files import PIPELINE_SUFFIXES
from seamline.ingest.layouts.name_forms import FORMS, UPLOAD, stem_of, suffix_of, unescaped, without_upload
from seamline.ingest.layouts.text import without_surrogates
from seamline.ingest.member_names import WIDE_BACKSLASH

# Folders that say nothing of what is in them: a name from another machine need not have them.
CONTAINERS = {
    "images", "image", "imgs", "img", "photos", "photo", "pictures", "pics", "jpegimages", "data", "files", "media",
    "upload", "uploads", "default",
}  # fmt: skip
# Folders whose files have the photos' names and are not the photos; only a name that is exact takes one.
BESIDE_PHOTOS = {
    "mask", "masks", "label_maps", "labels", "segmentation", "segmentations", "segmentationclass",
    "segmentationobject", "thumb", "thumbs", "thumbnail", "thumbnails", "@eadir",
}  # fmt: skip
# How old zips and tars, and what unpacked them, may have coded a name.
CODE_PAGES = ("utf-8", "cp1252", "gbk", "cp932", "cp949", "big5", "cp1251", "cp866", "cp850", "cp852", "cp437")
ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/]*")
# Label Studio's addresses of files: /data/local-files/?d=photos/1.jpg, /storage-data/uploaded/?filepath=upload/1.jpg
ARGUMENT = re.compile(r"[?&](?:d|filepath)=([^&#]+)")
DRIVE = re.compile(r"[A-Za-z]:")
# What no plain path has: a backslash, a drive or host, an argument, an empty part, a dot or two as one.
ODD = re.compile(r"[\\:?]|(?:^|/)\.{0,2}(?:/|$)")
SUFFIXES = tuple(PIPELINE_SUFFIXES)


class Wanted(NamedTuple):
    """What a file_name may be matched by."""

    end: str  # as far as it can lie inside the source
    foreign: bool  # it is absolute, has a drive, a host or `..`: its folders are those of another machine
    home: str = ""  # where a file has to lie if the name says no folder; "" for anywhere


class Shared(NamedTuple):
    """How many leading folders all of a kind share; 0 where they have to be called as the source calls them."""

    photos: int
    foreign_names: int
    other_names: int


class Split(NamedTuple):
    """Which files belong to the split of the annotation file, and which to another one; both by their path."""

    is_own: Callable[[str], bool]
    is_others: Callable[[str], bool]


class Matches(NamedTuple):
    """The file of each name."""

    paths: dict[str, str]  # name -> path
    other_form: set[str]  # the names among them that are written otherwise than their file
    left_aside: dict[str, list[str]]  # a name without a file -> free paths with the same last part, not certain


def names_to_paths(
    names: Collection[str], paths: Sequence[str], beside: str = "", split: Split | None = None
) -> Matches:
    """The file that each file_name means.

    Args:
        names: of the image records, each once.
        paths: of the files that may be images, below the source, with / between folders.
        beside: the annotation file's folder below the source; "" for the source itself.
        split: which of several files is more likely, and which are none of this annotation file's.

    Raises:
        SeamlineError: when several files fit a name equally well.
    """
    known, found = set(paths), dict[str, str]()
    rest: list[str] = []
    for name in names:
        path = exact_path(name, known, beside)
        if path is None:
            rest.append(name)
        else:
            found[name] = path
    other_form: set[str] = set()
    if rest:
        wanted = {name: to_wanted(name) for name in rest}
        shared = shared_folders([to_wanted(name) for name in found] + list(wanted.values()), paths, settled=bool(found))
        taken = set(found.values())
        free = [path for path in paths if path not in taken and not lies_beside_photos(path)]
        prefers = None
        if split is not None:
            prefers = split.is_own
            if any(map(split.is_own, paths)):
                free = [path for path in free if not split.is_others(path)]
        if beside and any("/" not in name and path == f"{beside}/{name}" for name, path in found.items()):
            wanted = {name: wish._replace(home=f"{beside}/") for name, wish in wanted.items()}
        tied = take_by_end(wanted, free, found, shared, prefers)
        if tied:
            name, rivals = next(iter(tied.items()))
            raise SeamlineError(
                f"the file_name {name!r} fits {len(rivals)} files, such as {', '.join(rivals[:3])}; it has to name "
                "the folder as well, or pull.images the photos' folder."
            )
        if len(found) < len(names):
            take_by_form(wanted, free, found, other_form, shared, prefers)
    missing = [name for name in rest if name not in found]
    taken = set(found.values())
    left = [path for path in paths if path not in taken] if missing else []
    return Matches(found, other_form, likely(missing, left))


def exact_path(name: str, known: set[str], beside: str) -> str | None:
    """The path that a name is, from the annotation file or else from the source's top."""
    if beside and f"{beside}/{name}" in known:
        return f"{beside}/{name}"
    if name in known:
        return name
    if not ODD.search(name):
        return None
    for candidate in (name, name.replace("\\", "/")):
        for place in (beside, ""):
            path = posixpath.normpath(posixpath.join(place, candidate))
            if path in known:
                return path
    return None


def to_wanted(name: str) -> Wanted:
    """Without what leads out of the source, and without what belongs to no path."""
    if not ODD.search(name):
        return Wanted(name, foreign=False)
    plain = name.replace("\\", "/")
    argument = ARGUMENT.search(plain)
    address = ADDRESS.match(plain)
    if argument is not None:
        return Wanted(to_wanted(unquote(argument[1])).end, foreign=True)
    if address is not None:
        plain = plain[address.end() :].partition("?")[0].partition("#")[0]
    drive = DRIVE.match(plain)
    plain = plain[drive.end() :] if drive else plain
    parts = [part for part in plain.split("/") if part not in ("", ".")]
    foreign = bool(address or drive or plain.startswith("/") or ".." in parts)
    while ".." in parts:
        parts = parts[parts.index("..") + 1 :]
    return Wanted("/".join(parts), foreign)


def is_address(name: str) -> bool:
    return ADDRESS.match(name) is not None or ARGUMENT.search(name) is not None


def lies_beside_photos(path: str) -> bool:
    """Whether it lies in a hidden folder, or in one of masks or thumbnails."""
    return is_beside_photos(path.rpartition("/")[0])


@functools.lru_cache(4096)
def is_beside_photos(folder: str) -> bool:
    return any(part.startswith(".") or part.lower() in BESIDE_PHOTOS for part in folder.split("/"))


def ends_of(path: str) -> list[str]:
    """The last one, two, ... parts, the longest first."""
    parts = path.split("/")
    return ["/".join(parts[start:]) for start in range(len(parts))]


def common_folders(paths: Iterable[str]) -> int:
    """How many leading folders all of them share."""
    shared: list[str] | None = None
    for path in paths:
        folders = path.split("/")[:-1]
        shared = folders if shared is None else shared[: shared_length(shared, folders)]
        if not shared:
            return 0
    return len(shared or [])


def shared_folders(wishes: Sequence[Wanted], paths: Sequence[str], settled: bool) -> Shared:
    """The folders in which all names lay, and all photos do.

    Args:
        wishes: of all names.
        paths: of all files.
        settled: some names are exact, so that their folders are the source's.
    """
    photos = [path for path in paths if path.lower().endswith(SUFFIXES) and not lies_beside_photos(path)]
    count = common_folders(photos)
    says_nothing = all(folder.lower() in CONTAINERS for path in photos[:1] for folder in path.split("/")[:count])
    foreign, others = ([wish.end for wish in wishes if wish.foreign == kind] for kind in (True, False))
    return Shared(
        count,
        common_folders(foreign) if len(foreign) > 1 else 0,
        common_folders(others) if len(others) > 1 and says_nothing and not settled else 0,
    )


def shared_length(one: Sequence[str], other: Sequence[str]) -> int:
    for length, (first, second) in enumerate(zip(one, other, strict=False)):
        if first != second:
            return length
    return min(len(one), len(other))


class Index:
    """Files by the ways in which a name may mean them; a key may have several files."""

    def __init__(self, keys: Mapping[str, str], names: Collection[Wanted], shared: Shared) -> None:
        """Takes path -> key (the path, or a form of it), and the names for which files are sought."""
        ends = {name.end for name in names}
        self.by_end: dict[str, list[str]] = {}  # those ends of keys that are a name
        self.whole: dict[str, list[str]] = {}  # the key itself, which may be the end of a longer name
        self.bare: dict[str, list[str]] = {}  # without leading folders that say nothing
        self.below: dict[str, list[str]] = {}  # without the leading folders that all photos share
        foreign = any(name.foreign for name in names)
        for path, key in keys.items():
            self.whole.setdefault(key, []).append(path)
            for end in ends_of(key):
                if end in ends:
                    self.by_end.setdefault(end, []).append(path)
            if foreign or shared.other_names:
                parts = key.split("/")
                said = next((at for at, folder in enumerate(parts[:-1]) if folder.lower() not in CONTAINERS), -1)
                self.bare.setdefault("/".join(parts[said:]), []).append(path)
                self.below.setdefault("/".join(parts[shared.photos :]), []).append(path)

    def candidates(self, name: Wanted, shared: Shared) -> list[str]:
        """The files whose folders agree with a name's as far as both have some."""
        found = list(self.by_end.get(name.end, ()))
        count = shared.foreign_names if name.foreign else shared.other_names
        if "/" in name.end:
            for end in ends_of(name.end):
                found += self.whole.get(end, ())
                if name.foreign:
                    found += self.bare.get(end, ())
        if count:
            found += self.below.get("/".join(name.end.split("/")[count:]), ())
        if name.home and "/" not in name.end:
            found = [path for path in found if path.startswith(name.home)]
        return list(dict.fromkeys(found)) if len(found) > 1 else found


def take_by_end(
    wanted: Mapping[str, Wanted],
    free: Sequence[str],
    found: dict[str, str],
    shared: Shared,
    prefers: Callable[[str], bool] | None,
    form: Callable[[str], str] | None = None,
) -> dict[str, list[str]]:
    """Add to `found` what is certain: one file fits a name best, and no other name that file.

    Returns:
        The names that several files fit equally well.
    """
    to_key = form or (lambda text: text)
    taken = set(found.values())
    keys = {path: to_key(path) for path in free if path not in taken}
    missing = {name: wish for name, wish in wanted.items() if name not in found and wish.end}
    open_names = {name: wish._replace(end=to_key(wish.end)) for name, wish in missing.items()}
    index = Index(keys, open_names.values(), shared)
    fits = {name: rivals for name, wish in open_names.items() if (rivals := index.candidates(wish, shared))}
    while True:
        taken = set(found.values())
        best = {
            name: best_of(open_names[name].end, fits[name], keys, taken, prefers) for name in fits if name not in found
        }
        claims = Counter(paths[0] for paths in best.values() if len(paths) == 1)
        certain = {name: paths[0] for name, paths in best.items() if len(paths) == 1 and claims[paths[0]] == 1}
        if not certain:
            return {name: sorted(paths) for name, paths in best.items() if len(paths) > 1}
        found.update(certain)


def best_of(
    key: str, rivals: list[str], keys: Mapping[str, str], taken: set[str], prefers: Callable[[str], bool] | None
) -> list[str]:
    """Of the files that fit a name those with the longest common end that are not taken, and then those preferred."""
    free = [path for path in rivals if path not in taken]
    if len(free) < 2:
        return free
    parts = key.split("/")[::-1]
    lengths = {path: shared_length(parts, keys[path].split("/")[::-1]) for path in free}
    longest = max(lengths.values())
    best = [path for path in free if lengths[path] == longest]
    preferred = [path for path in best if prefers is not None and prefers(path)]
    return preferred or best


def take_by_form(
    wanted: Mapping[str, Wanted],
    free: Sequence[str],
    found: dict[str, str],
    other_form: set[str],
    shared: Shared,
    prefers: Callable[[str], bool] | None,
) -> None:
    """Add to `found` the names that are equal to their file's but for their form, the closest form first."""
    before, taken = set(found), set(found.values())
    wanted = {name: wish for name, wish in wanted.items() if name not in before}
    free = [path for path in free if path not in taken]
    texts = [*free, *(wish.end for wish in wanted.values())]
    last = dict(zip(texts, texts, strict=True))
    # Who uploads photos has the prefix on all of them: one file that has it among others that do not is another photo.
    uploads = sum(UPLOAD.search(text) is not None for text in texts)
    for form in FORMS:
        if form is without_upload and uploads < len(before):
            continue
        keys = {text: form(text) for text in texts}
        if keys != last:  # most forms change nothing
            take_by_end(wanted, free, found, shared, prefers, keys.__getitem__)
        last = keys
    # An archive has one code page: the one in which most names find their file.
    odd = [path for path in free if not path.isascii()]
    for page in sorted(CODE_PAGES, key=lambda page: -agreeing(wanted, found, odd, page)) if odd else ():
        decoded = {path: name for path in odd if (name := decoded_by(path, page)) is not None}
        keys = {text: folded(decoded.get(text, text)) for text in texts}
        take_by_end(wanted, list(decoded), found, shared, prefers, keys.__getitem__)
    take_by_stem(wanted, free, found, shared, prefers)
    other_form.update(found.keys() - before)


def take_by_stem(
    wanted: Mapping[str, Wanted],
    free: Sequence[str],
    found: dict[str, str],
    shared: Shared,
    prefers: Callable[[str], bool] | None,
) -> None:
    """Add to `found` the names that are a file's but for the suffix, as photos have that were saved in another format.

    Only where no file has the name's suffix: else 1.png, a mask beside 2.jpg and 2.png, would be taken for 1.jpg. Nor
    is a file taken whose other half of such a pair is a photo already.
    """
    taken = set(found.values())
    stems = {stem_of(path) for path in taken}
    suffixes = {suffix_of(path) for path in (*free, *taken)} - {""}
    photos = [path for path in free if suffix_of(path) in SUFFIXES and path not in taken and stem_of(path) not in stems]
    open_names = {
        name: wish for name, wish in wanted.items() if name not in found and suffix_of(wish.end) not in suffixes
    }
    if open_names and photos:
        take_by_end(open_names, photos, found, shared, prefers, stem_of)


def agreeing(wanted: Mapping[str, Wanted], found: Mapping[str, str], odd: Sequence[str], page: str) -> int:
    """How many of the names that have no file yet end as a file does if its name is read in this code page."""
    last = {folded(wish.end.rpartition("/")[2]) for name, wish in wanted.items() if name not in found}
    decoded = (decoded_by(path.rpartition("/")[2], page) for path in odd)
    return sum(name is not None and folded(name) in last for name in decoded)


def decoded_by(path: str, page: str) -> str | None:
    """A name as it was before somebody read its bytes in another code page; None where that cannot be."""
    try:
        is_text = without_surrogates(path) == path
        dos = path.replace(WIDE_BACKSLASH, "\\")
        text = (dos.encode("cp437") if is_text else path.encode("utf-8", "surrogateescape")).decode(page)
        return text.replace("\\", "/")  # which it was, if it is not half of a character in this code page
    except UnicodeError:
        return None


def likely(missing: Iterable[str], paths: Sequence[str]) -> dict[str, list[str]]:
    """For names without a file those with the same last part, for people to look at."""
    last: dict[str, list[str]] = {}
    for path in paths:
        last.setdefault(unescaped(path.rpartition("/")[2]), []).append(path)
    found = ((name, last.get(unescaped(to_wanted(name).end.rpartition("/")[2]))) for name in missing)
    return {name: files for name, files in found if files is not None}
