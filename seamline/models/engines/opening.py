"""Opening a model: the engine that its path asks for."""

from __future__ import annotations

from pathlib import Path

from seamline.base.errors import SeamlineError, not_installed
from seamline.base.files import mode_of
from seamline.models.engines.engine import Engine
from seamline.models.engines.onnx import OnnxEngine
from seamline.models.engines.openvino import OpenVinoEngine
from seamline.models.engines.pytorch import TorchEngine
from seamline.models.model_facts import check_facts

NO_MODEL = "no_model.txt"  # in the place of a model that was not made, with the reason
PRECISIONS = ("f32", "bf16")
DEVICES = ("cpu", "cuda")


def open_engine(
    path: Path,
    threads: int,
    streams: int | None = None,
    batch: int = 1,
    precision: str = "f32",
    device: str = "cpu",
) -> Engine:
    """The engine that a model's path asks for: *.pt, *.onnx, or a folder with model.xml.

    Args:
        threads: CPU threads that the model runs on, in all; detect_all decodes images in half as many beside
            them.
        streams: batches worked on at once by infer_beside(), each on threads / streams of them; None: as many as
            threads, or what OpenVINO thinks best.
        batch: images in each of them.
        precision: f32 or, on OpenVINO, bf16; INT8 models are INT8 where they were quantised and this elsewhere.
        device: cpu or, for PyTorch and ONNX, cuda.

    Raises:
        SeamlineError: when there is no such model, or it cannot be read or not be run like this.
    """
    try:
        there = mode_of(path)
    except OSError as error:
        raise SeamlineError(f"{path}: cannot be opened as a model ({error.strerror}).") from None
    if not there:
        raise SeamlineError(f"{path}: there is no such model; dvc repro makes it.")
    if (path / NO_MODEL).is_file():
        raise SeamlineError(f"{path}: there is no model; {(path / NO_MODEL).read_text(encoding='utf-8').strip()}")
    if precision not in PRECISIONS or device not in DEVICES:
        raise SeamlineError(
            f"{path}: precision {precision!r} on {device!r} was asked for; a precision is one of "
            f"{', '.join(PRECISIONS)}, a device of {', '.join(DEVICES)}."
        )
    path = path / "model.onnx" if (path / "model.onnx").is_file() else path  # or a folder of the export stage
    is_openvino = (path / "model.xml").is_file()
    if (precision != "f32" and not is_openvino) or (device != "cpu" and is_openvino):
        raise SeamlineError(f"{path}: bf16 is for OpenVINO models only, and cuda for all others.")
    engine: Engine
    try:
        if is_openvino:
            engine = OpenVinoEngine(path, threads, streams, precision, batch)
        elif path.suffix == ".onnx":
            engine = OnnxEngine(path, threads, streams, device)
        elif path.suffix == ".pt":
            engine = TorchEngine(path, threads, streams, device)
        else:
            raise SeamlineError(
                f"{path}: is not a model; a model is a .pt or .onnx file, or a folder with model.xml or model.onnx."
            )
    except SeamlineError:
        raise
    except ModuleNotFoundError as error:
        raise not_installed(str(path), error) from None
    except Exception as error:  # every engine has its own for a damaged file
        reason = " ".join(str(error).split())[:200]
        raise SeamlineError(f"{path}: cannot be opened as a model ({type(error).__name__}: {reason}).") from error
    check_facts(engine.facts, path)
    return engine
