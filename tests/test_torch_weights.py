import pickle

import numpy as np
import pytest
from conftest import assert_user_error
from safetensors.numpy import load_file, save_file

from keras_dae.config import TrainConfig
from keras_dae.errors import UserError
from keras_dae.networks.autoencoder import build_autoencoder
from keras_dae.torch_weights import expected_shapes, from_state_dict, load_state_dict, main, to_state_dict

SIZES = [(28, 28), (20, 20), (30, 45), (17, 64)]


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch", reason="torch is not installed")


@pytest.fixture
def original(torch):
    """The PyTorch original with weights that PyTorch initialized."""
    torch.manual_seed(0)
    return pytorch_autoencoder()


def pytorch_autoencoder(channels=1):
    from benchmarks.torch_original import Autoencoder  # which imports torch

    return Autoencoder(channels)


def torch_denoise(torch, model, images):
    with torch.no_grad():
        return model(torch.from_numpy(images.transpose(0, 3, 1, 2))).numpy().transpose(0, 2, 3, 1)


def random_state(channels=1):
    random = np.random.default_rng(0)
    return {k: random.normal(0, 0.1, shape).astype(np.float32) for k, shape in expected_shapes(channels).items()}


def assert_same_pixels(torch, theirs, ours, channels=1):
    for size in SIZES:
        images = np.random.default_rng(1).random((3, *size, channels), dtype=np.float32)
        np.testing.assert_allclose(ours.predict(images, verbose=0), torch_denoise(torch, theirs, images), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_pytorch_weights_give_the_same_pixels(torch, tmp_path, suffix, channels):
    torch.manual_seed(0)
    original = pytorch_autoencoder(channels)
    path = tmp_path / f"original.{suffix}"
    if suffix == "pt":
        torch.save(original.state_dict(), path)
    else:
        pytest.importorskip("safetensors.torch").save_file(original.state_dict(), path)
    assert_same_pixels(torch, original, from_state_dict(load_state_dict(path)), channels)


def test_keras_weights_give_the_same_pixels_in_pytorch(torch):
    ours = build_autoencoder(seed=3)
    theirs = pytorch_autoencoder()
    theirs.load_state_dict({key: torch.from_numpy(value) for key, value in to_state_dict(ours).items()})
    assert_same_pixels(torch, theirs, ours)


@pytest.mark.slow
def test_trained_weights_give_the_same_pixels_both_ways(torch, original, digits):
    """Train the original in PyTorch, then in Keras, and compare the pixels after each."""
    clean = (digits[:, None] / 255).astype(np.float32)
    optimizer = torch.optim.Adam(original.parameters(), lr=0.003)
    for _ in range(30):
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(original(torch.from_numpy(clean)), torch.from_numpy(clean)).backward()
        optimizer.step()
    ours = from_state_dict({key: value.numpy() for key, value in original.state_dict().items()})
    assert_same_pixels(torch, original, ours)

    images = clean.transpose(0, 2, 3, 1)
    before = to_state_dict(ours)
    ours.compile("adam", "mse")
    ours.fit(images, images, epochs=3, verbose=0)
    after = to_state_dict(ours)
    assert all((before[key] != after[key]).any() for key in before)
    original.load_state_dict({key: torch.from_numpy(value) for key, value in after.items()})
    assert_same_pixels(torch, original, ours)


def test_import_and_export_are_bitwise_identical(tmp_path):
    save_file(random_state(), tmp_path / "original.safetensors")
    assert main(["import", str(tmp_path / "original.safetensors"), "--output-dir", str(tmp_path / "run")]) == 0
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"config.json", "model.keras"}
    assert main(["export", str(tmp_path / "run"), str(tmp_path / "back.safetensors")]) == 0
    assert (tmp_path / "original.safetensors").read_bytes() == (tmp_path / "back.safetensors").read_bytes()


def test_export_as_pt(torch, tmp_path):
    build_autoencoder(seed=0).save(tmp_path / "model.keras")
    assert main(["export", str(tmp_path / "model.keras"), str(tmp_path / "model.pt")]) == 0
    pytorch_autoencoder().load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True))


def test_export_does_not_touch_what_is_there(tmp_path, capsys):
    save_file(random_state(), tmp_path / "original.safetensors")
    assert main(["import", str(tmp_path / "original.safetensors"), "--output-dir", str(tmp_path / "run")]) == 0
    (tmp_path / "mine.safetensors").write_text("mine")
    command = ["export", str(tmp_path / "run"), str(tmp_path / "mine.safetensors")]
    assert_user_error(main(command), capsys.readouterr().err, "--overwrite")
    assert (tmp_path / "mine.safetensors").read_text() == "mine"
    assert main([*command, "--overwrite"]) == 0
    assert (tmp_path / "mine.safetensors").read_bytes() == (tmp_path / "original.safetensors").read_bytes()


def test_import_does_not_touch_a_training(tmp_path, capsys):
    save_file(random_state(), tmp_path / "original.safetensors")
    (tmp_path / "run.partial").mkdir()
    (tmp_path / "run.partial" / "config.json").write_text("of a training")
    status = main(["import", str(tmp_path / "original.safetensors"), "--output-dir", str(tmp_path / "run")])
    assert_user_error(status, capsys.readouterr().err, "run.partial is there already")
    assert (tmp_path / "run.partial" / "config.json").read_text() == "of a training"


def test_import_does_not_touch_what_is_there(tmp_path, capsys):
    save_file(random_state(), tmp_path / "original.safetensors")
    (tmp_path / "run").mkdir()
    status = main(["import", str(tmp_path / "original.safetensors"), "--output-dir", str(tmp_path / "run")])
    assert_user_error(status, capsys.readouterr().err, "run", "there already")
    assert not any((tmp_path / "run").iterdir())


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda s: s.pop("decoder.4.bias"), ["missing decoder.4.bias"]),
        (lambda s: s.update({"encoder.5.weight": np.zeros(1, np.float32)}), ["extra encoder.5.weight"]),
        (
            lambda s: s.update({"encoder.4.weight": np.zeros((64, 32, 7, 7), np.float32)}),
            ["encoder.4.weight", "(64, 32, 7, 7)", "expected (64, 32, 5, 5)"],
        ),
        (lambda s: s.update({"encoder.0.bias": np.zeros(16, np.float16)}), ["encoder.0.bias is float16"]),
        (lambda s: s.update({"encoder.0.bias": np.full(16, np.nan, np.float32)}), ["encoder.0.bias holds NaN"]),
    ],
)
def test_wrong_state_dict_is_named(tmp_path, capsys, change, expected):
    state = random_state()
    change(state)
    save_file(state, tmp_path / "wrong.safetensors")
    status = main(["import", str(tmp_path / "wrong.safetensors"), "--output-dir", str(tmp_path / "run")])
    assert_user_error(status, capsys.readouterr().err, "wrong.safetensors", *expected)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("suffix", ["safetensors", "pt"])
@pytest.mark.parametrize("content", [b"", b"not weights at all", b"PK\x03\x04 cut"])
def test_damaged_file(tmp_path, suffix, content):
    if suffix == "pt":
        pytest.importorskip("torch", reason="torch is not installed")
    path = tmp_path / f"damaged.{suffix}"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"damaged\."):
        load_state_dict(path)


def test_cut_files(torch, original, tmp_path):
    torch.save(original.state_dict(), tmp_path / "whole.pt")
    save_file(random_state(), tmp_path / "whole.safetensors")
    for name in ("whole.pt", "whole.safetensors"):
        cut = tmp_path / name.replace("whole", "cut")
        cut.write_bytes((tmp_path / name).read_bytes()[:-1000])
        with pytest.raises(UserError, match=r"cannot read .*cut"):
            load_state_dict(cut)


class Hostile:
    def __init__(self, victim):
        self.victim = victim

    def __reduce__(self):
        return (open, (str(self.victim), "w"))


def test_hostile_pickle_runs_nothing(torch, tmp_path):
    for name, save in (("a.pt", torch.save), ("b.pt", lambda value, path: path.write_bytes(pickle.dumps(value)))):
        save({"encoder.0.weight": Hostile(tmp_path / "victim")}, tmp_path / name)
        with pytest.raises(UserError, match="not a plain state_dict"):
            load_state_dict(tmp_path / name)
    assert not (tmp_path / "victim").exists()


def test_whole_pickled_module_is_refused(torch, tmp_path):
    torch.save(torch.nn.Linear(1, 1), tmp_path / "module.pt")
    with pytest.raises(UserError, match="state_dict"):
        load_state_dict(tmp_path / "module.pt")


@pytest.mark.parametrize("name", ["missing.safetensors", "weights.h5"])
def test_missing_or_foreign_file(tmp_path, name):
    with pytest.raises(UserError, match=name):
        load_state_dict(tmp_path / name)


def test_export_of_another_network_is_refused(tmp_path, capsys):
    import keras

    keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]).save(tmp_path / "other.keras")
    status = main(["export", str(tmp_path / "other.keras"), str(tmp_path / "out.safetensors")])
    assert_user_error(status, capsys.readouterr().err, "not this network")
    assert not (tmp_path / "out.safetensors").exists()


def test_seed_recipe_starts_like_pytorch():
    """The config's default initialization is PyTorch's, so that the original's training is reproduced."""
    assert TrainConfig().initialization == "torch"


def test_state_dict_has_the_files_tensors(tmp_path):
    save_file(random_state(3), tmp_path / "colour.safetensors")
    state = to_state_dict(from_state_dict(load_state_dict(tmp_path / "colour.safetensors")))
    for key, value in load_file(tmp_path / "colour.safetensors").items():
        assert np.array_equal(value, state[key])
