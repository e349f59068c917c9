"""Which garments of a catalogue may be answers: an exact condition, as SQL whose values are never part of its text."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from seamline.base.errors import SeamlineError, some

# What every catalogue knows of a garment besides the user's columns, which come first where they have these names.
OWN = {"photo": "photos.name", "split": "photos.split", "id": "garments.id"}
MOST_VALUES = 10_000  # SQLite takes at most 32,766 in a statement


@dataclass(frozen=True)
class Filters:
    """Of each condition one of the values has to be there, and all conditions together; a text alone is one value.

    Raises:
        SeamlineError: for a value that is not text, or more values than can be asked for.
    """

    classes: Collection[str] = ()
    columns: Mapping[str, Collection[str]] = field(default_factory=dict)  # of the user's, or photo, split, id
    attributes: Mapping[str, Collection[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        own = {
            "classes": values_of(self.classes, "classes"),
            "columns": {name: values_of(values, name) for name, values in self.columns.items()},
            "attributes": {name: values_of(values, name) for name, values in self.attributes.items()},
        }
        for name, value in own.items():
            object.__setattr__(self, name, value)
        count = len(self.classes) + sum(len(own) for way in (self.columns, self.attributes) for own in way.values())
        if count > MOST_VALUES:
            raise SeamlineError(f"the filters have {count:,} values; at most {MOST_VALUES:,} can be asked for.")

    def __bool__(self) -> bool:
        return bool(self.classes or self.columns or self.attributes)


def values_of(wanted: Collection[str], name: str) -> tuple[str, ...]:
    """In order, none twice."""
    if isinstance(wanted, str):
        return (wanted,)
    values = tuple(dict.fromkeys(wanted))
    other = next((value for value in values if not isinstance(value, str)), "")
    if not isinstance(other, str):
        raise SeamlineError(f"the filter {name}: {other!r} is not text, and a catalogue's values are; write '{other}'.")
    return tuple(sorted(values))


def check_filters(
    filters: Filters, columns: Sequence[str], classes: Collection[str], attributes: Collection[str] | None
) -> None:
    """
    Args:
        columns: of the user's.
        classes, attributes: that the catalogue knows; attributes None: those that it knows are not known here.

    Raises:
        SeamlineError: for a class, column or attribute that the catalogue does not have.
    """
    if unknown := sorted(set(filters.classes) - set(classes)):
        raise SeamlineError(f"the catalogue has no class {unknown[0]!r}; it has {some(sorted(classes))}.")
    for name in filters.columns:
        if name not in columns and name not in OWN:
            known = some([*columns, *(own for own in OWN if own not in columns)])
            raise SeamlineError(f"the catalogue has no column {name!r}; it has {known}.")
    for name in filters.attributes:
        if attributes is not None and name not in attributes:
            known = some(sorted(attributes)) if attributes else "none"
            raise SeamlineError(f"the catalogue has no attribute {name!r}; it has {known}.")


def filters_to_sql(
    filters: Filters, columns: Sequence[str], classes: Collection[str], attributes: Collection[str]
) -> tuple[str, list[str]]:
    """The condition, and the values of its question marks.

    Args:
        columns: of the user's; column i is called c{i} in the table.
        classes, attributes: that the catalogue knows.

    Raises:
        SeamlineError: see check_filters.
    """
    check_filters(filters, columns, classes, attributes)
    parts, values = ["1"], list[str]()

    def one_of(expression: str, wanted: Collection[str]) -> str:
        values.extend(wanted)
        return f"{expression} IN ({', '.join('?' * len(wanted))})"

    if filters.classes:
        parts.append(one_of("garments.class", filters.classes))
    for name, wanted in filters.columns.items():
        parts.append(one_of(f"photos.c{columns.index(name)}" if name in columns else OWN[name], wanted))
    for name, wanted in filters.attributes.items():
        values.append(name)
        parts.append(f"row IN (SELECT row FROM attributes WHERE name = ? AND {one_of('value', wanted)})")  # nosec B608
    return " AND ".join(parts), values
