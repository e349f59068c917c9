"""How long a model of attributes takes for one garment, on one core."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from seamline.base.coco import Record
from seamline.images.reading import Image
from seamline.inference.classifier import AttributeClassifier

ROUNDS = 5  # in which the models take turns, so that a slow minute is nobody's alone
PHOTOS = 24  # in each
WARMUP = 2


def time_models(models: dict[str, tuple[Path, str]], photos: Sequence[Image]) -> dict[str, Record]:
    """Median and 90th percentile of classify_photo() for decoded photos, one at a time, on one thread.

    Args:
        models: by the row's name: the model, and the precision that is asked for. A row is left out where the processor
            computes in another one.
    """
    opened = {name: AttributeClassifier(path, 1, precision) for name, (path, precision) in models.items()}
    opened = {name: one for name, one in opened.items() if models[name][1] in ("f32", one.precision)}
    times_ms: dict[str, list[float]] = {name: [] for name in opened}
    cpu_s = dict.fromkeys(opened, 0.0)
    for number in range(-1, ROUNDS):
        for name, classifier in opened.items():
            begun_s = time.process_time()
            for photo in photos[: PHOTOS if number >= 0 else WARMUP]:
                start = time.perf_counter()
                classifier.classify_photo(photo)
                if number >= 0:
                    times_ms[name].append(1000 * (time.perf_counter() - start))
            cpu_s[name] += (number >= 0) * (time.process_time() - begun_s)
    rows = {}
    for name, classifier in opened.items():
        p50, p90 = np.percentile(times_ms[name], [50, 90])
        rows[name] = {
            "precision": classifier.precision,
            "threads": 1,
            "garments": len(times_ms[name]),
            "p50_ms": round(float(p50), 3),
            "p90_ms": round(float(p90), 3),
            "cpu_ms": round(1000 * cpu_s[name] / len(times_ms[name]), 3),  # of the processor, whatever else it does
        }
        classifier.close()
    return rows
