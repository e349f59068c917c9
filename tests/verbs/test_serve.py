"""seamline serve as it is started: which model it takes, what it refuses, and that it needs no torch."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from seamline.base.errors import SeamlineError
from seamline.verbs.serve import main, parser, recommended_model
from tests.conftest import PARAMS, PROJECT, REPORTS
from tests.untrained import WITHOUT_TORCH, Untrained


def row(throughput: float, delta: float, precision: str, gate: str | None) -> dict[str, object]:
    interval = [delta - 0.001, delta + 0.001]
    return {
        "device": "cpu",
        "precision": precision,
        "int8_gate": gate,
        "steady": True,
        "throughput_img_s": throughput,
        "throughput_rounds_img_s": [throughput * (1 + step / 1000) for step in range(-5, 6)],
        "mask_mAP50_95": 0.6,
        "mask_mAP50_95_delta": delta,
        "mask_mAP50_95_delta_interval": interval,
    }


@pytest.mark.parametrize(
    ("fastest", "expected"),
    [
        ("openvino", ("models/export/openvino", "f32")),
        ("openvino_bf16", ("models/export/openvino", "bf16")),
        ("openvino_int8", ("models/export/openvino_int8", "f32")),
        ("pytorch", ("models/train/best.pt", "f32")),
        ("onnx", ("models/export/onnx/model.onnx", "f32")),
    ],
)
def test_the_model_is_the_recommended_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fastest: str, expected: tuple[str, str]
) -> None:
    precisions = {"openvino_bf16": ("bf16", None), "openvino_int8": ("int8", "accepted")}
    rows = {
        name: row(300 if name == fastest else 50, 0, *precisions.get(name, ("f32", None)))
        for name in ("pytorch", "onnx", "openvino", "openvino_bf16", "openvino_int8")
    }
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / "benchmark.json").write_text(json.dumps(rows))
    (tmp_path / "params.yaml").write_text(PARAMS.read_text())
    monkeypatch.chdir(tmp_path)
    assert recommended_model() == (Path(expected[0]), expected[1])


def test_without_results_a_model_has_to_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SeamlineError, match=r"benchmark.json: is not here, so no format is recommended"):
        main([])


def test_without_a_model_it_says_which_package_finds_the_recommended_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`pip install '.[serve]'` brings no YAML, and a checkout has reports/: that ended in a traceback."""
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / "benchmark.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "seamline.params.loading.loader", raising=False)
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(SeamlineError, match=r"^seamline serve: finding .* needs yaml, .* or name a model"):
        main([])


def test_the_committed_rows_are_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / "benchmark.json").write_text((REPORTS / "benchmark.json").read_text())
    (tmp_path / "params.yaml").write_text(PARAMS.read_text())
    monkeypatch.chdir(tmp_path)
    path, precision = recommended_model()
    assert path.parts[0] == "models"
    assert precision in ("f32", "bf16")


def test_it_serves_without_torch_and_ends_when_it_is_asked_to(untrained: Untrained, tmp_path: Path) -> None:
    script = (
        f"{WITHOUT_TORCH}\nimport sys\nsys.path.insert(0, {str(PROJECT)!r})\nfrom seamline.cli import main\nmain()\n"
    )
    model = untrained.models()["openvino"]
    words = [sys.executable, "-c", script, "serve", str(model), "--port", "0"]
    with subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            [address] = re.findall(r"ready on (http://127\.0\.0\.1:\d+) ", process.stdout.readline())
            request = urllib.request.Request(
                f"{address}/v1/predict", untrained.images()[0].read_bytes(), {"Content-Type": "image/png"}
            )
            with urllib.request.urlopen(request) as answer:
                assert json.load(answer)["images"][0]["file_name"] == "image"
            process.send_signal(signal.SIGTERM)
            out, err = process.communicate(timeout=30)
        finally:
            process.kill()
    assert (process.returncode, err) == (0, "")
    assert "stopped" in out
    assert list(tmp_path.iterdir()) == []


def test_the_memory_of_threads_is_limited_before_there_are_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    done = []
    monkeypatch.setattr("seamline.service.arenas.limit_arenas", lambda: done.append("limited"))

    def opened(*_: object, **__: object) -> Any:
        done.append("opened")
        raise SeamlineError("no model.")

    monkeypatch.setattr("seamline.inference.detector.Detector", opened)
    with pytest.raises(SeamlineError, match=r"no model\."):
        main(["model.onnx"])
    assert done == ["limited", "opened"]


def test_sigterm_ends_it_before_it_is_ready_as_a_container_s_first_process_too(
    untrained: Untrained, tmp_path: Path
) -> None:
    """Process 1 is not ended by a signal that it has no handler for, nor by one that it sends itself."""
    script = f"""
import os, signal, sys
sys.path.insert(0, {str(PROJECT)!r})
os.getpid = lambda: 1
signal.signal(signal.SIGTERM, lambda *_: print("what was there before", flush=True))
from seamline.verbs import serve
serve.recommended_model = lambda: print("begun", flush=True) or (sys.argv[1], "f32")
serve.main(["--port", "0"])
"""
    words = [sys.executable, "-c", script, str(untrained.models()["openvino"])]
    with subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "begun\n"
            process.send_signal(signal.SIGTERM)
            out, err = process.communicate(timeout=30)
        finally:
            process.kill()
    assert (process.returncode, out, err) == (128 + signal.SIGTERM, "what was there before\n", "")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--host", "0.0.0.0"], r"--host 0.0.0.0: others could reach the service without a key"),
        (["--host", "192.0.2.1", "--no-keys"], r"192.0.2.1:8000: cannot listen there"),
        (["--keys", "keys.txt"], r"keys.txt: the keys cannot be read \(No such file or directory\)"),
    ],
)
def test_what_would_not_be_safe_or_cannot_be_is_refused(
    untrained: Untrained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], sentence: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SeamlineError, match=sentence):
        main([str(untrained.models()["openvino"]), *words])


@pytest.mark.parametrize("text", ["https://garments.example", "garments.example:443", "garments.example/a", "*.b", ""])
def test_a_host_is_a_name_and_no_url(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It was taken, and the service then answered 421 to everybody."""
    with pytest.raises(SystemExit):
        parser().parse_args(["--allow-host", text])
    assert f"a name without scheme, port and path, not {text!r}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "name"),
    [("Garments.Example", "garments.example"), ("garments.example.", "garments.example"), ("::2", "::2")],
)
def test_a_host_is_compared_as_it_comes(text: str, name: str) -> None:
    assert parser().parse_args(["--allow-host", text]).allow_host == [name]


@pytest.mark.parametrize("text", ["ftp", "ftp://a/b", "https://", "https:// a", "javascript:alert(1)", "", "a.example"])
def test_where_the_source_is_has_to_be_a_web_address(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parser().parse_args(["--source", text])
    assert "--source: has to be an address that begins with https:// or http://" in capsys.readouterr().err
    address = "https://example.com/models/tree/v1"
    assert parser().parse_args(["--source", address]).source == address
