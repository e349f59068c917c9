"""A catalogue of the user's own: photos added to it and taken out, the old or the new one there at any moment.

What changes is written anew beside it and takes its place. A catalogue that DVC keeps is never changed: its files are
links into DVC's cache, which others share.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from seamline.base.errors import SeamlineError, some
from seamline.base.files import check_out, temporary_beside
from seamline.people.detector import PeopleDetector
from seamline.photos.journal import Journal
from seamline.search.building import Tools, listed_to_entries, open_journal, people_facts, run_key
from seamline.search.catalogue import opened
from seamline.search.catalogue_facts import FACTS, FILES, HNSW, TABLE, VECTORS, CatalogueFacts, check_embedder
from seamline.search.entries import Entry, garment_id
from seamline.search.sources import Listed, Listing
from seamline.search.table import Table, check_columns
from seamline.search.vectors import Stored
from seamline.search.writing import Makers, write_catalogue

OUTS = re.compile(r"^ +(outs|deps|params):")
PATH = re.compile(r"^ +- path: (.+)$")


class Added(NamedTuple):
    new: int  # photos
    changed: int  # that were there, with other bytes
    there: int  # that were there already
    unusable: list[tuple[str, str]]  # names and reasons; of one that was there, what was there stays
    facts: CatalogueFacts


def add(folder: Path, listing: Listing, tools: Tools, detector_sha256: str, hnsw_from: int | None) -> Added:
    """Add photos to a catalogue, or make one; photos that are there with the same bytes are not looked at again.

    Raises:
        SeamlineError: when it is DVC's, another process is at work on it, or it was made with other models.
    """
    check_own(folder)
    makers = tools_to_makers(tools, detector_sha256, hnsw_from)
    with (
        open_journal(temporary_beside(folder, "unfinished"), folder, run_key(tools, detector_sha256)) as journal,
        contextlib.ExitStack() as stack,
    ):
        before = opened(folder) if (folder / FACTS).exists() else None
        if before is None:
            columns, there, missing = listing.columns, {}, listing.photos
        else:
            stack.callback(before[2].close)
            check_makers(before[0], makers, folder)
            columns = merged_columns(before[0].columns, listing.columns)
            stamps = stamps_of(before[2])
            there = {one.photo.key: one for one in listing.photos if stamps.get(one.photo.key) == one.photo.stamp}
            there = {key: one for key, one in there.items() if one.photo.stamp}
            missing = [one for one in listing.photos if one.photo.key not in there]
        failed: dict[str, tuple[str, str]] = {}
        entries = all_entries(before, listing.columns, columns, there, missing, tools, journal, failed)
        facts = write_catalogue(folder, entries, columns, makers)
    known = {} if before is None else stamps
    made = [one.photo.key for one in missing if one.photo.key not in failed]
    changed = sum(key in known for key in made)
    return Added(len(made) - changed, changed, len(there), list(failed.values()), facts)


def remove(folder: Path, names: Sequence[str]) -> tuple[int, CatalogueFacts]:
    """Take photos, or single garments by their ids, out of a catalogue; returns how many garments went.

    Raises:
        SeamlineError: when one of them is not there; then all stay.
    """
    check_own(folder)
    with open_journal(temporary_beside(folder, "unfinished"), folder, "remove"):
        facts, stored, table = opened(folder)
        with contextlib.closing(table):
            entries = without(table, stored, check_there(table, names, folder))
            makers = facts_to_makers(facts)
            after = write_catalogue(folder, entries, facts.columns, makers)
    return facts.garments - after.garments, after


def check_there(table: Table, names: Sequence[str], folder: Path) -> set[str]:
    known = {name for name, *_ in table.all("SELECT name FROM photos UNION SELECT id FROM garments")}
    known |= {name for name, _ in table.unusable()}
    missing = [name for name in names if name not in known]
    if missing:
        raise SeamlineError(f"{folder}: has no photo or garment called {some(missing)}; nothing was removed.")
    return set(names)


def without(table: Table, stored: Stored, names: set[str]) -> Iterator[Entry]:
    for entry in table.entries(stored):
        if entry.name in names:
            continue
        entry.garments = [one for one in entry.garments if garment_id(entry.name, one.number) not in names]
        yield entry


def all_entries(
    before: tuple[CatalogueFacts, Stored, Table] | None,
    own_columns: Sequence[str],
    columns: Sequence[str],
    there: Mapping[str, Listed],
    missing: Sequence[Listed],
    tools: Tools,
    journal: Journal,
    failed: dict[str, tuple[str, str]],
) -> Iterator[Entry]:
    """What stays, in its order and with the values that are new, then what is added.

    A photo that was there and cannot be used now, since it is gone or cannot be fetched, stays as it was.

    Args:
        failed: gets the names and reasons of photos that cannot be used, by their keys.
    """
    positions = [columns.index(name) for name in own_columns]
    replaced = {one.photo.key for one in missing}

    def with_values(entry: Entry, values: Sequence[str | None]) -> Entry:
        entry.values = [*entry.values, *[None] * (len(columns) - len(entry.values))]
        for position, value in zip(positions, values, strict=bool(values)):
            entry.values[position] = value
        return entry

    if before is not None:
        _, stored, table = before
        for entry in table.entries(stored):
            if entry.photo in there:
                yield with_values(entry, there[entry.photo].values)
            elif entry.photo not in replaced:
                yield with_values(entry, ())
    for entry in listed_to_entries(missing, tools, journal):
        values, entry.values = entry.values, []
        if entry.reason:
            failed[entry.photo] = entry.name, entry.reason
            was = None if before is None else next(before[2].entries(before[1], entry.photo), None)
            entry = was or entry
        yield with_values(entry, values)


def merged_columns(before: Sequence[str], new: Sequence[str]) -> list[str]:
    return check_columns([*before, *(name for name in new if name not in before)], "the catalogue")


def stamps_of(table: Table) -> dict[str, str]:
    return dict(table.all("SELECT key, stamp FROM photos"))


def tools_to_makers(tools: Tools, detector_sha256: str, hnsw_from: int | None) -> Makers:
    detector = tools.detector
    facts: dict[str, Any] = {
        "sha256": detector_sha256,
        "family": detector.engine.facts.family,
        "names": list(detector.names),
        "confidence": detector.confidence,
        "people_first": isinstance(detector, PeopleDetector),
    }
    if people := people_facts(detector):
        facts["people"] = hashlib.sha256(msgspec.json.encode(people, order="deterministic")).hexdigest()[:16]
    if tools.classifier is not None:
        facts["attributes"] = tools.attributes_revision
    embedder = msgspec.to_builtins(tools.embedder.facts)
    return Makers(embedder, tools.embedder.identity, tools.dimension, facts, hnsw_from)


def facts_to_makers(facts: CatalogueFacts) -> Makers:
    hnsw_from = 0 if facts.index == HNSW else None
    return Makers(facts.embedder, facts.embedder_identity, facts.dimension, facts.detector, hnsw_from)


def check_makers(facts: CatalogueFacts, makers: Makers, folder: Path) -> None:
    check_embedder(facts, makers.embedder_identity, str(makers.embedder.get("name", "this embedder")), folder)
    for key, what in (("sha256", "model"), ("confidence", "score threshold"), ("people_first", "choice of --people")):
        if facts.detector[key] != makers.detector[key]:
            raise SeamlineError(
                f"{folder}: its garments were found with another {what} ({str(facts.detector[key])[:12]}, not "
                f"{str(makers.detector[key])[:12]}); use that one, or make another catalogue."
            )
    if facts.detector.get("people") != makers.detector.get("people"):
        raise SeamlineError(
            f"{folder}: its garments were found with another model of people, or looked for in another way; use "
            "--people as when it was made, or make another catalogue."
        )
    before, now = (one.get("attributes") for one in (facts.detector, makers.detector))
    if before != now:
        theirs = "attributes of another model" if before else "no attributes"
        raise SeamlineError(
            f"{folder}: its garments have {theirs}; use --attributes as when it was made, or make another catalogue."
        )


def check_own(folder: Path) -> None:
    """
    Raises:
        SeamlineError: when a folder may not be replaced by a catalogue.
    """
    if folder.is_symlink() or is_dvcs(folder):
        raise SeamlineError(
            f"{folder}: is an output of DVC, and its files are links into DVC's cache; seamline catalogue add makes "
            "one of your own in another folder."
        )
    check_out(folder, FILES)


def is_dvcs(folder: Path) -> bool:
    """Whether DVC keeps a folder: it is an output of a pipeline around it, or its files are nobody's to write."""
    if folder.with_name(f"{folder.name}.dvc").exists():
        return True
    for name in (VECTORS, TABLE):
        path = folder / name
        if path.is_symlink() or (path.exists() and not path.stat().st_mode & stat.S_IWUSR):
            return True
    whole = folder.resolve()
    return any(whole.is_relative_to(out) for parent in whole.parents for out in outs_of(parent))


def outs_of(project: Path) -> list[Path]:
    """The outputs that the dvc.lock of a folder names, if it has one."""
    try:
        text = (project / "dvc.lock").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return []
    found, kind = [], ""
    for line in text.splitlines():
        if match := OUTS.match(line):
            kind = match[1]
        elif kind == "outs" and (match := PATH.match(line)):
            found.append((project / match[1].strip("'\"")).resolve())
    return found
