"""The directions of the package's imports, read from the source: what may import what, and what stays light."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# A module may import modules of its own level and of the levels above it in this list, never of those below it.
# Each entry names a module or a package; the longest entry that fits a module counts.
LEVELS = [
    {"keras_dae", "keras_dae._util", "keras_dae.errors", "keras_dae.networks.geometry"},
    {"keras_dae.noise_names", "keras_dae.noise", "keras_dae.metrics", "keras_dae.networks"},
    {"keras_dae.config", "keras_dae.images"},
    {"keras_dae.data", "keras_dae.runs", "keras_dae.report", "keras_dae.pretrained"},
    {"keras_dae.torch_weights", "keras_dae.inspect"},
    {"keras_dae.denoise"},
    {"keras_dae.evaluate"},
    {"keras_dae.train"},
    {"export"},
    {"keras_dae.train.__main__", "keras_dae.models", "keras_dae.cli", "keras_dae.__main__"},
]
LEVEL_OF = {name: level for level, names in enumerate(LEVELS) for name in names}
# Their public names are listed for type checkers, and load on first use.
LAZY_PACKAGES = {"keras_dae", "export"}
MAX_TOP_LEVEL_FILES = 14


def module_files(root):
    """Return `module name -> file` for all modules of both packages; a package goes by its own name."""
    files = {}
    for path in sorted([*root.glob("keras_dae/**/*.py"), *root.glob("export/**/*.py")]):
        parts = path.relative_to(root).with_suffix("").parts
        files[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return files


def imports_of(path, modules):
    """Return what a file imports: a set of `(name, is for type checkers only)`.

    Imports inside functions count. `from package import name` imports `package.name` if that is a module of ours.
    """
    found = set()

    def visit(node, for_types):
        if isinstance(node, ast.Import):
            found.update((alias.name, for_types) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                found.add((name if name in modules else node.module, for_types))
        elif isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            for child in node.body:
                visit(child, True)
            for child in node.orelse:
                visit(child, for_types)
        else:
            for child in ast.iter_child_nodes(node):
                visit(child, for_types)

    visit(ast.parse(path.read_text()), False)
    return found


def level_of(module):
    """Return the level of the longest entry of LEVELS that the module is, or lies in."""
    parts = module.split(".")
    prefixes = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
    name = next(prefix for prefix in prefixes if prefix in LEVEL_OF)
    if name == "keras_dae" != module:
        raise AssertionError(f"{module} has no level: add it to LEVELS")
    return LEVEL_OF[name]


def upward_imports(imports):
    """Return a line for each import of a module from a higher level."""
    return [
        f"{module} imports {name}, which is above it"
        for module, names in imports.items()
        for name, for_types in sorted(names)
        if name in imports and level_of(name) > level_of(module) and not (for_types and module in LAZY_PACKAGES)
    ]


def circle(imports):
    """Return the modules of one circle of imports in order, the first one again at the end; or None."""
    done = set()

    def search(module, way):
        if module in way:
            return [*way[way.index(module) :], module]
        if module in done:
            return None
        for name, for_types in sorted(imports[module]):
            if name in imports and not for_types and (found := search(name, [*way, module])):
                return found
        done.add(module)
        return None

    return next(filter(None, (search(module, []) for module in imports)), None)


def ways_from(module, imports):
    """Return `name -> chain of imports` for all that a module reaches, other people's packages included."""
    ways = {module: [module]}
    waiting = [module]
    while waiting:
        importer = waiting.pop()
        for name, for_types in sorted(imports.get(importer, ())):
            if not for_types and name not in ways:
                ways[name] = [*ways[importer], name]
                waiting.append(name)
    return ways


def geometry_twins(files):
    """Return a line for each constant that states a size of the network outside networks/geometry.py.

    Such a constant has a size of the network in its name, and a plain number as its value.
    """
    sizes = re.compile(
        r"(^|_)(MULTIPLES?|HALO|RADIUS|RECEPTIVE|STRIDES?|MIN_(IMAGE_|PADDED_)?SIZE)(_|$)", re.IGNORECASE
    )
    twins = []
    for module, path in files.items():
        if module == "keras_dae.networks.geometry":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Assign):
                pairs = [pair for target in node.targets for pair in _unpacked(target, node.value)]
            elif isinstance(node, ast.AnnAssign) and node.value:
                pairs = [(node.target, node.value)]
            else:
                continue
            for target, value in pairs:
                name = target.id if isinstance(target, ast.Name) else getattr(target, "attr", "")
                numeric = isinstance(value, ast.Constant) and type(value.value) in (int, float)
                if numeric and sizes.search(name):
                    twins.append(f"{path.name}:{node.lineno}: {name} = {value.value}: use networks.geometry")
    return twins


def _unpacked(target, value):
    """Return the `(target, value)` pairs of an assignment; `a, b = 1, 2` has two."""
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
        return list(zip(target.elts, value.elts))
    return [(target, value)]


@pytest.fixture(scope="module")
def imports():
    """What each module imports."""
    files = module_files(ROOT)
    return {module: imports_of(path, files) for module, path in files.items()}


def test_imports_run_downwards(imports):
    assert upward_imports(imports) == []


def test_no_circles(imports):
    assert circle(imports) is None


def test_only_the_training_command_imports_export(imports):
    importers = {module for module, names in imports.items() for name, _ in names if name.split(".")[0] == "export"}
    assert {module for module in importers if module.split(".")[0] == "keras_dae"} == {"keras_dae.train.__main__"}


def test_denoising_needs_neither_tensorflow_nor_report(imports):
    for start in imports:
        if start == "keras_dae.pretrained" or start.startswith("keras_dae.denoise"):
            ways = ways_from(start, imports)
            for name, way in ways.items():
                heavy = name.split(".")[0] in ("tensorflow", "keras", "export") or name.startswith("keras_dae.report")
                assert not heavy, " -> ".join(way)


def test_top_level_is_small():
    assert len(list((ROOT / "keras_dae").glob("*.py"))) <= MAX_TOP_LEVEL_FILES


def test_geometry_stands_in_one_place():
    assert geometry_twins(module_files(ROOT)) == []


# What the tests above are for: each violation, planted in a small package, is found.


@pytest.fixture
def planted(tmp_path):
    """Return a function that writes modules of a package, and returns their files and their imports."""

    def plant(**sources):
        for name, source in {"keras_dae": "", **sources}.items():
            path = tmp_path / name.replace("__", "/")
            path = path / "__init__.py" if name == "keras_dae" else path.with_suffix(".py")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(source)
        files = module_files(tmp_path)
        return files, {module: imports_of(path, files) for module, path in files.items()}

    return plant


def test_upward_import_is_found(planted):
    _, imports = planted(
        keras_dae__metrics="def f():\n    from keras_dae.report import text",
        keras_dae__report__text="import keras_dae.metrics",
        keras_dae__errors="from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from keras_dae import config",
        keras_dae__config="",
    )
    assert upward_imports(imports) == [
        "keras_dae.errors imports keras_dae.config, which is above it",
        "keras_dae.metrics imports keras_dae.report.text, which is above it",
    ]


def test_circle_is_found(planted):
    sources = {
        "keras_dae__data__load": "from keras_dae.data import mnist",
        "keras_dae__data__mnist": "def f():\n    from keras_dae.data.digits import g",
        "keras_dae__data__digits": "import keras_dae.data.load",
    }
    found = circle(planted(**sources)[1])
    assert found[0] == found[-1]
    assert set(found) == {"keras_dae.data.load", "keras_dae.data.mnist", "keras_dae.data.digits"}
    sources["keras_dae__data__digits"] = "import typing\nif typing.TYPE_CHECKING:\n    import keras_dae.data.load"
    assert circle(planted(**sources)[1]) is None


def test_module_without_a_level_is_found():
    with pytest.raises(AssertionError, match=r"keras_dae\.extra has no level"):
        level_of("keras_dae.extra")


def test_way_to_tensorflow_is_found(planted):
    _, imports = planted(
        keras_dae__pretrained="from keras_dae.images import read",
        keras_dae__images__read="def f():\n    import tensorflow as tf",
    )
    assert ways_from("keras_dae.pretrained", imports)["tensorflow"] == [
        "keras_dae.pretrained",
        "keras_dae.images.read",
        "tensorflow",
    ]


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("HALO = 24", True),
        ("MIN_SIZE, MAX_SIZE = 20, 64", True),
        ("class Tiles:\n    multiple: int = 4", True),
        ("def f():\n    min_image_size = 20", True),
        ("HALO = AUTOENCODER.halo", False),
        ("MAX_SIZE = 64", False),
    ],
)
def test_geometry_twin_is_found(planted, source, found):
    files, _ = planted(keras_dae__denoise__tiles=source, keras_dae__networks__geometry="MULTIPLE = 4")
    assert bool(geometry_twins(files)) is found
