"""Encoders beside ONNX's own reference, from many threads, in any batch."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx.reference import ReferenceEvaluator

from seamline.base.errors import SeamlineError
from seamline.models.engines.encoder import Encoder, open_encoder
from seamline.models.engines.opening import NO_MODEL
from tests.conftest import PROJECT
from tests.tiny_encoder import DIMENSION, IMGSZ, LENGTH, WORDS, image_model, save_encoder, text_model
from tests.untrained import WITHOUT_TORCH, Untrained

Array = np.ndarray[Any, Any]


def images(count: int) -> Array:
    return np.random.default_rng(1).standard_normal((count, 3, IMGSZ, IMGSZ)).astype(np.float32)


def reference(model: Any, name: str, tensor: Array) -> Array:
    """One by one, in numpy, as the standard says."""
    run = ReferenceEvaluator(model).run
    return np.concatenate([run(None, {name: item[None]})[0] for item in tensor])


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return save_encoder(image_model(kind="tiny"), tmp_path_factory.mktemp("encoder"))


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_an_encoder_makes_what_onnx_says_in_any_batch_to_the_bit(files: tuple[Path, Path], threads: int) -> None:
    tensor = images(7)
    expected = reference(image_model(), "images", tensor)
    assert np.ptp(expected) > 0.1
    for file in files:
        encoder = open_encoder(file, threads)
        assert encoder.metadata["kind"] == "tiny"
        assert (encoder.input_shape, encoder.precision) == ((3, IMGSZ, IMGSZ), "f32")
        [together] = encoder.run(tensor)
        assert together.dtype == np.float32
        np.testing.assert_allclose(together, expected, atol=1e-5)
        for item, own in zip(tensor, together, strict=True):
            assert np.array_equal(encoder.run(item[None])[0][0], own)
        assert np.array_equal(encoder.run(tensor[2:5])[0], together[2:5])
        assert np.array_equal(encoder.run(tensor[::-1])[0], together[::-1])
        [none] = encoder.run(tensor[:0])
        assert none.shape == (0, DIMENSION)


def test_what_an_encoder_made_stays_as_it_is(files: tuple[Path, Path]) -> None:
    """It is not the engine's own memory, which the next one overwrites."""
    for file in files:
        encoder = open_encoder(file, 1)
        [first] = encoder.run(images(2))
        before = first.copy()
        encoder.run(-images(2))
        assert np.array_equal(first, before)


@pytest.mark.parametrize("kind", [0, 1])
def test_many_threads_get_what_each_gets_alone(files: tuple[Path, Path], kind: int) -> None:
    encoder: Encoder = open_encoder(files[kind], 2)
    tensor = images(40)
    [expected] = encoder.run(tensor)
    parts = [(start, count) for start in range(30) for count in (1, 2, 5, 9)]

    def run(part: tuple[int, int]) -> bool:
        start, count = part
        return np.array_equal(encoder.run(tensor[start : start + count])[0], expected[start : start + count])

    with ThreadPoolExecutor(12) as pool:
        assert all(pool.map(run, parts * 3))


def test_a_text_encoder_takes_whole_numbers(tmp_path: Path) -> None:
    tokens = np.random.default_rng(2).integers(0, WORDS, (4, LENGTH))
    expected = reference(text_model(), "tokens", tokens)
    for file in save_encoder(text_model(), tmp_path, "text"):
        [made] = open_encoder(file, 2).run(tokens)
        np.testing.assert_allclose(made, expected, atol=1e-6)


def test_a_folder_of_a_model_is_one(files: tuple[Path, Path]) -> None:
    tensor = images(1)
    for file in files:
        assert np.array_equal(open_encoder(file.parent, 1).run(tensor)[0], open_encoder(file, 1).run(tensor)[0])


def test_errors_say_which_file(files: tuple[Path, Path], tmp_path: Path, untrained: Untrained) -> None:
    with pytest.raises(SeamlineError, match=r"absent\.onnx: there is no such model"):
        open_encoder(tmp_path / "absent.onnx", 1)
    for name in ("model.onnx", "model.xml"):
        (tmp_path / name).write_bytes(b"damaged")
        with pytest.raises(SeamlineError, match=rf"{name}: cannot be opened as a model"):
            open_encoder(tmp_path / name, 1)
    with pytest.raises(
        SeamlineError, match=r"best\.pt: is not a model that can be opened here; it has to be an \.onnx"
    ):
        open_encoder(untrained.models()["pytorch"], 1)
    with pytest.raises(SeamlineError, match=r"cannot be run in 'bf16'; f32 is for all encoders"):
        open_encoder(files[0], 1, "bf16")
    with pytest.raises(SeamlineError, match=r"cannot be run in 'int4'"):
        open_encoder(files[1], 1, "int4")
    (tmp_path / "refused").mkdir()
    (tmp_path / "refused" / NO_MODEL).write_text("INT8 costs too much.\n")
    with pytest.raises(SeamlineError, match=r"refused: there is no model; INT8 costs too much\.$"):
        open_encoder(tmp_path / "refused", 1)


RUN = """
import os, sys
import numpy as np
from pathlib import Path
from seamline.models.engines.encoder import open_encoder
encoder = open_encoder(Path(sys.argv[1]), 2)
made = encoder.run(np.zeros((3, *encoder.input_shape), np.float32))[0]
if os.fork() == 0:
    del encoder  # which waits without end for threads that a fork lacks, unless it is never freed
    sys.exit(0)
print(os.waitstatus_to_exitcode(os.wait()[1]), made.shape)
assert not {"torch", "ultralytics"} & set(sys.modules)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
@pytest.mark.parametrize("kind", [0, 1])
def test_encoders_need_no_torch_and_a_fork_of_their_process_ends(files: tuple[Path, Path], kind: int) -> None:
    command = [sys.executable, "-c", WITHOUT_TORCH + RUN, str(files[kind])]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["0", "(3,", f"{DIMENSION})"], done.stderr
