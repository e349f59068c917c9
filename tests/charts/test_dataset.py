from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
import pytest
from pycocotools.coco import COCO

from seamline.base.coco import Record, read_coco
from seamline.base.errors import SeamlineError
from seamline.base.splits import SPLITS
from seamline.charts.contact_sheet import sheet_images
from seamline.charts.dataset import write_data_charts
from seamline.charts.dataset_table import evenly
from seamline.images.colours import MASK_COLOURS, hex_to_bgr
from seamline.masks.rle import mask_to_rle
from tests.conftest import square, write_dataset

NAMES = ("classes", "instances", "areas", "cooccurrence", "positions")
FILES = {*(f"{name}.csv" for name in NAMES), *(f"{name}.png" for name in NAMES), "contact_sheet.png"}
CLASSES = {7: "$5-$9 top", 2: "_hidden", 9: "skirt", 4: "never seen"}


def random_dataset(folder: Path, seed: int = 0, count: int = 40) -> tuple[Path, list[str]]:
    """Squares, pairs of squares, RLE and crowd regions of three classes on images of several odd sizes."""
    rng = np.random.default_rng(seed)
    (folder / "photos").mkdir(parents=True)
    images: list[Record] = []
    annotations: list[Record] = []
    for number in range(count):
        height, width = (int(side) for side in rng.integers(17, 50, 2))
        name = f"{number:03d}{'-long' * (number % 9)}.png"
        cv2.imwrite(str(folder / "photos" / name), rng.integers(0, 255, (height, width, 3), dtype=np.uint8))
        images.append({"id": 3 * number + 5, "file_name": name, "width": width, "height": height})
        for _ in range(int(rng.integers(0, 6)) if number != 4 else 40):
            kind = int(rng.choice([7, 2, 9], p=[0.3, 0.65, 0.05]))
            left, top, side = (float(value) for value in rng.uniform(3, 12, 3))
            segmentation: Any = [square(left, top, side)]
            if kind == 2:
                segmentation.append(square(left - 3, top - 2, 5))
            if kind == 9:
                mask = np.zeros((height, width), np.uint8)
                mask[int(top) : int(top + side), int(left) : int(left + side)] = 1
                segmentation = mask_to_rle(mask)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": images[-1]["id"],
                    "category_id": kind,
                    "segmentation": segmentation,
                    "bbox": [left, top, side, side],
                    "area": float(rng.integers(1, 100)),
                    "iscrowd": int(rng.random() < 0.1),
                }
            )
    categories = [{"id": number, "name": name} for number, name in CLASSES.items()]
    document = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "instances.json").write_text(json.dumps(document))
    return folder, [str(split) for split in rng.choice(SPLITS, count, p=[0.6, 0.3, 0.1])]


def charted(folder: Path, split_of: list[str], name: str = "charts") -> Path:
    out = folder / name
    out.mkdir()
    write_data_charts(read_coco(folder / "instances.json"), split_of, folder / "photos", out)
    assert {path.name for path in out.iterdir()} == FILES
    return out


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def assert_drawn(out: Path) -> None:
    for path in out.glob("*.png"):
        grey = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        assert grey is not None, path
        assert min(grey.shape) > 80, path
        assert len(np.unique(grey)) > 10, path


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str], COCO]:
    """A folder with a random dataset and its charts, the splits, and the dataset as pycocotools reads it."""
    folder, split_of = random_dataset(tmp_path_factory.mktemp("datacharts"))
    charted(folder, split_of)
    return folder, split_of, COCO(str(folder / "instances.json"))


def instances_of(truth: COCO, image_id: int) -> list[Record]:
    return [record for record in truth.imgToAnns[image_id] if not record["iscrowd"]]


def test_every_picture_can_be_decoded_and_is_not_blank(example: tuple[Path, list[str], COCO]) -> None:
    assert_drawn(example[0] / "charts")


def test_classes_are_counted_by_split_the_most_frequent_first(example: tuple[Path, list[str], COCO]) -> None:
    folder, split_of, truth = example
    images: Counter[tuple[str, str]] = Counter()
    instances: Counter[tuple[str, str]] = Counter()
    for image_id, split in zip(truth.imgs, split_of, strict=True):
        kinds = [CLASSES[record["category_id"]] for record in instances_of(truth, image_id)]
        instances.update((kind, split) for kind in kinds)
        images.update((kind, split) for kind in set(kinds))
    rows = rows_of(folder / "charts" / "classes.csv")
    order = [row["class"] for row in rows[:: len(SPLITS)]]
    totals = [sum(instances[name, split] for split in SPLITS) for name in order]
    assert set(order) == set(CLASSES.values())
    assert totals == sorted(totals, reverse=True)
    assert rows == [
        {"class": name, "split": split, "images": str(images[name, split]), "instances": str(instances[name, split])}
        for name in order
        for split in SPLITS
    ]


def test_images_are_counted_by_their_instances(example: tuple[Path, list[str], COCO]) -> None:
    folder, split_of, truth = example
    expected = Counter(
        (len(instances_of(truth, image_id)), split) for image_id, split in zip(truth.imgs, split_of, strict=True)
    )
    rows = rows_of(folder / "charts" / "instances.csv")
    assert {
        (int(row["instances"]), row["split"]): int(row["images"]) for row in rows if row["images"] != "0"
    } == expected
    numbers = [int(row["instances"]) for row in rows]
    assert numbers == sorted(numbers)
    assert numbers[0] == 0
    assert numbers[-1] > 30


def test_percentiles_of_areas(example: tuple[Path, list[str], COCO]) -> None:
    folder, _, truth = example
    shares: dict[str, list[float]] = {}
    for image_id, image in truth.imgs.items():
        for record in instances_of(truth, image_id):
            share = 100 * record["area"] / (image["width"] * image["height"])
            shares.setdefault(CLASSES[record["category_id"]], []).append(share)
    rows = {row["class"]: row for row in rows_of(folder / "charts" / "areas.csv")}
    assert set(rows) == set(shares)
    for name, values in shares.items():
        for percent in (10, 25, 50, 75, 90):
            assert float(rows[name][f"p{percent}"]) == pytest.approx(percentile(sorted(values), percent), abs=5.1e-5)


def percentile(values: list[float], percent: int) -> float:
    """Between the two nearest of the sorted values, in proportion."""
    position = (len(values) - 1) * percent / 100
    low = int(position)
    high = min(low + 1, len(values) - 1)
    return values[low] + (values[high] - values[low]) * (position - low)


def test_cooccurrence(example: tuple[Path, list[str], COCO]) -> None:
    folder, _, truth = example
    expected: Counter[tuple[str, str]] = Counter()
    for image_id in truth.imgs:
        kinds = {CLASSES[record["category_id"]] for record in instances_of(truth, image_id)}
        expected.update((first, second) for first in kinds for second in kinds)
    rows = rows_of(folder / "charts" / "cooccurrence.csv")
    assert len(rows) == len(CLASSES) ** 2
    assert {(row["class"], row["other"]): int(row["images"]) for row in rows if row["images"] != "0"} == expected


def test_positions(example: tuple[Path, list[str], COCO]) -> None:
    folder, _, truth = example
    covers: dict[str, list[npt.NDArray[np.float64]]] = {}
    for image_id in truth.imgs:
        for record in instances_of(truth, image_id):
            mask = truth.annToMask(record)
            # Each pixel as 16 x 16, so that a cell is a whole number of these.
            fine = np.repeat(np.repeat(mask, 16, axis=0), 16, axis=1)
            cells = fine.reshape(16, mask.shape[0], 16, mask.shape[1])
            covers.setdefault(CLASSES[record["category_id"]], []).append(cells.mean(axis=(1, 3)))
    found = {name: np.full((16, 16), np.nan) for name in covers}
    for row in rows_of(folder / "charts" / "positions.csv"):
        found[row["class"]][int(row["row"]), int(row["column"])] = float(row["share"])
    for name, expected in covers.items():
        np.testing.assert_allclose(found[name], np.mean(expected, axis=0), atol=5.1e-5)


def test_the_top_left_of_an_image_is_the_first_row_and_column(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "data", count=2)  # tops at (8, 5), trousers at (8, 30), 20 wide, of 40 x 60
    rows = rows_of(charted(folder, ["train", "val"]) / "positions.csv")
    for name, top in (("short sleeve top", 5), ("trousers", 30)):
        covered = [row for row in rows if row["class"] == name and float(row["share"]) > 0]
        places = [(int(row["row"]), int(row["column"])) for row in covered]
        assert min(places) == (int(top / 60 * 16), int(8 / 40 * 16))
        assert max(places) == (int((top + 20 - 0.01) / 60 * 16), int((28 - 0.01) / 40 * 16))


def test_the_same_dataset_gives_the_same_bytes(example: tuple[Path, list[str], COCO]) -> None:
    folder, split_of, _ = example
    again = charted(folder, split_of, "again")
    for name in FILES:
        assert (folder / "charts" / name).read_bytes() == (again / name).read_bytes(), name


@pytest.mark.filterwarnings("error::UserWarning")
@pytest.mark.parametrize("split_of", [["train"] * 3, ["val", "test", "test"]])
def test_one_instance_of_one_class_and_empty_splits(tmp_path: Path, split_of: list[str]) -> None:
    annotation = {"id": 1, "image_id": 2, "category_id": 3, "segmentation": [square(0, 0, 10)], "bbox": [0, 0, 10, 10]}
    folder = write_dataset(
        tmp_path / "data",
        count=3,
        annotations=[{**annotation, "area": 100, "iscrowd": 0}],
        categories=[{"id": 3, "name": "_$a$ $b"}],
    )
    out = charted(folder, split_of)
    assert_drawn(out)
    assert [row["instances"] for row in rows_of(out / "classes.csv")] == [
        str(int(split == split_of[1])) for split in SPLITS
    ]
    assert (out / "areas.csv").read_text() == "class,p10,p25,p50,p75,p90\n_$a$ $b" + ",4.1667" * 5 + "\n"
    assert (out / "cooccurrence.csv").read_text() == "class,other,images\n_$a$ $b,_$a$ $b,1\n"


@pytest.mark.filterwarnings("error::UserWarning")
def test_more_classes_than_colours(tmp_path: Path) -> None:
    count = len(MASK_COLOURS) + 2
    folder = write_dataset(
        tmp_path / "data",
        count=2,
        annotations=[
            {
                "id": kind + 1,
                "image_id": 1 + kind % 2,
                "category_id": kind,
                "segmentation": [square(kind / 2, kind, 6)],
                "bbox": [kind / 2, kind, 6, 6],
                "area": 36,
                "iscrowd": 0,
            }
            for kind in range(count)
        ],
        categories=[{"id": kind, "name": f"class {kind} with a rather long name to it"} for kind in range(count)],
    )
    out = charted(folder, ["train", "test"])
    assert_drawn(out)
    assert len(rows_of(out / "positions.csv")) == count * 16 * 16


def test_a_large_class_is_sampled_evenly() -> None:
    indices = np.arange(100, 10_100)
    assert evenly(indices, 2000)[[0, -1]].tolist() == [100, 10_099]
    assert len(np.unique(evenly(indices, 2000))) == 2000
    assert set(np.diff(evenly(indices, 2000)).tolist()) == {5, 6}
    assert evenly(indices[:7], 2000).tolist() == indices[:7].tolist()


@pytest.mark.parametrize("sizes", [(700, 200, 100), (9999, 1, 1), (1, 0, 5000), (20, 3, 1), (4, 0, 0), (8, 9, 8)])
def test_the_contact_sheet_has_images_of_every_split(sizes: tuple[int, ...]) -> None:
    split = np.random.default_rng(0).permutation(np.repeat(np.arange(3), sizes))
    chosen = sheet_images(split)
    assert len(chosen) == len(np.unique(chosen)) == min(24, sum(sizes))
    assert set(split[chosen]) == {row for row, size in enumerate(sizes) if size}


def test_masks_are_tinted_on_the_contact_sheet(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "data", count=2)
    tinted = sheet_colours(charted(folder, ["train", "val"]))
    document = json.loads((folder / "instances.json").read_text())
    crowd = [{**record, "iscrowd": int(index > 0)} for index, record in enumerate(document["annotations"])]
    (folder / "instances.json").write_text(json.dumps({**document, "annotations": crowd}))
    plain = sheet_colours(charted(folder, ["train", "val"], "plain"))
    top, trousers = (hex_to_bgr(colour) for colour in MASK_COLOURS[:2])
    assert tinted[top] > plain[top] > 0  # outlines and the legend
    assert tinted[trousers] > 0
    assert plain[trousers] == 0
    only = [record for record in document["annotations"] if record["category_id"] == 2]
    (folder / "instances.json").write_text(json.dumps({**document, "annotations": only}))
    trousers_only = sheet_colours(charted(folder, ["train", "val"], "trousers"))
    assert trousers_only[trousers] > 0 == trousers_only[top]  # a class's colour, whatever else is shown


def sheet_colours(out: Path) -> Counter[tuple[int, ...]]:
    """How many pixels of the contact sheet have a colour, as blue, green, red."""
    image = np.asarray(cv2.imread(str(out / "contact_sheet.png")))
    return Counter(tuple(pixel) for pixel in image.reshape(-1, 3).tolist())


@pytest.mark.parametrize(
    ("segmentation", "reason"),
    [
        ("text", "has no polygons and no RLE"),
        ([[1, 2, 3]], "has no polygon of at least three points"),
        ([["a", "b", "c", "d", "e", "f"]], ""),
        ({"size": [1, 1], "counts": "0"}, "has an RLE of size"),
        (None, "has no polygons and no RLE"),
    ],
)
def test_a_mask_that_was_edited_into_something_else_is_one_sentence(
    tmp_path: Path, segmentation: Any, reason: str
) -> None:
    folder = write_dataset(tmp_path / "data", count=2)
    document = json.loads((folder / "instances.json").read_text())
    document["annotations"][0]["segmentation"] = segmentation
    (folder / "instances.json").write_text(json.dumps(document))
    number = document["annotations"][0]["id"]
    (tmp_path / "out").mkdir()
    with pytest.raises(SeamlineError, match=rf"annotation {number}: its segmentation .*{reason}"):
        write_data_charts(read_coco(folder / "instances.json"), ["train", "val"], folder / "photos", tmp_path / "out")
    plt.close("all")  # what it was drawing; a stage ends with it
