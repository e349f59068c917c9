"""What a model file says of itself, and what of it is believed."""

from __future__ import annotations

from pathlib import Path

import pytest

from seamline.base.errors import SeamlineError
from seamline.inference.detector import Detector
from seamline.models.model_facts import ModelFacts, facts_to_metadata, metadata_to_facts
from tests.untrained import IMGSZ, NAMES, Untrained


def test_a_detector_asks_nothing_that_the_model_file_does_not_say(untrained: Untrained) -> None:
    for name in ("onnx", "openvino"):
        detector = Detector(untrained.models()[name])
        assert (detector.names, detector.imgsz) == (NAMES, IMGSZ)
        assert (detector.confidence, detector.nms_iou, detector.max_detections) == (0.2, 0.6, 50)
    assert Detector(untrained.models()["onnx"], 0.0).confidence == 0.0


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"names": '["dress", "\\u001b]0;owned\\u0007"]'}, r"the class '\\x1b\]0;owned\\x07' has a control character"),
        ({"imgsz": "1000000"}, r"says that its input has 1000000 px a side; it has to be 1 to 8192"),
        ({"imgsz": "0"}, r"says that its input has 0 px a side"),
    ],
)
def test_what_a_model_file_says_of_itself_is_not_believed_blindly(
    untrained: Untrained, tmp_path: Path, changed: dict[str, str], message: str
) -> None:
    import onnx

    model = onnx.load(untrained.models()["onnx"])
    for entry in model.metadata_props:
        entry.value = changed.get(entry.key, entry.value)
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(SeamlineError, match=message):
        Detector(tmp_path / "model.onnx")


@pytest.mark.parametrize("masks", [True, False])
def test_facts_are_stored_as_text_and_read_as_they_were(masks: bool) -> None:
    facts = ModelFacts(["robe d\u2019\u00e9t\u00e9", "\u4e0a\u8863"], 96, 0.15, 0.65, 7, "tiny", masks)
    metadata = facts_to_metadata(facts)
    assert metadata == {
        "names": '["robe d\u2019\u00e9t\u00e9", "\u4e0a\u8863"]',
        "imgsz": "96",
        "confidence": "0.15",
        "nms_iou": "0.65",
        "max_detections": "7",
        "family": "tiny",
        "masks": "true" if masks else "false",
    }
    assert metadata_to_facts(metadata, Path("model")) == facts


def test_a_model_file_from_before_there_were_families_is_of_yolo_with_masks() -> None:
    metadata = {"names": '["top"]', "imgsz": "96", "confidence": "0.1", "nms_iou": "0.6", "max_detections": "5"}
    assert metadata_to_facts(metadata, Path("model")) == ModelFacts(["top"], 96, 0.1, 0.6, 5, "yolo", masks=True)


@pytest.mark.parametrize("changed", [{"names": "7"}, {"imgsz": "large"}])
def test_metadata_that_are_no_facts_are_one_sentence(changed: dict[str, str]) -> None:
    metadata = {"names": '["top"]', "imgsz": "96", "confidence": "0.1", "nms_iou": "0.6", "max_detections": "5"}
    with pytest.raises(SeamlineError, match=r"^model: has no Seamline metadata \(names, imgsz"):
        metadata_to_facts(metadata | changed, Path("model"))


@pytest.mark.parametrize("value", ["yes", "False", "1", ""])
def test_metadata_that_are_neither_true_nor_false_are_named(value: str) -> None:
    metadata = facts_to_metadata(ModelFacts(["top"], 96)) | {"masks": value}
    with pytest.raises(SeamlineError, match=rf"^model: says of itself masks: '{value}'; it has to be true or false"):
        metadata_to_facts(metadata, Path("model"))
