"""Subset: choose classes and a class-balanced number of images from the canonical dataset.

Classes are renamed and merged as subset.classes says and numbered from 1 in its order, or stay as they are where it is
null; every other field of the records passes through. Images are hard-linked, not copied. Counts go to REPORT.

Example: python -m stages.subset data/raw data/subset
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from seamline.base.coco import Coco, ImageRef, Record, link_image, raw_to_record, read_coco, write_coco
from seamline.base.errors import counted
from seamline.base.files import beside, check_out, whole_folder, write_json
from seamline.base.process import run
from seamline.dataset.groups import field_groups
from seamline.dataset.selection import (
    TAKE_CROWDS,
    annotation_rows,
    check_chosen,
    choose_balanced,
    class_numbers,
    merged_category,
    neither,
    source_ids_by_class,
)
from seamline.params.loading.loader import load_params
from seamline.params.subset import Subset

Ints = npt.NDArray[np.int64]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("raw", type=Path, help="canonical COCO folder, such as data/raw")
    parser.add_argument("out", type=Path, help="folder to make, such as data/subset")
    parser.add_argument("--report", type=Path, help="what was chosen (default: OUT-report.json)")
    args = parser.parse_args()
    check_out(args.out, ("annotations.json", "images"), [args.raw], inside=True)
    params = load_params()[Subset]

    coco = read_coco(args.raw / "annotations.json")
    images = coco.image_refs()
    rows = annotation_rows(coco, images, params.min_area_px)
    sources = sources_of_classes(coco, set(np.unique(rows[:, 1]).tolist()), params)
    classes = class_numbers(rows[:, 1], sources)
    crowd = (rows[:, 2] != 0) & (params.crowd != "instances")
    left_out = {
        "smaller than subset.min_area_px": rows[:, 3] == 0,
        "crowd": crowd & (rows[:, 3] != 0) & (not params.crowd),
    }
    included = (classes >= 0) & ~np.any(list(left_out.values()), axis=0)
    trained = included & ~crowd

    shows = np.zeros((len(images), len(sources)), dtype=bool)
    shows[rows[trained, 0], classes[trained]] = True
    # Nor is an image background whose only garments were left out, here or by pull, or are crowds: it does show them.
    unusable = neither(images, coco.incomplete_images(), rows[(classes >= 0) & ~trained, 0], shows)
    chosen = choose_balanced(
        shows, unusable, field_groups(coco, params.group_by), params.images, params.background, params.seed
    )
    check_chosen(shows, chosen, crowd[(classes >= 0) & (rows[:, 3] != 0)], params.images)

    taken = np.isin(np.arange(len(images)), chosen)
    # Where all classes are wanted their ids stay as well: nobody's ids shift without need.
    numbers = [ids[0] if params.classes is None else position for position, ids in enumerate(sources.values(), start=1)]
    plain = {"iscrowd": 0} if params.crowd == "instances" else {}
    annotations = [
        {**raw_to_record(coco.annotations[index]), "category_id": numbers[classes[index]], **plain}
        for index in np.flatnonzero(included & taken[rows[:, 0]])
    ]
    categories = merged_categories(coco, sources, numbers)
    write_subset(args.out, args.raw, coco, images, chosen, annotations, categories)

    of_chosen = taken[rows[:, 0]] & (classes >= 0)
    instances = np.bincount(classes[of_chosen & trained], minlength=len(sources)).tolist()
    of_crowds = unusable & np.isin(np.arange(len(images)), rows[included & crowd, 0])
    report: Record = {
        "images": len(chosen),
        "images_wanted": params.images,
        "images_without_a_class": int((~shows[chosen].any(axis=1)).sum()),
        "images_of_left_out_instances_only": int((unusable & ~of_crowds).sum()),
        "images_of_crowds_only": int(of_crowds.sum()),
        "classes": {
            name: {"images": int(shows[chosen, number].sum()), "instances": instances[number]}
            for number, name in enumerate(sources)
        },
        "crowds": int((of_chosen & included & crowd).sum()),
        "instances_left_out": {reason: int((out & of_chosen).sum()) for reason, out in left_out.items()},
    }
    write_json(args.report or beside(args.out, "report.json"), report)
    print_chosen(report, int(shows.any(axis=1).sum()))


def print_chosen(report: Record, showing: int) -> None:
    """What was chosen, of which only what is trained on counts; `showing` images have an instance of a class."""
    wanted, taken = report["images_wanted"], report["images"]
    if wanted is not None and taken < wanted:
        print(f"asked for {wanted} images, there are {taken} that fit: took those")
    elif wanted is not None:
        print(f"took {taken} images (subset.images); {showing} show one of the classes")
    counts = {name: shown["instances"] for name, shown in report["classes"].items()}
    if of_crowds := report["images_of_crowds_only"]:
        print(f"left out {counted(of_crowds, 'image')} that only crowds (iscrowd 1) show; {TAKE_CROWDS}")
    for name in sorted(name for name, count in counts.items() if not count):
        print(f"{name}: no instance to learn from, all are crowds or smaller than subset.min_area_px; {TAKE_CROWDS}")
    parts = [f"{count} {name}" for name, count in sorted(counts.items()) if count]
    print(", ".join([f"{taken} images", *parts, *([counted(report["crowds"], "crowd")] if report["crowds"] else [])]))


def sources_of_classes(coco: Coco, used: set[int], params: Subset) -> dict[str, list[int]]:
    """The source's category ids behind each class; `used` are those that at least one annotation has."""
    categories = coco.category_refs()
    shown = [category.name for category in categories if category.id in used]
    return source_ids_by_class(
        params.sources_by_class(shown), {category.name: category.id for category in categories}, used
    )


def merged_categories(coco: Coco, sources: Mapping[str, Sequence[int]], numbers: Sequence[int]) -> list[Record]:
    records = {record["id"]: record for record in map(raw_to_record, coco.categories)}
    return [
        merged_category([records[source] for source in ids], number, name)
        for number, (name, ids) in zip(numbers, sources.items(), strict=True)
    ]


def write_subset(
    folder: Path,
    raw: Path,
    coco: Coco,
    images: Sequence[ImageRef],
    chosen: Ints,
    annotations: list[Record],
    categories: list[Record],
) -> None:
    with whole_folder(folder) as out:
        for name in tqdm([images[index].file_name for index in chosen], desc="images", unit="image", disable=None):
            link_image(f"{raw}/images/{name}", f"{out}/images/{name}", str(raw))
        records = (coco.images[index] for index in chosen)
        write_coco(out / "annotations.json", records, annotations, categories, coco.attributes)


if __name__ == "__main__":
    run(main)
