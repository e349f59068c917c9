"""Split: divide the images into train, val and test so that nothing leaks and every class keeps its share.

Images of one group (split.group_by) and near-duplicates stay together. OUT gets a COCO file for each split; train.txt,
val.txt and test.txt, whose paths are relative to the folder that holds images/ and labels/; data.yaml with the names of
the classes; and groups.json, which says what stayed together. REPORT is the proof, CHARTS is what the model will learn
from.

Example: python -m stages.split data/subset data/split
"""

import argparse
from pathlib import Path

import numpy as np
import yaml
from tqdm import tqdm

from seamline.base.coco import raw_to_record, read_coco, write_coco
from seamline.base.files import beside, check_out, whole_folder, write_json, write_text
from seamline.base.parallel import in_threads
from seamline.base.process import run
from seamline.dataset.groups import field_groups
from seamline.dataset.splits import (
    FEWEST_GROUPS,
    SPLITS,
    fingerprint,
    joined_groups,
    near_duplicates,
    official_splits,
    split_report,
    stratified,
)
from seamline.params.loader import load_params
from seamline.params.split import Ratios, Split


def ratios_of(ratios: Ratios) -> list[float]:
    return [ratios.train, ratios.val, ratios.test]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("subset", type=Path, help="canonical COCO folder, such as data/subset")
    parser.add_argument("out", type=Path, help="folder to make, such as data/split")
    parser.add_argument("--report", type=Path, help="the proof (default: OUT-report.json)")
    parser.add_argument("--charts", type=Path, help="folder for charts and tables (default: OUT-charts)")
    args = parser.parse_args()
    charts_folder = args.charts or beside(args.out, "charts")
    for folder, ours in ((args.out, ("*.txt", "*.json", "data.yaml")), (charts_folder, ("*.png", "*.csv"))):
        check_out(folder, ours, [args.subset])
    from seamline.charts.dataset import write_data_charts  # matplotlib, which the stage's environment is for

    params, images_folder = load_params()[Split], args.subset / "images"

    coco = read_coco(args.subset / "annotations.json")
    images = coco.image_refs()
    categories = coco.category_refs()
    position = {image.id: index for index, image in enumerate(images)}
    number = {category.id: index for index, category in enumerate(categories)}
    image_of = np.empty(len(coco.annotations), dtype=np.int64)
    instances = np.zeros((len(images), len(categories)), dtype=np.int64)
    for index, annotation in enumerate(coco.annotation_refs()):
        image_of[index] = position[annotation.image_id]
        instances[image_of[index], number[annotation.category_id]] += not annotation.iscrowd

    groups = field_groups(coco, params.group_by)
    pairs = None
    if params.near_duplicate_bits is not None:
        found = tqdm(
            in_threads(
                lambda image: fingerprint(images_folder / image.file_name, min(image.height, image.width)),
                images,
            ),
            desc="hashing", unit="image", total=len(images), disable=None,
        )  # fmt: skip
        pairs = near_duplicates(np.array(list(found)), params.near_duplicate_bits)
    joined = groups if pairs is None else joined_groups(groups, pairs)

    assigned = np.full(len(images), -1, dtype=np.int64)
    if params.official is not None:
        assigned = official_splits(coco.image_values("split"), params.official)
    free = np.flatnonzero(assigned < 0)
    if len(free):
        open_splits = [index for index, split in enumerate(SPLITS) if split not in (params.official or {})]
        ratios = np.array(ratios_of(params.ratios))[open_splits]
        numbers = np.unique(joined[free], return_inverse=True)[1]
        found_splits = stratified(numbers, instances[free], list(ratios / ratios.sum()), params.seed)
        assigned[free] = np.array(open_splits)[found_splits]

    with whole_folder(args.out) as out:
        for index, split in enumerate(SPLITS):
            kept = np.flatnonzero(assigned == index)
            write_text(out / f"{split}.txt", "".join(f"./images/{images[at].file_name}\n" for at in kept))
            write_coco(
                out / f"{split}.json",
                (coco.images[at] for at in kept),
                (coco.annotations[at] for at in np.flatnonzero(assigned[image_of] == index)),
                [raw_to_record(raw) for raw in coco.categories],
                coco.attributes,
            )
        # What belongs together, by whatever reason: intervals of the evaluation are drawn from these groups.
        write_json(out / "groups.json", dict(zip((str(image.id) for image in images), joined.tolist(), strict=True)))
        files_of = {split: f"{split}.txt" for split in SPLITS}
        names = [category.name for category in categories]
        write_text(out / "data.yaml", yaml.safe_dump({**files_of, "names": dict(enumerate(names))}, sort_keys=False))
    with whole_folder(charts_folder) as charts:
        write_data_charts(coco, [SPLITS[index] for index in assigned], images_folder, charts)
    report = split_report(assigned, groups, instances, names, pairs, joined)
    write_json(args.report or beside(args.out, "report.json"), {"official": params.official, **report})
    print(", ".join(f"{split} {report[split]['images']} images ({report[split]['share']:.1%})" for split in SPLITS))
    leaks = f"across splits: {report['leaked_groups']} of {report['groups']} groups"
    near = "" if pairs is None else f", {report['near_duplicates_across_splits']} of {len(pairs)} near-duplicates"
    print(leaks + near)
    for split in ("val", "test"):
        if (few := report[split]["groups_showing_an_instance"]) < FEWEST_GROUPS:
            print(f"{split}: {few} groups with an instance, too few for intervals, which take {FEWEST_GROUPS}")
    if report["largest_group_share"] > min(ratios_of(params.ratios)):
        print(
            f"{report['largest_group_share']:.0%} of the images are one group, more than the smallest split shall get; "
            "a smaller split.near_duplicate_bits joins fewer"
        )


if __name__ == "__main__":
    run(main)
