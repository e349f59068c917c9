"""Subset: choose classes and a class-balanced number of images from the canonical dataset.

Classes are renamed and merged as subset.classes says and numbered from 1 in its order; every other field of the
records passes through. Images are hard-linked, not copied. Counts go to reports/subset.json.

Example: python stages/subset.py data/raw data/subset
"""

import argparse
from collections import Counter
from pathlib import Path

from tqdm import tqdm

from seamline.coco import raw_to_record, read_coco, write_coco
from seamline.errors import SeamlineError
from seamline.files import link_or_copy, whole_folder, write_json
from seamline.params import load_params
from seamline.selection import choose_balanced, source_ids_by_class
from seamline.splits import field_groups
from seamline.stage import run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("raw", type=Path, help="canonical COCO folder, such as data/raw")
    parser.add_argument("out", type=Path, help="folder to make, such as data/subset")
    parser.add_argument("--report", type=Path, default=Path("reports/subset.json"))
    args = parser.parse_args()
    params = load_params().subset

    coco = read_coco(args.raw / "annotations.json")
    annotations = coco.annotation_refs()
    sources = source_ids_by_class(
        params.sources_by_class(),
        {category.name: category.id for category in coco.category_refs()},
        {annotation.category_id for annotation in annotations},
    )
    class_ids = {source: number for number, ids in enumerate(sources.values(), start=1) for source in ids}

    images = [raw_to_record(raw) for raw in coco.images]
    classes: dict[int, set[int]] = {image["id"]: set() for image in images}
    for annotation in annotations:
        if annotation.category_id in class_ids:
            classes[annotation.image_id].add(class_ids[annotation.category_id])
    chosen = set(
        choose_balanced(
            {image: frozenset(numbers) for image, numbers in classes.items()},
            field_groups(images, params.group_by),
            params.images,
            params.background,
            params.seed,
        )
    )
    if not any(classes[image] for image in chosen):
        raise SeamlineError(f"subset.images: {params.images} is too few; the smallest group of images is larger.")

    kept = [image for image in images if image["id"] in chosen]
    kept_annotations = []
    for raw, reference in zip(coco.annotations, annotations, strict=True):
        if reference.image_id in chosen and reference.category_id in class_ids:
            kept_annotations.append({**raw_to_record(raw), "category_id": class_ids[reference.category_id]})
    categories = [{"id": number, "name": name} for number, name in enumerate(sources, start=1)]
    with whole_folder(args.out) as out:
        for image in tqdm(kept, desc="images", unit="image", disable=None):
            link_or_copy(args.raw / "images" / image["file_name"], out / "images" / image["file_name"])
        write_coco(out / "annotations.json", kept, kept_annotations, categories)

    names = {category["id"]: category["name"] for category in categories}
    instances = Counter(names[annotation["category_id"]] for annotation in kept_annotations)
    shown = Counter(names[number] for image in chosen for number in classes[image])
    write_json(
        args.report,
        {
            "images": len(kept),
            "images_wanted": params.images,
            "images_without_a_class": sum(not classes[image] for image in chosen),
            "classes": {name: {"images": shown[name], "instances": instances[name]} for name in sources},
        },
    )
    if params.images is not None and len(kept) < params.images:
        print(f"asked for {params.images} images, there are {len(kept)} that fit: took those")
    print(f"{len(kept)} images, " + ", ".join(f"{count} {name}" for name, count in sorted(instances.items())))


if __name__ == "__main__":
    run(main)
