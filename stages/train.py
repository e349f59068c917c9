"""Train: a segmentation model on the train split; the best epoch is the one with the highest mask mAP on val.

Writes OUT/best.pt (final weights only; equal trainings give equal files), OUT/training.json (hashes of its data and of
all that was asked for, which exported models carry), REPORT/losses.csv, REPORT/validation.csv, REPORT/summary.json, and
REPORT/labels.json: what is left of the masks at the sizes the trainer sees them in. The validation figures there are
the trainer's own, to watch it by; the official ones come from the evaluate stage. The summary names the kind of
processor that trained, because another one rounds differently and gives other weights. After a kill it resumes from the
last finished epoch, if data and parameters are the same. Finished trainings are stored in .seamline/train (`seamline
trainings` lists them): the same one is not trained twice.

Example: python -m stages.train data/split data/yolo models/train --report reports/train
"""

import argparse
from pathlib import Path

from seamline.base.files import beside, check_out, copy, whole_folder, write_json
from seamline.base.process import run
from seamline.base.processors import note_processor, processor_of_training, times_written
from seamline.params.loading.loader import load_params
from seamline.params.train import Train
from seamline.training.finished import FINISHED, trainings_folder
from seamline.training.history import write_history


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("split", type=Path, help="folder with the splits, such as data/split")
    parser.add_argument("yolo", type=Path, help="folder with images and labels, such as data/yolo")
    parser.add_argument("out", type=Path, help="folder to make, such as models/train")
    parser.add_argument("--report", type=Path, help="folder for curves and summary (default: OUT-report)")
    args = parser.parse_args()
    check_out(args.out, ("best.pt", "training.json"), [args.split, args.yolo])
    report = args.report or beside(args.out, "report")
    params = load_params()

    from seamline.training.run import finished_training, labels_of_training  # imports torch, which --help does not need

    # Before the training, which takes hours: labels of other data are noticed now.
    labels = labels_of_training(params, args.split, args.yolo)
    before = times_written(trainings_folder() / FINISHED)
    with finished_training(params, args.split, args.yolo, trainings_folder()) as training:
        facts, history = training.facts, training.history
        note_processor(training.weights.parent, before)
        processor = processor_of_training(training.weights.parent, facts)
        origin = {key: facts[key] for key in ("training_revision", "data_sha256")}
        with whole_folder(args.out) as out:
            copy(training.weights, out / "best.pt")
            write_json(out / "training.json", origin)
    write_history(history, report / "losses.csv", report / "validation.csv")
    write_json(report / "labels.json", labels)
    write_json(
        report / "summary.json",
        {
            "model": params[Train].model,
            "epochs": len(history),
            "best_epoch": facts["best_epoch"],
            "resumed_after_epochs": facts["resumed_after"],
            "device": facts["device"],
            "threads": facts["threads"],
            "processor": processor,
            **origin,
            **{key: facts[key] for key in ("weights_sha256", "taken_over") if key in facts},
        },
    )
    print(f"best epoch {facts['best_epoch']} of {len(history)}: {args.out / 'best.pt'}")


if __name__ == "__main__":
    run(main)
