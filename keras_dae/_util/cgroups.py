"""How much processor time the control groups of this process allow: containers set that, `docker run --cpus 2`."""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath


def cpu_quota(root: Path = Path("/")) -> float | None:
    """Return how many cores' time this process may use; None if that is not limited.

    A limit of a group also holds for the groups in it, so the smallest counts. Versions 1 and 2 of control groups are
    read, see https://docs.kernel.org/admin-guide/cgroup-v2.html and
    https://docs.kernel.org/scheduler/sched-bwc.html.

    Args:
        root: the folder with `proc/self/cgroup` and `sys/fs/cgroup`.
    """
    return min((quota for folder in _groups(root) if (quota := _quota(folder))), default=None)


def _groups(root: Path) -> Iterator[Path]:
    """Yield the folders of the control groups that limit this process, and of those above them."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:  # the system has no control groups
        return
    for line in lines:  # such as 0::/system.slice in version 2, and 4:cpu,cpuacct:/docker/1b9f in version 1
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        top = root / "sys/fs/cgroup" / ("cpu" if controllers else "")
        # In a container, the path may be that of the host. Its folder is then not here, but the top is the container's.
        parts = [part for part in PurePosixPath(path).parts if part not in ("/", "..")]
        for length in range(len(parts) + 1):
            yield top.joinpath(*parts[:length])


def _quota(group: Path) -> float | None:
    """Return the limit of one group, in cores."""
    try:
        if (group / "cpu.max").exists():
            limit, period = (group / "cpu.max").read_text().split()
        else:
            limit = (group / "cpu.cfs_quota_us").read_text()
            period = (group / "cpu.cfs_period_us").read_text()
        return int(limit) / int(period) if int(limit) > 0 else None
    except (OSError, ValueError, ZeroDivisionError):  # there is no limit, which version 2 writes as `max`
        return None
