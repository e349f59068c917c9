"""Before a release: both commands in every state that a user's folder may be in, and on every Python.

Clones HEAD into a temporary folder for each Python, brings the clone into one state after another, and runs `make test`
in each; then runs the bench and every stage by hand and asks DVC whether the results are still the project's own.
Prints a line a state, and exits with 1 when any fails. All of it takes hours; --only takes some, and
--command "make test-quick" is a rehearsal of minutes.

Example: python -m checks.release --pythons python3.11 python3.14 --only fresh photos
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml

PROJECT = Path(__file__).resolve().parent.parent
PYTHONS = ["python3.11", "python3.12", "python3.13", "python3.14"]
BROKEN = "a file that is not YAML"
EDITS: dict[str, dict[str, Any]] = {
    "other classes": {"subset": {"classes": None, "images": 60}, "pull": {"source": "../photos"}},
    "another model": {"train": {"model": "yolov8n-seg.yaml", "epochs": 3, "imgsz": 320, "device": "cpu"}},
    "other limits": {"evaluate": {"confidence": 0.01, "slices": {}}, "export": {"opset": 18, "max_drift": 0.5}},
    "other shares": {
        "split": {"ratios": {"train": 0.5, "val": 0.25, "test": 0.25}, "group_by": None},
        "benchmark": {"profile": "full", "threads": 1},
        "report": {"title": "Coats", "purpose": "Finds coats."},
    },
    BROKEN: {},
}


class Clone:
    """A clone of HEAD with an environment of one Python."""

    def __init__(self, root: Path, python: str) -> None:
        self.root, self.python = root, python
        subprocess.run(["git", "clone", "--quiet", str(PROJECT), str(root)], check=True)

    def run(self, *command: str) -> None:
        """Raises CalledProcessError where it fails; what it says is in log.txt beside the clone."""
        environment = {**os.environ, "PATH": f"{self.root / '.venv' / 'bin'}{os.pathsep}{os.environ['PATH']}"}
        environment.pop("PYTHONPATH", None)
        with self.root.with_name("log.txt").open("a") as log:
            print(f"$ {' '.join(command)}", file=log, flush=True)
            subprocess.run(command, cwd=self.root, env=environment, stdout=log, stderr=subprocess.STDOUT, check=True)

    def make(self, command: str) -> None:
        self.run(*command.split(), f"PYTHON={self.python}")

    def as_committed(self) -> None:
        self.run("git", "checkout", "--quiet", ".")
        self.run("git", "clean", "--quiet", "--force", "-d")

    def change(self, edit: str) -> None:
        path = self.root / "params.yaml"
        if edit == BROKEN:
            path.write_text("<<<<<<< HEAD\npull: [\n")
            return
        values = yaml.safe_load(path.read_text())
        for section, changes in EDITS[edit].items():
            values[section] |= changes
        path.write_text(yaml.safe_dump(values))

    def check_status(self) -> None:
        """Raises AssertionError when DVC would run a stage again."""
        dvc = self.root / ".venv" / "bin" / "dvc"
        done = subprocess.run([dvc, "status", "--json"], cwd=self.root, capture_output=True, text=True, check=True)
        assert json.loads(done.stdout) == {}, done.stdout


def write_photos(folder: Path, count: int = 12) -> None:
    """A COCO folder of someone else's: noise with a rectangle each, classes and sizes that the sample does not have."""
    rng = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    images, annotations = [], []
    for number in range(1, count + 1):
        cv2.imwrite(str(folder / "images" / f"{number}.jpg"), rng.integers(0, 255, (90, 70, 3), dtype=np.uint8))
        images.append({"id": number, "file_name": f"{number}.jpg", "width": 70, "height": 90})
        box = [10 + number, 20, 30, 40]
        corners = [box[0], 20, box[0] + 30, 20, box[0] + 30, 60, box[0], 60]
        record = {"id": number, "image_id": number, "category_id": 1 + number % 2, "bbox": box, "area": 1200}
        annotations.append({**record, "segmentation": [corners], "iscrowd": 0})
    categories = [{"id": 1, "name": "scarf"}, {"id": 2, "name": "hat"}]
    text = json.dumps({"images": images, "annotations": annotations, "categories": categories})
    (folder / "annotations.json").write_text(text)


def fresh(clone: Clone, test: str) -> None:
    clone.make(test)


def repro(clone: Clone, test: str) -> None:
    clone.make("make repro")
    clone.check_status()
    clone.make(test)


def edits(clone: Clone, test: str) -> None:
    for edit in EDITS:
        clone.change(edit)
        clone.make(test)
        clone.as_committed()


def foreign(clone: Clone, test: str) -> None:
    """Someone else's photos are pulled, chosen from, converted and split, so that dvc.lock and reports/ are theirs."""
    write_photos(clone.root.with_name("foreign"))
    clone.make("make setup")
    values = yaml.safe_load((clone.root / "params.yaml").read_text())
    values["pull"]["source"] = str(clone.root.with_name("foreign"))
    values["subset"] |= {"classes": None, "images": None, "background": 0, "group_by": None}
    values["split"]["group_by"] = None
    (clone.root / "params.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    clone.run("dvc", "repro", "split")
    clone.make(test)


def photos(clone: Clone, test: str) -> None:
    """Photos, their annotations and other things of the user's lie in the folder."""
    for folder in ("photos", "garments", "Müller's shoot"):
        write_photos(clone.root / folder)
    shutil.copytree(clone.root / "photos" / "images", clone.root / "samples" / "mine")
    (clone.root / "notes.txt").write_text("of the user's")
    (clone.root / "train.py").write_text("raise SystemExit('a script of the user was run')\n")
    clone.make(test)


def bench(clone: Clone, test: str) -> None:
    """After the bench, and after each stage run by hand into another folder, the results are the project's own."""
    clone.make("make repro")
    clone.run("make", "bench", "BENCH=--images 400 --rounds 1 --evaluated 40", f"PYTHON={clone.python}")
    clone.check_status()
    out = clone.root.with_name("by-hand")
    weights, split, images = "models/train/best.pt", "data/split", "data/subset/images"
    for stage, inputs in {
        "pull": ["--source=samples/garments.zip"],
        "subset": ["data/raw"],
        "convert": ["data/subset"],
        "split": ["data/subset"],
        "train": [split, "data/yolo"],
        "evaluate": [weights, split, images],
        "export": [weights, split, images],
        "benchmark": [weights, "models/export", split, images],
    }.items():
        clone.run("python", "-m", f"stages.{stage}", *inputs, str(out / stage))
    clone.check_status()


STATES: dict[str, Callable[[Clone, str], None]] = {
    "fresh": fresh, "edits": edits, "photos": photos, "foreign": foreign, "repro": repro, "bench": bench,
}  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pythons", nargs="+", default=PYTHONS, help="the first is tried in every state, others fresh")
    parser.add_argument("--only", nargs="+", choices=STATES, default=list(STATES))
    parser.add_argument("--command", default="make test", help="what has to pass in each state")
    args = parser.parse_args()
    failed = False
    for number, python in enumerate(args.pythons):
        with tempfile.TemporaryDirectory(prefix="seamline-release-", ignore_cleanup_errors=True) as folder:
            clone = Clone(Path(folder) / "clone", python)
            for state in args.only if number == 0 else ["fresh"]:
                begun = time.monotonic()
                try:
                    STATES[state](clone, args.command)
                    clone.as_committed()
                    verdict = "ok"
                except (subprocess.CalledProcessError, AssertionError) as error:
                    failed = True
                    log = Path.cwd() / ".seamline" / f"release-{python}-{state}.txt"
                    log.parent.mkdir(exist_ok=True)
                    shutil.copy(Path(folder) / "log.txt", log)
                    verdict = f"FAILED: {error}; see {log}"
                print(f"{python} {state}: {verdict} ({(time.monotonic() - begun) / 60:.1f} min)", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
