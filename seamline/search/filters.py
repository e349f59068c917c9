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
    """Of each condition one of the values has to be there, and all conditions together."""

    classes: Collection[str] = ()
    columns: Mapping[str, Collection[str]] = field(default_factory=dict)  # of the user's, or photo, split, id
    attributes: Mapping[str, Collection[str]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.classes or self.columns or self.attributes)


def check_filters(filters: Filters, columns: Sequence[str], classes: Collection[str]) -> None:
    """
    Args:
        columns: of the user's.
        classes: that the catalogue knows.

    Raises:
        SeamlineError: for a class or column that the catalogue does not have, and for too many values.
    """
    for wanted in (filters.classes, *filters.columns.values(), *filters.attributes.values()):
        if len(wanted) > MOST_VALUES:
            raise SeamlineError(f"a filter has {len(wanted):,} values; at most {MOST_VALUES:,} can be asked for.")
    if unknown := sorted(set(filters.classes) - set(classes)):
        raise SeamlineError(f"the catalogue has no class {unknown[0]!r}; it has {some(sorted(classes))}.")
    for name in filters.columns:
        if name not in columns and name not in OWN:
            known = some([*columns, *(own for own in OWN if own not in columns)])
            raise SeamlineError(f"the catalogue has no column {name!r}; it has {known}.")


def filters_to_sql(filters: Filters, columns: Sequence[str], classes: Collection[str]) -> tuple[str, list[str]]:
    """The condition, and the values of its question marks.

    Args:
        columns: of the user's; column i is called c{i} in the table.
        classes: that the catalogue knows.

    Raises:
        SeamlineError: see check_filters.
    """
    check_filters(filters, columns, classes)
    parts, values = ["1"], []

    def one_of(expression: str, wanted: Collection[str]) -> str:
        values.extend(sorted(wanted))
        return f"{expression} IN ({', '.join('?' * len(wanted))})"

    if filters.classes:
        parts.append(one_of("garments.class", filters.classes))
    for name, wanted in filters.columns.items():
        parts.append(one_of(f"photos.c{columns.index(name)}" if name in columns else OWN[name], wanted))
    for name, wanted in filters.attributes.items():
        values.append(name)
        parts.append(f"row IN (SELECT row FROM attributes WHERE name = ? AND {one_of('value', wanted)})")  # nosec B608
    return " AND ".join(parts), values
