"""What sections of params.yaml are made of."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta

from seamline.base.urls import gives_access

AtLeastZero = Annotated[float, Meta(ge=0)]
Fraction = Annotated[float, Meta(ge=0, le=1)]
Positive = Annotated[float, Meta(gt=0)]
Count = Annotated[int, Meta(ge=1)]
Seed = Annotated[int, Meta(ge=0, le=2**32 - 1)]
Text = Annotated[str, Meta(min_length=1)]
GateOn = Literal["val", "val+test"]  # the splits whose photos decide on an INT8 model


class Section(msgspec.Struct, forbid_unknown_fields=True):
    """A section or part of one: every key is known and typed."""

    # Keys that cannot be set, each with the reason.
    refused: ClassVar[Mapping[str, str]] = MappingProxyType({})

    @classmethod
    def allowed_keys(cls) -> list[str]:
        return [field.name for field in msgspec.structs.fields(cls) if field.name == field.encode_name]

    @classmethod
    def prepared(cls, values: dict[Any, Any]) -> dict[Any, Any]:
        """The values of the file in the shape that is checked."""
        return values


class Ratios(Section):
    """The share of each split."""

    train: Annotated[float, Meta(gt=0, lt=1)]
    val: Annotated[float, Meta(gt=0, lt=1)]
    test: Annotated[float, Meta(gt=0, lt=1)]

    def __post_init__(self) -> None:
        total = self.train + self.val + self.test
        if not math.isclose(total, 1, abs_tol=1e-6):
            raise ValueError(f"train + val + test add up to {total:g}; they have to add up to 1")


def check_source(source: str) -> None:
    """
    Raises:
        ValueError: for a source of data whose name cannot be shown, or that DVC would write into dvc.lock with a key.
    """
    if not source.isprintable():
        raise ValueError("source has a character in its name that cannot be printed; rename it")
    if gives_access(source):
        raise ValueError(
            "source has a password, key or signature in its address, or an argument that may be one; name it "
            "without, and give access by the AWS configuration (AWS_PROFILE, ...) or, on the web, by ~/.netrc"
        )
