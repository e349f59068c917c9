"""Which row of a benchmark is recommended."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from seamline.benchmark.recommendation import as_fast, recommended


def row(
    throughput: float,
    delta: float = 0.0,
    interval: list[float] | None = None,
    precision: str = "f32",
    gate: str | None = None,
    device: str = "cpu",
) -> dict[str, Any]:
    return {
        "throughput_img_s": throughput,
        "mask_mAP50_95": 0.6,
        "mask_mAP50_95_delta": delta,
        "mask_mAP50_95_delta_interval": interval,
        "throughput_rounds_img_s": [throughput * (1 + 0.05 * (-1) ** number) for number in range(16)],
        "precision": precision,
        "int8_gate": gate,
        "device": device,
    }


def with_fast(**other: Any) -> str:
    """What is recommended beside a row that is twice as fast as ONNX's."""
    return recommended({"pytorch": row(50), "onnx": row(100), "fast": row(200, **other)}, 0.01)


def test_the_fastest_of_equally_accurate_ones_is_recommended() -> None:
    assert with_fast() == "fast"
    assert with_fast(delta=0.02) == "fast"


@pytest.mark.parametrize(
    ("delta", "interval", "expected"),
    [
        (-0.003, [-0.007, 0.003], "fast"),
        (-0.003, [-0.01, 0.003], "fast"),  # as much as is allowed
        (-0.003, [-0.0101, 0.003], "onnx"),
        (-0.003, [-0.02, 0.003], "onnx"),  # it may lose twice the allowed drop
        (-0.003, None, "onnx"),  # nobody knows
        (-0.012, [-0.02, -0.005], "onnx"),
        (0.004, [-0.016, 0.03], "onnx"),
    ],
)
def test_a_lossy_row_is_recommended_only_where_its_interval_is_within_the_allowed_drop(
    delta: float, interval: list[float] | None, expected: str
) -> None:
    assert with_fast(delta=delta, interval=interval, precision="bf16") == expected


@pytest.mark.parametrize(
    ("gate", "delta", "expected"),
    [
        ("accepted", 0.0, "fast"),
        ("accepted", -0.01, "fast"),
        ("accepted", -0.0101, "onnx"),  # test contradicts the gate
        ("accepted", -0.02, "onnx"),
        ("not known", 0.0, "onnx"),
        ("not known", 0.02, "onnx"),
    ],
)
def test_int8_is_recommended_only_where_its_gate_accepted_it(gate: str, delta: float, expected: str) -> None:
    for interval in ([delta - 0.001, delta + 0.001], [delta - 0.05, delta + 0.05], None):
        assert with_fast(delta=delta, interval=interval, precision="int8", gate=gate) == expected


def test_an_f32_row_that_lost_more_than_is_allowed_is_not_recommended() -> None:
    assert with_fast(delta=-0.01) == "fast"
    assert with_fast(delta=-0.0101) == "onnx"


def test_a_lossless_row_wins_where_they_are_even() -> None:
    lossy = row(104, 0.0, [-0.001, 0.001], "int8", "accepted")
    rows = {"pytorch": row(50), "onnx": row(100), "openvino_int8": lossy}
    assert recommended(rows, 0.01) == "openvino_int8"  # always 4% faster, whatever slows both
    lossy["throughput_rounds_img_s"] = [95.0, 115.0, 99.0, 105.0] * 4
    assert recommended(rows, 0.01) == "onnx"
    assert as_fast(rows, "openvino_int8") == ["onnx"]
    rows["openvino"] = row(101)
    assert recommended(rows, 0.01) == "openvino"  # the faster of the lossless ones
    for one in rows.values():
        one["throughput_rounds_img_s"] = one["throughput_rounds_img_s"][:5]
    assert recommended(rows, 0.01) == "openvino"  # five rounds decide nothing


def test_the_reference_is_recommended_where_nothing_else_may_be() -> None:
    rows = {"pytorch": row(50), "openvino_int8": row(200, 0.0, None, "int8", "not known")}
    assert recommended(rows, 0.01) == "pytorch"


def test_a_gpu_is_never_recommended_for_the_processor() -> None:
    rows = {"pytorch": row(50), "onnx": row(100), "onnx_cuda": row(900, device="cuda")}
    assert recommended(rows, 0.01) == "onnx"
    assert as_fast(rows, "onnx") == []


def test_a_difference_is_rarely_seen_between_equally_fast_formats() -> None:
    """What slows the machine is shared, each round has noise of its own: at most 5 of 100 pairs seem to differ."""
    random = np.random.default_rng(0)
    rows = {"pytorch": row(100), "openvino_int8": row(100, 0.0, None, "int8", "accepted")}
    wrong = 0
    for _ in range(1000):
        pace = np.cumsum(random.normal(0, 0.05, 16))
        for one in rows.values():
            one["throughput_rounds_img_s"] = list(100 * np.exp(pace + random.normal(0, 0.05, 16)))
            one["throughput_img_s"] = float(np.median(one["throughput_rounds_img_s"]))
        wrong += recommended(rows, 0.01) == "openvino_int8"
    assert wrong / 1000 < 0.05
