"""Trainings: list the finished ones, delete them, or take over one of an earlier version.

The latest five, or 5 GB of them, whichever is less, stay in .seamline/train/finished, so that the same training is not
run twice; the latest three interrupted ones stay too, to be resumed. `--clear` deletes the finished ones, so that
`dvc repro -f train` really trains (`make clear-trainings`).

`--take FOLDER` stores weights that an earlier version of Seamline has trained, as the training of params.yaml: then
`dvc repro` uses them and trains nothing. Data, parameters, torch and the family's own library have to be the same, so
that only the code differs. reports/train/summary.json says "taken_over" from then on.

Example: seamline trainings --take models/train
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from seamline.base.errors import counted
from seamline.experiments.options import add_data_options


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(
        "seamline trainings", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--clear", action="store_true", help="delete the finished ones")
    add("--take", type=Path, metavar="FOLDER", help="folder with best.pt and training.json, such as models/train")
    add(
        "--report",
        type=Path,
        default=Path("reports/train"),
        help="with --take: folder of its report (default: reports/train)",
    )
    add_data_options(parser, "with --take: ")
    args = parser.parse_args(arguments)
    if args.clear and args.take:
        parser.error("--clear and --take contradict each other")

    from seamline.training.finished import FINISHED, latest_first, trainings_folder

    scratch = trainings_folder()
    if args.take:
        from seamline.experiments.taking_over import check_weights, take_over  # torch
        from seamline.params.loading.loader import load_params

        params = load_params()
        check_weights(args.take / "best.pt", params, args.split)
        folder = take_over(params, args.take, args.report, (args.split, args.yolo), scratch)
        print(f"{args.take / 'best.pt'} is stored in {folder}; dvc repro uses it and trains nothing")
        return
    finished, unfinished = latest_first(scratch / FINISHED), latest_first(scratch)
    print("\n".join(trainings_to_lines(finished, unfinished)))
    if args.clear:
        print(deleted(scratch, finished))


def trainings_to_lines(finished: Sequence[Path], unfinished: Sequence[Path]) -> list[str]:
    from datetime import datetime

    from seamline.training.finished import bytes_of, changed_ns

    lines, size_mb = [], {folder: bytes_of(folder) / 1e6 for folder in (*finished, *unfinished)}
    for kind, folders in (("finished", finished), ("not finished", unfinished)):
        for folder in folders:
            used = datetime.fromtimestamp(changed_ns(folder) / 1e9).strftime("%Y-%m-%d %H:%M")
            lines.append(f"{folder}  {kind}, {size_mb[folder]:.1f} MB, last used {used}")
    finished_mb = sum(size_mb[folder] for folder in finished)
    total = f"{counted(len(finished), 'finished training')}, {finished_mb:.1f} MB; {len(unfinished)} not finished"
    return [*lines, total]


def deleted(scratch: Path, finished: Sequence[Path]) -> str:
    """Delete finished trainings, except those in use; returns what to say."""
    from seamline.training.finished import delete_unless_held

    done = [delete_unless_held(scratch, folder) for folder in finished]
    in_use = done.count(False)
    return f"deleted {counted(sum(done), 'finished training')}" + (f"; {in_use} are in use" if in_use else "")
