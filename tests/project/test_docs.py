"""The documentation does what it says: commands and Python are run, links lead somewhere, tables are the code's."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import onnx
import pytest
import yaml
from PIL import Image

from bench.verdicts import share_said
from docs.make_parameters import page, params_to_rows
from seamline.params.loading.loader import load_params
from tests.conftest import PARAMS, PROJECT, REPORTS, Project, merged, write_dataset
from tests.project.test_workflows import make_targets
from tests.s3 import Bucket
from tests.stages.test_bucket import SAMPLE, sample_objects
from tests.tiny_classifier import save_classifier

PAGES = [
    *(PROJECT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")),
    REPORTS / "README.md",
    *sorted((PROJECT / "docs").glob("*.md")),
]
PROGRAMS = ("make", "dvc", "python", "seamline", "docker", "git", "source", "export", "mkdir")

# What is run in place of what is written, and why.
INSTEAD = [
    (r"^make (?!doctor|help)(.*)", r"make --dry-run \1"),  # minutes each; their recipes have tests of their own
    (r"^make doctor", "make --old-file=.venv/.done doctor"),  # packages are this Python's
    (r"\bsource \.venv/bin/activate", "true"),
    (r"\bdvc exp run(?! --queue)", "dvc exp run --queue"),  # a training each; one is run in test_pipeline
    (r"\bdvc queue start", "dvc queue status"),  # test_sweeping and test_pipeline run copies
    (r"^seamline serve\b.*", "seamline serve --help"),  # it would serve for ever; tests/service/test_docs.py starts it
    (
        r"^seamline catalogue push\b.*|^seamline search .*--url .*",
        "seamline search --help",
    ),  # tests/search/test_qdrant.py
    (r"^seamline search --compare\b.*", "seamline search --help"),  # a catalogue each; tests/search/test_tools.py
    (r"^pip install 'seamline\[qdrant\]'", "true"),
    (r"\bmodels/attributes/openvino\b", "own"),  # attributes are off in that project: a tiny model
    (r"^seamline families\b.*", "seamline families --help"),  # trainings; tests/experiments/test_families.py has some
    (r"--force benchmark", "--force --dry benchmark"),  # test_pipeline runs it
    (r"<experiment>|my-experiment", "HEAD"),
    (r"\bdvc exp apply <name>", "dvc exp list"),  # there is none by that name
    (r"^dvc (artifacts )?get https://git\.example/garments\.git", r'cd "$(mktemp -d)" && dvc \1get "$OLDPWD"'),
    (r"\bgit commit", "git commit --allow-empty"),
    (r"\bexport AWS_PROFILE=garments", "true"),  # the test's own access stands in its environment
    (r"^seamline ", "python -m seamline "),  # the copy's own code, as where its own environment is active
]
NOT_RUN = {"docker": "no engine; `make image-test` runs the same commands in the images that it builds"}


class Block(NamedTuple):
    page: str
    text: str


def blocks() -> list[Block]:
    """Every indented block of the documentation, outside and inside of lists."""
    found = []
    for path in PAGES:
        if path.name == "service.md":
            continue  # on a running service: tests/service/test_docs.py
        lines: list[str] = []
        for line in [*path.read_text(encoding="utf-8").splitlines(), "end"]:
            if re.match(r" {4,}", line) or (lines and not line.strip()):
                lines.append(line)
                continue
            if lines:
                found.append(Block(path.name, textwrap.dedent("\n".join(lines)).strip()))
            lines = []
    return found


def commands() -> list[tuple[str, str]]:
    """Every command of the documentation with its page, in order."""
    lines = [(block.page, line.strip()) for block in blocks() for line in block.text.splitlines()]
    return [(page, line) for page, line in lines if line.split(" ")[0] in PROGRAMS]


def is_python(block: Block) -> bool:
    return bool(re.search(r"^from seamline", block.text, re.MULTILINE))


@pytest.fixture(scope="module")
def documented(finished: Project, s3_server: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A copy of the finished project, and around it all that the documentation takes to be there."""
    root = tmp_path_factory.mktemp("documented") / "project"
    project = finished.copy(root)
    bucket = Bucket(s3_server, "my-bucket")
    new = {f"new/{path.name}": path.read_bytes() for path in some_photos(finished)}
    bucket.put({**sample_objects(), **new, "garments.zip": SAMPLE.read_bytes()})
    others = {key: value for key, value in project.environment.items() if not key.startswith("AWS_")}
    project.environment = {**others, **bucket.environment}
    project.environment["DVC_NO_ANALYTICS"] = "1"  # as s3.md says of what is run outside of the project
    with (root / ".git" / "info" / "exclude").open("a") as stream:
        stream.write("/own\n/shop.zip\n/described\n/photos\n/shop\n/items.csv\n/shoot\n/*.png\n/*.jpg\n/*.onnx\n")
    for folder in ("photos", "shoot/first"):
        (root / folder).mkdir(parents=True)
        for path in some_photos(finished):
            shutil.copy(path, root / folder)
    save_classifier(root / "own")
    shutil.copy(some_photos(finished)[0], root / "photo.jpg")
    shutil.copy(some_photos(finished)[0], root / "photos" / "0012.jpg")
    (root / "items.csv").write_text("photo,sku\nphotos/0012.jpg,17\n")
    shutil.make_archive(str(root / "shop"), "zip", root / "photos")
    shutil.copy(some_photos(finished)[0], root / "one.png")
    people = onnx.load(root / "models" / "export" / "onnx" / "model.onnx")  # whose first class is called person there
    for entry in people.metadata_props:
        if entry.key == "names":
            entry.value = json.dumps(["person", *json.loads(entry.value)[1:]])
    onnx.save(people, root / "person.onnx")
    names = [{"id": 1, "name": "skirt"}, {"id": 2, "name": "dress"}]
    write_dataset(root.parent / "photos", 12, categories=names)
    subprocess.run(["git", "init", "--quiet", "--bare", str(root.parent / "remote.git")], check=True)
    project.run("git", "remote", "add", "origin", str(root.parent / "remote.git"))
    yield project
    bucket.proxy.shutdown()
    bucket.proxy.server_close()


def some_photos(project: Project) -> list[Path]:
    return sorted((project.root / "data" / "subset" / "images").iterdir())[:3]


@pytest.mark.thorough
def test_every_command_runs(documented: Project) -> None:
    failed, done = [], set()
    for name, line in commands():
        command = re.sub(r"\s+# .*", "", line)
        for pattern, replacement in INSTEAD:
            command = re.sub(pattern, replacement, command)
        if command in done or line.split(" ")[0] in NOT_RUN:
            continue
        done.add(command)
        # What a shell would pass on as it is needs none.
        is_for_a_shell = re.search(r"[|&;<>()$`*?~#]|^export |^\w+=", command)
        words = ["bash", "-c", command] if is_for_a_shell else shlex.split(command)
        ran = documented.run(*words, check=False)
        if ran.returncode != 0:
            failed.append(f"{name}: {line}\n{ran.stdout[-500:]}{ran.stderr[-1500:]}")
    documented.run("dvc", "queue", "remove", "--all")
    assert len(done) > 30
    assert not failed, "\n".join(failed)


@pytest.mark.slow
@pytest.mark.parametrize("block", [block for block in blocks() if is_python(block)], ids=lambda block: block.page)
def test_python_runs(documented: Project, block: Block) -> None:
    text = block.text.replace("for found in detector.detect_all(paths): ...", "list(detector.detect_all(paths))")
    text = text.replace("models/attributes/openvino", "own")
    code = "\n".join(line for line in text.splitlines() if line.split(" ")[0] not in PROGRAMS)
    documented.run("python", "-c", code)


@pytest.mark.parametrize("block", [block for block in blocks() if block.text.startswith("pull:")])
def test_parameters_in_the_text_are_taken(block: Block, tmp_path: Path) -> None:
    values = merged(yaml.safe_load(PARAMS.read_text()), yaml.safe_load(block.text))
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values))
    assert load_params(tmp_path / "params.yaml") != load_params(PARAMS)


def anchors(path: Path) -> set[str]:
    """As GitHub makes them of headings."""
    titles = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_every_link_leads_somewhere(path: Path) -> None:
    folder = PROJECT / "reports" if path.parent == REPORTS else path.parent
    for link in re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8")):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = (folder / name).resolve() if name else path
        for own, users in ((REPORTS, PROJECT / "reports"), (PARAMS, PROJECT / "params.yaml")):
            if target.is_relative_to(users):
                target = own / target.relative_to(users)
        assert target.exists() or target == REPORTS / "index.html", link  # made of the others
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_files_stages_and_targets_that_are_named_are_there(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for name in re.findall(r"`((?:seamline|stages|tests|docs|recipes|samples|bench|containers)/[\w./-]+)`", text):
        assert (PROJECT / name).exists() or list(PROJECT.glob(f"{name}*")), name
    for target in re.findall(r"(?:^ {4,}|`)make ([a-z-]+)", text, re.MULTILINE):
        assert target in make_targets(), target


def test_the_table_of_verdicts_is_that_of_the_simulation() -> None:
    text = (PROJECT / "docs" / "evaluation.md").read_text()
    rows = re.findall(r"^\| (\d) and (\d) \| ([\d.]+) \| ([\d.]+)% \| ([\d.]+)% \| ([\d.]+)% \|$", text, re.MULTILINE)
    assert len(rows) == 7
    for ours, theirs, photos, *shares in rows:
        for difference, share in zip((0, 0.02, 0.05), shares, strict=True):
            found = share_said((int(ours), int(theirs)), 0.0107, float(photos), difference, 1000)
            assert abs(found - float(share) / 100) < 0.05, (ours, theirs, photos, difference)
            assert difference or ours == "1" or float(share) < 5.5


def test_the_readme_leads_to_every_page() -> None:
    text = (PROJECT / "README.md").read_text()
    for path in (PROJECT / "docs").glob("*.md"):
        assert f"docs/{path.name}" in text, path.name


def test_the_readme_is_short() -> None:
    assert len((PROJECT / "README.md").read_text().splitlines()) <= 92


def test_the_readme_opens_with_a_picture_of_at_most_300_kb() -> None:
    lines = [line for line in (PROJECT / "README.md").read_text().splitlines() if line]
    assert lines[0] == "# Seamline"
    link = re.fullmatch(r"!\[.{20,}\]\((docs/[\w.]+)\)", lines[1])
    assert link
    path = PROJECT / link[1]
    assert path.stat().st_size <= 300_000
    with Image.open(path) as image:
        image.load()  # a damaged file raises
        assert image.width > image.height > 500


def test_every_parameter_has_its_line_and_a_sentence() -> None:
    text = PARAMS.read_text()
    assert (PROJECT / "docs" / "parameters.md").read_text() == page(text), "python docs/make_parameters.py"
    rows = params_to_rows(text)
    assert all(comment for _, _, comment in rows)
    sections = yaml.safe_load(text).items()
    keys = {f"{section}.{key}" for section, values in sections for key in values}
    inside = {f"{section}.int8.{key}" for section, values in sections for key in values.get("int8", ())}
    assert keys - {f"{section}.int8" for section, _ in sections} <= {key for key, _, _ in rows} <= keys | inside
    assert len(inside) > 5
