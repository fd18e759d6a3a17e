"""`python -m export web`: build the web page, or serve it on this machine."""

import argparse
import contextlib
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from keras_dae._util.command import prepare_command
from keras_dae.errors import run_command


def parser(prog: str = "python -m export web") -> argparse.ArgumentParser:
    """Return the argument parser of the command."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Build a static web page that denoises in the browser, or serve it on this machine.",
    )
    parser.add_argument("--output-dir", help="folder to write the site into")
    parser.add_argument(
        "--model",
        action="append",
        type=_named,
        metavar="NAME=RUN",
        help="run folder with exports, and its name on the page; may be repeated (default: the shipped models)",
    )
    parser.add_argument(
        "--node-modules",
        metavar="DIR",
        help="folder that holds onnxruntime-web (default: $KERAS_DAE_NODE_MODULES; if that is not set, npm fetches it)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an existing site")
    parser.add_argument(
        "--serve", action="store_true", help="serve the site on 127.0.0.1; without --output-dir, build a temporary one"
    )
    parser.add_argument("--port", type=int, default=8000, help="port for --serve (default: %(default)s)")
    return parser


def main(argv: Sequence[str] | None = None, prog: str = "python -m export web") -> int:
    """Run the command: `build_site`, `serve` or both. Returns the exit status."""
    prepare_command()
    command_parser = parser(prog)
    options = command_parser.parse_args(argv)
    if not options.output_dir and not options.serve:
        command_parser.error("expected --output-dir, --serve or both")
    return run_command(_run, options)


def _named(text):
    name, equals, run = text.partition("=")
    if not (name and equals and run):
        raise argparse.ArgumentTypeError(f"expected NAME=RUN, got {text}")
    return name, run


def _run(options):
    from export.web.build import build_site
    from export.web.serve import serve

    with contextlib.ExitStack() as stack:
        folder = options.output_dir or Path(stack.enter_context(tempfile.TemporaryDirectory()), "site")
        exists = Path(folder, "index.html").is_file()
        if not (options.serve and exists) or options.model or options.overwrite:
            build_site(folder, options.model, options.node_modules, options.overwrite)
        if options.serve:
            serve(folder, options.port)
        else:
            print(f"{folder}: copy it to any web server, or add --serve to see it on this machine")


if __name__ == "__main__":
    sys.exit(main())
