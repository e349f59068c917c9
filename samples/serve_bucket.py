"""Start an S3 server on this machine with the embedded sample in it, to try the pipeline without an account.

The server is moto's, and nothing leaves this machine. The bucket `garments` has the sample as a tree (sample/) and as
an archive (garments.zip); both are in memory, and gone when the server ends.

Example: python samples/serve_bucket.py --port 5555
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import signal
import socket
import sys
import zipfile
from pathlib import Path

import boto3
from moto.server import ThreadedMotoServer
from tqdm import tqdm

BUCKET = "garments"
SAMPLE = Path(__file__).parent / "garments.zip"
# Any values work: this server checks none.
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local", "AWS_DEFAULT_REGION": "us-east-1"}


def upload(endpoint: str) -> int:
    """Upload the sample; returns the number of objects."""
    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
        region_name=CREDENTIALS["AWS_DEFAULT_REGION"],
    )
    client.create_bucket(Bucket=BUCKET)
    with zipfile.ZipFile(SAMPLE) as archive:
        names = [name for name in archive.namelist() if not name.endswith("/")]
        for name in tqdm(names, desc="upload", unit="object", disable=None):
            client.put_object(Bucket=BUCKET, Key=f"sample/{name}", Body=archive.read(name))
    client.put_object(Bucket=BUCKET, Key=SAMPLE.name, Body=SAMPLE.read_bytes())
    return len(names) + 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=5555, help="0: any that is free")
    args = parser.parse_args()
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    with socket.socket() as port:
        port.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            port.bind(("127.0.0.1", args.port))
        except OSError:
            sys.exit(f"error: port {args.port} is taken; name another (make bucket PORT=5556).")
    server = ThreadedMotoServer("127.0.0.1", args.port, verbose=False)
    server.start()
    endpoint = "http://{}:{}".format(*server.get_host_and_port())
    objects = upload(endpoint)
    settings = " ".join(f"{name}={value}" for name, value in {"AWS_ENDPOINT_URL": endpoint, **CREDENTIALS}.items())
    print(
        f"{objects} objects are in s3://{BUCKET} until Ctrl-C ends this. In another terminal, this runs the pipeline:\n"
    )
    print(f"source .venv/bin/activate && {settings} dvc exp run -S pull.source=s3://{BUCKET}/sample\n")
    print(f"(or -S pull.source=s3://{BUCKET}/{SAMPLE.name}, the same as an archive)", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        signal.pause()


if __name__ == "__main__":
    main()
