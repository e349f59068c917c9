"""Split: divide the images into train, val and test so that nothing leaks and every class keeps its share.

Images of one group (split.group_by) and near-duplicates stay together. OUT gets train.txt, val.txt and test.txt
(image paths below data/yolo), a COCO file a split, and data.yaml with the class names; reports/split.json the proof.

Example: python stages/split.py data/subset data/yolo data/split
"""

import argparse
import os
from pathlib import Path

import yaml
from tqdm import tqdm

from seamline.coco import raw_to_record, read_coco, write_coco
from seamline.files import whole_folder, write_json, write_text
from seamline.params import load_params
from seamline.splits import (
    SPLITS,
    difference_hash,
    field_groups,
    joined_groups,
    near_duplicates,
    split_report,
    stratified,
)
from seamline.stage import run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("subset", type=Path, help="canonical COCO folder, such as data/subset")
    parser.add_argument("yolo", type=Path, help="its images and labels for the trainer, such as data/yolo")
    parser.add_argument("out", type=Path, help="folder to make, such as data/split")
    parser.add_argument("--report", type=Path, default=Path("reports/split.json"))
    args = parser.parse_args()
    params = load_params().split

    coco = read_coco(args.subset / "annotations.json")
    images = [raw_to_record(raw) for raw in coco.images]
    annotations = [raw_to_record(raw) for raw in coco.annotations]
    names = {category.id: category.name for category in coco.category_refs()}
    labels: dict[int, list[int]] = {image["id"]: [] for image in images}
    for annotation in annotations:
        labels[annotation["image_id"]].append(annotation["category_id"])

    groups = field_groups(images, params.group_by)
    pairs = None
    if params.near_duplicate_bits is not None:
        progress = tqdm(images, desc="hashing", unit="image", disable=None)
        hashes = {image["id"]: difference_hash(args.yolo / "images" / image["file_name"]) for image in progress}
        pairs = near_duplicates(hashes, params.near_duplicate_bits)
    ratios = {split: getattr(params.ratios, split) for split in SPLITS}
    split_of = stratified(joined_groups(groups, pairs or []), labels, ratios, params.seed)

    # "./" stands for the list's own folder: ultralytics reads such lists from any working directory.
    images_at = Path(os.path.relpath(args.yolo / "images", args.out)).as_posix()
    with whole_folder(args.out) as out:
        for split in SPLITS:
            kept = [image for image in images if split_of[image["id"]] == split]
            write_text(out / f"{split}.txt", "".join(f"./{images_at}/{image['file_name']}\n" for image in kept))
            write_coco(
                out / f"{split}.json",
                kept,
                [annotation for annotation in annotations if split_of[annotation["image_id"]] == split],
                [raw_to_record(raw) for raw in coco.categories],
            )
        files = {split: f"{split}.txt" for split in SPLITS}
        write_text(
            out / "data.yaml", yaml.safe_dump({**files, "names": dict(enumerate(names.values()))}, sort_keys=False)
        )
    report = split_report(
        split_of, groups, {image: [names[label] for label in found] for image, found in labels.items()}, pairs
    )
    write_json(args.report, report)
    print(", ".join(f"{split} {report[split]['images']} images ({report[split]['share']:.1%})" for split in SPLITS))
    leaks = [f"{report['leaked_groups']} of {report['groups']} groups"]
    leaks += (
        [] if pairs is None else [f"{report['near_duplicates_across_splits']} of {len(pairs)} near-duplicate pairs"]
    )
    print(f"across splits: {', '.join(leaks)}")


if __name__ == "__main__":
    run(main)
