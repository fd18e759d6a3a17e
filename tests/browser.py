"""A real browser for the tests (Debian's chromium, driven by browser.cjs), and servers for it to visit."""

import json
import os
import shutil
import subprocess
import threading
from contextlib import contextmanager
from pathlib import Path

from export.web.serve import Handler, Server, make_server


def missing():
    """Return which programs and packages are missing for a `Browser` and the page, or an empty string."""
    modules = os.environ.get("KERAS_DAE_NODE_MODULES", "")
    packages = [
        name for name in ("onnxruntime-web", "puppeteer-core") if not modules or not Path(modules, name).is_dir()
    ]
    programs = [program for program in ("node", "chromium") if not shutil.which(program)]
    absent = [f"{', '.join(packages)} in KERAS_DAE_NODE_MODULES"] * bool(packages) + programs
    return f"not found: {'; '.join(absent)}" if absent else ""


class Browser:
    """Runs the scenarios of browser.cjs, each in a new page. It is a context manager. `flags` are for chromium."""

    def __init__(self, *flags):
        self.flags = flags

    def __enter__(self):
        command = ["node", Path(__file__).with_suffix(".cjs"), shutil.which("chromium"), *self.flags]
        environment = {**os.environ, "NODE_PATH": os.environ["KERAS_DAE_NODE_MODULES"]}
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()

    def run(self, scenario, url, **arguments):
        """Return `(result, errors, requests)`: errors on the console, and the addresses that the page requested."""
        self.process.stdin.write(json.dumps({"scenario": scenario, "url": url, **arguments}) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        assert "failure" not in answer, answer["failure"]
        return answer["result"], answer["errors"], answer["requests"]


@contextmanager
def served(folder):
    """Serve a site with `export.web.serve`, and yield its address."""
    with make_server(folder) as server, _running(server) as url:
        yield url


@contextmanager
def served_plainly(folder):
    """Serve a folder like a host that knows few file types and lets browsers unpack .gz, and yield its address."""

    class Plain(Handler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(folder), extra_headers={})

        def guess_type(self, path):
            known = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".wasm": "application/wasm"}
            return known.get(Path(path).suffix, "application/octet-stream")

        def end_headers(self):
            if self.path.endswith(".gz"):
                self.send_header("Content-Encoding", "gzip")
            super().end_headers()

    with Server(("127.0.0.1", 0), Plain) as server, _running(server) as url:
        yield url


@contextmanager
def _running(server):
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        thread.join()
