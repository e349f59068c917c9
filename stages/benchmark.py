"""Benchmark: the trained model in every format, timed side by side and measured on the test split.

Each row runs in a process of its own, on the same cores, from the file to what the model finds in it. The rows take
turns over the same images, so that whatever slows the machine slows all of them. Latency (one image at a time) and
throughput (many images under way at once, with the concurrency that proved fastest) are measured separately. Precision
is asked for and read back; rows that are not comparable with PyTorch's are marked. Where torch is not installed, as in
Dockerfile.cpu, ONNX takes its place.

Example: python -m stages.benchmark models/train/best.pt models/export data/split data/subset/images reports
"""

import argparse
from functools import partial
from pathlib import Path

from seamline.base.coco import Record, images_of_split
from seamline.base.errors import SeamlineError
from seamline.base.files import megabytes, write_bytes, write_json
from seamline.base.process import run
from seamline.base.processors import instructions
from seamline.base.spacing import evenly_spaced
from seamline.benchmark.layers import measure_layers, records_to_reason, write_layers
from seamline.benchmark.machine import machine_facts, usable_core_ids
from seamline.benchmark.measuring import Measured, SplitFiles, measure_rows
from seamline.benchmark.rows import (
    Row,
    formats_on_gpu,
    not_comparable,
    openable_models,
    rows_to_measure,
    start_row,
    timed_models,
)
from seamline.benchmark.tables import rows_to_table, write_benchmark
from seamline.benchmark.timing import profile_of
from seamline.models.exported import int8_gate
from seamline.params.benchmark import Benchmark
from seamline.params.evaluate import Evaluate
from seamline.params.export import Export
from seamline.params.loading.loader import Params, load_params


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path, help="trained model, such as models/train/best.pt")
    parser.add_argument("exported", type=Path, help="folder of the export stage, such as models/export")
    parser.add_argument("split", type=Path, help="folder with test.json, such as data/split")
    parser.add_argument("images", type=Path, help="folder of the images, such as data/subset/images")
    parser.add_argument("reports", type=Path, help="folder for what was measured, such as reports")
    args = parser.parse_args()
    params = load_params()
    settings, limits = params[Benchmark], params[Evaluate]
    profile = profile_of(settings)

    made = timed_models(args.weights, args.exported)
    models = openable_models(made)
    for name, path in models.items():
        if not path.exists():
            raise SeamlineError(f"{name}: {path} is missing; dvc repro makes it.")
    rows = rows_to_measure(models, instructions(), formats_on_gpu(models))
    split = SplitFiles(args.split / "test.json", args.images)
    files = images_of_split(split.file, split.images)
    images = evenly_spaced(files, settings.images)
    cores = usable_core_ids(settings.threads)
    start = partial(
        start_row, cores=cores, confidence=params[Export].confidence, limits=limits, timeout_s=profile.timeout_s
    )
    measured = measure_rows(rows, start, images, profile, cores, split, len(files), limits)

    first = next(iter(models))  # PyTorch, what the others were made from
    figures = all_figures(rows, measured, first, split.file, len(images), params)
    write_most_different(args.reports, measured, first, split, params[Export].confidence)
    write_results(args.reports, figures, measured, cores)
    layers = measure_layers(rows, start, images[0])
    write_layers(args.reports / "benchmark_layers.csv", layers)
    if reason := records_to_reason(layers):
        print(reason)
    for name in made.keys() - models.keys():
        print(f"{name} is not measured, as torch is not installed; accuracy is compared with that of {first}.")
    for remark in measured.conditions["disturbances"]:
        print(remark)


def all_figures(
    rows: list[Row], measured: Measured, first: str, test: Path, images: int, params: Params
) -> dict[str, Record]:
    """Speed, size and accuracy of each row."""
    from seamline.benchmark.accuracy import accuracy_figures

    accuracy = accuracy_figures(test, measured.found, first, measured.kinds, params[Evaluate])
    return {
        row.name: {
            **measured.speed[row.name],
            "images": images,
            "profile": params[Benchmark].profile,
            "model_mb": megabytes(row.path),
            **accuracy[row.name],
            "int8_gate": int8_gate(row.path),
            "steady": measured.stable[row.name],
            "not_comparable": not_comparable(
                measured.speed[row.name], measured.speed[first], measured.stable[row.name]
            ),
        }
        for row in rows
    }


def write_most_different(reports: Path, measured: Measured, first: str, split: SplitFiles, confidence: float) -> None:
    """formats.json and formats.jpg: the image on which the rows differ most."""
    from seamline.benchmark.differences import most_different, picture_of
    from seamline.charts.benchmark import FORMAT_LABELS
    from seamline.evaluation.average_precision import read_ground_truth
    from seamline.evaluation.kinds import primary_kind

    truth = read_ground_truth(split.file)
    kind = primary_kind(measured.kinds)
    record = most_different(measured.found, first, confidence, sorted(truth.imgs), kind)
    record |= {"file_name": truth.imgs[record["image_id"]]["file_name"], "confidence": confidence}
    write_json(reports / "formats.json", record)
    write_bytes(reports / "formats.jpg", picture_of(record, measured.found, truth, split.images, FORMAT_LABELS))


def write_results(reports: Path, figures: dict[str, Record], measured: Measured, cores: list[int]) -> None:
    """The tables and the chart; prints the table as well."""
    from seamline.charts.benchmark import benchmark_figure
    from seamline.charts.style import save
    from seamline.evaluation.kinds import primary_kind

    write_benchmark(reports, figures, machine_facts(cores), measured.conditions)
    save(benchmark_figure(figures, primary_kind(measured.kinds)), reports / "benchmark.png")
    print(rows_to_table(figures))


if __name__ == "__main__":
    run(main)
