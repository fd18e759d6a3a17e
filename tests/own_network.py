"""Tests marked `own_network` run in a separate network namespace, because Ray listens on every address.

pytest starts one inner pytest in the namespace, with the selected tests of the module, and reports each result under
the name of the test. So tests can be selected by name and with -k. To debug one, run the inner pytest in the terminal:

    python tests/own_network.py tests/test_serving_on_ray.py -k floats --pdb
"""

import functools
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from alone import ALONE, why_not

ROOT = Path(__file__).parent.parent
REPORTS = "KERAS_DAE_TEST_REPORTS"  # set for the inner pytest: the file that it writes its reports to
OUTSIDE_ADDRESS = "192.0.2.1"  # the machine has this address in the namespace, as one that others would see
COMMAND = [*ALONE, "sh", "-c", f'ip address add {OUTSIDE_ADDRESS}/32 dev lo && exec "$@"', "--"]
COMMAND += [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-n", "0"]
TIMEOUT = 1200  # seconds for all tests of a module, on a busy machine

why_not = functools.cache(why_not)


def pytest_configure(config):
    """In the inner pytest, write a line of JSON for each report."""
    if os.environ.get(REPORTS):
        config.pluginmanager.register(ReportWriter(config, os.environ[REPORTS]))


class ReportWriter:
    """Writes reports in pytest's own serialization."""

    def __init__(self, config, path):
        self.config, self.path = config, path

    def pytest_runtest_logreport(self, report):
        values = self.config.hook.pytest_report_to_serializable(config=self.config, report=report)
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(values) + "\n")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item):
    """In the outer pytest, report what the inner pytest found, instead of running the test."""
    if REPORTS in os.environ or not item.get_closest_marker("own_network"):
        return None
    if why_not():
        item.add_marker(pytest.mark.skip(reason=why_not()))
        return None
    reports, output = _inner_run(item.session, item.path)
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    found = reports.get(item.nodeid, [])
    if not any(report.when == "teardown" for report in found):
        found = [*found, _missing_report(item, output)]
    for report in found:
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


@functools.cache
def _inner_run(session, path):
    """Run the selected tests of the module at `path`. Return `{node id: reports}`, and what the process printed."""
    names = [item.nodeid for item in session.items if item.path == path]
    with tempfile.NamedTemporaryFile() as file:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), REPORTS: file.name}
        command = [*COMMAND, f"--rootdir={session.config.rootpath}", *names]
        try:
            done = subprocess.run(
                command,
                cwd=session.config.rootpath,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=TIMEOUT,
            )
            output = done.stdout
        except subprocess.TimeoutExpired as error:
            output = f"{error}\n{(error.stdout or b'').decode(errors='replace')}"
        lines = Path(file.name).read_text(encoding="utf-8").splitlines()
    reports = {}
    for line in lines:
        config = session.config
        report = config.hook.pytest_report_from_serializable(config=config, data=json.loads(line))
        reports.setdefault(report.nodeid, []).append(report)
    return reports, output


def _missing_report(item, output):
    """Return the report of a test that the inner pytest did not finish."""
    message = f"the pytest in the network namespace did not finish this test:\n{output}"
    return pytest.TestReport(item.nodeid, item.location, {}, "failed", message, "call")


if __name__ == "__main__":
    os.execvpe(COMMAND[0], [*COMMAND, *sys.argv[1:]], {**os.environ, "PYTHONPATH": str(ROOT), REPORTS: ""})
