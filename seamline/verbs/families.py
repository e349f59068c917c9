"""Families: models of several families compared fairly, on the data and with the parameters of the project.

All models get the same split, classes, input size, augmentation, images seen, kind of start, number of trials and
seeds. The trials try values of train.lr0, and the best one on val is trained with every seed. Accuracy is measured on
test, speed and memory by the benchmark on what is exported. Trainings are stored: killed, the same command resumes.
Nothing in data/ or models/ is changed. docs/families.md says which family is for whom.

Example: seamline families yolov9t-seg.yaml maskrcnn_mobilenet_v3_large_fpn --start none
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from seamline.experiments.options import add_data_options, add_images_option


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        "seamline families", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = made.add_argument
    add("models", nargs="+", metavar="MODEL", help="as train.model takes them, two or more")
    add("--trials", type=int, default=2, metavar="N", help="values of train.lr0 that each model tries (default: 2)")
    add(
        "--lr0",
        nargs="+",
        default=[],
        metavar="FAMILY=X",
        help="the first of these, as rcnn=0.001 (default: train.lr0)",
    )
    add("--seeds", type=int, nargs="+", default=[0, 1, 2], help="three or more (default: 0 1 2)")
    add("--images-seen", type=int, metavar="N", help="in each training (default: train.epochs times the train images)")
    add("--start", choices=("none", "imagenet", "coco"), help="what all start from (default: as params.yaml has it)")
    add("--mixed-starts", action="store_true", help="allow models that start from different weights; the page says so")
    add_data_options(made)
    add_images_option(made)
    add(
        "--report",
        type=Path,
        default=Path("reports/families.json"),
        help="file to write, with a page beside it (default: reports/families.json)",
    )
    return made


def main(arguments: Sequence[str]) -> None:
    args = parser().parse_args(arguments)
    models, seeds = list(dict.fromkeys(args.models)), list(dict.fromkeys(args.seeds))
    if len(models) < 2:
        parser().error("two different models or more are compared")
    if len(seeds) < 3 or min(seeds) < 0:
        parser().error("three different seeds or more are needed, none below 0")
    if args.report.suffix != ".json":
        parser().error("--report names a .json file; the page is written beside it")

    from seamline.params.loading.loader import load_params

    params = load_params()

    from seamline.base.files import write_json, write_text
    from seamline.experiments.fairness import plan_comparison, words_to_lr0  # torch
    from seamline.experiments.families import compare_families, comparison_to_lines
    from seamline.experiments.families_page import record_to_page
    from seamline.experiments.family_trainings import Data
    from seamline.inference.threads import limit_other_threads

    limit_other_threads()
    lr0 = words_to_lr0(args.lr0)
    fair = plan_comparison(models, params, args.split, args.images_seen, args.start, args.mixed_starts, lr0)
    record = compare_families(fair, params, Data(args.split, args.yolo, args.images), args.trials, seeds)
    page = args.report.with_suffix(".html")
    write_json(args.report, record)
    write_text(page, record_to_page(record))
    print("\n".join(comparison_to_lines(record)))
    print(f"page: {page}")
