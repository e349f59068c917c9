"""Build the container images with buildah, which needs no Docker engine, and test in them what docs/containers.md says.

Dockerfile.cpu is built and run on the models and the test split of the last `dvc repro`; Dockerfile.gpu is built and
run as far as that is possible without a GPU. Needs root, buildah and, if no base image is named, debootstrap, which
makes one from Debian's packages.

Example: sudo apt-get install buildah debootstrap && sudo make image-test IMAGES="cpu gpu"
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
DEBIAN = "localhost/seamline-debian-base:bookworm"
MOST_MB = 700  # of installed packages, in the image for the CPU
NEEDED = ("models/train/best.pt", "models/export/openvino_int8/model.xml", "data/split/test.json", "data/subset/images")
USER = "1000:1000"
BLOCKED = ("torch", "ultralytics", "torchvision", "nncf", "dvc", "pip")
# In the container: serve, have a photo answered, and stop as a container is stopped.
SERVE = """
import json, subprocess, sys, urllib.request
model, photo = sys.argv[1:]
command = ["seamline", "serve", model, "--port", "8123"]
server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
ready = server.stdout.readline().strip()
headers = {"Content-Type": "image/jpeg"}
request = urllib.request.Request("http://127.0.0.1:8123/v1/predict", open(photo, "rb").read(), headers)
answer = json.load(urllib.request.urlopen(request, timeout=60))
metrics = urllib.request.urlopen("http://127.0.0.1:8123/metrics", timeout=60).read().decode()
server.terminate()
server.wait(60)
print(json.dumps({"ready": ready, "instances": answer["images"][0]["instances"], "metrics": metrics}))
"""


def run(*command: str, quiet: bool = False) -> str:
    """The output of the command; if it fails, this script ends."""
    done = subprocess.run(command, cwd=PROJECT, text=True, stdout=subprocess.PIPE if quiet else None)
    if done.returncode:
        sys.exit(f"error: {' '.join(command)} exited {done.returncode}; what it said is above.")
    return done.stdout or ""


def check(what: str, right: bool, found: object = "") -> None:
    print(f"{'ok' if right else 'FAILED'}: {what} {found}".rstrip(), flush=True)
    if not right:
        sys.exit(1)


def debian_base(name: str) -> None:
    """Make a base image with Python from Debian's packages only, unless there is one."""
    if subprocess.run(["buildah", "inspect", "--type", "image", name], capture_output=True).returncode == 0:
        return
    with tempfile.TemporaryDirectory() as root:
        path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        packages = "python3,python3-venv,ca-certificates"
        run("debootstrap", "--variant=minbase", f"--include={packages}", "bookworm", root)
        container = run("buildah", "from", "scratch", quiet=True).strip()
        run("buildah", "copy", "--quiet", container, root, "/", quiet=True)
        run("buildah", "config", "--env", path, container)
        run("buildah", "commit", "--quiet", "--rm", container, name, quiet=True)


def build(image: str, base: str, arguments: list[str]) -> None:
    layers = "true" if image == "cpu" else "false"  # a layer takes the whole image's space here: several GB for the GPU
    run(
        "buildah", "build", f"--layers={layers}", "--file", f"Dockerfile.{image}", "--build-arg", f"BASE={base}",
        *arguments, "--tag", f"localhost/seamline-{image}:test", ".",
    )  # fmt: skip


class Container:
    """A container of a built image, whose commands run as a user without privileges."""

    def __init__(self, image: str) -> None:
        self.name = run("buildah", "from", f"localhost/seamline-{image}:test", quiet=True).strip()

    def run(self, *command: str, volumes: tuple[str, ...] = ()) -> str:
        mounted = [part for volume in volumes for part in ("--volume", volume)]
        return run("buildah", "run", "--user", USER, *mounted, self.name, "--", *command, quiet=True)


def try_cpu(scratch: Path) -> None:
    container = Container("cpu")
    facts = json.loads(run("buildah", "inspect", "--type", "image", "localhost/seamline-cpu:test", quiet=True))
    check("the image's user is not root", facts["OCIv1"]["config"]["User"] == USER, facts["OCIv1"]["config"]["User"])
    check("a command's user is not root", container.run("id", "-u").strip() == "1000")
    megabytes = int(container.run("du", "-sm", "/opt/venv").split()[0])
    check(f"installed packages take at most {MOST_MB} MB", megabytes <= MOST_MB, f"({megabytes} MB)")
    there = "from importlib.util import find_spec; import sys; print(*[n for n in sys.argv[1:] if find_spec(n)])"
    found = container.run("python", "-c", there, *BLOCKED).strip()
    check(f"there is no {', '.join(BLOCKED)}", not found, found)
    outside_of = " ".join(f"-not -path '{place}/*'" for place in ("/proc", "/dev", "/sys"))
    places = set(
        container.run("sh", "-c", f"find / -xdev -writable -not -type l {outside_of} 2> /dev/null; true").split()
    )
    check("only temporary folders can be written to", places <= {"/tmp", "/var/tmp", "/run/lock"}, sorted(places))

    out = scratch / "out"
    out.mkdir()
    os.chown(out, *(int(part) for part in USER.split(":")))
    read_only = (f"{PROJECT}:/project:ro", f"{out}:/out")
    for name in ("onnx/model.onnx", "openvino", "openvino_int8"):
        model = f"models/export/{name}"
        said = container.run(
            "seamline", "predict", model, "data/subset/images", "--out", f"/out/{name}", volumes=read_only
        )
        check(f"predicts with {model}, read-only", "instances:" in said, f"({said.splitlines()[0]})")
    command, outside = str(PROJECT / ".venv" / "bin" / "seamline"), scratch / "outside"
    run(command, "predict", "models/export/openvino", "data/subset/images", "--out", str(outside), quiet=True)
    same = (outside / "results.json").read_bytes() == (out / "openvino" / "results.json").read_bytes()
    check("predictions are those of the project's own environment, to the byte", same)
    try_serve(container, read_only, out / "openvino_int8" / "results.json")
    inputs = ("models/train/best.pt", "models/export", "data/split", "data/subset/images")
    print(container.run("benchmark", *inputs, "/out/reports", volumes=read_only))
    rows = json.loads((out / "reports" / "benchmark.json").read_text())
    check("the benchmark has every format but PyTorch", {"onnx", "openvino", "openvino_int8"} <= set(rows), list(rows))
    evaluated = json.loads((PROJECT / "reports" / "benchmark.json").read_text())
    for name, row in rows.items():
        same = name not in evaluated or row["mask_mAP50_95"] == evaluated[name]["mask_mAP50_95"]
        check(f"mask mAP50-95 of {name} is that of the pipeline", same, row["mask_mAP50_95"])


def try_serve(container: Container, read_only: tuple[str, ...], results: Path) -> None:
    """Serve a read-only project, and compare the answer for its first photo with what predict wrote."""
    photo = min((PROJECT / "data" / "subset" / "images").iterdir()).relative_to(PROJECT)
    said = container.run("python", "-c", SERVE, "models/export/openvino_int8", str(photo), volumes=read_only)
    served = json.loads(said.splitlines()[-1])
    check("serves on a read-only project", served["ready"].startswith("ready on http://127.0.0.1:8123"))
    predicted = [record for record in json.loads(results.read_text()) if record["image_id"] == 1]
    check("what it answers is what predict writes", served["instances"] == predicted, f"({len(predicted)} instances)")
    check("it counts what it answered", 'seamline_photos_total{outcome="ok"} 1.0' in served["metrics"])


def try_gpu(scratch: Path) -> None:
    container = Container("gpu")
    check("a command's user is not root", container.run("id", "-u").strip() == "1000")
    said = container.run("python", "-c", "import torch, ultralytics; print(torch.__version__, torch.version.cuda)")
    check("torch and ultralytics can be imported", bool(said), said.strip())
    copy = scratch / "project"  # what docs/containers.md mounts: a checkout
    run("git", "clone", "--quiet", str(PROJECT), str(copy))
    run("chown", "--recursive", USER, str(copy))
    said = container.run("dvc", "repro", "convert", volumes=(f"{copy}:/project",))
    check("dvc repro runs in a mounted checkout, up to convert", (copy / "data" / "yolo" / "images").is_dir())
    said = container.run("dvc", "status", "convert", volumes=(f"{copy}:/project",))
    check("and has nothing to do then", "up to date" in said)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="*", default=["cpu"], help="cpu, gpu or both")
    parser.add_argument("--base", help="base image (default: one made of Debian's packages)")
    parser.add_argument("--build", action="append", default=[], help="one more argument for buildah build")
    args = parser.parse_args()
    os.environ.setdefault("BUILDAH_ISOLATION", "chroot")
    os.environ.setdefault("STORAGE_DRIVER", "vfs")
    for program in ("buildah", *([] if args.base else ["debootstrap"])):
        if shutil.which(program) is None:
            sys.exit(f"error: {program} is not installed; sudo apt-get install {program} brings it.")
    for path in NEEDED:
        if not (PROJECT / path).exists():
            sys.exit(f"error: {path} is missing; make repro makes it.")
    if not args.base:
        debian_base(DEBIAN)
    for image in args.images:
        build(image, args.base or DEBIAN, args.build)
        with tempfile.TemporaryDirectory() as scratch:
            Path(scratch).chmod(0o755)
            {"cpu": try_cpu, "gpu": try_gpu}[image](Path(scratch))


if __name__ == "__main__":
    main()
