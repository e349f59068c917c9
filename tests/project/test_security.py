"""Attacks that are no one module's, and that SECURITY.md says nothing that no test shows."""

from __future__ import annotations

import ast
import http.server
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import onnx
import pytest
import torch
import yaml
from yarl import URL

from seamline.base.errors import SeamlineError
from seamline.base.process import QUIET, quiet_environment
from seamline.images.files import inspect
from seamline.images.reading import ImageError, read_image
from seamline.ingest.archives import unpacked
from seamline.ingest.remote import retries as patience
from seamline.ingest.remote.cache import ObjectCache
from seamline.ingest.remote.fetch import fetch
from seamline.ingest.remote.objects import RemoteObject
from seamline.ingest.remote.web import check_secure
from seamline.models.engines.onnx import OnnxEngine
from seamline.models.engines.opening import open_engine
from seamline.models.engines.openvino import OpenVinoEngine
from seamline.params.loading.loader import load_params
from seamline.training.checkpoints import STATE, read_state
from seamline.training.yolo_data import linked_dataset
from tests import warm
from tests.conftest import PARAMS, PROJECT, Project, write_dataset
from tests.stages.test_stage import is_one_sentence, run_stage, with_params
from tests.untrained import Untrained


class Touch:
    """Makes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return Path.touch, (self.marker,)


# Models that are data


@pytest.mark.parametrize("location", ["/etc/passwd", "../secret", "inside/../../secret", "link", "file:///etc/passwd"])
def test_onnx_reads_no_weights_from_elsewhere(location: str, untrained: Untrained, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    (folder / "inside").mkdir(parents=True)
    (tmp_path / "secret").write_bytes(bytes(1 << 20))
    (folder / "link").symlink_to(tmp_path / "secret")
    model = onnx.load(untrained.models()["onnx"])
    weight = max(model.graph.initializer, key=lambda one: len(one.raw_data))
    size = len(weight.raw_data)
    weight.ClearField("raw_data")
    weight.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", str(size))):
        entry = weight.external_data.add()
        entry.key, entry.value = key, value
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(SeamlineError, match=r"model\.onnx: cannot be opened as a model") as error:
        open_engine(folder / "model.onnx", threads=1)
    assert "\n" not in str(error.value)
    for entry in weight.external_data:  # and so the model itself is none that cannot be opened
        entry.value = "own" if entry.key == "location" else entry.value
    (folder / "own").write_bytes(bytes(size))
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    assert isinstance(open_engine(folder / "model.onnx", threads=1), OnnxEngine)


def openvino_with(untrained: Untrained, folder: Path, change: Callable[[str], str]) -> Path:
    shutil.copytree(untrained.models()["openvino"], folder)
    path = folder / "model.xml"
    path.chmod(0o644)
    before = path.read_text(encoding="utf-8")
    path.write_text(change(before), encoding="utf-8")
    assert path.read_text(encoding="utf-8") != before
    return folder


def test_openvino_resolves_no_entity(untrained: Untrained, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("SECRET")
    doctype = f'<!DOCTYPE net [<!ENTITY file SYSTEM "file://{tmp_path}/secret"><!ENTITY ten "{10 * "x"}">]>'

    def change(text: str) -> str:
        declared = re.sub(r"(<\?xml[^>]*\?>)", rf"\1{doctype}", text)
        return declared.replace("short sleeve top", "&file; &ten;")

    engine = open_engine(openvino_with(untrained, tmp_path / "model", change), threads=1)
    assert isinstance(engine, OpenVinoEngine)
    assert engine.facts.names[0] == "&file; &ten;"


@pytest.mark.parametrize(
    ("pattern", "replacement"),
    [
        (r'version="opset1"', 'version="extension"'),
        (r'type="Convolution"', 'type="Evil"'),
        (r'offset="\d+"', 'offset="99999999999999"'),
        (r' size="\d+"', ' size="99999999999999"'),
        (r'offset="\d+"', 'offset="-8"'),
    ],
)
def test_openvino_takes_nothing_but_its_own_layers_and_weights(
    pattern: str, replacement: str, untrained: Untrained, tmp_path: Path
) -> None:
    folder = openvino_with(untrained, tmp_path / "model", lambda text: re.sub(pattern, replacement, text))
    with pytest.raises(SeamlineError, match="model: cannot be opened as a model") as error:
        open_engine(folder, threads=1)
    assert "\n" not in str(error.value)


# Archives


def tar_with(path: Path, kind: bytes, linkname: str) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, kind_of, target in (("good.txt", tarfile.REGTYPE, ""), ("bad", kind, linkname)):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind_of, target
            archive.addfile(member)
    return path


@pytest.mark.parametrize(
    ("kind", "linkname"),
    [
        (tarfile.LNKTYPE, "/etc/passwd"), (tarfile.LNKTYPE, "missing.txt"), (tarfile.SYMTYPE, "../.."),
        (tarfile.SYMTYPE, "good.txt"), (tarfile.CHRTYPE, ""), (tarfile.BLKTYPE, ""), (tarfile.FIFOTYPE, ""),
    ],
)  # fmt: skip
def test_a_tar_makes_no_link_and_no_device(kind: bytes, linkname: str, tmp_path: Path) -> None:
    """A hard link to a file of the same archive is a copy of that file, and the one link that is taken."""
    with pytest.raises(SeamlineError, match=r"a\.tar: the (member 'bad'|name '/etc/passwd')"):
        unpacked(tar_with(tmp_path / "a.tar", kind, linkname), tmp_path / "scratch")
    assert not [path for path in (tmp_path / "scratch").rglob("*") if path.is_file()]


def test_archives_in_archives_come_to_an_end(tmp_path: Path) -> None:
    data = b"end"
    for _ in range(30):
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("a.zip", data)
            archive.writestr("b.zip", data)
        data = stream.getvalue() if len(stream.getvalue()) < 1 << 20 else data
    (tmp_path / "a.zip").write_bytes(data)
    folder = unpacked(tmp_path / "a.zip", tmp_path / "scratch")
    assert len([path for path in folder.rglob("*") if path.is_file()]) <= 2**4


def test_two_members_of_one_name_are_one_file_in_the_folder(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for content in ("first", "second"):
            archive.writestr("a.txt", content)
        archive.writestr("b.txt", "other")
    folder = unpacked(tmp_path / "a.zip", tmp_path / "scratch")
    assert {path.name: path.read_text() for path in folder.iterdir()} == {"a.txt": "second", "b.txt": "other"}


# Text files


def bomb(levels: int = 12) -> str:
    """A list of ten to the power of `levels`, in flow style."""
    anchors = [f"a0: &a0 [{', '.join('x' * 10)}]"]
    anchors += [f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]" for level in range(1, levels)]
    return "{" + ", ".join(anchors) + "}"


@pytest.mark.parametrize("key", ["pull.source", "train.epochs", "subset.classes", "sweep.space", "anything"])
def test_a_bomb_in_params_yaml_is_one_short_sentence(key: str, tmp_path: Path) -> None:
    text = PARAMS.read_text()
    if key == "anything":
        text += f"\nanything: {bomb()}\n"
    else:
        section, _, name = key.partition(".")
        values = {**yaml.safe_load(text)[section], name: "BOMB"}
        rest = {other: value for other, value in yaml.safe_load(text).items() if other != section}
        text = yaml.safe_dump({**rest, section: values}).replace(f"{name}: BOMB", f"{name}: {bomb()}")
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(SeamlineError, match=r"params\.yaml") as error:
        load_params(tmp_path / "params.yaml")
    assert len(str(error.value)) < 2000


TAGS = (
    "!!python/object/apply:os.system ['touch PWNED']",
    "!!python/name:os.system",
    "!!python/object/new:os.system [x]",
)


@pytest.mark.parametrize("tag", TAGS)
def test_a_tag_in_params_yaml_makes_no_object(tag: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text(PARAMS.read_text() + f"\nmore: {tag}\n")
    with pytest.raises(SeamlineError, match=r"params\.yaml: is not YAML"):
        load_params(tmp_path / "params.yaml")
    assert not (tmp_path / "PWNED").exists()


def test_nor_in_a_recipe(tmp_path: Path) -> None:
    with_params(tmp_path, {})
    (tmp_path / "mine.yaml").write_text(f"pull: {{annotations: {TAGS[0]}}}\n")
    before = (tmp_path / "params.yaml").read_bytes()
    done = warm.run(["python", "-m", "seamline", "recipe", "mine.yaml", "photos"], tmp_path)
    assert is_one_sentence(done, "params.yaml: is not YAML"), done.stderr
    assert not (tmp_path / "PWNED").exists()
    assert (tmp_path / "params.yaml").read_bytes() == before


# Images


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 90 90\n%%EndComments\n(PWNED) (w) file closefile\n%%EOF\n"
PAGES = {
    "eps": EPS,
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg" width="90" height="90"><script>alert(1)</script></svg>',
    "html": b"<html><script>alert(1)</script></html>",
    "mvg": b"push graphic-context\nfill 'url(https://example.com/x.jpg\"|touch PWNED\")'\npop graphic-context\n",
    "npy": b"\x93NUMPY\x01\x00",
}


@pytest.mark.parametrize("kind", PAGES)
def test_a_photo_that_is_a_program_is_not_run(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow hands EPS over to Ghostscript, whatever the file is called."""
    (tmp_path / "gs").write_text(f"#!/bin/sh\ntouch {tmp_path}/PWNED\n")
    (tmp_path / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.chdir(tmp_path)
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(PAGES[kind])
    assert isinstance(inspect(photo), str)
    with pytest.raises(ImageError):
        read_image(photo)
    assert not (tmp_path / "PWNED").exists()


@pytest.mark.parametrize("name", ["\x1b]0;title\x07", "\x1b[2J", "a\nb", "\x9b31m", "nul\0"])
def test_a_name_is_not_a_command_to_a_terminal(name: str, tmp_path: Path) -> None:
    write_dataset(tmp_path / "in", categories=[{"id": 1, "name": name}, {"id": 2, "name": "日本 👩\u200d🦰"}])
    with_params(tmp_path, {})
    done = run_stage("pull", tmp_path, "raw", "--source=in")
    assert is_one_sentence(done, "has a control character in its name"), done.stderr
    assert name not in done.stderr


# What lies beside the data, or in .seamline


def test_nothing_that_lies_beside_the_data_is_opened_or_run(untrained: Untrained, tmp_path: Path) -> None:
    """ultralytics keeps what it has read of labels in a pickle beside them, and opens one that lies there."""
    from ultralytics.data.dataset import YOLODataset

    yolo, split, marker = tmp_path / "yolo", tmp_path / "split", tmp_path / "PWNED"
    shutil.copytree(untrained.images_folder, yolo / "images")
    (yolo / "labels").mkdir()
    split.mkdir()
    names = [path.name for path in sorted((yolo / "images").iterdir())][:2]
    for name in names:
        (yolo / "labels" / name).with_suffix(".txt").write_text("0 0.1 0.1 0.9 0.1 0.9 0.9\n")
    for part in ("train", "val"):
        (split / f"{part}.txt").write_text("".join(f"./images/{name}\n" for name in names))
    script = f"open({str(marker)!r}, 'w')"  # which ultralytics runs where a dataset is not there
    (split / "data.yaml").write_text(yaml.safe_dump({"names": {0: "top"}, "download": script}))
    target = tmp_path / "scratch"
    (target / "train").mkdir(parents=True)
    beside = ("yolo/labels.cache", "yolo/labels/labels.cache", "split/train.cache", "scratch/train/labels.cache")
    for place in beside:
        with (tmp_path / place).open("wb") as stream:
            np.save(stream, np.array(Touch(marker), dtype=object), allow_pickle=True)
    np.load(tmp_path / beside[0], allow_pickle=True)
    assert marker.exists()  # so they would do harm
    marker.unlink()
    listing = linked_dataset(split, yolo, target)
    loaded = YOLODataset(
        img_path=str(listing.with_name("train.txt")), data=yaml.safe_load(listing.read_text()), task="segment", imgsz=32
    )
    assert len(loaded.labels) == 2
    assert "download" not in yaml.safe_load(listing.read_text())
    assert not marker.exists()


def test_an_index_edited_by_hand_reaches_nothing(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    folder = tmp_path / "pull" / "kept"
    folder.mkdir(parents=True)
    for key in ("../../../victim", str(victim), "objects/../../../victim"):
        row = {"key": key, "size": 4, "etag": "1", "version": "", "sha256": "0" * 64}
        (folder / "kept.jsonl").write_text(json.dumps(row) + "\n")
        kept = ObjectCache(folder)
        (folder / "objects" / "out").unlink(missing_ok=True)
        (folder / "objects" / "out").symlink_to(victim)
        wanted = [RemoteObject("a.jpg", 4, "1")]
        assert kept.missing(wanted) == wanted
        kept.make_room(wanted)
        assert victim.read_text() == "mine"
        assert (folder / "kept.jsonl").read_text() == ""


# The web


class Redirects(http.server.BaseHTTPRequestHandler):
    target: ClassVar[str]
    port: ClassVar[int]
    credentials: ClassVar[list[str | None]]

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def answer(self) -> None:
        self.credentials.append(self.headers.get("Authorization"))
        self.send_response(302 if self.path == "/a.zip" else 404)
        self.send_header("Location", self.target)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Redirects]]:
    monkeypatch.setattr(patience, "FIRST_DELAY_S", 0.01)

    class Handler(Redirects):
        credentials: ClassVar[list[str | None]] = []

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        Handler.port = running.server_port
        threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True).start()
        yield Handler
        running.shutdown()


@pytest.mark.parametrize(
    "target", ["file:///etc/passwd", "ftp://127.0.0.1/a.zip", "data:application/zip,x", "s3://bucket/a.zip"]
)
def test_a_redirect_does_not_leave_the_web(target: str, server: Any, tmp_path: Path) -> None:
    server.target = target
    with pytest.raises(SeamlineError, match=r"leads away from the web; allowed are https:// and http://"):
        fetch(f"http://127.0.0.1:{server.port}/a.zip", tmp_path / "scratch")


def test_a_redirect_takes_no_password_to_another_host(
    server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password secret\n")
    (tmp_path / ".netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    server.target = f"http://localhost:{server.port}/b.zip"
    with pytest.raises(SeamlineError, match="there is nothing at"):
        fetch(f"http://127.0.0.1:{server.port}/a.zip", tmp_path / "scratch")
    first, second = server.credentials[:2]
    assert first is not None and first.startswith("Basic ")
    assert second is None


def test_a_redirect_from_https_to_http_is_refused() -> None:
    def answer(*hops: str) -> Any:
        history = [SimpleNamespace(url=URL(hop)) for hop in hops[:-1]]
        return SimpleNamespace(url=URL(hops[-1]), history=history)

    check_secure(answer("https://a/x.zip", "https://b/x.zip"), "https://a/x.zip")
    check_secure(answer("http://a/x.zip", "https://b/x.zip"), "http://a/x.zip")
    for hops in (("https://a/x.zip", "http://b/x.zip"), ("https://a/x.zip", "http://b/x.zip", "https://c/x.zip")):
        with pytest.raises(SeamlineError, match=r"https://a/x\.zip leads from https to http"):
            check_secure(answer(*hops), "https://a/x.zip")


# The environment


def test_no_variable_has_libraries_install_or_report(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in QUIET:
        monkeypatch.setenv(name, "true" if QUIET[name] == "false" else "0")
    monkeypatch.setenv("YOLO_CONFIG_DIR", "/nonexistent")
    quiet_environment()
    assert {name: os.environ[name] for name in QUIET} == QUIET
    assert os.environ["YOLO_CONFIG_DIR"] != "/nonexistent"


def test_no_variable_or_file_beside_it_has_an_engine_load_a_library(untrained: Untrained, tmp_path: Path) -> None:
    """One that cannot be loaded would end in an error, if it were looked for."""
    (tmp_path / "libevil.so").write_bytes(b"no library")
    plugins = tmp_path / "plugins.xml"
    plugins.write_text('<ie><plugins><plugin name="CPU" location="./libevil.so"/></plugins></ie>')
    variables = {
        "OV_PLUGINS_PATH": str(plugins), "OPENVINO_LIB_PATHS": str(tmp_path), "OPENVINO_EXTENSIONS": "libevil.so",
        "ORT_CUSTOM_OPS": "libevil.so", "ORT_DYLIB_PATH": str(tmp_path / "libevil.so"),
    }  # fmt: skip
    script = (
        "import sys; from seamline.models.engines.opening import open_engine; from pathlib import Path\n"
        "for path in sys.argv[1:]: print(open_engine(Path(path), threads=1).facts.imgsz)\n"
    )
    models = [str(untrained.models()[name]) for name in ("onnx", "openvino")]
    done = subprocess.run(
        [sys.executable, "-c", script, *models], cwd=tmp_path, capture_output=True, text=True,
        env={**os.environ, **variables, "PYTHONPATH": str(PROJECT)},
    )  # fmt: skip
    assert done.stdout.split() == ["96", "96"], done.stderr


# SECURITY.md

SHOWN_BY = {
    "Weights": [
        "models/test_weights::test_no_weights_are_executed", "models/test_weights::test_every_opener_refuses",
        "models/test_weights::test_no_package_is_installed_for_a_file",
    ],
    "Descriptions of models": [
        "models/test_weights::test_no_description_is_executed",
        "models/test_weights::test_no_tag_of_yaml_makes_an_object",
    ],
    "ONNX and OpenVINO models": [
        "project/test_security::test_onnx_reads_no_weights_from_elsewhere",
        "project/test_security::test_openvino_resolves_no_entity",
        "project/test_security::test_openvino_takes_nothing_but_its_own_layers_and_weights",
        "project/test_security::test_no_variable_or_file_beside_it_has_an_engine_load_a_library",
    ],
    "Archives": [
        "ingest/test_archives::test_a_member_that_leads_outside_is_refused",
        "ingest/test_archives::test_a_link_is_refused",
        "ingest/test_archives::test_an_archive_that_unpacks_to_a_thousand_times_its_size_is_refused",
        "project/test_security::test_a_tar_makes_no_link_and_no_device",
        "ingest/test_archives::test_nor_may_archives_inside_it_together",
    ],
    "Names in a bucket": ["ingest/test_downloads::test_keys_that_are_no_file_names_are_refused_and_nothing_is_fetched"],
    "Annotations": [
        "base/test_coco::test_stages_take_nothing_from_elsewhere",
        "base/test_coco::test_a_link_that_leads_outside_is_refused",
        "base/test_coco::test_a_name_that_leads_elsewhere_is_refused_wherever_images_are_read",
    ],
    "Photos": [
        "project/test_security::test_a_photo_that_is_a_program_is_not_run",
        "images/test_reading::test_a_file_that_is_too_large_is_refused_before_it_is_decoded",
    ],
    "YAML and JSON": [
        "project/test_security::test_a_bomb_in_params_yaml_is_one_short_sentence",
        "project/test_security::test_a_tag_in_params_yaml_makes_no_object",
        "project/test_security::test_nor_in_a_recipe",
        "base/test_coco::test_json_that_is_nested_without_end_is_one_sentence",
    ],
    "Names in commands": [
        "stages/test_pipeline::test_no_command_of_dvc_yaml_takes_a_value_of_the_users",
        "stages/test_pipeline::test_a_folders_name_is_only_a_name",
    ],
    "Names in what people open": [
        "report/test_report::test_a_name_cannot_break_out_of_the_page_or_of_a_table",
        "base/test_escaping::test_a_name_is_seen_as_it_is_and_does_nothing",
        "project/test_security::test_a_name_is_not_a_command_to_a_terminal",
        "photos/test_predicting::test_a_name_is_not_a_command_to_a_terminal",
        "photos/test_predicting::test_a_table_for_people_has_no_formula_and_files_for_programs_every_name_as_it_is",
        "ingest/test_changes::test_whatever_a_photo_is_called_its_row_is_read_back_and_is_not_a_formula",
    ],
    "What lies beside the data": ["project/test_security::test_nothing_that_lies_beside_the_data_is_opened_or_run"],
    "Addresses": [
        "photos/test_predicting::test_what_names_nothing_is_one_sentence",
        "ingest/test_fetch::test_a_source_that_is_not_there_is_one_sentence",
    ],
    "Servers": [
        "project/test_security::test_a_redirect_does_not_leave_the_web",
        "project/test_security::test_a_redirect_takes_no_password_to_another_host",
        "project/test_security::test_a_redirect_from_https_to_http_is_refused",
    ],
    "URLs in requests": [
        "service/test_from_urls::test_urls_are_refused_unless_they_are_switched_on",
        "service/test_fetching::test_an_address_is_refused_however_it_is_written",
        "service/test_fetching::test_the_address_that_was_checked_is_the_one_connected_to",
        "service/test_fetching::test_a_redirect_is_checked_as_the_url_was",
    ],
    "Secrets": [
        "base/test_urls::test_an_address_is_shown_without_secrets",
        "project/test_containers::test_labels_and_no_secret",
        "params/test_loader::test_a_wrong_value_is_one_sentence_with_its_key",
        "stages/test_bucket::test_no_secret_is_in_the_lock_or_anywhere_in_git",
    ],
    "No code of the current folder": [
        "project/test_dvc_hint::test_nothing_of_the_current_folder_is_executed",
        "stages/test_stage::test_a_stage_of_another_checkout_is_refused",
    ],
    "Nothing phones home": [
        "models/test_engines::test_onnxruntime_reports_nothing",
        "project/test_packaging::test_pip_install_into_an_empty_environment_predicts_and_reports_nothing",
        "project/test_security::test_no_variable_has_libraries_install_or_report",
    ],
    "The home folder": [
        "stages/test_pipeline::test_nothing_is_left_in_the_home",
        "project/test_packaging::test_an_empty_folder_has_the_output_and_nothing_else",
        "models/test_engines::test_ultralytics_settings_are_where_its_user_wants_them_and_never_in_the_home",
        "stages/test_pipeline::test_training_needs_no_network_and_no_home_and_leaves_the_data_alone",
    ],
    ".seamline": [
        "project/test_security::test_an_index_edited_by_hand_reaches_nothing",
        "ingest/test_downloads::test_what_is_kept_is_not_believed",
        "project/test_security::test_a_state_of_training_is_opened_as_data",
    ],
    "Container images": ["project/test_containers::test_it_runs_as_a_user_by_number_who_is_not_root"],
    "Packages": [
        "project/test_containers::test_both_requirements_pin_the_same_versions",
        "project/test_workflows::test_every_make_target_is_there",
        "project/test_workflows::test_the_hooks_are_what_make_lint_checks",
    ],
    "The code": ["project/test_security::test_dvc_runs_what_dvc_yaml_says"],
    "ULTRALYTICS_SAFE_LOAD=0": ["models/test_weights::test_who_trusts_a_file_says_so"],
    "Your own folders": ["ingest/test_archives::test_archives_in_a_folder_are_unpacked_and_the_rest_is_linked_to"],
    "Who gets the report": ["report/test_report::test_more_pictures_than_fit_stay_in_their_folder"],
}  # fmt: skip


def test_each_line_of_security_md_has_a_test_and_each_test_is_there() -> None:
    lines = [line for line in (PROJECT / "SECURITY.md").read_text().splitlines() if line.startswith("- ")]
    assert [re.match(r"- \*\*(.+?)\*\*", line)[1] for line in lines] == list(SHOWN_BY)  # type: ignore[index]
    for name in (name for names in SHOWN_BY.values() for name in names):
        module, _, test = name.partition("::")
        tree = ast.parse((PROJECT / "tests" / f"{module}.py").read_text())
        assert test in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, name


def test_a_state_of_training_is_opened_as_data(tmp_path: Path) -> None:
    torch.save({"epoch": 1, "history": [], "finished": True, "more": Touch(tmp_path / "PWNED")}, tmp_path / STATE)
    with pytest.raises(SeamlineError, match="the state of an interrupted training cannot be read"):
        read_state(tmp_path)
    assert not (tmp_path / "PWNED").exists()


@pytest.mark.slow
def test_dvc_runs_what_dvc_yaml_says(project: Project) -> None:
    (project.root / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"theirs": {"cmd": "touch PWNED"}}}))
    project.run("dvc", "repro")
    assert (project.root / "PWNED").exists()
