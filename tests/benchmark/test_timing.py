"""The benchmark: its figures, its rows, and that all of them get the same images in turns."""

from __future__ import annotations

import functools
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seamline.base.errors import SeamlineError
from seamline.benchmark.engine_process import EngineProcess, engine_processes
from seamline.benchmark.machine import instructions, usable_core_ids
from seamline.benchmark.tables import rows_to_table
from seamline.benchmark.timing import (
    PROFILES,
    Profile,
    Row,
    Turn,
    WarmUp,
    Way,
    best_way,
    enough,
    images_a_turn,
    interval_of_another_run,
    latency_turn,
    not_comparable,
    peak_rss_mb,
    profile_of,
    rows_to_measure,
    take_turns,
    turn_images,
    turns_to_latency,
    turns_to_pace,
    turns_to_throughput,
    warm_up,
    ways_to_try,
)
from seamline.images.reading import read_image
from seamline.inference.detector import Detector
from seamline.models.engines.opening import NO_MODEL
from seamline.params.benchmark import Benchmark
from seamline.params.loader import load_params
from stages import benchmark
from tests.conftest import PARAMS
from tests.untrained import Untrained, run_stage

FORMATS = ("pytorch", "onnx", "openvino", "openvino_int8")
CORES = usable_core_ids(1)
PATHS = [Path(f"{number}.jpg") for number in range(5)]


def heavy_modules(detector: object) -> set[str]:
    return {"torch", "ultralytics", "onnxruntime", "openvino", "nncf", "matplotlib"} & set(sys.modules)


def test_latencies_are_percentiles_of_all_rounds() -> None:
    turns = [
        Turn(0.5, 50, [float(value) for value in range(1, 51)], [(1, 2, 3)] * 50),
        Turn(1.0, 50, [float(value) for value in range(51, 101)], [(3, 4, 5)] * 50),
        Turn(2.0, 50, [50.5] * 50, [(2, 3, 4)] * 50),
    ]
    figures = turns_to_latency(turns)
    assert figures["latency_ms"] == {"p50": 50.5, "p90": 85.1, "p99": 98.51}
    assert (figures["preprocess_ms"], figures["inference_ms"], figures["postprocess_ms"]) == (2, 3, 4)
    assert figures["queries"] == 150


def test_throughput_is_the_median_rounds() -> None:
    figures = turns_to_throughput([Turn(0.5, 50), Turn(1.0, 50), Turn(2.0, 50)])
    assert figures["throughput_img_s"] == 50
    assert figures["throughput_spread"] == 1.2  # 10th and 90th percentile of 25, 50, 100 are 30 and 90
    assert (figures["rounds"], figures["images_timed"]) == (3, 150)


def drifting(random: np.random.Generator, kept: float) -> list[float]:
    """Rounds on a machine that keeps this share of its pace from one to the next, as shared ones do."""
    pace = random.normal(0, 2 / (1 - kept**2) ** 0.5)
    values = []
    for _ in range(PROFILES["quick"].rounds):
        pace = kept * pace + random.normal(0, 2)
        values.append(1000 + pace + random.normal(0, 2))
    return values


@pytest.mark.parametrize(("kept", "holds", "plainly"), [(0, 0.97, 0.9), (0.8, 0.9, 0.55), (0.95, 0.65, 0.35)])
def test_an_interval_holds_the_median_of_another_run(kept: float, holds: float, plainly: float) -> None:
    """How often, as docs/benchmark.md says, and how much less often the usual interval of a median does."""
    random = np.random.default_rng(0)
    inside = plain = 0
    for _ in range(300):
        values, other = drifting(random, kept), float(np.median(drifting(random, kept)))
        low, high = interval_of_another_run(values)
        assert low <= float(np.median(values)) <= high
        inside += low <= other <= high
        draws = np.median(random.choice(values, (200, len(values))), axis=1)
        plain += bool(np.percentile(draws, 2.5) <= other <= np.percentile(draws, 97.5))
    assert inside / 300 > holds
    assert plain / 300 < plainly


def test_an_interval_of_one_round_is_its_value_and_of_equal_ones_a_point() -> None:
    assert interval_of_another_run([3.0]) == [3.0, 3.0]
    assert interval_of_another_run([5.0] * 12) == [5.0, 5.0]
    assert interval_of_another_run([1.0, 100.0])[0] == 0.0  # no image takes less than no time


def test_the_pace_is_what_all_rows_share() -> None:
    slow = {"a": [Turn(1, 10), Turn(2, 10), Turn(1, 10)], "b": [Turn(3, 10), Turn(6, 10), Turn(3, 10)]}
    assert turns_to_pace((slow,)) == [1, 2, 1]
    alone = {"a": [Turn(1, 10), Turn(9, 10), Turn(1, 10)], "b": [Turn(3, 10)] * 3, "c": [Turn(5, 10)] * 3}
    assert turns_to_pace((alone,)) == [1, 1, 1]
    assert turns_to_pace((alone, alone)) == [1, 1, 1]
    assert turns_to_pace((alone, slow, slow)) == [1, 2, 1]


def test_rows_are_the_models_and_what_the_machine_adds() -> None:
    models = {name: Path(name) for name in ("pytorch", "onnx", "openvino", "openvino_int8")}
    assert [row.name for row in rows_to_measure(models, ["avx2"], [])] == list(models)
    rows = rows_to_measure(models, ["avx2", "amx_bf16"], ["pytorch", "onnx"])
    assert [row.name for row in rows] == [
        "pytorch", "onnx", "openvino", "openvino_bf16", "openvino_int8", "pytorch_cuda", "onnx_cuda"
    ]  # fmt: skip
    assert {row.name: row.path for row in rows}["openvino_bf16"] == Path("openvino")
    assert [row.precision for row in rows if row.precision != "f32"] == ["bf16"]
    assert [row.name for row in rows if row.device == "cuda"] == ["pytorch_cuda", "onnx_cuda"]
    assert [row.name for row in rows_to_measure(models, [], ["pytorch"])][4:] == ["pytorch_cuda"]


def test_ways_to_run_a_row() -> None:
    row = Row("onnx", Path("model.onnx"))
    assert ways_to_try(row, 1) == [Way(1)]
    assert ways_to_try(row, 2) == [Way(1), Way(2)]
    assert ways_to_try(row, 16) == [Way(1), Way(8), Way(16)]
    assert ways_to_try(row._replace(device="cuda"), 16) == [Way(1, 1), Way(1, 16)]


def test_profiles_say_how_much_is_enough() -> None:
    quick = profile_of(load_params(PARAMS)[Benchmark])
    assert quick == PROFILES["quick"]
    rounds = {"a": [Turn(0.1, 10)] * 16, "b": [Turn(0.1, 10)] * 16}
    assert enough(rounds, quick)
    assert not enough(rounds | {"b": [Turn(0.1, 10)] * 15}, quick)
    full = PROFILES["full"]
    assert (full.images, full.seconds) == (1024, 60)
    assert not enough({"a": [Turn(0.1, 10)] * 102}, full)  # 1,020 images in ten seconds
    assert enough({"a": [Turn(0.1, 10)] * 103}, full)
    assert enough({"a": [Turn(2.1, 10)] * 30}, full)  # 300 images in 63 s


def test_rounds_go_on_where_the_one_before_ended() -> None:
    assert turn_images(PATHS, 0, 3) == PATHS[:3]
    assert turn_images(PATHS, 1, 3) == [PATHS[3], PATHS[4], PATHS[0]]
    assert turn_images(PATHS, 0, 7) == [*PATHS, *PATHS[:2]]
    assert images_a_turn(20, 0.4) == 20
    assert images_a_turn(500, 0.4) == 8


class Recorded:
    """Stands in for a process: writes down what it is asked."""

    def __init__(self, name: str, log: list[tuple[str, str, list[Path]]]) -> None:
        self.name, self.log = name, log

    def ask(self, function: Callable[..., Any], images: list[Path]) -> Turn:
        self.log.append((self.name, function.__name__, images))
        return Turn(1.0, len(images), [1.0] * len(images), [(1, 1, 1)] * len(images))


def test_rows_take_turns_over_the_same_images_and_another_is_first_each_time() -> None:
    log: list[tuple[str, str, list[Path]]] = []
    processes: Any = [Recorded(name, log) for name in "abc"]
    latency, throughput = take_turns(processes, PATHS, 2, Profile(3, 1, 0, 0, 0, 60))
    assert [name for name, kind, _ in log if kind == "latency_turn"] == list("abcbcacab")
    for kind, count in (("latency_turn", 2), ("throughput_turn", 4)):
        seen = {name: [images for one, asked, images in log if (one, asked) == (name, kind)] for name in "abc"}
        assert seen["a"] == seen["b"] == seen["c"]
        assert all(len(images) == count for images in seen["a"])
    assert {name: len(turns) for name, turns in (latency | throughput).items()} == {"a": 3, "b": 3, "c": 3}


def test_the_way_with_most_images_a_second_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    walls = {1: [3.0, 3.0, 1.0], 2: [2.0, 2.0, 9.0]}

    class Timed:
        def __init__(self, way: Way) -> None:
            self.left = list(walls[way.streams])

        def ask(self, function: Callable[..., Any], images: list[Path]) -> Turn:
            return Turn(self.left.pop(0), 1)

        def stop(self) -> None: ...

    opened: Any = Timed
    assert best_way([Way(1), Way(2)], opened, PATHS) == Way(2)
    assert best_way([Way(1)], opened, PATHS) == Way(1)


def test_what_cannot_be_compared_is_marked_with_the_reason() -> None:
    row = {"device": "cpu", "precision": "f32", "threads": 2, "imgsz": 160}
    assert not_comparable(row, row, stable=True) is None
    assert not_comparable(row | {"precision": "bf16"}, row, stable=True) == "computes in bf16"
    assert not_comparable(row | {"device": "cuda"}, row, stable=True) == "runs on cuda"
    assert not_comparable(row | {"threads": 1}, row, True) == "has 1 threads and an input of 160 px"
    assert not_comparable(row, row, stable=False) == "had not become steady when the warm-up ended"


class Timed:
    """Stands in for a detector: takes as long as it is told, in s."""

    def __init__(self, seconds: list[float], clock: list[float]) -> None:
        self.seconds, self.clock = seconds, clock

    def detect(self, image: Path) -> None:
        self.clock[0] += self.seconds.pop(0) if len(self.seconds) > 1 else self.seconds[0]


@pytest.mark.parametrize(
    ("seconds", "limit_s", "expected"),
    [
        ([0.01], 100, WarmUp(16, True, 10)),
        ([1.0] * 8 + [0.5] * 8 + [0.01], 100, WarmUp(32, True, 10)),
        ([2.0 ** -(number // 8) for number in range(80)], 11, WarmUp(16, False, 500)),
    ],
)
def test_a_warm_up_ends_when_nothing_gets_faster_any_more(
    seconds: list[float], limit_s: float, expected: WarmUp, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: clock[0])
    detector: Any = Timed(list(seconds), clock)
    found = warm_up(detector, PATHS, limit_s)
    assert found._replace(latency_ms=round(found.latency_ms)) == expected


def test_an_engines_process_holds_its_own_engine_only(untrained: Untrained) -> None:
    models = untrained.models()
    for name, expected in {"onnx": {"onnxruntime"}, "openvino": {"openvino"}}.items():
        with engine_processes() as processes:
            process = EngineProcess(name, functools.partial(Detector, models[name], 0.05, threads=1), CORES, 60)
            processes.append(process)
            one = process.ask(latency_turn, untrained.images()[:2])
            assert len(one.latencies_ms) == 2
            assert sum(one.latencies_ms) == pytest.approx(1000 * one.wall_s, rel=0.2)
            assert sum(map(sum, one.parts_ms)) == pytest.approx(sum(one.latencies_ms), rel=0.2)
            assert process.ask(heavy_modules) == expected
            assert 50 < process.ask(peak_rss_mb) < 500, "it counts what this process, which holds torch, takes"


def test_a_missing_model_is_named_before_anything_starts(
    untrained: Untrained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SeamlineError, match=r"^onnx: .*model\.onnx is missing; dvc repro makes it"):
        run_stage(
            monkeypatch,
            benchmark.main,
            untrained.weights,
            tmp_path,
            untrained.split,
            untrained.images_folder,
            tmp_path / "reports",
        )
    assert not (tmp_path / "reports").exists()


def precision_of(name: str) -> str:
    return "bf16" if name == "openvino_bf16" else "f32"  # the INT8 of this test is f32 once more


@pytest.mark.slow
def test_stage_writes_the_contracts_keys(
    untrained: Untrained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    exported = tmp_path / "export"
    shutil.copytree(untrained.exported, exported)
    # f32 twice: INT8 is the export's test, and takes long to make.
    shutil.copytree(exported / "openvino", exported / "openvino_int8")
    reports = tmp_path / "reports"
    arguments = (untrained.weights, exported, untrained.split, untrained.images_folder, reports)
    run_stage(monkeypatch, benchmark.main, *arguments)
    rows = json.loads((reports / "benchmark.json").read_text())
    expected = [row.name for row in rows_to_measure({name: Path() for name in FORMATS}, instructions(), [])]
    assert list(rows) == expected
    for row in rows.values():
        assert row["threads"] == row["streams"] == row["batch"] == 1
        assert (row["images"], row["rounds"], row["imgsz"]) == (3, 2, 96)
        assert row["queries"] >= 16
        assert row["images_timed"] == 2 * row["queries"]
        assert 0 < row["latency_ms"]["p50"] <= row["latency_ms"]["p90"] <= row["latency_ms"]["p99"]
        low, high = row["latency_p50_interval_ms"]
        assert low <= row["latency_ms"]["p50"] * 1.5
        assert high >= row["latency_ms"]["p50"] / 1.5
        low, high = row["throughput_interval_img_s"]
        assert low <= row["throughput_img_s"] <= high
        for key in ("throughput_img_s", "model_mb", "peak_rss_mb", "preprocess_ms", "inference_ms", "postprocess_ms"):
            assert row[key] > 0, key
        assert abs(row["mask_mAP50_95_delta"]) <= 0.05
        assert row.keys() >= {"mask_mAP50_95", "box_mAP50_95", "throughput_spread"}
    assert {name: row["precision"] for name, row in rows.items()} == {name: precision_of(name) for name in expected}
    assert rows["onnx"]["not_comparable"] in (None, "had not become steady when the warm-up ended")
    if "openvino_bf16" in rows:
        assert rows["openvino_bf16"]["not_comparable"] == "computes in bf16"
    assert rows["pytorch"]["mask_mAP50_95_delta"] == 0
    header = (reports / "benchmark.csv").read_text().splitlines()[0]
    assert header == "format,throughput_img_s,mask_mAP50_95"
    assert (reports / "benchmark.png").stat().st_size > 10_000
    assert json.loads((reports / "environment.json").read_text())["cores_used"] == 1
    conditions = json.loads((reports / "conditions.json").read_text())
    assert conditions.keys() >= {"stolen_share", "other_share", "throttled_share", "pace_spread", "pace_trend"}
    printed = capsys.readouterr().out
    assert printed.startswith(rows_to_table(rows))
    table = (reports / "benchmark.md").read_text()
    for name, row in rows.items():
        assert any(
            line.startswith(f"| {name}") and f"| {row['throughput_img_s']:.1f} |" in line for line in table.splitlines()
        )
    for sentence in conditions["disturbances"]:
        assert sentence in printed
        assert sentence in table
    shown = json.loads((reports / "formats.json").read_text())
    assert set(shown["mean_iou"]) == set(expected) - {"pytorch"}
    assert read_image(reports / "formats.jpg").shape[1] > 3 * 200  # three panels in a row


@pytest.mark.slow
def test_without_torch_onnx_is_the_one_compared_with(
    untrained: Untrained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As in Dockerfile.cpu, where there is no best.pt either."""
    exported, reports = tmp_path / "export", tmp_path / "reports"
    shutil.copytree(untrained.exported, exported)
    (exported / "openvino_int8").mkdir()
    (exported / "openvino_int8" / NO_MODEL).write_text("refused\n")
    monkeypatch.setattr("seamline.benchmark.timing.find_spec", lambda name: None)
    arguments = (tmp_path / "best.pt", exported, untrained.split, untrained.images_folder, reports)
    run_stage(monkeypatch, benchmark.main, *arguments)
    rows = json.loads((reports / "benchmark.json").read_text())
    assert list(rows)[:2] == ["onnx", "openvino"]
    assert "pytorch" not in rows
    assert rows["onnx"]["mask_mAP50_95_delta"] == 0
    assert "pytorch is not measured, as torch is not installed" in capsys.readouterr().out
    assert "delta: to that of onnx" in (reports / "benchmark.md").read_text()
    assert "onnx" not in json.loads((reports / "formats.json").read_text())["mean_iou"]
