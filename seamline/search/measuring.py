"""A catalogue's recall, measured by what params.yaml says is true, and pictures of questions with their answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from seamline.base.coco import Record, raw_to_record, read_coco
from seamline.base.errors import counted
from seamline.charts.answers import Cell, answers_jpeg
from seamline.params.catalogue import Catalogue as Settings
from seamline.params.subset import Subset
from seamline.search.catalogue import Catalogue
from seamline.search.recall import Asked, ask, recall_report
from seamline.search.table import Row
from seamline.search.truth import (
    annotated_to_things,
    chosen_photos,
    found_to_things,
    photos_of,
    rows_in_order,
)

RIGHT, WRONG = "right", "wrong"
Annotation = tuple[str, str, Record]  # a photo's name, a class's name, the record


class Measured(NamedTuple):
    report: Record
    pictures: dict[str, bytes]  # by name, JPEG


def annotations_of(folder: Path, subset: Subset) -> list[Annotation] | None:
    """A pulled dataset's annotations of the classes that were trained, crowd regions left out; None: it is another."""
    path = folder / "annotations.json"
    if not path.is_file() or not (folder / "images").is_dir():
        return None
    coco = read_coco(path)
    names = {category.id: category.name for category in coco.category_refs()}
    of_source = {
        source: name for name, sources in subset.sources_by_class(list(names.values())).items() for source in sources
    }
    photos = {ref.id: ref.file_name for ref in coco.image_refs()}
    found = []
    for record in map(raw_to_record, coco.annotations):
        name = of_source.get(names[record["category_id"]])
        crowd = record.get("iscrowd", 0) and subset.crowd != "instances"
        if name is not None and not crowd:
            found.append((photos[record["image_id"]], name, record))
    return found


def measure(
    catalogue: Catalogue,
    settings: Settings,
    annotations: Sequence[Annotation] | None,
    slices: Mapping[str, Mapping[str, str] | None],
) -> Measured:
    """What reports/catalogue.json says of recall; that settings name columns which are there is checked before."""
    if settings.item is None or settings.item not in catalogue.columns:
        reason = "no column says which garments are one item (catalogue.item)."
        return Measured({"recall": None, "reason": reason}, {})
    photos, rows = photos_of(catalogue), rows_in_order(catalogue)
    things = (
        found_to_things(photos, rows, settings.item)
        if annotations is None
        else annotated_to_things(photos, rows, settings.item, settings.same, annotations)
    )
    number_of = {photo.name: photo.number for photo in photos}
    row_photos = np.array([number_of[row.photo] for row in rows], np.int64)
    row_classes = [row.class_name for row in rows]

    def asked(asking: set[int], answering: set[int]) -> list[Asked]:
        return ask(things, photos, row_photos, row_classes, catalogue.stored, asking, answering, settings.seed)

    every = {photo.number for photo in photos}
    with_any = asked(every, every)
    if not with_any:
        reason = f"no garment has its item ({settings.item}) in another photo."
        return Measured({"recall": None, "reason": reason}, {})

    def said(found: Sequence[Asked]) -> Record:
        return recall_report(found, photos, settings.item or "", slices, settings.seed)

    report: Record = {
        "known_by": {"column": settings.item, "field": None if annotations is None else settings.same},
        "missed_are_known": annotations is not None,
        "any": {"questions_from": None, "answers_from": None} | said(with_any),
    }
    shown, key = with_any, "any"
    if settings.questions is not None or settings.answers is not None:
        chosen = asked(
            chosen_photos(photos, settings.questions),
            chosen_photos(photos, settings.answers),
        )
        if chosen:
            named = {"questions_from": settings.questions, "answers_from": settings.answers}
            report["chosen"] = named | said(chosen)
            shown, key = chosen, "chosen"
    return Measured({"recall": key, **report}, pictures(catalogue, rows, shown, settings))


def pictures(catalogue: Catalogue, rows: Sequence[Row], asked: Sequence[Asked], settings: Settings) -> dict[str, bytes]:
    """right.jpg and wrong.jpg: questions drawn at random whose first answer is right, and whose first answer is not."""
    order = np.random.default_rng(settings.seed).permutation(len(asked)).tolist()
    made = {}
    answered: dict[str, Callable[[Asked], bool]] = {
        RIGHT: lambda one: bool(one.first_right) and one.first_right[0],
        WRONG: lambda one: bool(one.first_right) and not one.first_right[0],
    }
    for name, belongs in answered.items():
        chosen = [asked[index] for index in order if belongs(asked[index])][: settings.pictures]
        made[name] = answers_jpeg([question_to_cells(catalogue, rows, one) for one in chosen])
    return {f"{name}.jpg": data for name, data in made.items() if data}


def question_to_cells(catalogue: Catalogue, rows: Sequence[Row], one: Asked) -> list[Cell]:
    query = rows[one.thing.row]
    own = catalogue.vectors_of([query.row, *one.first])
    answers = [
        Cell(catalogue.table.crop(row), f"{RIGHT if is_right else WRONG} {float(own[0] @ vector):.2f}",
             RIGHT if is_right else WRONG)
        for row, is_right, vector in zip(one.first, one.first_right, own[1:], strict=True)
    ]  # fmt: skip
    return [Cell(catalogue.table.crop(query.row), query.class_name), *answers]


def small(report: Record) -> Record:
    """What `dvc metrics show` prints, on one screen with the other figures; nothing where it is not known."""
    key = report.get("recall")
    return {} if key is None else {"recall@1": report[key]["recall@1"]["value"]}


def sentence(report: Record) -> str:
    """The recall in words."""
    key = report.get("recall")
    if key is None:
        return f"recall is not known: {report['reason']}"
    found: dict[str, Any] = report[key]
    values = ", ".join(f"{found[f'recall@{k}']['value']:.3f} among the first {k}" for k in (5, 10, 20))
    what = counted(found["questions"], "question")
    span = found["recall@1"]["interval"]
    interval = "" if span is None else f" ({span[0]:.3f} to {span[1]:.3f})"
    return (
        f"of {what} a right answer is first in {found['recall@1']['value']:.3f}{interval}; {values}; "
        f"by chance {found['recall@1']['by_chance']:.3f}; {counted(found['missed'], 'garment')} asked with not found"
    )
