"""Towers of CLIP and SigLIP from a stand-in hub, beside open_clip's and transformers' own images and vectors."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

from seamline.base.errors import SeamlineError
from seamline.export import hub
from seamline.export.embedder import towers_of, write_onnx, write_openvino
from seamline.images.cutouts import squares_to_tensor, to_square
from seamline.inference.embedder import Embedder, with_length_1
from seamline.params.embed import Embed, EmbedInt8
from tests.hub import COMMIT, DIMENSION, Hub, serving, write_clip, write_open_clip, write_siglip

Array = np.ndarray[Any, Any]
NAMES = ("acme/clip", "acme/siglip", "acme/open-clip", "acme/open-siglip")
TEXTS = ["a red dress", "Blue COAT", "a photo of a t-shirt", ""]
SHAPES = [(60, 40), (40, 61), (100, 33), (32, 32), (37, 53), (20, 150)]


class Made:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.folders = {name: root / name.partition("/")[2] for name in NAMES}
        write: dict[str, Callable[[Path], Any]] = {
            "acme/clip": write_clip,
            "acme/siglip": write_siglip,
            "acme/open-clip": lambda folder: write_open_clip(folder, False),
            "acme/open-siglip": lambda folder: write_open_clip(folder, True),
        }
        self.models = {name: write[name](self.folders[name]) for name in NAMES}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return Made(tmp_path_factory.mktemp("repositories"))


@pytest.fixture
def stand_in(made: Made, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    import huggingface_hub.constants

    monkeypatch.setattr(hub, "SCRATCH", tmp_path / "scratch")
    with serving(made.folders) as served:
        for module in (huggingface_hub.constants,):
            monkeypatch.setattr(module, "ENDPOINT", served.endpoint)
            monkeypatch.setattr(
                module, "HUGGINGFACE_CO_URL_TEMPLATE", served.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
            )
        yield served


def settings(name: str, revision: str | None = None, sha256: str | None = None, imgsz: int | None = None) -> Embed:
    return Embed(name, revision, sha256, imgsz, "keep", 0.0, EmbedInt8(8, 0.05, "val"))


def pinned(name: str) -> Embed:
    """What the sentence of the first run says, as it is written into params.yaml."""
    with pytest.raises(SeamlineError, match="has to be pinned; write revision") as raised:
        towers_of(settings(name))
    words = str(raised.value).replace(";", "").split()
    return settings(name, words[words.index("revision:") + 1], words[words.index("sha256:") + 1])


def noise(shape: tuple[int, int], seed: int) -> Array:
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)


def reference_tensor(made: Made, name: str, image: Array) -> Array:
    """By the library whose files they are."""
    pillow, folder = Pillow.fromarray(image[:, :, ::-1]), made.folders[name]
    if "open" in name:
        import open_clip

        config = open_clip.get_model_preprocess_cfg(made.models[name])
        prepare = open_clip.transform.image_transform_v2(open_clip.transform.PreprocessCfg(**config), is_train=False)
        prepared: Array = prepare(pillow).numpy()
        return prepared
    import transformers

    kind = transformers.CLIPImageProcessorPil if "/clip" in name else transformers.SiglipImageProcessorPil
    return np.asarray(kind.from_pretrained(folder)(images=pillow, return_tensors="np")["pixel_values"][0])


def reference_vectors(made: Made, name: str, tensor: Array | None, texts: list[str] | None) -> Array:
    model = made.models[name]
    with torch.inference_mode():
        if tensor is not None:
            given = torch.from_numpy(tensor)
            found = model.encode_image(given) if "open" in name else model.get_image_features(given).pooler_output
        else:
            given = reference_tokens(made, name, texts or [])
            found = model.encode_text(given) if "open" in name else model.get_text_features(given).pooler_output
    return with_length_1(found.numpy())


def reference_tokens(made: Made, name: str, texts: list[str]) -> Any:
    import transformers

    if name == "acme/open-siglip":
        import open_clip

        clean = open_clip.tokenizer.get_clean_fn("canonicalize")
        texts = [clean(text) for text in texts]
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(made.folders[name] / "tokenizer.json"), pad_token="[PAD]"
    )
    length = 12
    return tokenizer(texts, padding="max_length", max_length=length, truncation=True, return_tensors="pt").input_ids


@pytest.mark.parametrize("name", NAMES)
def test_vectors_are_the_librarys_own(made: Made, stand_in: Hub, tmp_path: Path, name: str) -> None:
    towers = towers_of(pinned(name))
    facts = towers.facts
    assert (facts.name, facts.revision, facts.licence, facts.has_text) == (name, COMMIT, "mit", True)
    assert facts.dimension == (16 if "siglip" in name else DIMENSION)
    for folder in ("onnx", "openvino"):
        (tmp_path / folder).mkdir()
    write_onnx(towers, tmp_path / "onnx")
    write_openvino(tmp_path / "onnx", facts, tmp_path / "openvino")
    images = [noise(shape, seed) for seed, shape in enumerate(SHAPES)]
    tensors = np.stack([reference_tensor(made, name, image) for image in images])
    ours = squares_to_tensor(
        [to_square(image, facts.imgsz, facts.squaring, facts.interpolation, facts.mean) for image in images],
        facts.mean,
        facts.std,
    )
    np.testing.assert_allclose(ours, tensors, atol=1e-4)
    expected = reference_vectors(made, name, tensors, None)
    expected_texts = reference_vectors(made, name, None, TEXTS)
    assert np.abs(expected[0] - expected[1]).max() > 0.01, "the vectors do not differ: this compares nothing"
    assert np.abs(expected_texts[0] - expected_texts[1]).max() > 0.01
    for path in (tmp_path / "onnx" / "model.onnx", tmp_path / "openvino"):
        embedder = Embedder(path, threads=1)
        assert embedder.facts == facts
        vectors = np.stack([embedder.embed_photo(image) for image in images])
        np.testing.assert_allclose(vectors, expected, atol=1e-4)
        np.testing.assert_allclose(embedder.embed_texts(TEXTS), expected_texts, atol=1e-4)
        assert embedder.embed_texts([]).shape == (0, facts.dimension)
        with pytest.raises(SeamlineError, match=r"'\\udcff' is not Unicode, so it cannot be embedded"):
            embedder.embed_texts(["\udcff"])


def test_what_was_fetched_is_not_fetched_again(stand_in: Hub) -> None:
    found = pinned("acme/clip")
    assert any(path.endswith("/model.safetensors") for path in stand_in.asked)
    assert not any("pickle" in path or path.endswith((".bin", ".py")) for path in stand_in.asked)
    stand_in.asked.clear()
    towers_of(found)
    assert stand_in.asked == []


def test_pins_are_held(made: Made, stand_in: Hub) -> None:
    found = pinned("acme/clip")
    with pytest.raises(SeamlineError, match=r"model\.safetensors: has the SHA-256 \w{64}, and embed\.sha256 is b"):
        towers_of(settings("acme/clip", found.revision, "b" * 64))
    with pytest.raises(SeamlineError, match=r"embed\.revision: 'main' is not a commit"):
        towers_of(settings("acme/clip", "main", found.sha256))
    with pytest.raises(SeamlineError, match="there is no acme/clip at that commit, or access to it is denied"):
        towers_of(settings("acme/clip", "f" * 40, found.sha256))
    with pytest.raises(SeamlineError, match=r"embed\.imgsz: 64 was asked for, and acme/clip takes 32 px alone"):
        towers_of(settings("acme/clip", found.revision, found.sha256, 64))


def test_what_cannot_be_had_is_one_sentence(stand_in: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SeamlineError, match="there is no acme/nothing at that commit"):
        towers_of(settings("acme/nothing"))
    with pytest.raises(SeamlineError, match=r"embed\.model: 'resnet' is not a repository"):
        towers_of(settings("resnet"))
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(SeamlineError, match=r"acme/clip cannot be fetched .*; without internet take effi"):
        towers_of(settings("acme/clip"))


def test_other_models_and_pickles_are_refused(made: Made, stand_in: Hub, tmp_path: Path) -> None:
    for name, config in (("acme/bert", {"model_type": "bert"}), ("acme/pickle", {"model_type": "clip"})):
        folder = made.folders[name] = tmp_path / name
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps(config))
    (made.folders["acme/pickle"] / "pytorch_model.bin").write_bytes(b"pickle")
    (made.folders["acme/bert"] / "model.safetensors").write_bytes(b"")
    with pytest.raises(SeamlineError, match=r"acme/pickle has no weights as safetensors"):
        towers_of(settings("acme/pickle"))
    with pytest.raises(SeamlineError, match=r"acme/bert is a model of the kind 'bert'; CLIP and SigLIP are known"):
        towers_of(pinned("acme/bert"))
    damaged = made.folders["acme/damaged"] = tmp_path / "acme" / "damaged"
    damaged.mkdir()
    for file in made.folders["acme/siglip"].iterdir():
        (damaged / file.name).write_bytes(file.read_bytes())
    (damaged / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(SeamlineError, match="cannot be opened as a model of CLIP or SigLIP"):
        towers_of(pinned("acme/damaged"))
    for name in ("acme/bert", "acme/pickle", "acme/damaged"):
        del made.folders[name]
