"""The load test of the service: each of its bars measured in one run, on two cores that the load generator shares.

wrk posts photos of 550x830, made from the sample, to `seamline serve` with INT8 models made from the project's weights:
at 640 px, and at the sample's own 160 px. Beside it, in turns, stand our Detector without HTTP, FastAPI around
ultralytics' YOLO and around our Detector, and LitServe around either. Read the ratios, not the absolute figures.
Finished parts are kept in .seamline/bench/serving: run it again after an interruption, and only what is missing is
measured (--again: all of it). A quarter of an hour; writes reports/serving.json, and with --only a report of its own.
Needs wrk, and what `make load-test` installs.

Example: make load-test
         make load-test LOAD="--only one-client sixteen --seconds 3"
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import os
import shutil
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from bench import serving_parts
from bench.serving_inputs import make_int8, make_photos
from bench.serving_parts import Setting
from seamline.base.coco import Record
from seamline.base.files import code_below, read_json, sha256_of, write_json
from seamline.base.process import quiet_environment
from seamline.benchmark.machine import machine_facts, usable_core_ids

SCRATCH = Path(".seamline/bench/serving")
PACKAGES = Path(".seamline/serving-peers")
WHOLE = Path("reports/serving.json")
SOME = SCRATCH / "some-parts.json"
PHOTOS = 32
CORES = 2
SIZES = (640, 160)
LIBRARIES = ("starlette", "uvicorn", "httptools", "python-multipart", "msgspec")
FIRST = "FastAPI around ultralytics"
LOCKED = "FastAPI around our Detector"
LITSERVE = "LitServe around ultralytics"
LITSERVE_DETECTOR = "LitServe around our Detector"


class Bar(NamedTuple):
    """What was promised, what was found, and whether it is enough."""

    promise: str
    figure: float
    limit: float
    at_least: bool

    @property
    def is_reached(self) -> bool:
        return self.figure >= self.limit if self.at_least else self.figure <= self.limit


at_least = functools.partial(Bar, at_least=True)
at_most = functools.partial(Bar, at_least=False)


def alike(milliseconds: float) -> float:
    """As how many times so much a time still counts as the same: 1.10, or what 2 ms more are."""
    return round(1 + max(0.1, 2 / milliseconds), 3)


def start_bars(found: Record) -> list[Bar]:
    bars = [at_most(f"ready at {imgsz} px, s", row["ready_s"], 2) for imgsz, row in found.items()]
    firsts = {imgsz: row["first_ready_s"] for imgsz, row in found.items()}
    return bars + [at_most(f"ready at {imgsz} px, nothing stored, s", first, 2) for imgsz, first in firsts.items()]


def one_client_bars(found: Record) -> list[Bar]:
    limit = alike(found["detector_ms"])
    return [at_most("one client: p50 beside Detector.detect (1.10, or 2 ms more)", found["ratio"], limit)]


def sixteen_bars(found: Record) -> list[Bar]:
    return [at_least("sixteen clients: throughput beside detect_all", found["ratio"], 0.85)]


def small_bars(found: Record) -> list[Bar]:
    return [at_least("sixteen clients at 160 px: throughput beside detect_all", found["ratio"], 0.6)]


def four_bars(found: Record) -> list[Bar]:
    return [at_most("four clients: p95 of the whole answer, ms", found["p95_ms"], 250)]


def peer_bars(found: Record) -> list[Bar]:
    first, locked = found[FIRST], found[LOCKED]
    bars = [
        at_least(f"eight clients: throughput beside {FIRST}", first["ours_photos_s_beside"], 1.5),
        at_most(f"eight clients: p99 beside {FIRST}", first["ours_p99_beside"], 0.5),
        at_least(f"eight clients: throughput beside {LOCKED} with a lock", locked["ours_photos_s_beside"], 1.1),
    ]
    for name in (LITSERVE, LITSERVE_DETECTOR):
        best = max((row for other, row in found.items() if other.startswith(name)), key=lambda row: row["photos_s"])
        bars.append(at_least(f"eight clients: throughput beside {name}", best["ours_photos_s_beside"], 1))
        bars.append(at_most(f"eight clients: memory beside {name}", best["ours_memory_beside"], 0.6))
    return bars


def overload_bars(found: Record) -> list[Bar]:
    before = found["p50_before_ms"]
    others = sum(count for status, count in found["statuses"].items() if status not in ("200", "503"))
    return [
        at_least("three times capacity: answered beside the peak", found["goodput"], 0.85),
        at_most("three times capacity: p99 of refusals, ms", found["refusals_p99_ms"], 50),
        at_most("three times capacity: memory, last quarter beside the second", found["memory_growth"], 1.05),
        at_most("three times capacity: neither answered nor refused, or cut", others + found["cut"], 0),
        at_most(
            "afterwards: p50 beside before (1.10, or 2 ms more)",
            round(found["p50_after_ms"] / before, 3),
            alike(before),
        ),
    ]


def batch_bars(found: Record) -> list[Bar]:
    return [at_least("five photos in a request beside five requests: throughput", found["ratio"], 1.3)]


def soak_bars(found: Record) -> list[Bar]:
    return [at_most("soak: memory at the end beside that after the first minute", found["growth"], 1.05)]


class Part(NamedTuple):
    measure: Callable[[Setting], Record]
    bars: Callable[[Record], list[Bar]]


PARTS = {
    "start": Part(serving_parts.start, start_bars),
    "one-client": Part(serving_parts.one_client, one_client_bars),
    "sixteen": Part(serving_parts.sixteen_clients, sixteen_bars),
    "sixteen-160": Part(serving_parts.sixteen_small, small_bars),
    "four": Part(serving_parts.four_clients, four_bars),
    "peers": Part(serving_parts.peers, peer_bars),
    "overload": Part(serving_parts.overload, overload_bars),
    "batch": Part(serving_parts.batch, batch_bars),
    "soak": Part(serving_parts.soak, soak_bars),
}


def measured(name: str, setting: Setting, folder: Path) -> Record:
    """The figures of a part, from an earlier run where code, models and durations were the same."""
    job = {
        "seconds": setting.seconds, "rounds": setting.rounds, "overload_s": setting.overload_seconds,
        "soak_s": setting.soak_seconds, "code": code_sha256(), "models": [str(one) for one in setting.models.values()],
    }  # fmt: skip
    kept = folder / f"{name}.json"
    if kept.exists() and (before := read_json(kept))["job"] == job:
        found: Record = before["result"]
        return found
    begun = time.perf_counter()
    found = PARTS[name].measure(setting)
    write_json(kept, {"job": job, "result": found})
    print(f"{name}: {time.perf_counter() - begun:.0f} s", flush=True)
    return found


def code_sha256() -> str:
    digest = hashlib.sha256()
    for file in sorted(code_below(Path("seamline"), {".py"})) + sorted(Path("bench").glob("serving*")):
        digest.update(f"{file.as_posix()} {sha256_of(file)}\n".encode())
    return digest.hexdigest()


def about(setting: Setting, machine: str | None) -> Record:
    """The machine, and the versions of what was measured."""
    facts = machine_facts(setting.cores)
    facts["libraries"] |= {name: version(name) for name in LIBRARIES}
    return {
        "machine": machine or f"{facts['processor']}, {facts['cores_used']} of {facts['cores_of_machine']} cores",
        **facts,
        "peers": dict(one.split("==") for one in requirements()),
        "photos": {"count": len(setting.photos), "kb": round(sum(map(size_kb, setting.photos)) / len(setting.photos))},
        "models": {name: {"confidence": round(one.confidence, 4)} for name, one in setting.models.items()},
        "seconds_of_a_turn": setting.seconds,
        "rounds": setting.rounds,
    }


def requirements() -> list[str]:
    lines = Path(__file__).with_name("serving-requirements.txt").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def size_kb(path: Path) -> float:
    return path.stat().st_size / 1000


def bars_to_records(bars: list[Bar]) -> list[Record]:
    return [{**bar._asdict(), "is_reached": bar.is_reached} for bar in bars]


def show(report: Record) -> None:
    print(f"\n{report['machine']}\n{'':<86}{'figure':>9}{'bar':>13}")
    for part in report["parts"].values():
        for bar in part["bars"]:
            limit = f"{'>=' if bar['at_least'] else '<='} {bar['limit']:g}"
            said = "" if bar["is_reached"] else "  not reached"
            print(f"{bar['promise']:<86}{bar['figure']:>9.3g}{limit:>13}{said}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS, help="these parts alone")
    parser.add_argument("--seconds", type=float, default=10, help="of a turn (default: 10)")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each side (default: 3)")
    parser.add_argument("--overload", type=float, default=60, help="seconds of overload (default: 60)")
    parser.add_argument("--soak", type=float, default=150, help="seconds of the soak (default: 150; whole: 600)")
    parser.add_argument(
        "--sizes", type=int, nargs=2, default=SIZES, help="input sizes of the models (default: 640 160)"
    )
    parser.add_argument("--weights", type=Path, default=Path("models/train/best.pt"), help="what models are made from")
    parser.add_argument("--machine", help="what the report calls it (default: its processor and cores)")
    parser.add_argument("--again", action="store_true", help="measure all of it again")
    parser.add_argument("--out", type=Path, help=f"the report (default: {WHOLE}; of some parts alone: {SOME})")
    args = parser.parse_args()
    if shutil.which("wrk") is None:
        sys.exit("error: wrk is not here; it is a package of Debian, and of others.")
    if not args.weights.is_file():
        sys.exit(f"error: {args.weights}: is not here; run make repro first, or name trained weights with --weights.")
    quiet_environment()
    cores = usable_core_ids(None)[:CORES]
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)  # of all that is started from here too
    photos = make_photos(SCRATCH / "photos", PHOTOS)
    models = {imgsz: make_int8(args.weights, imgsz, SCRATCH, photos) for imgsz in args.sizes}
    setting = Setting(
        models, tuple(args.sizes), photos, SCRATCH, PACKAGES, cores, args.seconds, args.rounds, args.overload, args.soak
    )
    folder = SCRATCH / "parts"
    if args.again:
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    out = args.out or (SOME if args.only else WHOLE)  # some parts do not take the place of the whole report
    out.parent.mkdir(parents=True, exist_ok=True)
    report: Record = {**about(setting, args.machine), "parts": {}}
    for name in PARTS:
        if not args.only or name in args.only:
            found = measured(name, setting, folder)
            report["parts"][name] = {"bars": bars_to_records(PARTS[name].bars(found)), **found}
            write_json(out, report)
    show(report)
    print(f"{out}: written")


if __name__ == "__main__":
    main()
