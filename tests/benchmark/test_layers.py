"""INT8 beside bf16, layer by layer."""

from __future__ import annotations

import csv
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import openvino
import pytest

from seamline.benchmark import layers
from seamline.benchmark.layers import measure_layers, quickest, records_to_reason, times_to_records, write_layers
from seamline.benchmark.rows import Row
from seamline.models.engines.openvino import LayerTime, OpenVinoEngine, convolution_channels


def time_of(ms: float, channels: int = 16, kernel: str = "amx") -> LayerTime:
    return LayerTime(ms, kernel, channels, 2 * channels)


INT8 = {"narrow": time_of(0.4, 32), "wide": time_of(0.2, 128), "only int8": time_of(9), "even": time_of(0.1, 63)}
BF16 = {"narrow": time_of(0.1, 32), "wide": time_of(0.3, 128), "even": time_of(0.1, 63), "only bf16": time_of(9)}


def test_layers_of_both_are_compared_the_greatest_loss_first() -> None:
    records = times_to_records(INT8, BF16)
    assert [record["layer"] for record in records] == ["narrow", "even", "wide"]
    same = {name: time_of(0.1) for name in ("c", "a", "b")}
    assert [record["layer"] for record in times_to_records(same, same)] == ["a", "b", "c"]
    assert records[0] == {
        "layer": "narrow", "input_channels": 32, "output_channels": 64,
        "int8": "amx", "int8_ms": 0.4, "bf16": "amx", "bf16_ms": 0.1,
    }  # fmt: skip


def test_of_several_rounds_the_quickest_counts() -> None:
    rounds = [{"a": time_of(2), "b": time_of(1)}, {"a": time_of(1), "b": time_of(3)}]
    assert quickest(rounds) == {"a": time_of(1), "b": time_of(1)}


def test_the_reason_says_how_much_is_lost_and_in_which_layers() -> None:
    reason = records_to_reason(times_to_records(INT8, BF16))
    assert reason is not None
    assert "its convolutions take 0.7 ms an image, bf16's 0.5. 1 of 3 are slower in INT8; 100% of what" in reason
    assert "in 1 with fewer than 64 input channels" in reason
    slow = INT8 | {"wide": time_of(0.6, 64)}  # 0.3 lost in either; 64 channels fill a tile
    assert "; 50% of what that costs is in 1 with" in str(records_to_reason(times_to_records(slow, BF16)))


def test_there_is_no_reason_where_int8_is_not_slower() -> None:
    assert records_to_reason(times_to_records({"wide": time_of(0.3)}, {"wide": time_of(0.3)})) is None
    assert records_to_reason([]) is None


def test_the_table_has_a_header_where_there_is_nothing_to_compare(tmp_path: Path) -> None:
    write_layers(tmp_path / "none.csv", [])
    write_layers(tmp_path / "some.csv", times_to_records(INT8, BF16))
    assert (tmp_path / "none.csv").read_text() == "layer,input_channels,output_channels,int8,int8_ms,bf16,bf16_ms\n"
    with (tmp_path / "some.csv").open(newline="") as stream:
        assert [row["int8_ms"] for row in csv.DictReader(stream)] == ["0.4", "0.1", "0.2"]


def test_both_rows_take_turns_and_without_one_nothing_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    class Process:
        def __init__(self, name: str) -> None:
            self.name = name

        def ask(self, function: Any, image: Path) -> dict[str, LayerTime]:
            assert function is layers.layer_times
            asked.append(self.name)
            return {"a": time_of(len(asked) if self.name.endswith("int8") else 10)}

        def stop(self) -> None:
            asked.append("stop")

    def start(row: Row, concurrency: Any) -> Any:
        assert concurrency == (1, 1)
        return Process(row.name)

    rows = [Row(name, Path(name)) for name in ("openvino", "openvino_bf16", "openvino_int8")]
    [record] = measure_layers(rows, start, Path("photo.jpg"))
    assert asked == [*["openvino_bf16", "openvino_int8"] * layers.ROUNDS, "stop", "stop"]
    assert (record["int8_ms"], record["bf16_ms"]) == (2, 10)  # the first round was the quickest
    assert measure_layers(rows[:2], start, Path("photo.jpg")) == []


def convolutions(channels: list[tuple[int, int]]) -> openvino.Model:
    """1 x 1 convolutions one after the other, named c0, c1, ..."""
    ops = openvino.opset13
    image = node = ops.parameter([1, 3, 8, 8], np.float32, name="image")
    for number, (inputs, outputs) in enumerate(channels):
        weights = ops.constant(np.ones((outputs, inputs, 1, 1), np.float32))
        node = ops.convolution(node, weights, [1, 1], [0, 0], [0, 0], [1, 1], name=f"c{number}")
    return openvino.Model([ops.result(node)], [image], "chain")


def test_each_convolution_is_timed_with_its_channels() -> None:
    """The layers that OpenVINO timed itself, by the model's own names."""
    channels = [(3, 16), (16, 64), (64, 5)]
    model = convolutions(channels)
    assert convolution_channels(model) == {f"c{number}": pair for number, pair in enumerate(channels)}
    engine = object.__new__(OpenVinoEngine)
    engine.core, engine.model = openvino.Core(), model
    engine.family = SimpleNamespace(add_openvino_steps=lambda steps: None)
    engine.wanted = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    found = engine.layer_times(np.ones((1, 8, 8, 3), np.uint8), 2)
    assert {name: (layer.input_channels, layer.output_channels) for name, layer in found.items()} == {
        f"c{number}": pair for number, pair in enumerate(channels)
    }
    assert all(layer.ms > 0 and layer.kernel.endswith("f32") for layer in found.values())
