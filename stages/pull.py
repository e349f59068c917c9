"""Pull: bring garment photos and their annotations here, as canonical COCO.

Reads a folder or archive (local, s3://, https://) in any of the layouts it knows and writes OUT/annotations.json and
OUT/images/, whole or not at all: integer ids, one name an image, every annotation with mask, box and area. What had
to be repaired or dropped is counted under its reason in REPORT, and listed record by record in CHANGES.

Objects of a bucket are fetched many at once, verified, and kept in .seamline/pull, so that a pull that was cut
resumes, and the next one fetches what is new. The manifest has every object with its size, ETag, version and
sha256. Credentials, region and endpoint are those of the standard AWS configuration (AWS_PROFILE, ...).

What is pulled is pull.source of params.yaml, which no command of dvc.yaml names: a shell would read it.

Example: python -m stages.pull data/raw --report reports/pull.json
         python -m stages.pull /tmp/raw --source s3://my-bucket/garments
"""

import argparse
import shutil
from pathlib import Path

from seamline.base.errors import SeamlineError, counted
from seamline.base.escaping import to_terminal
from seamline.base.files import beside, check_out, copy, link_or_copy, sha256_of, whole_folder, write_json
from seamline.base.process import SCRATCH, run
from seamline.base.urls import is_remote
from seamline.ingest.canonical.dataset import canonicalise
from seamline.ingest.canonical.source import Reading
from seamline.ingest.layouts.recognition import read_source
from seamline.ingest.manifest import write_manifest
from seamline.ingest.remote.cache import locked
from seamline.ingest.remote.fetch import fetch
from seamline.params.loading.loader import load_params
from seamline.params.pull import Pull


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder to make, such as data/raw")
    parser.add_argument("--source", help="folder or archive, or its s3:// or https:// address (default: pull.source)")
    parser.add_argument("--manifest", type=Path, help="table of all objects (default: OUT-manifest.csv)")
    parser.add_argument("--report", type=Path, help="what was repaired and dropped (default: OUT-report.json)")
    parser.add_argument("--changes", type=Path, help="the same, record by record (default: OUT-changes.csv)")
    args = parser.parse_args()
    scratch = (SCRATCH / "pull").resolve()
    params = load_params()[Pull]
    args.source = params.source if args.source is None else args.source
    with locked(scratch):  # two at once would take what is unpacked, and data/raw, from each other
        pull(args, params, scratch)


def pull(args: argparse.Namespace, params: Pull, scratch: Path) -> None:
    source, out = Path(args.source).resolve(), args.out.resolve()
    if not is_remote(args.source) and source.is_dir() and (source.is_relative_to(out) or out.is_relative_to(source)):
        raise SeamlineError(
            f"pull.source: {args.source!r} and {args.out} lie in one another; pull replaces the latter."
        )
    check_out(args.out, ("annotations.json", "images"), inside=True)
    changes = args.changes or beside(args.out, "changes.csv")
    try:
        fetched = fetch(args.source, scratch)
        dataset = read_source(fetched.folder, params.layout, params.annotations, params.images)

        def place(path: Path, image: Path) -> None:
            # DVC makes what it tracks read-only; files of the user's own folder are therefore copied, never linked.
            owned = path.resolve().is_relative_to(scratch)
            (link_or_copy if owned else copy)(path.resolve(), image)

        with whole_folder(args.out) as target:
            try:
                report = canonicalise(dataset, target, place, Reading(params.convention, params.category_ids))
            except SeamlineError:
                if dataset.changes.rows:  # what stops the run has to be found to be mended
                    dataset.changes.write(changes)
                    print(f"{changes}: what was repaired and dropped until the run stopped")
                raise
            fetched.check_unchanged()
    finally:
        shutil.rmtree(scratch / "unpacked", ignore_errors=True)
    dataset.changes.write(changes)
    manifest = args.manifest or beside(args.out, "manifest.csv")
    write_manifest(manifest, fetched.rows)
    source_report = {
        "objects": len(fetched.rows),
        "bytes": sum(row.size for row in fetched.rows),
        "manifest_sha256": sha256_of(manifest),
    }
    write_json(args.report or beside(args.out, "report.json"), {"source": source_report, **report})
    if fetched.cache is not None:
        fetched.cache.drop_others()

    print(
        f"{report['layout']}: {report['images']} images, {report['annotations']} annotations, "
        f"{report['categories']} categories"
    )
    for verb in ("repaired", "dropped"):
        for reason, count in report[verb].items():
            print(f"{verb} {count}: {reason}")
    left = dataset.changes.left()
    if left:
        print(
            f"left out {counted(len(left), 'picture')} without a record, such as {to_terminal(left[0])}; see {changes}"
        )
    if report["crowds"]:
        print(report["crowds"])
    if report["unchecked_masks"]:
        print(
            f"unchecked {report['unchecked_masks']}: masks without a box, of which neither area nor shape shows "
            "whether they lie where they should (on square photos rows and columns look alike); look at some of them"
        )


if __name__ == "__main__":
    run(main)
