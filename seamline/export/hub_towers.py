"""Towers of CLIP and SigLIP, of open_clip's or transformers' files: networks, preprocessing and tokenizer."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from seamline.base.errors import SeamlineError, not_installed
from seamline.base.files import read_json
from seamline.export.hub import Repository
from seamline.export.towers import Towers
from seamline.images.cutouts import Interpolation, Squaring
from seamline.models.embedder_facts import Cleaning, EmbedderFacts, Rgb
from seamline.params.embed import Embed

KINDS = {"clip": "CLIPModel", "siglip": "SiglipModel"}  # model_type: transformers' class
INTERPOLATIONS: dict[Any, Interpolation] = {2: "bilinear", 3: "bicubic", "bilinear": "bilinear", "bicubic": "bicubic"}


class Preprocessing(NamedTuple):
    imgsz: int
    squaring: Squaring
    interpolation: Interpolation
    mean: Rgb
    std: Rgb


class Parts(NamedTuple):
    """What either library makes of a repository."""

    image: nn.Module
    text: nn.Module
    text_length: int
    preprocessing: Preprocessing
    cleaning: Cleaning
    pads: str | None  # token that fills texts up; None: the number 0


class Method(nn.Module):
    """One of a model's methods as a module that can be exported."""

    def __init__(self, model: nn.Module, method: str) -> None:
        super().__init__()
        self.model, self.method = model, method

    def forward(self, tensor: Tensor) -> Tensor:
        made = getattr(self.model, self.method)(tensor)
        vectors: Tensor = made if isinstance(made, Tensor) else made.pooler_output  # transformers from 5 on
        return vectors


def hub_towers(repository: Repository, settings: Embed) -> Towers:
    """The towers of a repository that was fetched.

    Raises:
        SeamlineError: when it is of another kind, needs what is not installed, or asks for what is not done here.
    """
    is_open_clip = repository.weights.name.startswith("open_clip")
    with library_errors(repository):
        parts = open_clip_parts(repository) if is_open_clip else transformers_parts(repository)
        with torch.inference_mode():
            side = parts.preprocessing.imgsz
            dimension = int(parts.image(torch.zeros(1, 3, side, side)).shape[1])
    if settings.imgsz not in (None, parts.preprocessing.imgsz):
        raise SeamlineError(
            f"embed.imgsz: {settings.imgsz} was asked for, and {repository.name} takes {parts.preprocessing.imgsz} px "
            "alone; null is allowed."
        )
    has_text = (repository.folder / "tokenizer.json").exists()
    facts = EmbedderFacts(
        name=repository.name,
        revision=repository.revision,
        weights_sha256=repository.weights_sha256,
        licence=repository.licence,
        dimension=dimension,
        **parts.preprocessing._asdict(),
        margin=settings.margin,
        background=settings.background,
        has_text=has_text,
        cleaning=parts.cleaning,
    )
    if not has_text:
        print(f"{repository.name}: has no tokenizer.json, so that texts cannot be embedded", flush=True)
        return Towers(facts, parts.image, is_transformer=True)
    return Towers(
        facts, parts.image, parts.text, parts.text_length,
        tokenizer_text(repository.folder, parts.text_length, parts.pads), is_transformer=True,
    )  # fmt: skip


def open_clip_parts(repository: Repository) -> Parts:
    config = read_json(repository.folder / "open_clip_config.json")
    vision, text = config["model_cfg"]["vision_cfg"], config["model_cfg"]["text_cfg"]
    if "hf_model_name" in text or ":" in str(vision.get("timm_model_name")):
        raise SeamlineError(
            f"embed.model: {repository.name} needs another repository beside its own, which is not fetched here."
        )
    import open_clip

    model = open_clip.create_model(f"local-dir:{repository.folder}", pretrained_image=False, require_pretrained=True)
    found = open_clip.get_model_preprocess_cfg(model)
    squarings: dict[str, Squaring] = {"shortest": "crop", "squash": "squash"}
    if found["resize_mode"] not in squarings or found["interpolation"] not in INTERPOLATIONS:
        raise SeamlineError(
            f"embed.model: {repository.name} scales its images by {found['resize_mode']} and {found['interpolation']}; "
            "shortest and squash, bilinear and bicubic are done here."
        )
    side = found["size"][0] if isinstance(found["size"], list | tuple) else found["size"]
    preprocessing = Preprocessing(
        int(side), squarings[found["resize_mode"]], INTERPOLATIONS[found["interpolation"]],
        as_rgb(found["mean"]), as_rgb(found["std"]),
    )  # fmt: skip
    cleaning: Cleaning = "none"
    if text.get("tokenizer_kwargs", {}).get("clean") == "canonicalize":
        cleaning = "canonical"
    pads = token_that_pads(repository.folder) if "hf_tokenizer_name" in text else None
    model.eval()
    length = int(text.get("context_length", 77))
    return Parts(Method(model, "encode_image"), Method(model, "encode_text"), length, preprocessing, cleaning, pads)


def transformers_parts(repository: Repository) -> Parts:
    config = read_json(repository.folder / "config.json")
    if config.get("model_type") not in KINDS:
        raise SeamlineError(
            f"embed.model: {repository.name} is a model of the kind {config.get('model_type')!r}; CLIP and SigLIP are "
            "known here, of open_clip or transformers."
        )
    import transformers

    model = getattr(transformers, KINDS[config["model_type"]]).from_pretrained(
        repository.folder, local_files_only=True, use_safetensors=True, dtype=torch.float32, attn_implementation="eager"
    )
    model.eval()
    pads = token_that_pads(repository.folder)
    tokenizer = read_json_if(repository.folder / "tokenizer_config.json")
    cleaning: Cleaning = "canonical" if str(tokenizer.get("tokenizer_class")).startswith("Siglip") else "none"
    return Parts(
        Method(model, "get_image_features"),
        Method(model, "get_text_features"),
        int(model.config.text_config.max_position_embeddings),
        transformers_preprocessing(read_json(repository.folder / "preprocessor_config.json"), repository.name),
        cleaning,
        pads,
    )


def transformers_preprocessing(config: dict[str, Any], name: str) -> Preprocessing:
    """Of preprocessor_config.json.

    Raises:
        SeamlineError: when it asks for what is not done here.
    """
    size, crop = config["size"], config.get("crop_size")
    size = size if isinstance(size, dict) else {"shortest_edge": size}
    crop = crop if isinstance(crop, dict) else {"height": crop, "width": crop}
    is_cropped = bool(config.get("do_center_crop")) and size.get("shortest_edge") == crop["height"] == crop["width"]
    is_squashed = not config.get("do_center_crop") and "height" in size and size["height"] == size["width"]
    steps = all(config.get(f"do_{step}", True) for step in ("resize", "rescale", "normalize"))
    scale = config.get("rescale_factor", 1 / 255)
    is_usual = steps and config.get("resample") in (2, 3) and abs(scale * 255 - 1) < 1e-6
    if not is_usual or not (is_cropped or is_squashed):
        raise SeamlineError(
            f"embed.model: {name} prepares its images in a way that is not known here (preprocessor_config.json); "
            "known are those of CLIP and SigLIP."
        )
    mean, std = as_rgb(config["image_mean"]), as_rgb(config["image_std"])
    side = int(crop["height"] if is_cropped else size["height"])
    return Preprocessing(side, "crop" if is_cropped else "squash", INTERPOLATIONS[config["resample"]], mean, std)


def as_rgb(values: Sequence[float]) -> Rgb:
    red, green, blue = (float(value) for value in values)
    return red, green, blue


def token_that_pads(folder: Path) -> str | None:
    found = read_json_if(folder / "tokenizer_config.json").get("pad_token")
    return found["content"] if isinstance(found, dict) else found


def read_json_if(path: Path) -> dict[str, Any]:
    return dict(read_json(path)) if path.exists() else {}


def tokenizer_text(folder: Path, length: int, pads: str | None) -> str:
    """tokenizer.json as text, with every text cut and filled up to the length that the tower takes."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    number = 0 if pads is None else tokenizer.token_to_id(pads)
    if number is None:
        raise SeamlineError(f"{folder / 'tokenizer.json'}: lacks the token {pads!r}, which fills texts up.")
    tokenizer.enable_truncation(length)
    tokenizer.enable_padding(length=length, pad_id=number, pad_token=pads or "[PAD]")
    return json.dumps(json.loads(tokenizer.to_str()), sort_keys=False, ensure_ascii=False)


@contextlib.contextmanager
def library_errors(repository: Repository) -> Iterator[None]:
    """Raises SeamlineError for what open_clip, timm, transformers and safetensors raise on files that do not fit."""
    try:
        yield
    except SeamlineError:
        raise
    except ModuleNotFoundError as error:
        raise not_installed(f"embed.model {repository.name}", error) from None
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise SeamlineError(
            f"{repository.folder}: cannot be opened as a model of CLIP or SigLIP ({type(error).__name__}: {reason})."
        ) from None
