"""Opening a model: the engine that its path asks for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from seamline.base.errors import SeamlineError, not_installed
from seamline.base.files import mode_of
from seamline.models.devices import chosen_device
from seamline.models.engines.engine import Engine
from seamline.models.engines.onnx import OnnxEngine
from seamline.models.engines.openvino import OpenVinoEngine
from seamline.models.engines.pytorch import TorchEngine
from seamline.models.model_facts import check_facts

NO_MODEL = "no_model.txt"  # in the place of a model that was not made, with the reason
PRECISIONS = ("f32", "bf16", "f16", "tf32")


def open_engine(
    path: Path,
    threads: int,
    streams: int | None = None,
    batch: int = 1,
    precision: str = "f32",
    device: str = "cpu",
    channels_last: bool | None = None,
    compiled: Path | None = None,
) -> Engine:
    """The engine that a model's path asks for: *.pt, *.onnx, or a folder with model.xml.

    Args:
        threads: CPU threads that the model runs on, in all; detect_all decodes images in half as many beside them.
        streams: batches worked on at once by infer_beside(), each on threads / streams of them; None: as many as
            threads, or what OpenVINO thinks best.
        batch: images in each of them.
        precision: f32; on OpenVINO also bf16, on TensorRT f16, for weights on a GPU tf32, f16 and bf16. INT8 models are
            INT8 where they were quantised and this elsewhere.
        device: cpu, auto, cuda or cuda:NUMBER for PyTorch and ONNX, tensorrt for ONNX; see devices.chosen_device.
        channels_last: for weights on a GPU, how numbers lie in memory; None: as is quickest for the precision.
        compiled: folder in which OpenVINO's compiled models are stored, so that they are ready sooner next time.

    Raises:
        SeamlineError: when there is no such model, or it cannot be read or not be run like this.
    """
    path = model_at(path)
    device = chosen_device(path, device)
    check_possible(path, device, precision)
    engine: Engine
    with opening_errors(path):
        if is_openvino(path):
            engine = OpenVinoEngine(path, threads, streams, precision, batch, compiled)
        elif path.suffix in (".pt", ".onnx") and device != "cpu":
            engine = on_gpu(path, threads, device, precision, channels_last)
        elif path.suffix == ".onnx":
            engine = OnnxEngine(path, threads, streams)
        elif path.suffix == ".pt":
            engine = TorchEngine(path, threads, streams)
        else:
            raise SeamlineError(
                f"{path}: is not a model; a model is a .pt or .onnx file, or a folder with model.xml or model.onnx."
            )
    check_facts(engine.facts, path)
    return engine


def model_at(path: Path) -> Path:
    """The file, or the OpenVINO folder, that a path of a model means.

    Raises:
        SeamlineError: when there is no such model.
    """
    try:
        there = mode_of(path)
    except OSError as error:
        raise SeamlineError(f"{path}: cannot be opened as a model ({error.strerror}).") from None
    if not there:
        raise SeamlineError(f"{path}: there is no such model; dvc repro makes it.")
    if (path / NO_MODEL).is_file():
        raise SeamlineError(f"{path}: there is no model; {(path / NO_MODEL).read_text(encoding='utf-8').strip()}")
    return path / "model.onnx" if (path / "model.onnx").is_file() else path  # or a folder of the export stage


@contextmanager
def opening_errors(path: Path) -> Iterator[None]:
    """Raises SeamlineError for whatever a library says of a damaged file; each has errors of its own."""
    try:
        yield
    except SeamlineError:
        raise
    except ModuleNotFoundError as error:
        raise not_installed(str(path), error) from None
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise SeamlineError(f"{path}: cannot be opened as a model ({type(error).__name__}: {reason}).") from error


def on_gpu(path: Path, threads: int, device: str, precision: str, channels_last: bool | None) -> Engine:
    from seamline.models.engines.device import onnx_on_device, weights_on_device

    if path.suffix == ".onnx":
        return onnx_on_device(path, threads, device, precision)
    return weights_on_device(path, threads, device, precision, channels_last)


def is_openvino(path: Path) -> bool:
    return (path / "model.xml").is_file()


def check_possible(path: Path, device: str, precision: str) -> None:
    """Raise SeamlineError where a model of this kind cannot be run on that device, or not in that precision."""
    if precision not in PRECISIONS:
        raise SeamlineError(
            f"{path}: precision {precision!r} was asked for; a precision is one of {', '.join(PRECISIONS)}."
        )
    kind, is_weights = device.partition(":")[0], path.suffix == ".pt"
    if kind != "cpu" and is_openvino(path):
        raise SeamlineError(f"{path}: OpenVINO models run on the CPU; cuda is for weights (.pt) and ONNX models.")
    if kind == "tensorrt" and is_weights:
        raise SeamlineError(f"{path}: tensorrt is for ONNX models; weights (.pt) run on cuda.")
    others: tuple[str, ...] = ()
    if is_openvino(path):
        others = ("bf16",)
    elif kind == "tensorrt":
        others = ("f16",)
    elif kind == "cuda" and is_weights:
        others = PRECISIONS
    if precision not in ("f32", *others):
        raise SeamlineError(
            f"{path}: cannot be run in {precision} on {device}; bf16 is for OpenVINO, f16 for TensorRT, and all of "
            "bf16, f16 and tf32 for weights (.pt) on a GPU."
        )
