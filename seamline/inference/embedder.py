"""Embedder: garments and photos in, vectors out that are close where these look alike; from any number of threads.

Example:
    embedder = Embedder(Path("models/embedder/openvino"))
    found = detector.detect(photo)
    vectors = embedder.embed(photo, found)      # (len(found), embedder.facts.dimension)
    likeness = vectors @ embedder.embed_photo(other)
"""

from __future__ import annotations

import functools
import string
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from seamline.base.errors import SeamlineError, not_installed
from seamline.base.parallel import usable_cores
from seamline.images.budget import PIXELS_UNDER_WAY, PixelBudget
from seamline.images.cutouts import cut_out, squares_to_tensor, to_square
from seamline.images.files import MAX_PIXELS
from seamline.images.reading import Image, Source, read_within_budget
from seamline.inference.lifetime import Lifetime
from seamline.models.arrays import Floats
from seamline.models.detections import Detections
from seamline.models.embedder_facts import Cleaning, EmbedderFacts, facts_to_identity, metadata_to_facts
from seamline.models.engines.encoder import Encoder, check_square, open_encoder
from seamline.models.engines.opening import is_openvino, model_at

AT_ONCE = 64  # garments whose squares are held; a photo has a few
Vectors = Floats  # (n, dimension), each of length 1


class Embedder:
    """Opens what the embed stage makes: an ONNX file or an OpenVINO folder, which says itself all that is needed.

    Its methods may be called from any number of threads, and give to the bit what they give alone and for one garment.
    Not after a fork: a process opens its own.

    Attributes:
        facts: see embedder_facts.EmbedderFacts.
        max_pixels: larger photos are refused.
    """

    def __init__(
        self,
        model: Path | str,
        threads: int | None = None,
        precision: str = "f32",
        max_pixels: int = MAX_PIXELS,
        pixels_under_way: int = PIXELS_UNDER_WAY,
    ) -> None:
        """
        Args:
            threads: that it computes on, in all; None: one for each usable core.
            precision: f32, or bf16 for OpenVINO.
            pixels_under_way: the limit on all photos that are decoded at the same time.

        Raises:
            SeamlineError: when there is no such model, it is another kind of model, or it cannot be run like this.
        """
        self.path = model_at(Path(model))
        self.threads, self.max_pixels = threads or usable_cores(), max_pixels
        self._wanted_precision = precision
        self._encoder = open_encoder(self.path, self.threads, precision)
        self.facts: EmbedderFacts = metadata_to_facts(self._encoder.metadata, self.path)
        check_square(self._encoder, self.facts.imgsz, self.path)
        self.budget = PixelBudget(pixels_under_way)
        self._opening = threading.Lock()
        self._lifetime = Lifetime("embedder")

    @functools.cached_property
    def identity(self) -> str:
        """What vectors that may be compared share; see embedder_facts.facts_to_identity."""
        return facts_to_identity(self.facts)

    @property
    def precision(self) -> str:
        """What it computes in, read back from it."""
        return self._encoder.precision

    def embed(self, image: Source, found: Detections) -> Vectors:
        """A vector for each garment that was found in a photo, all of them at once: (n, dimension), of length 1.

        Where the detector finds boxes only, or a mask is empty, the background stays whatever the facts say.

        Raises:
            ImageError: when the photo cannot be used.
            SeamlineError: when the garments were found in a photo of another size, or after close(), or in a fork.
        """
        self._lifetime.check()
        return read_within_budget(image, "image", self.max_pixels, self.budget, lambda one: self._embed(one, found))

    def embed_photo(self, source: Source) -> Vectors:
        """The vector of a photo as a whole: (dimension,), of length 1.

        Raises:
            ImageError: when the photo cannot be used.
            SeamlineError: after close(), or in a fork.
        """
        self._lifetime.check()
        return read_within_budget(
            source,
            "image",
            self.max_pixels,
            self.budget,
            lambda one: self._vectors([image_to_square(one, self.facts)])[0],
        )

    def embed_texts(self, texts: Sequence[str]) -> Vectors:
        """A vector for each text, to be compared with those of garments: (n, dimension), of length 1.

        Raises:
            SeamlineError: when the model has no text tower, for a text that is not Unicode, or after close(), or in a
                fork.
        """
        self._lifetime.check()
        if not self.facts.has_text:
            raise SeamlineError(
                f"{self.path}: {self.facts.name} has no text tower, so it cannot embed texts; take a model of CLIP or "
                "SigLIP (embed.model)."
            )
        tower, tokenizer = self._text
        tokens = [text_to_tokens(text, tokenizer, self.facts.cleaning) for text in texts]
        shaped = np.array(tokens, np.int64).reshape(len(tokens), *tower.input_shape)
        return with_length_1(tower.run(shaped)[0])

    def embed_tensor(self, tensor: Floats) -> Vectors:
        """The vectors of squares that are a tensor already: (n, dimension) of (n, 3, imgsz, imgsz)."""
        self._lifetime.check()
        return with_length_1(self._encoder.run(tensor)[0])

    def close(self) -> None:
        """What is asked after that is refused."""
        self._lifetime.end()

    def __enter__(self) -> Embedder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def _text(self) -> tuple[Encoder, Any]:
        with self._opening:
            return self._opened_text

    @functools.cached_property
    def _opened_text(self) -> tuple[Encoder, Any]:
        """The text tower and its tokenizer, which lie beside the image tower; opened by the first who needs them."""
        try:
            from tokenizers import Tokenizer
        except ModuleNotFoundError as error:
            raise not_installed(str(self.path), error) from None
        folder = self.path if self.path.is_dir() else self.path.parent
        file = folder / ("text.xml" if is_openvino(self.path) else "text.onnx")
        try:
            tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        except Exception as error:  # tokenizers raises Exception itself
            raise SeamlineError(f"{folder / 'tokenizer.json'}: cannot be read as a tokenizer ({error}).") from None
        return open_encoder(file, self.threads, self._wanted_precision), tokenizer

    def _embed(self, image: Image, found: Detections) -> Vectors:
        if image.shape[:2] != (found.height, found.width):
            raise SeamlineError(
                f"the photo has {image.shape[1]} x {image.shape[0]} px, and the garments were found in one of "
                f"{found.width} x {found.height}; embed() takes the photo that they were found in."
            )
        parts = [
            self._vectors([garment_to_square(image, found, index, self.facts) for index in some])
            for some in in_parts(range(len(found)), AT_ONCE)
        ]
        return np.concatenate([np.zeros((0, self.facts.dimension), np.float32), *parts])

    def _vectors(self, squares: Sequence[Image]) -> Vectors:
        return self.embed_tensor(squares_to_tensor(squares, self.facts.mean, self.facts.std))


def in_parts(items: range, most: int) -> Iterator[range]:
    return (items[start : start + most] for start in range(0, len(items), most))


def garment_to_square(image: Image, found: Detections, index: int, facts: EmbedderFacts) -> Image:
    """A garment of a photo as the embedder sees it, (imgsz, imgsz, 3), BGR."""
    mask = found.crop(index) if found.has_masks and facts.background != "keep" else None
    part = cut_out(image, found.boxes[index], mask, facts.margin, facts.background, facts.mean)
    return image_to_square(part, facts)


def image_to_square(image: Image, facts: EmbedderFacts) -> Image:
    return to_square(image, facts.imgsz, facts.squaring, facts.interpolation, facts.mean)


def with_length_1(vectors: Floats) -> Floats:
    """Vectors (n, dimension) divided by their lengths; one of zeros stays so."""
    lengths = np.sqrt((vectors.astype(np.float64) ** 2).sum(axis=1, keepdims=True))
    made: Floats = (vectors / np.maximum(lengths, 1e-12)).astype(np.float32)
    return made


def text_to_tokens(text: str, tokenizer: Any, cleaning: Cleaning) -> list[int]:
    try:
        found: list[int] = tokenizer.encode(clean_text(text, cleaning)).ids
    except TypeError:  # what a command line has of bytes that are not UTF-8
        raise SeamlineError(f"{text!r} is not Unicode, so it cannot be embedded.") from None
    return found


def clean_text(text: str, cleaning: Cleaning) -> str:
    """A text as the tokenizer takes it; canonical as big_vision's canonicalize_text, which SigLIP was trained with."""
    if cleaning == "none":
        return text
    without = text.replace("_", " ").translate(str.maketrans("", "", string.punctuation))
    return " ".join(without.lower().split())
