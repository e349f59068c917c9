"""A stand-in for the service: answers as the contract says, for masks that pycocotools encoded."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import cv2
import msgspec
import numpy as np
import numpy.typing as npt
import uvicorn
from pycocotools import mask as coco_mask
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from seamline.service.page import page_and_csp
from seamline.service.schemas import About, Prediction
from seamline.service.search_schemas import SearchAnswer

Mask = npt.NDArray[np.bool_]
KEY = "a-key-of-the-tests-alone"
NAMES = ["dress", "short sleeve top", "it's <b>2</b>; 1"]
ABOUT: dict[str, Any] = {
    "model": {
        "name": "openvino_int8", "revision": "0123456789ab", "family": "yolo", "format": "openvino", "precision": "f32",
        "imgsz": 160, "classes": NAMES, "has_masks": True, "confidence": 0.25, "nms_iou": 0.7, "max_detections": 100,
        "int8_gate": "accepted", "licence": "AGPL-3.0", "source": "https://example.org/model",
    },
    "limits": {"body_bytes": 2**25, "photos": 32, "pixels": 50_000_000, "queue": 64, "fetches_urls": False},
    "version": "1.0",
}  # fmt: skip
GREY = (128, 128, 128)
# What /v1/about says beside that where there are models that describe garments, and a catalogue.
DESCRIBED: dict[str, Any] = {
    "attributes": {
        "name": "attributes", "revision": "0123456789ab", "precision": "f32", "licence": "Apache-2.0",
        "attributes": {"neck": ["round", "v"], "<i>hem</i>": ["straight", "curved"]},
        "classes": None,
    },
    "embedder": {
        "name": "tiny", "revision": "1", "identity": "a" * 64, "precision": "f32", "dimension": 4, "background": "keep",
        "margin": 0.1, "has_text": False, "licence": "Apache-2.0",
    },
    "catalogue": {
        "photos": 60, "garments": 90, "classes": {"dress": 90}, "columns": ["brand"], "index": "exact",
        "revision": "0123456789ab",
    },
}  # fmt: skip
SAID = [
    {"neck": {"value": "v", "confidence": 0.938}, "<i>hem</i>": {"value": None, "confidence": 0.52}},
    {"neck": {"value": "round", "confidence": 0.7}, "<i>hem</i>": {"value": "curved", "confidence": 1.0}},
    {"neck": {"value": None, "confidence": 0.4}, "<i>hem</i>": {"value": None, "confidence": 0.5}},
]
WITH_PICTURE = ["shop/1.jpg#1", "shop/a b&c.jpg#2"]  # ids


def ring(height: int, width: int) -> Mask:
    """A mask with a hole, in the photo's left upper quarter."""
    y, x = np.mgrid[:height, :width]
    away = np.hypot(x - width * 0.3, y - height * 0.3) / min(height, width)
    return np.asarray((away < 0.2) & (away > 0.08))


def slope(height: int, width: int) -> Mask:
    """Three parts: a triangle, a pixel that touches it at a corner only, and the photo's last pixel."""
    y, x = np.mgrid[:height, :width]
    inside = (x > width * 0.5) & (y > height * 0.5) & (x - width * 0.5 < y - height * 0.5) & (y < height * 0.9)
    mask: Mask = np.asarray(inside)
    top, left = np.argwhere(mask)[0]
    mask[top - 1, left - 1] = mask[-1, -1] = True
    return mask


def block(height: int, width: int) -> Mask:
    """From the photo's upper to its lower edge, so that one run of pixels is several columns."""
    mask = np.zeros((height, width), bool)
    mask[:, int(width * 0.8) : int(width * 0.9)] = True
    return mask


GARMENTS: list[tuple[int, float, Callable[[int, int], Mask]]] = [(2, 0.93, ring), (1, 0.618, slope), (3, 0.12, block)]


def to_instance(category: int, score: float, mask: Mask) -> dict[str, Any]:
    encoded = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    box = [round(float(value), 2) for value in coco_mask.toBbox(encoded)]
    segmentation = {"size": [int(side) for side in encoded["size"]], "counts": encoded["counts"].decode()}
    return {"image_id": 1, "category_id": category, "bbox": box, "score": score, "segmentation": segmentation}


def problem(status: int, title: str, detail: str, **headers: str) -> Response:
    said = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    headers = {"X-Request-Id": "request-7", **{name.replace("_", "-"): value for name, value in headers.items()}}
    return JSONResponse(said, status, headers, "application/problem+json")


class Service:
    """Answers as the contract says. What it is asked, and how, is kept; a photo's name says what becomes of it."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.about_it = ABOUT
        self.key = ""
        self.turns = False  # whether it takes photos for turned
        self.refuse = 0  # how often it is busy from now on
        self.routes = [
            Route("/", self.page),
            Route("/v1/about", self.about),
            Route("/v1/predict", self.predict, methods=["POST"]),
            Route("/v1/search", self.search, methods=["POST"]),
            Route("/v1/catalogue/crop", self.crop),
        ]
        config = uvicorn.Config(Starlette(routes=self.routes), port=0, log_level="warning", lifespan="off")
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, daemon=True)

    def start(self) -> str:
        self.thread.start()
        while not self.server.started:
            assert self.thread.is_alive()
            threading.Event().wait(0.01)
        port = self.server.servers[0].sockets[0].getsockname()[1]
        return f"http://127.0.0.1:{port}/"

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join()

    async def page(self, request: Request) -> Response:
        text, policy = page_and_csp()
        return Response(text, headers={"Content-Security-Policy": policy}, media_type="text/html")

    def refused(self, request: Request) -> bool:
        return bool(self.key) and request.headers.get("Authorization") != f"Bearer {self.key}"

    async def about(self, request: Request) -> Response:
        if self.refused(request):
            return problem(401, "Unauthorized", "This service asks for an API key.")
        if not self.about_it:
            return problem(504, "Gateway Timeout", "The answer took too long.")
        return JSONResponse(msgspec.to_builtins(msgspec.convert(self.about_it, About)))

    async def predict(self, request: Request) -> Response:
        form = await request.form()
        photos = form.getlist("image")
        fields = {name: form.getlist(name) for name in form if name != "image"}
        self.asked.append({"names": [photo.filename for photo in photos], **fields})  # type: ignore[union-attr]
        if self.refused(request):
            return problem(401, "Unauthorized", "This key is not one of this service's.")
        if self.refuse:
            self.refuse -= 1
            return problem(503, "Service Unavailable", "The queue is full.", Retry_After="1")
        [photo] = photos
        pixels = cv2.imdecode(np.frombuffer(await photo.read(), np.uint8), cv2.IMREAD_COLOR)  # type: ignore[union-attr]
        if pixels is None:
            return problem(422, "Unprocessable Content", f"{photo.filename}: is not an image.")  # type: ignore[union-attr]
        height, width = pixels.shape[:2]
        if self.turns:
            width, height = height, width
        instances = [to_instance(category, score, made(height, width)) for category, score, made in GARMENTS]
        for number, instance in enumerate(instances):
            instance |= {"attributes": SAID[number]} if "attributes" in fields else {}
            instance |= {"embedding": [0.1 * number, 0.5, 0.5, 0.5]} if "embed" in fields else {}
        about = {"file_name": photo.filename, "height": height, "width": width}  # type: ignore[union-attr]
        answer = {
            "model": {"name": "openvino_int8", "revision": "0123456789ab"},
            "categories": [{"id": number, "name": name} for number, name in enumerate(NAMES, 1)],
            "images": [{"image_id": 1, **about, "instances": instances}],
        }
        msgspec.convert(answer, Prediction)
        return JSONResponse(answer, headers={"Server-Timing": "decode;dur=2.5, inference;dur=41, total;dur=46.1"})

    async def search(self, request: Request) -> Response:
        body = await request.json()
        self.asked.append(body)
        if self.refused(request):
            return problem(401, "Unauthorized", "This key is not one of this service's.")
        if self.refuse:
            self.refuse -= 1
            return problem(503, "Service Unavailable", "The queue is full.", Retry_After="0")
        names = ["shop/1.jpg#1", "shop/a b&c.jpg#2", "shop/without-a-picture.jpg#1"]
        matches = [
            {
                "id": name, "photo": name.partition("#")[0], "class_name": "a <b>dress</b>",
                "similarity": 0.987 - number / 10,
                "bbox": [1, 2, 3, 4], "score": 0.9, "split": None, "columns": {"brand": "ACME <3", "size": None},
                "attributes": {"neck": "v"}, "duplicates": ["x#1"] * number,
            }
            for number, name in enumerate(names)
        ]  # fmt: skip
        answer = {
            "model": {"name": "openvino_int8", "revision": "0123456789ab"},
            "embedder": {"name": "tiny", "identity": "a" * 64},
            "categories": [],
            "matches": [] if body["vector"][0] == 0 else matches,
        }
        msgspec.convert(answer, SearchAnswer)
        return JSONResponse(answer)

    async def crop(self, request: Request) -> Response:
        self.asked.append({"crop": request.query_params["id"]})
        if self.refused(request) or request.query_params["id"] not in WITH_PICTURE:
            return problem(404, "Not Found", "The catalogue has no picture of this id.")
        picture = np.full((90, 60, 3), (40, 90, 200), np.uint8)
        return Response(cv2.imencode(".jpg", picture)[1].tobytes(), media_type="image/jpeg")
