"""What a search is asked with: garments of a photo, the photo, vectors, a text, a garment of the catalogue."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from seamline.base.coco import Record
from seamline.base.errors import SeamlineError, counted
from seamline.images.reading import Image, read_image
from seamline.params.search import Search
from seamline.search.building import crop_jpeg
from seamline.search.catalogue import Catalogue, open_catalogue
from seamline.search.qdrant import QdrantCatalogue, connect

CROP_PX = 160
MOST_QUESTIONS = 1000

AnyCatalogue = Catalogue | QdrantCatalogue


class Question(NamedTuple):
    title: str
    record: Record  # what JSON says of it
    vector: npt.NDArray[np.float32]
    crop: bytes = b""  # JPEG


@contextlib.contextmanager
def open_search(args: argparse.Namespace, settings: Search) -> Iterator[tuple[AnyCatalogue, Any]]:
    """The catalogue to search in, and the embedder where one is needed: a vector needs none."""
    with contextlib.ExitStack() as stack:
        embedder: Any = None
        if args.photo is not None or args.text is not None:
            from seamline.inference.embedder import Embedder

            embedder = stack.enter_context(Embedder(args.embedder, args.threads))
        if args.url is not None or settings.backend == "qdrant":
            url = args.url or settings.url
            catalogue: AnyCatalogue = QdrantCatalogue(
                connect(url), args.collection or settings.collection, url, embedder
            )
        else:
            catalogue = open_catalogue(args.catalogue, embedder, args.threads)
        stack.callback(catalogue.close)
        yield catalogue, embedder


def ask(args: argparse.Namespace, catalogue: AnyCatalogue, embedder: Any) -> list[Question]:
    """
    Raises:
        SeamlineError: when there is nothing to ask with: a photo that cannot be read, or the third of two garments.
    """
    if args.text is not None:
        return [Question(f"text: {args.text}", {"text": args.text}, embedder.embed_texts([args.text])[0])]
    if args.vector is not None:
        vectors = read_queries(args.vector)
        return [
            Question(f"{args.vector}, vector {number}", {"vector": number}, vector)
            for number, vector in enumerate(vectors, 1)
        ]
    if args.id is not None:
        return [own_question(catalogue, args.id)]
    image = read_image(args.photo)
    if args.whole:
        box = (0.0, 0.0, float(image.shape[1]), float(image.shape[0]))
        vector = embedder.embed_photo(image)
        return [Question(str(args.photo), {"photo": str(args.photo)}, vector, crop_jpeg(image, box, CROP_PX))]
    return garment_questions(args, image, embedder)


def garment_questions(args: argparse.Namespace, image: Image, embedder: Any) -> list[Question]:
    from seamline.inference.detector import Detector

    with Detector(args.model, threads=args.threads) as detector:
        found, names = detector.detect(image), detector.names
    chosen = range(len(found))
    if args.garment is not None:
        if args.garment > len(found):
            raise SeamlineError(
                f"{args.photo}: has {counted(len(found), 'garment')}, so there is no --garment {args.garment}."
            )
        chosen = range(args.garment - 1, args.garment)
    vectors = embedder.embed(image, found.chosen(np.array(chosen, np.int64))) if len(chosen) else []
    questions = []
    for index, vector in zip(chosen, vectors, strict=True):
        name, box = names[int(found.classes[index])], [round(float(side), 3) for side in found.boxes[index]]
        record = {"photo": str(args.photo), "garment": index + 1, "class_name": name, "box": box}
        title = f"garment {index + 1}: {name} ({found.scores[index]:.2f})"
        questions.append(Question(title, record, vector, crop_jpeg(image, box, CROP_PX)))
    return questions


def own_question(catalogue: AnyCatalogue, identity: str) -> Question:
    if not isinstance(catalogue, Catalogue):
        raise SeamlineError("--id: needs a catalogue in a folder; ask the server with a photo or a vector.")
    found = catalogue.garment(identity)
    if found is None:
        raise SeamlineError(
            f"{catalogue.folder}: has no garment {identity!r}; seamline catalogue show --photos lists them."
        )
    return Question(identity, {"id": identity}, catalogue.vectors_of([found.row])[0], catalogue.crop(identity))


def read_queries(path: Path) -> npt.NDArray[np.float32]:
    """One vector or several from a .npy file.

    Raises:
        SeamlineError: when it is another kind of file, or has too many.
    """
    try:
        found = np.atleast_2d(np.load(path, mmap_mode="r", allow_pickle=False))
    except OSError as error:
        raise SeamlineError(f"{path}: cannot be read ({error.strerror}).") from None
    except (ValueError, EOFError):  # numpy's own words name pickle, and how to open one
        raise SeamlineError(f"{path}: is not a .npy file of numbers, such as predict's embeddings.npy.") from None
    if found.ndim != 2 or not 1 <= len(found) <= MOST_QUESTIONS or found.dtype.kind not in "fiu":
        raise SeamlineError(
            f"{path}: has the form {found.dtype} {found.shape}; it has to hold one vector, or at most {MOST_QUESTIONS}."
        )
    return np.asarray(found, np.float32)
