from __future__ import annotations

from pathlib import Path

from seamline.base.files import read_json, write_json
from seamline.report.summary import reports_to_lines
from tests.conftest import REPORTS


def test_the_figures_are_those_of_the_reports(tmp_path: Path) -> None:
    lines = reports_to_lines(REPORTS, tmp_path)
    assert lines[0].startswith("\nFigures of an earlier run")
    (tmp_path / "best.pt").touch()
    assert reports_to_lines(REPORTS, tmp_path / "best.pt")[0].startswith("\naccuracy")
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
    write_json(tmp_path / "benchmark.json", {"pytorch": row})
    write_json(tmp_path / "export.json", {"onnx": {}, "int8_refused": "it lost 0.2.", "int8_not_known": None})
    text = "\n".join(reports_to_lines(tmp_path, tmp_path))
    assert "mask" not in text
    lines = [line.split() for line in text.splitlines()]
    for split in ("val", "test"):
        figures = [f"{metrics[split]['box'][key]:.3f}" for key in ("mAP50_95", "mAP50")]
        assert [line[1:] for line in lines if line[:1] == [split]] == [figures]
    assert "(test, files to boxes)" in text
    assert ["pytorch", "12.0", "3.0", "4.0", "0.500"] in lines
    assert "\nno INT8: it lost 0.2.\n" in text
    assert "models/export/{onnx}" in text
