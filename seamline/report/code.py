"""Which code the results come from."""

from __future__ import annotations

import hashlib
from pathlib import Path

from seamline.base.coco import Record
from seamline.base.errors import SeamlineError
from seamline.base.files import code_below, sha256_of
from seamline.base.git import git

STAGES = (
    "pull", "subset", "convert", "split", "train", "evaluate", "export", "benchmark", "attributes", "classify",
    "embed", "catalogue", "report",
)  # fmt: skip
ROOMS = (
    "attributes", "base", "benchmark", "charts", "dataset", "evaluation", "export", "images", "inference", "ingest",
    "masks", "models", "people", "photos", "report", "search", "training",
)  # fmt: skip
# What dvc.yaml has as the report's dependencies on code.
CODE = (
    "architectures",
    *(f"stages/{name}.py" for name in STAGES),
    *(f"seamline/{name}" for name in ROOMS),
    "seamline/params/loading",
    *(f"seamline/params/{name}.py" for name in ("people", "rcnn", "search", *STAGES)),
)
CODE_SUFFIXES = {".html", ".md", ".py", ".yaml"}


def code_identity() -> Record:
    """Which code this is: a hash of it, the commit that it builds on, and the files changed since then.

    The commit is the last one that changed the code, not HEAD: a commit that changes only a text or only results leaves
    the model as it is. None where there is no git.
    """
    digest = hashlib.sha256()
    for file in code_files():
        digest.update(f"{file.as_posix()} {sha256_of(file)}\n".encode())
    try:
        commit = git("log", "-1", "--format=%H", "--", *CODE).strip()
        # Seen from this folder, which may be one of several in a git repository.
        changed = git("diff", "--name-only", "--relative", "HEAD", "--", *CODE)
        changed += git("ls-files", "--others", "--exclude-standard", "--", *CODE)
    except SeamlineError:
        commit, changed = "", ""
    files = sorted(changed.splitlines())
    return {"sha256": digest.hexdigest(), "commit": commit[:12] or None, "changed_since": files if commit else []}


def code_files() -> list[Path]:
    found = ([path] if path.suffix else code_below(path, CODE_SUFFIXES) for path in map(Path, CODE))
    return sorted(file for files in found for file in files)
