"""Convert: write each instance as one line of a YOLO segmentation label, and certify what the labels keep.

Every mask (union of parts, with holes) becomes one closed polygon. Each is then filled again as the trainer will,
and compared with the source mask: reports/fidelity.json. Images are hard-linked.

Example: python stages/convert.py data/subset data/yolo
"""

import argparse
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
from tqdm import tqdm

from seamline.coco import raw_to_record, read_coco
from seamline.errors import SeamlineError
from seamline.files import link_or_copy, whole_folder, write_json
from seamline.labels import line_to_text, text_to_line
from seamline.masks import line_to_trained_mask, mask_iou, mask_to_line, rle_to_mask, segmentation_to_rle
from seamline.params import load_params
from seamline.stage import run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("subset", type=Path, help="canonical COCO folder, such as data/subset")
    parser.add_argument("out", type=Path, help="folder to make, such as data/yolo")
    parser.add_argument("--report", type=Path, default=Path("reports/fidelity.json"))
    args = parser.parse_args()
    params = load_params().convert

    coco = read_coco(args.subset / "annotations.json")
    class_index = {category.id: index for index, category in enumerate(coco.category_refs())}
    images = {image.id: image for image in coco.image_refs()}
    lines: dict[int, list[str]] = defaultdict(list)
    ious: list[float] = []
    below: list[dict[str, float]] = []
    dropped: Counter[str] = Counter()
    for raw in tqdm(coco.annotations, desc="masks", unit="instance", disable=None):
        record = raw_to_record(raw)
        image = images[record["image_id"]]
        if record["iscrowd"]:
            dropped["crowd: marks a region and no instance"] += 1
            continue
        mask = rle_to_mask(segmentation_to_rle(record["segmentation"], image.height, image.width))
        line = mask_to_line(mask)
        if line is None:
            dropped["its mask covers no pixel of the image"] += 1
            continue
        text = line_to_text(class_index[record["category_id"]], line)
        if text in lines[image.id]:  # ultralytics drops one of two equal lines, and says so in a warning
            dropped["the same mask and class as another instance of the image"] += 1
            continue
        lines[image.id].append(text)
        ious.append(mask_iou(mask, line_to_trained_mask(text_to_line(text)[1], image.height, image.width)))
        if ious[-1] < 0.5:
            below.append({"annotation_id": record["id"], "iou": round(ious[-1], 4), "area_px": int(mask.sum())})
    if not ious:
        raise SeamlineError(f"{args.subset}/annotations.json: has no instance with a mask.")
    if np.mean(ious) < params.min_mean_iou:
        raise SeamlineError(f"mean IoU of the labels is {np.mean(ious):.4f}, below {params.min_mean_iou:g}.")

    with whole_folder(args.out) as out:
        (out / "labels").mkdir()
        for image in tqdm(images.values(), desc="labels", unit="image", disable=None):
            link_or_copy(args.subset / "images" / image.file_name, out / "images" / image.file_name)
            text = "".join(f"{line}\n" for line in lines[image.id])
            (out / "labels" / image.file_name).with_suffix(".txt").write_text(text, encoding="ascii")
    write_json(
        args.report,
        {
            "instances": len(ious),
            "mean_iou": round(float(np.mean(ious)), 6),
            "p1_iou": round(float(np.percentile(ious, 1)), 6),
            "min_iou": round(float(np.min(ious)), 6),
            "below_0_5": below,
            "dropped": dict(sorted(dropped.items())),
        },
    )
    print(f"{len(ious)} instances, mean IoU {np.mean(ious):.4f}, lowest {np.min(ious):.4f}")


if __name__ == "__main__":
    run(main)
