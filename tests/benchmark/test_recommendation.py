"""Which row of a benchmark is recommended."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from seamline.benchmark.recommendation import (
    EQUAL,
    FASTER,
    UNSURE,
    faster_but_not_known,
    may_be_as_fast,
    outcomes_of_rows,
    recommended,
)


def row(
    throughput: float,
    delta: float = 0.0,
    interval: list[float] | None = None,
    precision: str = "f32",
    gate: str | None = None,
    device: str = "cpu",
    steady: bool = True,
) -> dict[str, Any]:
    return {
        "throughput_img_s": throughput,
        "mask_mAP50_95": 0.6,
        "mask_mAP50_95_delta": delta,
        "mask_mAP50_95_delta_interval": interval,
        "throughput_rounds_img_s": [throughput * (1 + 0.05 * (-1) ** number) for number in range(16)],
        "precision": precision,
        "int8_gate": gate,
        "steady": steady,
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
    assert may_be_as_fast(rows, "openvino_int8") == {"onnx": UNSURE}
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
    assert may_be_as_fast(rows, "onnx") == {}


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


def test_equally_fast_is_only_what_is_known_to_be_near() -> None:
    rows = {"pytorch": row(50), "onnx": row(100), "openvino": row(99)}
    pace = np.array([1.02, 0.98] * 8)
    for spread, known in ((1.0, EQUAL), (1.5, EQUAL), (5.0, UNSURE)):  # of the ratio: 2%, 3%, 10%
        rows["openvino"]["throughput_rounds_img_s"] = list(np.array(row(100)["throughput_rounds_img_s"]) * pace**spread)
        assert may_be_as_fast(rows, "onnx") == {"openvino": known}
    rows["openvino"] = row(99, steady=False)
    rows["openvino"]["throughput_rounds_img_s"] = row(100)["throughput_rounds_img_s"]
    assert may_be_as_fast(rows, "onnx") == {"openvino": UNSURE}  # its own speed is not known
    rows["openvino"] = row(103)
    assert may_be_as_fast(rows, "onnx") == {"openvino": FASTER}  # by little, and in every round
    for one in rows.values():
        one["throughput_rounds_img_s"] = one["throughput_rounds_img_s"][:3]
    assert may_be_as_fast(rows, "onnx") == {"pytorch": UNSURE, "openvino": UNSURE}


def test_a_row_that_had_not_become_steady_is_passed_over() -> None:
    rows = {"pytorch": row(300, steady=False), "onnx": row(100), "openvino": row(120)}
    assert recommended(rows, 0.01) == "openvino"
    for one in rows.values():
        one["steady"] = False
    assert recommended(rows, 0.01) == "pytorch"


def test_one_rule_decides_of_every_precision() -> None:
    """Without an interval, as of few groups, bf16 is as little known as INT8 is."""
    rows = {
        "pytorch": row(50),
        "openvino": row(100),
        "openvino_bf16": row(200, -0.0017, None, "bf16"),
        "openvino_int8": row(300, 0.001, None, "int8", "not known"),
    }
    assert outcomes_of_rows(rows, 0.01) == {
        "pytorch": None, "openvino": None, "openvino_bf16": "not known", "openvino_int8": "not known",
    }  # fmt: skip
    assert recommended(rows, 0.01) == "openvino"
    assert faster_but_not_known(rows, "openvino", 0.01) == ["openvino_bf16", "openvino_int8"]
    rows["openvino_bf16"] = row(200, -0.0017, [-0.006, 0.003], "bf16")
    assert recommended(rows, 0.01) == "openvino_bf16"
    assert faster_but_not_known(rows, "openvino_bf16", 0.01) == ["openvino_int8"]
    for delta, interval in ((-0.005, [-0.02, -0.011]), (-0.02, None)):
        rows["openvino_bf16"] = row(200, delta, interval, "bf16")
        assert outcomes_of_rows(rows, 0.01)["openvino_bf16"] == "refused"
    rows["openvino_bf16"] = row(20, -0.0017, None, "bf16")
    assert faster_but_not_known(rows, "openvino", 0.01) == ["openvino_int8"]  # a slow one is not missed
