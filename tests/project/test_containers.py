"""The Dockerfiles as they are read: lint, bases, users, the order of layers, what reaches the builder.

That the images build and do what docs/containers.md says is `make image-test`'s, which needs root and takes minutes.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import PROJECT
from tests.needs_torch import NEEDS_TORCH
from tests.stages.test_repro import modules_imported

IMAGES = ("cpu", "gpu")


def instructions(image: str) -> list[tuple[str, str]]:
    """A Dockerfile's instructions in order, each with the rest of its lines joined."""
    text = (PROJECT / f"Dockerfile.{image}").read_text()
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in joined.splitlines()]


def values(image: str, name: str) -> list[str]:
    return [value for instruction, value in instructions(image) if instruction == name]


@pytest.mark.parametrize("image", IMAGES)
def test_hadolint_finds_nothing(image: str) -> None:
    hadolint = Path(sys.executable).parent / "hadolint"
    done = subprocess.run([hadolint, PROJECT / f"Dockerfile.{image}"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")
    counter_proof = subprocess.run([hadolint, "-"], input="FROM debian\n", capture_output=True, text=True)
    assert "DL3006" in counter_proof.stdout


@pytest.mark.parametrize("image", IMAGES)
def test_the_base_has_a_tag_and_takes_a_digest(image: str) -> None:
    base, digest = values(image, "ARG")[:2]
    assert re.fullmatch(r"BASE=[a-z/]+:[\w.-]+", base)
    assert "latest" not in base
    assert digest == "BASE_DIGEST="
    for value in values(image, "FROM"):
        assert value.removesuffix(" AS packages") == "${BASE}${BASE_DIGEST:+@${BASE_DIGEST}}"


@pytest.mark.parametrize("image", IMAGES)
def test_it_runs_as_a_user_by_number_who_is_not_root(image: str) -> None:
    """By number: Kubernetes' runAsNonRoot cannot tell a name from root."""
    assert values(image, "USER") == ["1000:1000"]
    kinds = [instruction for instruction, _ in instructions(image)]
    assert kinds.index("USER") < kinds.index("CMD")


@pytest.mark.parametrize(("image", "requirements"), [("cpu", "requirements-cpu.txt"), ("gpu", "requirements.txt")])
def test_requirements_are_installed_before_the_source_comes(image: str, requirements: str) -> None:
    texts = [f"{instruction} {value}" for instruction, value in instructions(image)]
    installed = next(index for index, text in enumerate(texts) if "pip install" in text)
    sources = [index for index, text in enumerate(texts) if re.match(r"COPY .*(seamline |stages|\. )", text)]
    assert min(sources) > installed
    assert any(text.startswith(f"COPY {requirements}") for text in texts[:installed])
    assert "--no-deps" in texts[installed]


@pytest.mark.parametrize("image", IMAGES)
def test_labels_and_no_secret(image: str) -> None:
    labels = " ".join(values(image, "LABEL"))
    for name in ("title", "description", "licenses", "version", "revision"):
        assert f"org.opencontainers.image.{name}=" in labels
    settings = " ".join(values(image, "ENV") + values(image, "ARG"))
    assert not re.search(r"TOKEN|PASSWORD|SECRET|AWS_", settings)
    assert "ORT_DISABLE_TELEMETRY=1" in settings


def test_what_the_cpus_image_runs_imports_nothing_it_does_not_install() -> None:
    """Every module of the three commands, against the packages pinned for it; torch and others only where asked for."""
    pinned = {line.split("==")[0] for line in (PROJECT / "requirements-cpu.txt").read_text().splitlines()}
    assert not pinned & {"torch", "torchvision", "ultralytics", "nncf", "onnx", "dvc"}
    names = {"cv2": "opencv-python-headless", "PIL": "pillow", "yaml": "pyyaml", "fsspec": "fsspec"}
    names |= {"prometheus_client": "prometheus-client", "python_multipart": "python-multipart"}
    for script in ("seamline/verbs/predict.py", "seamline/verbs/serve.py", "stages/benchmark.py"):
        path = PROJECT / script
        for module in [path, *(PROJECT / name for name in modules_imported(path) - {*NEEDS_TORCH})]:
            for package in re.findall(r"^(?:import|from) (\w+)", module.read_text(), re.MULTILINE):
                if package not in sys.stdlib_module_names and package not in ("seamline", "__future__"):
                    assert names.get(package, package) in pinned, f"{module} imports {package}"


def test_both_requirements_pin_the_same_versions() -> None:
    """Where they are needed may differ: some are brought by one package in the one and by another in the other."""
    whole, cpu = (
        {line.partition(" ;")[0] for line in (PROJECT / name).read_text().splitlines() if "==" in line}
        for name in ("requirements.txt", "requirements-cpu.txt")
    )
    assert cpu
    assert cpu <= whole


def test_only_what_is_named_reaches_the_builder() -> None:
    lines = [line for line in (PROJECT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert lines[0] == "*"
    named = {line[1:] for line in lines if line.startswith("!")}
    assert not named & {"data", "models", ".git", ".dvc", ".venv", ".seamline", ".dvc/config.local"}
    for name in named:
        assert (PROJECT / name).exists() or list(PROJECT.glob(name)), f"{name} is not there"
    for image in IMAGES:
        for value in values(image, "COPY"):
            words = [word for word in value.split()[:-1] if not word.startswith("--")]
            if "--from" not in value:
                for word in words:
                    assert word == "." or word.split("/")[0] in named or word.startswith("requirements")
