"""Convert: write each instance as one line of a YOLO segmentation label, and certify what the labels keep.

Every mask (union of parts, with holes) becomes one closed polygon. Each is then filled again as the trainer will,
and compared with the source mask: REPORT. Images are hard-linked; all cores are used.

Example: python -m stages.convert data/subset data/yolo
"""

import argparse
import functools
import itertools
from pathlib import Path

from msgspec import Raw
from tqdm import tqdm

from seamline.base.coco import read_coco
from seamline.base.errors import SeamlineError
from seamline.base.files import beside, check_out, whole_folder, write_json
from seamline.base.parallel import in_processes, usable_cores
from seamline.base.process import run
from seamline.dataset.conversion import Converted, fidelity_report, write_labels
from seamline.params.convert import Convert
from seamline.params.loading.loader import load_params

IMAGES_A_JOB = 200


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("subset", type=Path, help="canonical COCO folder, such as data/subset")
    parser.add_argument("out", type=Path, help="folder to make, such as data/yolo")
    parser.add_argument("--report", type=Path, help="the labels' certificate (default: OUT-report.json)")
    args = parser.parse_args()
    check_out(args.out, ("images", "labels"), [args.subset], inside=True)
    params = load_params()[Convert]

    coco = read_coco(args.subset / "annotations.json")
    categories = coco.category_refs()
    class_index = {category.id: index for index, category in enumerate(categories)}
    refs = coco.image_refs()
    annotations: dict[int, list[Raw]] = {image.id: [] for image in refs}
    for raw, reference in zip(coco.annotations, coco.annotation_refs(), strict=True):
        annotations[reference.image_id].append(raw)

    parts: list[Converted] = []
    with whole_folder(args.out) as out:
        (out / "labels").mkdir()
        work = functools.partial(write_labels, class_index=class_index, source=args.subset, out=out)
        images = (
            (image.file_name, image.height, image.width, [bytes(raw) for raw in annotations[image.id]])
            for image in refs
        )
        jobs = iter(lambda: list(itertools.islice(images, IMAGES_A_JOB)), [])
        processes = min(usable_cores(), 1 + len(coco.images) // (2 * IMAGES_A_JOB))
        with tqdm(total=len(coco.annotations), desc="masks", unit="instance", disable=None) as progress:
            for converted in in_processes(work, jobs, processes):
                parts.append(converted)
                progress.update(len(converted.ious) + sum(converted.dropped.values()))
        if not any(len(part.ious) for part in parts):
            raise SeamlineError(f"{args.subset}/annotations.json: has no instance with a mask.")
        report = fidelity_report(parts, {category.id: category.name for category in categories})
        if report["mean_iou"] < params.min_mean_iou:
            raise SeamlineError(
                f"mean IoU of the labels is {report['mean_iou']:.4f}, below convert.min_mean_iou "
                f"{params.min_mean_iou:g}; leave specks out with subset.min_area_px, or lower convert.min_mean_iou."
            )
    write_json(args.report or beside(args.out, "report.json"), report)
    print(f"{report['instances']} instances, mean IoU {report['mean_iou']:.4f}, lowest {report['min_iou']:.4f}")


if __name__ == "__main__":
    run(main)
