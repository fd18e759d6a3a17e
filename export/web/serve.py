"""Serve a folder on this machine, with the HTTP headers that let onnxruntime-web use threads."""

import functools
import os
import sys
from collections.abc import Mapping
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from keras_dae.errors import UserError

# Threads need shared memory, which a page gets only if it refuses content from other hosts that do not allow it.
ISOLATION_HEADERS = {"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp"}
CONTENT_TYPES = {
    ".js": "text/javascript",
    ".wasm": "application/wasm",
}


class Handler(SimpleHTTPRequestHandler):
    """Answers requests with the files of one folder, and adds `extra_headers` to each answer."""

    protocol_version = "HTTP/1.1"  # one connection serves many files
    extensions_map = SimpleHTTPRequestHandler.extensions_map | CONTENT_TYPES

    def __init__(self, *args, extra_headers: Mapping[str, str] = ISOLATION_HEADERS, **kwargs):
        self.extra_headers = extra_headers
        super().__init__(*args, **kwargs)

    def end_headers(self):
        for name, value in {**self.extra_headers, "Cache-Control": "no-cache"}.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, *_):
        """Do not log requests."""


class Server(ThreadingHTTPServer):
    """A server that ignores connections closed by the browser."""

    def handle_error(self, request, client_address):
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


def make_server(
    folder: str | os.PathLike, port: int = 0, extra_headers: Mapping[str, str] = ISOLATION_HEADERS
) -> Server:
    """Return a server for a folder on 127.0.0.1. Call its `serve_forever`.

    Args:
        folder: a site that `build_site` built.
        port: 0 for any free port.
        extra_headers: HTTP headers for each answer.

    Raises:
        UserError: the folder holds no site, or the port is taken.
    """
    if not Path(folder, "index.html").is_file():
        raise UserError(
            f"expected a site in {folder}, found no index.html; python -m export web --output-dir builds one"
        )
    handler = functools.partial(Handler, directory=str(folder), extra_headers=extra_headers)
    try:
        return Server(("127.0.0.1", port), handler)
    except (OSError, OverflowError) as error:
        raise UserError(f"cannot serve on 127.0.0.1:{port}: {error}; give another --port") from None


def serve(folder: str | os.PathLike, port: int) -> None:
    """Serve a folder on 127.0.0.1 until Ctrl-C."""
    with make_server(folder, port) as server:
        print(f"http://127.0.0.1:{server.server_port}/ (Ctrl-C ends it)", flush=True)
        server.serve_forever()
