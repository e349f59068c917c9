"""Models from huggingface.co or a mirror (HF_ENDPOINT): by repository, commit and hash of the weights."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from seamline.base.errors import SeamlineError, not_installed
from seamline.base.files import read_json, sha256_of, write_json
from seamline.base.process import SCRATCH

# What describes a model, and how images and texts are given to it. Whatever else is there is left: nothing of a
# repository runs as code.
DESCRIPTIONS = (
    "open_clip_config.json",
    "config.json",
    "preprocessor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
)
# The weights that are taken, the first that is there; not those that are pickles.
OF_OPEN_CLIP, OF_TRANSFORMERS = "open_clip_model.safetensors", "model.safetensors"
FETCHED = "fetched.json"
# huggingface_hub reads them when it is imported: no usage is reported, and what it fetches stays in the project.
QUIET = {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_SYMLINKS_WARNING": "1"}


class Repository(NamedTuple):
    name: str
    revision: str
    folder: Path  # with the descriptions that it has
    weights: Path
    weights_sha256: str
    licence: str


def fetch_repository(name: str, revision: str | None, sha256: str | None) -> Repository:
    """A model's files, from the project's scratch folder where they were fetched before.

    Args:
        revision: a commit.
        sha256: of the weights.

    Raises:
        SeamlineError: when one of the two is None (it says what they are), when they are not those of the weights, or
            when there is no such model, or no internet.
    """
    if revision is not None and not re.fullmatch("[0-9a-f]{40}", revision):
        raise SeamlineError(
            f"embed.revision: {revision!r} is not a commit, which has 40 digits from 0 to f; branches and tags can be "
            "moved. null: the newest is fetched and its commit said."
        )
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise SeamlineError(
            f"embed.model: {name!r} is not a repository, as Marqo/marqo-fashionSigLIP is, and not efficientnet-lite0."
        )
    commit = revision or newest(name)
    folder = SCRATCH / "hub" / name.replace("/", "--") / commit
    if not (folder / FETCHED).exists():
        download(name, commit, folder)
    about = read_json(folder / FETCHED)
    weights = folder / about["weights"]
    found = sha256_of(weights)
    if sha256 not in (None, found):
        raise SeamlineError(
            f"{weights}: has the SHA-256 {found}, and embed.sha256 is {sha256}; if it is damaged delete {folder}, if "
            "it is the wrong model correct embed.revision."
        )
    if revision is None or sha256 is None:
        raise SeamlineError(
            f"embed: {name} was fetched, and has to be pinned; write revision: {commit} and sha256: {found} into "
            "params.yaml."
        )
    return Repository(name, commit, folder, weights, found, about["licence"])


def newest(name: str) -> str:
    """The commit that the repository's main branch is at."""
    with hub_errors(name):
        return str(import_hub().HfApi().model_info(name, revision="main").sha)


def download(name: str, commit: str, folder: Path) -> None:
    """Fetch a model's descriptions and weights; what was begun is resumed."""
    with hub_errors(name):
        hub = import_hub()
        info = hub.HfApi().model_info(name, revision=commit)
        there = {file.rfilename for file in info.siblings}
        wanted = [OF_OPEN_CLIP] if "open_clip_config.json" in there else []
        weights = next((file for file in (*wanted, OF_TRANSFORMERS) if file in there), None)
        if weights is None:
            raise SeamlineError(
                f"embed.model: {name} has no weights as safetensors ({OF_OPEN_CLIP} or {OF_TRANSFORMERS}); others are "
                "pickles, which can run code, and are not opened."
            )
        for file in (*(file for file in DESCRIPTIONS if file in there), weights):
            hub.hf_hub_download(name, file, revision=commit, local_dir=folder)
        print(f"fetched {name} at {commit}", flush=True)
        write_json(folder / FETCHED, {"weights": weights, "licence": licence_of(info)})


def licence_of(info: Any) -> str:
    """As the repository's tags say; "unknown" where they do not."""
    return next((tag.partition(":")[2] for tag in info.tags or [] if tag.startswith("license:")), "unknown")


def import_hub() -> Any:
    os.environ.update(QUIET)
    if not sys.stderr.isatty():
        os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"  # a log has lines
    import huggingface_hub

    return huggingface_hub


@contextmanager
def hub_errors(name: str) -> Iterator[None]:
    """Raises SeamlineError for whatever the hub's client raises, which has errors of several libraries."""
    try:
        yield
    except SeamlineError:
        raise
    except ModuleNotFoundError as error:
        raise not_installed(f"embed.model {name}", error) from None
    except Exception as error:
        kind = type(error).__name__
        if kind in ("RepositoryNotFoundError", "RevisionNotFoundError", "GatedRepoError"):
            raise SeamlineError(
                f"embed.model: there is no {name} at that commit, or access to it is denied ({kind}); a key for "
                "private models is read from HF_TOKEN."
            ) from None
        reason = " ".join(str(error).split())[:150]
        raise SeamlineError(
            f"embed.model: {name} cannot be fetched ({kind}: {reason}); without internet take efficientnet-lite0, or "
            "name a mirror in HF_ENDPOINT."
        ) from None
