"""Trainings: lists the finished ones that are kept, and deletes them.

The latest five are kept, or 5 GB of them, whichever is less, so that the same training is not run twice; those that
were cut are kept as well, the latest three, to go on with. `--clear` deletes the finished ones, which makes `train`
train again (`make clear-trainings`). No stage of dvc.yaml.

Example: python -m stages.trainings --clear
"""

import argparse
from datetime import datetime
from pathlib import Path

from seamline.base.process import run
from seamline.training.finished import (
    FINISHED,
    bytes_of,
    changed_ns,
    delete_unless_held,
    latest_first,
    trainings_folder,
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clear", action="store_true", help="delete the finished ones")
    args = parser.parse_args()
    scratch = trainings_folder()
    finished, unfinished = latest_first(scratch / FINISHED), latest_first(scratch)
    for kind, folders in (("finished", finished), ("not finished", unfinished)):
        for folder in folders:
            used = datetime.fromtimestamp(changed_ns(folder) / 1e9).strftime("%Y-%m-%d %H:%M")
            print(f"{folder}  {kind}, {megabytes(folder):.1f} MB, last used {used}")
    print(f"{len(finished)} finished trainings, {sum(map(megabytes, finished)):.1f} MB; {len(unfinished)} not finished")
    if args.clear:
        deleted = [delete_unless_held(scratch, folder) for folder in finished]
        print(f"deleted {sum(deleted)} finished trainings" + in_use(deleted.count(False)))


def megabytes(folder: Path) -> float:
    return bytes_of(folder) / 1e6


def in_use(count: int) -> str:
    return f"; {count} are in use" if count else ""


if __name__ == "__main__":
    run(main)
