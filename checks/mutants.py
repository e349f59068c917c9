"""Whether the tests notice lines that were changed on purpose: mutmut on a copy of the code, a room at a time.

A sample of each room's mutants, the same one as long as their functions stay as they are, or all of them. Prints what
survived and the share that was killed. Fails where that is less than the room's bar in mutants.toml, or where
docs/mutants.md does not say why one survived.

Example: python -m checks.mutants masks splits
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mutmut import configuration
from mutmut.mutation.data import SourceFileMutationData
from mutmut.mutation.diff_apply import get_diff_for_mutant
from mutmut.mutation.file_mutation import mutate_file_contents
from mutmut.stats import status_by_exit_code
from mutmut.utils.file_utils import walk_mutatable_files
from mutmut.utils.format_utils import get_mutant_name

from seamline.base.files import write_json

PROJECT = Path(__file__).resolve().parent.parent
FOLDER = PROJECT / ".seamline" / "mutants"
REASONS = PROJECT / "docs" / "mutants.md"
QUICKLY = PROJECT / "checks" / "mutmut_quickly.py"
CODE = ("seamline", "stages", "bench", "tests", "docs", "samples", "architectures", "pyproject.toml")
KILLED = ("killed", "timeout", "segfault")  # a mutant that never ends, or ends Python, does not pass


def main() -> int:
    config = tomllib.loads((PROJECT / "checks" / "mutants.toml").read_text(encoding="utf-8"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rooms", nargs="*", help="which rooms of checks/mutants.toml; none: all of them")
    parser.add_argument("--all", action="store_true", help="all mutants in place of a sample")
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="how many mutants at once")
    arguments = parser.parse_args()
    failed = False
    for name in arguments.rooms or config["rooms"]:
        found = tested(name, config, None if arguments.all else config["sample"], arguments.processes)
        write_json(FOLDER / f"{name}.json", found)
        failed |= not passes(name, found, config["rooms"][name]["bar"])
    return int(failed)


def tested(name: str, config: Mapping[str, Any], sample: int | None, processes: int) -> dict[str, Any]:
    """How a room's mutants fared: their number, the seconds they took, each one's status, what survivors change."""
    folder = copied(FOLDER / name)
    with (folder / "pyproject.toml").open("a", encoding="utf-8") as stream:
        stream.write(settings(config, config["rooms"][name]))
    os.chdir(folder)
    configuration.reset_config()
    known = names()
    chosen = known if sample is None else first_by_hash(known, sample, config["seed"])
    begun, before = time.monotonic(), processor_seconds()
    command = [sys.executable, QUICKLY.name, "run", "--max-children", str(processes), *chosen]
    if subprocess.run(command, check=False).returncode != 0:
        sys.exit(f"{name}: mutmut failed")
    data = {path: loaded(path) for path in walk_mutatable_files()}
    statuses = {
        mutant: (status_by_exit_code[data[path].exit_code_by_key[mutant]], path)
        for path in data
        for mutant in sorted(set(chosen) & data[path].exit_code_by_key.keys())
    }
    return {
        "mutants": len(known),
        "seconds": round(time.monotonic() - begun),
        "processor_seconds": round(processor_seconds() - before),
        "statuses": {mutant: status for mutant, (status, _) in statuses.items()},
        "survivors": {
            mutant: str(get_diff_for_mutant(mutant, path=path))
            for mutant, (status, path) in statuses.items()
            if status not in KILLED
        },
    }


def processor_seconds() -> float:
    """Of all processes that have ended here: the same on a machine that is busy."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def copied(folder: Path) -> Path:
    """The code anew in a folder, so that nothing of the working tree is changed."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in CODE:
        if (PROJECT / name).is_dir():
            shutil.copytree(PROJECT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(PROJECT / name, folder)
    shutil.copy2(QUICKLY, folder)
    return folder


def settings(config: Mapping[str, Any], room: Mapping[str, Any]) -> str:
    """mutmut's section of pyproject.toml. JSON's strings and lists are TOML's too."""
    arguments = ["-m", "not slow and not thorough", "-p", "no:cacheprovider", "--hypothesis-seed=0"]
    if "leave_out" in room:
        arguments += ["-k", f"not ({' or '.join(room['leave_out'])})"]
    values = {
        "source_paths": ["seamline"],
        "only_mutate": room["files"],
        "do_not_mutate_patterns": config["messages"],
        "also_copy": [name for name in CODE if name != "seamline"],
        "pytest_add_cli_args_test_selection": room["tests"],
        "pytest_add_cli_args": arguments,
        "process_isolation": "forkserver",  # not from a process in which torch and OpenCV have threads
        "timeout_multiplier": 4.0,
        "timeout_constant": 5.0,
        "use_git_change_detection": False,
    }
    return "\n[tool.mutmut]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items())


def names() -> list[str]:
    """The mutants of the room in this folder, messages left out."""
    return [
        get_mutant_name(path, mutant)
        for path in sorted(walk_mutatable_files())
        for mutant in mutate_file_contents(str(path), path.read_text(encoding="utf-8")).mutant_names
    ]


def first_by_hash(mutants: Iterable[str], count: int, seed: int) -> list[str]:
    """A random choice that a change elsewhere leaves as it is."""
    return sorted(mutants, key=lambda mutant: hashlib.sha256(f"{seed} {mutant}".encode()).digest())[:count]


def loaded(path: Path) -> Any:
    data = SourceFileMutationData(path=path)
    data.load()
    return data


def passes(name: str, found: Mapping[str, Any], bar: float) -> bool:
    """Print a room's survivors and its score; whether it is good enough."""
    reasons = REASONS.read_text(encoding="utf-8") if REASONS.is_file() else ""
    survivors, count = found["survivors"], len(found["statuses"])
    unexplained = [mutant for mutant in survivors if f"`{mutant}`" not in reasons]
    for mutant in unexplained:
        print(f"\n{mutant}: {found['statuses'][mutant]}, and docs/mutants.md does not say why\n{survivors[mutant]}")
    for mutant, status in found["statuses"].items():
        if status in KILLED and f"`{mutant}`" in reasons:
            print(f"{mutant}: killed, though docs/mutants.md has a row of it; another change may have its number now")
    killed, stopped = count - len(survivors), list(found["statuses"].values()).count("timeout")
    print(
        f"{name}: {killed} of {count} mutants killed ({killed / count:.0%}, at least {bar:.0%} are asked for), "
        f"{stopped} of them by a limit of time; {found['mutants']} there are; {found['seconds']} s, "
        f"{found['processor_seconds']} s of processor time"
    )
    return killed >= bar * count and not unexplained


if __name__ == "__main__":
    sys.exit(main())
