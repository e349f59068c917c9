"""Every stage as a user meets it on the command line: help, errors in one sentence, nothing half-written."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from seamline.base import process as stage_module
from tests import warm
from tests.conftest import PARAMS, PROJECT, code_in, merged, write_dataset

STAGES = sorted((PROJECT / "stages").glob("[!_]*.py"))


def run_stage(name: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    code_in(folder)
    return warm.run(["python", "-m", f"stages.{name}", *arguments], folder)


def run_to_split(folder: Path) -> None:
    """The stages from pull to split, on folder/in."""
    for stage, paths in (
        ("pull", ("--source=in", "raw")), ("subset", ("raw", "subset")), ("convert", ("subset", "yolo")),
        ("split", ("subset", "split")),
    ):  # fmt: skip
        done = run_stage(stage, folder, *paths)
        assert done.returncode == 0, done.stderr


def with_params(folder: Path, changes: dict[str, Any]) -> None:
    code_in(folder)
    values = merged(yaml.safe_load(PARAMS.read_text()), changes)
    (folder / "params.yaml").write_text(yaml.safe_dump(values))


def is_one_sentence(done: subprocess.CompletedProcess[str], *parts: str) -> bool:
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    return (
        done.returncode == 1
        and len(lines) == 1
        and "Traceback" not in done.stderr
        and all(part in lines[0] for part in parts)
    )


@pytest.mark.parametrize("script", STAGES, ids=lambda path: path.stem)
def test_help_says_what_and_shows_an_example(script: Path, tmp_path: Path) -> None:
    done = run_stage(script.stem, tmp_path, "--help")
    assert done.returncode == 0
    assert f"Example: python -m stages.{script.stem}" in done.stdout


@pytest.mark.parametrize("script", STAGES, ids=lambda path: path.stem)
def test_a_script_is_short(script: Path) -> None:
    assert 30 <= len(script.read_text().splitlines()) <= 150


@pytest.mark.parametrize("kind", ["nothing", "no zip", "no coco", "several"])
def test_a_bad_source_is_one_sentence_and_leaves_nothing(tmp_path: Path, kind: str) -> None:
    with_params(tmp_path, {})
    source = tmp_path / "source.zip"
    if kind == "no zip":
        source.write_bytes(b"this is no zip")
    if kind in ("no coco", "several"):
        with zipfile.ZipFile(source, "w") as archive:
            archive.writestr("a.json", '{"images": 3}' if kind == "no coco" else COCO_TEXT)
            archive.writestr("b.json", COCO_TEXT if kind == "several" else "[]")
    done = run_stage("pull", tmp_path, "data/raw", "--source", str(source))
    expected = {
        "nothing": "does not exist",
        "no zip": "is not a readable archive",
        "no coco": "has no COCO annotation file",
        "several": "has several COCO files",
    }[kind]
    assert is_one_sentence(done, expected), done.stderr
    left = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert left <= {"params.yaml", "source.zip", "lock"}  # of the pull that was running, and nobody holds it


COCO_TEXT = '{"images": [], "annotations": [], "categories": []}'


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"subset": {"classes": ["skirt"]}}, ("no category 'skirt'", "short sleeve top, trousers")),
        ({"subset": {"classes": {"top": ["short sleeve top"], "hat": ["trouser"]}}}, ("no category 'trouser'",)),
        ({"split": {"ratios": {"train": 0.8}}}, ("split.ratios", "add up to 1.1")),
        ({"subset": {"images": 1}}, ("subset.images", "too few")),
        ({"subset": {"image": 3}}, ("subset.image: unknown key; did you mean images?",)),
    ],
)
def test_a_bad_choice_is_one_sentence_and_leaves_nothing(
    tmp_path: Path, changes: dict[str, Any], parts: tuple[str, ...]
) -> None:
    write_dataset(tmp_path / "in")
    with_params(tmp_path, {})
    assert run_stage("pull", tmp_path, "data/raw", "--source", "in").returncode == 0
    with_params(tmp_path, changes)
    done = run_stage("subset", tmp_path, "data/raw", "data/subset")
    assert is_one_sentence(done, *parts), done.stderr
    assert {path.name for path in (tmp_path / "data").iterdir()} == {
        "raw", "raw-manifest.csv", "raw-report.json", "raw-changes.csv"
    }  # fmt: skip


def test_what_stops_pull_is_listed_too(tmp_path: Path) -> None:
    """Too many contradictions: which they are has to be found in the tool that wrote them."""
    path = write_dataset(tmp_path / "in") / "instances.json"
    coco = json.loads(path.read_text())
    for record in coco["annotations"]:
        record["bbox"] = [1, 1, 7, 3]
    path.write_text(json.dumps(coco))
    with_params(tmp_path, {})
    done = run_stage("pull", tmp_path, "data/raw", "--source", "in", "--changes", "pull.csv")
    assert is_one_sentence(done, "contradict each other"), done.stderr
    assert "pull.csv" in done.stdout
    listed = (tmp_path / "pull.csv").read_text().splitlines()
    assert sum("its box and its mask contradict each other" in line for line in listed) == len(coco["annotations"])
    assert not (tmp_path / "data" / "raw").exists()


def test_the_users_own_files_are_copied_and_never_linked(tmp_path: Path) -> None:
    """DVC makes what it tracks read-only, and would do so to the originals through a link."""
    source = write_dataset(tmp_path / "in")
    with_params(tmp_path, {})
    assert run_stage("pull", tmp_path, "data/raw", "--source", "in").returncode == 0
    assert run_stage("subset", tmp_path, "data/raw", "data/subset").returncode == 0
    original = source / "photos" / "001.png"
    pulled, chosen = (tmp_path / "data" / folder / "images" / "001.png" for folder in ("raw", "subset"))
    assert pulled.read_bytes() == original.read_bytes()
    assert pulled.stat().st_ino != original.stat().st_ino
    assert chosen.stat().st_ino == pulled.stat().st_ino  # from there on images take their space once


@pytest.mark.parametrize(("source", "out"), [("in", "in"), ("data/in", "data"), ("in", "in/raw")])
def test_pull_never_replaces_the_users_own_folder(tmp_path: Path, source: str, out: str) -> None:
    folder = write_dataset(tmp_path / source)
    with_params(tmp_path, {})
    done = run_stage("pull", tmp_path, out, "--source", source)
    assert is_one_sentence(done, source, out, "lie in one another")
    assert (folder / "instances.json").exists()


def test_more_images_than_there_are_takes_all_and_says_so(tmp_path: Path) -> None:
    write_dataset(tmp_path / "in")
    with_params(tmp_path, {"subset": {"images": 500}})
    assert run_stage("pull", tmp_path, "data/raw", "--source", "in").returncode == 0
    done = run_stage("subset", tmp_path, "data/raw", "data/subset")
    assert "asked for 500 images, there are 6 that fit: took those" in done.stdout


def test_a_stage_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    """kill -9 of dvc repro must not leave a stage that races the next dvc repro for the outputs."""
    stage = "import time; from seamline.base.process import run; run(lambda: (print('up', flush=True), time.sleep(60)))"
    parent = (
        f"import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', {stage!r}]); "
        "print(p.pid, flush=True); p.wait()"
    )
    code_in(tmp_path)
    running = subprocess.Popen([sys.executable, "-c", parent], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    assert running.stdout is not None
    lines = sorted((running.stdout.readline().strip(), running.stdout.readline().strip()))
    child = int(lines[0])
    running.send_signal(signal.SIGKILL)
    running.wait()
    for _ in range(600):
        try:
            os.kill(child, 0)
        except ProcessLookupError:
            return
        if Path(f"/proc/{child}/stat").exists() and ") Z " in Path(f"/proc/{child}/stat").read_text():
            return
        time.sleep(0.1)
    raise AssertionError("the stage outlived its parent by a minute")


def test_an_interrupt_shows_no_traceback(tmp_path: Path) -> None:
    code = "from seamline.base.process import run\ndef stop(): raise KeyboardInterrupt\nrun(stop)"
    code_in(tmp_path)
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 130
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("proc", ["/proc", "/nowhere/proc"])
def test_a_process_that_has_ended_is_noticed_with_and_without_proc(monkeypatch: pytest.MonkeyPatch, proc: str) -> None:
    """A sweep's trials have to know whether the sweep is there, on macOS too."""
    monkeypatch.setattr(stage_module, "PROC", Path(proc))
    with subprocess.Popen(["sleep", "60"]) as running:
        assert not stage_module.is_gone(running.pid)
        running.kill()
        os.waitid(os.P_PID, running.pid, os.WEXITED | os.WNOWAIT)  # a zombie, as a child that nobody has asked for
        assert stage_module.is_gone(running.pid) == (Path(proc) / "self" / "stat").exists()
        running.wait()
        assert stage_module.is_gone(running.pid)


def test_a_process_of_another_user_is_there_without_proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(process: int, number: int) -> None:
        raise PermissionError

    monkeypatch.setattr(stage_module, "PROC", tmp_path)
    monkeypatch.setattr(os, "kill", refuse)
    assert not stage_module.is_gone(1)


# select.poll of macOS, in whose word for an end of the reader POLLERR is not.
OF_MACOS = """
import select
class Poll:
    def __init__(self, poll=select.poll): self.own = poll()
    def register(self, stream, wanted): self.own.register(stream, wanted) if wanted else None
    def poll(self, ms): return [(of, select.POLLHUP) for of, event in self.own.poll(ms) if event & select.POLLERR]
select.poll = Poll
"""


@pytest.mark.parametrize("system", ["", OF_MACOS], ids=["here", "macos"])
@pytest.mark.parametrize(("work", "told"), [("print('many lines')", 0), ("raise BrokenPipeError", 1)])
def test_a_reader_that_has_seen_enough_causes_no_error(tmp_path: Path, work: str, told: int, system: str) -> None:
    """As in `seamline summary | head`; a pipe of our own that breaks is a fault, and is told."""
    code = (
        f"{system}\nfrom seamline.base.process import run\ndef work():\n    for _ in range(100_000): {work}\nrun(work)"
    )
    code_in(tmp_path)
    running = subprocess.Popen(
        [sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert running.stdout is not None
    assert running.stderr is not None
    if not told:
        running.stdout.close()
    assert running.stderr.read().splitlines().count("BrokenPipeError") == told
    assert running.wait() == (1 if told else 128 + signal.SIGPIPE)


def test_small_instances_and_crowds_are_filtered_and_counted(tmp_path: Path) -> None:
    """An image whose only garment is left out shows that garment still, and is no background."""
    folder = write_dataset(tmp_path / "in", count=4)
    coco = json.loads((folder / "instances.json").read_text())
    tops = coco["annotations"][0::2]
    trousers = coco["annotations"][1]
    small = {"segmentation": [[8, 5, 12, 5, 12, 9, 8, 9]], "area": 16, "bbox": [8, 5, 4, 4]}
    tops[0] |= small  # beside trousers of full size
    tops[1] |= {"iscrowd": 1}
    tops[2] |= small
    coco["annotations"] = [*tops, trousers]
    (folder / "instances.json").write_text(json.dumps(coco))
    choice = {"images": None, "background": 0.5, "group_by": None}
    for filters, images, left_out in (
        ({"min_area_px": 0, "crowd": "instances"}, [1, 2, 3, 4], (0, 0)),
        ({"min_area_px": 0, "crowd": True}, [1, 3, 4], (0, 0)),
        ({"min_area_px": 16, "crowd": True}, [1, 3, 4], (0, 0)),
        ({"min_area_px": 17, "crowd": False}, [1, 4], (1, 0)),
        ({"min_area_px": 0, "crowd": False}, [1, 3, 4], (0, 0)),
    ):
        with_params(tmp_path, {"subset": {**choice, **filters}})
        assert run_stage("pull", tmp_path, "raw", "--source", "in").returncode == 0
        assert run_stage("subset", tmp_path, "raw", "subset").returncode == 0
        found = json.loads((tmp_path / "subset" / "annotations.json").read_text())
        assert [image["id"] for image in found["images"]] == images
        report = json.loads((tmp_path / "subset-report.json").read_text())
        assert tuple(report["instances_left_out"].values()) == left_out
        left_out_images = report["images_of_left_out_instances_only"] + report["images_of_crowds_only"]
        assert left_out_images == 4 - len(images)


def test_classes_are_merged_renamed_and_keep_every_other_field(tmp_path: Path) -> None:
    write_dataset(tmp_path / "in")
    with_params(tmp_path, {"subset": {"classes": {"garment": ["trousers", "short sleeve top"]}, "images": 4}})
    assert run_stage("pull", tmp_path, "raw", "--source", "in").returncode == 0
    assert run_stage("subset", tmp_path, "raw", "subset").returncode == 0
    found = json.loads((tmp_path / "subset" / "annotations.json").read_text())
    assert found["categories"] == [{"id": 1, "name": "garment"}]
    assert {record["category_id"] for record in found["annotations"]} == {1}
    assert all(record["scale"] == 2 for record in found["annotations"])
    pairs = [image["pair_id"] for image in found["images"]]
    assert sorted(pairs) == sorted(pair for pair in set(pairs) for _ in range(2))  # groups whole


def test_where_all_classes_are_wanted_nobodys_ids_shift(tmp_path: Path) -> None:
    """Labels count from 0 without gaps, as ultralytics wants them."""
    folder = write_dataset(tmp_path / "in")
    coco = json.loads((folder / "instances.json").read_text())
    for record, key in [(one, "id") for one in coco["categories"]] + [
        (one, "category_id") for one in coco["annotations"]
    ]:
        record[key] = {1: 7, 2: 0}[record[key]]
    (folder / "instances.json").write_text(json.dumps(coco))
    choice = {"images": None, "background": 0, "group_by": None}
    with_params(tmp_path, {"subset": {"classes": None, **choice}, "split": {"near_duplicate_bits": None}})
    run_to_split(tmp_path)
    raw = (tmp_path / "raw" / "annotations.json").read_bytes()
    assert [one["id"] for one in json.loads(raw)["categories"]] == [0, 7]
    assert (tmp_path / "subset" / "annotations.json").read_bytes() == raw  # which DVC therefore keeps once
    lines = (tmp_path / "yolo" / "labels" / "001.txt").read_text().splitlines()
    assert [line.split()[0] for line in lines] == ["1", "0"]  # the top is 7, the trousers 0
    assert yaml.safe_load((tmp_path / "split" / "data.yaml").read_text())["names"] == {
        0: "trousers",
        1: "short sleeve top",
    }
    report = json.loads((tmp_path / "subset-report.json").read_text())
    assert {name: found["instances"] for name, found in report["classes"].items()} == {
        "trousers": 6,
        "short sleeve top": 6,
    }


@pytest.mark.parametrize("official", [{"test": "val"}, {"train": "train", "val": "val"}])
def test_an_official_split_is_used_and_reaches_the_files(tmp_path: Path, official: dict[str, str]) -> None:
    for split, count in (("train", 8), ("val", 4), ("test", 3)):
        write_dataset(tmp_path / "in" / split, count=count)
    choice = {"images": None, "background": 0, "group_by": None}
    split_params = {"official": official, "group_by": None, "near_duplicate_bits": None}
    with_params(tmp_path, {"subset": choice, "split": split_params})
    run_to_split(tmp_path)
    report = json.loads((tmp_path / "split-report.json").read_text())
    assert report["official"] == official
    for ours, theirs in official.items():
        images = json.loads((tmp_path / "split" / f"{ours}.json").read_text())["images"]
        assert {image["split"] for image in images} == {theirs}
        assert len(images) == {"train": 8, "val": 4, "test": 3}[theirs]
    assert sum(report[split]["images"] for split in ("train", "val", "test")) == 15
    assert all(report[split]["images"] for split in ("train", "val", "test"))


def test_a_source_without_that_official_split_is_one_sentence(tmp_path: Path) -> None:
    write_dataset(tmp_path / "in")
    with_params(tmp_path, {"split": {"official": {"test": "val"}}})
    for stage, paths in (
        ("pull", ("--source=in", "raw")),
        ("subset", ("raw", "subset")),
    ):
        assert run_stage(stage, tmp_path, *paths).returncode == 0
    done = run_stage("split", tmp_path, "subset", "split")
    assert is_one_sentence(done, "split.official", "'val'", "there are none")
    assert not (tmp_path / "split").exists()


def test_a_folder_that_cannot_be_written_to_is_one_sentence(tmp_path: Path) -> None:
    """As in a container that is run read-only without a temporary folder."""
    place = tmp_path / "file"
    place.write_text("")
    environment = {**os.environ, "SEAMLINE_SCRATCH": str(place / "scratch")}
    command = [sys.executable, "-m", "seamline", "summary"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=PROJECT)
    assert done.returncode == 1
    reason = "cannot be written to (Not a directory); name a folder that can in SEAMLINE_SCRATCH."
    assert done.stderr == f"error: {place / 'scratch'}: {reason}\n"


def test_a_stage_of_another_checkout_is_refused(tmp_path: Path) -> None:
    """A copy's results would be recorded as made by its code, and were made by that of the environment's checkout."""
    with_params(tmp_path, {})
    (tmp_path / "seamline").unlink()
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    for own in (False, True):
        if own:
            (tmp_path / "seamline").mkdir()
        done = subprocess.run(
            [sys.executable, str(PROJECT / "stages" / "report.py")],
            cwd=tmp_path, env=environment, capture_output=True, text=True,
        )  # fmt: skip
        assert is_one_sentence(done, f"seamline comes from {PROJECT} and not from this folder", "python -m stages.NAME")


@pytest.mark.parametrize("stage", ["pull", "subset", "convert", "split"])
def test_without_a_name_its_reports_are_beside_its_output(tmp_path: Path, stage: str) -> None:
    """So that a stage that is run by hand leaves the project's own results as they are."""
    write_dataset(tmp_path / "in")
    with_params(tmp_path, {"split": {"near_duplicate_bits": None}})
    (tmp_path / "made").mkdir()
    for name, inputs in (
        ("pull", ["--source=in"]),
        ("subset", ["raw"]),
        ("convert", ["subset"]),
        ("split", ["subset"]),
    ):
        out = {"pull": "raw", "convert": "yolo"}.get(name, name)
        place = "made" if name == stage else "."
        before = {path.name for path in tmp_path.iterdir()}
        done = run_stage(name, tmp_path, *inputs, f"{place}/{out}")
        assert done.returncode == 0, done.stderr
        made = {path.name for path in (tmp_path / place).iterdir()} - (set() if place == "made" else before)
        assert made - {".seamline"} == {out, f"{out}-report.json"} | {
            "pull": {"raw-manifest.csv", "raw-changes.csv"}, "split": {"split-charts"}
        }.get(name, set())  # fmt: skip
        if name == stage:
            assert {path.name for path in tmp_path.iterdir()} - before <= {".seamline"}
            return


def test_the_temporary_folder_of_libraries_goes_with_the_process_and_not_with_a_fork_of_it(tmp_path: Path) -> None:
    """Elsewhere than in the project, where it lies in .seamline."""
    code = """
import os
from pathlib import Path
from seamline.base.process import library_folder, quiet_environment

quiet_environment()
folder = Path(os.environ["MPLCONFIGDIR"]).parent
assert folder == library_folder()
if os.fork() == 0:
    raise SystemExit
os.wait()
print(folder, folder.is_dir())
"""
    for cwd, remains in ((tmp_path, False), (PROJECT, True)):
        environment = {key: value for key, value in os.environ.items() if key != "SEAMLINE_SCRATCH"}
        environment["PYTHONPATH"] = str(PROJECT)
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=cwd, check=True)
        folder, was_there = done.stdout.split()
        assert was_there == "True"
        assert Path(folder).exists() == remains
        assert (Path(folder) == PROJECT / ".seamline") == remains
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("stage", "arguments"),
    [
        ("pull", ("--source=../nothing", ".")),
        ("subset", ("data/raw", "..")),
        ("convert", ("data/subset", "photos")),
        ("split", ("data/subset", "photos")),
        ("split", ("data/subset", "split", "--charts", "photos")),
        ("train", ("data/split", "data/yolo", "photos")),
        ("evaluate", ("best.pt", "data/split", "data/subset/images", "photos")),
        ("evaluate", ("best.pt", "in", "data/subset/images", "out", "--report", "more")),
        ("export", ("best.pt", "data/split", "data/subset/images", "more")),
    ],
)
def test_what_no_stage_has_made_is_never_deleted(tmp_path: Path, stage: str, arguments: tuple[str, ...]) -> None:
    """It is said before any work, and before what would be read is looked for."""
    with_params(tmp_path, {})
    (tmp_path / "in").mkdir()
    for folder in ("photos", "more/evaluate", "more/openvino_int8"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "holiday.jpg").touch()
    before = sorted(tmp_path.rglob("*"))
    done = run_stage(stage, tmp_path, *arguments)
    assert is_one_sentence(done, "would be deleted" if arguments[-1][0] == "." else "holiday.jpg"), done.stderr
    assert [path for path in sorted(tmp_path.rglob("*")) if ".seamline" not in path.parts] == before


@pytest.mark.skipif(sys.platform == "darwin", reason="its disks take names in UTF-8 only")
def test_file_names_that_are_not_utf_8_are_pulled(tmp_path: Path) -> None:
    """As unzip leaves them of old archives: a photo, a folder, the COCO file, an archive beside its folder."""
    folder = write_dataset(tmp_path / "in")
    odd = os.fsdecode("été".encode("latin-1"))
    coco = json.loads((folder / "instances.json").read_text())
    (folder / "photos" / "001.png").rename(folder / "photos" / f"{odd}.png")
    coco["images"][0]["file_name"] = f"{odd}.png"
    (folder / f"{odd}.json").write_text(json.dumps(coco))
    (folder / "instances.json").unlink()
    (folder / odd).mkdir()
    (folder / odd / "notes.txt").write_text("of no use")
    with zipfile.ZipFile(folder / f"{odd}.zip", "w") as archive:
        archive.writestr("notes.txt", "of no use")
    with_params(tmp_path, {})
    done = run_stage("pull", tmp_path, "data/raw", "--source", "in")
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    report = json.loads((tmp_path / "data" / "raw-report.json").read_text())
    assert (report["images"], report["dropped"]) == (6, {})
    assert report["repaired"] == {"image: its file was found under another form of its name": 1}
    manifest = (tmp_path / "data" / "raw-manifest.csv").read_text(encoding="utf-8")
    assert "photos/\\udce9t\\udce9.png," in manifest
    assert "\\udce9t\\udce9.json,\ufffdt\ufffd.png,1," in (tmp_path / "data" / "raw-changes.csv").read_text(
        encoding="utf-8"
    )
