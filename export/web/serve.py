"""Serve a folder on this machine, with the headers that let onnxruntime-web use threads."""

import functools
import sys
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from keras_dae.errors import UserError

# A page gets shared memory, which threads need, only if it lets nothing from elsewhere in that did not agree.
ISOLATED = {"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp"}
TYPES = {
    ".js": "text/javascript",
    ".wasm": "application/wasm",
}


class Handler(SimpleHTTPRequestHandler):
    """Answers with files of one folder. `headers_sent` are added to each answer."""

    protocol_version = "HTTP/1.1"  # one connection for many files
    extensions_map = SimpleHTTPRequestHandler.extensions_map | TYPES

    def __init__(self, *args, headers_sent=ISOLATED, **kwargs):
        self.headers_sent = headers_sent
        super().__init__(*args, **kwargs)

    def end_headers(self):
        for name, value in {**self.headers_sent, "Cache-Control": "no-cache"}.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, *_):
        """Say nothing of each request."""


class Server(ThreadingHTTPServer):
    """A server that takes it quietly when a browser hangs up."""

    def handle_error(self, request, client_address):
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


def make_server(folder, port=0, headers_sent=ISOLATED):
    """Return a server of a folder on 127.0.0.1; port 0 takes a free one. Call its `serve_forever`.

    Raises:
        UserError: no site in the folder, or the port is taken.
    """
    if not Path(folder, "index.html").is_file():
        raise UserError(
            f"expected a site in {folder}, found no index.html; python -m export web --output-dir builds one"
        )
    handler = functools.partial(Handler, directory=str(folder), headers_sent=headers_sent)
    try:
        return Server(("127.0.0.1", port), handler)
    except (OSError, OverflowError) as error:
        raise UserError(f"cannot serve on 127.0.0.1:{port}: {error}; give another --port") from None


def serve(folder, port):
    """Serve a folder on 127.0.0.1 until Ctrl-C."""
    with make_server(folder, port) as server:
        print(f"http://127.0.0.1:{server.server_port}/ (Ctrl-C ends it)", flush=True)
        server.serve_forever()
