"""Train: an ultralytics segmentation model on the train split, the best epoch chosen by mask mAP on val.

Writes OUT/best.pt (final weights only; equal trainings give equal files), OUT/training.json (hashes of its data and of
all that was asked for, which exported models carry) and the curves reports/train/losses.csv and
reports/train/validation.csv. The validation figures there are the trainer's own, for watching; the official ones are
the evaluate stage's. Killed, it goes on from the last finished epoch when data and parameters are the same; its state
is kept in .seamline/train until then.

Example: python -m stages.train data/split data/yolo models/train
"""

import argparse
import shutil
from pathlib import Path

from seamline.files import copy, whole_folder, write_json
from seamline.params import load_params
from seamline.stage import SCRATCH, run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("split", type=Path, help="folder with the splits, such as data/split")
    parser.add_argument("yolo", type=Path, help="folder with images and labels, such as data/yolo")
    parser.add_argument("out", type=Path, help="folder to make, such as models/train")
    parser.add_argument("--report", type=Path, default=Path("reports/train"))
    args = parser.parse_args()
    params = load_params().train

    from seamline.training import best_weights, train_model, write_history  # torch; kept from --help

    folder, state = train_model(params, args.split, args.yolo, SCRATCH / "train")
    history, best_epoch = state["history"], state["best_epoch"]
    origin = {key: state[key] for key in ("training_revision", "data_sha256")}
    with whole_folder(args.out) as out:
        copy(best_weights(folder, best_epoch), out / "best.pt")
        write_json(out / "training.json", origin)
    write_history(history, args.report / "losses.csv", args.report / "validation.csv")
    write_json(
        args.report / "summary.json",
        {
            "model": params.model,
            "epochs": len(history),
            "best_epoch": best_epoch,
            "resumed_after_epochs": state["resumed_after"],
            **origin,
            **({"weights_sha256": state["weights_sha256"]} if "weights_sha256" in state else {}),
        },
    )
    shutil.rmtree(folder)
    print(f"best epoch {best_epoch} of {len(history)}: {args.out / 'best.pt'}")


if __name__ == "__main__":
    run(main)
