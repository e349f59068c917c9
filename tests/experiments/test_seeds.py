"""Every seed is trained once, and the spread is reported; trainings and models are stand-ins here."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pycocotools.coco import COCO

from seamline.base.coco import Record
from seamline.experiments import seeds
from seamline.params.train import Train
from seamline.training.finished import MAX_FINISHED, Training
from seamline.verbs import seeds as verb
from tests.conftest import PARAMS
from tests.untrained import write_split


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

    @contextmanager
    def finished(params: Train, split: Path, yolo: Path, scratch: Path, most: int) -> Iterator[Training]:
        asked.append((params.seed, most))
        yield Training(Path(str(params.seed)), {}, [])

    def found_by(model: SimpleNamespace, path: Path, images: Path, name: str) -> list[Record]:
        return perfect(path) if model.weights == Path("0") else []

    monkeypatch.chdir(PARAMS.parent)
    monkeypatch.setattr(seeds, "finished_training", finished)
    monkeypatch.setattr(seeds, "Detector", lambda weights, *limits: SimpleNamespace(weights=weights, has_masks=masks))
    monkeypatch.setattr(seeds, "predict_split", found_by)
    out = tmp_path / "report" / "seed_spread.json"
    verb.main(
        [str(tmp_path / "split"), "yolo", str(tmp_path / "images"), "--report", str(out), "--seeds", *map(str, wanted)]
    )
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
    assert f"test_{kinds[-1]}_mAP50_95: 0.000 to 1.000 over {len(found['seeds'])} seeds" in capsys.readouterr().out


@pytest.mark.parametrize("wanted", ["1", "1 1", "0 -1"])
def test_one_seed_has_no_spread(tmp_path: Path, capsys: Any, wanted: str) -> None:
    with pytest.raises(SystemExit, match="2"):
        verb.main(["split", "yolo", "images", "--report", str(tmp_path / "x"), "--seeds", *wanted.split()])
    assert "at least two different seeds, none below 0" in capsys.readouterr().err
