"""Pulling from S3 beside `aws s3 sync`, from one server (moto's) in turns: 2,000 objects of 64 KB and one of 512 MB.

What is timed is the fetching alone: listing, bytes, verification, the manifest's rows; and the peak memory of each. An
object of an eighth of the large one's size is fetched by itself as well, to show that memory does not follow it.

Example: python -m bench.fetch --rounds 3
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import boto3
import numpy as np
from tqdm import tqdm

from bench.run import SCRATCH, in_turns, measured, show
from seamline.base.files import write_json

PORT = 5599
ENDPOINT = f"http://127.0.0.1:{PORT}"
SETTINGS = {
    "AWS_ENDPOINT_URL": ENDPOINT,
    "AWS_ACCESS_KEY_ID": "a",
    "AWS_SECRET_ACCESS_KEY": "b",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}
OURS = (
    "import sys; from pathlib import Path; from seamline.ingest.remote.fetch import fetch; "
    "fetch(sys.argv[1], Path(sys.argv[2]))"
)


def start_server() -> subprocess.Popen[bytes]:
    command = [str(Path(sys.executable).with_name("moto_server")), "-H", "127.0.0.1", "-p", str(PORT)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(100):
        try:
            urllib.request.urlopen(ENDPOINT, timeout=1).close()
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.2)
        else:
            return server
    sys.exit("moto_server does not answer")


def upload(small: int, large_mib: int) -> None:
    client = boto3.client("s3")
    rng = np.random.default_rng(0)
    client.create_bucket(Bucket="bench")
    for number in tqdm(range(small), "upload", disable=None):
        client.put_object(Bucket="bench", Key=f"all/small/{number:05d}.jpg", Body=rng.bytes(64_000))
    for key, size_mib in (("all/large.bin", large_mib), ("eighth/large.bin", large_mib // 8)):
        path = SCRATCH / "large.bin"
        with path.open("wb") as stream:
            for _ in range(size_mib):
                stream.write(rng.bytes(1 << 20))
        client.upload_file(str(path), "bench", key)  # in parts, as every client does
        path.unlink()


def ours(prefix: str) -> Callable[[], dict[str, float]]:
    return lambda: fresh([sys.executable, "-c", OURS, f"s3://bench/{prefix}"])


def aws(prefix: str) -> Callable[[], dict[str, float]]:
    return lambda: fresh([sys.executable, "-m", "awscli", "s3", "sync", "--quiet", f"s3://bench/{prefix}"])


def fresh(command: list[str]) -> dict[str, float]:
    """Into an empty folder, its last argument."""
    target = SCRATCH / "fetched"
    shutil.rmtree(target, ignore_errors=True)
    return measured([*command, str(target)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", type=int, default=2000, help="objects of 64 KB")
    parser.add_argument("--large", type=int, default=512, help="MiB of the large object")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    SCRATCH.mkdir(parents=True, exist_ok=True)
    os.environ.update(SETTINGS)
    server = start_server()
    try:
        upload(args.small, args.large)
        rows = {"pull / aws s3 sync": in_turns(ours("all"), aws("all"), args.rounds)}
        peaks = {f"{args.large // 8} MiB": ours("eighth")(), "all": ours("all")()}
    finally:
        server.terminate()
    show(f"{args.small:,} objects of 64 KB and one of {args.large} MiB", rows)
    show("peak memory of pull alone", {name: {"peak_mib": round(row["peak_mib"], 1)} for name, row in peaks.items()})
    write_json(SCRATCH / "fetch.json", {**rows, "peaks": peaks})
    shutil.rmtree(SCRATCH / "fetched", ignore_errors=True)


if __name__ == "__main__":
    main()
