"""The doctor's look at the classes to learn, on every layout, before anything is pulled."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from seamline.doctor import checks
from seamline.doctor.finding import Finding
from seamline.ingest.layouts.recognition import category_names
from seamline.params.loading.loader import load_params
from seamline.params.pull import Pull
from seamline.params.subset import Subset
from tests.conftest import Project, write_dataset
from tests.doctor.test_doctor import levels_of, run_doctor
from tests.ingest.test_layouts import pulled, write_ccp, write_deepfashion2, write_fashionpedia
from tests.ingest.test_penn_fudan import write_penn_fudan
from tests.params.test_loader import DEFAULTS


@pytest.mark.parametrize("write", [write_deepfashion2, write_fashionpedia, write_ccp, write_penn_fudan, write_dataset])
def test_the_names_are_those_that_pull_finds(tmp_path: Path, write: Callable[[Path], Any]) -> None:
    write(tmp_path / "in")
    _, coco = pulled(tmp_path / "in", tmp_path / "raw")
    assert sorted(category_names(tmp_path / "in", None, None)) == sorted(found["name"] for found in coco["categories"])


def looked_at(source: Path | str, classes: Any, **pull: Any) -> Finding:
    """What the check says in the working folder, with these parameters."""
    values = {**DEFAULTS, "pull": {**DEFAULTS["pull"], "source": str(source), **pull}}
    values["subset"] = {**DEFAULTS["subset"], "classes": classes}
    Path("params.yaml").write_text(yaml.safe_dump(values))
    checks.size_or_fault.cache_clear()
    params = load_params()
    return checks.check_classes(params[Pull], params[Subset])


@pytest.mark.parametrize(
    ("classes", "level", "expected"),
    [
        (["trousers"], "ok", "1 to learn, and the source has them"),
        (None, "ok", "2 to learn, and the source has them"),
        ({"top": ["short sleeve top"]}, "ok", "1 to learn, and the source has them"),
        (["trouser"], "FAIL", "the dataset has no category 'trouser'; it has short sleeve top, trousers."),
        ({"top": ["top"]}, "FAIL", "the dataset has no category 'top'; it has short sleeve top, trousers."),
    ],
)
def test_a_class_that_is_not_in_the_source_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, classes: Any, level: str, expected: str
) -> None:
    monkeypatch.chdir(tmp_path)
    found = looked_at(write_dataset(tmp_path / "in"), classes)
    assert found.level == level
    assert expected in found.found


def test_a_source_without_annotations_fails_as_pull_would(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    source = write_dataset(tmp_path / "in")
    found = looked_at(source, ["trousers"], annotations="train.json")
    assert (found.level, found.found) == ("FAIL", "pull.annotations: 'train.json' is not a file of the source.")
    found = looked_at(source, ["trousers"], layout="ccp")
    assert found.level == "FAIL"
    assert "has no label_list.mat" in found.found
    (source / "instances.json").unlink()
    found = looked_at(source, ["trousers"])
    assert found.level == "FAIL"
    assert "has no COCO annotation file" in found.found
    shutil.rmtree(source)
    assert looked_at(source, ["trousers"]).level == "note"  # check_source fails


def test_what_would_have_to_be_unpacked_is_left_to_pull(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    source = write_dataset(tmp_path / "in")
    archive = Path(shutil.make_archive(str(tmp_path / "garments"), "zip", source))
    found = looked_at(archive, ["trouser"])
    assert (found.level, found.found[:10]) == ("ok", "checked wh")
    shutil.move(archive, source / "more.zip")
    assert looked_at(source, ["trouser"]).found[:10] == "checked wh"
    (source / "more").mkdir()  # where it is unpacked, pull leaves the archive alone
    assert looked_at(source, ["trouser"]).level == "FAIL"


def test_what_was_pulled_is_looked_at_while_it_is_of_this_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    source = write_dataset(tmp_path / "in")
    archive = Path(shutil.make_archive(str(tmp_path / "garments"), "zip", source))
    (tmp_path / "data").mkdir()
    pulled(source, tmp_path / "data" / "raw")
    locked = {"pull": {"params": {"params.yaml": {"pull": {**DEFAULTS["pull"], "source": str(archive)}}}}}
    Path("dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": locked}))
    assert looked_at(archive, ["trouser"]).level == "FAIL"
    assert looked_at(archive, ["trousers"]).found == "1 to learn, and the source has them"
    other = shutil.copy(archive, tmp_path / "other.zip")
    assert looked_at(other, ["trouser"]).found[:10] == "checked wh"
    assert msgspec.to_builtins(load_params()[Pull])["source"] == str(other)


@pytest.mark.process
def test_the_doctor_says_which_class_the_source_lacks(project: Project) -> None:
    write_dataset(project.root / "photos")
    project.change({"pull": {"source": "photos"}, "subset": {"classes": ["skirt"]}})
    done = run_doctor(project)
    assert done.returncode == 1
    assert levels_of(done)["classes"] == "FAIL"
    assert "the dataset has no category 'skirt'; it has short sleeve top, trousers." in done.stdout
    project.change({"pull": {"source": "photos/instances.json"}})
    done = run_doctor(project)
    assert (levels_of(done)["source"], levels_of(done)["classes"]) == ("FAIL", "note")
    assert levels_of(done)["untracked"] == "ok"  # what would do nowhere is not missed in a copy
