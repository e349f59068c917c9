"""PeopleDetector: a detector of garments that looks for people first, and is used as a Detector is.

Example:
    detector = open_people(Detector("models/export/openvino"), Path("person.onnx"), People())
    found = detector.detect(Path("photo.jpg"))
    found.persons.boxes, found.persons.owner(0)
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np

from seamline.images.budget import PixelBudget
from seamline.images.cutouts import Place
from seamline.images.reading import Image, ImageError, Source, is_unchanging, read_image, read_within_budget
from seamline.inference.detector import Detector, in_order
from seamline.inference.lifetime import Lifetime
from seamline.models.detections import Detections
from seamline.params.people import People
from seamline.people.cutouts import boxes_to_cutouts, most_prominent_first, person_class
from seamline.people.merging import NOBODY, merge

MOST_GARMENTS = 100  # in a photo, as evaluate.max_detections has it by default, or more where the garments' has


class PeopleDetector:
    """Finds people, then garments in the part of the photo around each of them and in the whole photo.

    It has what its callers use of a Detector. Each photo is looked at by itself, on a GPU too, so that what is found is
    the same alone and beside others. A photo's pixels are held, within a budget as large as the garments', until all of
    its parts have been looked at. Both detectors are closed with it.
    """

    def __init__(self, garments: Detector, people: Detector, people_model: Path, settings: People) -> None:
        """
        Args:
            people: its confidence says which people count.
            people_model: where that lies, to be named.

        Raises:
            SeamlineError: when the people's model has no class that is people.
        """
        self.garments, self.people, self.people_model = garments, people, people_model
        self.person_class = person_class(people.names, settings.person_class, str(people_model))
        self.settings = settings
        self.names, self.imgsz, self.has_masks = garments.names, garments.imgsz, garments.has_masks
        self.confidence, self.nms_iou = garments.confidence, garments.nms_iou
        # A network that finds few in each part has not found too many in all of them.
        self.max_detections, self.max_pixels = max(garments.max_detections, MOST_GARMENTS), garments.max_pixels
        self.engine, self.family, self.threads = garments.engine, garments.family, garments.threads
        # Not the garments' own: its queue would hold up the parts of a photo behind photos that wait for its pixels.
        self.budget = PixelBudget(garments.budget.limit)
        self.precision, self.device, self.ahead, self.batch = garments.precision, garments.device, garments.ahead, 1
        self._pool = ThreadPoolExecutor(self.ahead, thread_name_prefix="people")
        self._lifetime = Lifetime("detector")

    def detect(self, source: Source, confidence: float | None = None) -> Detections:
        """What is found in one image, as soon as can be; as Detector.detect."""
        self._lifetime.check()
        return self._detect(source, "image", confidence, alone=True)

    def detect_beside(self, source: Source, confidence: float | None = None) -> Detections:
        """What is found in one image, in the caller's thread, beside others; as Detector.detect_beside."""
        self._lifetime.check()
        return self._detect(source, "image", confidence)

    def detect_all(self, sources: Iterable[Source]) -> Iterator[Detections | ImageError]:
        """What is found in each image, in their order, several at once; as Detector.detect_all."""
        self._lifetime.check()

        def detect_or_error(source: Source | ImageError, name: str) -> Detections | ImageError:
            try:
                return source if isinstance(source, ImageError) else self._detect(source, name)
            except ImageError as error:
                return error

        def begin(numbered: tuple[int, Source]) -> Future[Detections | ImageError]:
            name = f"image {numbered[0]}"
            return self._lifetime.later(
                self._pool, functools.partial(detect_or_error, self._kept(numbered[1], name), name)
            )

        return in_order(begin, enumerate(sources, 1), self.ahead)

    def submit(self, source: Source, confidence: float | None = None) -> Future[Detections]:
        """What is found in one image, later; as Detector.submit."""
        self._lifetime.check()
        waiting = self._kept(source, "image")

        def detect_or_raise() -> Detections:
            if isinstance(waiting, ImageError):
                raise waiting
            return self._detect(waiting, "image", confidence)

        return self._lifetime.later(self._pool, detect_or_raise)

    def close(self) -> None:
        """Wait for what is under way; what is asked after that is refused."""
        if self._lifetime.end():
            self._pool.shutdown()
        self.people.close()
        self.garments.close()

    def __enter__(self) -> PeopleDetector:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _kept(self, source: Source, name: str) -> Source | ImageError:
        """A source as it may wait, its owner doing with it what he likes."""
        try:
            return source if is_unchanging(source) else read_image(source, name, self.max_pixels).copy()
        except ImageError as error:
            return error

    def _detect(self, source: Source, name: str, confidence: float | None = None, alone: bool = False) -> Detections:
        limit = self.confidence if confidence is None else confidence
        return read_within_budget(
            source, name, self.max_pixels, self.budget, lambda image: self._look(image, limit, alone)
        )

    def _look(self, image: Image, confidence: float, alone: bool) -> Detections:
        """
        Args:
            alone: whether every thread may work on one part; else they go through the streams beside others.
        """
        height, width = image.shape[:2]
        seen = self.people.detect(image) if alone else self.people.detect_beside(image)
        people = most_prominent_first(seen, self.person_class)
        around = boxes_to_cutouts(people.boxes, self.settings.margin, self.settings.most, height, width)
        found = self._found(image, {NOBODY: Place(0, 0, width, height), **around}, confidence, alone)
        merged = merge(found, people, self.settings.merge_iou, self.max_detections)
        spent = np.sum([one.timings_ms for one in (seen, *found.values())], axis=0)
        return merged.with_timings(*spent.tolist())

    def _found(self, image: Image, parts: Mapping[int, Place], confidence: float, alone: bool) -> dict[int, Detections]:
        """What is found in each part, in the photo's pixels, by whose part it is."""
        if alone and len(parts) == 1:
            return {person: self.garments.detect(image, confidence) for person in parts}
        begun = {person: self.garments.submit(part.of(image), confidence) for person, part in parts.items()}
        height, width = image.shape[:2]
        return {
            person: future.result().inside(parts[person].left, parts[person].top, height, width)
            for person, future in begun.items()
        }


AnyDetector = Detector | PeopleDetector


def open_people(garments: Detector, model: Path, settings: People, device: str = "cpu") -> PeopleDetector:
    """A detector of people before one of garments; `device` is where the people's model is computed.

    Raises:
        SeamlineError: when the model cannot be opened, or has no class that is people.
    """
    people = Detector(
        model, settings.confidence, threads=garments.threads, device=device, max_pixels=garments.max_pixels
    )
    return PeopleDetector(garments, people, model, settings)
