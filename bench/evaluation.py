"""A split of any size with predictions, drawn, for the bench; run as a script it evaluates one as the stage does.

Thirteen classes, seven outlines an image at 640 x 640, and twenty predictions, of which six lie on an instance: what
a trained model gives at a low score floor. Everything but the inference is measured.

Example: python -m bench.evaluation .seamline/bench/predicted-5000 .seamline/bench/out-evaluate
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from seamline.base.files import whole_folder, write_json
from seamline.base.process import quiet_environment
from seamline.masks.rle import mask_to_rle

SIDE_PX = 640
CLASSES = 13
INSTANCES = 7
ALARMS = 14
FOUND = 0.85  # share of the instances that have a prediction on them
Points = npt.NDArray[np.float64]


def write_predicted(folder: Path, images: int) -> None:
    """folder/test.json with predictions beside it, and a val of one image; kept if it is there."""
    if folder.exists():
        return
    random = np.random.default_rng(0)
    records: dict[str, list[dict[str, Any]]] = {"images": [], "annotations": [], "predictions": []}
    for number in range(1, images + 1):
        records["images"].append({"id": number, "file_name": f"{number}.jpg", "width": SIDE_PX, "height": SIDE_PX})
        for _ in range(INSTANCES):
            points, kind = outline(random), int(random.integers(1, CLASSES + 1))
            fields = {name: int(random.integers(1, 4)) for name in ("scale", "occlusion", "zoom_in", "viewpoint")}
            region = described(points)
            polygon = {"segmentation": [points.round(1).ravel().tolist()], "iscrowd": 0}
            identity = {"id": len(records["annotations"]) + 1, "image_id": number, "category_id": kind}
            records["annotations"].append(identity | region | polygon | fields)
            if random.random() < FOUND:
                named = kind if random.random() < 0.9 else int(random.integers(1, CLASSES + 1))
                score = 0.2 + 0.8 * random.random()
                records["predictions"].append(prediction(number, named, score, points + random.normal(0, 6, 2)))
        for _ in range(ALARMS):
            score, named = 0.001 + 0.5 * random.random() ** 3, int(random.integers(1, CLASSES + 1))
            records["predictions"].append(prediction(number, named, score, outline(random)))
    categories = [{"id": number, "name": f"class {number}"} for number in range(1, CLASSES + 1)]
    with whole_folder(folder) as target:
        write_json(target / "groups.json", {str(image["id"]): image["id"] // 2 for image in records["images"]})
        for split, count in (("val", 1), ("test", images)):
            parts = {
                key: [record for record in found if record["id" if key == "images" else "image_id"] <= count]
                for key, found in records.items()
            }
            predictions = parts.pop("predictions")
            write_json(target / f"{split}.json", {**parts, "categories": categories})
            for shape, left_out in (("box", "segmentation"), ("mask", "bbox")):
                kept = [{key: value for key, value in one.items() if key != left_out} for one in predictions]
                write_json(target / f"{split}_{shape}.json", kept)


def outline(random: np.random.Generator) -> Points:
    """Twenty-four corners around a middle, at uneven angles and distances."""
    angles = np.sort(random.random(24)) * 2 * np.pi
    radius = random.integers(15, 140) * (0.7 + 0.3 * random.random(24))
    middle = random.integers(80, SIDE_PX - 80, 2)
    around = np.stack((np.cos(angles), np.sin(angles)), axis=1)
    return np.asarray(np.clip(middle + radius[:, None] * around, 0, SIDE_PX - 1))


def described(points: Points) -> dict[str, Any]:
    """The shape's mask as RLE, its area and its box."""
    mask = np.zeros((SIDE_PX, SIDE_PX), np.uint8)
    cv2.fillPoly(mask, [np.clip(points, 0, SIDE_PX - 1).round().astype(np.int32)], 1)
    rle = mask_to_rle(mask)
    return {"segmentation": rle, "area": int(mask.sum()), "bbox": coco_mask.toBbox(rle).tolist()}


def prediction(image_id: int, category_id: int, score: float, points: Points) -> dict[str, Any]:
    shape = described(points)
    del shape["area"]
    return {"image_id": image_id, "category_id": category_id, "score": round(score, 6), **shape}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of write_predicted")
    parser.add_argument("out", type=Path, help="folder to make")
    args = parser.parse_args()
    quiet_environment()

    from seamline.evaluation.explanation import write_evaluation
    from seamline.evaluation.measure import evaluate_files
    from seamline.params.evaluate import Evaluate
    from seamline.params.loading.loader import load_params

    params = msgspec.structs.replace(load_params()[Evaluate], overlays=0)  # there are no photos to draw on
    found = evaluate_files(args.folder, args.folder, params)
    with whole_folder(args.out) as out:
        write_evaluation(found, args.folder / "test.json", args.folder, args.folder, args.folder, params, out)
        write_json(out / "metrics.json", {kind: found["test", kind].summary for kind in ("box", "mask")})


if __name__ == "__main__":
    main()
