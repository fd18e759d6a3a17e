"""`python -m export web`: build the page, or serve it on this machine."""

import argparse
import contextlib
import sys
import tempfile
from pathlib import Path

from keras_dae.errors import run_command


def parser(prog="python -m export web"):
    """Return the argument parser of the command."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Build a static web page that denoises in the browser, for any web server; or try it at once.",
    )
    parser.add_argument("--output-dir", help="the site's folder, to be made")
    parser.add_argument(
        "--model",
        action="append",
        type=_named,
        metavar="NAME=RUN",
        help="run folder with exports, shown as NAME; may be repeated (the shipped models)",
    )
    parser.add_argument(
        "--node-modules", metavar="DIR", help="with onnxruntime-web ($KERAS_DAE_NODE_MODULES; else npm fetches it)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace a site that is there already")
    parser.add_argument(
        "--serve", action="store_true", help="serve the site on 127.0.0.1; without --output-dir, a new one"
    )
    parser.add_argument("--port", type=int, default=8000, help="(%(default)s)")
    return parser


def main(argv=None, prog="python -m export web"):
    """Command line of `build_site` and `serve`; returns the exit status."""
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
        is_there = Path(folder, "index.html").is_file()
        if not (options.serve and is_there) or options.model or options.overwrite:
            build_site(folder, options.model, options.node_modules, options.overwrite)
        if options.serve:
            serve(folder, options.port)
        else:
            print(f"{folder}: put it on any web server; add --serve to see it on this machine")


if __name__ == "__main__":
    sys.exit(main())
