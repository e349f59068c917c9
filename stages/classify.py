"""Classify: a model that names the attributes of garments, trained, calibrated, evaluated and exported.

It learns from the labels that are there: a softmax for each attribute, first on a frozen backbone, then in all layers.
Temperatures, and the confidences below which a value is not named, are chosen on val; the figures are of val and test.
OUT gets best.pt, ONNX, OpenVINO and INT8, which is calibrated on train and judged by macro F1 on val; ONNX and OpenVINO
have to name what PyTorch names. After a kill it resumes from the last finished epoch; finished trainings are stored in
.seamline/classify. Where the attributes stage found nothing to do, it does nothing and says so.

Example: python -m stages.classify data/attributes models/attributes --report reports/attributes
"""

import argparse
from pathlib import Path

from seamline.attributes.labelled import Labelled, groups_of, labels_of, read_labelled
from seamline.base.files import beside, check_out, whole_folder, write_csv, write_json
from seamline.base.process import run
from seamline.base.splits import MEASURED_SPLITS
from seamline.inference.threads import limit_other_threads
from seamline.params.classify import Classify
from seamline.params.evaluate import Evaluate
from seamline.params.export import Export
from seamline.params.loading.loader import Params, load_params

OURS = ("best.pt", "onnx", "openvino", "openvino_int8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of the attributes stage, such as data/attributes")
    parser.add_argument("out", type=Path, help="folder to make, such as models/attributes")
    parser.add_argument("--report", type=Path, help="folder for figures (default: OUT-report)")
    parser.add_argument("--predictions", type=Path, help="the detector's, of the evaluate stage: data/predictions")
    parser.add_argument("--split", type=Path, help="the test split that they are of: data/split/test.json")
    parser.add_argument("--images", type=Path, help="folder of its photos: data/subset/images")
    args = parser.parse_args()
    check_out(args.out, OURS, [args.data])
    report = args.report or beside(args.out, "report")
    params = load_params()
    labelled = read_labelled(args.data)
    if labelled.attributes:
        limit_other_threads()
        make(labelled, args, report, params)
        return
    from seamline.attributes.without_labels import write_nothing

    write_nothing(args.out, report, labelled.about["reason"])


def make(labelled: Labelled, args: argparse.Namespace, report: Path, params: Params) -> None:
    from seamline.attributes.evaluation import accuracy_summary, calibration_of, evaluate_attributes, mean_of
    from seamline.attributes.from_weights import calibrated, evaluate_detected, facts_of, make_models, network_logits
    from seamline.attributes.network import load_network
    from seamline.attributes.training import attribute_trainings_folder, finished_attribute_training, plan_training

    settings = params[Classify]
    plan = plan_training(settings, args.data, labelled)
    with finished_attribute_training(plan, attribute_trainings_folder()) as training:
        network = load_network(training.weights)
        facts = facts_of(labelled, settings, training)
    logits = {name: network_logits(network, labelled.splits[name], settings) for name in MEASURED_SPLITS}
    labels = {name: labels_of(examples) for name, examples in labelled.splits.items()}
    calibration = calibration_of(logits["val"], labels["val"], labelled.attributes, settings.target_accuracy)
    metrics = {}
    for name in MEASURED_SPLITS:
        groups, own = groups_of(labelled.splits[name]), (logits[name], labels[name])
        metrics[name] = evaluate_attributes(
            *own, groups, labels["train"], labelled.attributes, calibration, params[Evaluate].seed
        )
    with whole_folder(args.out) as out:
        facts = calibrated(facts, calibration)
        exported, speed = make_models(network, facts, out, labelled, logits, settings, params[Export].opset)
        detected = evaluate_detected(out / "onnx", facts, labelled, args, params[Export].confidence)
    write_csv(report / "losses.csv", list(training.history[0]), [list(row.values()) for row in training.history])
    about = {"attributes": labelled.attributes, "source": labelled.about["source"]}
    about |= {"target_accuracy": settings.target_accuracy, "calibration": calibration}
    made_by = training.facts | {"epochs": len(training.history), "backbone": settings.backbone}
    write_json(report / "metrics.json", {**about, **metrics, "detected": detected, "training": made_by})
    write_json(report / "accuracy.json", accuracy_summary(metrics))
    write_json(report / "export.json", exported)
    write_json(report / "speed.json", speed)
    print(f"mean macro F1 on val {mean_of(metrics['val'])}, on test {mean_of(metrics['test'])}")


if __name__ == "__main__":
    run(main)
