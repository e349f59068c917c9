from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from scipy.io import loadmat

from seamline.base.errors import SeamlineError
from seamline.experiments.recipes import copy_recipe
from seamline.ingest.layouts.deepfashion2 import NAMES
from seamline.params.loading.loader import load_params
from seamline.params.pull import Pull
from seamline.params.train import Train
from tests.conftest import HAS_SHARED_DATA, PARAMS, PROJECT, SHARED_DATA, code_in

RECIPES = sorted((PROJECT / "recipes").glob("*.yaml"))


def take_over(folder: Path, recipe: Path) -> subprocess.CompletedProcess[str]:
    code_in(folder)
    command = [sys.executable, "-m", "seamline", "recipe", str(recipe), "../photos"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_changes_what_it_names_and_nothing_else(tmp_path: Path, recipe: Path) -> None:
    shutil.copy(PARAMS, tmp_path)
    done = take_over(tmp_path, recipe)
    assert done.returncode == 0, done.stderr
    params = load_params(tmp_path / "params.yaml")
    assert params[Pull].source == "../photos"
    changes = yaml.safe_load(recipe.read_text())
    assert params[Train].model == changes["train"]["model"] == "yolov9c-seg.pt"
    before, after = (yaml.safe_load((folder / "params.yaml").read_text()) for folder in (PARAMS.parent, tmp_path))
    for section, values in after.items():
        for key, value in values.items():
            expected = changes.get(section, {}).get(key, before[section][key])
            if isinstance(expected, dict) and key != "classes":
                expected = {**before[section][key], **expected} if isinstance(before[section][key], dict) else expected
            assert value == expected or (section, key) == ("pull", "source"), f"{section}.{key}"
    comments = [line.strip() for line in PARAMS.read_text().splitlines() if "# " in line]
    for comment in comments:
        assert comment.partition("# ")[2] in (tmp_path / "params.yaml").read_text()


def classes_of(recipe: str) -> list[str] | dict[str, list[str]]:
    found: list[str] | dict[str, list[str]] = yaml.safe_load((PROJECT / "recipes" / f"{recipe}.yaml").read_text())[
        "subset"
    ]["classes"]
    return found


def test_their_classes_are_the_datasets_own() -> None:
    assert tuple(classes_of("deepfashion2")) == NAMES
    assert set(classes_of("deepfashion2-500")) <= set(NAMES)
    assert len(set(classes_of("fashionpedia"))) == 27  # of its 46; the other 19 are parts of garments


@pytest.mark.skipif(not HAS_SHARED_DATA, reason="the real labels are not on this machine")
def test_the_labels_of_clothing_co_parsing_are_its_own() -> None:
    table = loadmat(SHARED_DATA / "ccp-mini" / "label_list.mat")["label_list"].ravel()
    merged = classes_of("clothing-co-parsing")
    assert isinstance(merged, dict)
    assert {label for labels in merged.values() for label in labels} <= {str(cell[0]) for cell in table}


def test_a_recipe_that_is_none_leaves_the_parameters_alone(tmp_path: Path) -> None:
    shutil.copy(PARAMS, tmp_path)
    (tmp_path / "bad.yaml").write_text("train: {epochz: 3}\n")
    done = take_over(tmp_path, tmp_path / "bad.yaml")
    assert done.returncode == 1
    assert "train.epochz: unknown key; did you mean epochs?" in done.stderr
    done = take_over(tmp_path, PROJECT / "recipes" / "nothing.yaml")
    assert "there is no such recipe; there are clothing-co-parsing, deepfashion2, " in done.stderr
    assert (tmp_path / "params.yaml").read_bytes() == PARAMS.read_bytes()


def test_null_stays_a_word_and_an_empty_source_is_refused(tmp_path: Path) -> None:
    shutil.copy(PARAMS, tmp_path)
    params = tmp_path / "params.yaml"
    before = params.read_bytes()
    recipe = PROJECT / "recipes" / "deepfashion2.yaml"
    with pytest.raises(SeamlineError, match=r"the source is empty; give SOURCE=\.\.\."):
        copy_recipe(recipe, "", params)
    assert params.read_bytes() == before
    copy_recipe(recipe, "s3://bucket", params)
    assert "\n  purpose: null\n" in params.read_text()
