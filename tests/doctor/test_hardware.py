"""The doctor's checks of GPU, processor, cores and memory, on machines of every kind as their figures describe them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seamline.doctor import cores, gpus, hardware
from seamline.params.loading.loader import load_params
from seamline.params.train import Train
from tests.conftest import PARAMS


@pytest.mark.parametrize(
    ("device", "driver", "cuda", "usable", "level", "expected"),
    [
        ("auto", None, "13.0", 0, "ok", "training runs on the CPU"),
        ("cpu", "580.65.06", "13.0", 1, "ok", "train.device is cpu"),
        ("auto", "580.65.06", "13.0", 1, "ok", "1 that torch can use; driver 580.65.06, CUDA 13.0"),
        ("auto", "", "13.0", 1, "ok", "1 that torch can use; a driver, CUDA 13.0"),
        ("0,1", "580.65.06", "13.0", 2, "ok", "2 that torch can use"),
        ("0", None, "13.0", 0, "FAIL", "train.device: '0' does not exist; this machine has no NVIDIA driver"),
        ("auto", "580.65.06", None, 0, "note", "torch is a CPU build"),
        ("0", "580.65.06", None, 0, "FAIL", "torch is a CPU build"),
        ("auto", "535.104.05", "13.0", 0, "FAIL", "driver 535.104.05 is older than torch's CUDA 13.0 needs (580.65)"),
        ("auto", "535.104.05", "12.8", 1, "ok", "driver 535.104.05"),
        ("auto", "580.65.06", "13.0", 0, "note", "sees no GPU"),
        ("0", "580.65.06", "13.0", 0, "FAIL", "sees no GPU"),
        ("1", "580.65.06", "13.0", 1, "FAIL", "train.device: '1' does not exist; this machine has 1 GPUs"),
        ("gpu", "580.65.06", "13.0", 1, "FAIL", "train.device: 'gpu' does not exist"),
        ("auto", "580.65.06", "99.0", 1, "ok", "CUDA 99.0"),
    ],
)
def test_gpus(device: str, driver: str | None, cuda: str | None, usable: int, level: str, expected: str) -> None:
    found = hardware.gpu_finding(device, 8, driver, cuda, usable)
    assert found.level == level
    assert expected in found.found
    assert bool(found.remedy) == (level != "ok")


def test_a_batch_has_to_be_shared_out_over_gpus() -> None:
    found = hardware.gpu_finding("0,1,2", 8, "580.65.06", "13.0", 3)
    assert (found.level, found.remedy) == ("FAIL", "`train.batch: 9` in params.yaml")


def test_drivers_are_read_from_what_they_say() -> None:
    old = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15 UTC 2023\nGCC version:  12.3"
    new = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65  Release Build\nGCC version:  13.2.0"
    assert gpus.text_to_version(old) == "535.104.05"
    assert gpus.text_to_version(new) == "580.65"
    assert gpus.text_to_version("something else") == ""


def test_a_driver_that_is_there_or_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpus, "DRIVER", tmp_path / "version")
    monkeypatch.setattr(gpus, "WSL", tmp_path / "dxg")
    assert gpus.installed_driver() is None
    (tmp_path / "dxg").touch()
    assert gpus.installed_driver() == ""
    (tmp_path / "version").write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05")
    assert gpus.installed_driver() == "535.104.05"


def test_torchs_cuda_is_what_torch_says() -> None:
    import torch

    assert gpus.torch_cuda() == torch.version.cuda
    assert gpus.usable_gpus() == (torch.cuda.device_count() if torch.cuda.is_available() else 0)


def test_a_gpu_that_is_asked_for_and_not_there_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpus, "DRIVER", tmp_path / "version")
    monkeypatch.setattr(gpus, "WSL", tmp_path / "dxg")
    train = load_params(PARAMS)[Train]
    assert hardware.check_gpu(train).level == "ok"
    train.device = "0"
    assert hardware.check_gpu(train).level == "FAIL"
    (tmp_path / "version").write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  300.10")
    monkeypatch.setattr(gpus, "torch_cuda", lambda: "13.0")
    assert "older than torch's CUDA" in hardware.check_gpu(train).found


def test_shared_memory_is_looked_at_where_it_is_used() -> None:
    assert hardware.shared_memory_finding(0, 1000).level == "ok"
    assert hardware.shared_memory_finding(8, None).level == "ok"
    assert hardware.shared_memory_finding(8, 2 * 10**9).level == "ok"
    found = hardware.shared_memory_finding(8, 64 * 2**20)
    assert (found.level, found.found) == ("note", "67.1 MB for 8 processes that load images")


@pytest.mark.parametrize(
    ("has", "level", "expected"),
    [
        (
            ["avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8"],
            "ok",
            "AVX2; VNNI: INT8 can be fast",
        ),
        (["avx2"], "ok", "AVX2; no VNNI: INT8 gains less; no BF16: the benchmark has no row for it; no AMX"),
        (["avx2", "avx_vnni"], "ok", "AVX2; VNNI: INT8 can be fast; no BF16"),
        ([], "note", "no AVX2: everything is slow"),
        (None, "ok", "its instructions are unknown"),
    ],
)
def test_processors(has: list[str] | None, level: str, expected: str) -> None:
    found = hardware.processor_finding(has)
    assert found.level == level
    assert found.found.startswith(expected)


@pytest.mark.parametrize(
    ("quota", "threads", "omp", "level"),
    [
        (None, None, None, "ok"),
        (8.0, None, None, "ok"),
        (2.5, None, None, "note"),
        (2.5, 2, None, "note"),
        (2.5, 2, 2, "ok"),
        (2.5, 3, 2, "note"),
        (None, 9, None, "FAIL"),
    ],
)
def test_more_threads_than_there_is_time_for(
    quota: float | None, threads: int | None, omp: int | None, level: str
) -> None:
    found = hardware.cores_finding(8, quota, threads, omp)
    assert found.level == level
    if level == "note":
        assert found.remedy == "`export OMP_NUM_THREADS=2`, and `benchmark.threads: 2`"


def test_less_than_a_core_is_one_thread() -> None:
    assert "OMP_NUM_THREADS=1" in hardware.cores_finding(2, 0.5, None, None).remedy


def test_memory() -> None:
    gb = 10**9
    assert hardware.memory_finding(16 * gb, None) == ("ok", "memory", "16.0 GB", "")
    assert hardware.memory_finding(16 * gb, 8 * gb).found == "8.0 GB, limited by the control group"
    assert hardware.memory_finding(16 * gb, 64 * gb).found == "16.0 GB"
    assert hardware.memory_finding(16 * gb, 2 * gb).level == "note"
    assert hardware.memory_finding(2 * gb, None).level == "note"
    unknown = hardware.memory_finding(None, None)
    assert (unknown.level, unknown.found) == ("ok", "unknown: this system does not report it")


# Control groups


def make_group(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(f"{text}\n")


def test_the_tightest_of_nested_groups_holds(tmp_path: Path) -> None:
    mount, groups = tmp_path / "cgroup", tmp_path / "groups"
    groups.write_text("0::/user.slice/job.scope\n")
    make_group(mount / "user.slice" / "job.scope", cpu__max="max 100000", memory__max="8000000000")
    assert cores.own_limits(mount, groups) == (None, 8_000_000_000)
    make_group(mount / "user.slice", cpu__max="150000 100000", memory__max="2000000000")
    make_group(mount, cpu__max="400000 100000", memory__max="max")
    assert cores.own_limits(mount, groups) == (1.5, 2_000_000_000)


def test_groups_of_the_old_kind(tmp_path: Path) -> None:
    """As in a container: the path is the host's, and the mount is the container's own group."""
    mount, groups = tmp_path / "cgroup", tmp_path / "groups"
    groups.write_text("4:memory:/docker/0123\n3:cpu,cpuacct:/docker/0123\n1:name=systemd:/\n0::/\n")
    make_group(mount / "cpu", cpu__cfs_quota_us="-1", cpu__cfs_period_us="100000")
    make_group(mount / "memory", memory__limit_in_bytes="9223372036854771712")
    assert cores.own_limits(mount, groups) == (None, None)
    make_group(mount / "cpu", cpu__cfs_quota_us="50000")
    make_group(mount / "memory" / "docker" / "0123", memory__limit_in_bytes="3000000000")
    assert cores.own_limits(mount, groups) == (0.5, 3_000_000_000)


def test_a_system_without_groups_has_no_limits(tmp_path: Path) -> None:
    assert cores.own_limits(tmp_path / "cgroup", tmp_path / "groups") == (None, None)


@given(st.integers(1, 10**7), st.integers(1, 10**6))
def test_a_quota_is_its_share_of_the_period(quota: int, period: int) -> None:
    assert cores.quota_to_cores(f"{quota} {period}\n") == quota / period


@pytest.mark.parametrize("text", ["", "max 100000", "-1 100000", "-1\n 100000\n", " "])
def test_without_a_quota_there_is_no_limit(text: str) -> None:
    assert cores.quota_to_cores(text) is None


@given(st.lists(st.text("abc.-", min_size=1).filter(lambda part: part not in (".", "..")), max_size=5))
def test_every_group_around_one_is_looked_at(parts: list[str]) -> None:
    folders = list(cores.upwards(Path("/m"), "/" + "/".join(parts)))
    assert folders == [Path("/m", *parts[:count]) for count in range(len(parts), -1, -1)]
