"""Reads params.yaml and checks all of it, so that a mistake in `benchmark` is found before the training, not after it.

A section is a module of params/ with a class of its name: `split` is split.Split. The loader looks for them
instead of importing them by name: no stage depends on another stage's section, and a new one makes none rerun.
"""

from __future__ import annotations

import functools
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar, cast

import msgspec
import yaml

from seamline.base.errors import SeamlineError
from seamline.params.loading.sentences import validation_error_to_sentence
from seamline.params.loading.types import Section

S = TypeVar("S", bound=Section)


@dataclass(frozen=True)
class Params:
    """The sections of params.yaml, each by its type: params[Train].epochs."""

    by_type: Mapping[type[Section], Any]

    def __getitem__(self, section: type[S]) -> S:
        found: S = self.by_type[section]
        return found


@functools.cache
def section_types() -> dict[str, type[Section]]:
    """Every section by its name in params.yaml."""
    found = {}
    for module in pkgutil.iter_modules([str(Path(__file__).parent.parent)]):
        class_name = module.name.title().replace("_", "")
        section = getattr(import_module(f"seamline.params.{module.name}"), class_name, None)
        if isinstance(section, type) and issubclass(section, Section):
            found[module.name] = section
    return found


@functools.cache
def file_type() -> type[Section]:
    """The whole file."""
    sections = list(section_types().items())
    return cast("type[Section]", msgspec.defstruct("File", sections, bases=(Section,), forbid_unknown_fields=True))


def load_params(path: Path = Path("params.yaml")) -> Params:
    """Read and check params.yaml.

    Raises:
        SeamlineError: in one sentence the key, its value and what is allowed.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SeamlineError(f"{path}: there is no such file; run stages from the project's top folder.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SeamlineError(f"{path}: is not YAML ({' '.join(str(error).split())}).") from None
    sections = section_types()
    if isinstance(values, dict):
        for name, section in sections.items():
            if isinstance(values.get(name), dict):
                values[name] = section.prepared(values[name])
    try:
        checked = msgspec.convert(values, file_type())
    except msgspec.ValidationError as error:
        raise SeamlineError(f"{path}: {validation_error_to_sentence(str(error), values, file_type())}") from None
    return Params({section: getattr(checked, name) for name, section in sections.items()})
