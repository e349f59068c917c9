"""Attributes: garments with the attributes that a CSV or annotations give them, in one form, and a look at them.

The source is a folder, archive or bucket of photos that a garment fills, with a CSV (attributes.source of params.yaml);
or a canonical dataset such as data/subset, whose annotations have attributes: then garments are cut out. What is odd is
counted and listed: rows that are repeated or contradict each other, rows without photos, photos without rows. Copies
and near-duplicates stay in one split.

OUT gets garments.csv, attributes.json and photos/, which classify learns from; REPORT tables and charts.

Example: python -m stages.attributes data/attributes data/split --report reports/attributes/data
"""

import argparse
from pathlib import Path

import numpy as np
from tqdm import tqdm

from seamline.attributes import from_annotations, from_csv
from seamline.attributes.data_report import collected_to_record, write_data_report
from seamline.attributes.garments import Collected, garments_to_csv, hash_of_data
from seamline.attributes.labelled import ABOUT, PHOTOS, TABLE
from seamline.attributes.photos import write_photos
from seamline.attributes.sources import check_classes, source_folder, switched_off
from seamline.attributes.splits import Pairs, assign_splits, learnable
from seamline.attributes.values import check_alike, check_names
from seamline.base.coco import Record
from seamline.base.errors import SeamlineError
from seamline.base.files import beside, check_out, whole_folder, write_json
from seamline.base.parallel import in_threads
from seamline.base.process import SCRATCH, run
from seamline.dataset.near_duplicates import equal_files, fingerprint, near_duplicates
from seamline.params.attributes import Attributes
from seamline.params.loading.loader import load_params
from seamline.params.pull import Pull

OURS = (TABLE, ABOUT, PHOTOS)
OURS_IN_REPORT = ("*.json", "*.csv", "*.png", "*.jpg")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder to make, such as data/attributes")
    parser.add_argument("split", type=Path, help="the pipeline's split, whose photos keep theirs: data/split")
    parser.add_argument("--report", type=Path, help="folder of tables and charts (default: OUT-report)")
    args = parser.parse_args()
    report = args.report or beside(args.out, "report")
    params, pull = load_params()[Attributes], load_params()[Pull]
    check_out(args.out, OURS)
    check_out(report, OURS_IN_REPORT)
    check_names(params.labels or {})
    if reason := switched_off(params, pull.source):
        print(reason)
        with whole_folder(args.out) as out, whole_folder(report) as tables:
            write_json(out / ABOUT, {"attributes": {}, "reason": reason})
            write_json(tables / "data.json", {"attributes": {}, "reason": reason})
        return
    scratch = (SCRATCH / "attributes").resolve()
    with source_folder(params.source, scratch) as folder, whole_folder(args.out) as out, whole_folder(report) as tables:
        said = make(folder, out, tables, args.split, params)
    print_said(said)


def make(folder: Path, out: Path, tables: Path, split: Path, params: Attributes) -> Record:
    """Everything, into two empty folders; returns what the report says."""
    if params.csv is None and (folder / from_annotations.ANNOTATIONS).is_file():
        found = from_annotations.collect(folder, params, split)
    else:
        check_classes(params.classes, split)
        found = from_csv.collect(folder, params)
    if not found.garments:
        raise SeamlineError(f"{found.file}: no garment with a photo that can be read has a value of any attribute.")
    check_alike(found.values)
    pairs = alike(found, params.near_duplicate_bits)
    of_splits = assign_splits(found.garments, found.values, pairs, params)
    attributes, left_out = learnable(found.garments, found.values)
    for name, reason in left_out.items():
        print(f"{name}: left out, {reason}")
    if not attributes:
        raise SeamlineError(f"{found.file}: no attribute has two values in train, so that there is nothing to learn.")
    photos = write_photos(found.garments, out / PHOTOS, params)
    garments_to_csv(out / TABLE, found.garments, list(attributes))
    facts = {
        "attributes": attributes,
        "source": found.kind,
        "margin": params.margin,
        "background": params.background,
        "classes": params.classes,
        "side_px": params.side_px,
        "data_sha256": hash_of_data(out / TABLE, photos),
        "names": found.names,
    }
    write_json(out / ABOUT, facts)
    said = collected_to_record(found, attributes, left_out, of_splits)
    write_data_report(found, attributes, photos, said, tables)
    return said


def alike(found: Collected, bits: int | None) -> Pairs:
    """Positions of garments whose photos are the same or nearly; (pairs, 2)."""
    photos = sorted({one.photo for one in found.garments})
    position = {photo: index for index, photo in enumerate(photos)}
    if bits is None:
        pairs = equal_files(photos)
    else:
        prints = in_threads(lambda photo: fingerprint(photo, 0), photos)
        pairs = near_duplicates(np.array(list(tqdm(prints, "hashing", len(photos), unit="photo", disable=None))), bits)
    first: dict[int, int] = {}
    for index, one in enumerate(found.garments):  # of several in one photo, which are one group anyway
        first.setdefault(position[one.photo], index)
    return np.array([[first[a], first[b]] for a, b in pairs.tolist()], dtype=np.int64).reshape(-1, 2)


def print_said(said: Record) -> None:
    print(
        f"{said['file']}: {said['garments']} garments of {said['photos']} photos, "
        + ", ".join(f"{split} {count}" for split, count in said["garments_by_split"].items())
    )
    for name, one in said["attributes"].items():
        values = ", ".join(f"{value} {sum(counts.values())}" for value, counts in one["values"].items())
        print(f"{name}: {values}; missing {one['missing']}")
    for what, count in said["oddities"].items():
        print(f"{count}: {what}")


if __name__ == "__main__":
    run(main)
