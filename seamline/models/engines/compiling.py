"""Compiling a model with OpenVINO: most of it is the same for every use of a model, and is done once."""

from __future__ import annotations

import contextlib
import hashlib
import threading
from pathlib import Path
from typing import Any, NamedTuple

from seamline.base.errors import SeamlineError
from seamline.base.files import code_below, sha256_of, whole_file
from seamline.models.families import Family

MOST_STORED = 10
SUFFIX = ".compiled"
DIGEST_BYTES = 32
PROCESSOR = ("FULL_DEVICE_NAME", "OPTIMIZATION_CAPABILITIES")


class Read(NamedTuple):
    """A model as OpenVINO has read it."""

    model: Any
    sha256: str  # of its files; "" where that is not known


def read_model(core: Any, folder: Path, hashed: bool) -> Read:
    """The model in a folder; its hash is not known where its files were replaced while they were read."""
    before = sha256_of_model(folder) if hashed else ""
    model = core.read_model(folder / "model.xml")
    return Read(model, before if hashed and sha256_of_model(folder) == before else "")


def sha256_of_model(folder: Path) -> str:
    return " ".join(sha256_of(folder / name) for name in ("model.xml", "model.bin"))


class Compiler:
    """Compiles a model for one image at a time, for many at once, and for batches.

    Most of the time goes into passes over the graph, three quarters of it with INT8. Their result does not depend on
    the number of threads and streams: the first compiled model of a batch size exports it, the others import it. It is
    also stored in a folder, if there is one, when it is exported, so that processes after this one import it at once.
    """

    def __init__(self, core: Any, read: Read, family: Family, precision: str, folder: Path | None) -> None:
        """
        Args:
            folder: of what is stored; None: nothing is.
        """
        self._core, self._model, self._family, self._precision = core, read.model, family, precision
        self._sha256, self._folder = read.sha256, folder if read.sha256 else None
        self._first: dict[int, Any] = {}  # by batch size, compiled and not imported
        self._lock = threading.Lock()

    def compiled(self, batch: int, options: dict[str, Any]) -> Any:
        """The model compiled for batches of canvases with OpenVINO's options."""
        with self._lock:
            file = None if self._folder is None else self._folder / self._name(batch)
            if (data := self._exported(batch, file)) is not None:
                try:
                    return self._core.import_model(data, "CPU", options)
                except RuntimeError:  # OpenVINO has not exported it
                    if file is not None:
                        discard(file)
            model = with_canvas_input(self._model, self._family, batch)
            self._first[batch] = made = self._core.compile_model(model, "CPU", options)
            return made

    def _exported(self, batch: int, file: Path | None) -> bytes | None:
        """What a process before this one has stored, or the first compiled model exports; None: there is neither."""
        data = None if file is None else stored(file)
        if data is None and batch in self._first:
            # Not of an imported one: what that exports cannot be imported.
            data = bytes(self._first[batch].export_model().getvalue())
            if file is not None:
                store(file, data)
        return data

    def _name(self, batch: int) -> str:
        """Of the file: a hash of all that decides what is compiled."""
        import openvino

        parts = [openvino.get_version(), str(batch), self._precision]
        parts += [str(self._core.get_property("CPU", name)) for name in PROCESSOR]
        parts += [self._sha256, *map(sha256_of, code_below(Path(__file__).parent.parent, {".py"}))]  # a family's steps
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32] + SUFFIX


def store(path: Path, data: bytes) -> None:
    """Store data with its hash; then delete the oldest files of the folder but MOST_STORED."""
    try:
        with whole_file(path) as temporary:
            temporary.write_bytes(hashlib.sha256(data).digest() + data)
        files = sorted(path.parent.glob(f"*{SUFFIX}"), key=lambda file: file.stat().st_mtime)
        for file in files[:-MOST_STORED]:
            discard(file)
    except (OSError, SeamlineError):  # a full disk, or a folder that cannot be written to: it is compiled next time
        return


def discard(path: Path) -> None:
    with contextlib.suppress(OSError):  # gone, or in a folder that cannot be written to
        path.unlink()


def stored(path: Path) -> bytes | None:
    """What was stored; None where there is nothing, or it is not what its hash says."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    digest, data = content[:DIGEST_BYTES], content[DIGEST_BYTES:]
    return data if data and hashlib.sha256(data).digest() == digest else None


def with_canvas_input(model: Any, family: Family, batch: int) -> Any:
    """The model with a batch of canvases for its input, so that OpenVINO itself makes tensors of them."""
    import openvino
    from openvino.preprocess import ColorFormat, PrePostProcessor

    model = model.clone()
    model.reshape([batch, *list(model.input().partial_shape)[1:]])
    processor = PrePostProcessor(model)
    tensor = processor.input().tensor()
    tensor.set_element_type(openvino.Type.u8).set_layout(openvino.Layout("NHWC")).set_color_format(ColorFormat.BGR)
    processor.input().model().set_layout(openvino.Layout("NCHW"))
    steps = processor.input().preprocess()
    family.add_openvino_steps(steps.convert_element_type(openvino.Type.f32))
    return processor.build()
