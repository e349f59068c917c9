"""Which kind of processor this is, and which one made a training: another kind rounds differently.

A finished training is identified by what its numbers depend on in PyTorch's eyes (the instructions it uses), and two
processors of one such kind may still give other weights. So whoever trains notes the processor beside the training.
"""

from __future__ import annotations

import contextlib
import functools
import platform
import subprocess
from pathlib import Path

from seamline.base.coco import Record
from seamline.base.files import read_json, write_json

CPUINFO = Path("/proc/cpuinfo")  # on Linux only
INSTRUCTIONS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "avx_vnni", "amx_bf16", "amx_int8")
NOTE = "processor.json"


def processor_kind() -> Record:
    """Name and instructions of this machine's processor; instructions are None where the system does not say."""
    known = "flags" in processor_fields()
    return {"name": processor_name(), "instructions": instructions() if known else None}


def processor_name() -> str:
    name = processor_fields().get("model name", "")
    if not name and platform.system() == "Darwin":
        with contextlib.suppress(OSError):
            command = ["sysctl", "-n", "machdep.cpu.brand_string"]
            name = subprocess.run(command, capture_output=True, text=True).stdout.strip()
    return name or platform.processor() or platform.machine()


@functools.cache
def processor_fields() -> dict[str, str]:
    """/proc/cpuinfo of one core; {} where there is none."""
    try:
        lines = CPUINFO.read_text().splitlines()
    except OSError:
        return {}
    pairs = (line.partition(":") for line in lines)
    return {key.strip(): value.strip() for key, _, value in pairs if value}


def instructions() -> list[str]:
    """Those of INSTRUCTIONS that the processor has; [] where the system does not say."""
    flags = processor_fields().get("flags", "").split()
    return [flag for flag in INSTRUCTIONS if flag in flags]


def times_written(finished: Path) -> dict[str, int]:
    """When each finished training was written, by the name of its folder; for note_processor."""
    return {folder.name: time_written(folder) for folder in finished.glob("*")}


def time_written(folder: Path) -> int:
    """In nanoseconds; 0 where there is no training. Nobody has other links to this file, as they have to weights."""
    try:
        return (folder / "facts.json").stat().st_mtime_ns
    except OSError:
        return 0


def note_processor(folder: Path, before: dict[str, int]) -> None:
    """Write beside a finished training which processor it is of, if it was made since `before` (times_written)."""
    if time_written(folder) != before.get(folder.name):
        write_json(folder / NOTE, processor_kind())


def processor_of_training(folder: Path, facts: Record) -> Record | None:
    """Kind of the processor that a finished training was made on.

    Args:
        folder: of the finished training.
        facts: the training's; of one that was taken over they have the processor that its report names.

    Returns:
        None where nobody noted it, as before Seamline did.
    """
    if facts.get("taken_over"):
        return facts.get("processor")
    return read_json(folder / NOTE) if (folder / NOTE).is_file() else None
