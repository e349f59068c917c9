"""Which kind of model a file is: a detector, or an embedder, which makes vectors of garments."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from seamline.base.errors import SeamlineError
from seamline.models.model_facts import ModelFacts, metadata_to_facts

EMBEDDER = "embedder"  # kind, in its metadata; see embedder_facts.py


def metadata_to_detector_facts(metadata: Mapping[str, str], path: Path) -> ModelFacts:
    """As metadata_to_facts, which a training's key has and which therefore stays as it is.

    Raises:
        SeamlineError: also when it is an embedder.
    """
    if metadata.get("kind") == EMBEDDER:
        raise SeamlineError(f"{path}: is an embedder, which makes vectors of garments; a detector is asked for here.")
    return metadata_to_facts(metadata, path)
