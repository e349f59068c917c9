"""The package as others install it: what is in the wheel, what comes with it, and that it predicts on its own."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import PROJECT
from tests.needs_torch import NEEDS_TORCH
from tests.stages.test_repro import modules_imported
from tests.untrained import Untrained

PYPROJECT: dict[str, Any] = tomllib.loads((PROJECT / "pyproject.toml").read_text())
DEPENDENCIES: list[str] = PYPROJECT["project"]["dependencies"]
EXTRAS: dict[str, list[str]] = PYPROJECT["project"]["optional-dependencies"]
PACKAGES = {
    "cv2": "opencv-python-headless",
    "PIL": "pillow",
    "pillow_heif": "pillow-heif",
    "yaml": "pyyaml",
    "python_multipart": "python-multipart",
    "prometheus_client": "prometheus-client",
    "qdrant_client": "qdrant-client",
    "open_clip": "open-clip-torch",
    "huggingface_hub": "huggingface-hub",
}

# Put on the path as sitecustomize.py: whoever asks for another machine is noted, and gets none.
NO_NETWORK = """
import os
import sys

ASKING = ("socket.getaddrinfo", "socket.connect", "socket.sendto")

def refuse(event, arguments):
    if event in ASKING and not isinstance(arguments[-1], (str, bytes)):  # which are sockets on this machine
        with open(os.environ["ASKED_FOR"], "a") as stream:
            stream.write(f"{event} {arguments}\\n")
        raise OSError("there is no network in this test")

sys.addaudithook(refuse)
"""


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[\[=<>~!; ]", requirement)[0] for requirement in requirements}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy of what is packaged, with the setuptools that is here."""
    source = tmp_path_factory.mktemp("source")
    shutil.copytree(PROJECT / "seamline", source / "seamline", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(PROJECT / name, source)
    code = "from setuptools.build_meta import build_wheel; build_wheel('dist')"
    done = subprocess.run([sys.executable, "-c", code], cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    [path] = (source / "dist").iterdir()
    return path


def test_the_wheel_has_every_file_of_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    there = {path.relative_to(PROJECT).as_posix() for path in (PROJECT / "seamline").rglob("*") if path.is_file()}
    assert packed == {name for name in there if "__pycache__" not in name}
    assert "seamline/report/templates/report.html" in packed


def test_the_wheel_says_what_it_is_and_brings_no_torch(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        [metadata, command] = (
            archive.read(next(name for name in archive.namelist() if name.endswith(f".dist-info/{file}"))).decode()
            for file in ("METADATA", "entry_points.txt")
        )
    assert "License-Expression: Apache-2.0\n" in metadata
    assert "Requires-Python: <3.15,>=3.11\n" in metadata
    assert "# Seamline" in metadata
    assert "seamline = seamline.cli:main" in command
    brought = re.findall(r"^Requires-Dist: ([\w.-]+)[^;\n]*$", metadata, re.MULTILINE)
    assert set(brought) == names(DEPENDENCIES)
    assert not set(brought) & {"torch", "torchvision", "ultralytics", "dvc", "nncf", "onnx"}


def test_what_predict_imports_is_what_an_installation_brings() -> None:
    """At the top of any module that it imports; torch and others only where they are asked for.

    What reads buckets and the web is imported for them alone, and may need what the extra s3 brings.
    """
    script = PROJECT / "seamline" / "verbs" / "predict.py"
    brought, found = names(DEPENDENCIES), set()
    for module in [script, *(PROJECT / name for name in modules_imported(script) - {*NEEDS_TORCH})]:
        remote = module.parent.name == "remote"
        allowed = brought | {*names(EXTRAS["s3"]), "aiohttp", "botocore"} if remote else brought
        for package in re.findall(r"^(?:import|from) (\w+)", module.read_text(), re.MULTILINE):
            if package not in sys.stdlib_module_names and package != "seamline":
                assert PACKAGES.get(package, package) in allowed, f"{module} imports {package}"
                found.add(PACKAGES.get(package, package))
    late = {"onnxruntime", "openvino", "pyzipper", "usearch"}
    assert brought - found == late, "what nobody imports is not needed"


@pytest.mark.parametrize("start", ["verbs/predict.py", "service/running.py", "service/app.py"])
def test_what_is_imported_late_comes_with_an_installation_too(start: str) -> None:
    """A polygon of a mask in several parts needs scipy, imported for the first one: the service answered 500."""
    optional = {"torch", "ultralytics", "pillow_heif", "tokenizers"}  # for best.pt, GPUs, HEIC, texts, which say so
    brought = names(DEPENDENCIES + EXTRAS["serve"] + EXTRAS["s3"]) | {"botocore", "yarl"}  # with s3fs, aiohttp
    for module in modules_imported(PROJECT / "seamline" / start) - {*NEEDS_TORCH}:
        code = (PROJECT / module).read_text()
        for package in re.findall(r"^ *(?:import|from) (\w+)[\w.]*(?: import .*|$)", code, re.MULTILINE):
            if package not in sys.stdlib_module_names and package not in {"seamline", *optional}:
                assert PACKAGES.get(package, package) in brought, f"{module} imports {package}"


def test_every_import_of_ours_is_a_package_that_pyproject_names() -> None:
    """Or, named here, one that comes with another and is looked at only for its sake."""
    grown = {"aiohttp": "s3fs", "botocore": "s3fs", "fsspec": "s3fs", "dvc_objects": "dvc", "voluptuous": "dvc"}
    grown |= {
        "timm": "open-clip-torch",
        "yarl": "aiohttp",
        "packaging": "dvc",
        "psutil": "dvc",
        "ruamel": "ruamel.yaml.clib",
    }
    named = names(DEPENDENCIES + [name for extra in EXTRAS.values() for name in extra])
    for path in [*(PROJECT / "seamline").rglob("*.py"), *(PROJECT / "stages").glob("*.py")]:
        for package in re.findall(r"^\s*(?:import|from) (\w+)[\w.]*(?: import .*|$)", path.read_text(), re.MULTILINE):
            if package not in sys.stdlib_module_names and package not in ("seamline", "stages"):
                assert PACKAGES.get(package, grown.get(package, package)) in named, f"{path} imports {package}"


def empty_place(folder: Path) -> tuple[Path, dict[str, str]]:
    """An empty working folder, and an environment with an empty home and an empty folder for what is temporary."""
    for name in ("work", "home", "tmp", "path"):
        (folder / name).mkdir(parents=True)
    (folder / "path" / "sitecustomize.py").write_text(NO_NETWORK)
    keep = ("PATH", "LANG", "OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
    environment = {name: value for name, value in os.environ.items() if name in keep}
    environment |= {
        "HOME": str(folder / "home"),
        "TMPDIR": str(folder / "tmp"),
        "ASKED_FOR": str(folder / "asked for"),
        "PYTHONPATH": str(folder / "path"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    return folder / "work", environment


def left(work: Path) -> list[str]:
    """What is in an empty place now, below its working folder only what lies at the top."""
    place = work.parent
    paths = [*work.iterdir(), *(place / "home").rglob("*"), *(place / "tmp").rglob("*"), *place.glob("asked for")]
    return sorted(path.relative_to(place).as_posix() for path in paths)


LIBRARY = """
import sys
from seamline.inference.detector import Detector

assert len(Detector(sys.argv[1], confidence=0.05).detect(sys.argv[2]).scores)
"""


@pytest.mark.process
@pytest.mark.parametrize("name", ["pytorch", "onnx", "openvino"])
def test_an_empty_folder_has_the_output_and_nothing_else(untrained: Untrained, tmp_path: Path, name: str) -> None:
    """Of the command, and of a Detector in somebody's own process; nor is there anything in the home."""
    arguments = [str(untrained.models()[name]), str(untrained.images()[0])]
    for way, command, expected in (
        ("command", ["-m", "seamline", "predict", *arguments], ["work/predictions"]),
        ("library", ["-c", LIBRARY, *arguments], []),
    ):
        work, environment = empty_place(tmp_path / way)
        environment["PYTHONPATH"] += f"{os.pathsep}{PROJECT}"
        done = subprocess.run([sys.executable, *command], cwd=work, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert left(work) == expected


@pytest.mark.process
def test_what_libraries_keep_goes_where_seamline_scratch_says(untrained: Untrained, tmp_path: Path) -> None:
    work, environment = empty_place(tmp_path / "place")
    environment["PYTHONPATH"] += f"{os.pathsep}{PROJECT}"
    environment["SEAMLINE_SCRATCH"] = str(tmp_path / "scratch")
    command = ["-m", "seamline", "predict", str(untrained.weights), str(untrained.images()[0])]
    done = subprocess.run([sys.executable, *command], cwd=work, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert left(work) == ["work/predictions"]
    assert {path.name for path in (tmp_path / "scratch").iterdir()} == {"matplotlib", "ultralytics"}


@pytest.mark.thorough
def test_pip_install_into_an_empty_environment_predicts_and_reports_nothing(
    wheel: Path, untrained: Untrained, tmp_path: Path
) -> None:
    """openvino brings openvino-telemetry, which reports that it was imported, unless it is kept from it."""
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    pip = [str(python), "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "--no-cache-dir", str(wheel)], cwd=tmp_path, check=True)
    freeze = subprocess.run([*pip, "freeze"], check=True, capture_output=True, text=True).stdout
    installed = {line.partition("==")[0].lower() for line in freeze.splitlines()}
    assert installed >= {"openvino", "onnxruntime", "openvino-telemetry"}
    assert not installed & {"torch", "ultralytics", "dvc", "nncf", "onnx", "s3fs"}

    for name in ("onnx", "openvino"):
        work, environment = empty_place(tmp_path / name)
        arguments = [untrained.models()[name], *untrained.images()[:3]]
        command = [str(python.with_name("seamline")), "predict", *map(str, arguments)]
        done = subprocess.run(command, cwd=work, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert "3 images in" in done.stdout
        assert "instances:" in done.stdout
        assert left(work) == ["work/predictions"]
        assert len((work / "predictions" / "predictions.csv").read_text().splitlines()) > 1

    work, environment = empty_place(tmp_path / "counter proof")
    # It reports in a process of its own and waits a second for it: unless that is forked, too short on Python 3.14.
    alone = "import multiprocessing; multiprocessing.set_start_method('fork'); import openvino"
    subprocess.run([python, "-c", alone], cwd=work, env=environment, check=True, capture_output=True)
    assert "google-analytics" in (tmp_path / "counter proof" / "asked for").read_text()
    assert "home/intel" in left(work)


def test_git_takes_nothing_that_pip_or_a_test_leaves_for_source(tmp_path: Path) -> None:
    """`pip install .` leaves build/, a copy of the package that was once committed, and built into later wheels."""
    shutil.copy(PROJECT / ".gitignore", tmp_path)
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    left = ["build/lib/seamline/cli.py", "dist/seamline.whl", "seamline.egg-info/PKG-INFO", ".venv/bin/python"]
    done = subprocess.run(["git", "check-ignore", *left], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.split() == left
    assert subprocess.run(["git", "check-ignore", "seamline/cli.py"], cwd=tmp_path, capture_output=True).returncode == 1
