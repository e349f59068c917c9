"""What people write first: FastAPI around ultralytics' YOLO of the exported model, or around our Detector with a lock.

Example: PYTHONPATH=.seamline/serving-peers python -m bench.serving_fastapi ultralytics MODEL 0.25 --port 8001
"""

from __future__ import annotations

import argparse
import threading
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI, UploadFile
from PIL import Image

from seamline.base.process import quiet_environment
from seamline.inference.threads import limit_other_threads

PATH = "/v1/predict"


def open_ultralytics(model: Path) -> Any:
    """A folder as bench.runtime.as_theirs makes it."""
    from ultralytics import YOLO

    return YOLO(str(model), task="segment")


def found_to_json(results: Any) -> list[dict[str, Any]]:
    """Of ultralytics' results of one photo."""
    [found] = results
    outlines = [] if found.masks is None else found.masks.xy
    rows = zip(found.boxes.cls, found.boxes.conf, found.boxes.xyxy, outlines, strict=True)
    return [
        {"name": found.names[int(kind)], "score": float(score), "box": box.tolist(), "mask": outline.tolist()}
        for kind, score, box, outline in rows
    ]


def around_ultralytics(model: Path, confidence: float) -> FastAPI:
    yolo = open_ultralytics(model)
    app = FastAPI()

    def predict(image: UploadFile) -> list[dict[str, Any]]:
        return found_to_json(yolo(Image.open(image.file), conf=confidence))

    app.post(PATH)(predict)
    return app


def around_detector(model: Path, confidence: float) -> FastAPI:
    from seamline.inference.detector import Detector

    limit_other_threads()
    detector, lock = Detector(model, confidence), threading.Lock()
    numbers = list(range(1, len(detector.names) + 1))
    app = FastAPI()

    def predict(image: UploadFile) -> list[dict[str, Any]]:
        with lock:
            return detector.detect(image.file.read()).to_coco(1, numbers)

    app.post(PATH)(predict)
    return app


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("around", choices=("ultralytics", "detector"))
    parser.add_argument("model", type=Path)
    parser.add_argument("confidence", type=float)
    parser.add_argument("--port", type=int, required=True)
    args = parser.parse_args()
    quiet_environment()
    make = around_ultralytics if args.around == "ultralytics" else around_detector
    uvicorn.run(make(args.model, args.confidence), port=args.port)


if __name__ == "__main__":
    main()
