"""How many cores and how much memory a container may use: the limits of its control groups, v1 and v2."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from seamline.benchmark.machine import text_of

ENDLESS_BYTES = 1 << 60  # v1 writes about 2**63 where there is no limit


class Limits(NamedTuple):
    """None: no limit."""

    cores: float | None
    memory_bytes: int | None


def own_limits(mount: Path = Path("/sys/fs/cgroup"), groups: Path = Path("/proc/self/cgroup")) -> Limits:
    """The lowest limits of this process's control groups and of the groups around them."""
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
    """/proc/self/cgroup as controller -> path; v2, with one group for all controllers, has the name ""."""
    rows = [line.split(":", 2) for line in text.splitlines() if line.count(":") >= 2]
    return {controller: path for _, controllers, path in rows for controller in controllers.split(",")}


def upwards(mount: Path, group: str) -> Iterator[Path]:
    """A group's folder and the folders of the groups around it, whose limits apply as well.

    Inside a container the path may be the host's and not exist; then the mount itself is the container's own group.
    """
    path = PurePosixPath("/", group)
    for part in (path, *path.parents):
        yield mount / part.relative_to("/")


def quota_to_cores(text: str) -> float | None:
    """Microseconds of computing in each period of microseconds, "150000 100000", as cores; "max" or -1: no limit."""
    fields = text.split()
    if len(fields) != 2 or fields[0] in ("max", "-1"):
        return None
    return int(fields[0]) / int(fields[1])


def text_to_bytes(text: str) -> int | None:
    if not text.strip() or text.strip() == "max" or int(text) >= ENDLESS_BYTES:
        return None
    return int(text)
