"""The categories of the canonical dataset, and which one an annotation's category_id means."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from seamline.base.coco import Record
from seamline.base.errors import SeamlineError
from seamline.base.escaping import has_control_character
from seamline.ingest.canonical.changes import Changes, Place
from seamline.ingest.canonical.identities import assigned_numbers, is_changed, is_identity, lookup, whole_number
from seamline.ingest.canonical.source import Part


class CategoryIds(NamedTuple):
    """What the ids of a part's categories have become."""

    by_id: Mapping[Any, int]
    by_name: Mapping[str, int]
    in_order: Sequence[int]  # as the part lists them


def canonical_categories(parts: Sequence[Part], changes: Changes) -> tuple[list[Record], list[CategoryIds]]:
    """The categories of all parts by name, and for each part what its ids have become.

    Raises:
        SeamlineError: when a category has no name or no id, a name that cannot be printed, or the id of another.
    """
    by_name: dict[str, Record] = {}
    part_of: dict[str, Part] = {}
    named: list[list[Record]] = []
    for part in parts:
        records = [with_plain_name(record, part, changes) for record in part.categories]
        named.append(records)
        names: dict[Any, str] = {}
        taken: set[str] = set()
        for record in records:
            name = record["name"]
            if names.setdefault(record["id"], name) != name:
                raise SeamlineError(f"{part.title}: two categories have the id {record['id']!r}.")
            if name in taken:
                changes.repair("category: has the name of another, taken for the same", Place(part.title))
            taken.add(name)
            by_name.setdefault(name, record)
            part_of.setdefault(name, part)
    say_alike(list(by_name))
    numbers = dict(zip(by_name, assigned_numbers([record["id"] for record in by_name.values()], 0), strict=True))
    for name, record in by_name.items():
        if is_changed(numbers[name], record["id"]):
            reason = "category: id numbered anew, as it was text, no whole number or taken"
            changes.repair(reason, Place(part_of[name].title))
    ids = []
    for records in named:
        in_order = [numbers[record["name"]] for record in records]
        by_id = {key: in_order[index] for key, index in lookup([record["id"] for record in records]).items()}
        ids.append(CategoryIds(by_id, {record["name"]: numbers[record["name"]] for record in records}, in_order))
    categories = [{**by_name[name], "id": number} for name, number in numbers.items()]
    return sorted(categories, key=lambda category: int(category["id"])), ids


def say_alike(names: Sequence[str]) -> None:
    """Names that a person would take for one; whether they mean one thing only the user knows."""
    alike: dict[str, list[str]] = {}
    for name in names:
        plain = "".join(
            letter for letter in unicodedata.normalize("NFKC", name) if unicodedata.category(letter) != "Cf"
        )
        alike.setdefault(" ".join(plain.replace("_", " ").replace("-", " ").casefold().split()), []).append(name)
    for same in alike.values():
        if len(same) > 1:
            print(
                f"the categories {', '.join(map(repr, same))} differ only in form and stay classes of their own; "
                "subset.classes can merge them"
            )


def with_plain_name(record: Any, part: Part, changes: Changes) -> Record:
    """The record, with its name as text where it was a number.

    Raises:
        SeamlineError: when it has no id, or no name that can be printed.
    """
    if not (isinstance(record, dict) and is_identity(record.get("id")) and is_identity(record.get("name"))):
        raise SeamlineError(f"{part.title}: category {record!r} needs an id and a name.")
    name = record["name"]
    if isinstance(name, str) and not name.strip():
        raise SeamlineError(f"{part.title}: category {record!r} needs an id and a name.")
    if not isinstance(name, str):
        number = whole_number(name)
        name = str(name if number is None else number)
        changes.repair("category: its name was a number, taken as text", Place(part.title))
    if has_control_character(name):  # which a terminal would obey wherever the name is printed
        raise SeamlineError(f"{part.title}: the category {name!r} has a control character in its name.")
    return {**record, "name": name}


def numbers_by_id(part: Part, ids: CategoryIds, used: Mapping[Any, int], option: str | None) -> Mapping[Any, int]:
    """Which category an annotation's category_id means, with `pull.category_ids`.

    Args:
        part: whose annotations they are.
        ids: what its categories' ids have become.
        used: how often each category_id is used.
        option: pull.category_ids; None to stop where the ids look like those of a count from another number.

    Raises:
        SeamlineError: then: nothing says with certainty which class an annotation has.
    """
    own = {key: number for key, number in ids.by_id.items() if isinstance(key, int)}
    readings = {
        "plus_one": {key - 1: number for key, number in own.items()},
        "minus_one": {key + 1: number for key, number in own.items()},
        "positions": dict(enumerate(ids.in_order)),
    }
    if option in readings:
        return readings[option]
    numbers = {number: identity for identity in used if (number := whole_number(identity)) is not None}
    unknown = [number for number in numbers if number not in own]
    fitting = [name for name, reading in readings.items() if all(number in reading for number in numbers)]
    if option is None and unknown and fitting:
        how = {
            "plus_one": "lie one below those of the categories",
            "minus_one": "lie one above those of the categories",
            "positions": "are the categories' places in the list, counted from 0",
        }[fitting[0]]
        count = sum(used[numbers[number]] for number in unknown)
        raise SeamlineError(
            f"{part.title}: {count} of {sum(used.values())} annotations have a category_id that no category has "
            f"({', '.join(map(str, sorted(unknown)[:5]))}); all would have one if the ids {how}, as "
            f"pull.category_ids: {fitting[0]} reads them; own leaves those annotations out."
        )
    return ids.by_id
