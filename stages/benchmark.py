"""Benchmark: the trained model in every format, timed side by side and measured on the test split.

Each engine runs in a process of its own, on the same cores with the same number of threads, one image at a time
from the file to the masks; the engines take turns, so that what slows the machine down slows all of them.

Example: python stages/benchmark.py models/train/best.pt models/export data/split data/yolo
"""

import argparse
from pathlib import Path

from tqdm import tqdm

from seamline.benchmarking import (
    Pass,
    engine_processes,
    machine_facts,
    open_process,
    passes_to_figures,
    peak_rss_mb,
    precision,
    rows_to_table,
    split_records,
    timed_pass,
    usable_core_ids,
    warm_up,
)
from seamline.coco import Record
from seamline.errors import SeamlineError
from seamline.exporting import evenly_spaced, image_files, megabytes, models_made
from seamline.files import write_csv, write_json
from seamline.params import load_params
from seamline.stage import run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path, help="trained model, such as models/train/best.pt")
    parser.add_argument("exported", type=Path, help="folder of the export stage, such as models/export")
    parser.add_argument("split", type=Path, help="folder with test.json, such as data/split")
    parser.add_argument("yolo", type=Path, help="folder with images/, such as data/yolo")
    parser.add_argument("--reports", type=Path, default=Path("reports"), help="folder for what was measured")
    args = parser.parse_args()
    params = load_params()
    settings, limits = params.benchmark, params.evaluate

    models = models_made(args.weights, args.exported)
    for name, path in models.items():
        if not path.exists():
            raise SeamlineError(f"{name}: {path} is missing; dvc repro makes it.")
    test, folder = args.split / "test.json", args.yolo / "images"
    images = evenly_spaced(image_files(test, folder), settings.images)
    cores = usable_core_ids(settings.threads)

    passes: dict[str, list[Pass]] = {name: [] for name in models}
    found: dict[str, list[Record]] = {}
    rows: dict[str, Record] = {}
    with engine_processes() as processes:
        for name, path in models.items():
            process = open_process(name, path, cores, settings.confidence, limits, settings.timeout_s)
            processes.append(process)
            rows[name] = {"precision": process.ask(precision), "threads": len(cores), "batch": 1}
            process.ask(warm_up, images, settings.warmup_s)
        for _ in tqdm(range(settings.repeats), desc="timing", unit="round", disable=None):
            for process in processes:
                passes[process.name].append(process.ask(timed_pass, images))
        for process in processes:
            rows[process.name]["peak_rss_mb"] = round(process.ask(peak_rss_mb), 1)
        for process in processes:
            found[process.name] = process.ask(split_records, test, folder, limits)

    from seamline.charts import benchmark_figure
    from seamline.drawing import save
    from seamline.evaluation import difference_interval, groups_beside, measure
    from seamline.metrics import average_precision, read_ground_truth

    truth, groups = read_ground_truth(test), groups_beside(test)
    masks = {name: measure(truth, found[name], "mask", groups, limits) for name in models}
    reference = masks["pytorch"]
    for name, path in models.items():
        mask_map = masks[name].summary["mAP50_95"]
        box_map = average_precision(truth, found[name], "box", limits.iou_thresholds).summary["mAP50_95"]
        if mask_map is None or box_map is None:
            raise SeamlineError(f"{test}: has no instances to measure with; give test a larger share in split.ratios.")
        rows[name] |= passes_to_figures(passes[name])
        rows[name]["model_mb"] = megabytes(path)
        rows[name]["mask_mAP50_95"] = mask_map
        rows[name]["mask_mAP50_95_delta"] = mask_map - (reference.summary["mAP50_95"] or 0)
        rows[name]["mask_mAP50_95_delta_interval"] = difference_interval(reference, masks[name])
        rows[name]["box_mAP50_95"] = box_map

    write_json(args.reports / "benchmark.json", rows)
    write_json(args.reports / "environment.json", machine_facts(cores))
    write_json(args.reports / "speed.json", {name: {"img_s": row["throughput_img_s"]} for name, row in rows.items()})
    columns = ("throughput_img_s", "mask_mAP50_95")
    write_csv(
        args.reports / "benchmark.csv",
        ("format", *columns),
        [(name, *(row[column] for column in columns)) for name, row in rows.items()],
    )
    save(benchmark_figure(rows), args.reports / "benchmark.png")
    print(rows_to_table(rows))


if __name__ == "__main__":
    run(main)
