"""The report on the garments that attributes are learned from, before any training: counts, charts, contact sheets."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import numpy.typing as npt

from seamline.attributes.garments import Collected, Garment
from seamline.base.coco import Record
from seamline.base.escaping import to_spreadsheet
from seamline.base.files import write_csv, write_json
from seamline.base.splits import SPLITS
from seamline.charts.attributes import cooccurrence_chart, counts_chart, values_sheet

Codes = npt.NDArray[np.int64]
PLAIN = re.compile(r"[a-z][a-z0-9_-]{0,40}")
CHARTED_ATTRIBUTES = 6  # co-occurrence and contact sheets of more would fill pages; tables have them all
PHOTOS_A_VALUE = 10


def collected_to_record(
    found: Collected, attributes: Mapping[str, Sequence[str]], left_out: Mapping[str, str], of_splits: Record
) -> Record:
    """reports/attributes/data/data.json.

    Args:
        found: what the source has, with the garments' splits.
        attributes: those that are learned, with their values.
        left_out: the others, and why.
        of_splits: what assign_splits returns.
    """
    garments = found.garments
    observed = [sum(one.values[name] is not None for name in attributes) for one in garments]
    return {
        "attributes": {name: counts_of(garments, name, values) for name, values in attributes.items()},
        "left_out": dict(left_out),
        "source": found.kind,
        "file": found.file,
        "rows": found.rows,
        "photos_in_source": found.photos,
        "garments": len(garments),
        "photos": len({one.file_name for one in garments}),
        **of_splits,
        "garments_with_every_value": sum(count == len(attributes) for count in observed),
        "oddities": found.oddities.counts(),
        "contact_sheets": sheet_names(list(attributes)[:CHARTED_ATTRIBUTES]),
    }


def sheet_names(names: Sequence[str]) -> dict[str, str]:
    """The file of each attribute's contact sheet; of a name that is not a plain one, its number."""
    return {name: f"contact_{name if PLAIN.fullmatch(name) else number}.jpg" for number, name in enumerate(names, 1)}


def counts_of(garments: Sequence[Garment], name: str, values: Sequence[str]) -> Record:
    """How many garments have each value of an attribute, by split, and how many have none."""
    counts = {value: dict.fromkeys(SPLITS, 0) for value in values}
    missing = dict.fromkeys(SPLITS, 0)
    for one in garments:
        value = one.values[name]
        (missing if value is None else counts[value])[one.split] += 1
    return {
        "observed": sum(sum(row.values()) for row in counts.values()),
        "missing": sum(missing.values()),
        "missing_by_split": missing,
        "values": counts,
        "not_in_train": [value for value, row in counts.items() if not row["train"]],
    }


def write_data_report(
    found: Collected, attributes: Mapping[str, Sequence[str]], photos: Sequence[Path], said: Record, out: Path
) -> None:
    """Tables and charts into a folder; photos are those that training reads, in the order of the garments."""
    write_json(out / "data.json", said)
    found.oddities.write(out / "oddities.csv")
    counts = {name: said["attributes"][name] for name in attributes}
    write_csv(
        out / "counts.csv",
        ("attribute", "value", *SPLITS),
        (
            [to_spreadsheet(name), to_spreadsheet(value), *row.values()]
            for name, one in counts.items()
            for value, row in {**one["values"], "": one["missing_by_split"]}.items()
        ),
    )
    counts_chart(counts, out / "counts.png")
    codes = {name: codes_of(found.garments, name, values) for name, values in attributes.items()}
    pairs = [(one, other, codes[one].T @ codes[other]) for one, other in combinations(attributes, 2)]
    write_csv(
        out / "cooccurrence.csv",
        ("attribute", "value", "other_attribute", "other_value", "garments"),
        (
            [*map(to_spreadsheet, (one, value, other, beside)), int(table[row, column])]
            for one, other, table in pairs
            for row, value in enumerate(attributes[one])
            for column, beside in enumerate(attributes[other])
        ),
    )
    charted = list(attributes)[:CHARTED_ATTRIBUTES]
    shown = [pair for pair in pairs if pair[0] in charted and pair[1] in charted]
    if shown:
        cooccurrence_chart(shown, attributes, out / "cooccurrence.png")
    for name, file in said["contact_sheets"].items():
        examples = {value: examples_of(found.garments, photos, name, value) for value in attributes[name]}
        values_sheet(name, examples, out / file)


def codes_of(garments: Sequence[Garment], name: str, values: Sequence[str]) -> Codes:
    """(garments, values): 1 where a garment has the value."""
    return np.array([[one.values[name] == value for value in values] for one in garments], dtype=np.int64)


def examples_of(garments: Sequence[Garment], photos: Sequence[Path], name: str, value: str) -> list[Path]:
    """Some photos of garments with a value, evenly out of all of them, each of another group."""
    found: dict[int, Path] = {}
    for one, photo in zip(garments, photos, strict=True):
        if one.values[name] == value:
            found.setdefault(one.group, photo)
    paths = list(found.values())
    if len(paths) <= PHOTOS_A_VALUE:
        return paths
    return [paths[at * len(paths) // PHOTOS_A_VALUE] for at in range(PHOTOS_A_VALUE)]
