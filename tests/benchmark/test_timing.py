"""The benchmark: all rows take turns over the same images, and the stage writes what others read."""

from __future__ import annotations

import functools
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from seamline.base.errors import SeamlineError
from seamline.base.processors import instructions
from seamline.benchmark.engine_process import EngineProcess, engine_processes
from seamline.benchmark.machine import usable_core_ids
from seamline.benchmark.rows import Concurrency, rows_to_measure
from seamline.benchmark.tables import rows_to_table
from seamline.benchmark.timing import (
    PROFILES,
    Measurement,
    Profile,
    WarmUp,
    fastest_concurrency,
    images_of_round,
    images_per_round,
    is_enough,
    measure_latency,
    measure_rounds,
    peak_rss_mb,
    profile_of,
    warm_up,
)
from seamline.images.reading import read_image
from seamline.inference.detector import Detector
from seamline.models.engines.opening import NO_MODEL
from seamline.params.benchmark import Benchmark
from seamline.params.loading.loader import load_params
from stages import benchmark
from tests.conftest import PARAMS
from tests.untrained import Untrained, run_stage

FORMATS = ("pytorch", "onnx", "openvino", "openvino_int8")
CORES = usable_core_ids(1)
PATHS = [Path(f"{number}.jpg") for number in range(5)]


def heavy_modules(detector: object) -> set[str]:
    return {"torch", "ultralytics", "onnxruntime", "openvino", "nncf", "matplotlib"} & set(sys.modules)


def test_profiles_say_how_much_is_enough() -> None:
    quick = profile_of(load_params(PARAMS)[Benchmark])
    assert quick == PROFILES["quick"]
    rounds = {"a": [Measurement(0.1, 10)] * 16, "b": [Measurement(0.1, 10)] * 16}
    assert is_enough(rounds, quick)
    assert not is_enough(rounds | {"b": [Measurement(0.1, 10)] * 15}, quick)
    full = PROFILES["full"]
    assert (full.images, full.seconds) == (1024, 60)
    assert not is_enough({"a": [Measurement(0.1, 10)] * 102}, full)  # 1,020 images in ten seconds
    assert is_enough({"a": [Measurement(0.1, 10)] * 103}, full)
    assert is_enough({"a": [Measurement(2.1, 10)] * 30}, full)  # 300 images in 63 s


def test_a_round_starts_where_the_one_before_ended() -> None:
    assert images_of_round(PATHS, 0, 3) == PATHS[:3]
    assert images_of_round(PATHS, 1, 3) == [PATHS[3], PATHS[4], PATHS[0]]
    assert images_of_round(PATHS, 0, 7) == [*PATHS, *PATHS[:2]]
    assert images_per_round(20, 0.4) == 20
    assert images_per_round(500, 0.4) == 8


class Recorded:
    """Stands in for a process: writes down what it is asked."""

    def __init__(self, name: str, log: list[tuple[str, str, list[Path]]]) -> None:
        self.name, self.log = name, log

    def ask(self, function: Callable[..., Any], images: list[Path]) -> Measurement:
        self.log.append((self.name, function.__name__, images))
        return Measurement(1.0, len(images), [1.0] * len(images), [(1, 1, 1)] * len(images))


def test_rows_take_turns_over_the_same_images_and_another_is_first_each_time() -> None:
    log: list[tuple[str, str, list[Path]]] = []
    processes: Any = [Recorded(name, log) for name in "abc"]
    latency, throughput = measure_rounds(processes, PATHS, 2, Profile(3, 1, 0, 0, 0, 60))
    assert [name for name, kind, _ in log if kind == "measure_latency"] == list("abcbcacab")
    for kind, count in (("measure_latency", 2), ("measure_throughput", 4)):
        seen = {name: [images for one, asked, images in log if (one, asked) == (name, kind)] for name in "abc"}
        assert seen["a"] == seen["b"] == seen["c"]
        assert all(len(images) == count for images in seen["a"])
    assert {name: len(turns) for name, turns in (latency | throughput).items()} == {"a": 3, "b": 3, "c": 3}


def test_the_concurrency_with_most_images_per_second_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    walls = {1: [3.0, 3.0, 1.0], 2: [2.0, 2.0, 9.0]}

    class Timed:
        def __init__(self, concurrency: Concurrency) -> None:
            self.left = list(walls[concurrency.streams])

        def ask(self, function: Callable[..., Any], images: list[Path]) -> Measurement:
            return Measurement(self.left.pop(0), 1)

        def stop(self) -> None: ...

    opened: Any = Timed
    assert fastest_concurrency([Concurrency(1), Concurrency(2)], opened, PATHS) == Concurrency(2)
    assert fastest_concurrency([Concurrency(1)], opened, PATHS) == Concurrency(1)


class Timed:
    """Stands in for a detector: takes as long as the list says, in s."""

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
            found = [process.ask(measure_latency, untrained.images()[:2]) for _ in range(12)]
            for one in found:
                assert len(one.latencies_ms) == 2
                assert sum(map(sum, one.parts_ms)) <= sum(one.latencies_ms) <= 1000 * one.wall_s
            # Between two readings of the clock a busy machine does something else: the best of a dozen.
            assert min(1000 * one.wall_s / sum(one.latencies_ms) for one in found) < 1.2
            assert min(sum(one.latencies_ms) / sum(map(sum, one.parts_ms)) for one in found) < 1.2
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
        assert row["latency_p50_interval_ms"] is row["throughput_interval_img_s"] is None  # of two rounds
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
    monkeypatch.setattr("seamline.benchmark.rows.find_spec", lambda name: None)
    arguments = (tmp_path / "best.pt", exported, untrained.split, untrained.images_folder, reports)
    run_stage(monkeypatch, benchmark.main, *arguments)
    rows = json.loads((reports / "benchmark.json").read_text())
    assert list(rows)[:2] == ["onnx", "openvino"]
    assert "pytorch" not in rows
    assert rows["onnx"]["mask_mAP50_95_delta"] == 0
    assert "pytorch is not measured, as torch is not installed" in capsys.readouterr().out
    assert "delta: to that of onnx" in (reports / "benchmark.md").read_text()
    assert "onnx" not in json.loads((reports / "formats.json").read_text())["mean_iou"]
