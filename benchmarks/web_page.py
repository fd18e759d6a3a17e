"""Measure the web page: the time until the first denoised image, and the time for each image after that.

Models for photographs get 12 megapixels in colour.

python -m benchmarks.web_page site    (needs chromium, and puppeteer-core in the folder KERAS_DAE_NODE_MODULES)
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import threading
from pathlib import Path

from benchmarks.contender import add_rounds
from export.web.serve import ISOLATION_HEADERS, make_server
from keras_dae.errors import UserError, run_command


def main(argv=None):
    """Print medians over the rounds, each in a new browser. This process serves the site."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.web_page", description=__doc__.splitlines()[0])
    parser.add_argument("site", help="folder that python -m export web wrote")
    add_rounds(parser, 5)
    parser.add_argument("--picture", default="", help="PNG file for a picture of the page while a digit is drawn")
    options = parser.parse_args(argv)
    return run_command(measure_and_print, **vars(options))


def measure_and_print(site, rounds, picture):
    """Measure with and without the headers that threads need; print the results.

    Raises:
        UserError: Node.js, Chromium or puppeteer-core is missing.
    """
    if not Path(os.environ.get("KERAS_DAE_NODE_MODULES", ""), "puppeteer-core").is_dir():
        raise UserError("expected KERAS_DAE_NODE_MODULES to name a folder with puppeteer-core (npm install)")
    if missing := [name for name in ("node", "chromium") if not shutil.which(name)]:
        raise UserError(f"expected {' and '.join(missing)} to be installed")
    for headers in ({}, ISOLATION_HEADERS):
        results = measure(site, headers, rounds, picture)
        first = results["first"]
        print(
            f"{results['threads']} thread(s): first image after {statistics.median(first) / 1000:.2f} s "
            f"({min(first) / 1000:.2f} to {max(first) / 1000:.2f})"
        )
        for model, times in results["models"].items():
            print(f"  {model}: {statistics.median(times):.2f} ms a 28×28 image")
        for model, runs in results["photographs"].items():
            seconds = statistics.median(run["ms"] for run in runs) / 1000
            pause = max(run["pause"] for run in runs)
            print(f"  {model}: {seconds:.1f} s for 4000×3000 pixels; the page paused for {pause:.0f} ms at most")


def measure(site, headers, rounds, picture=""):
    """Serve the site with these headers; return the results of web_page.cjs, which writes `picture` if it is given."""
    with make_server(site, extra_headers=headers) as server:
        threading.Thread(target=server.serve_forever).start()
        url = f"http://127.0.0.1:{server.server_port}/"
        command = ["node", Path(__file__).with_suffix(".cjs"), shutil.which("chromium"), url, str(rounds), picture]
        environment = {**os.environ, "NODE_PATH": os.environ["KERAS_DAE_NODE_MODULES"]}
        try:
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
        finally:
            server.shutdown()
    return json.loads(done.stdout)


if __name__ == "__main__":
    sys.exit(main())
