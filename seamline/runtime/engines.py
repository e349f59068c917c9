"""The three engines: raw outputs of a model for a tensor, on a given number of CPU threads at f32.

Each is a class with names, imgsz, precision (as read back from the engine) and infer(); the ONNX and OpenVINO ones
import neither torch nor ultralytics.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from seamline.errors import SeamlineError

Floats = npt.NDArray[np.float32]
NO_MODEL = "no_model.txt"  # in the place of a model that was not made, with the reason


class Engine(Protocol):
    names: list[str]
    imgsz: int
    precision: str

    def infer(self, tensor: Floats) -> tuple[Floats, Floats]:
        """Predictions (batch, 4 + classes + coefficients, anchors) and prototypes (batch, coefficients, h, w)."""


class TorchEngine:
    """A trained best.pt, its convolutions fused with their normalisations as ultralytics does for inference."""

    def __init__(self, path: Path, threads: int) -> None:
        # Read when OpenMP loads. Left alone, its threads spin long at every barrier: where something else used a
        # core, an inference of 20 ms took 2 s, and so 50 ms. Without any spinning it took 42 ms on idle cores.
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")
        import torch
        from ultralytics.nn.tasks import load_checkpoint

        torch.set_num_threads(threads)
        model, checkpoint = load_checkpoint(str(path), device="cpu", fuse=True)
        self.names = [str(name) for _, name in sorted(model.names.items())]
        self.imgsz = int(checkpoint["train_args"]["imgsz"])
        self.precision = "f32"
        self.model = model.float().eval()

    def infer(self, tensor: Floats) -> tuple[Floats, Floats]:
        import torch

        with torch.inference_mode():
            (predictions, prototypes), *_ = self.model(torch.from_numpy(tensor))
        return predictions.numpy(), prototypes.numpy()


class OnnxEngine:
    """An ONNX file on onnxruntime's CPU provider."""

    def __init__(self, path: Path, threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.force_spinning_stop", "1")  # spin while it runs, not after
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        if self.session.get_providers() != ["CPUExecutionProvider"]:
            raise SeamlineError(f"{path}: onnxruntime runs it on {self.session.get_providers()} and not on the CPU.")
        self.names, self.imgsz = metadata_to_names(self.session.get_modelmeta().custom_metadata_map, path)
        self.precision = "f32"
        self.input = self.session.get_inputs()[0].name

    def infer(self, tensor: Floats) -> tuple[Floats, Floats]:
        predictions, prototypes = self.session.run(None, {self.input: tensor})
        return predictions, prototypes


class OpenVinoEngine:
    """An OpenVINO folder (model.xml, model.bin) on its CPU plugin, precision pinned to f32.

    Left alone, OpenVINO computes in bf16 where the processor can; beside f32 engines that is no fair row.
    """

    def __init__(self, path: Path, threads: int) -> None:
        import openvino

        core = openvino.Core()
        model = core.read_model(path / "model.xml")
        wanted = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
        self.compiled = core.compile_model(model, "CPU", wanted)
        metadata = {
            key: model.get_rt_info(["seamline", key]).astype(str)
            for key in ("names", "imgsz")
            if model.has_rt_info(["seamline", key])
        }
        self.names, self.imgsz = metadata_to_names(metadata, path)
        nodes = self.compiled.get_runtime_model().get_ops()  # as they are executed, whatever the file says
        executed = {node.get_rt_info()["runtimePrecision"].astype(str) for node in nodes}
        self.precision = "int8" if executed & {"u8", "i8"} else "bf16" if "bf16" in executed else "f32"
        self.request = self.compiled.create_infer_request()

    def infer(self, tensor: Floats) -> tuple[Floats, Floats]:
        outputs = self.request.infer([tensor], share_inputs=True)
        return outputs[0], outputs[1]


def metadata_to_names(metadata: dict[str, Any], path: Path) -> tuple[list[str], int]:
    """Class names and input size, as the export stage stores them inside a model."""
    try:
        return [str(name) for name in json.loads(metadata["names"])], int(metadata["imgsz"])
    except (KeyError, ValueError):
        raise SeamlineError(
            f"{path}: has no Seamline metadata (names, imgsz); export it with stages/export.py."
        ) from None


def open_engine(path: Path, threads: int) -> Engine:
    """The engine that a model's path asks for: *.pt, *.onnx, or a folder with model.xml.

    Raises:
        SeamlineError: when there is no such model, or it cannot be read.
    """
    if not path.exists():
        raise SeamlineError(f"{path}: there is no such model; dvc repro makes it.")
    if (path / NO_MODEL).is_file():
        raise SeamlineError(f"{path}: there is no model; {(path / NO_MODEL).read_text(encoding='utf-8').strip()}")
    try:
        if (path / "model.xml").is_file():
            return OpenVinoEngine(path, threads)
        if path.suffix == ".onnx":
            return OnnxEngine(path, threads)
        if path.suffix == ".pt":
            return TorchEngine(path, threads)
    except SeamlineError:
        raise
    except Exception as error:  # every engine has its own for a damaged file
        reason = " ".join(str(error).split())[:200]
        raise SeamlineError(f"{path}: cannot be opened as a model ({type(error).__name__}: {reason}).") from error
    raise SeamlineError(f"{path}: is no model; a model is a .pt or .onnx file or a folder with model.xml.")
