"""One detector used from many threads: whether each result is what it is alone.

For every engine, kind of call and number of threads: `--calls` calls in all on the test photos, each result compared
with what the same call gave alone, to the last bit. Exit status 1 where one differs or fails.

Example: python -m bench.threads                    # 1,000 calls a cell, some ten minutes on 2 cores
         python -m bench.threads --calls 100 --engines openvino openvino_int8
"""

import argparse
import sys
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from seamline.base.files import write_json
from seamline.base.process import quiet_environment
from seamline.base.processors import instructions
from seamline.images.reading import ImageError
from seamline.inference.detector import Detector
from seamline.inference.threads import limit_other_threads
from seamline.models.detections import Detections
from seamline.models.engines.opening import NO_MODEL
from seamline.models.exported import model_paths

BF16 = "openvino_bf16"
THREADS = (2, 4, 8, 16)


def by_detect(detector: Detector, photos: Sequence[Path]) -> list[Detections | ImageError]:
    return [detector.detect(photo) for photo in photos]


def by_detect_all(detector: Detector, photos: Sequence[Path]) -> list[Detections | ImageError]:
    return list(detector.detect_all(photos))


def by_detect_beside(detector: Detector, photos: Sequence[Path]) -> list[Detections | ImageError]:
    return [detector.detect_beside(photo) for photo in photos]


def by_submit(detector: Detector, photos: Sequence[Path]) -> list[Detections | ImageError]:
    return [future.result() for future in [detector.submit(photo) for photo in photos]]


CALLS: dict[str, Callable[[Detector, Sequence[Path]], list[Detections | ImageError]]] = {
    "detect": by_detect,
    "detect_all": by_detect_all,
    "submit": by_submit,
    "detect_beside": by_detect_beside,
}


def are_equal(found: Detections | ImageError, expected: Detections | ImageError) -> bool:
    """To the last bit; times aside."""
    if isinstance(found, ImageError) or isinstance(expected, ImageError):
        return str(found) == str(expected)
    return all(
        np.array_equal(getattr(found, name), getattr(expected, name))
        for name in ("boxes", "scores", "classes", "height", "width")
    ) and all(np.array_equal(found.runs(index), expected.runs(index)) for index in range(len(found)))


def count_differences(
    detector: Detector, kinds: Sequence[str], photos: Sequence[Path], threads: int, calls: int
) -> Counter[str]:
    """Calls of these kinds from this number of threads at once, each beginning with another photo.

    Returns:
        The number of calls under "calls", of results unlike those alone under "different", and of errors.
    """
    alone = {kind: CALLS[kind](detector, photos) for kind in kinds}
    counts: Counter[str] = Counter()
    ready = threading.Barrier(threads)

    def work(number: int) -> None:
        kind = kinds[number % len(kinds)]
        ready.wait()
        for turn in range(-(-calls // (threads * len(photos)))):
            order = [(number + turn + index) % len(photos) for index in range(len(photos))]
            try:
                found = CALLS[kind](detector, [photos[index] for index in order])
            except Exception as error:  # whatever it is, it is counted
                counts[f"{type(error).__name__}: {error}"] += len(order)
                continue
            wrong = sum(not are_equal(one, alone[kind][index]) for one, index in zip(found, order, strict=True))
            counts.update({"calls": len(order), "different": wrong})

    workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, default=Path("models/train/best.pt"))
    parser.add_argument("--exported", type=Path, default=Path("models/export"))
    parser.add_argument("--photos", type=Path, default=Path("data/subset/images"))
    parser.add_argument("--calls", type=int, default=1000, help="a cell")
    parser.add_argument("--engines", nargs="+", help="some of the formats, and openvino_bf16 (default: all)")
    parser.add_argument("--out", type=Path, help="the table as JSON")
    args = parser.parse_args()
    quiet_environment()
    limit_other_threads()

    models = model_paths(args.weights, args.exported)
    models = {name: path for name, path in models.items() if path.exists() and not (path / NO_MODEL).exists()}
    if "openvino" in models and {"avx512_bf16", "amx_bf16"} & set(instructions()):
        models[BF16] = models["openvino"]
    photos = sorted(args.photos.iterdir())[:20]
    rows = []
    print(f"{'engine':15} {'call':13} {'threads':>7} {'calls':>6} {'different':>9} {'errors':>6}")
    for name in args.engines or models:
        detector = Detector(models[name], 0.05, precision="bf16" if name == BF16 else "f32")
        for kinds in (["detect"], ["detect_all"], ["submit"], ["detect_beside"], list(CALLS)):
            for threads in THREADS:
                counts = count_differences(detector, kinds, photos, threads, args.calls)
                errors = {key: count for key, count in counts.items() if key not in ("calls", "different")}
                row = {
                    "engine": name,
                    "call": "+".join(kinds) if len(kinds) == 1 else "all of them",
                    "threads": threads,
                }
                row |= {"calls": counts["calls"], "different": counts["different"], "errors": sum(errors.values())}
                rows.append(row)
                tqdm.write(
                    f"{name:15} {row['call']:13} {threads:7} {row['calls']:6} {row['different']:9} {row['errors']:6}"
                )
                for error, count in errors.items():
                    tqdm.write(f"    {count} x {error}")
        detector.close()
    if args.out:
        write_json(args.out, rows)
    if any(row["different"] or row["errors"] for row in rows):
        sys.exit(1)


if __name__ == "__main__":
    main()
