"""What a container or service may use of its machine: the limits of its control groups, old (v1) and new (v2)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from seamline.benchmark.machine import text_of

ENDLESS_BYTES = 1 << 60  # from here on v1's figure, which rounds the largest number down to pages, means no limit


class Limits(NamedTuple):
    """None: there is no limit."""

    cores: float | None
    memory_bytes: int | None


def own_limits(mount: Path = Path("/sys/fs/cgroup"), groups: Path = Path("/proc/self/cgroup")) -> Limits:
    """The tightest limits of this process's control groups and of those around them."""
    paths = group_paths(text_of(groups))
    cores, memories = [], []
    for folder in (*upwards(mount, paths.get("", "/")), *upwards(mount / "unified", paths.get("", "/"))):
        cores.append(quota_to_cores(text_of(folder / "cpu.max")))
        memories.append(text_to_bytes(text_of(folder / "memory.max")))
    for folder in upwards(mount / "cpu", paths.get("cpu", "/")):
        quota, period = text_of(folder / "cpu.cfs_quota_us"), text_of(folder / "cpu.cfs_period_us")
        cores.append(quota_to_cores(f"{quota} {period}"))
    for folder in upwards(mount / "memory", paths.get("memory", "/")):
        memories.append(text_to_bytes(text_of(folder / "memory.limit_in_bytes")))
    return Limits(
        min((limit for limit in cores if limit is not None), default=None),
        min((limit for limit in memories if limit is not None), default=None),
    )


def group_paths(text: str) -> dict[str, str]:
    """/proc/self/cgroup as controller -> path; the new kind, which is one for all controllers, has the name ""."""
    rows = [line.split(":", 2) for line in text.splitlines() if line.count(":") >= 2]
    return {controller: path for _, controllers, path in rows for controller in controllers.split(",")}


def upwards(mount: Path, group: str) -> Iterator[Path]:
    """A group's folder and those of the groups around it, whose limits hold for it too.

    Inside a container the path may be the host's and not be there; the mount itself is then the container's own group.
    """
    path = PurePosixPath("/", group)
    for part in (path, *path.parents):
        yield mount / part.relative_to("/")


def quota_to_cores(text: str) -> float | None:
    """Microseconds of computing in every so many, "150000 100000", as cores; "max" or -1: no limit."""
    fields = text.split()
    if len(fields) != 2 or fields[0] in ("max", "-1"):
        return None
    return int(fields[0]) / int(fields[1])


def text_to_bytes(text: str) -> int | None:
    if not text.strip() or text.strip() == "max" or int(text) >= ENDLESS_BYTES:
        return None
    return int(text)
