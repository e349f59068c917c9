from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from seamline.base.files import read_json, write_json
from seamline.report.summary import machine_lines, reports_to_lines
from tests.conftest import REPORTS

HERE = {"name": "A B", "instructions": ["avx2"]}


def test_the_figures_are_those_of_the_reports(tmp_path: Path) -> None:
    lines = reports_to_lines(REPORTS, tmp_path, 0.01, HERE)
    assert lines[0].startswith("\nFigures of an earlier run")
    (tmp_path / "best.pt").touch()
    assert reports_to_lines(REPORTS, tmp_path / "best.pt", 0.01, HERE)[0].startswith("\naccuracy")
    test = read_json(REPORTS / "metrics.json")["test"]
    [line] = [line for line in lines if line.startswith("test ")]
    expected = [test[kind][key] for kind in ("mask", "box") for key in ("mAP50_95", "mAP50")]
    assert line.split()[1:] == [f"{value:.3f}" for value in expected]
    for name, row in read_json(REPORTS / "benchmark.json").items():
        [line] = [line for line in lines if line.startswith(f"{name} ")]
        assert line.split()[1] == f"{row['throughput_img_s']:.1f}"
        assert line.split()[-1] == f"{row['mask_mAP50_95']:.3f}"


def test_a_model_that_finds_boxes_only_has_their_figures(tmp_path: Path) -> None:
    metrics = read_json(REPORTS / "metrics.json")
    write_json(tmp_path / "metrics.json", {split: {"box": kinds["box"]} for split, kinds in metrics.items()})
    row = {"throughput_img_s": 12.0, "latency_ms": {"p50": 3.0}, "model_mb": 4.0, "box_mAP50_95": 0.5}
    row |= {"box_mAP50_95_delta": 0.0, "precision": "f32", "device": "cpu", "int8_gate": None, "steady": True}
    write_json(tmp_path / "benchmark.json", {"pytorch": row | {"throughput_rounds_img_s": [12.0] * 6}})
    write_json(tmp_path / "environment.json", {"processor": "A B", "instructions": ["avx2"], "cores_used": 1})
    write_json(tmp_path / "export.json", {"onnx": {}, "int8_refused": "it lost 0.2.", "int8_not_known": None})
    text = "\n".join(reports_to_lines(tmp_path, tmp_path, 0.01, HERE))
    assert "mask" not in text
    lines = [line.split() for line in text.splitlines()]
    for split in ("val", "test"):
        figures = [f"{metrics[split]['box'][key]:.3f}" for key in ("mAP50_95", "mAP50")]
        assert [line[1:] for line in lines if line[:1] == [split]] == [figures]
    assert "(test, files to boxes)" in text
    assert ["pytorch", "12.0", "3.0", "4.0", "0.500"] in lines
    assert "\nno INT8: it lost 0.2.\n" in text
    assert "models/export/{onnx}" in text
    assert "\nmeasured on A B, 1 core\nrecommended: seamline predict models/train/best.pt photos\n" in text


@pytest.mark.parametrize(
    ("here", "other"),
    [
        (HERE, False),
        (HERE | {"name": "Apple M4", "instructions": None}, True),
        (HERE | {"instructions": ["avx2", "avx512f"]}, True),  # virtual machines call many kinds by one name
    ],
)
def test_speeds_of_another_processor_are_said_to_be(here: dict[str, Any], other: bool) -> None:
    environment = {"processor": "A B", "instructions": ["avx2"], "cores_used": 2}
    first, *rest = machine_lines(environment, here)
    assert first.startswith("measured on A B, 2 cores")
    assert (f"another kind of processor than here ({here['name']})" in first) == other
    assert rest == (["to measure here: dvc repro --single-item --force benchmark"] if other else [])
