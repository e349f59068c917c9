"""LitServe around our Detector or around ultralytics' YOLO of the exported model.

Example: PYTHONPATH=.seamline/serving-peers python -m bench.serving_litserve detector MODEL 0.25 2 --port 8001
"""

import argparse
import io
from pathlib import Path
from typing import Any

import litserve
from fastapi import Request
from PIL import Image

from bench.serving_fastapi import found_to_json, open_ultralytics
from seamline.base.process import quiet_environment

PATH = "/v1/predict"


class Api(litserve.LitAPI):  # type: ignore[misc]  # which is not typed
    def __init__(self, model: Path, confidence: float) -> None:
        super().__init__(api_path=PATH)
        self.model, self.confidence = model, confidence

    def decode_request(self, request: Request) -> bytes:  # LitServe reads the annotation, and hands the form over
        form: Any = request
        data: bytes = form["image"].file.read()
        return data

    def encode_response(self, output: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return output


class AroundDetector(Api):
    def setup(self, device: str) -> None:
        from seamline.inference.detector import Detector
        from seamline.inference.threads import limit_other_threads

        limit_other_threads()
        self.detector = Detector(self.model, self.confidence)
        self.numbers = list(range(1, len(self.detector.names) + 1))

    def predict(self, x: bytes) -> list[dict[str, Any]]:
        return self.detector.detect(x).to_coco(1, self.numbers)


class AroundUltralytics(Api):
    def setup(self, device: str) -> None:
        self.yolo = open_ultralytics(self.model)

    def predict(self, x: bytes) -> list[dict[str, Any]]:
        return found_to_json(self.yolo(Image.open(io.BytesIO(x)), conf=self.confidence))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("around", choices=("ultralytics", "detector"))
    parser.add_argument("model", type=Path)
    parser.add_argument("confidence", type=float)
    parser.add_argument("workers", type=int)
    parser.add_argument("--port", type=int, required=True)
    args = parser.parse_args()
    quiet_environment()
    api = (AroundDetector if args.around == "detector" else AroundUltralytics)(args.model, args.confidence)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=args.workers)
    server.run(host="127.0.0.1", port=args.port, generate_client_file=False)


if __name__ == "__main__":
    main()
