"""What the file of an embedder says of itself, and what its vectors may be compared with."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from seamline.base.errors import SeamlineError
from seamline.base.escaping import has_control_character
from seamline.images.cutouts import Background, Interpolation, Squaring
from seamline.models.kinds import EMBEDDER
from seamline.models.model_facts import MAX_IMGSZ, REQUIRED

KEY = "embedder"  # of the facts, as JSON
MAX_DIMENSION = 65536
# What becomes of a text before the tokenizer sees it. canonical: lower case, without punctuation, as SigLIP's.
Cleaning = Literal["none", "canonical"]
Rgb = tuple[float, float, float]


class EmbedderFacts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Of one embedder, in whichever format and precision."""

    name: str  # efficientnet-lite0, or a repository of the hub
    revision: str  # of the package or repository that the weights came from
    weights_sha256: str
    licence: str
    dimension: int  # numbers in a vector
    imgsz: int  # side of the square that it takes, in pixels
    squaring: Squaring
    interpolation: Interpolation
    mean: Rgb  # red, green and blue from 0 to 1: subtracted
    std: Rgb  # what is left is divided by
    margin: float  # around a garment's box, on each side as a share of its width or height
    background: Background
    has_text: bool = False  # a text tower lies beside it
    cleaning: Cleaning = "none"
    precision: str = "f32"  # int8 where it was quantised


# What only people read, or what leaves the vectors as they are.
BESIDE_THE_VECTORS = ("licence", "has_text", "cleaning")


def facts_to_metadata(facts: EmbedderFacts) -> dict[str, str]:
    """As text, as model files hold it."""
    return {"kind": EMBEDDER, KEY: msgspec.json.encode(facts, order="sorted").decode()}


def metadata_to_facts(metadata: Mapping[str, str], path: Path) -> EmbedderFacts:
    """What the embed stage stored inside a model.

    Raises:
        SeamlineError: when it is another model, or says of itself what cannot be.
    """
    if KEY not in metadata:
        if all(key in metadata for key in REQUIRED):
            raise SeamlineError(f"{path}: is a detector, which finds garments; an embedder is asked for here.")
        raise SeamlineError(f"{path}: does not say that it is an embedder; the embed stage makes those.")
    try:
        facts = msgspec.json.decode(metadata[KEY], type=EmbedderFacts)
    except msgspec.MsgspecError as error:
        raise SeamlineError(f"{path}: what it says of itself cannot be read ({error}); dvc repro makes it.") from None
    if not (0 < facts.imgsz <= MAX_IMGSZ and 0 < facts.dimension <= MAX_DIMENSION and min(facts.std) > 0):
        raise SeamlineError(
            f"{path}: says that it makes {facts.dimension} numbers of {facts.imgsz} px a side with standard deviations "
            f"{list(facts.std)}; at most {MAX_DIMENSION} and {MAX_IMGSZ} px are possible, and all have to be above 0."
        )
    if has_control_character(facts.name):
        raise SeamlineError(f"{path}: its name {facts.name!r} has a control character; rename it.")
    return facts


def facts_to_identity(facts: EmbedderFacts) -> str:
    """A hash that two embedders share if their vectors may be compared: the same weights, given the same squares.

    INT8 is another embedder; formats and bf16 are not, whose vectors differ by roundings.
    """
    record: dict[str, Any] = {
        key: value for key, value in msgspec.to_builtins(facts).items() if key not in BESIDE_THE_VECTORS
    }
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()
