"""Embed: a model that makes vectors of garments, as ONNX, OpenVINO f32 and INT8, for finding similar ones.

embed.model is exported and shown to give the vectors that PyTorch gives. INT8 is calibrated on train's garments. It is
accepted if it is known to find f32's nearest garment of val among its nearest ten but for embed.int8.max_recall_drop,
refused if it is known not to, and then the reason lies in its place; if neither is known it is made and says so. Every
model says in its metadata what it is. What was measured is written to REPORT.

Example: python -m stages.embed data/split data/subset/images models/embedder
"""

import argparse
from pathlib import Path

import msgspec
import numpy as np

from seamline.base.coco import Record
from seamline.base.files import beside, check_out, whole_folder, write_json
from seamline.base.process import run
from seamline.evaluation.average_precision import read_ground_truth
from seamline.export.drops import Gate, gate_to_record, read_gate
from seamline.export.embedder import (
    check_vectors,
    quantise_embedder,
    squares_of,
    towers_of,
    write_onnx,
    write_openvino,
)
from seamline.export.openvino import add_metadata
from seamline.export.quantising import RUNGS, tried_rungs
from seamline.export.recall_gate import lost_to_record, measure_lost, outcome_to_sentence
from seamline.export.towers import Towers
from seamline.images.cutouts import squares_to_tensor
from seamline.inference.embedder import Embedder
from seamline.inference.threads import limit_other_threads
from seamline.inference.truth import embed_truth, photos_of
from seamline.models.arrays import Floats
from seamline.models.embedder_facts import facts_to_identity
from seamline.models.engines.opening import NO_MODEL
from seamline.models.exported import REFUSED, leave_reason
from seamline.params.embed import Embed
from seamline.params.loading.loader import load_params

CHECKED = 16  # garments of train on which f32 is held to PyTorch
OURS = ("model.*", "text.*", "tokenizer.json", NO_MODEL)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("split", type=Path, help="folder with train.json and val.json, such as data/split")
    parser.add_argument("images", type=Path, help="folder of the images, such as data/subset/images")
    parser.add_argument("out", type=Path, help="folder for a model of each format, such as models/embedder")
    parser.add_argument("--report", type=Path, help="what was measured (default: OUT-report.json)")
    args = parser.parse_args()
    for name in ("onnx", "openvino", "openvino_int8"):
        check_out(args.out / name, OURS, [args.split, args.images])
    settings = load_params()[Embed]

    limit_other_threads()
    towers = towers_of(settings)
    train = read_ground_truth(args.split / "train.json")
    squares = squares_of(train, args.images, towers.facts, settings.int8.calibration_garments)
    tensors = [squares_to_tensor([square], towers.facts.mean, towers.facts.std) for square in squares]
    report = make_f32(towers, args.out, tensors)
    report |= make_int8(towers, args.out, tensors, read_gate(args.split, settings.int8.gate_on), args.images, settings)
    facts = msgspec.to_builtins(towers.facts)
    write_json(
        args.report or beside(args.out, "report.json"),
        {**facts, "identity": facts_to_identity(towers.facts), "calibration_garments": len(tensors), **report},
    )


def make_f32(towers: Towers, out: Path, tensors: list[Floats]) -> Record:
    """ONNX and OpenVINO; how near their vectors are to PyTorch's."""
    with whole_folder(out / "onnx") as folder:
        write_onnx(towers, folder)
        smallest = {"onnx": check_vectors("onnx", Embedder(folder / "model.onnx"), towers, tensors[:CHECKED])}
    with whole_folder(out / "openvino") as folder:
        write_openvino(out / "onnx", towers.facts, folder)
        smallest["openvino"] = check_vectors("openvino", Embedder(folder), towers, tensors[:CHECKED])
    return {"smallest_cosine": {name: round(value, 6) for name, value in smallest.items()}}


def make_int8(towers: Towers, out: Path, tensors: list[Floats], gate: Gate, images: Path, settings: Embed) -> Record:
    """INT8, or the reason why there is none; its entries in the report."""
    allowed = settings.int8.max_recall_drop
    reference, photos = embed_truth(Embedder(out / "openvino"), photos_of(gate.truth, images))
    groups = gate.groups[np.searchsorted(sorted(gate.truth.imgs), photos)]
    facts = msgspec.structs.replace(towers.facts, precision="int8")
    with whole_folder(out / "openvino_int8") as folder:

        def try_rung(rung: str) -> Record:
            quantise_embedder(out / "openvino", tensors, facts, rung, towers.is_transformer, folder)
            made = Embedder(folder)
            found, _ = embed_truth(made, photos_of(gate.truth, images))
            return lost_to_record(measure_lost(reference, found, photos, groups), rung, made.precision, allowed)

        rungs = tried_rungs(RUNGS, try_rung)
        outcome, said = rungs[-1]["outcome"], outcome_to_sentence(rungs, gate.photos, allowed)
        if outcome == REFUSED:
            leave_reason(folder, said)
        else:
            add_metadata(folder, {"int8_gate": outcome, "int8_said": said})
    print(said, flush=True)
    return {"int8_outcome": outcome, "int8_said": said, "int8_gate": gate_to_record(gate), "int8_rungs": rungs}


if __name__ == "__main__":
    run(main)
