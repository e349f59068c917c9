"""Threads of other libraries in a process that predicts, kept from taking the cores from the model.

A Detector leaves its process as it is. What predicts in a process of its own - stages, tools, the benchmark's engines -
calls limit_other_threads() when it begins.
"""

from __future__ import annotations

import os

import cv2
import threadpoolctl

# How long PyTorch's threads spin at a barrier, read when OpenMP loads. Left alone they spin long: an inference of 17 ms
# on two idle cores took 2 s where something else used one of them. With 10,000 it is 19 and 113 ms, with 1,000 it is 41
# and 40.
SPIN_COUNT = "10000"


def limit_other_threads() -> None:
    """For the whole process, before PyTorch is imported.

    Idle threads of numpy's matrix products and of OpenCV spin for some 20 ms, and took the cores from the next image's
    inference: OpenVINO's median on two cores was 24 ms, and is 11 ms with this. Both have little to do here.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)
    threadpoolctl.threadpool_limits(1, user_api="blas")
    cv2.setNumThreads(1)
