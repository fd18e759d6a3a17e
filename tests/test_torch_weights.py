import argparse
import pickle
import sys

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


@pytest.mark.parametrize("name", ["model.pt", "MODEL.PTH", "model.ckpt", "model.bin"])
def test_export_as_pt(torch, tmp_path, name):
    build_autoencoder(seed=0).save(tmp_path / "model.keras")
    assert main(["export", str(tmp_path / "model.keras"), str(tmp_path / name)]) == 0
    pytorch_autoencoder().load_state_dict(torch.load(tmp_path / name, weights_only=True))


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
        (lambda s: s.update({"encoder.0.bias": np.full(16, 1 / 3)}), ["encoder.0.bias is float64", "exactly"]),
        (lambda s: s.update({"encoder.0.bias": np.zeros(16, np.int64)}), ["encoder.0.bias is int64"]),
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
    state = {"encoder.0.weight": Hostile(tmp_path / "victim")}
    torch.save(state, tmp_path / "a.pt")
    with pytest.raises(UserError, match=r"it holds io\.open, .* could run code"):
        load_state_dict(tmp_path / "a.pt")
    (tmp_path / "b.pt").write_bytes(pickle.dumps(state, protocol=2))
    with pytest.raises(UserError, match=r"cannot read .*b\.pt as PyTorch weights"):
        load_state_dict(tmp_path / "b.pt")
    assert not (tmp_path / "victim").exists()


def test_the_reason_is_what_the_file_holds(torch, tmp_path):
    """Each file that is no state_dict is refused for its own reason, in one line without advice to load it unsafely."""
    torch.save(torch.nn.Linear(1, 1), tmp_path / "a module")
    torch.save([torch.ones(2)], tmp_path / "a list")
    torch.save({"epoch": 3}, tmp_path / "no tensors")
    torch.save({f"layer{index}.weight": torch.ones(1) for index in range(7)}, tmp_path / "another network")
    torch.save(dict.fromkeys(random_state(), torch.ones(2, device="meta")), tmp_path / "no values")
    torch.jit.save(torch.jit.script(torch.nn.ReLU()), tmp_path / "a program")
    np.savez(tmp_path / "arrays.npz", a=np.ones(1))
    np.save(tmp_path / "array.npy", np.ones(1))
    (tmp_path / "empty").touch()
    reasons = {
        "a module": r"it holds torch\.nn\.modules\.linear\.Linear, which is not loaded, because it could run code",
        "a list": "got no tensors",
        "no tensors": "got no tensors",
        "another network": r"got layer0\.weight, .* and others",
        "no values": "cannot read the tensors",
        "a program": "it is a TorchScript program",
        "arrays.npz": r"zip archive that torch\.save did not write; it holds a\.npy",
        "array.npy": "neither safetensors nor a file of torch.save",
        "empty": "it is empty",
    }
    for name, reason in reasons.items():
        with pytest.raises(UserError, match=reason) as refused:
            load_state_dict(tmp_path / name)
        assert name in str(refused.value) and "\n" not in str(refused.value)
        assert ("run code" in str(refused.value)) == (name == "a module")
        assert "weights_only" not in str(refused.value)


def test_missing_file(tmp_path):
    with pytest.raises(UserError, match=r"missing\.safetensors, which is not there"):
        load_state_dict(tmp_path / "missing.safetensors")


def assert_loads(path, expected):
    state = load_state_dict(path)
    assert set(state) == set(expected)
    for key, value in expected.items():
        assert state[key].dtype == np.float32
        assert np.array_equal(state[key], value), key


@pytest.mark.parametrize("name", ["w.ckpt", "w.bin", "w.PTH", "w.pth", "w.pt", "w.safetensors", "weights", "w.h5"])
@pytest.mark.parametrize("kind", ["torch", "old torch", "safetensors"])
def test_the_content_decides_not_the_ending(torch, tmp_path, name, kind):
    state = random_state()
    if kind == "safetensors":
        save_file(state, tmp_path / name)
    else:
        tensors = {key: torch.from_numpy(value) for key, value in state.items()}
        torch.save(tensors, tmp_path / name, _use_new_zipfile_serialization=kind == "torch")
    assert_loads(tmp_path / name, state)


PREFIXES = ["module.", "_orig_mod.", "model.", "net.", "_orig_mod.module.", "model.encoder.", "my-net.0."]


@pytest.mark.parametrize("prefix", PREFIXES)
def test_a_common_prefix_is_removed(tmp_path, prefix):
    state = random_state()
    save_file({f"{prefix}{key}": value for key, value in state.items()}, tmp_path / "w.safetensors")
    assert_loads(tmp_path / "w.safetensors", state)
    save_file(
        {f"{prefix}{key}": v for key, v in state.items() if key != "decoder.0.bias"}, tmp_path / "less.safetensors"
    )
    with pytest.raises(UserError, match=r"less.*: missing decoder\.0\.bias$"):
        load_state_dict(tmp_path / "less.safetensors")


def test_wrapped_parts(torch, original, tmp_path):
    """What PyTorch's own wrappers make of the keys, of the whole network or of a part of it."""
    state = {key: value.numpy() for key, value in original.state_dict().items()}
    averaged = torch.optim.swa_utils.AveragedModel(original)
    original.encoder = torch.nn.DataParallel(original.encoder)
    original.decoder = torch.compile(original.decoder)
    for model, key in ((original, "encoder.module.0.weight"), (averaged, "n_averaged")):
        assert key in model.state_dict()
        torch.save(model.state_dict(), tmp_path / "wrapped.pt")
        assert_loads(tmp_path / "wrapped.pt", state)


@pytest.mark.parametrize(
    "place", ["state_dict", "model_state_dict", "model", "weights", "net", "checkpoint/model/state_dict"]
)
def test_the_dict_of_weights_in_a_checkpoint_is_taken(torch, tmp_path, place):
    """As training scripts and Lightning write it: with options, counters, and the state of an optimizer."""
    state = random_state()
    network = pytorch_autoencoder()
    network.load_state_dict({key: torch.from_numpy(value) for key, value in state.items()})
    optimizer = torch.optim.Adam(network.parameters())
    sum(parameter.sum() for parameter in network.parameters()).backward()
    optimizer.step()
    network.load_state_dict({key: torch.from_numpy(value) for key, value in state.items()})
    content = {f"model.{key}": value for key, value in network.state_dict().items()}
    for name in reversed(place.split("/")):
        content = {name: content}
    content |= {"epoch": 3, "loss": torch.tensor(0.5), "optimizer": optimizer.state_dict(), "loops": {"a": {"b": {}}}}
    content |= {
        "hyper_parameters": argparse.Namespace(lr=0.1),
        "pytorch-lightning_version": "2.5",
        "callbacks": [1, None],
    }
    torch.save(content, tmp_path / "last.ckpt")
    assert_loads(tmp_path / "last.ckpt", state)


def test_parameters_are_taken(torch, original, tmp_path):
    torch.save(dict(original.named_parameters()), tmp_path / "parameters.pt")
    assert_loads(tmp_path / "parameters.pt", {key: value.numpy() for key, value in original.state_dict().items()})


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_other_floats_are_cast_exactly(torch, tmp_path, dtype, suffix):
    dtype = getattr(torch, dtype)
    tensors = {key: torch.from_numpy(value).to(torch.bfloat16).to(dtype) for key, value in random_state().items()}
    path = tmp_path / f"w.{suffix}"
    if suffix == "pt":
        torch.save(tensors, path)
    else:
        pytest.importorskip("safetensors.torch").save_file(tensors, path)
    assert_loads(path, {key: tensor.to(torch.float32).numpy() for key, tensor in tensors.items()})


def test_two_networks_in_a_file(torch, tmp_path):
    """Which of them is meant cannot be known; if they are equal, it does not matter."""
    state = {key: torch.from_numpy(value) for key, value in random_state().items()}
    torch.save({"model": state, "ema": {**state, "encoder.0.bias": torch.zeros(16)}}, tmp_path / "two.pt")
    with pytest.raises(UserError, match=r"holds several networks: model/\*, ema/\*; save"):
        load_state_dict(tmp_path / "two.pt")
    both = {f"{prefix}{key}": value for prefix in ("student.", "teacher.") for key, value in state.items()}
    torch.save({**both, "teacher.encoder.0.bias": torch.zeros(16)}, tmp_path / "two.pt")
    with pytest.raises(UserError, match=r"holds several networks: student\.\*, teacher\.\*; save"):
        load_state_dict(tmp_path / "two.pt")
    torch.save({"model": state, "ema": state}, tmp_path / "two.pt")
    assert_loads(tmp_path / "two.pt", random_state())


def test_without_pytorch(tmp_path, monkeypatch):
    (tmp_path / "weights").write_bytes(b"PK\x03\x04")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(UserError, match=r"weights needs PyTorch \(pip install torch\)"):
        load_state_dict(tmp_path / "weights")


def test_export_of_another_network_is_refused(tmp_path, capsys):
    import keras

    keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]).save(tmp_path / "other.keras")
    status = main(["export", str(tmp_path / "other.keras"), str(tmp_path / "out.safetensors")])
    assert_user_error(status, capsys.readouterr().err, "not this network")
    assert not (tmp_path / "out.safetensors").exists()


def test_seed_recipe_starts_like_pytorch(torch):
    """Each tensor of the untrained network is spread like that of a new network of PyTorch's, over 20 seeds."""
    config = TrainConfig.from_recipe("seed")

    def quantiles(states):
        return {
            key: np.quantile(np.concatenate([np.ravel(state[key]) for state in states]), [0, 0.25, 0.5, 0.75, 1])
            for key in states[0]
        }

    def torch_state(seed):
        torch.manual_seed(seed)
        return {key: tensor.numpy() for key, tensor in pytorch_autoencoder().state_dict().items()}

    keras_states = [
        to_state_dict(build_autoencoder(initialization=config.initialization, seed=seed)) for seed in range(20)
    ]
    ours, theirs = quantiles(keras_states), quantiles([torch_state(seed) for seed in range(20)])
    assert ours.keys() == theirs.keys()
    for key, expected in theirs.items():
        count = 20 * keras_states[0][key].size
        np.testing.assert_allclose(ours[key], expected, atol=expected[-1] * 6 / count**0.5, err_msg=key)


def test_state_dict_has_the_files_tensors(tmp_path):
    save_file(random_state(3), tmp_path / "colour.safetensors")
    state = to_state_dict(from_state_dict(load_state_dict(tmp_path / "colour.safetensors")))
    for key, value in load_file(tmp_path / "colour.safetensors").items():
        assert np.array_equal(value, state[key])
