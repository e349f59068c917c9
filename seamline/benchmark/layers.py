"""INT8 beside bf16, layer by layer: where a processor with bf16 instructions gains by INT8, and where it loses.

A tile that AMX multiplies holds 64 input channels in INT8 and 32 in bf16. Convolutions with fewer do not fill it, and
INT8's sums have to be scaled and rounded besides: there it takes longer than bf16, whatever the quantiser does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from seamline.base.coco import Record
from seamline.base.files import write_csv
from seamline.benchmark.engine_process import EngineProcess, engine_processes
from seamline.benchmark.rows import Concurrency, Row
from seamline.images.reading import read_image
from seamline.inference.detector import Detector
from seamline.models.engines.openvino import LayerTime

INT8, BF16 = "openvino_int8", "openvino_bf16"
ROUNDS, REPEATS = 4, 20  # in which the two take turns; inferences in each
NARROW = 64  # input channels: fewer do not fill a tile of INT8
COLUMNS = ("layer", "input_channels", "output_channels", "int8", "int8_ms", "bf16", "bf16_ms")


def layer_times(detector: Detector, image: Path) -> dict[str, LayerTime]:
    """For EngineProcess.ask: of an OpenVINO model, the time of each convolution."""
    engine: Any = detector.engine
    canvas, _ = detector.family.image_to_canvas(read_image(image), engine.facts)
    times: dict[str, LayerTime] = engine.layer_times(canvas[None], REPEATS)
    return times


def measure_layers(
    rows: Sequence[Row], start: Callable[[Row, Concurrency], EngineProcess], image: Path
) -> list[Record]:
    """INT8's convolutions beside bf16's, one image at a time, in turns; nothing where there are not both rows.

    Returns:
        See times_to_records.
    """
    chosen = {row.name: row for row in rows if row.name in (INT8, BF16)}
    if len(chosen) < 2:
        return []
    found: dict[str, list[dict[str, LayerTime]]] = {INT8: [], BF16: []}
    with engine_processes() as processes:
        for row in chosen.values():
            processes.append(start(row, Concurrency()))
        for _ in range(ROUNDS):
            for process in processes:
                found[process.name].append(process.ask(layer_times, image))
    return times_to_records(quickest(found[INT8]), quickest(found[BF16]))


def quickest(rounds: Sequence[Mapping[str, LayerTime]]) -> dict[str, LayerTime]:
    """Of each layer the round in which it was least disturbed."""
    return {name: min((one[name] for one in rounds), key=lambda layer: layer.ms) for name in rounds[0]}


def times_to_records(int8: Mapping[str, LayerTime], bf16: Mapping[str, LayerTime]) -> list[Record]:
    """The layers that both models have, by COLUMNS; those first in which INT8 loses most."""
    records = [
        {
            "layer": name,
            "input_channels": one.input_channels,
            "output_channels": one.output_channels,
            "int8": one.kernel,
            "int8_ms": round(one.ms, 4),
            "bf16": bf16[name].kernel,
            "bf16_ms": round(bf16[name].ms, 4),
        }
        for name, one in int8.items()
        if name in bf16
    ]
    return sorted(records, key=lambda record: (record["bf16_ms"] - record["int8_ms"], record["layer"]))


def records_to_reason(records: Sequence[Record]) -> str | None:
    """Why INT8 is slower than bf16, in a sentence; None where its convolutions take no longer in all."""
    int8_ms, bf16_ms = (sum(record[key] for record in records) for key in ("int8_ms", "bf16_ms"))
    if int8_ms <= bf16_ms:
        return None
    slower = [record for record in records if record["int8_ms"] > record["bf16_ms"]]
    narrow = [record for record in slower if record["input_channels"] < NARROW]
    lost, by_narrow = (sum(one["int8_ms"] - one["bf16_ms"] for one in some) for some in (slower, narrow))
    return (
        f"INT8 is slower than bf16 on this processor: its convolutions take {int8_ms:.1f} ms an image, bf16's "
        f"{bf16_ms:.1f}. {len(slower)} of {len(records)} are slower in INT8; {by_narrow / lost:.0%} of what that costs "
        f"is in {len(narrow)} with fewer than {NARROW} input channels, which do not fill INT8's tiles "
        "(reports/benchmark_layers.csv)."
    )


def write_layers(path: Path, records: Sequence[Record]) -> None:
    """A table; only the header where there is nothing to compare."""
    write_csv(path, COLUMNS, [[record[column] for column in COLUMNS] for record in records])
