from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from seamline import __version__, cli
from seamline.base.errors import SeamlineError
from tests import warm
from tests.conftest import PROJECT, Project

# What takes a tenth of a second or more to import.
HEAVY = {"numpy", "cv2", "torch", "optuna", "yaml", "msgspec", "ruamel.yaml", "tqdm", "openvino", "dvc", "matplotlib"}


def test_each_verb_is_a_module_with_one_line_of_help() -> None:
    modules = {path.stem for path in (PROJECT / "seamline" / "verbs").glob("*.py")} - {"__init__", "options"}
    assert modules == set(cli.VERBS)
    for name, verb in cli.VERBS.items():
        assert "\n" not in verb.help
        assert len(f"  {name:9}  {verb.help}") <= 80


def test_the_folder_of_stages_has_the_stages_alone() -> None:
    stages = list(yaml.safe_load((PROJECT / "dvc.yaml").read_text())["stages"])
    assert {path.name for path in (PROJECT / "stages").iterdir()} - {"__pycache__"} == {
        "__init__.py", *(f"{stage}.py" for stage in stages)
    }  # fmt: skip


def test_help_names_every_verb(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(sys, "argv", ["seamline", "--help"])
    with pytest.raises(SystemExit, match="0"):
        cli.main()
    lines = capsys.readouterr().out.splitlines()
    for name, verb in cli.VERBS.items():
        assert any(line.split() == [name, *verb.help.split()] for line in lines)


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["--version"], 0, f"seamline {__version__}\n"),
        ([], 2, "the following arguments are required: VERB"),
        (["predikt", "model"], 2, "there is no verb 'predikt'; did you mean predict? seamline --help lists them"),
        (["compair"], 2, "did you mean compare?"),
        (["xyz"], 2, "invalid choice: 'xyz'"),
        (["predict", "no-model.onnx", str(PROJECT / "README.md")], 1, "error: no-model.onnx: there is no such model"),
        *([[name, "--help"], 0, f"\nExample: seamline {name}"] for name in cli.VERBS),
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


def test_help_waits_for_no_library_and_leaves_nothing_anywhere(tmp_path: Path) -> None:
    """Of all verbs, one after the other in one process; in a folder that is not a project."""
    code = f"""
import sys
from seamline import cli
for words in (["--help"], *([name, "--help"] for name in cli.VERBS)):
    sys.argv[1:] = words
    try:
        cli.main()
    except SystemExit as end:
        assert end.code == 0, words
print("imported:", {HEAVY} & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.endswith("imported: set()\n")
    assert done.stdout.count("\nExample: seamline ") == len(cli.VERBS)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", [name for name, verb in cli.VERBS.items() if not verb.anywhere])
def test_a_verb_of_the_project_refuses_the_code_of_another(name: str, tmp_path: Path) -> None:
    """As the installed command does in a copy of the project, whose results are those of the copy's code."""
    (tmp_path / "seamline").mkdir()
    code = f"import sys; sys.argv = ['seamline', {name!r}]; from seamline.cli import main; main()"
    done = subprocess.run([sys.executable, "-P", "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: seamline comes from {PROJECT} and not from this folder; ")
    assert done.stderr.endswith("python -m seamline VERB\n")
    assert [path.name for path in tmp_path.iterdir()] == ["seamline"]


def test_as_a_module_it_is_the_code_of_the_folder(project: Project) -> None:
    summary = project.root / "seamline" / "verbs" / "summary.py"
    summary.write_text("def main(arguments): print('the copy', *arguments)\n")
    command = ["python", "-m", "seamline", "summary", "--more"]
    assert warm.can_run(command)
    assert project.run(*command).stdout == "the copy --more\n"
    assert project.run(*command, cold=True).stdout == "the copy --more\n"


@pytest.mark.parametrize("words", [["summary", "--help"], ["doctor"]])
def test_what_only_reads_makes_no_folders_for_libraries(words: list[str], monkeypatch: Any) -> None:
    asked: list[bool] = []
    monkeypatch.setattr(cli, "run", lambda main, anywhere, writes: asked.append(writes))
    for given in (words, ["seeds"]):
        monkeypatch.setattr(sys, "argv", ["seamline", *given])
        cli.main()
    assert asked == [False, True]


def test_a_message_cannot_command_the_terminal(monkeypatch: Any) -> None:
    def main(arguments: list[str]) -> None:
        raise SeamlineError("\x1b]0;owned\x07.jpg: is damaged.")

    monkeypatch.setattr("seamline.verbs.summary.main", main)
    with pytest.raises(SeamlineError) as error:
        cli.with_plain_errors("seamline.verbs.summary")
    assert "owned" in str(error.value)
    assert str(error.value).isprintable()
