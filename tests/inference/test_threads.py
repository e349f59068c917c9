"""Other libraries leave the cores to the model."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import PROJECT

COUNTS = """
import os, cv2, numpy, threadpoolctl
cv2.setNumThreads(2)
from seamline.inference.threads import limit_other_threads
limit_other_threads()
blas = [pool["num_threads"] for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]
print(cv2.getNumThreads(), max(blas, default=1), os.environ["GOMP_SPINCOUNT"])
"""


@pytest.mark.parametrize(("own", "expected"), [({}, "10000"), ({"GOMP_SPINCOUNT": "7"}, "7")])
def test_one_thread_for_opencv_and_for_products_and_the_users_own_spin_count_stays(
    own: dict[str, str], expected: str, tmp_path: Path
) -> None:
    environment = {"PYTHONPATH": str(PROJECT), "OPENBLAS_NUM_THREADS": "2", "HOME": str(tmp_path), **own}
    done = subprocess.run(
        [sys.executable, "-c", COUNTS], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["1", "1", expected]
