"""The Open Inference Protocol (v2) in bytes: requests to photos, what was found to answers.

https://github.com/kserve/open-inference-protocol says what KServe's clients send, and Triton's extension for binary
tensors what Triton's do: JSON first, as long as Inference-Header-Content-Length says, and then each tensor's bytes.

Photos come as files in `image` (base64 in JSON, the bytes themselves in binary), or as RGB in `pixels`. `instances` has
for each photo the JSON array that /v1/predict answers; the other outputs have one row for each instance of all photos.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, NamedTuple, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Meta, Raw

from seamline import __version__
from seamline.images.reading import Image
from seamline.service.answers import records_to_json
from seamline.service.bodies import (
    MOST_COMMAS,
    MOST_OBJECTS,
    SHOWN,
    Photo,
    base64_to_bytes,
    check_parts,
    option_error,
    plain_error,
)
from seamline.service.problems import Problem
from seamline.service.schemas import ModelAbout, Options
from seamline.service.settings import Settings

INPUTS = {"image": ("BYTES", [-1]), "pixels": ("UINT8", [-1, -1, -1, 3])}
OUTPUTS = {
    "instances": ("BYTES", [-1]),
    "image_index": ("INT64", [-1]),  # from 0
    "boxes": ("FP32", [-1, 4]),  # x1, y1, x2, y2 in pixels of the photo
    "scores": ("FP32", [-1]),
    "class_ids": ("INT64", [-1]),  # from 1, as category_id
    "class_names": ("BYTES", [-1]),
    "masks": ("BYTES", [-1]),  # the JSON of segmentation
}
# What clients and those between them add to requests, and changes nothing here.
IGNORED = {"content_type", "headers", "priority", "sequence_end", "sequence_id", "sequence_start", "timeout"}
BINARY_OUTPUT = "binary_data_output"
MOST_PARAMETER_BYTES = 64 * 1024
MOST_SHAPE_BYTES = 200
NOT_PIXELS = "The input pixels has data that are not an array of whole numbers from 0 to 255"
MOST_PIXELS_JSON_BYTES = 8 * 2**20  # of numbers as text, which take several times as much to read
LENGTH = struct.Struct("<I")
T = TypeVar("T")


class Tensor(msgspec.Struct):
    """An input."""

    name: str
    datatype: str
    shape: Raw
    parameters: Raw = Raw(b"null")
    data: Raw = Raw(b"null")


class Output(msgspec.Struct):
    name: str
    parameters: Raw = Raw(b"null")


class Request(msgspec.Struct):
    inputs: list[Tensor]
    outputs: list[Output] | None = None
    id: str | None = None
    parameters: Raw = Raw(b"null")


class Instance(msgspec.Struct):
    """What the outputs need of a record of /v1/predict."""

    category_id: int
    bbox: tuple[float, float, float, float]
    score: float
    segmentation: Raw = Raw(b"null")


class Inference(NamedTuple):
    """A request, taken apart."""

    photos: list[Photo]
    options: Options
    outputs: dict[str, bool]  # wanted ones in their order, and whether as binary
    id: str | None


def server_metadata() -> dict[str, Any]:
    return {"name": "seamline", "version": __version__, "extensions": ["binary_tensor_data"]}


def model_metadata(model: ModelAbout) -> dict[str, Any]:
    """Name, version, and the tensors; of the inputs one is enough."""
    outputs = outputs_of(model)
    return {
        "name": model.name,
        "versions": [model.revision],
        "platform": f"seamline_{model.format}",
        "inputs": [tensor_metadata(name, *INPUTS[name]) for name in INPUTS],
        "outputs": [tensor_metadata(name, *OUTPUTS[name]) for name in outputs],
    }


def tensor_metadata(name: str, datatype: str, shape: Sequence[int]) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": [*shape]}


def outputs_of(model: ModelAbout) -> list[str]:
    return [name for name in OUTPUTS if name != "masks" or model.has_masks]


def body_to_inference(body: bytes, header_length: str | None, model: ModelAbout, settings: Settings) -> Inference:
    """Photos and wishes from the body of an infer request.

    Args:
        header_length: Inference-Header-Content-Length, where the request has it: of the JSON in front of the tensors.
            0 is the body's of a photo alone, without JSON.

    Raises:
        Problem: of status 400, saying what is wrong with it.
    """
    if header_length is None:
        length = len(body)
    elif header_length.isascii() and header_length.isdecimal() and len(header_length) < 20:
        length = int(header_length)
    else:
        raise bad("Inference-Header-Content-Length is not a number; it is the length of the JSON in bytes")
    if length > len(body):
        raise bad(f"Inference-Header-Content-Length is {length:,}, but the body has {len(body):,} bytes")
    if length == 0 and header_length is not None:
        return Inference([Photo("image 1", body)], Options(), dict.fromkeys(outputs_of(model), True), None)
    check_parts(body[:length], b"{", MOST_OBJECTS)
    request = decoded(body[:length], Request, "The request")
    parameters = parameters_of(request.parameters, "The request's parameters")
    in_binary = flag(parameters.pop(BINARY_OUTPUT, False), BINARY_OUTPUT)
    options = parameters_to_options(parameters)
    photos: list[Photo] = []
    rest = memoryview(body)[length:]
    for tensor in request.inputs:
        size = binary_size(tensor, len(rest))
        own, rest = (None, rest) if size is None else (rest[:size], rest[size:])
        photos += tensor_to_photos(tensor, own, len(photos), settings)
    if len(rest):
        raise bad(f"The body has {len(rest):,} bytes more than the inputs' binary_data_size say")
    if not photos:
        raise bad("The request has no photo; the input image has at least one file, or pixels one array")
    return Inference(photos, options, wanted_outputs(request.outputs, in_binary, options, model), request.id)


def bad(sentence: str) -> Problem:
    return Problem(400, f"{sentence}.")


def decoded(data: bytes | Raw, kind: type[T], name: str) -> T:
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.ValidationError as error:
        raise bad(f"{name} cannot be used: {plain_error(str(error))}") from None
    except (msgspec.DecodeError, RecursionError, ValueError) as error:
        raise bad(f"{name} cannot be read as JSON: {str(error)[:SHOWN]}") from None


def parameters_of(raw: Raw, name: str) -> dict[str, Any]:
    if len(bytes(raw)) > MOST_PARAMETER_BYTES:
        raise bad(f"{name} are too long; at most {MOST_PARAMETER_BYTES:,} bytes are taken")
    found = decoded(raw, dict[str, Any] | None, name)  # type: ignore[arg-type]
    return found or {}


def flag(value: Any, name: str) -> bool:
    if not isinstance(value, bool):
        raise bad(f"The parameter {name} has to be true or false")
    return value


def parameters_to_options(parameters: dict[str, Any]) -> Options:
    """masks, confidence and classes, as /v1/predict takes them; names of classes may stand in one text, with commas."""
    given = {name: value for name, value in parameters.items() if name not in IGNORED}
    if isinstance(given.get("classes"), str):
        given["classes"] = [given["classes"]]
    try:
        return msgspec.convert(given, Options)
    except msgspec.ValidationError as error:
        raise Problem(400, option_error(given, str(error))) from None


def wanted_outputs(asked: list[Output] | None, in_binary: bool, options: Options, model: ModelAbout) -> dict[str, bool]:
    """All outputs where none are named."""
    known = [name for name in outputs_of(model) if name != "masks" or options.masks != "none"]
    if not asked:
        return dict.fromkeys(known, in_binary)
    wanted: dict[str, bool] = {}
    for output in asked:
        if output.name not in known:
            raise bad(f"There is no output {output.name[:100]!r} for this request; there are {', '.join(known)}")
        if output.name in wanted:
            raise bad(f"The output {output.name} is named twice")
        parameters = parameters_of(output.parameters, f"The parameters of {output.name}")
        if unknown := parameters.keys() & {"classification", "shared_memory_region"}:
            raise bad(f"The output {output.name} has the parameter {min(unknown)}, which this service does not know")
        wanted[output.name] = flag(parameters.get("binary_data", in_binary), "binary_data")
    return wanted


def binary_size(tensor: Tensor, there: int) -> int | None:
    """How many bytes behind the JSON are a tensor's; None where its data are in the JSON.

    Args:
        there: bytes that are left.
    """
    shown = tensor.name[:100]
    parameters = parameters_of(tensor.parameters, f"The parameters of the input {shown!r}")
    if "shared_memory_region" in parameters:
        raise bad(f"The input {shown!r} is in shared memory, which this service does not have; send it in the body")
    size = parameters.get("binary_data_size")
    if size is None:
        return None
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= there:
        raise bad(f"The input {shown!r}: binary_data_size has to be a number of bytes that the body has ({there:,})")
    if bytes(tensor.data) != b"null":
        raise bad(f"The input {shown!r} has data and binary_data_size; one of them is to be left out")
    return size


def tensor_to_photos(tensor: Tensor, binary: memoryview | None, before: int, settings: Settings) -> list[Photo]:
    """The photos of an input, whose numbers follow those `before`."""
    if tensor.name not in INPUTS:
        raise bad(f"There is no input {tensor.name[:100]!r}; there are {' and '.join(INPUTS)}, one of which is enough")
    datatype = INPUTS[tensor.name][0]
    if tensor.datatype != datatype:
        raise bad(f"The input {tensor.name} is of {tensor.datatype[:100]!r}; it has to be of {datatype}")
    most = min(settings.photos, settings.queue) - before
    shape = tensor_to_shape(tensor)
    count = photo_count(tensor.name, shape)
    if count > most:
        raise bad(f"The request has too many photos; at most {most + before} are taken in one")
    files: Sequence[bytes | Image]
    if tensor.name == "pixels":
        files = pixels_to_images(tensor, shape, binary, settings.pixels)
    elif binary is None:
        check_parts(bytes(tensor.data), b",", MOST_COMMAS)
        texts = decoded(tensor.data, list[str], "The data of the input image")
        if len(texts) != count:
            raise bad(f"The input image has {len(texts):,} files, but its shape says {count:,}")
        files = [base64_to_bytes(text, f"image {number}") for number, text in enumerate(texts, before + 1)]
    else:
        files = [*binary_to_elements(binary, count)]
    return [Photo(f"image {number}", file) for number, file in enumerate(files, before + 1)]


def tensor_to_shape(tensor: Tensor) -> list[int]:
    if len(bytes(tensor.shape)) > MOST_SHAPE_BYTES:
        raise bad(f"The shape of the input {tensor.name} is too long; it has four numbers at most")
    return decoded(tensor.shape, list[Annotated[int, Meta(ge=0)]], f"The shape of the input {tensor.name}")


def photo_count(name: str, shape: Sequence[int]) -> int:
    """Of an input, by its shape: [n] or [n, 1] files; [n, height, width, 3] or [height, width, 3] pixels."""
    if name == "image":
        if len(shape) == 1 or (len(shape) == 2 and shape[1] == 1):
            return shape[0]
        raise bad("The input image has to have the shape [n] or [n, 1], for n files")
    if len(shape) not in (3, 4) or shape[-1] != 3:
        raise bad("The input pixels has to have the shape [height, width, 3] or [n, height, width, 3], for RGB")
    return shape[0] if len(shape) == 4 else 1


def binary_to_elements(data: memoryview, count: int) -> Iterator[bytes]:
    """BYTES: each element's length in 4 bytes, and the element."""
    at = 0
    for _ in range(count):
        if at + LENGTH.size > len(data):
            raise bad("The input image has fewer files than its shape says")
        (size,) = LENGTH.unpack_from(data, at)
        at += LENGTH.size
        if size > len(data) - at:
            raise bad(f"The input image has a file of {size:,} bytes, but only {len(data) - at:,} are left")
        yield bytes(data[at : at + size])
        at += size
    if at != len(data):
        raise bad(f"The input image has {len(data) - at:,} bytes more than its files have")


def pixels_to_images(tensor: Tensor, shape: Sequence[int], binary: memoryview | None, most_pixels: int) -> list[Image]:
    """BGR, as all images are here."""
    height, width = shape[-3:-1]
    if not 0 < height * width <= most_pixels:
        raise bad(f"The input pixels has images of {height} x {width}; at most {most_pixels:,} pixels are allowed")
    values = json_to_pixels(tensor.data) if binary is None else np.frombuffer(binary, np.uint8)
    if len(values) != math.prod(shape):
        raise bad(f"The input pixels has {len(values):,} values that do not have the shape {shape}")
    return [np.ascontiguousarray(image[:, :, ::-1]) for image in values.reshape(-1, height, width, 3)]


def json_to_pixels(data: Raw) -> npt.NDArray[np.uint8]:
    """A flat array from JSON that is flat or nested, without an object of Python's for each number."""
    text = bytes(data)
    if len(text) > MOST_PIXELS_JSON_BYTES:
        raise bad(
            f"The input pixels has more than {MOST_PIXELS_JSON_BYTES:,} bytes of text; send it as binary, or a file as "
            "image"
        )
    numbers = text.translate(None, b"[] \t\r\n")
    if not numbers and text.startswith(b"["):
        return np.zeros(0, np.uint8)
    # It is JSON, or it would not be here: digits and commas are whole numbers, unless an array is empty.
    if not text.startswith(b"[") or numbers.translate(None, b"0123456789,") or b",," in b"," + numbers + b",":
        raise bad(NOT_PIXELS)
    values = np.fromstring(numbers, np.float64, sep=",")
    if values.max() > 255:
        raise bad(NOT_PIXELS)
    return values.astype(np.uint8)


def answers_to_response(
    answers: Sequence[Sequence[str]], asked: Inference, model: ModelAbout
) -> tuple[bytes, int | None]:
    """The body of an answer, and the length of its JSON where tensors follow.

    Args:
        answers: of each photo the JSON of its records, without image_id.
    """
    tensors = answers_to_tensors(answers, asked.outputs, model.classes)
    outputs, parts = [], []
    for name, in_binary in asked.outputs.items():
        values = tensors[name]
        shape = [*values.shape] if isinstance(values, np.ndarray) else [len(values)]
        output = tensor_metadata(name, OUTPUTS[name][0], shape)
        if in_binary:
            parts.append(tensor_to_binary(values))
            output["parameters"] = {"binary_data_size": len(parts[-1])}
        else:
            output["data"] = values.ravel().tolist() if isinstance(values, np.ndarray) else values
        outputs.append(output)
    answer: dict[str, Any] = {"model_name": model.name, "model_version": model.revision}
    if asked.id is not None:
        answer["id"] = asked.id
    head = msgspec.json.encode({**answer, "outputs": outputs})
    return b"".join([head, *parts]), len(head) if parts else None


def answers_to_tensors(
    answers: Sequence[Sequence[str]], wanted: dict[str, bool], classes: Sequence[str]
) -> dict[str, npt.NDArray[Any] | list[str]]:
    tensors: dict[str, npt.NDArray[Any] | list[str]] = {
        "instances": [records_to_json(records, number) for number, records in enumerate(answers, 1)]
    }
    if wanted.keys() - {"instances"}:
        found = [msgspec.json.decode(record, type=Instance) for records in answers for record in records]
        boxes = [[x, y, x + width, y + height] for x, y, width, height in (one.bbox for one in found)]
        tensors |= {
            "image_index": np.repeat(np.arange(len(answers)), [len(records) for records in answers]).astype("<i8"),
            "boxes": np.array(boxes, "<f4").reshape(-1, 4),
            "scores": np.array([one.score for one in found], "<f4"),
            "class_ids": np.array([one.category_id for one in found], "<i8"),
            "class_names": [classes[one.category_id - 1] for one in found],
            "masks": [bytes(one.segmentation).decode() for one in found],
        }
    return tensors


def tensor_to_binary(values: npt.NDArray[Any] | list[str]) -> bytes:
    if isinstance(values, np.ndarray):
        return values.tobytes()
    texts = [text.encode("utf-8", "replace") for text in values]
    return b"".join(part for text in texts for part in (LENGTH.pack(len(text)), text))
