import ast
import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import run_module

import keras_dae
from keras_dae._util.atomic import atomic_file
from keras_dae.config import RECIPES, TrainConfig
from keras_dae.errors import UserError, printable
from keras_dae.train.__main__ import parser

ROOT = Path(__file__).parent.parent


def test_import_is_light():
    code = "import sys, keras_dae; print('\\n'.join(sys.modules))"
    modules = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert not {"tensorflow", "keras", "numpy", "matplotlib"} & set(modules.split())


def test_public_names_are_the_same_for_type_checkers():
    tree = ast.parse((ROOT / "keras_dae/__init__.py").read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    imported = {alias.name: node.module for node in block.body for alias in node.names}
    assert imported == {name: f"keras_dae.{module}" for name, module in keras_dae._MODULE_OF.items()}


def test_public_names_load():
    for name in keras_dae.__all__:
        assert getattr(keras_dae, name) is not None
    assert set(keras_dae.__all__) <= set(dir(keras_dae))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = keras_dae.nothing


@pytest.mark.parametrize("module", ["keras_dae.train", "keras_dae.torch_weights"])
def test_help_does_not_start_tensorflow(module):
    done = run_module(module, "--help")
    assert done.returncode == 0
    assert "usage" in done.stdout
    assert "oneDNN" not in done.stderr


def test_training_help_states_the_defaults():
    others = {"--sigma", "--degrade"}  # other ways to say what an option says
    actions = {action.dest: action for action in parser()._actions if not others & {*action.option_strings}}
    for field in dataclasses.fields(TrainConfig):
        values = field.default if isinstance(field.default, tuple) else (field.default,)
        if field.name not in ("clip", "flips", "split") and None not in values:  # a rule of earlier runs is no option
            assert f"(default: {' '.join(map(str, values))})" in actions[field.name].help


def test_other_ways_to_say_the_noise(capsys):
    assert vars(parser().parse_args(["--sigma", "0", "51"]))["noise_factor"] == [0, 0.2]
    assert vars(parser().parse_args(["--degrade", "photo"]))["noise"] == ["photo"]
    for twice in (["--sigma", "25", "--noise-factor", "0.1"], ["--degrade", "photo", "--noise", "gaussian"]):
        with pytest.raises(SystemExit):
            parser().parse_args(twice)
        assert "not allowed with" in capsys.readouterr().err


def test_recipe_seed_is_the_originals():
    config = TrainConfig.from_recipe("seed")
    assert (config.noise, config.noise_factor, config.clip) == (("gaussian",), (0.5,), True)
    assert (config.batch_size, config.epochs, config.learning_rate, config.schedule) == (100, 5, 0.001, "constant")
    assert config == TrainConfig()
    assert set(RECIPES) == {"seed", "quick", "best", "photo"}


def test_config_round_trip():
    config = TrainConfig.from_recipe("best", noise=("salt", "pepper"), noise_factor=(0.1, 0.2), limit=100)
    assert TrainConfig.from_dict(config.to_dict()) == config
    assert json.loads(json.dumps(TrainConfig(seed=np.int64(3), beta_1=np.float32(0.5)).to_dict()))["seed"] == 3


@pytest.mark.parametrize(
    "values",
    [
        {"channels": 2},
        {"patch_size": 16},
        {"patch_size": 30},
        {"limit": 0},
        {"validation_split": 0.0},
        {"epochs": 0},
        {"learning_rate": float("nan")},
        {"beta_2": 1.0},
        {"schedule": "linear"},
        {"initialization": "xavier"},
        {"early_stopping": 0},
        {"seed": -1},
        {"recipe": "worst"},
        {"noise": "rain"},
        {"noise_factor": (-1,)},
    ],
)
def test_config_out_of_range(values):
    with pytest.raises(UserError, match=f"expected {next(iter(values))}"):
        TrainConfig(**values)


def test_file_is_written_atomically(tmp_path):
    target = tmp_path / "file.txt"
    with atomic_file(target) as temporary:
        temporary.write_text("first")
        assert not target.exists()
    with pytest.raises(RuntimeError), atomic_file(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert target.read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["file.txt"]
    with pytest.raises(UserError, match="cannot write"), atomic_file(target / "below a file"):
        pass


def test_printable():
    assert printable("a\nb\x1b[31m\udcff") == "a\\nb\\x1b[31m\\udcff"
