"""The number of cores: affinity and the limits of control groups."""

import os

import pytest

from keras_dae._util import threads
from keras_dae._util.cgroups import cpu_quota
from keras_dae.denoise.denoiser import load_denoiser

V1 = ["12:pids:/docker/1b9f", "4:cpu,cpuacct:/docker/1b9f/job", "0::/docker/1b9f"]


@pytest.mark.parametrize(
    ("lines", "files", "quota"),
    [
        (["0::/"], {"cpu.max": "200000 100000"}, 2),
        (["0::/"], {"cpu.max": "max 100000"}, None),
        (["0::/"], {"cpu.max": "50000 100000"}, 0.5),
        (["0::/"], {}, None),
        (["0::/a/b"], {"a/cpu.max": "150000 100000", "a/b/cpu.max": "max 100000"}, 1.5),
        (["0::/a/b"], {"a/cpu.max": "800000 100000", "a/b/cpu.max": "300000 100000"}, 3),
        (["0::/a/b"], {"c/cpu.max": "100000 100000", "a/b/c/cpu.max": "100000 100000"}, None),  # groups of others
        (["0::/on/the/host"], {"cpu.max": "200000 100000"}, 2),  # in a container
        (["0::/../other"], {"cpu.max": "200000 100000"}, 2),
        (V1, {"cpu/docker/1b9f/job/cpu.cfs_quota_us": "-1", "cpu/docker/1b9f/cpu.cfs_quota_us": "250000"}, 2.5),
        (V1, {"cpu/cpu.cfs_quota_us": "100000"}, 1),
        (V1, {"cpu/docker/1b9f/job/cpu.cfs_quota_us": "-1"}, None),
        (["7:cpuset,memory:/a"], {"cpu/a/cpu.cfs_quota_us": "100000"}, None),
        ([], {"cpu.max": "100000 100000"}, None),
    ],
)
def test_quota(lines, files, quota, tmp_path):
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("".join(f"{line}\n" for line in lines))
    for name, text in files.items():
        path = tmp_path / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
        if path.name == "cpu.cfs_quota_us":
            (path.parent / "cpu.cfs_period_us").write_text("100000\n")
    assert cpu_quota(tmp_path) == quota


def test_without_control_groups(tmp_path):
    assert cpu_quota(tmp_path) is None


@pytest.mark.parametrize(
    ("quota", "cores"), [(None, 64), (2.0, 2), (1.5, 2), (0.1, 1), (64.0, 64), (63.2, 64), (100.0, 64)]
)
def test_cores(quota, cores, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    monkeypatch.setattr(threads, "cpu_quota", lambda: quota)
    assert threads.cores() == cores


def test_a_session_has_as_many_threads(monkeypatch):
    """onnxruntime's own choice knows no limits of containers."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    monkeypatch.setattr(threads, "cpu_quota", lambda: 2.5)
    assert load_denoiser("mnist").session.get_session_options().intra_op_num_threads == 3
    assert load_denoiser("mnist", threads=1).session.get_session_options().intra_op_num_threads == 1
