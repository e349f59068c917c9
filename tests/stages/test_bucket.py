"""The pipeline on a bucket: what changed is pulled and rebuilt, results travel by a remote, and killed pulls go on."""

from __future__ import annotations

import csv
import io
import itertools
import json
import random
import shutil
import socket
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from PIL import Image

from samples.serve_bucket import upload
from tests.conftest import PROJECT, Project, write_dataset
from tests.s3 import CREDENTIALS, Bucket, Request, status
from tests.stages.test_repro import STAGES
from tests.stages.test_stage import with_params

pytestmark = pytest.mark.slow
SAMPLE = PROJECT / "samples" / "garments.zip"


class Pulled(NamedTuple):
    project: Project
    bucket: Bucket
    ran: list[str]  # stages that ran when the source became the bucket


def sample_objects() -> dict[str, bytes]:
    with zipfile.ZipFile(SAMPLE) as archive:
        return {f"garments/{name}": archive.read(name) for name in archive.namelist() if not name.endswith("/")}


def ten_more(objects: dict[str, bytes]) -> dict[str, bytes]:
    """Ten photos of outfits of their own, and the annotation file that has them."""
    coco: dict[str, Any] = json.loads(objects["garments/annotations.json"])
    added: dict[str, bytes] = {}
    for number, image in enumerate(list(coco["images"][:10]), 9001):
        name = f"{number}.jpg"
        stream = io.BytesIO()
        Image.open(io.BytesIO(objects[f"garments/images/{image['file_name']}"])).save(stream, "JPEG", quality=70)
        added[f"garments/images/{name}"] = stream.getvalue()
        coco["images"].append({**image, "id": number, "file_name": name, "pair_id": number})
        for record in [record for record in coco["annotations"] if record["image_id"] == image["id"]]:
            coco["annotations"].append({**record, "id": 9001 + len(coco["annotations"]), "image_id": number})
    return {**added, "garments/annotations.json": json.dumps(coco).encode()}


def manifest(project: Project) -> dict[str, dict[str, str]]:
    with (project.root / "data" / "manifest.csv").open() as stream:
        return {row["key"]: row for row in csv.DictReader(stream)}


@pytest.fixture(scope="module")
def pulled(finished: Project, s3_server: Any, tmp_path_factory: pytest.TempPathFactory) -> Pulled:
    """A finished project whose source becomes a bucket with the very same data."""
    bucket = Bucket(s3_server)
    bucket.put(sample_objects())
    project = finished.copy(tmp_path_factory.mktemp("bucket") / "project")
    project.environment |= bucket.environment
    project.change({"pull": {"source": bucket.url("garments")}})
    ran = project.stages_run()
    project.commit("from a bucket")
    return Pulled(project, bucket, ran)


def test_the_same_data_from_a_bucket_change_nothing_below(pulled: Pulled) -> None:
    # attributes asks whether the source is the sample's; the report says where the data are from.
    assert pulled.ran == ["pull", "attributes", "report"]
    rows = manifest(pulled.project)
    assert rows.keys() == {key.removeprefix("garments/") for key in sample_objects()}
    for key, row in rows.items():
        head = pulled.bucket.client.head_object(Bucket=pulled.bucket.name, Key=f"garments/{key}")
        assert int(row["size"]) == head["ContentLength"] or key == "annotations.json"


def test_nothing_changed_is_nothing_to_do_and_nothing_fetched(pulled: Pulled) -> None:
    pulled.bucket.proxy.requests.clear()
    assert pulled.project.stages_run() == []
    assert not pulled.bucket.proxy.fetched()


def test_no_secret_is_in_the_lock_or_anywhere_in_git(pulled: Pulled) -> None:
    secrets = "|".join(CREDENTIALS[name] for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"))
    tracked = pulled.project.run("git", "grep", "-lE", secrets, check=False).stdout
    assert tracked.split() == ["tests/s3.py"]  # where they are made up
    lock = yaml.safe_load((pulled.project.root / "dvc.lock").read_text())
    assert lock["stages"]["pull"]["deps"][0]["path"] == pulled.bucket.url("garments")


def test_a_bucket_out_of_reach_is_reported_with_what_to_do_and_that_works(pulled: Pulled, tmp_path: Path) -> None:
    offline = pulled.project.copy(tmp_path / "offline")
    offline.environment["AWS_MAX_ATTEMPTS"] = "2"  # so that nobody waits long
    with socket.socket() as taken:  # bound and not listening: refused
        taken.bind(("127.0.0.1", 0))
        offline.environment |= {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{taken.getsockname()[1]}"}
        done = offline.run("dvc", "repro", check=False)
        assert done.returncode != 0
        assert "Could not connect to the endpoint URL" in done.stderr
        assert "`dvc repro --downstream subset` uses what was pulled before" in done.stderr
        assert "Traceback" not in done.stderr
        offline.change({"report": {"title": "Offline"}})
        assert offline.stages_run("--downstream", "subset") == ["report"]
        assert offline.run("dvc", "status", check=False).stderr.count("uses what was pulled before") == 1
        # A pull that fails after DVC has taken its outputs away: the way back that its message names.
        done = offline.run(
            "python", "-m", "stages.pull", "data/raw", "--source", pulled.bucket.url("garments"), check=False
        )
        assert done.returncode == 1
        assert "cannot be reached" in done.stderr
        assert "dvc checkout data/raw && dvc repro --downstream subset" in done.stderr
        shutil.rmtree(offline.root / "data" / "raw")
        offline.run("dvc", "checkout", "data/raw")
        assert offline.stages_run("--downstream", "subset") == []


def test_other_errors_of_dvc_get_no_hint(pulled: Pulled) -> None:
    done = pulled.project.run("dvc", "repro", "nonsense", check=False)
    assert done.returncode != 0
    assert "goes on" not in done.stderr


def test_results_travel_to_another_clone(pulled: Pulled, tmp_path: Path) -> None:
    project, bucket = pulled.project, pulled.bucket
    project.run("dvc", "remote", "add", "--force", "--default", "storage", bucket.url("dvc"))
    project.commit("a remote")
    project.run("dvc", "push")
    project.run("git", "clone", "--quiet", str(project.root), str(tmp_path / "clone"))
    clone = Project(tmp_path / "clone", project.environment)
    assert not (clone.root / "data").exists()
    clone.run("dvc", "pull")
    for name in ("data/raw/images/000001.jpg", "data/manifest.csv", "models/train/best.pt", "reports/metrics.json"):
        assert (clone.root / name).read_bytes() == (project.root / name).read_bytes()
    assert clone.stages_run() == []
    assert clone.run("git", "status", "--porcelain").stdout == ""
    artifacts = yaml.safe_load((project.root / "dvc.yaml").read_text())["artifacts"]
    for name, version in (("garments-openvino-int8", []), ("garments-pytorch", ["--rev", "v1.0.0"])):
        project.run("git", "tag", "-a", f"{name}@v1.0.0", "-m", "first")
        clone.run("dvc", "artifacts", "get", str(project.root), name, *version, "--out", str(tmp_path / name))
        source = project.root / artifacts[name]["path"]
        for path in [source] if source.is_file() else sorted(source.iterdir()):
            got = tmp_path / name if source.is_file() else tmp_path / name / path.name
            assert got.read_bytes() == path.read_bytes()


def test_ten_more_photos_are_all_that_is_fetched_and_everything_is_to_be_rebuilt(
    pulled: Pulled, tmp_path: Path
) -> None:
    """The last one with this bucket. Stages from train on are not run, which is a minute's work, but are stale."""
    project, bucket = pulled.project.copy(tmp_path / "grown"), pulled.bucket
    before = manifest(project)
    bucket.proxy.requests.clear()
    bucket.put(ten_more(sample_objects()))
    assert sorted(project.stages_run("convert", "split")) == sorted(STAGES[:4])
    new = {f"images/{number}.jpg" for number in range(9001, 9011)}
    assert bucket.proxy.fetched() == dict.fromkeys((f"garments/{key}" for key in {*new, "annotations.json"}), 1)
    # The kept objects, data/raw, and DVC's cache are links to one file.
    (kept,) = (project.root / ".seamline" / "pull").glob("*/objects/images/9001.jpg")
    assert kept.stat().st_ino == (project.root / "data" / "raw" / "images" / "9001.jpg").stat().st_ino
    after = manifest(project)
    assert after.keys() - before.keys() == new
    assert {key for key in before if before[key] != after[key]} == {"annotations.json"}
    report = json.loads((project.root / "reports" / "pull.json").read_text())
    assert report["images"] == 432 + 10
    assert report["source"]["objects"] == 433 + 10
    assert list(json.loads(project.run("dvc", "status", "--json").stdout)) == STAGES[4:]


def test_every_artifact_is_an_output() -> None:
    values = yaml.safe_load((PROJECT / "dvc.yaml").read_text())
    outs = [out for stage in values["stages"].values() for out in stage["outs"] if isinstance(out, str)]
    for artifact in values["artifacts"].values():
        assert any(artifact["path"] == out or artifact["path"].startswith(f"{out}/") for out in outs)


@pytest.fixture
def watched(bucket: Bucket, tmp_path: Path) -> Project:
    """A project whose only stage has a bucket as its source, and runs change.py."""
    project = Project(tmp_path / "watched")
    project.root.mkdir()
    project.environment["DVC_NO_ANALYTICS"] = "1"  # dvc init would keep an id in the home
    (project.root / "params.yaml").write_text(f"pull: {{source: '{bucket.url('data')}'}}\n")
    (project.root / "change.py").write_text("import pathlib; pathlib.Path('out').touch()\n")
    stage = {"cmd": "python change.py", "deps": ["${pull.source}"], "outs": ["out"]}
    (project.root / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"pull": stage}}))
    project.run("git", "init", "--quiet")
    project.run("dvc", "init", "--quiet")
    return project


def test_a_change_made_while_pull_ran_is_noted_and_its_undoing_seen(watched: Project, bucket: Bucket) -> None:
    """pull has the change, by its last listing; DVC would note the listing from before and see nothing ever after."""
    bucket.put({"data/a": b"A", "data/b": b"b"})
    put = f"boto3.client('s3').put_object(Bucket='{bucket.name}', Key='data/a', Body=b'B')"
    (watched.root / "change.py").write_text(f"import boto3, pathlib\n{put}\npathlib.Path('out').touch()\n")
    watched.run("dvc", "repro")
    assert "up to date" in watched.run("dvc", "status").stdout
    bucket.put({"data/a": b"A"})
    assert bucket.url("data") in watched.run("dvc", "status").stdout


@pytest.mark.parametrize(("number", "code"), [(403, "InvalidAccessKeyId"), (400, "ExpiredToken")])
def test_a_bucket_that_refuses_is_named_with_how_to_go_on(
    watched: Project, bucket: Bucket, number: int, code: str
) -> None:
    """DVC's own message says no more than that something is forbidden."""
    bucket.put({"data/a": b"A"})
    bucket.proxy.rules = [lambda request: status(number, code)]
    done = watched.run("dvc", "repro", check=False)
    assert done.returncode != 0
    assert f"pull.source cannot be read just now: {bucket.url('data')}\n`dvc repro --downstream subset`" in done.stderr


@pytest.mark.parametrize("scheme", ["s3", "http"])
def test_an_archive_is_pulled_again_exactly_when_it_changed(
    project: Project, bucket: Bucket, tmp_path: Path, scheme: str
) -> None:
    def upload(count: int) -> None:
        folder = write_dataset(tmp_path / str(count), count)
        archive = shutil.make_archive(str(tmp_path / "photos"), "zip", folder)
        body = Path(archive).read_bytes()
        bucket.client.put_object(Bucket=bucket.name, Key="photos.zip", Body=body, ACL="public-read")

    web = f"{bucket.proxy.endpoint}/{bucket.name}/photos.zip"
    project.environment |= bucket.environment
    project.change({"pull": {"source": bucket.url("photos.zip") if scheme == "s3" else web}})
    for count in (6, 7):
        upload(count)
        assert project.stages_run("pull") == ["pull"]
        assert json.loads((project.root / "reports" / "pull.json").read_text())["images"] == count
        assert project.stages_run("pull") == []


def test_make_bucket_uploads_what_its_line_pulls(bucket: Bucket, tmp_path: Path) -> None:
    assert upload(f"http://127.0.0.1:{bucket.proxy.upstream}") == 434
    with_params(tmp_path, {})
    command = [sys.executable, "-m", "stages.pull", "data/raw", "--source", "s3://garments/garments.zip"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "coco: 432 images, 1262 annotations, 9 categories" in done.stdout


@pytest.mark.thorough
def test_a_pull_killed_at_ten_random_moments_ends_in_the_same_place(bucket: Bucket, tmp_path: Path) -> None:
    """What was whole is not fetched again, and data/raw is never there in part."""
    objects = sample_objects()
    chosen = sorted(objects)[:160]
    coco = json.loads(objects["garments/annotations.json"])
    names = {Path(key).name for key in chosen}
    coco["images"] = [image for image in coco["images"] if image["file_name"] in names]
    numbers = {image["id"] for image in coco["images"]}
    coco["annotations"] = [record for record in coco["annotations"] if record["image_id"] in numbers]
    bucket.put({key: objects[key] for key in chosen} | {"garments/annotations.json": json.dumps(coco).encode()})
    bucket.put_in_parts("garments/large.bin", [bytes([number]) * (8 << 20) for number in range(10)])
    out = tmp_path / "data" / "raw"
    with_params(tmp_path, {})
    command = [sys.executable, "-m", "stages.pull", "--source", bucket.url("garments"), str(out)]

    rng = random.Random(0)
    kills = 0
    for _ in range(10):
        # Ten times as many do not make the whole: no pull comes to its end, however fast the machine.
        left, reached, killed = itertools.count(-rng.randrange(1, 16)), threading.Event(), threading.Event()

        def hold(
            request: Request, left: Any = left, reached: threading.Event = reached, killed: threading.Event = killed
        ) -> None:
            if request.method == "GET" and next(left) >= 0:
                reached.set()
                killed.wait(120)

        bucket.proxy.before = hold
        running = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        assert reached.wait(60)
        time.sleep(rng.uniform(0, 0.05))
        running.kill()
        kills += running.wait() < 0
        killed.set()
        assert not out.exists()
    assert kills == 10
    bucket.proxy.before = lambda request: None
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    fetched = bucket.proxy.fetched()
    # Each kill costs at most what was under way: as many requests as there are connections.
    assert sum(fetched[key] for key in chosen) <= len(chosen) + 10 * 16

    again = tmp_path / "undisturbed"
    again.mkdir()
    with_params(again, {})
    subprocess.run([*command[:-1], str(again / "data" / "raw")], cwd=again, check=True, capture_output=True)
    assert contents(out) == contents(again / "data" / "raw")
    assert (tmp_path / "data" / "raw-manifest.csv").read_bytes() == (again / "data" / "raw-manifest.csv").read_bytes()
    assert not list((tmp_path / ".seamline" / "pull").rglob("*.part"))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
