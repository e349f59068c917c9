"""Trainings: list the finished ones, and delete them.

The latest five, or 5 GB of them, whichever is less, stay in .seamline/train/finished, so that the same training is not
run twice; the latest three interrupted ones stay too, to be resumed. `--clear` deletes the finished ones, so that
`dvc repro -f train` really trains (`make clear-trainings`).

Example: seamline trainings --clear
"""

import argparse
from collections.abc import Sequence
from pathlib import Path


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(
        "seamline trainings", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clear", action="store_true", help="delete the finished ones")
    args = parser.parse_args(arguments)

    from seamline.training.finished import FINISHED, latest_first, trainings_folder

    scratch = trainings_folder()
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
    return [*lines, f"{len(finished)} finished trainings, {finished_mb:.1f} MB; {len(unfinished)} not finished"]


def deleted(scratch: Path, finished: Sequence[Path]) -> str:
    """Delete finished trainings, except those in use; returns what to say."""
    from seamline.training.finished import delete_unless_held

    done = [delete_unless_held(scratch, folder) for folder in finished]
    in_use = done.count(False)
    return f"deleted {sum(done)} finished trainings" + (f"; {in_use} are in use" if in_use else "")
