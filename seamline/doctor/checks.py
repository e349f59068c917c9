"""What would fail, and how to fix it, before hours are spent: the checks of `make doctor`.

A check looks at one thing, returns one finding and changes nothing. The checks of git and DVC are in repository.py,
those of the machine in hardware.py.
"""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import os
import re
import shlex
import shutil
import sys
import sysconfig
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seamline.base.errors import SeamlineError, some
from seamline.base.process import SCRATCH
from seamline.doctor.finding import AGAIN, Finding, attempt
from seamline.doctor.hardware import check_cores, check_gpu, check_memory, check_processor, check_shared_memory
from seamline.doctor.repository import (
    cache_folder,
    check_dvc_lock,
    check_dvc_yaml,
    check_git,
    check_links,
    check_locks,
    check_rwlock,
    check_untracked,
    existing,
    locked_stages,
)

if TYPE_CHECKING:
    from seamline.doctor.reach import Size
    from seamline.params.loading.loader import Params
    from seamline.params.pull import Pull
    from seamline.params.subset import Subset

PYTHONS = ((3, 11), (3, 15))  # the first one is allowed, the second one is not
VENV = Path(".venv")
OLD_PTH = "seamline-here.pth"  # of 0.9.0
NEW_VENV = f"`rm -r {VENV} && make setup`"
# data/ and the cache together, as a multiple of the images: at most 1.24 was measured (docs/data.md).
SPACE_FACTOR = 1.4
MODELS_BYTES = 1e9  # models, exports, and the state of a training
FILES_AN_IMAGE = 2  # the image and its label; all others are links


def examine() -> Iterator[Finding]:
    """Every check's finding, in the order in which things would fail."""
    yield attempt(check_python)
    yield attempt(check_environment)
    yield attempt(check_packages)
    yield attempt(check_dvc_hint)
    yield attempt(check_git)
    yield attempt(check_dvc_yaml)
    yield attempt(check_dvc_lock)
    yield attempt(check_rwlock)
    yield attempt(check_locks)
    yield attempt(check_links)
    finding = attempt(check_params)
    yield finding
    params = load_params() if finding.level == "ok" else None
    source, threads = None, None
    if params is None:
        found = "source, classes, disk, records, weights, GPU and shared memory, since params.yaml could not be read"
        yield Finding("note", "not checked", found, "correct that first")
    else:
        from seamline.params.benchmark import Benchmark
        from seamline.params.pull import Pull
        from seamline.params.rcnn import Rcnn
        from seamline.params.subset import Subset
        from seamline.params.train import Train

        source, threads, train = params[Pull].source, params[Benchmark].threads, params[Train]
        yield attempt(check_source, source)
        yield attempt(check_classes, params[Pull], params[Subset])
        yield attempt(check_disk, source)
        yield attempt(check_records, source)
        yield attempt(check_weights, train.model, params[Rcnn].start)
        yield attempt(check_gpu, train)
        yield attempt(check_shared_memory, train)
    yield attempt(check_processor)
    yield attempt(check_cores, threads)
    yield attempt(check_memory)
    readable = source is not None and not isinstance(size_or_fault(source), str)
    yield attempt(check_untracked, source if readable else None)


def check_python() -> Finding:
    return python_finding(sys.version_info[:2])


def python_finding(version: tuple[int, int]) -> Finding:
    oldest, newest = PYTHONS
    text = ".".join(map(str, version))
    if not oldest <= version < newest:
        remedy = f"`rm -rf {VENV} && make setup PYTHON=python3.11`"
        return Finding("FAIL", "Python", f"is {text}; 3.11 to 3.14 is needed", remedy)
    return Finding("ok", "Python", text)


def check_environment() -> Finding:
    return environment_finding(VENV.absolute(), Path(sys.prefix), sys.version_info[:2])


def environment_finding(venv: Path, prefix: Path, version: tuple[int, int]) -> Finding:
    """Whether the project's environment belongs to this Python and this folder.

    Args:
        venv: where `make setup` creates it.
        prefix: of the running Python.
        version: of the running Python.
    """
    name = "environment"
    if not venv.is_dir():
        return Finding("ok", name, f"{venv.name} is not here; packages are those of {prefix}")
    if not (venv / "bin" / "python").exists():
        return Finding("FAIL", name, f"the Python that {venv.name} was made with is gone", NEW_VENV)
    command = venv / "bin" / "dvc"
    head = command.read_bytes()[:512].decode(errors="replace") if command.is_file() else ""
    if head and f"{venv}/bin/python" not in head:  # in its first line, or the second where the path is long
        found = f"{venv.name} was made in another folder: its `dvc` starts the Python of that folder"
        return Finding("FAIL", name, found, NEW_VENV)
    if prefix.resolve() != venv.resolve():
        found = f"this is the Python of {prefix}, not {venv.name}'s"
        return Finding("note", name, found, f"`source {venv.name}/bin/activate`")
    made = re.search(r"^version\s*=\s*(\d+)\.(\d+)", (venv / "pyvenv.cfg").read_text(encoding="utf-8"), re.MULTILINE)
    if made and (int(made[1]), int(made[2])) != version:
        found = f"{venv.name} was made with Python {made[1]}.{made[2]}, and runs {version[0]}.{version[1]} now"
        return Finding("FAIL", name, found, NEW_VENV)
    return Finding("ok", name, f"{venv.name} is this folder's and this Python's")


def check_packages() -> Finding:
    if importlib.util.find_spec("packaging") is None:  # without it no version can be compared
        return Finding("FAIL", "packages", "differ from requirements.txt: packaging is missing", AGAIN)
    from packaging.utils import canonicalize_name

    installed: dict[str, str] = {}
    for package in importlib.metadata.distributions():
        installed.setdefault(canonicalize_name(package.name), package.version)  # the first found is imported
    return packages_finding(lines_of(Path("requirements.txt")), lines_of(Path("requirements.exclude")), installed)


def lines_of(path: Path) -> list[str]:
    lines = (line.partition("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line]


def packages_finding(pins: Sequence[str], excluded: Sequence[str], installed: Mapping[str, str]) -> Finding:
    """Args: pins: lines of requirements.txt; installed: versions by normalised names."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    wanted = [pin for pin in map(Requirement, pins) if pin.marker is None or pin.marker.evaluate()]
    wrong = []
    for pin in wanted:
        version = installed.get(canonicalize_name(pin.name))
        if version is None:
            wrong.append(f"{pin.name} is missing")
        elif not pin.specifier.contains(version, prereleases=True):
            wrong.append(f"{pin.name} is {version} instead of {str(pin.specifier).removeprefix('==')}")
    if wrong:
        return Finding("FAIL", "packages", f"differ from requirements.txt: {some(wrong)}", AGAIN)
    unwanted = [name for name in excluded if canonicalize_name(name) in installed]
    if unwanted:
        found = f"installed, though requirements.exclude excludes it for a reason: {some(unwanted)}"
        return Finding("FAIL", "packages", found, f"{NEW_VENV}, since removing it breaks what it overwrote")
    return Finding("ok", "packages", f"the {len(wanted)} of requirements.txt")


def check_dvc_hint() -> Finding:
    return dvc_hint_finding(Path(sysconfig.get_path("purelib")), Path("dvc_hint"))


def dvc_hint_finding(packages: Path, ours: Path) -> Finding:
    """Whether DVC looks at a bucket again after pull, and executes nothing in the folder it is started in.

    Args:
        packages: the environment's site-packages.
        ours: the folder with the files that belong there.
    """
    name = "DVC"
    if (packages / OLD_PTH).exists():
        found = f"{packages / OLD_PTH} makes `dvc` and `pip` execute files of any folder they are started in"
        return Finding("FAIL", name, found, AGAIN)
    for file in sorted(ours.glob("seamline_dvc_hint.*")):
        installed = packages / file.name
        if not installed.is_file() or installed.read_bytes() != file.read_bytes():
            found = f"{file} is not up to date in the environment: a bucket that changes during pull would go unnoticed"
            return Finding("FAIL", name, found, AGAIN)
    return Finding("ok", name, "looks at a bucket again after pull, and says what to do when it cannot be read")


def check_params() -> Finding:
    try:
        load_params()
    except SeamlineError as error:
        return Finding("FAIL", "params", str(error), "correct params.yaml as it says")
    return Finding("ok", "params", "params.yaml is valid")


def load_params() -> Params:
    from seamline.params.loading import loader as params

    return params.load_params()


@functools.cache  # for two checks, one look over the network
def size_or_fault(source: str) -> Size | str:
    """The size of a source, or the sentence that says why it cannot be read."""
    from seamline.doctor.reach import look

    try:
        return look(source)
    except SeamlineError as error:
        return str(error)


def is_pulled() -> bool:
    return bool(locked_stages().get("pull", {}).get("outs")) and Path("data/raw/annotations.json").exists()


def check_source(source: str) -> Finding:
    return source_finding(source, size_or_fault(source), is_pulled())


def source_finding(source: str, found: Size | str, pulled: bool) -> Finding:
    """Args: found: its size, or why it cannot be read; pulled: whether data/raw exists from an earlier pull."""
    from seamline.base.progress import size_text
    from seamline.base.urls import is_remote, shown

    if isinstance(found, str):
        if not is_remote(source):
            return Finding("FAIL", "source", found, "correct pull.source in params.yaml, or the files it names")
        if pulled:
            remedy = "`dvc repro --downstream subset` runs all other stages on data/raw as it is"
            return Finding("note", "source", found, remedy)
        remedy = "correct the address, the AWS configuration or the network (docs/s3.md)"
        return Finding("FAIL", "source", found, remedy)
    most = "" if found.whole else "at least "
    return Finding("ok", "source", f"{shown(source)}: {most}{size_text(found.bytes)}, {most}{found.files:,} files")


def check_classes(pull: Pull, subset: Subset) -> Finding:
    if isinstance(size_or_fault(pull.source), str) and not is_pulled():
        return Finding("note", "classes", "not checked, since the source cannot be read", "correct that first")
    from seamline.doctor.classes import classes_in_source

    return classes_in_source(pull, subset)


def check_records(source: str) -> Finding:
    """What the last pull dropped and repaired: no failure, but a model never sees what is dropped."""
    from seamline.base.files import read_json

    path = Path("reports/pull.json")
    return records_finding(read_json(path) if path.is_file() and pulled_source() == source else None)


def pulled_source() -> Any:
    """The source of the last pull, by dvc.lock; None where nothing was pulled."""
    try:
        return locked_stages()["pull"]["params"]["params.yaml"]["pull"]["source"]
    except (KeyError, TypeError):
        return None


def records_finding(report: Any) -> Finding:
    """Args: report: the contents of reports/pull.json; None: this source was not pulled."""
    name = "records"
    if report is None:
        return Finding("ok", name, "nothing was pulled from this source yet")
    counts = {verb: sum(report[verb].values()) for verb in ("dropped", "repaired")}
    found = f"the last pull dropped {counts['dropped']:,} and repaired {counts['repaired']:,}"
    if not counts["dropped"]:
        return Finding("ok", name, found)
    reason, most = max(report["dropped"].items(), key=lambda item: item[1])
    found += f", most of them for one reason ({most:,}: {reason})" if most > counts["dropped"] / 2 else ""
    return Finding("note", name, found, "reports/pull.csv lists each; docs/troubleshooting.md says how to mend them")


def check_disk(source: str) -> Finding:
    from seamline.doctor.reach import bytes_below

    folders = [existing(Path("data")), existing(cache_folder())]
    free = min(shutil.disk_usage(folder).free for folder in folders)
    states = [os.statvfs(folder) for folder in folders]
    # f_files is 0 on a file system without a fixed number of files.
    free_files = min((state.f_favail for state in states if state.f_files), default=None)
    present = max(bytes_below(Path("data/raw")), bytes_below(SCRATCH / "pull"))
    found = size_or_fault(source)
    return disk_finding(pulled_before() if isinstance(found, str) else found, present, free, free_files)


def pulled_before() -> Size | None:
    """The size of the last pull, for when the source cannot be read."""
    from seamline.base.files import read_json
    from seamline.doctor.reach import Size

    try:
        last = read_json(Path("reports/pull.json"))["source"]
        return Size(last["objects"], last["bytes"])
    except (SeamlineError, KeyError, TypeError):
        return None


def disk_finding(source: Size | None, present_bytes: int, free_bytes: int, free_files: int | None) -> Finding:
    """Whether the disk has room for the rest of the pipeline.

    Args:
        source: its size; None: unknown.
        present_bytes: how much of it was pulled already.
        free_bytes: on the disk of data/ and the cache; of two disks, on the fuller one.
        free_files: how many more files it can hold; None: no limit.
    """
    from seamline.base.progress import size_text

    free = f"{size_text(free_bytes)} free"
    remedy = (
        f"make room: `rm -r {SCRATCH}/pull` (downloads of earlier pulls), "
        "`.venv/bin/dvc gc --workspace` (results of earlier runs)"
    )
    if source is None:
        return Finding("note", "disk", f"{free}; the size of the source is unknown", "`df -h .` shows the free space")
    need_bytes = int(max(SPACE_FACTOR * source.bytes - present_bytes, 0) + source.archive_bytes + MODELS_BYTES)
    least = "" if source.whole else "at least "
    found = (
        f"{free}; {least}{size_text(need_bytes)} needed ({SPACE_FACTOR:g} times the source's {size_text(source.bytes)}"
        f"{', minus what is here already' if present_bytes else ''}, {size_text(int(MODELS_BYTES))} for models)"
    )
    if free_bytes < need_bytes:
        return Finding("FAIL", "disk", found, remedy)
    if free_files is not None and free_files < FILES_AN_IMAGE * source.files:
        found = f"room for {free_files:,} more files, and {FILES_AN_IMAGE * source.files:,} will be made (`df -i .`)"
        return Finding("FAIL", "disk", found, remedy)
    if free_bytes < 2 * need_bytes:
        return Finding("note", "disk", found, remedy)
    return Finding("ok", "disk", found)


def check_weights(model: str, start: str) -> Finding:
    """train.model and rcnn.start, found in the same way as by training, without importing ultralytics."""
    from seamline.params.rcnn import is_rcnn  # msgspec

    if is_rcnn(model):
        return rcnn_finding(model, start, SCRATCH / "train" / "weights")
    package = importlib.util.find_spec("ultralytics")
    if package is None or package.origin is None:
        raise ImportError("ultralytics is not installed")
    brought = (Path(package.origin).parent / "cfg" / "models").rglob("*-seg.yaml")
    known = {path.name for path in (*Path("architectures").glob("*.yaml"), *brought)}
    return weights_finding(model, known, (Path(), SCRATCH / "train" / "weights"))


def rcnn_finding(model: str, start: str, folder: Path) -> Finding:
    """Args: folder: where torchvision's weights are looked for."""
    from seamline.params.rcnn import MODELS

    name = "weights"
    if model not in MODELS:
        return Finding("FAIL", name, f"train.model: there is no R-CNN {model!r}", f"one of {', '.join(MODELS)}")
    if start not in ("coco", "imagenet", "none"):
        if any(path.is_file() for path in (Path(start), folder / Path(start).name)):
            return Finding("ok", name, start)
        return Finding("FAIL", name, f"rcnn.start: there is no file {start!r}", "coco, imagenet, none or a file")
    if start == "none" or (start == "imagenet" and "efficientnet_lite0" in model):
        return Finding("ok", name, f"{model}: rcnn.start is {start}")
    found = f"{model} starts from torchvision's weights ({start}), which are downloaded unless they are here"
    return Finding("note", name, found, f"without internet access, put the file into {folder}/")


def weights_finding(model: str, known: set[str], folders: Sequence[Path]) -> Finding:
    """Args: known: names of descriptions; folders: where weights are looked for."""
    name, path = "weights", Path(model)
    if path.suffix == ".yaml":
        family = re.sub(r"^(yolo(?:e-)?v?\d+)[nslmx]-seg", r"\1-seg", model)  # yolov8n-seg is a size of yolov8-seg
        if path.is_file() or {model, family} & known:
            return Finding("ok", name, f"{model}: a description, trained from scratch")
        remedy = f"train.model: one of {', '.join(sorted(known))}; or a .pt file"
        return Finding("FAIL", name, f"train.model: there is no {model!r}", remedy)
    if path.suffix != ".pt":
        found = f"train.model: {model!r} is neither a description (.yaml) nor weights (.pt)"
        return Finding("FAIL", name, found, "correct train.model in params.yaml")
    here = next((file for file in (folders[0] / path, folders[1] / path.name) if file.is_file()), None)
    if here is None:
        found = f"{model} is not here and will be downloaded when training starts, which needs internet access"
        return Finding("note", name, found, f"without internet access, put the file into {folders[1]}/")
    if not zipfile.is_zipfile(here):  # which torch writes
        found = f"{here} does not contain weights: it is truncated, or is a web page or a pointer file"
        return Finding("FAIL", name, found, f"`rm {shlex.quote(str(here))}`, and put the file there again")
    return Finding("ok", name, f"{here}")
