"""Every seed is trained once, and the spread is reported; trainings and models are stand-ins here."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO
from scipy import stats

from seamline.base.coco import Record
from seamline.base.processors import processor_kind
from seamline.experiments import seeds
from seamline.params.loading.loader import Params
from seamline.params.train import Train
from seamline.training.finished import MAX_FINISHED, Training
from seamline.verbs import seeds as verb
from tests.conftest import PARAMS
from tests.untrained import write_split

KEPT = 1  # the seed whose training was finished before


def perfect(path: Path) -> list[Record]:
    """The output of a model that makes no mistake."""
    truth = COCO(path)
    return [
        {**{key: record[key] for key in ("image_id", "category_id", "bbox")}, "score": 1.0,
         "segmentation": truth.annToRLE(record)}
        for record in truth.dataset["annotations"]
    ]  # fmt: skip


@pytest.mark.parametrize(("wanted", "masks"), [([1, 0, 1], True), ([5, 4, 3, 2, 1, 0], True), ([0, 1], False)])
def test_every_seed_is_trained_once_and_all_stay_for_the_next_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, wanted: list[int], masks: bool
) -> None:
    write_split(tmp_path / "split", tmp_path / "images")
    asked: list[tuple[int, int]] = []
    kept = tmp_path / "train" / "finished"
    (kept / str(KEPT)).mkdir(parents=True)
    (kept / str(KEPT) / "facts.json").touch()

    @contextmanager
    def finished(params: Params, split: Path, yolo: Path, scratch: Path, most: int) -> Iterator[Training]:
        seed = params[Train].seed
        asked.append((seed, most))
        folder = kept / str(seed)
        if seed != KEPT:
            folder.mkdir(parents=True)
            (folder / "facts.json").touch()
        yield Training(folder / "best.pt", {"device": "CPU, of a kind", "threads": 1 + (seed == 5)}, [])

    def found_by(model: SimpleNamespace, path: Path, images: Path, name: str) -> list[Record]:
        return perfect(path) if model.weights.parent.name == "0" else []

    monkeypatch.chdir(PARAMS.parent)
    monkeypatch.setattr(seeds, "trainings_folder", lambda: tmp_path / "train")
    monkeypatch.setattr(seeds, "finished_training", finished)
    monkeypatch.setattr(seeds, "Detector", lambda weights, *limits: SimpleNamespace(weights=weights, has_masks=masks))
    monkeypatch.setattr(seeds, "predict_split", found_by)
    out = tmp_path / "report" / "seed_spread.json"
    given = {"--split": tmp_path / "split", "--images": tmp_path / "images", "--report": out}
    words = [str(word) for pair in given.items() for word in pair]
    verb.main([*words, "--seeds", *map(str, wanted)])
    most = max(len(set(wanted)), MAX_FINISHED)
    assert asked == [(seed, most) for seed in sorted(set(wanted))]
    found = json.loads(out.read_text())
    assert list(found["seeds"]) == [str(seed) for seed in sorted(set(wanted))]
    assert "seed" not in found["train"]
    assert set(found["spread"].values()) == {1}
    assert set(found["mean"].values()) == {round(1 / len(found["seeds"]), 6)}
    kinds = ("box", "mask") if masks else ("box",)
    measures = {f"{split}_{kind}_{key}" for split in ("val", "test") for kind in kinds for key in ("mAP50", "mAP50_95")}
    assert set(found["mean"]) == measures
    said = capsys.readouterr().out
    values = [metrics[f"test_{kinds[-1]}_mAP50_95"] for metrics in found["seeds"].values()]
    assert f"test_{kinds[-1]}_mAP50_95: 0.000 to 1.000 over {len(found['seeds'])} seeds" in said
    freedom = len(values) - 1
    limit = stats.t.ppf(0.975, freedom) * np.std(values, ddof=1) * np.sqrt(1 + 1 / len(values))
    assert f"has to differ from the mean by {limit:.3f}" in said
    assert ("not the seed alone differs" in said) == (5 in wanted)  # which had another number of threads
    for seed, one in found["trained"].items():
        assert one["device"] == "CPU, of a kind"
        assert one["processor"] == (None if int(seed) == KEPT else processor_kind())  # of those of before: not known


@pytest.mark.parametrize("wanted", ["1", "1 1", "0 -1"])
def test_one_seed_has_no_spread(tmp_path: Path, capsys: Any, wanted: str) -> None:
    with pytest.raises(SystemExit, match="2"):
        verb.main(["--report", str(tmp_path / "x"), "--seeds", *wanted.split()])
    assert "at least two different seeds, none below 0" in capsys.readouterr().err
