"""The report and the model card: every figure from a file, nothing from outside, readable by everyone."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt

from seamline.base.coco import Record
from seamline.base.processors import processor_kind
from seamline.benchmark.machine import unknown
from seamline.report.summary import reports_to_lines
from tests.boxes import without_masks
from tests.browser import look_at
from tests.conftest import PROJECT, REPORTS
from tests.programs import needs_program
from tests.stages.test_stage import is_one_sentence, run_stage, with_params

needs_chromium = needs_program("chromium")
VOID = {"meta", "link", "br", "img", "input", "hr", "path", "use", "rect", "stop", "circle"}


class Page(HTMLParser):
    """Addresses, elements that were left open, and the text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.ids: list[str] = []
        self.without_alt = 0
        self.attributes: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.attributes |= values.keys()
        self.addresses += [values[key] or "" for key in ("src", "href", "action", "data", "poster") if key in values]
        self.ids += [values["id"] or ""] if "id" in values else []
        self.without_alt += tag == "img" and not values.get("alt")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in self.open:
            while self.open.pop() != tag:
                pass

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", "".join(self.words))


@pytest.fixture
def workplace(tmp_path: Path) -> Path:
    """A folder with reports, as the stage finds them."""
    shutil.copytree(REPORTS, tmp_path / "reports")
    for name in ("index.html", "MODEL_CARD.md"):
        (tmp_path / "reports" / name).unlink(missing_ok=True)
    with_params(tmp_path, {})
    return tmp_path


def made(workplace: Path) -> tuple[str, str]:
    done = run_stage("report", workplace, "reports")
    assert done.returncode == 0, done.stderr
    return tuple((workplace / "reports" / name).read_text() for name in ("index.html", "MODEL_CARD.md"))  # type: ignore[return-value]


def read(workplace: Path, name: str) -> Any:
    return json.loads((workplace / "reports" / name).read_text())


def test_one_file_that_needs_nothing_else(workplace: Path) -> None:
    text, _ = made(workplace)
    page = Page(text)
    assert len(text.encode()) < 5_000_000
    assert [address[:60] for address in page.addresses if not address.startswith(("data:", "#"))] == []
    assert {address[1:] for address in page.addresses if address.startswith("#") and "svg" not in address} - set(
        page.ids
    ) == set()
    assert "<script" not in text
    assert "@import" not in text
    assert re.findall(r"url\((?!#)", text) == []
    assert page.open == []
    assert page.without_alt == 0
    assert "content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\"" in text


def test_every_figure_names_a_file_that_is_there(workplace: Path) -> None:
    text, card = made(workplace)
    body = text[text.index("<body>") :]
    parts = [
        part
        for tag in ("table", "figure", "dd")
        for part in re.findall(rf"<{tag}[ >].*?</{tag}>", body, flags=re.DOTALL)
        if "What is meant" not in part
    ]
    # All tables, charts, pictures and tiles, and every paragraph with a number in it.
    parts += [part for part in re.findall(r"<p>.*?</p>", body, flags=re.DOTALL) if re.search(r"\d", part)]
    assert len(parts) > 40
    for part in parts:
        assert re.search(r"reports/\w|params\.yaml", part), part[:300]
    for named in re.findall(r"reports/([\w./, -]+\.(?:json|csv|png|jpg))", text + card):
        for name in named.split(", "):
            assert (workplace / "reports" / name).is_file(), named


def test_the_figures_are_those_of_the_files(workplace: Path) -> None:
    text, card = made(workplace)
    words = Page(text).text
    metrics, benchmark = read(workplace, "metrics.json"), read(workplace, "benchmark.json")
    intervals = read(workplace, "evaluate/intervals.json")
    for split in ("val", "test"):
        for kind in ("mask", "box"):
            for key in ("mAP50_95", "mAP50"):
                value = f"{metrics[split][kind][key]:.3f}"
                assert value in words
                assert value in card
                low, high = intervals[split][kind][key]["interval"]
                assert f"{low:.3f} to {high:.3f}" in words
    for row in benchmark.values():
        assert f"{row['throughput_img_s']:.1f}" in words
        assert f"{row['latency_ms']['p99']:.1f}" in card
    assert read(workplace, "pull.json")["annotations_sha256"] in words
    point = read(workplace, "evaluate/operating_point.json")["test"]
    assert f"of garments, {point['right']} of {point['right'] + point['missed']}" in words
    scores = read(workplace, "evaluate/operating_point.json")
    for value in (scores["test_calibration_error"], *scores["test_calibration_error_by_chance"].values()):
        for where in (words, card):
            assert f"{value:.3f}" in where[where.index("As probabilities, scores are off by") :][:250]
    rows = [row.split(",") for row in (workplace / "reports/evaluate/confusion.csv").read_text().splitlines()[1:]]
    names = list(read(workplace, "evaluate/per_class.json")["test"]["mask"])
    for actual in names:
        counts = [rows.count([actual, predicted]) for predicted in (*names, "(background)")]
        cells = re.search(rf'<th scope="row"><bdi>{actual}</bdi></th>((<td style="[^"]*">\d+</td>)+)</tr>', text)
        assert cells is not None
        assert [int(count) for count in re.findall(r">(\d+)<", cells[1])] == counts
    assert read(workplace, "export.json")["weights_sha256"] in card
    assert f"{point['right']} of {point['right'] + point['missed']} garments" in card
    for kind, count in read(workplace, "evaluate/mistakes.json")["all"].items():
        assert kind == "right" or f" {kind} {count}" in card


def test_names_that_look_like_numbers_stay_names(workplace: Path) -> None:
    evaluate = workplace / "reports" / "evaluate"
    for name in ("per_class.json", "operating_point.json"):
        text = (evaluate / name).read_text()
        (evaluate / name).write_text(text.replace('"trousers"', '"007"').replace('"short sleeve top"', '"1e3"'))
    text = (evaluate / "confusion.csv").read_text()
    (evaluate / "confusion.csv").write_text(text.replace("trousers", "007").replace("short sleeve top", "1e3"))
    text = (evaluate / "slices.csv").read_text()
    (evaluate / "slices.csv").write_text(text.replace(",small,", ",nan,").replace(",frontal,", ",0012,"))
    page, card = made(workplace)
    count = read(workplace, "evaluate/operating_point.json")["test"]["classes"]["007"]["right"]
    assert count > 0
    assert re.search(
        rf'<th scope="row"><bdi>007</bdi></th>(<td style="[^"]*">\d+</td>)*<td style="[^"]*">{count}</td>', page
    )
    for value in ("scale: nan", "viewpoint: 0012"):
        assert value in page
        assert value in card


def test_the_same_files_give_the_same_page(workplace: Path) -> None:
    assert made(workplace) == made(workplace)


def test_a_name_cannot_break_out_of_the_page_or_of_a_table(workplace: Path) -> None:
    name = '<script>alert(1)</script> | & "coat" $x$ [a](javascript:alert) `b` <svg onload=c> \' onerror=d'
    path = workplace / "reports" / "evaluate" / "per_class.json"
    classes = json.loads(path.read_text())
    for split in classes.values():
        for kind in split.values():
            kind[name] = kind.pop("trousers")
    path.write_text(json.dumps(classes))
    path = workplace / "reports" / "evaluate" / "operating_point.json"
    point = json.loads(path.read_text())
    for split in ("val", "test"):
        point[split]["classes"][name] = point[split]["classes"].pop("trousers")
    path.write_text(json.dumps(point))
    for file in ("formats.json", "evaluate/worst.json", "evaluate/sample.json"):
        path = workplace / "reports" / file
        path.write_text(
            re.sub(r'"file_name": "[^"]*', lambda _: '"file_name": ' + json.dumps(name)[:-1], path.read_text())
        )
    with_params(workplace, {"pull": {"source": name}, "report": {"title": name, "purpose": "For <b>coats</b> & more"}})
    text, card = made(workplace)
    assert "<script" not in text
    assert not [key for key in Page(text).attributes if key.startswith("on")]
    shown = MarkdownIt("commonmark").enable("table").render(card)
    assert not re.search("<(script|svg|a|b|img)[ >]", shown)
    assert html.unescape(shown).count(name) >= 3  # the title, the source and the tables
    assert "alert(1)" in Page(text).text
    assert "For <b>coats</b> & more" in Page(text).text
    rows = [line for line in card.splitlines() if "alert" in line and line.startswith("|")]
    assert rows and all(len(re.findall(r"(?<!\\)\|", row)) == 9 for row in rows)


def test_without_intervals_slices_or_seeds_it_is_still_a_report(workplace: Path) -> None:
    """What a tiny dataset of other people gives: nothing certain, no field to slice by, seeds of another model."""
    evaluate = workplace / "reports" / "evaluate"
    intervals = json.loads((evaluate / "intervals.json").read_text())
    for split in intervals.values():
        for kind in split.values():
            for measure in kind.values():
                measure["interval"] = None
    (evaluate / "intervals.json").write_text(json.dumps(intervals))
    header = (evaluate / "slices.csv").read_text().splitlines()[0]
    (evaluate / "slices.csv").write_text(header + "\n")
    metrics = read(workplace, "metrics.json")
    metrics["test"]["mask"] = {**metrics["test"]["mask"], "mAP50_95": 0.123, "mAP_small": None}
    (workplace / "reports" / "metrics.json").write_text(json.dumps(metrics))
    text, card = made(workplace)
    words = Page(text).text
    assert "95% interval not known" in words
    assert "No instance on test has a value" in words
    assert "Another seed alone" not in words + card


def test_without_an_int8_model_the_report_says_why(workplace: Path) -> None:
    benchmark, exported = read(workplace, "benchmark.json"), read(workplace, "export.json")
    formats = read(workplace, "formats.json")
    del benchmark["openvino_int8"], exported["openvino_int8"], formats["mean_iou"]["openvino_int8"]
    (workplace / "reports" / "formats.json").write_text(json.dumps(formats))
    exported["int8_refused"] = "INT8 costs more than export.int8.max_drop (0.01) allows: 0.2 with full."
    (workplace / "reports" / "benchmark.json").write_text(json.dumps(benchmark))
    (workplace / "reports" / "export.json").write_text(json.dumps(exported))
    text, card = made(workplace)
    assert "There is no INT8 model: INT8 costs more than" in Page(text).text
    assert "There is no INT8 model: INT8 costs more than" in card
    assert "OpenVINO INT8" not in Page(text).text + card
    lines = "\n".join(reports_to_lines(workplace / "reports", Path("best.pt"), 0.01, processor_kind()))
    assert "no INT8: INT8 costs more" in lines
    assert "models/export/{onnx,openvino,openvino_f16}" in lines


def test_what_the_system_does_not_say_is_not_a_figure(workplace: Path) -> None:
    """As on macOS."""
    environment, conditions = read(workplace, "environment.json"), read(workplace, "conditions.json")
    environment |= {"processor": "Apple M4", "instructions": None, "memory_gb": None}
    conditions |= dict.fromkeys(("stolen_share", "other_share", "throttled_share"))
    conditions["disturbances"] = unknown(conditions)
    assert conditions["disturbances"]
    (workplace / "reports" / "environment.json").write_text(json.dumps(environment))
    (workplace / "reports" / "conditions.json").write_text(json.dumps(conditions))
    words = Page(made(workplace)[0]).text
    assert "Apple M4 (instructions unknown), " in words
    assert ", memory unknown, " in words
    assert words.count("While speed was measured") == 1
    for sentence in conditions["disturbances"]:
        assert sentence in words


def test_where_int8_is_slower_than_bf16_the_report_says_in_which_layers(workplace: Path) -> None:
    table = workplace / "reports" / "benchmark_layers.csv"
    sentence = "INT8 is slower than bf16 on this processor"
    assert sentence not in Page(made(workplace)[0]).text  # nothing was compared
    rows = "/model.1/conv/Conv,16,32,amx_I8,0.4,amx_bf16,0.1\n/model.9/conv/Conv,128,64,amx_I8,0.2,amx_bf16,0.3\n"
    table.write_text(table.read_text() + rows)
    text, card = made(workplace)
    for words in (Page(text).text, card):
        assert f"{sentence}: its convolutions take 0.6 ms an image, bf16's 0.4. 1 of 2 are slower" in words


def test_versions_of_photos_across_splits_are_said_where_there_are_some(workplace: Path) -> None:
    split = read(workplace, "split.json")
    for versions, across in ((None, None), (0, 0), (30, 4)):
        found = {**split, "versions": versions, "versions_across_splits": across}
        (workplace / "reports" / "split.json").write_text(json.dumps(found))
        text, card = made(workplace)
        words = Page(text).text.replace(" ", "")
        assert ("Versionsofaphotoacrosssplits,of304reports/split.json" in words) == (versions == 30)
        assert ("near-duplicates in more than one split, and 4 of 30 versions of a photo." in card) == (versions == 30)
        assert ("versions of a photo" in card) == (versions == 30)


def test_the_limits_that_are_said_are_those_that_the_model_keeps(workplace: Path) -> None:
    """An R-CNN's network leaves less than evaluate asks for."""
    model = read(workplace, "evaluate/model.json")
    model["reported"] = {"confidence": 0.001, "nms_iou": 0.45, "max_detections": 30}
    for reported, said in (
        (
            None,
            "at most 100 detections per image, of boxes of one class that overlap by more than IoU 0.7 the better one",
        ),
        (
            model["reported"],
            "at most 30 detections per image, of boxes of one class that overlap by more than IoU 0.45",
        ),
    ):
        changed = {key: value for key, value in model.items() if key != "reported" or reported}
        (workplace / "reports" / "evaluate" / "model.json").write_text(json.dumps(changed))
        text, card = made(workplace)
        assert said in Page(text).text
        assert said in card


def test_people_first_is_a_section_of_its_own_where_it_was_measured(workplace: Path) -> None:
    """With the figures of a small model of people on the sample's test split."""
    text, _ = made(workplace)
    assert "People first" not in Page(text).text
    figures = {"mAP50": 0.87, "mAP_small": None, "mAP_medium": 0.628, "mAP_large": 0.878}
    rows: list[Record] = [
        {"people": "0", "images": 0, "instances": 0, "without": None, "with": None},
        {"people": "1", "images": 6, "instances": 8, "without": 0.751, "with": 0.752},
        {"people": "2", "images": 11, "instances": 18, "without": 0.747, "with": 0.683},
        {"people": "3 or more", "images": 15, "instances": 28, "without": 0.6, "with": 0.61},
    ]
    people: Record = {
        "model": "person.pt", "split": "test", "kind": "mask", "images": 32, "people": 85, "by_people": rows,
        "without": {"mAP50_95": 0.657, **figures}, "with": {"mAP50_95": 0.635, **figures},
        "latency_p50_ms": {"without": 12.34, "with": 45.67},
        "said": "Looking for people first changes the mask mAP50-95 by -0.022.",
    }  # fmt: skip
    (workplace / "reports" / "people.json").write_text(json.dumps(people))
    text, _ = made(workplace)
    section = text[text.index('<section id="people">') :].partition("</section>")[0]
    assert '<a href="#people">' in text
    words = Page(section).text
    assert "changes the mask mAP50-95 by -0.022. People were found by person.pt: 85 on 32 images of test" in words
    assert [" ".join(re.sub("<[^>]*>", " ", row).split()) for row in re.findall("<tr>.*?</tr>", section)] == [
        "images instances without with",
        "all 32 54 0.657 0.635",
        "small instances - -",
        "medium 0.628 0.628",
        "large 0.878 0.878",
        "photos in which 1 person was found 6 8 0.751 0.752",
        "photos in which 2 people were found 11 18 0.747 0.683",
        "photos in which 3 or more people were found 15 28 0.600 0.610",
        "latency, ms 12.3 45.7",
    ]


def test_a_model_that_finds_boxes_only_is_reported_by_its_boxes(workplace: Path) -> None:
    """The same figures, of boxes; only the data have masks, and their certificates and the parameters say so."""
    with_masks = Page(made(workplace)[0]).text
    metrics = read(workplace, "metrics.json")
    without_masks(workplace / "reports")
    text, card = made(workplace)
    words = Page(text).text
    for wrong in ("mask mAP", "Mask mAP", "mask IoU", "poor mask", "file to masks", "Masks of each class", "Masks on"):
        assert wrong not in words + card
    assert "Box mAP50-95 on test" in words
    assert "draws a box around each one" in words
    assert "| box mAP50-95 on test |" in card
    assert "| split | box mAP50-95 | box mAP50 |\n| --- | ---: | ---: |\n| val |" in card
    for split in ("val", "test"):
        for key in ("mAP50_95", "mAP50"):
            assert f"{metrics[split]['mask'][key]:.3f}" in words
            assert f"{metrics[split]['mask'][key]:.3f}" in card
    assert f"{metrics['test']['mask']['AR100']:.3f}" in words
    for caution in ("a box mAP50-95 of", "Another seed alone changes box mAP50-95"):
        assert caution in words
        assert caution.replace("box", "mask") in with_masks
    for row in read(workplace, "benchmark.json").values():
        assert f"{row['box_mAP50_95']:.3f}" in card
    summary = "\n".join(reports_to_lines(workplace / "reports", Path("best.pt"), 0.01, processor_kind()))
    assert f"test{metrics['test']['mask']['mAP50_95']:34.3f}" in summary
    assert "box mAP50-95" in summary
    assert "mask" not in summary
    for title in ("Boxes of each class on test", "Precision over recall, box IoU 0.5", "box mAP50-95 on test"):
        assert title in text  # of charts


def test_more_pictures_than_fit_stay_in_their_folder(workplace: Path) -> None:
    evaluate = workplace / "reports" / "evaluate"
    record = json.loads((evaluate / "worst.json").read_text())[0]
    picture = (evaluate / "worst" / f"{record['image_id']}.jpg").read_bytes()
    records = [{**record, "image_id": 10_000 + number} for number in range(60)]
    for one in records:
        # Bytes behind a JPEG's end are no part of the picture.
        (evaluate / "worst" / f"{one['image_id']}.jpg").write_bytes(picture + bytes(60_000))
    (evaluate / "worst.json").write_text(json.dumps(records))
    text, _ = made(workplace)
    assert len(text.encode()) < 5_000_000
    assert re.search(r"\d+ more pictures are in reports/evaluate", Page(text).text)


def test_what_is_missing_is_named(workplace: Path) -> None:
    (workplace / "reports" / "evaluate" / "slices.csv").unlink()
    assert is_one_sentence(run_stage("report", workplace, "reports"), "slices.csv", "dvc repro")
    (workplace / "reports" / "evaluate" / "slices.csv").write_text("split,instances\n<<<<<<< HEAD\ntest,what\n")
    assert is_one_sentence(run_stage("report", workplace, "reports"), "slices.csv", "is not the table")
    shutil.copy(REPORTS / "evaluate" / "slices.csv", workplace / "reports" / "evaluate")
    number = read(workplace, "evaluate/worst.json")[0]["image_id"]
    (workplace / "reports" / "evaluate" / "worst" / f"{number}.jpg").unlink()
    assert is_one_sentence(run_stage("report", workplace, "reports"), f"worst/{number}.jpg", "dvc repro")
    (workplace / "reports" / "pull.json").unlink()
    assert is_one_sentence(run_stage("report", workplace, "reports"), "pull.json")
    assert is_one_sentence(run_stage("report", workplace, "params.yaml"), "params.yaml: is not a folder")


def test_evaluate_checks_its_folders_before_it_works(workplace: Path) -> None:
    arguments = ("models/none.pt", "reports/split.json", "data/subset/images", "out")
    assert is_one_sentence(run_stage("evaluate", workplace, *arguments), "reports/split.json: is not a folder")
    done = run_stage(
        "evaluate", workplace, "models/none.pt", "reports", "data/subset/images", "out", "--report", "params.yaml"
    )
    assert is_one_sentence(done, "params.yaml: is not a folder")


def test_the_card_says_which_code_it_is(workplace: Path) -> None:
    assert made(workplace)[1].count(", not in git\n") == 1
    (workplace / "stages").unlink()
    shutil.copytree(PROJECT / "stages", workplace / "stages")
    user = ("-c", "user.name=test", "-c", "user.email=test@localhost")
    added = ("add", "stages", "seamline")
    for command in (("init", "--quiet"), added, (*user, "commit", "--quiet", "--message", "code")):
        subprocess.run(["git", *command], cwd=workplace, check=True)
    (workplace / "stages" / "split.py").write_text("2")
    assert re.search(r"built on git commit `\w{12}` with changes to stages/split\.py\n", made(workplace)[1])


def test_a_summary_without_its_model_says_that_its_figures_are_of_an_earlier_run(workplace: Path) -> None:
    command = [sys.executable, "-m", "seamline", "summary"]
    lines = subprocess.run(command, cwd=workplace, capture_output=True, text=True, check=True).stdout.splitlines()
    assert lines[1].startswith("Figures of an earlier run")
    (workplace / "models" / "train").mkdir(parents=True)
    (workplace / "models" / "train" / "best.pt").touch()
    assert subprocess.run(command, cwd=workplace, capture_output=True, text=True).stdout.splitlines() == lines[2:]


@needs_chromium
@pytest.mark.parametrize(
    ("width", "dark"),
    [
        (1200, False),
        (500, True),
        *(pytest.param(*one, marks=pytest.mark.thorough) for one in [(1200, True), (500, False)]),
    ],
)
def test_a_browser_finds_nothing_wrong(width: int, dark: bool, workplace: Path) -> None:
    made(workplace)
    seen = look_at(workplace / "reports" / "index.html", workplace, width=width, dark=dark)
    assert seen["console"] == seen["errors"] == seen["violations"] == seen["requests"] == []
    assert seen["pictures"] == 0
    assert seen["overflow"] <= 0
    assert [found for found in seen["findings"] if found[0] in ("serious", "critical")] == []
    assert seen["passes"] > 20
    assert (seen["background"] == "rgb(18, 22, 28)") == dark


@needs_chromium
def test_a_browser_would_find_it(workplace: Path) -> None:
    text, _ = made(workplace)
    wrong = (
        '<img src="data:image/png;base64,AAAA"><img src="https://example.org/x.png" alt="">'
        '<p style="color: #aaa; background: #fff">pale</p><div style="width: 4000px">wide</div>'
    )
    (workplace / "wrong.html").write_text(text.replace("<main>", f"<main>{wrong}"))
    seen = look_at(workplace / "wrong.html", workplace)
    assert {"image-alt", "color-contrast"} <= {found[1] for found in seen["findings"]}
    assert any("example.org" in address for address in seen["violations"])
    assert seen["pictures"] >= 1
    assert seen["overflow"] > 0
