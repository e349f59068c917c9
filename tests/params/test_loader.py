from __future__ import annotations

import shlex
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc.utils.hydra import apply_overrides

from seamline.base.errors import SeamlineError
from seamline.params.loading.loader import Params, load_params, section_types
from seamline.params.loading.sentences import nearest_multiples
from seamline.params.subset import Subset
from seamline.params.train import SET_BY_SEAMLINE, Train, trainer_arguments
from tests.conftest import PARAMS, PROJECT, merged

DEFAULTS: dict[str, Any] = yaml.safe_load(PARAMS.read_text())


def load_with(tmp_path: Path, changes: dict[str, Any]) -> Params:
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(merged(DEFAULTS, changes)))
    return load_params(tmp_path / "params.yaml")


def test_defaults_are_valid() -> None:
    assert load_params(PARAMS)[Train].overlap_mask is False


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"pull": {"source": "https://me:pw@host/a.zip"}}, "pull: source has a password, key or signature in its"),
        ({"catalogue": {"source": "https://me:pw@host/a"}}, "catalogue: source has a password, key or signature in"),
        ({"pull": {"source": "https://host/a.zip?X-Amz-Signature=abc"}}, "pull: source has a password, key or sig"),
        ({"attributes": {"source": None}}, "attributes.source: null switches nothing off, since DVC takes it"),
        ({"train": {"epoch": 3}}, "train.epoch: unknown key; did you mean epochs?"),
        ({"train": {"mix_up": 0.1}}, "train.mix_up: unknown key; did you mean mixup?"),
        ({"train": {"others": {}}}, "train.others: unknown key"),
        ({"train": {"conf": 0.1}}, "train.conf: unknown key"),
        ({"train": {"resume": True}}, "train.resume: cannot be set; a killed training resumes by itself."),
        ({"train": {"single_cls": True}}, "train.single_cls: cannot be set; merge classes in subset.classes"),
        (
            {"sweep": {"space": {"train.lr": {"low": 0, "high": 1}}}},
            "'train.lr' in space is not a parameter of train; did you",
        ),
        (
            {"sweep": {"space": {"classify.lr_heads": [0.1, 0.2]}}},
            "of train, which alone is swept; to try values of it: dvc exp run --queue -S 'classify.lr_heads=A,B'",
        ),
        ({"sweep": {"space": {"train.lr0": {"low": 2, "high": 1}}}}, "low 2 has to be less than high 1"),
        ({"sweep": {"space": {"train.lr0": {"low": 0, "high": 1, "log": True}}}}, "low 0 has to be above 0 where log"),
        ({"train": {"time": 2}}, "train.time: cannot be set; the result would depend on the machine's speed"),
        ({"trian": {}}, "trian: unknown key; did you mean train?"),
        ({"train": {"epochs": 0}}, "train.epochs: 0 is not allowed; expected whole number >= 1."),
        ({"train": {"epochs": "ten"}}, "train.epochs: 'ten' is not allowed; expected whole number, got text."),
        (
            {"train": {"imgsz": 100}},
            "train.imgsz: 100 is not allowed; expected whole number that's a multiple of 32, such as 96 or 128.",
        ),
        ({"train": {"optimizer": "Best"}}, "train.optimizer: 'Best' is not allowed; expected one of SGD, Adam"),
        ({"train": None}, "train: None is not allowed; expected mapping, got null."),
        ({"split": {"ratios": {"train": 0.6}}}, "split.ratios: train + val + test add up to 0.9"),
        ({"split": {"ratios": {"test": 1.5}}}, "split.ratios.test: 1.5 is not allowed; expected number < 1.0."),
        ({"subset": {"classes": []}}, "subset.classes: [] is not allowed; expected list of length >= 1."),
        ({"subset": {"classes": ["a", 3]}}, "subset.classes.1: 3 is not allowed; expected text, got whole number."),
        ({"subset": {"classes": {"a": ["x"], "b": ["x"]}}}, "subset: 'x' stands twice in classes"),
        (
            {"subset": {"classes": {1: ["x"]}}},
            "subset.classes: every name in it has to be text; put numbers in quotes.",
        ),
        (
            {"subset": {"classes": {"top": ["x"], "a": [4]}}},
            "subset.classes.a: [4] is not allowed; expected text, got whole number.",
        ),
        (
            {"subset": {"classes": {"dress": "dress"}}},
            "subset.classes.dress: 'dress' is not allowed; expected list, got text.",
        ),
        (
            {"sweep": {"space": {"train.lrf": {"low": 1, "high": 0}}}},
            "sweep.space.train.lrf: {'high': 0, 'low': 1} is not allowed; low 1 has to be less than high 0.",
        ),
        ({"pull": {"source": "a\nb.zip"}}, "pull: source has a character in its name that cannot be printed"),
        ({"pull": {"source": "http://[x/a.zip"}}, "pull: Invalid IPv6 URL"),
        ({"export": {"int8": {"max_drop": 3}}}, "export.int8.max_drop: 3 is not allowed; expected number <= 1.0."),
    ],
)
def test_a_wrong_value_is_one_sentence_with_its_key(tmp_path: Path, changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SeamlineError) as error:
        load_with(tmp_path, changes)
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)


def test_a_value_of_any_size_is_shortened_in_the_sentence(tmp_path: Path) -> None:
    with pytest.raises(SeamlineError, match=r"train\.imgsz: \[0, 1, 2.*\.\.\.\] is not allowed") as error:
        load_with(tmp_path, {"train": {"imgsz": list(range(10_000))}})
    assert len(str(error.value)) < 300


@pytest.mark.parametrize(("value", "hint"), [(10, "32"), (-5, "32"), (32, "32 or 64"), (100, "96 or 128")])
def test_the_nearest_multiples_are_those_above_zero(value: int, hint: str) -> None:
    assert nearest_multiples("Expected `int` that's a multiple of 32", value) == f", such as {hint}"
    assert nearest_multiples("Expected `int` >= 32", value) == nearest_multiples("a multiple of 32", "x") == ""


def test_every_argument_of_the_trainers_own_list_is_taken(tmp_path: Path) -> None:
    from ultralytics.utils import DEFAULT_CFG_DICT

    others = load_with(tmp_path, {"train": {"mixup": 0.1, "freeze": 10, "copy_paste": 0.3, "workers": 4}})[Train].others
    assert others == {"mixup": 0.1, "freeze": 10, "copy_paste": 0.3, "workers": 4}
    names = trainer_arguments() or []
    assert set(names) <= set(DEFAULT_CFG_DICT)
    assert {"momentum", "multi_scale", "compile", "cutmix", "shear"} <= set(names)
    assert not {"source", "format", "conf", "show", "tracker", "data", "resume"} & set(names)
    assert set(SET_BY_SEAMLINE) <= set(DEFAULT_CFG_DICT)


def test_without_ultralytics_its_arguments_are_let_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The image for the CPU reads the params.yaml of a project that trains elsewhere."""
    monkeypatch.setattr("seamline.params.train.find_spec", lambda name: None)
    changes: dict[str, Any] = {"train": {"mixup": 0.1}, "sweep": {"space": {"train.mixup": {"low": 0.0, "high": 1.0}}}}
    assert load_with(tmp_path, changes)[Train].others == {"mixup": 0.1}
    with pytest.raises(SeamlineError, match=r"benchmark\.image: unknown key; did you mean images\?"):
        load_with(tmp_path, {**changes, "benchmark": {"image": 1}})


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    values = {**DEFAULTS, "pull": {"source": "x"}}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(SeamlineError, match=r"pull\.layout: is missing"):
        load_params(tmp_path / "params.yaml")


@pytest.mark.parametrize("text", ["train: [", "\x00", "- a\n- b", ""])
def test_a_file_that_is_not_a_mapping_is_one_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(SeamlineError, match=r"params\.yaml"):
        load_params(tmp_path / "params.yaml")


def test_no_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(SeamlineError, match="there is no such file"):
        load_params(tmp_path / "params.yaml")


def test_classes_as_list_and_as_mapping(tmp_path: Path) -> None:
    listed = load_with(tmp_path, {"subset": {"classes": ["skirt", "vest"]}})
    assert listed[Subset].sources_by_class() == {"skirt": ["skirt"], "vest": ["vest"]}
    mapped = load_with(tmp_path, {"subset": {"classes": {"trousers": ["pants", "jeans"], "hat": []}}})
    assert mapped[Subset].sources_by_class() == {"trousers": ["pants", "jeans"], "hat": ["hat"]}
    everything = load_with(tmp_path, {"subset": {"classes": None}})
    assert everything[Subset].sources_by_class(["coat", "hat"]) == {"coat": ["coat"], "hat": ["hat"]}


def test_every_key_of_every_section_is_commented_or_plain() -> None:
    """Each section of the file stands in Params and the other way round."""
    assert set(DEFAULTS) == set(section_types())


def test_beside_the_sections_there_is_the_loading_alone() -> None:
    """The loader imports every module, in every stage."""
    modules = {path.stem for path in (PROJECT / "seamline" / "params").glob("*.py")}
    assert modules - set(section_types()) == {"__init__"}


def documented_changes() -> list[str]:
    """Every -S of the README and of docs/."""
    texts = [path.read_text() for path in (PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md")))]
    lines = [line.strip() for text in texts for line in text.splitlines() if line.strip().startswith("dvc exp run")]
    words = [shlex.split(line, comments=True) for line in lines]
    return sorted({change for line in words for flag, change in pairwise(line) if flag == "-S"})


@pytest.mark.parametrize("change", documented_changes())
def test_changes_in_the_documentation_are_ones_that_dvc_and_we_take(change: str, tmp_path: Path) -> None:
    shutil.copy(PARAMS, tmp_path)
    values = change.partition("=")[2]
    if "," in values and not values.startswith(("[", "{")):  # several experiments
        change = change.partition(",")[0]
    apply_overrides(tmp_path / "params.yaml", [change])
    assert load_params(tmp_path / "params.yaml") != load_params(PARAMS)
