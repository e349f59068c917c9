"""What a model of attributes says of itself, so that nothing else is needed to name a garment's attributes with it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from seamline.base.errors import SeamlineError
from seamline.base.escaping import has_control_character
from seamline.images.cutouts import Background
from seamline.models.model_facts import MAX_IMGSZ

Share = Annotated[float, Meta(ge=0, le=1)]
Positive = Annotated[float, Meta(gt=0)]


class Names(msgspec.Struct):
    """What `names` may have of AttributeFacts."""

    file: str = ""
    columns: dict[str, str] = {}
    codes: dict[str, dict[str, str]] = {}


class AttributeFacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Its input is what is cut out of a photo, fitted into imgsz x imgsz (cutouts.to_square, "pad", bilinear)."""

    attributes: dict[str, list[str]]  # the values of each, in the order of the model's outputs
    imgsz: Annotated[int, Meta(ge=1, le=MAX_IMGSZ)]  # side of the square input, in pixels
    mean: tuple[float, float, float]  # of red, green and blue from 0 to 1, which is subtracted
    std: tuple[Positive, Positive, Positive]  # by which they are divided then
    margin: Annotated[float, Meta(ge=0)]  # around a garment's box, as a share of its sides
    background: Background  # what is put outside a garment's mask
    backbone: str
    licence: str  # of the weights that its training began with
    training_revision: str  # the same wherever the same was asked for of the same data
    data_sha256: str
    weights_sha256: str = "unknown"
    temperatures: dict[str, Positive] = {}  # outputs are divided by them
    thresholds: dict[str, Share | None] = {}  # below it a value is not named; None: it always is
    names: dict[str, Any] = {}  # what the source calls its columns and values, for a table in its form
    classes: list[str] | None = None  # of garments that it knows, as a detector calls them; None: all

    @property
    def outputs(self) -> int:
        return sum(map(len, self.attributes.values()))

    def indices_of(self, names: Sequence[str]) -> frozenset[int]:
        """Which of a detector's classes are of garments that it knows, in capitals or not."""
        if self.classes is None:
            return frozenset(range(len(names)))
        known = {name.strip().casefold() for name in self.classes}
        return frozenset(index for index, name in enumerate(names) if name.strip().casefold() in known)

    def slices(self) -> dict[str, slice]:
        """Which of the model's outputs are of each attribute."""
        found, start = {}, 0
        for name, values in self.attributes.items():
            found[name] = slice(start, start + len(values))
            start += len(values)
        return found


def attribute_facts_to_metadata(facts: AttributeFacts) -> dict[str, str]:
    """As text, as model files hold it: JSON a field."""
    fields = msgspec.to_builtins(facts)
    return {key: json.dumps(value, ensure_ascii=False, sort_keys=False) for key, value in fields.items()}


def metadata_to_attribute_facts(metadata: Mapping[str, str], path: Path) -> AttributeFacts:
    """What the classify stage stored inside a model.

    Raises:
        SeamlineError: when it is not there, as in detectors, or says what cannot be.
    """
    if "attributes" not in metadata:
        raise SeamlineError(
            f"{path}: is not a model of attributes: it does not say which it names; the classify stage makes them."
        )
    names = [field.name for field in msgspec.structs.fields(AttributeFacts)]
    try:
        values = {name: json.loads(metadata[name]) for name in names if name in metadata}
        facts = msgspec.convert(values, AttributeFacts)
        msgspec.convert(facts.names, Names)
    except (ValueError, msgspec.ValidationError) as error:
        raise SeamlineError(f"{path}: says what cannot be of itself ({str(error)[:200]}).") from None
    check_attribute_facts(facts, path)
    return facts


def check_classes(facts: AttributeFacts, names: Sequence[str], path: Path) -> None:
    """Raises SeamlineError where a detector has none of the classes that a model of attributes is for."""
    if facts.classes is not None and not facts.indices_of(names):
        raise SeamlineError(
            f"{path}: names attributes of {', '.join(facts.classes)} alone, and the detector finds {', '.join(names)}; "
            "attributes.classes of params.yaml says of which."
        )


def check_attribute_facts(facts: AttributeFacts, path: Path) -> None:
    """Raise SeamlineError where a model file names what a terminal would obey, or nothing, or twice the same."""
    if not facts.attributes:
        raise SeamlineError(f"{path}: names no attributes.")
    if odd := [name for name in facts.classes or [] if has_control_character(name)]:
        raise SeamlineError(f"{path}: the class {odd[0]!r} has a control character; rename it.")
    for name, values in facts.attributes.items():
        if wrong := [text for text in (name, *values) if has_control_character(text)]:
            raise SeamlineError(f"{path}: the name {wrong[0]!r} has a control character; rename it.")
        if len(values) < 2 or len(set(values)) < len(values):
            raise SeamlineError(
                f"{path}: the values of {name!r} are {values}; they have to be two or more, all different."
            )
        for field in ("temperatures", "thresholds"):
            if name not in getattr(facts, field):
                raise SeamlineError(f"{path}: its {field} have none of {name!r}.")
