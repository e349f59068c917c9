"""`seamline predict` on many photos: killed at ten moments, its throughput, and its peak memory.

Example: python -m bench.predicting models/export/openvino_int8 .seamline/bench/predict
"""

from __future__ import annotations

import argparse
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import cv2
import numpy as np

from seamline.base.files import write_json
from seamline.images.reading import read_image

PROJECT = Path(__file__).parent.parent
SIDE_PX = 320
DIFFERENT = 100  # photos; the others are these, a little brighter
KILLS = 10
PEAK = """
import resource, runpy, sys

sys.argv = sys.argv[1:]
try:
    runpy.run_module("seamline", run_name="__main__")
finally:
    print("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def write_photos(folder: Path, count: int, side: int = SIDE_PX) -> Path:
    """So many small photos of the sample, no two alike; kept if they are there."""
    if folder.exists():
        return folder
    with zipfile.ZipFile(PROJECT / "samples" / "garments.zip") as archive:
        names = [name for name in archive.namelist() if name.endswith(".jpg")][:DIFFERENT]
        read = [read_image(archive.read(name), name) for name in names[:count]]
    folder.mkdir(parents=True)
    for number in range(count):
        photo = read[number % len(read)]
        scale = side / max(photo.shape[:2])
        small = cv2.resize(photo, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        brighter = np.clip(small.astype(np.int16) + number // len(read), 0, 255).astype(np.uint8)
        (folder / f"{number:06d}.jpg").write_bytes(cv2.imencode(".jpg", brighter)[1].tobytes())
    return folder


def files_of(out: Path) -> dict[str, bytes]:
    """Every file below a folder, by its path."""
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}


def differences(first: Path, second: Path) -> list[str]:
    """The files that two folders do not both have, byte for byte."""
    one, other = files_of(first), files_of(second)
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))


def command(model: Path, photos: Path, out: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "seamline", "predict", *map(str, (model, photos)), "--out", str(out), *options]


def killed(model: Path, photos: Path, folder: Path, *options: str) -> dict[str, object]:
    """Kill it at ten moments, the last while it writes, and compare what it ends in with an undisturbed run's."""
    whole, out = folder / "whole", folder / "killed"
    for path in (whole, out):
        shutil.rmtree(path, ignore_errors=True)
    subprocess.run(command(model, photos, whole, *options), check=True, capture_output=True)
    count, rng = sum(1 for _ in photos.iterdir()), random.Random(0)
    lines, writing = out / "unfinished" / "done.jsonl", out / ".results.json.tmp"
    done = []
    for number in range(1, KILLS + 1):
        wanted = count * (number - rng.random()) / KILLS
        process = subprocess.Popen(command(model, photos, out, *options), stdout=subprocess.DEVNULL)
        while process.poll() is None and not (writing.exists() if number == KILLS else lines_in(lines) >= wanted):
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.1))
        process.kill()
        process.wait()
        done.append(lines_in(lines) if process.returncode == -signal.SIGKILL else "ended before")
    subprocess.run(command(model, photos, out, *options), check=True, capture_output=True)
    return {"killed_with_so_many_done": done, "differences": differences(whole, out), "files": len(files_of(whole))}


def lines_in(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def measured(model: Path, photos: Path, folder: Path, *options: str) -> dict[str, float]:
    """Images a second of a whole command, its processor seconds, and its peak memory."""
    shutil.rmtree(folder / "out", ignore_errors=True)
    count = sum(1 for _ in photos.iterdir())
    start = time.perf_counter()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    words = ["predict", str(model), str(photos), "--out", str(folder / "out"), *options]
    done = subprocess.run([sys.executable, "-c", PEAK, "seamline", *words], capture_output=True, text=True, check=True)
    seconds = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss, in bytes
    peak_mb = int(done.stdout.rpartition("peak ")[2]) * unit / 1e6
    return {"images": count, "images_a_second": count / seconds, "cpu_s": cpu_s, "peak_mb": peak_mb}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("folder", type=Path, help="for photos, results and report.json")
    parser.add_argument("--photos", type=int, default=2000, help="that it is killed on")
    parser.add_argument("--many", type=int, default=20000, help="that the memory is measured with")
    args = parser.parse_args()
    photos = write_photos(args.folder / f"photos-{args.photos}", args.photos)
    small = [write_photos(args.folder / f"tiny-{count}", count, side=64) for count in (args.many // 10, args.many)]
    report = {
        "killed": killed(args.model, photos, args.folder, "--crops", "--format", "polygons"),
        "measured": measured(args.model, photos, args.folder, "--overlays", "0"),
        "tiny": [measured(args.model, tiny, args.folder, "--overlays", "0") for tiny in small],
    }
    write_json(args.folder / "report.json", report)
    for name, value in report.items():
        print(name, value)


if __name__ == "__main__":
    main()
