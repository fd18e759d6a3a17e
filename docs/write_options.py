"""Write docs/commands.md, the options of every command, from their parsers: `python docs/write_options.py`."""

import argparse
import importlib
from collections.abc import Iterator
from pathlib import Path

from keras_dae.cli import COMMANDS

TARGET = Path(__file__).parent / "commands.md"
OTHER_MODULES = ("export.web.__main__", "export.serving.client", "export.serving.ray_app")
INTRODUCTION = """\
# Commands and their options

This file is written by `python docs/write_options.py` from the help texts of the commands. A test fails when it is out
of date.

The console script `keras-dae` runs these commands:

| command | the same as | what it does |
|---|---|---|
"""


def text() -> str:
    """Return the content of commands.md."""
    rows = [
        f"| `keras-dae {name}` | `{_run_as(module)}` | {_cell(about)} |\n" for name, (module, about) in COMMANDS.items()
    ]
    modules = [*(module for module, _ in COMMANDS.values()), *OTHER_MODULES]
    sections = [part for module in modules for part in _sections(importlib.import_module(module).parser())]
    return INTRODUCTION + "".join(rows) + "".join(sections)


def _run_as(module: str) -> str:
    """Return the command line that runs a module.

    Example:
        >>> _run_as("keras_dae.train.__main__")
        'python -m keras_dae.train'
    """
    return f"python -m {module.removesuffix('.__main__')}"


def _sections(parser: argparse.ArgumentParser) -> Iterator[str]:
    """Yield the Markdown of a command and then of each of its sub-commands."""
    yield f"\n## {parser.prog}\n"
    if parser.description:
        yield f"\n{_prose(parser.description)}\n"
    # argparse has no public list of groups. The first two are its own: the arguments and the untitled options.
    arguments, options, *titled = parser._action_groups
    yield _table(parser, "", [*arguments._group_actions, *options._group_actions])
    for group in titled:
        yield _table(parser, group.title or "", group._group_actions)
    if parser.epilog:
        yield f"\n{_prose(parser.epilog)}\n"
    for action in arguments._group_actions:
        if isinstance(action, argparse._SubParsersAction):
            for subparser in action.choices.values():
                yield from _sections(subparser)


def _table(parser: argparse.ArgumentParser, title: str, actions: list[argparse.Action]) -> str:
    """Return a group of options as a table, without --help and sub-commands; nothing if no options are left."""
    rows = "".join(
        _row(parser, action)
        for action in actions
        if not isinstance(action, argparse._HelpAction | argparse._SubParsersAction)
    )
    heading = f"\n**{title.capitalize()}**\n" if title else ""
    return f"{heading}\n| option | value | meaning |\n|---|---|---|\n{rows}" if rows else ""


def _row(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    """Return the table row of one option or positional argument."""
    name = ", ".join(f"`{option}`" for option in action.option_strings) or f"`{action.metavar or action.dest}`"
    if action.required and action.option_strings:
        name += " (required)"
    meaning = parser._get_formatter()._expand_help(action) if action.help else ""
    return f"| {name} | {_value(action)} | {_cell(meaning)} |\n"


def _value(action: argparse.Action) -> str:
    """Return what follows an option in Markdown, such as `` `F` … ``; an empty string for a switch."""
    if action.nargs == 0:
        return ""
    if isinstance(action.metavar, tuple):
        return f"`{' '.join(action.metavar)}`"
    if action.choices is not None:
        choices = ", ".join(f"`{choice}`" for choice in action.choices)
        return f"one or more of {choices}" if action.nargs == "+" else choices
    if not action.option_strings:
        return "one or more" if action.nargs == "+" else ""
    value = f"`{action.metavar or action.dest.upper()}`"
    return {"+": f"{value} …", "?": f"{value} or nothing"}.get(str(action.nargs), value)


def _prose(text: str) -> str:
    return " ".join(text.split()).replace("<", "&lt;")


def _cell(text: str) -> str:
    return _prose(text).replace("|", "\\|").replace("*", "\\*")


if __name__ == "__main__":
    TARGET.write_text(text(), encoding="utf-8")
