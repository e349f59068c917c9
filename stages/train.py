"""Train: an ultralytics segmentation model on the train split, the best epoch chosen by mask mAP on val.

Writes OUT/best.pt (final weights only; equal trainings give equal files) and the curves reports/train/losses.csv and
reports/train/validation.csv. The validation figures there are the trainer's own, for watching; the official ones are
the evaluate stage's.

Example: python stages/train.py data/split data/yolo models/train
"""

import argparse
import shutil
from pathlib import Path

from seamline.files import whole_folder, write_json
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

    from seamline.training import save_weights, train_model, write_history  # torch; kept from --help

    scratch = SCRATCH / "train"
    shutil.rmtree(scratch / "run", ignore_errors=True)
    best, history = train_model(params, args.split, args.yolo, scratch)
    with whole_folder(args.out) as out:
        save_weights(best, out / "best.pt")
    write_history(history, args.report / "losses.csv", args.report / "validation.csv")
    validated = [record for record in history if "val_mask_mAP50_95" in record]
    chosen = max(validated, key=lambda record: record["val_mask_mAP50_95"])
    write_json(
        args.report / "summary.json",
        {"model": params.model, "epochs": len(history), "best_epoch": chosen["epoch"]},
    )
    print(f"best epoch {chosen['epoch']} of {len(history)}: {args.out / 'best.pt'}")


if __name__ == "__main__":
    run(main)
