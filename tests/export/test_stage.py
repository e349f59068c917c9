"""The export stage: four models that agree, or none in their place."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import onnx
import openvino
import pytest

from seamline.base.coco import Record, images_of_split
from seamline.base.errors import SeamlineError
from seamline.base.files import sha256_of
from seamline.benchmark.rows import timed_models
from seamline.export import comparison
from seamline.export.gates import Drifted
from seamline.export.int8 import RUNGS, SAID, quantise
from seamline.export.openvino import onnx_to_openvino
from seamline.export.yolo import weights_to_onnx
from seamline.models.engines.opening import NO_MODEL, open_engine
from seamline.models.engines.openvino import rt_info
from seamline.models.exported import int8_gate, model_paths, models_made
from stages import export
from tests.conftest import PROJECT, TINY
from tests.untrained import (
    Untrained,
    make_untrained,
    metadata_of,
    rounding_of_scores,
    run_stage,
)

FORMATS = {"pytorch": "f32", "onnx": "f32", "openvino": "f32", "openvino_f16": "f32", "openvino_int8": "int8"}


EXACT = ("pytorch", "onnx", "openvino")  # f16 weights are rounded, which random ones make much of


@pytest.mark.slow
@pytest.mark.parametrize("name", ["untrained", pytest.param("yolov9t", marks=pytest.mark.thorough)])
def test_stage_makes_four_models_that_agree_and_a_report_without_dates(
    name: str,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    untrained: Untrained = request.getfixturevalue(name)
    out, report = tmp_path / "export", tmp_path / "export.json"
    run_stage(
        monkeypatch, export.main, untrained.weights, untrained.split, untrained.images_folder, out, "--report", report
    )
    assert len(capsys.readouterr().out.splitlines()) == 6
    assert sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()) == [
        "onnx/model.onnx",
        "openvino/model.bin",
        "openvino/model.xml",
        "openvino_f16/model.bin",
        "openvino_f16/model.xml",
        "openvino_int8/model.bin",
        "openvino_int8/model.xml",
    ]
    values = json.loads(report.read_text())
    assert values["weights_sha256"] == sha256_of(untrained.weights)
    assert values["calibration_images"] == 4
    assert [rung["rung"] for rung in values["int8_rungs"]] == ["full"]
    assert values["int8_refused"] is None
    assert values["int8_outcome"] == values["openvino_int8"]["outcome"] == "not known"  # six photos say nothing
    assert values["int8_gate"] == {"on": "val", "images": 6, "groups": 6, "left_out": 0}
    assert "on 6 photos of val it costs" in values["int8_not_known"]
    val = images_of_split(untrained.split / "val.json", untrained.images_folder)
    rounding = max(rounding_of_scores(untrained.weights, val))
    for model, precision in FORMATS.items():
        assert values[model]["precision"] == precision
        assert values[model]["max_abs_score_difference"] < (max(1e-3, 3 * rounding) if model in EXACT else 1)
    assert all(values[model]["matched"] >= 0.99 for model in EXACT)
    weights_bytes = {folder: (out / folder / "model.bin").stat().st_size for folder in FORMATS if "openvino" in folder}
    assert weights_bytes["openvino_f16"] < 0.6 * weights_bytes["openvino"]
    assert weights_bytes["openvino_int8"] < weights_bytes["openvino"] / 2
    assert values["openvino_int8"]["model_mb"] < values["openvino"]["model_mb"]
    weights = openvino.Core().read_model(out / "openvino_f16" / "model.xml")
    assert "<Type: 'float16'>" in {
        str(node.get_element_type()) for node in weights.get_ops() if node.get_type_name() == "Constant"
    }
    said = rt_info(openvino.Core().read_model(out / "openvino_int8" / "model.xml"))
    assert (said["int8"], said["int8_gate"]) == ("full", "not known")
    assert int8_gate(out / "openvino_int8") == "not known"
    assert int8_gate(out / "openvino") is None


def test_a_refused_int8_model_leaves_its_reason_and_the_others_are_measured(
    untrained: Untrained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a gate that nothing passes: no model in its folder, no row in the benchmark, and everybody is told why."""
    tried = [{"rung": rung, "val_mask_mAP50_95": 0.1, "drop": 2.0, "precision": "int8", "outcome": "refused",
              "said": SAID[rung], "gate_drop": 2.0, "gate_interval": [1.5, 2.5]} for rung in RUNGS]  # fmt: skip

    def pretend(quantise_to: Callable[[str], None], *rest: object) -> list[Record]:
        quantise_to(RUNGS[-1])
        return tried

    monkeypatch.setattr(export, "quantise", lambda source, out, *rest: (out / "model.xml").write_text("spoiled"))
    monkeypatch.setattr(export, "rungs_until_one_holds", pretend)
    out = tmp_path / "export"
    arguments = (untrained.weights, untrained.split, untrained.images_folder)
    run_stage(monkeypatch, export.main, *arguments, out, "--report", tmp_path / "export.json")
    assert [path.name for path in (out / "openvino_int8").iterdir()] == [NO_MODEL]
    report = json.loads((tmp_path / "export.json").read_text())
    assert "2.0000 (1.5000 to 2.5000) with all layers quantised" in report["int8_refused"]
    assert "openvino_int8" not in report
    assert list(models_made(untrained.weights, out)) == ["pytorch", "onnx", "openvino", "openvino_f16"]
    assert list(timed_models(untrained.weights, out)) == ["pytorch", "onnx", "openvino"]
    with pytest.raises(SeamlineError, match=r"openvino_int8: there is no model; INT8 costs more"):
        open_engine(out / "openvino_int8", 1)


def test_a_model_that_drifts_is_not_left_behind(
    untrained: Untrained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(name: str, *rest: object) -> None:
        if name == "onnx":
            raise SeamlineError(f"{name}: drifts")

    monkeypatch.setattr(comparison, "check_drift", refuse)
    report = tmp_path / "export.json"
    with pytest.raises(SeamlineError, match="onnx: drifts"):
        run_stage(
            monkeypatch,
            export.main,
            untrained.weights,
            untrained.split,
            untrained.images_folder,
            tmp_path,
            "--report",
            report,
        )
    assert list(tmp_path.iterdir()) == []


def test_where_f16_is_too_coarse_the_reason_takes_its_place(
    untrained: Untrained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(name: str, *rest: object) -> None:
        if name == "openvino_f16":
            raise Drifted(f"{name}: drifts")

    monkeypatch.setattr(comparison, "check_drift", refuse)
    out, report = tmp_path / "export", tmp_path / "export.json"
    arguments = (untrained.weights, untrained.split, untrained.images_folder)
    monkeypatch.setattr(export, "make_int8", lambda *rest: {})
    run_stage(monkeypatch, export.main, *arguments, out, "--report", report)
    assert (out / "openvino_f16" / NO_MODEL).read_text() == "openvino_f16: drifts\n"
    assert len(list((out / "openvino_f16").iterdir())) == 1
    said = json.loads(report.read_text())
    assert said["f16_refused"] == "openvino_f16: drifts"
    assert "openvino_f16" not in said
    assert {"onnx", "openvino"} <= set(said)


@pytest.mark.slow
def test_no_export_depends_on_where_it_was_made(tmp_path: Path) -> None:
    """The same weights in two folders of other names and depths give the same bytes, which name neither."""
    untrained = make_untrained(tmp_path / "untrained", TINY)
    folders = tmp_path / "a", tmp_path / "longer name" / "and [deeper]" / "b"
    made: list[dict[str, bytes]] = []
    for folder in folders:
        weights = folder / "models" / "best.pt"
        weights.parent.mkdir(parents=True)
        shutil.copy(untrained.weights, weights)
        shutil.copytree(untrained.images_folder, folder / "images")
        images = sorted((folder / "images").iterdir())[:2]
        paths = model_paths(weights, folder / "models" / "export")
        metadata = metadata_of(untrained)
        for path in (paths["onnx"].parent, *(paths[name] for name in FORMATS if name.startswith("openvino"))):
            path.mkdir(parents=True)
        weights_to_onnx(weights, paths["onnx"], 20, metadata)
        for name, precision in (("openvino", "f32"), ("openvino_f16", "f16")):
            onnx_to_openvino(paths["onnx"], paths[name], metadata, precision)
        quantise(paths["openvino"], paths["openvino_int8"], images, "full", 1.0, lambda _: 1.0, images)
        exported = folder / "models" / "export"
        made.append({str(path.relative_to(exported)): path.read_bytes() for path in exported.rglob("model.*")})
    assert len(made[0]) == 7
    for name, content in made[0].items():
        assert made[1][name] == content, name
        for place in (tmp_path, PROJECT, Path(onnx.__file__).parents[1]):
            assert str(place).encode() not in content, name
