from __future__ import annotations

from pathlib import Path

from seamline.base.files import read_json
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
