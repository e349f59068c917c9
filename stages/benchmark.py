"""Benchmark: the trained model in every format, timed side by side and measured on the test split.

Each row runs in a process of its own, on the same cores, from the file to the masks; the rows take turns over the same
images, so that what slows the machine down slows all of them. Latency (one image at a time) and throughput (many under
way, in the way that proved best) are measured apart. Precision is asked for and read back; rows that are not comparable
with PyTorch's are marked. Where torch is not installed, as in Dockerfile.cpu, ONNX takes its place.

Example: python -m stages.benchmark models/train/best.pt models/export data/split data/subset/images reports
"""

import argparse
from functools import partial
from pathlib import Path

from tqdm import tqdm

from seamline.base.coco import Record
from seamline.base.errors import SeamlineError
from seamline.base.files import write_bytes, write_json
from seamline.base.process import run
from seamline.benchmark.engine_process import engine_processes
from seamline.benchmark.machine import conditions, instructions, machine_facts, snapshot, usable_core_ids
from seamline.benchmark.tables import rows_to_table, write_benchmark
from seamline.benchmark.timing import (
    WarmUp,
    best_way,
    facts_of,
    formats_on_gpu,
    images_a_turn,
    installed,
    not_comparable,
    open_row,
    peak_rss_mb,
    profile_of,
    rows_to_measure,
    split_records,
    take_turns,
    turns_to_latency,
    turns_to_pace,
    turns_to_throughput,
    warm_up,
    ways_to_try,
)
from seamline.export.yolo import evenly_spaced, image_files, megabytes, timed_models
from seamline.params.benchmark import Benchmark
from seamline.params.evaluate import Evaluate
from seamline.params.export import Export
from seamline.params.loader import load_params

SLOWEST_S = 10  # an image, when accuracy is measured
TRIED = 32  # images with which ways to run a row are tried


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path, help="trained model, such as models/train/best.pt")
    parser.add_argument("exported", type=Path, help="folder of the export stage, such as models/export")
    parser.add_argument("split", type=Path, help="folder with test.json, such as data/split")
    parser.add_argument("images", type=Path, help="folder of the images, such as data/subset/images")
    parser.add_argument("reports", type=Path, help="folder for what was measured, such as reports")
    args = parser.parse_args()
    params = load_params()
    settings, limits, confidence = params[Benchmark], params[Evaluate], params[Export].confidence
    profile = profile_of(settings)

    made = timed_models(args.weights, args.exported)
    models = installed(made)
    for name, path in models.items():
        if not path.exists():
            raise SeamlineError(f"{name}: {path} is missing; dvc repro makes it.")
    rows = rows_to_measure(models, instructions(), formats_on_gpu(models))
    test, folder = args.split / "test.json", args.images
    files = image_files(test, folder)
    images, split_images = evenly_spaced(files, settings.images), len(files)
    cores = usable_core_ids(settings.threads)
    opened = partial(
        open_row,
        cores=cores,
        confidence=confidence,
        limits=limits,
        timeout_s=profile.timeout_s,
    )
    figures: dict[str, Record] = {}

    ways = {row.name: best_way(ways_to_try(row, len(cores)), partial(opened, row), images[:TRIED]) for row in rows}
    warm: dict[str, WarmUp] = {}
    with engine_processes() as processes:
        for row in rows:
            process = opened(row, ways[row.name])
            processes.append(process)
            precision, imgsz = process.ask(facts_of)
            figures[row.name] = {"precision": precision, "device": row.device, "threads": len(cores), "imgsz": imgsz}
            warm[row.name] = process.ask(warm_up, images, profile.warm_up_s)
            figures[row.name] |= {**ways[row.name]._asdict(), "peak_rss_mb": round(process.ask(peak_rss_mb), 1)}
        count = images_a_turn(max(one.latency_ms for one in warm.values()), profile.turn_s)
        ids = [process.id for process in processes]
        before = snapshot(cores, ids)
        latency, throughput = take_turns(processes, images, count, profile)
        disturbed = conditions(before, snapshot(cores, ids), turns_to_pace((latency, throughput)))
        found: dict[str, list[Record]] = {}
        for process in tqdm(processes, desc="accuracy", unit="format", disable=None):
            figures[process.name] |= turns_to_latency(latency[process.name])
            figures[process.name] |= turns_to_throughput(throughput[process.name])
            figures[process.name]["peak_rss_throughput_mb"] = round(process.ask(peak_rss_mb), 1)
            process.left_s += SLOWEST_S * split_images  # of a test split of any size
            found[process.name] = process.ask(split_records, test, folder, limits)

    from seamline.benchmark.differences import most_different, picture_of
    from seamline.charts.results import FORMAT_LABELS, benchmark_figure
    from seamline.evaluation.average_precision import average_precision, read_ground_truth
    from seamline.evaluation.measure import difference_interval, groups_beside, measure
    from seamline.images.drawing import save

    truth, groups = read_ground_truth(test), groups_beside(test)
    masks = {name: measure(truth, records, "mask", groups, limits) for name, records in found.items()}
    first = next(iter(models))  # PyTorch, what the others were made from
    reference = masks[first]
    for row in rows:
        mask_map = masks[row.name].summary["mAP50_95"]
        box_map = average_precision(truth, found[row.name], "box", limits.iou_thresholds).summary["mAP50_95"]
        if mask_map is None or box_map is None:
            raise SeamlineError(f"{test}: has no instances to measure with; give test a larger share in split.ratios.")
        figures[row.name] |= {
            "images": len(images),
            "profile": settings.profile,
            "model_mb": megabytes(row.path),
            "mask_mAP50_95": mask_map,
            "mask_mAP50_95_delta": mask_map - (reference.summary["mAP50_95"] or 0),
            "mask_mAP50_95_delta_interval": difference_interval(reference, masks[row.name]),
            "box_mAP50_95": box_map,
            "not_comparable": not_comparable(figures[row.name], figures[first], warm[row.name].stable),
        }

    shown = most_different(found, first, confidence, sorted(truth.imgs))
    shown |= {"file_name": truth.imgs[shown["image_id"]]["file_name"], "confidence": confidence}
    write_json(args.reports / "formats.json", shown)
    write_bytes(args.reports / "formats.jpg", picture_of(shown, found, truth, folder, FORMAT_LABELS))
    write_benchmark(args.reports, figures, machine_facts(cores), disturbed)
    save(benchmark_figure(figures), args.reports / "benchmark.png")
    print(rows_to_table(figures))
    for name in made.keys() - models.keys():
        print(f"{name} is not measured, as torch is not installed; accuracy is compared with that of {first}.")
    for remark in disturbed["disturbances"]:
        print(remark)


if __name__ == "__main__":
    run(main)
