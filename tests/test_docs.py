"""The documentation says what is true: options, links, commands, paths and examples."""

import ast
import importlib.util
import re
import runpy
import shlex
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from PIL import Image

import export
import keras_dae
from keras_dae.data.digits import render_digits
from keras_dae.denoise.__main__ import main as denoise
from keras_dae.networks import NETWORKS
from keras_dae.networks.geometry import AUTOENCODER
from keras_dae.networks.unet import UNET

ROOT = Path(__file__).parent.parent
NAMES = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "saved_models/README.md")
CARDS = ("saved_models/mnist/README.md", "saved_models/mnist-blind/README.md")
PAGES = [*(ROOT / name for name in (*NAMES, *CARDS)), *sorted((ROOT / "docs").glob("*.md"))]
every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))

FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)


def blocks(page, language):
    """Return the contents of a page's fenced blocks in one language."""
    return [code for name, code in FENCE.findall(page.read_text(encoding="utf-8")) if name == language]


def links(text):
    """Return the targets of links and pictures outside of code.

    >>> links("[a](b.md#c), `[no](x)` and ![d](e.png)")
    ['b.md#c', 'e.png']
    """
    text = re.sub(r"`[^`\n]*`", "code", FENCE.sub("", text))
    return re.findall(r"\]\(([^)\s]+)\)", text)


def anchors(text):
    """Return the anchors that GitHub gives to the headings of a page.

    >>> sorted(anchors("# From A to `B`\\n## C++\\n## C++"))
    ['c', 'c-1', 'from-a-to-b']
    """
    found = {}
    for heading in re.findall(r"^#+ +(.+?) *$", FENCE.sub("", text), re.MULTILINE):
        anchor = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        found[anchor] = found.get(anchor, -1) + 1
    return {f"{anchor}-{number}" if number else anchor for anchor, last in found.items() for number in range(last + 1)}


@every_page
def test_links(page):
    for link in links(page.read_text(encoding="utf-8")):
        path, _, anchor = link.partition("#")
        if re.match(r"[a-z]+:", path):
            continue
        target = page.parent / unquote(path) if path else page
        assert target.exists(), link
        assert target.resolve().is_relative_to(ROOT), link
        assert not anchor or anchor in anchors(target.read_text(encoding="utf-8")), link


@every_page
def test_python_blocks_are_python(page):
    for code in blocks(page, "python"):
        ast.parse(code)


@every_page
def test_modules_and_files_exist(page):
    text = page.read_text(encoding="utf-8")
    for module in set(re.findall(r"python -m ([a-z_.]+)", text)):
        module = module.rstrip(".")
        assert module == "benchmarks" or importlib.util.find_spec(module), module
    # Paths in backticks that are written from the top of the repository.
    for path in re.findall(r"`(?:python |bash )?((?:keras_dae|export|tests|docs|benchmarks)/[\w./-]+\w/?)", text):
        assert (ROOT / path).exists(), path


@every_page
def test_runs_in_commands_are_there(page):
    """A command that can be pasted names a shipped model, or a placeholder that one must fill in."""
    placeholders = {"RUN", "NAME", "A", "B"}
    made = {"original", "quick"}  # by a command before, on the same page
    for code in (*blocks(page, "bash"), *blocks(page, "python")):
        for name in re.findall(r"saved_models/([\w.-]+)", code):
            assert name in placeholders | made or (ROOT / "saved_models" / name).exists(), name


def test_command_tables_are_the_parsers():
    writer = runpy.run_path(str(ROOT / "docs" / "write_options.py"))
    expected = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    assert writer["text"]() == expected, "run: python docs/write_options.py"


@every_page
def test_options_exist(page):
    """Every option of a command in a bash block is one of that command's options."""
    sections = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8").split("\n## ")[1:]
    known = {section.splitlines()[0]: set(re.findall(r"`(--[\w-]+)`", section)) for section in sections}
    for block in blocks(page, "bash"):
        for line in block.replace("\\\n", " ").splitlines():
            for command in re.split(r"[|;&<>]+", line):
                words = shlex.split(command, comments=True)
                text = " ".join(words)
                name = max((name for name in known if f"{text} ".startswith(f"{name} ")), key=len, default=None)
                if name:
                    options = {word for word in words if word.startswith("--")}
                    assert options <= known[name], command


def test_readme_is_short_and_begins_with_the_two_commands():
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 150
    first, second = lines[3:5]
    assert lines[:3] == ["# keras_dae", "", "```bash"]
    assert first.startswith("pip install -e . && python -m keras_dae.train ")
    assert second.startswith("pip install -e '.[test]' && python -m pytest ")


def test_readme_knows_the_networks_geometry():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert AUTOENCODER.describe(1) in " ".join(text.split())
    assert f"at most {AUTOENCODER.receptive_radius} pixels to each side (`unet`: {UNET.receptive_radius})" in text


def test_table_of_the_networks():
    text = (ROOT / "docs/networks.md").read_text(encoding="utf-8")
    grids = [network.geometry.grid for network in NETWORKS.values()]
    least = [f", at least {grid.min_padded_size}" if grid.min_padded_size > grid.multiple else "" for grid in grids]
    for label, cells in (
        ("parameters, grey", [f"{network.build().count_params():,}" for network in NETWORKS.values()]),
        ("sizes", [f"multiples of {grid.multiple}{suffix}" for grid, suffix in zip(grids, least)]),
        ("an output pixel sees", [f"{grid.receptive_radius} pixels to each side" for grid in grids]),
    ):
        assert f"| {label} | {' | '.join(cells)} |" in text


def test_first_denoising(tmp_path, monkeypatch):
    """README's first command, as it stands there: most of the noise is gone."""
    (code,) = [code for code in blocks(ROOT / "README.md", "bash") if "noisy_digit.png" in code]
    words = shlex.split(code)
    assert words[:3] == ["python", "-m", "keras_dae.denoise"]
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    monkeypatch.chdir(tmp_path)
    assert denoise(words[3:]) == 0
    clean = render_digits(1, seed=1)[0][0] / 255
    noisy, denoised = (
        np.asarray(Image.open(path)) / 255
        for path in (ROOT / "docs" / "examples" / "noisy_digit.png", tmp_path / "denoised" / "noisy_digit.png")
    )
    assert noisy.shape == denoised.shape == clean.shape
    assert np.mean((denoised - clean) ** 2) < np.mean((noisy - clean) ** 2) / 5


@pytest.mark.slow
def test_noisy_digit_is_what_its_command_writes(tmp_path):
    maker = runpy.run_path(str(ROOT / "docs" / "examples" / "make_noisy_digit.py"))
    written = np.asarray(Image.open(ROOT / "docs" / "examples" / "noisy_digit.png"))
    np.testing.assert_allclose(maker["noisy_digit"]().astype(int), written, atol=1)  # of 255


def test_every_public_name_is_documented():
    text = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    for package in (keras_dae, export):
        for name in package.__all__:
            assert name.startswith("__") or f"`{package.__name__}.{name}`" in text, name
