"""Split: divide the images into train, val and test so that nothing leaks and every class keeps its share.

Images of one group (split.group_by), versions of one photo and near-duplicates stay together. OUT gets a COCO file for
each split; train.txt, val.txt and test.txt, with paths from the folder that holds images/ and labels/; data.yaml with
the names of the classes; and groups.json: what stayed together. REPORT is the proof, CHARTS what a model learns from.

Example: python -m stages.split data/subset data/split
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import yaml
from tqdm import tqdm

from seamline.base.coco import Coco, Record, raw_to_record, read_coco, write_coco
from seamline.base.errors import counted
from seamline.base.files import beside, check_out, whole_folder, write_json, write_text
from seamline.base.parallel import in_threads
from seamline.base.process import run
from seamline.base.splits import MEASURED_SPLITS, SPLITS
from seamline.dataset.groups import Assigned, Groups, field_groups
from seamline.dataset.near_duplicates import Fingerprints, equal_files, fingerprint, joined_groups, near_duplicates
from seamline.dataset.splits import FEWEST_GROUPS, check_measurable, official_splits, split_report, unlearnable
from seamline.dataset.stratification import stratified
from seamline.dataset.versions import version_pairs
from seamline.params.loading.loader import load_params
from seamline.params.loading.types import Ratios
from seamline.params.split import Split

Ints = npt.NDArray[np.int64]


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
    image_of, instances = instances_of_images(coco)
    groups = field_groups(coco, params.group_by)
    bits, files = params.near_duplicate_bits, [images_folder / image.file_name for image in coco.image_refs()]
    pairs = None if bits is None else near_duplicates(fingerprints(coco, images_folder), bits)
    equal = equal_files(files) if bits is None else None  # which are near-duplicates too
    versions = version_pairs(coco) if params.versions else None
    ties = [found for found in (pairs, equal, versions) if found is not None and len(found)]
    joined = joined_groups(groups, np.concatenate(ties)) if ties else groups
    assigned = assigned_splits(coco, joined, instances, params)
    check_measurable({split: int(instances[assigned == index].sum()) for index, split in enumerate(SPLITS)})

    names = [category.name for category in coco.category_refs()]
    with whole_folder(args.out) as out:
        write_splits(out, coco, assigned, image_of)
        # What belongs together, by whatever reason: intervals of the evaluation are drawn from these groups.
        ids = (str(image.id) for image in coco.image_refs())
        write_json(out / "groups.json", dict(zip(ids, joined.tolist(), strict=True)))
        files_of = {split: f"{split}.txt" for split in SPLITS}
        write_text(out / "data.yaml", yaml.safe_dump({**files_of, "names": dict(enumerate(names))}, sort_keys=False))
    with whole_folder(charts_folder) as charts:
        write_data_charts(coco, [SPLITS[index] for index in assigned], images_folder, charts)
    report = split_report(assigned, groups, instances, names, pairs, versions, joined)
    write_json(args.report or beside(args.out, "report.json"), {"official": params.official, **report})
    print_report(report, names, min(ratios_of(params.ratios)))


def ratios_of(ratios: Ratios) -> list[float]:
    return [ratios.train, ratios.val, ratios.test]


def instances_of_images(coco: Coco) -> tuple[Ints, Ints]:
    """The image of each annotation, by position; and how many instances of each class an image has."""
    position = {image.id: index for index, image in enumerate(coco.image_refs())}
    number = {category.id: index for index, category in enumerate(coco.category_refs())}
    image_of = np.empty(len(coco.annotations), dtype=np.int64)
    instances = np.zeros((len(position), len(number)), dtype=np.int64)
    for index, annotation in enumerate(coco.annotation_refs()):
        image_of[index] = position[annotation.image_id]
        instances[image_of[index], number[annotation.category_id]] += not annotation.iscrowd
    return image_of, instances


def fingerprints(coco: Coco, folder: Path) -> Fingerprints:
    images = coco.image_refs()
    found = in_threads(lambda image: fingerprint(folder / image.file_name, min(image.height, image.width)), images)
    return np.array(list(tqdm(found, desc="hashing", unit="image", total=len(images), disable=None)))


def assigned_splits(coco: Coco, groups: Groups, instances: Ints, params: Split) -> Assigned:
    """The split of each image: the source's where split.official names it, for the others by the ratios."""
    assigned = np.full(len(instances), -1, dtype=np.int64)
    if params.official is not None:
        assigned = official_splits(coco.image_values("split"), params.official)
    free = np.flatnonzero(assigned < 0)
    if len(free):
        open_splits = [index for index, split in enumerate(SPLITS) if split not in (params.official or {})]
        ratios = np.array(ratios_of(params.ratios))[open_splits]
        numbers = np.unique(groups[free], return_inverse=True)[1]
        found = stratified(numbers, instances[free], list(ratios / ratios.sum()), params.seed)
        assigned[free] = np.array(open_splits)[found]
    return assigned


def write_splits(out: Path, coco: Coco, assigned: Assigned, image_of: Ints) -> None:
    images = coco.image_refs()
    for index, split in enumerate(SPLITS):
        chosen = np.flatnonzero(assigned == index)
        write_text(out / f"{split}.txt", "".join(f"./images/{images[at].file_name}\n" for at in chosen))
        write_coco(
            out / f"{split}.json",
            (coco.images[at] for at in chosen),
            (coco.annotations[at] for at in np.flatnonzero(assigned[image_of] == index)),
            [raw_to_record(raw) for raw in coco.categories],
            coco.attributes,
        )


def print_report(report: Record, names: Sequence[str], smallest_ratio: float) -> None:
    print(", ".join(f"{split} {report[split]['images']} images ({report[split]['share']:.1%})" for split in SPLITS))
    leaks = f"across splits: {report['leaked_groups']} of {report['groups']} groups"
    for kind, name in ("near_duplicates", "near-duplicates"), ("versions", "versions of a photo"):
        if report[kind] is not None and (report[kind] or kind == "near_duplicates"):
            leaks += f", {report[f'{kind}_across_splits']} of {report[kind]} {name}"
    print(leaks)
    for split in MEASURED_SPLITS:
        if (few := report[split]["groups_showing_an_instance"]) < FEWEST_GROUPS:
            print(f"{split}: {counted(few, 'group')} with an instance; intervals need {FEWEST_GROUPS}")
    for name in unlearnable(report, names):
        print(f"{name}: no instance in train, so that the model cannot learn it")
    images = sum(report[split]["images"] for split in SPLITS)
    if report["largest_group_share"] > smallest_ratio and report["largest_group_share"] * images > 1.5:  # not of one
        print(
            f"{report['largest_group_share']:.0%} of the images are one group, more than the smallest split is to "
            "get; split.group_by, split.versions and split.near_duplicate_bits say what belongs together"
        )


if __name__ == "__main__":
    run(main)
