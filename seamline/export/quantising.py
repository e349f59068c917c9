"""What all that is quantised to INT8 is quantised by, and how its rungs are tried."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from seamline.base.coco import Record
from seamline.export.openvino import save_openvino
from seamline.models.engines.openvino import rt_info
from seamline.models.exported import REFUSED

# What is quantised on each rung: everything; the same with a zero point for activations, which spends no numbers on
# values that an activation never has. Detectors have more rungs (int8.RUNGS).
FULL, ZERO_POINTS = "full", "with zero points"
RUNGS = (FULL, ZERO_POINTS)


def tried_rungs(rungs: Sequence[str], try_rung: Callable[[str], Record]) -> list[Record]:
    """What was found on each rung that was tried, until one is not refused; the last one's outcome is that of INT8."""
    tried: list[Record] = []
    for rung in rungs:
        tried.append(try_rung(rung))
        if tried[-1]["outcome"] != REFUSED:
            break
    return tried


@contextlib.contextmanager
def quiet_nncf() -> Iterator[Any]:
    """NNCF, whose progress is not a stage's output."""
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # says that there is no CUDA
    import nncf

    nncf.set_log_level(logging.ERROR)
    with contextlib.redirect_stdout(sys.stderr):
        yield nncf


def preset_of(nncf: Any, rung: str) -> Any:
    return nncf.QuantizationPreset.PERFORMANCE if rung == FULL else nncf.QuantizationPreset.MIXED


def quantise_on_tensors(
    f32: Path,
    tensors: Sequence[npt.NDArray[np.float32]],
    rung: str,
    out: Path,
    metadata: Mapping[str, str],
    is_transformer: bool = False,
) -> None:
    """Quantise an OpenVINO folder's model to INT8.

    Args:
        tensors: the model's inputs, from which the ranges of activations are taken; always all of them, in order.
        rung: one of RUNGS.
        metadata: what the model says of itself beside what the f32 one says.
    """
    import openvino

    model = openvino.Core().read_model(f32 / "model.xml")
    said = rt_info(model)
    with quiet_nncf() as nncf:
        quantised = nncf.quantize(
            model,
            nncf.Dataset(list(tensors)),
            preset=preset_of(nncf, rung),
            subset_size=len(tensors),
            model_type=nncf.ModelType.TRANSFORMER if is_transformer else None,
        )
    save_openvino(quantised, out, {**said, **metadata, "int8": rung})
