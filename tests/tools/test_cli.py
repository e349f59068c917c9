from __future__ import annotations

import importlib
import subprocess
import sys
from typing import Any

import pytest

from seamline import __version__, cli
from tests.conftest import PROJECT


@pytest.mark.parametrize("verb", cli.VERBS)
def test_a_verb_has_one_line_of_help_and_a_main(verb: str) -> None:
    name, line = cli.VERBS[verb]
    assert "\n" not in line
    assert len(f"  {verb}  {line}") <= 80
    assert callable(importlib.import_module(name).main)


def test_help_names_every_verb(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(sys, "argv", ["seamline", "--help"])
    with pytest.raises(SystemExit, match="0"):
        cli.main()
    lines = capsys.readouterr().out.splitlines()
    for verb, (_, line) in cli.VERBS.items():
        assert any(shown.split() == [verb, *line.split()] for shown in lines)


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["--version"], 0, f"seamline {__version__}\n"),
        ([], 2, "the following arguments are required: VERB"),
        (["predikt", "model"], 2, "invalid choice: 'predikt'"),
        (["predict", "--help"], 0, "\nExample: seamline predict "),
        (["predict", "no-model.onnx", str(PROJECT / "README.md")], 1, "error: no-model.onnx: there is no such model"),
    ],
)
def test_what_is_not_a_run(words: list[str], status: int, said: str, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.setattr("seamline.base.process.quiet_environment", lambda: None)
    monkeypatch.setattr("seamline.base.process.end_with_parent", lambda: None)
    monkeypatch.setattr(sys, "argv", ["anything", *words])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == status
    out, err = capsys.readouterr()
    assert said in (err if status else out)


def test_help_waits_for_no_library() -> None:
    code = "import sys; from seamline import cli; print({'numpy', 'cv2', 'tqdm', 'openvino'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
