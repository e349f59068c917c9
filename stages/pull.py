"""Pull: bring garment photos and their annotations here, as canonical COCO.

Reads a folder or archive (local, s3://, https://) and writes OUT/annotations.json and OUT/images/, whole or not at
all: integer ids, one name an image, every annotation with mask, box and area. What had to be dropped is counted
under its reason in reports/pull.json.

Example: python stages/pull.py samples/garments.zip data/raw
"""

import argparse
import shutil
from pathlib import Path

from seamline.fetch import fetch
from seamline.files import copy, link_or_copy, whole_folder, write_json
from seamline.params import load_params
from seamline.sources.coco import coco_to_canonical, find_annotations
from seamline.stage import SCRATCH, run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help="folder or archive, or its s3:// or https:// address")
    parser.add_argument("out", type=Path, help="folder to make, such as data/raw")
    parser.add_argument("--report", type=Path, default=Path("reports/pull.json"))
    args = parser.parse_args()
    params = load_params().pull

    scratch = SCRATCH / "pull"
    shutil.rmtree(scratch, ignore_errors=True)  # what a killed pull left
    try:
        folder = fetch(args.source, scratch)
        annotation_file = find_annotations(folder, params.annotations)
        # DVC makes what it tracks read-only; files of the user's own folder are therefore copied, never linked.
        place = link_or_copy if folder.is_relative_to(scratch) else copy
        with whole_folder(args.out) as out:
            report = coco_to_canonical(folder, annotation_file, out, place)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    write_json(args.report, report)

    print(f"{report['images']} images, {report['annotations']} annotations, {report['categories']} categories")
    for reason, count in report["dropped"].items():
        print(f"dropped {count}: {reason}")


if __name__ == "__main__":
    run(main)
