"""Predictor: a model file and images in, instances out, the same way for every format."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

from seamline.parallel import usable_cores
from seamline.runtime.engines import open_engine
from seamline.runtime.images import Image, image_to_tensor, read_image
from seamline.runtime.instances import Instances, outputs_to_instances


class Predictor:
    """Opens best.pt, an ONNX file or an OpenVINO folder; the model file itself says classes and input size.

    Attributes:
        names: class names by index.
        precision: what the engine computes in, read back from it.
        timings_ms: what the last image took, as (preprocess, inference, postprocess).
    """

    def __init__(
        self,
        path: Path,
        confidence: float = 0.25,
        nms_iou: float = 0.7,
        max_detections: int = 100,
        threads: int | None = None,
    ) -> None:
        self.engine = open_engine(path, threads or usable_cores())
        self.names, self.imgsz, self.precision = self.engine.names, self.engine.imgsz, self.engine.precision
        self.confidence, self.nms_iou, self.max_detections = confidence, nms_iou, max_detections
        self.timings_ms = (0.0, 0.0, 0.0)

    def predict(self, source: Path | bytes | Image) -> Instances:
        """Instances in one image.

        Raises:
            SeamlineError: when the image cannot be read.
        """
        start = time.perf_counter()
        tensor, letterbox = image_to_tensor(read_image(source), self.imgsz)
        preprocessed = time.perf_counter()
        predictions, prototypes = self.engine.infer(tensor)
        inferred = time.perf_counter()
        instances = outputs_to_instances(
            predictions[0],
            prototypes[0],
            letterbox,
            self.imgsz,
            len(self.names),
            self.confidence,
            self.nms_iou,
            self.max_detections,
        )
        done = time.perf_counter()
        self.timings_ms = tuple(  # type: ignore[assignment]
            1000 * (end - begin) for begin, end in ((start, preprocessed), (preprocessed, inferred), (inferred, done))
        )
        return instances

    def predict_all(self, sources: Iterable[Path | bytes | Image]) -> Iterable[Instances]:
        return (self.predict(source) for source in sources)
