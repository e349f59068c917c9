"""PeopleDetector: where what it finds lies, whose it is, and that it is used as a Detector is."""

from __future__ import annotations

import io
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from bench.threads import CALLS, are_equal, count_differences
from seamline.base.errors import SeamlineError
from seamline.images.budget import PixelBudget
from seamline.images.reading import ImageError, read_image
from seamline.inference.detector import Detector
from seamline.models import yolo
from seamline.models.detections import Crop, Detections
from seamline.params.people import People
from seamline.people.detector import PeopleDetector, open_people
from tests.untrained import Untrained

Image = npt.NDArray[np.uint8]
SKIN, RED, BLUE = (120, 160, 200), (0, 0, 255), (255, 0, 0)
CONFIDENCE = 0.05


class ColourDetector:
    """Finds one rectangle of each colour and place: what a perfect model would, in whatever part it is shown."""

    threads = imgsz = ahead = 2
    max_detections = 100
    confidence, nms_iou, max_pixels = 0.5, 0.7, 10_000_000
    has_masks, precision, device, engine = True, "f32", "cpu", None

    def __init__(self, **colours: tuple[int, int, int]) -> None:
        self.names, self.colours = list(colours), list(colours.values())
        self.budget, self.family = PixelBudget(), yolo
        self.shown: list[tuple[int, int]] = []  # sizes of what it was shown
        self._pool = ThreadPoolExecutor(2)

    def detect(self, image: Image, confidence: float | None = None) -> Detections:
        self.shown.append(image.shape[:2])
        ones: list[tuple[int, Crop]] = []
        for number, colour in enumerate(self.colours):
            mask = (image == colour).all(axis=2).astype(np.uint8)
            count, _, stats, _ = cv2.connectedComponentsWithStats(mask)
            for part in range(1, count):
                left, top, width, height = stats[part, :4].tolist()
                ones.append((number, Crop(np.ones((height, width), np.uint8), left, top)))
        boxes = [
            (crop.left, crop.top, crop.left + crop.mask.shape[1], crop.top + crop.mask.shape[0]) for _, crop in ones
        ]
        return Detections(
            boxes=np.array(boxes, np.float32).reshape(-1, 4),
            scores=np.full(len(ones), 0.9, np.float32),
            classes=np.array([number for number, _ in ones], np.int64),
            shapes=[crop for _, crop in ones],
            height=image.shape[0],
            width=image.shape[1],
        )

    detect_beside = detect

    def submit(self, image: Image, confidence: float | None = None) -> Future[Detections]:
        return self._pool.submit(self.detect, image.copy(), confidence)

    def close(self) -> None:
        self._pool.shutdown()


def drawn(height: int, width: int, *parts: tuple[tuple[int, int, int], int, int, int, int]) -> Image:
    """Rectangles of colour at x1, y1, x2, y2, one over the other."""
    image = np.zeros((height, width, 3), np.uint8)
    for colour, x1, y1, x2, y2 in parts:
        image[y1:y2, x1:x2] = colour
    return image


def two_people() -> Image:
    """Two who wear red above blue, and a red one that hangs beside them."""
    return drawn(
        100, 300,
        (SKIN, 20, 10, 60, 95), (RED, 25, 30, 55, 50), (BLUE, 25, 55, 55, 80),
        (SKIN, 120, 5, 180, 95), (RED, 130, 20, 170, 50),
        (RED, 250, 20, 290, 60),
    )  # fmt: skip


def colour_detector(settings: People | None = None) -> tuple[PeopleDetector, Any, Any]:
    garments, people = ColourDetector(red=RED, blue=BLUE), ColourDetector(Person=SKIN)
    as_detectors: Any = garments, people
    first, second = as_detectors
    return PeopleDetector(first, second, Path("people.onnx"), settings or People()), garments, people


def as_rows(found: Detections, names: list[str]) -> set[tuple[Any, ...]]:
    assert found.persons is not None
    return {
        (names[int(number)], *box.astype(int).tolist(), found.persons.owner(index))
        for index, (number, box) in enumerate(zip(found.classes, found.boxes, strict=True))
    }


def test_garments_lie_where_they_are_in_the_photo_and_belong_to_who_wears_them() -> None:
    """The first person is the larger one."""
    detector, garments, people = colour_detector()
    with detector:
        found = detector.detect(two_people())
        assert as_rows(found, detector.names) == {
            ("red", 25, 30, 55, 50, 1), ("blue", 25, 55, 55, 80, 1), ("red", 130, 20, 170, 50, 0),
            ("red", 250, 20, 290, 60, None),
        }  # fmt: skip
        assert found.persons is not None
        assert found.persons.boxes.tolist() == [[120, 5, 180, 95], [20, 10, 60, 95]]
        for index in range(len(found)):
            x1, y1, x2, y2 = found.boxes[index].astype(int)
            expected = np.zeros((100, 300), np.uint8)
            expected[y1:y2, x1:x2] = 1
            np.testing.assert_array_equal(found.mask(index), expected)
        assert people.shown == [(100, 300)]
        # The whole photo, and boxes of 60 x 90 and 40 x 85 with a tenth of that on each side, inside the photo.
        assert sorted(garments.shown) == sorted([(100, 300), (100, 72), (99, 48)])


def test_people_beyond_the_limit_are_named_but_not_cut_out() -> None:
    detector, garments, _ = colour_detector(People(most=1))
    with detector:
        found = detector.detect(two_people())
        assert len(garments.shown) == 2
        assert ("red", 25, 30, 55, 50, 1) in as_rows(found, detector.names)


def test_a_crowds_garments_are_more_than_the_models_limit_for_one_photo() -> None:
    """An R-CNN finds 30 at most in a part, and forty people wear more."""
    parts = []
    for number in range(40):
        left, top = 50 * (number % 10), 60 * (number // 10)
        parts += [(SKIN, left, top, left + 30, top + 50), (RED, left + 5, top + 10, left + 25, top + 40)]
    image = drawn(240, 500, *parts)
    detector, garments, _ = colour_detector(People(most=3))
    garments.max_detections = 30
    with PeopleDetector(garments, detector.people, Path("people.onnx"), People(most=3)) as crowd:
        found = crowd.detect(image)
        assert found.persons is not None
        assert len(found.persons.boxes) == len(found) == 40
        assert sorted(found.persons.owner(index) or 0 for index in range(40)) == [*range(40)]
        assert crowd.max_detections == 100
    garments.max_detections = 120
    assert PeopleDetector(garments, detector.people, Path("people.onnx"), People()).max_detections == 120


def test_a_person_who_fills_the_photo_is_not_cut_out_of_it() -> None:
    """What is cut out would be 80 pixels high, and is worth it from 1.25 times as much on."""
    detector, garments, _ = colour_detector(People(margin=0))
    person = ((SKIN, 10, 0, 50, 80), (RED, 20, 20, 40, 50))
    with detector:
        for height, parts in ((99, 1), (100, 2)):
            garments.shown.clear()
            found = detector.detect(drawn(height, 60, *person))
            assert as_rows(found, detector.names) == {("red", 20, 20, 40, 50, 0)}
            assert len(garments.shown) == parts


def test_without_people_only_the_whole_photo_is_looked_at() -> None:
    detector, garments, _ = colour_detector()
    with detector:
        found = detector.detect(drawn(80, 40, (RED, 10, 20, 30, 50)))
        assert as_rows(found, detector.names) == {("red", 10, 20, 30, 50, None)}
        assert garments.shown == [(80, 40)]


def opened(untrained: Untrained, name: str = "openvino", **settings: Any) -> Any:
    """Whatever an untrained model takes for trousers stands for people."""
    model = untrained.models()[name]
    return open_people(Detector(model, CONFIDENCE), model, People(person_class="Trousers", confidence=0.2, **settings))


@pytest.mark.parametrize("name", ["onnx", "openvino"])
def test_from_many_threads_each_result_is_what_it_is_alone(untrained: Untrained, name: str) -> None:
    photos = untrained.images()[:8]
    with opened(untrained, name, most=3) as detector:
        alone = [detector.detect(photo) for photo in photos]
        assert sum(len(found.persons.boxes) for found in alone) > 8
        assert {owner for found in alone for owner in found.persons.of_instances.tolist()} >= {0, 1}
        for kinds in (["submit"], ["detect_beside"], list(CALLS)):
            assert count_differences(detector, kinds, photos[:3], 8, 24) == {"calls": 24, "different": 0}
        [again] = detector.detect_all(photos[:1])
        np.testing.assert_array_equal(again.persons.of_instances, alone[0].persons.of_instances)


def test_any_source_is_taken_and_may_change_once_it_has_been_handed_over(untrained: Untrained) -> None:
    pixels = read_image(untrained.images()[0])
    data = cv2.imencode(".png", pixels)[1].tobytes()
    with opened(untrained) as detector:
        expected = detector.detect(pixels)
        for source in (data, bytearray(data), io.BytesIO(data), pixels.copy()):
            assert are_equal(detector.detect(source), expected)
            source = io.BytesIO(data) if isinstance(source, io.BytesIO) else source
            future = detector.submit(source)
            if isinstance(source, np.ndarray):
                source[:] = 0
            assert are_equal(future.result(), expected)


def test_a_bad_image_is_an_error_in_its_place(untrained: Untrained, tmp_path: Path) -> None:
    photo, missing = untrained.images()[0], tmp_path / "missing.jpg"
    wrong = np.zeros((3, 3), np.float32)
    with opened(untrained) as detector:
        found = list(detector.detect_all([photo, missing, wrong, photo]))
        assert [isinstance(one, ImageError) for one in found] == [False, True, True, False]
        assert str(found[1]) == f"{missing}: there is no such file."
        assert str(found[2]).startswith("image 3: is an array of float32")
        with pytest.raises(ImageError, match=r"missing\.jpg: there is no such file"):
            detector.submit(missing).result()
        with pytest.raises(ImageError, match="image: is an array"):
            detector.submit(wrong).result()


def test_photos_that_fill_the_budget_go_one_by_one(untrained: Untrained) -> None:
    """A photo's pixels stay until all of its parts have been looked at; photos that wait do not hold those up."""
    photos = untrained.images()[:3]
    most = max(image.shape[0] * image.shape[1] for image in map(read_image, photos))
    model = untrained.models()["openvino"]
    garments = Detector(model, CONFIDENCE, pixels_under_way=most)
    with open_people(garments, model, People(person_class="trousers", confidence=0.2)) as detector:
        expected = [detector.detect(photo) for photo in photos]
        for found, own in zip(detector.detect_all(photos * 2), expected * 2, strict=True):
            assert are_equal(found, own)


def test_after_close_it_is_refused_and_its_threads_are_gone(untrained: Untrained) -> None:
    before = threading.active_count()
    detector = opened(untrained)
    list(detector.detect_all(untrained.images()[:3]))
    detector.close()
    assert threading.active_count() <= before
    for ask in (detector.detect, detector.submit, lambda photo: detector.detect_all([photo])):
        with pytest.raises(SeamlineError, match="the detector is closed"):
            ask(untrained.images()[0])


def test_a_model_without_people_is_refused(untrained: Untrained) -> None:
    model = untrained.models()["openvino"]
    with Detector(model) as garments, pytest.raises(SeamlineError, match=f"{model}: the model has no class 'person'"):
        open_people(garments, model, People())
