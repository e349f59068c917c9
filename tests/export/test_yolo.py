"""Exports: what the files say, that they are the same every time, and the INT8 gate."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import openvino
import pytest

from seamline.base.coco import Record
from seamline.base.errors import SeamlineError
from seamline.base.files import sha256_of
from seamline.export.yolo import (
    PREPROCESSING,
    RUNGS,
    check_drift,
    evenly_spaced,
    ignored_operations,
    image_files,
    largest_differences,
    matched_share,
    model_paths,
    models_made,
    onnx_to_openvino,
    quantise,
    rungs_until_one_holds,
    timed_models,
    weights_to_onnx,
    why_no_int8,
)
from seamline.masks.rle import mask_to_rle
from seamline.models.engines.engine import Engine, copied
from seamline.models.engines.opening import NO_MODEL, open_engine
from seamline.models.engines.openvino import rt_info
from seamline.models.yolo import canvases_to_tensor
from stages import export
from tests.conftest import PROJECT, TINY
from tests.untrained import (
    IMGSZ,
    NAMES,
    Untrained,
    canvas_of,
    make_untrained,
    metadata_of,
    rounding_of_scores,
    run_stage,
)

FORMATS = {"pytorch": "f32", "onnx": "f32", "openvino": "f32", "openvino_f16": "f32", "openvino_int8": "int8"}
EXACT = ("pytorch", "onnx", "openvino")  # f16 weights are rounded, which random ones make much of


def test_onnx_is_open_to_any_batch_and_says_what_it_is(untrained: Untrained) -> None:
    model = onnx.load(untrained.models()["onnx"])
    shapes = {
        value.name: [dimension.dim_param or dimension.dim_value for dimension in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }
    assert shapes["images"] == ["batch", 3, IMGSZ, IMGSZ]
    assert shapes["output1"] == ["batch", 32, 24, 24]
    assert shapes["output0"][0] == "batch"
    assert [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")] == [20]
    assert {entry.key: entry.value for entry in model.metadata_props} == {
        "names": json.dumps(NAMES),
        "imgsz": str(IMGSZ),
        "confidence": "0.2",
        "nms_iou": "0.6",
        "max_detections": "50",
        "preprocessing": PREPROCESSING,
        "precision": "f32",
        "weights_sha256": sha256_of(untrained.weights),
        "training_revision": "0123456789abcdef",
        "data_sha256": "d" * 64,
    }


@pytest.mark.parametrize("count", [1, 3])
def test_any_number_of_images_is_a_batch_for_onnx(untrained: Untrained, count: int) -> None:
    session = onnxruntime.InferenceSession(untrained.models()["onnx"], providers=["CPUExecutionProvider"])
    tensor = canvases_to_tensor(np.concatenate([canvas_of(image) for image in untrained.images()[:count]]))
    predictions, prototypes = session.run(None, {"images": tensor})
    assert predictions.shape == (count, 38, 189)
    assert prototypes.shape == (count, 32, 24, 24)
    alone = session.run(None, {"images": tensor[-1:]})
    np.testing.assert_allclose(predictions[-1:], alone[0], atol=1e-3)


def test_openvino_says_the_same(untrained: Untrained) -> None:
    model = openvino.Core().read_model(untrained.models()["openvino"] / "model.xml")
    assert rt_info(model) == {**metadata_of(untrained), "precision": "f32"}
    assert list(model.input().shape) == [1, 3, IMGSZ, IMGSZ]
    weights = [node for node in model.get_ops() if node.get_type_name() == "Constant" and len(node.shape) == 4]
    assert {str(node.get_element_type()) for node in weights} == {"<Type: 'float32'>"}


def test_exporting_again_gives_the_same_bytes_and_leaves_the_weights_alone(
    untrained: Untrained, tmp_path: Path
) -> None:
    metadata = metadata_of(untrained)
    before = sha256_of(untrained.weights)
    weights_to_onnx(untrained.weights, tmp_path / "model.onnx", 20, metadata)
    (tmp_path / "openvino").mkdir()
    onnx_to_openvino(tmp_path / "model.onnx", tmp_path / "openvino", metadata, "f32")
    models = untrained.models()
    assert (tmp_path / "model.onnx").read_bytes() == models["onnx"].read_bytes()
    for name in ("model.xml", "model.bin"):
        assert sha256_of(tmp_path / "openvino" / name) == sha256_of(models["openvino"] / name), name
    assert [file.name for file in untrained.weights.parent.iterdir()] == ["best.pt"]
    assert sha256_of(untrained.weights) == before


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
        shutil.copytree(untrained.yolo / "images", folder / "images")
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


def test_ignored_operations_are_the_decoding_or_the_whole_head() -> None:
    names = [
        "/model.9/conv/Conv",
        "/model.22/cv2.0/cv2.0.2/Conv",
        "/model.22/Concat",
        "/model.22/dfl/Softmax",
        "/model.22/Sigmoid",
        "/model.22/proto/cv1/conv/Conv",
        "output0",
        "output1",
    ]
    decoding = ["/model.22/Concat", "/model.22/dfl/Softmax", "/model.22/Sigmoid", "output0", "output1"]
    assert ignored_operations(names, "full") == decoding
    assert ignored_operations(names, "accuracy control") == decoding
    assert ignored_operations(names, "head in f32") == names[1:]


@pytest.mark.parametrize(
    ("drops", "tried"), [([0.005], ["full"]), ([0.2, 0.01], RUNGS[:2]), ([0.2, 0.1, 0.01], RUNGS), ([-0.1], ["full"])]
)
def test_first_rung_that_holds_is_taken(drops: list[float], tried: list[str]) -> None:
    made: list[str] = []
    rungs = rungs_until_one_holds(made.append, lambda: (0.5 - drops[len(made) - 1], "int8"), 0.5, 0.0101)
    assert made == list(tried) == [rung["rung"] for rung in rungs]
    assert [rung["drop"] for rung in rungs] == pytest.approx(drops)
    assert why_no_int8(rungs, 0.0101) is None


def test_where_no_rung_holds_the_reason_gives_each_drop() -> None:
    values = iter((0.47, 0.48, 0.485))
    rungs = rungs_until_one_holds(lambda rung: None, lambda: (next(values), "int8"), 0.5, 0.01)
    assert len(rungs) == len(RUNGS)
    reason = why_no_int8(rungs, 0.01)
    assert reason is not None
    assert "0.0300 with full, 0.0200 with head in f32, 0.0150 with accuracy control" in reason
    assert "export.int8.max_drop (0.01)" in reason
    assert why_no_int8(rungs, 0.03) is None


def test_a_refused_int8_model_leaves_its_reason_and_the_others_are_measured(
    untrained: Untrained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a gate that nothing passes: no model in its folder, no row in the benchmark, and everybody is told why."""
    tried = [{"rung": rung, "val_mask_mAP50_95": 0.1, "drop": 2.0, "precision": "int8"} for rung in RUNGS]

    def pretend(quantise_to: Callable[[str], None], *rest: object) -> list[Record]:
        quantise_to(RUNGS[-1])
        return tried

    monkeypatch.setattr(export, "quantise", lambda source, out, *rest: (out / "model.xml").write_text("spoiled"))
    monkeypatch.setattr(export, "rungs_until_one_holds", pretend)
    out = tmp_path / "export"
    arguments = (untrained.weights, untrained.split, untrained.yolo)
    run_stage(monkeypatch, export.main, *arguments, out, "--report", tmp_path / "export.json")
    assert [path.name for path in (out / "openvino_int8").iterdir()] == [NO_MODEL]
    report = json.loads((tmp_path / "export.json").read_text())
    assert "2.0000 with full" in report["int8_refused"]
    assert "openvino_int8" not in report
    assert list(models_made(untrained.weights, out)) == ["pytorch", "onnx", "openvino", "openvino_f16"]
    assert list(timed_models(untrained.weights, out)) == ["pytorch", "onnx", "openvino"]
    with pytest.raises(SeamlineError, match=r"openvino_int8: there is no model; INT8 costs more"):
        open_engine(out / "openvino_int8", 1)


def test_drift_in_either_direction_is_an_error() -> None:
    check_drift("onnx", 0.001, 0.002, 1.0, 0.99)
    check_drift("onnx", 0.001, 0.002, None, 0.99)
    for drop in (0.003, -0.003):
        with pytest.raises(SeamlineError, match=r"onnx: .*0\.0030 from PyTorch's, more than export\.max_drift"):
            check_drift("onnx", drop, 0.002, 1.0, 0.99)
    with pytest.raises(SeamlineError, match=r"onnx: finds only 98\.50% of what PyTorch finds .* export\.min_matched"):
        check_drift("onnx", 0.0, 0.002, 0.985, 0.99)


def detection(image_id: int, score: float, side: int, category_id: int = 1) -> Record:
    mask = np.zeros((100, 100), np.uint8)
    mask[:side, :100] = 1
    return {"image_id": image_id, "category_id": category_id, "score": score, "segmentation": mask_to_rle(mask)}


def test_a_detection_is_matched_once_by_one_of_its_class_image_and_shape() -> None:
    reference = [detection(1, 0.9, 50), detection(1, 0.8, 20), detection(2, 0.5, 60), detection(2, 0.2, 30)]
    others = reference[1:]
    assert matched_share(reference, reference) == 1
    assert matched_share([detection(1, 0.1, 48), *others], reference) == 1  # whatever its score
    assert matched_share([detection(1, 0.9, 47), *others], reference) == 2 / 3  # 47 of 50 rows: IoU 0.94
    assert matched_share([detection(2, 0.9, 50), *others], reference) == 2 / 3  # on another image
    assert matched_share([detection(1, 0.9, 50, 2), *others], reference) == 2 / 3  # of another class
    assert matched_share([detection(1, 0.9, 50)], [detection(1, 0.9, 50), detection(1, 0.8, 50)]) == 1 / 2
    assert matched_share([], reference) == 0
    assert matched_share([*reference, detection(3, 0.9, 0)], [*reference, detection(3, 0.9, 0)]) == 1  # without a pixel
    assert matched_share(reference, [detection(1, 0.2, 50)]) is None


def test_largest_differences_count_boxes_of_detections_only() -> None:
    reference = np.zeros((1, 6, 3), np.float32), np.zeros((1, 2, 2, 2), np.float32)
    reference[0][0, 4, 0] = 0.9
    ours = reference[0].copy(), reference[1] - 0.5
    ours[0][0, 1, :] = [0.2, 70, 80]
    ours[0][0, 5, 2] = 0.1
    assert largest_differences([ours], [reference], 2) == {
        "max_abs_score_difference": 0.1,
        "max_abs_box_difference_px": 0.2,
        "max_abs_prototype_difference": 0.5,
    }


@pytest.mark.parametrize(("count", "expected"), [(None, [0, 1, 2, 3, 4]), (9, [0, 1, 2, 3, 4]), (2, [0, 2]), (1, [0])])
def test_evenly_spaced(count: int | None, expected: list[int]) -> None:
    assert evenly_spaced(range(5), count) == expected


@pytest.mark.slow
def test_stage_makes_four_models_that_agree_and_a_report_without_dates(
    untrained: Untrained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out, report = tmp_path / "export", tmp_path / "export.json"
    run_stage(monkeypatch, export.main, untrained.weights, untrained.split, untrained.yolo, out, "--report", report)
    assert len(capsys.readouterr().out.splitlines()) == 5
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
    val = image_files(untrained.split / "val.json", untrained.yolo / "images")
    rounding = max(rounding_of_scores(untrained.weights, val))
    for name, precision in FORMATS.items():
        assert values[name]["precision"] == precision
        assert values[name]["max_abs_score_difference"] < (max(1e-3, 3 * rounding) if name in EXACT else 1)
    assert all(values[name]["matched"] >= 0.99 for name in EXACT)
    assert values["openvino_f16"]["model_mb"] < 0.6 * values["openvino"]["model_mb"]
    assert values["openvino_int8"]["model_mb"] < values["openvino"]["model_mb"] / 2
    weights = openvino.Core().read_model(out / "openvino_f16" / "model.xml")
    assert "<Type: 'float16'>" in {
        str(node.get_element_type()) for node in weights.get_ops() if node.get_type_name() == "Constant"
    }
    assert rt_info(openvino.Core().read_model(out / "openvino_int8" / "model.xml"))["int8"] == "full"


def test_quantising_again_gives_the_same_bytes(tiny: Untrained, tmp_path: Path) -> None:
    images = evenly_spaced(image_files(tiny.split / "train.json", tiny.yolo / "images"), 4)
    for name in ("first", "again"):
        (tmp_path / name).mkdir()
        quantise(tiny.exported / "openvino", tmp_path / name, images, "full", 1.0, lambda engine: 0.0, [])
    for name in ("model.xml", "model.bin"):
        assert sha256_of(tmp_path / "first" / name) == sha256_of(tmp_path / "again" / name), name


def test_a_model_that_drifts_is_not_left_behind(
    untrained: Untrained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(name: str, *rest: object) -> None:
        if name == "onnx":
            raise SeamlineError(f"{name}: drifts")

    monkeypatch.setattr(export, "check_drift", refuse)
    report = tmp_path / "export.json"
    with pytest.raises(SeamlineError, match="onnx: drifts"):
        run_stage(
            monkeypatch, export.main, untrained.weights, untrained.split, untrained.yolo, tmp_path, "--report", report
        )
    assert list(tmp_path.iterdir()) == []


# Operations whose activations are quantised with scales a hundred times too small, so that nothing is left of them.
SPOILED = {
    "full": r"nothing",
    "head in f32": r"/model\.3/proto/cv1/",
    "accuracy control": r"/model\.1/",
    "none": r"/model\.1/",
}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Untrained:
    return make_untrained(tmp_path_factory.mktemp("tiny"), TINY)


@pytest.mark.slow
@pytest.mark.parametrize("expected", SPOILED)
def test_spoiled_quantisation_is_seen_and_the_next_rung_taken(
    tiny: Untrained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, expected: str
) -> None:
    """NNCF's own quantisation of a real model with the scales of some layers spoiled, wherever NNCF quantises.

    How near prototypes are to those of f32 stands for average precision, which random weights have none of.
    """
    from nncf.openvino.quantization import quantize_model

    original = quantize_model.quantize_impl

    def spoiling(*arguments: Any, **options: Any) -> Any:
        model = original(*arguments, **options)
        for node in model.get_ops():
            if node.get_type_name() == "FakeQuantize" and re.search(SPOILED[expected], node.get_friendly_name()):
                for port in (3, 4):  # what the lowest and the highest level mean
                    values = node.input_value(port).get_node().get_data() / 100
                    node.input(port).replace_source_output(openvino.opset13.constant(values).output(0))
        return model

    monkeypatch.setattr(quantize_model, "quantize_impl", spoiling)
    images = tiny.images()[:6]
    source, out = tiny.models()["openvino"], tmp_path / "int8"
    out.mkdir()
    reference = open_engine(source, 1)
    exact = [reference.infer(canvas_of(image), copied)[1] for image in images]

    def likeness(engine: Engine) -> float:
        found = [engine.infer(canvas_of(image), copied)[1] for image in images]
        return float(np.corrcoef(np.ravel(found), np.ravel(exact))[0, 1])

    def measure() -> tuple[float, str]:
        engine = open_engine(out, 1)
        return likeness(engine), engine.precision

    max_drop = -1.0 if expected == "none" else 0.05
    rungs = rungs_until_one_holds(
        lambda rung: quantise(source, out, images, rung, max_drop, likeness, images), measure, 1.0, max_drop
    )
    names = list(RUNGS) if expected == "none" else list(RUNGS[: RUNGS.index(expected) + 1])
    assert [rung["rung"] for rung in rungs] == names
    for rung in rungs if expected == "none" else rungs[:-1]:
        assert rung["drop"] > max_drop
    refused = why_no_int8(rungs, max_drop)
    assert (refused is not None) == (expected == "none")
    if expected == "none":
        assert "which left nothing INT8" in str(refused)  # accuracy control puts everything back, and that is no INT8
    else:
        assert rungs[-1]["precision"] == "int8"
        assert rt_info(openvino.Core().read_model(out / "model.xml"))["int8"] == expected


def test_everything_put_back_is_not_an_int8_model() -> None:
    rungs = rungs_until_one_holds(
        lambda rung: None, iter([(0.1, "int8"), (0.1, "int8"), (0.5, "f32")]).__next__, 0.5, 0.01
    )
    assert str(why_no_int8(rungs, 0.01)).count("which left nothing INT8") == 1
