from __future__ import annotations

from typing import Literal

from seamline.params.loading.types import Count, Positive, Section


class Benchmark(Section):
    profile: Literal["quick", "full"]
    images: Count | None
    threads: Count | None
    rounds: Count | None
    timeout_s: Positive | None
