"""The rows of the benchmark: which model runs how, and in which process."""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from seamline.base.coco import Record
from seamline.benchmark.engine_process import EngineProcess
from seamline.inference.detector import Detector
from seamline.models.engines.onnx import CUDA_PROVIDER, import_onnxruntime
from seamline.models.exported import models_made
from seamline.params.evaluate import Evaluate

BF16 = {"avx512_bf16", "amx_bf16"}  # instructions, any of which makes bf16 worth a row

ON_GPU = ("tf32", "f16", "bf16")  # beside f32


class Row(NamedTuple):
    """A line of the benchmark: a model and how it is run."""

    name: str
    path: Path
    precision: str = "f32"
    device: str = "cpu"


class Concurrency(NamedTuple):
    """How many images are under way at once when throughput is measured: streams, each with a batch of its own."""

    streams: int = 1
    batch: int = 1


def timed_models(weights: Path, exported: Path) -> dict[str, Path]:
    """All but OpenVINO f16: its weights are stored as f16, and computed with as f32."""
    return {name: path for name, path in models_made(weights, exported).items() if name != "openvino_f16"}


def openable_models(models: Mapping[str, Path]) -> dict[str, Path]:
    """The models that can be opened here: without PyTorch's where torch is not installed, as in Dockerfile.cpu."""
    return {name: path for name, path in models.items() if name != "pytorch" or find_spec("torch") is not None}


def rows_to_measure(models: Mapping[str, Path], instructions: Sequence[str], on_gpu: Collection[str]) -> list[Row]:
    """Every model on the CPU, OpenVINO also in bf16 where the processor has it, then the models that can use a GPU.

    By default OpenVINO would choose bf16 by itself, and look twice as fast as the others; cuDNN tf32.
    """
    rows = []
    for name, path in models.items():
        rows.append(Row(name, path))
        if name == "openvino" and BF16 & set(instructions):
            rows.append(Row("openvino_bf16", path, precision="bf16"))
    for name, path in models.items():
        if name in on_gpu:
            rows.append(Row(f"{name}_cuda", path, device="cuda"))
            others = ON_GPU if name == "pytorch" else ()
            rows += [Row(f"{name}_cuda_{precision}", path, precision, "cuda") for precision in others]
    return rows


def formats_on_gpu(names: Collection[str]) -> list[str]:
    """Which of these can use a GPU; without a driver torch is not even imported, which takes long."""
    if not Path("/proc/driver/nvidia").exists():
        return []
    found = []
    if "pytorch" in names:
        import torch

        found += ["pytorch"] if torch.cuda.is_available() else []
    if "onnx" in names:
        found += ["onnx"] if CUDA_PROVIDER in import_onnxruntime().get_available_providers() else []
    return found


def concurrencies_to_try(row: Row, cores: int) -> list[Concurrency]:
    """One image on all cores, one image on each core, and half as many where there is room; on a GPU batches."""
    if row.device == "cuda":
        return [Concurrency(batch=batch) for batch in (1, 8, 32)]
    return [Concurrency(streams) for streams in sorted({1, cores // 2 or 1, cores})]


def start_row(
    row: Row, concurrency: Concurrency, cores: list[int], confidence: float, limits: Evaluate, timeout_s: float
) -> EngineProcess:
    """Start a row's process; the first request waits until its model is open."""
    open_detector = functools.partial(
        Detector,
        row.path,
        confidence,
        limits.nms_iou,
        limits.max_detections,
        len(cores),
        concurrency.streams,
        concurrency.batch,
        row.precision,
        row.device,
    )
    return EngineProcess(row.name, open_detector, cores, timeout_s)


def not_comparable(row: Record, reference: Record, stable: bool) -> str | None:
    """Why a row's figures cannot be compared with the reference's as they are; None where they can."""
    found = []
    if row["device"] != reference["device"]:
        found.append(f"runs on {row['device']}")
    elif row["precision"] != reference["precision"]:
        found.append(f"computes in {row['precision']}")
    elif row["threads"] != reference["threads"] or row["imgsz"] != reference["imgsz"]:
        found.append(f"has {row['threads']} threads and an input of {row['imgsz']} px")
    if not stable:
        found.append("had not become steady when the warm-up ended")
    return " and ".join(found) or None
