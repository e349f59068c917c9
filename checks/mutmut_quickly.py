"""mutmut as `make mutants` runs it: the quickest tests first, and no mutant is killed by a machine that is busy."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from mutmut.__main__ import cli
from mutmut.state import state
from mutmut.workers import isolation

PATIENCE = 5  # times mutmut's limit on the wall, which is half of its limit on processor time


class Runner(isolation.ForkServerRunner):  # type: ignore[misc]
    def submit(self, mutant_name: str, tests: list[str], cpu_time_limit: int, estimated_time: float) -> None:
        super().submit(mutant_name, quickest_first(tests), cpu_time_limit, estimated_time)

    def run_clean_tests(self, tests: Iterable[str]) -> int:
        return 0  # the run that saw which test reaches which function was one


def quickest_first(tests: Iterable[str]) -> list[str]:
    """File by file, as each makes its fixtures anew when another was between; mutmut's own order is that of a set."""
    duration = state().duration_by_test
    of_file: dict[str, float] = defaultdict(float)
    for test in tests:
        of_file[file_of(test)] += duration.get(test, 0.0)
    return sorted(tests, key=lambda test: (of_file[file_of(test)], file_of(test), duration.get(test, 0.0), test))


def file_of(test: str) -> str:
    return test.partition("::")[0]


def main() -> None:
    register = isolation.register_timeout
    isolation.register_timeout = lambda pid, timeout_s: register(pid, PATIENCE * timeout_s)
    isolation.ForkServerRunner = Runner
    cli()


if __name__ == "__main__":
    main()
