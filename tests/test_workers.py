"""Several devices in one process, several workers, and a worker that is killed."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import sgd_training
from cluster import ends, private_network, tf_config, training
from conftest import assert_same_run, assert_user_error
from PIL import Image
from test_train import FILES

from keras_dae.data.load import load_dataset
from keras_dae.data.patches import PatchStream
from keras_dae.errors import UserError
from keras_dae.train import workers

SGD = Path(sgd_training.__file__)


@pytest.fixture(scope="module")
def network():
    """The command prefix that runs a command in a separate network."""
    try:
        with private_network() as command:
            yield command
    except OSError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ("", (0, 1)),
        ("{}", (0, 1)),
        (tf_config(0, workers=1), (0, 1)),
        (tf_config(1, workers=3), (1, 3)),
        ('{"cluster": {"chief": ["a:1"], "worker": ["b:1", "c:1"]}, "task": {"type": "worker", "index": 0}}', (1, 3)),
    ],
)
def test_rank_and_count(config, expected, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", config)
    assert workers.rank_and_count() == expected


@pytest.mark.parametrize(
    "config",
    [
        *("{", "[]", '"a:1"', '{"cluster": []}', '{"cluster": {"worker": 3}}'),
        '{"cluster": {"worker": ["a:1", "b:1"]}}',
        '{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 2}}',
        '{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "ps", "index": 0}}',
        '{"cluster": {"worker": ["a:1", "b"]}, "task": {"type": "worker", "index": 0}}',
        '{"cluster": {"worker": ["a:1", "a:1"]}, "task": {"type": "worker", "index": 0}}',
        '{"cluster": {"worker": ["a:1", 1]}, "task": {"type": "worker", "index": 0}}',
        '{"cluster": {"worker": ["a:1"], "ps": ["b:1"]}, "task": {"type": "worker", "index": 0}}',
    ],
)
def test_malformed_tf_config(config, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", config)
    with pytest.raises(UserError, match="expected TF_CONFIG to be like"):
        workers.rank_and_count()


def contexts(count):
    """Return the input contexts of all workers, each with one device."""
    import tensorflow as tf

    return [tf.distribute.InputContext(count, worker, count) for worker in range(count)]


def test_workers_divide_each_batch(digits):
    from keras_dae.config import TrainConfig
    from keras_dae.data.batches import SINGLE_DEVICE, training_batches

    config = TrainConfig(batch_size=8, epochs=1)
    train = digits[..., None]
    alone, first, second = (training_batches(train, config, 0, one).take(10) for one in (SINGLE_DEVICE, *contexts(2)))
    for (_, whole), *divided in zip(alone, first, second):
        assert np.array_equal(whole, np.concatenate([clean for _, clean in divided]))
        noise = [noisy - clean for noisy, clean in divided]
        assert np.mean(noise[0] != noise[1]) > 0.3


def test_workers_divide_the_files():
    from keras_dae.config import TrainConfig
    from keras_dae.data.batches import epoch_plan, training_batches

    images = [np.full((20, 20, 1), 2 * number, np.uint8) for number in range(51)]
    stream = PatchStream(lambda index: (images[index],), (1,) * 51, 20)
    config = TrainConfig(batch_size=10, epochs=1)
    assert epoch_plan(stream, config, 2)[:2] == (10, 5)
    for worker, context in enumerate(contexts(2)):
        batches = training_batches(stream, config, 0, context).take(5)
        seen = np.concatenate([np.rint(clean * 255)[:, 0, 0, 0] for _, clean in batches])
        assert len(set(seen)) == 25
        assert set(seen % 4) == {2 * worker}


@pytest.mark.parametrize(("images", "replicas"), [(600, 2), (5, 2), (1030, 4), (1, 3)])
def test_devices_divide_the_validation_images(images, replicas):
    from keras_dae.data.batches import validation_batches, validation_steps

    steps = validation_steps(images, replicas)
    clean = np.arange(images, dtype=np.float32).reshape(-1, 1, 1, 1)
    sizes = [
        [len(batch) for batch, _ in validation_batches(clean, clean, one).take(steps)] for one in contexts(replicas)
    ]
    assert len({len(of_device) for of_device in sizes}) == 1
    assert 1 <= min(map(min, sizes)) <= max(map(max, sizes)) <= 256
    assert sum(map(sum, sizes)) == (images if images >= replicas else images * replicas)


def test_validation_goes_on():
    """Each validation in `fit` takes the next batches, and gives the mean loss of these batches alone."""
    import keras
    import tensorflow as tf

    from keras_dae.train.distributed import Distributed

    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    with strategy.scope():
        network = keras.Sequential([keras.Input((1, 1, 1)), keras.layers.Conv2D(1, 1, kernel_initializer="ones")])
    model = Distributed(network, micro_batches=1, steps=1)
    with strategy.scope():
        model.compile(keras.optimizers.SGD(0.0), "mse")
        model.optimizer.build(model.trainable_variables)
        images = tf.zeros((1, 1, 1, 1))
        strategy.run(model.compute_metrics, (images, images, images))

    def numbers(context):
        values = tf.data.Dataset.range(5).map(lambda number: tf.fill((1, 1, 1), tf.cast(number, tf.float32)))
        return values.map(lambda value: (tf.zeros_like(value), value)).batch(1).repeat()

    distribute = strategy.distribute_datasets_from_function
    with strategy.scope():
        history = model.fit(
            distribute(numbers),
            steps_per_epoch=2,
            epochs=3,
            validation_data=distribute(numbers),
            validation_steps=2,
            verbose=0,
        ).history
    assert history["val_loss"] == [(0 + 1) / 2, (4 + 9) / 2, (16 + 0) / 2]
    assert history["loss"] == [(0 + 1) / 2, (4 + 9) / 2, (16 + 0) / 2]


@pytest.mark.parametrize("batch", [0, 1, 5])
def test_batch_size_is_no_multiple_of_the_devices(batch):
    class Two:
        num_replicas_in_sync = 2

    with pytest.raises(UserError, match="multiple of the 2 devices"):
        workers.check_batch_size(Two, batch)
    workers.check_batch_size(Two, 6)


def trained_alone(config, batches, monkeypatch):
    """Return the weights after training on `batches` with SGD in one process, and the history."""
    import keras

    from keras_dae.data.batches import epoch_plan, evaluation_images, validation_batches
    from keras_dae.train import fit as fit_module
    from keras_dae.train.average import ValidateAverage
    from keras_dae.train.judgement import fitted_to_length

    monkeypatch.setattr(fit_module.keras.optimizers, "Adam", sgd_training.sgd)
    keras.utils.set_random_seed(config.seed)
    dataset = load_dataset(config)
    noisy, clean = evaluation_images(dataset.validation, config)
    _, steps, _ = epoch_plan(dataset.train, config)
    model = fit_module.compiled_model(fitted_to_length(config, steps), clean.mean(), steps, 1)
    history = model.fit(
        batches,
        steps_per_epoch=steps,
        epochs=config.epochs,
        validation_data=validation_batches(noisy, clean),
        callbacks=[ValidateAverage()],
        verbose=0,
    )
    return model.get_weights(), history.history


def whole_batches(config, count):
    """Return the dataset of whole batches, each made of the parts that the workers get."""
    import tensorflow as tf

    from keras_dae.data.batches import training_batches

    train = load_dataset(config).train
    divided = (training_batches(train, config, 0, context) for context in contexts(count))
    return tf.data.Dataset.zip(tuple(divided)).map(
        lambda *batches: tuple(tf.concat(images, axis=0) for images in zip(*batches))
    )


def losses(folder):
    """Return the training and validation losses in the newest checkpoint, a row per epoch."""
    rows = sorted(folder.glob("checkpoint/epoch-*"))[-1].joinpath("history.csv").read_text().splitlines()[1:]
    return np.array([[float(value) for value in row.split(",")[1:3]] for row in rows])


def check_same_training(folder, count, config, monkeypatch):
    """Check that workers or devices trained the same as one process on the same batches."""
    from keras_dae.data.batches import training_batches

    batches = whole_batches(config, 2) if count > 1 else training_batches(load_dataset(config).train, config)
    expected, history = trained_alone(config, batches, monkeypatch)
    for worker in range(count):
        with np.load(folder / f"worker{worker}.npz") as got:
            for name, weight in zip(got.files, expected, strict=True):
                np.testing.assert_allclose(got[name], weight, atol=1e-6)
    np.testing.assert_allclose(losses(folder), np.transpose([history["loss"], history["val_loss"]]), atol=1e-6)


@pytest.mark.slow
def test_two_devices_do_what_one_does(digits_npz, tmp_path, monkeypatch):
    command = [sys.executable, SGD, digits_npz, tmp_path, "--devices", "2"]
    environment = {**os.environ, "PYTHONPATH": str(SGD.parent.parent)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    check_same_training(tmp_path, 1, sgd_training.config(digits_npz), monkeypatch)


@pytest.mark.slow
def test_two_workers_do_what_one_process_does(network, digits_npz, tmp_path, monkeypatch):
    with training(network, *[[SGD, digits_npz, tmp_path]] * 2) as processes:
        for status, output in ends(processes, 200):
            assert status == 0, output
    check_same_training(tmp_path, 2, sgd_training.config(digits_npz), monkeypatch)
    with np.load(tmp_path / "worker0.npz") as first, np.load(tmp_path / "worker1.npz") as second:
        assert all(np.array_equal(first[name], second[name]) for name in first.files)


@pytest.mark.slow
def test_a_killed_worker_ends_all_and_all_continue(network, digits, tmp_path):
    """With a folder of which each worker reads its part, with early stopping, and with TensorBoard."""
    scans = tmp_path / "scans"
    scans.mkdir()
    for number, image in enumerate(digits):
        Image.fromarray(image).save(scans / f"{number}.png")
    options = ["-m", "keras_dae.train", "--dataset", scans, "--no-export", "--epochs", 6, "--batch-size", 16]
    options += ["--patch-size", 20, "--early-stopping", 5, "--tensorboard", scans / "events"]
    commands = {run: [[*options, "--output-dir", tmp_path / run]] * 2 for run in ("whole", "killed")}
    with training(network, *commands["whole"]) as processes:
        (chief, _), (other, output) = ends(processes, 200)
    assert (chief, other) == (0, 0), output
    assert {path.name for path in (tmp_path / "whole").iterdir()} == FILES
    assert {path.name for path in tmp_path.iterdir()} == {"scans", "whole", ".whole.lock"}
    assert list(scans.glob("events/train/events*"))

    with training(network, *commands["killed"]) as processes:
        until(lambda: list(tmp_path.glob("killed.partial/checkpoint/epoch-*")))
        processes[1].kill()
        ((status, output),) = ends(processes[:1], 200)
    assert status == 1
    assert "error: another worker has ended" in output
    assert "Traceback" not in output
    assert not (tmp_path / "killed").exists()

    with training(network, *commands["killed"]) as processes:
        (chief, output), (other, _) = ends(processes, 200)
    assert (chief, other) == (0, 0), output
    assert "continuing after epoch" in output
    assert_same_run(tmp_path / "whole", tmp_path / "killed")


def until(condition, seconds=200):
    """Wait until a condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.slow
def test_workers_with_other_options(network, digits_npz, tmp_path):
    options = ["-m", "keras_dae.train", "--dataset", digits_npz, "--no-export", "--output-dir", tmp_path / "run"]
    with training(network, [*options, "--epochs", 3], [*options, "--epochs", 4]) as processes:
        (_, first), (status, second) = ends(processes, 200)
    assert_user_error(status, second, "epochs 4 here", "epochs 3 on worker 0")
    assert_user_error(2, first, "epochs 3 here", "epochs 4 on worker 1")


@pytest.mark.slow
def test_a_worker_that_does_not_start(network, digits_npz, tmp_path):
    program = "from keras_dae.train import __main__ as train, workers; workers.JOIN_TIMEOUT = 3; exit(train.main())"
    with training(network, ["-c", program]) as processes:
        ((status, output),) = ends(processes, 200)
    assert status == 1
    assert "worker 0 of 2: exits with status 1 unless all start within 3 seconds" in output
    assert "Traceback" not in output
