"""What identifies a training."""

from __future__ import annotations

import functools
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from seamline.training import keys
from seamline.training.keys import code_hashes, code_of_training, run_key
from seamline.training.yolo import LIBRARIES as YOLO_LIBRARIES
from tests.conftest import PROJECT


def test_the_key_changes_with_values_contents_and_libraries_and_with_no_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in (("a", "1"), ("b", "2"), ("c/d/e", "1"), ("c/f", "2")):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    a, b, other_a, other_b = (tmp_path / name for name in ("a", "b", "c/d/e", "c/f"))

    def key_of(lr0: float, *files: Path) -> str:
        return run_key({"lr0": lr0}, files, YOLO_LIBRARIES)

    key = key_of(0.1, a, b)
    assert key == key_of(0.1, b, a) == key_of(0.1, other_a, other_b)
    others = [key_of(0.2, a, b), key_of(0.1, a), key_of(0.1, a, a), run_key({"lr0": 0.1}, [a, b], ["torch"])]
    assert len({key, *others}) == 5
    found = set()
    for torch_version, ultralytics_version in (("2", "8"), ("3", "8"), ("2", "9")):
        installed = {"torch": torch_version, "ultralytics": ultralytics_version}
        monkeypatch.setattr(keys, "version", installed.__getitem__)
        found.add(key_of(0.1, a, b))
    assert len(found) == 3


IMPORTS = """
import importlib, pathlib, sys
for path in pathlib.Path("seamline/training").glob(f"{sys.argv[1]}*.py"):
    importlib.import_module(f"seamline.training.{path.stem}")
found = [name for name, module in sys.modules.items() if not hasattr(module, "__path__")]
print(*(name for name in found if name.startswith("seamline.")))
"""


@pytest.mark.parametrize(
    ("family", "other", "some"),
    [
        ("yolo", "rcnn", {"models.weights", "models.ultralytics_patches", "training.yolo"}),
        ("rcnn", "yolo", {"models.rcnn_network", "models.letterbox", "training.rcnn_trainer", "training.checkpoints"}),
    ],
)
def test_the_code_of_a_training_is_its_family_and_what_that_imports(family: str, other: str, some: set[str]) -> None:
    """Compared with what Python itself imports. Imports inside of functions count as well."""
    command = [sys.executable, "-c", IMPORTS, family]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True)
    imported = {name for name in done.stdout.split() if not name.startswith(("seamline.base.", "seamline.params."))}
    assert {f"seamline.{name}" for name in some} <= imported
    assert set(code_of_training(family)) >= imported
    without = ("seamline.base", "seamline.params", f"seamline.training.{other}")
    assert not any(name.startswith(without) for name in code_of_training(family))


def test_an_edit_of_any_module_that_makes_a_training_gives_another_key_and_no_other_edit_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "imported_names", functools.cache(keys.imported_names))  # which no edit here changes
    package = tmp_path / "elsewhere" / "seamline"
    shutil.copytree(PROJECT / "seamline", package, ignore=shutil.ignore_patterns("__pycache__"))
    before = code_hashes("yolo", package)
    assert before == code_hashes("yolo")  # wherever the project lies
    changing = {path.relative_to(package).as_posix() for path in code_of_training("yolo", package).values()}
    assert {"training/yolo.py", "training/checkpoints.py", "models/weights.py"} <= changing
    for room in ("training", "models", "base", "params", "images"):
        for path in sorted((package / room).rglob("*.py")):
            content = path.read_bytes()
            path.write_bytes(content + b"# another line\n")
            name = path.relative_to(package).as_posix()
            assert (code_hashes("yolo", package) != before) == (name in changing), name
            path.write_bytes(content)
    for line in ("import seamline.images.reading", "from seamline.images import reading"):
        for name, is_of_yolo in (("yolo_more", True), ("yolonas", False), ("another", False)):
            module = package / "training" / f"{name}.py"
            module.write_text(f"{line}\n")
            added = set(code_hashes("yolo", package)) - set(before)
            assert ({f"seamline.training.{name}", "seamline.images.reading"} <= added) == is_of_yolo
            assert is_of_yolo or not added
            module.unlink()


def test_what_editors_and_systems_leave_is_not_code(tmp_path: Path) -> None:
    package = tmp_path / "seamline"
    shutil.copytree(PROJECT / "seamline", package, ignore=shutil.ignore_patterns("__pycache__"))
    before, room = code_hashes("yolo", package), package / "training"
    (room / ".ipynb_checkpoints").mkdir()
    (room / ".ipynb_checkpoints" / "yolo-checkpoint.py").write_text("import seamline.images.reading")
    (room / "._yolo.py").write_bytes(b"\0\5\x16\7")  # macOS, on disks of others
    (room / ".#yolo.py").symlink_to("me@here.4711")  # Emacs
    (room / "#yolo.py").write_text("half a line (")
    assert code_hashes("yolo", package) == before


def test_code_counts_by_its_name_too(tmp_path: Path) -> None:
    """Two modules that swap their contents are another program."""
    package = tmp_path / "seamline"
    shutil.copytree(PROJECT / "seamline" / "training", package / "training")
    for one, other in (("yolo_a.py", "yolo_b.py"), ("yolo_b.py", "yolo_a.py")):
        (package / "training" / one).write_text(f"NAME = {other!r}\n")
    swapped = code_hashes("yolo", package)
    for one in ("yolo_a.py", "yolo_b.py"):
        (package / "training" / one).write_text(f"NAME = {one!r}\n")
    assert sorted(swapped.values()) == sorted(code_hashes("yolo", package).values())
    assert run_key({"code": swapped}, [], []) != run_key({"code": code_hashes("yolo", package)}, [], [])
