"""The benchmark: its figures, and that engines which hang, die or refuse are named and leave nothing behind."""

from __future__ import annotations

import functools
import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from seamline.benchmarking import (
    EngineProcess,
    Pass,
    engine_processes,
    machine_facts,
    passes_to_figures,
    peak_rss_mb,
    rows_to_table,
    timed_pass,
    usable_core_ids,
)
from seamline.errors import SeamlineError
from seamline.runtime.predictor import Predictor
from stages import benchmark
from tests.untrained import Untrained, run_stage

CORES = usable_core_ids(1)


# Called in an engine's process, so they have to be importable there.


def no_predictor() -> None:
    return None


def refuse() -> Predictor:
    raise SeamlineError("model.onnx: is broken.")


def hang(predictor: object) -> None:
    time.sleep(60)


def die(predictor: object) -> None:
    os._exit(3)


def process_id(predictor: object) -> int:
    return os.getpid()


def environment_of(predictor: object) -> tuple[int, str, str]:
    import cv2

    return cv2.getNumThreads(), os.environ["OMP_NUM_THREADS"], os.environ["OPENBLAS_NUM_THREADS"]


def heavy_modules(predictor: object) -> set[str]:
    return {"torch", "ultralytics", "onnxruntime", "openvino", "nncf", "matplotlib"} & set(sys.modules)


def still_runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def started(opener: Callable[[], object] = no_predictor, timeout_s: float = 60) -> EngineProcess:
    return EngineProcess("onnx", opener, CORES, timeout_s)  # type: ignore[arg-type]


def test_figures_are_percentiles_of_all_passes() -> None:
    passes = [
        Pass(wall_s=0.5, latencies_ms=[float(value) for value in range(1, 51)], parts_ms=[(1, 2, 3)] * 50),
        Pass(wall_s=1.0, latencies_ms=[float(value) for value in range(51, 101)], parts_ms=[(3, 4, 5)] * 50),
        Pass(wall_s=2.0, latencies_ms=[50.5] * 50, parts_ms=[(2, 3, 4)] * 50),
    ]
    figures = passes_to_figures(passes)
    assert figures["latency_ms"] == {"p50": 50.5, "p90": 85.1, "p99": 98.51}
    assert figures["throughput_img_s"] == 50
    assert figures["throughput_spread"] == 1.2  # 10th and 90th percentile of 25, 50, 100 are 30 and 90
    assert (figures["preprocess_ms"], figures["inference_ms"], figures["postprocess_ms"]) == (2, 3, 4)
    assert (figures["images"], figures["repeats"]) == (50, 3)


def test_more_threads_than_cores_is_refused() -> None:
    with pytest.raises(SeamlineError, match=r"benchmark\.threads: 9999 is more than the \d+ cores"):
        usable_core_ids(9999)


def test_processes_are_set_up_alike_and_end_with_the_block() -> None:
    before = dict(os.environ)
    with engine_processes() as processes:
        processes.append(started())
        pid = processes[0].ask(process_id)
        assert processes[0].ask(environment_of) == (1, "1", "1")
        assert still_runs(pid)
        start = time.monotonic()
    assert time.monotonic() - start < 1.9, "it had to be killed"
    assert not still_runs(pid)
    assert dict(os.environ) == before


def test_a_hanging_engine_is_stopped_at_its_limit() -> None:
    with engine_processes() as processes:
        processes.append(started())
        pid = processes[0].ask(process_id)
        processes[0].left_s = 0.5
        with pytest.raises(SeamlineError, match=r"^onnx: took longer than benchmark\.timeout_s \(60 s\) .*; raise"):
            processes[0].ask(hang)
    assert not still_runs(pid)


def test_an_engine_that_dies_is_named_with_its_exit_code() -> None:
    with engine_processes() as processes:
        processes.append(started())
        pid = processes[0].ask(process_id)
        with pytest.raises(SeamlineError, match=r"^onnx: its process ended by itself, exit code 3"):
            processes[0].ask(die)
        with pytest.raises(SeamlineError, match=r"^onnx: its process ended by itself"):
            processes[0].ask(process_id)
    assert not still_runs(pid)


def test_an_engine_that_refuses_gives_its_reason() -> None:
    with engine_processes() as processes:
        processes.append(started(refuse))
        with pytest.raises(SeamlineError, match=r"^onnx: model\.onnx: is broken\."):
            processes[0].ask(process_id)


def test_an_engine_whose_parent_is_gone_ends() -> None:
    process = started()
    pid = process.ask(process_id)
    process.connection.close()  # what the kernel does when the parent is killed
    process.process.join(5)
    assert not still_runs(pid)


def test_an_engines_process_holds_its_own_engine_only(untrained: Untrained) -> None:
    models = untrained.models()
    for name, expected in {"onnx": {"onnxruntime"}, "openvino": {"openvino"}}.items():
        with engine_processes() as processes:
            process = EngineProcess(name, functools.partial(Predictor, models[name], 0.05, threads=1), CORES, 60)
            processes.append(process)
            one = process.ask(timed_pass, untrained.images()[:2])
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
            untrained.yolo,
            "--reports",
            tmp_path / "reports",
        )
    assert not (tmp_path / "reports").exists()


def test_machine_facts_tell_nothing_private() -> None:
    facts = machine_facts([0, 1])
    assert facts["cores_used"] == 2
    assert facts["libraries"]["numpy"]
    assert os.uname().nodename not in json.dumps(facts)
    assert str(Path.home()) not in json.dumps(facts)


@pytest.mark.slow
def test_stage_writes_the_contracts_keys(
    untrained: Untrained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    exported = tmp_path / "export"
    shutil.copytree(untrained.exported, exported)
    # f32 twice: INT8 is the export's test, and takes long to make.
    shutil.copytree(exported / "openvino", exported / "openvino_int8")
    reports = tmp_path / "reports"
    arguments = (untrained.weights, exported, untrained.split, untrained.yolo, "--reports", reports)
    run_stage(monkeypatch, benchmark.main, *arguments)
    rows = json.loads((reports / "benchmark.json").read_text())
    assert list(rows) == ["pytorch", "onnx", "openvino", "openvino_int8"]
    for row in rows.values():
        assert row["precision"] == "f32"
        assert (row["threads"], row["batch"], row["images"], row["repeats"]) == (len(usable_core_ids(None)), 1, 3, 2)
        assert 0 < row["latency_ms"]["p50"] <= row["latency_ms"]["p90"] <= row["latency_ms"]["p99"]
        for key in ("throughput_img_s", "model_mb", "peak_rss_mb", "preprocess_ms", "inference_ms", "postprocess_ms"):
            assert row[key] > 0, key
        assert abs(row["mask_mAP50_95_delta"]) <= 0.05
        assert row.keys() >= {"mask_mAP50_95", "box_mAP50_95", "throughput_spread"}
    assert rows["pytorch"]["mask_mAP50_95_delta"] == 0
    header = (reports / "benchmark.csv").read_text().splitlines()[0]
    assert header == "format,throughput_img_s,mask_mAP50_95"
    assert (reports / "benchmark.png").stat().st_size > 10_000
    assert json.loads((reports / "environment.json").read_text())["cores_used"] == rows["onnx"]["threads"]
    assert capsys.readouterr().out.strip() == rows_to_table(rows)
