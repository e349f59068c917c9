"""Subset: choose classes and a class-balanced number of images from the canonical dataset.

Classes are renamed and merged as subset.classes says and numbered from 1 in its order, or stay as they are where it is
null; every other field of the records passes through. Images are hard-linked, not copied. Counts go to
REPORT.

Example: python -m stages.subset data/raw data/subset
"""

import argparse
from collections import Counter
from pathlib import Path

import numpy as np
from tqdm import tqdm

from seamline.base.coco import link_image, raw_to_record, read_coco, write_coco
from seamline.base.errors import SeamlineError
from seamline.base.files import beside, check_out, whole_folder, write_json
from seamline.base.process import run
from seamline.dataset.groups import field_groups
from seamline.dataset.selection import choose_balanced, merged_category, source_ids_by_class
from seamline.params.loader import load_params
from seamline.params.subset import Subset


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
    position = {image.id: index for index, image in enumerate(images)}
    # A row an annotation: position of its image, category, whether it is a crowd, whether it is large enough.
    rows = np.array(
        [
            (position[found.image_id], found.category_id, found.iscrowd != 0, found.area >= params.min_area_px)
            for found in coco.annotation_refs()
        ],
        dtype=np.int64,
    ).reshape(-1, 4)
    used = set(np.unique(rows[:, 1]).tolist())
    shown = [category.name for category in coco.category_refs() if category.id in used]
    sources = source_ids_by_class(
        params.sources_by_class(shown), {category.name: category.id for category in coco.category_refs()}, used
    )
    class_of = {source: number for number, ids in enumerate(sources.values()) for source in ids}
    classes = np.array([class_of.get(category, -1) for category in rows[:, 1].tolist()], dtype=np.int64)
    left_out = {
        "smaller than subset.min_area_px": rows[:, 3] == 0,
        "crowd": (rows[:, 2] != 0) & (rows[:, 3] != 0) & (not params.crowd),
    }
    kept = (classes >= 0) & ~np.any(list(left_out.values()), axis=0)

    shows = np.zeros((len(images), len(sources)), dtype=bool)
    shows[rows[kept, 0], classes[kept]] = True
    # Nor is an image background whose only garments were left out: it does show them.
    unusable = np.zeros(len(images), dtype=bool)
    unusable[rows[(classes >= 0) & ~kept, 0]] = True
    unusable &= ~shows.any(axis=1)
    chosen = choose_balanced(
        shows, unusable, field_groups(coco, params.group_by), params.images, params.background, params.seed
    )
    if not shows[chosen].any():
        if unusable.any() and not shows.any():
            raise SeamlineError("subset: min_area_px and crowd leave no instance; their areas are in pixels.")
        raise SeamlineError(f"subset.images: {params.images} is too few; the smallest group of images is larger.")

    taken = np.zeros(len(images), dtype=bool)
    taken[chosen] = True
    # Where all classes are wanted their ids stay as well: nobody's ids shift without need.
    numbers = [ids[0] if params.classes is None else place for place, ids in enumerate(sources.values(), start=1)]
    annotations = [
        {**raw_to_record(coco.annotations[index]), "category_id": numbers[classes[index]]}
        for index in np.flatnonzero(kept & taken[rows[:, 0]])
    ]
    records = {record["id"]: record for record in map(raw_to_record, coco.categories)}
    categories = [
        merged_category([records[source] for source in ids], number, name)
        for number, (name, ids) in zip(numbers, sources.items(), strict=True)
    ]
    with whole_folder(args.out) as out:
        for index in tqdm(chosen, desc="images", unit="image", disable=None):
            name = images[index].file_name
            link_image(f"{args.raw}/images/{name}", f"{out}/images/{name}", str(args.raw))
        write_coco(
            out / "annotations.json", (coco.images[index] for index in chosen), annotations, categories, coco.attributes
        )

    names = {category["id"]: category["name"] for category in categories}
    instances = Counter(names[annotation["category_id"]] for annotation in annotations)
    of_chosen = taken[rows[:, 0]] & (classes >= 0)
    write_json(
        args.report or beside(args.out, "report.json"),
        {
            "images": len(chosen),
            "images_wanted": params.images,
            "images_without_a_class": int((~shows[chosen].any(axis=1)).sum()),
            "images_of_left_out_instances_only": int(unusable.sum()),
            "classes": {
                name: {"images": int(shows[chosen, number].sum()), "instances": instances[name]}
                for number, name in enumerate(sources)
            },
            "instances_left_out": {reason: int((out & of_chosen).sum()) for reason, out in left_out.items()},
        },
    )
    if params.images is not None and len(chosen) < params.images:
        print(f"asked for {params.images} images, there are {len(chosen)} that fit: took those")
    print(f"{len(chosen)} images, " + ", ".join(f"{count} {name}" for name, count in sorted(instances.items())))


if __name__ == "__main__":
    run(main)
