import itertools

import numpy as np
import pytest

from keras_dae.config import TrainConfig
from keras_dae.data.batches import epoch_plan, evaluation_images, training_batches, whole_executions
from keras_dae.data.load import load_dataset
from keras_dae.data.patches import SHUFFLE_BUFFER, PatchStream, count_patches
from keras_dae.data.splits import EvaluationImages


def epochs_of(train, config, first_epoch=0):
    """Return `[(noisy, clean), …]`: all batches of each epoch as one array."""
    _, steps, _ = epoch_plan(train, config)
    batches = [(noisy.numpy(), clean.numpy()) for noisy, clean in training_batches(train, config, first_epoch)]
    assert len(batches) == steps * (config.epochs - first_epoch)
    epochs = [batches[start : start + steps] for start in range(0, len(batches), steps)]
    return [tuple(np.concatenate(images) for images in zip(*epoch)) for epoch in epochs]


@pytest.fixture
def config():
    return TrainConfig(batch_size=8, epochs=3, noise_factor=(0.3,))


@pytest.fixture(params=["array", "stream"])
def train(request, digits, photographs):
    if request.param == "array":
        return digits[..., None]
    return load_dataset(TrainConfig(dataset=str(photographs), patch_size=20)).train


def test_shapes_and_ranges(train, config):
    noisy, clean = next(iter(training_batches(train, config)))
    assert noisy.dtype == clean.dtype == "float32"
    assert noisy.shape == clean.shape == (8, *(train.shape[1:] if isinstance(train, np.ndarray) else (20, 20, 1)))
    assert 0 <= noisy.numpy().min() < noisy.numpy().max() <= 1
    assert 0.2 < np.std(noisy - clean) < 0.3  # 0.3, less what clipping takes


@pytest.mark.slow
def test_order_noise_and_patches_are_new_every_epoch_and_follow_from_the_seed(train, config):
    first, again = epochs_of(train, config), epochs_of(train, config)
    other = epochs_of(train, TrainConfig(**{**config.to_dict(), "seed": 1}))
    for (noisy, clean), (noisy_again, clean_again) in zip(first, again):
        assert np.array_equal(noisy, noisy_again)
        assert np.array_equal(clean, clean_again)
    assert not np.array_equal(first[0][1], first[1][1])
    assert not np.array_equal(first[0][1], other[0][1])
    noise = [(noisy - clean)[0] for noisy, clean in (*first, other[0])]
    assert all((a != b).mean() > 0.3 for a, b in itertools.pairwise(noise))


def test_later_start_gives_the_same_epochs(train, config):
    for whole, resumed in zip(epochs_of(train, config)[1:], epochs_of(train, config, first_epoch=1)):
        assert np.array_equal(whole[0], resumed[0])
        assert np.array_equal(whole[1], resumed[1])


def test_noise_differs_within_an_epoch(config, digits):
    same = np.zeros((80, 28, 28, 1), np.uint8)
    ((noisy, _), *_) = epochs_of(same, config)
    assert len(np.unique(noisy.reshape(80, -1), axis=0)) == 80


def test_every_image_once_an_epoch(digits, config):
    for _, clean in epochs_of(digits[..., None], config):
        assert sorted(map(bytes, np.uint8(np.rint(clean * 255)))) == sorted(map(bytes, digits))


def test_real_pairs_get_no_noise(photographs):
    config = TrainConfig(noisy_dir=str(photographs), clean_dir=str(photographs), batch_size=4, epochs=1)
    ((noisy, clean),) = epochs_of(load_dataset(config).train, config)
    assert np.array_equal(noisy, clean)


def test_batch_larger_than_the_data(digits):
    config = TrainConfig(batch_size=500, epochs=1)
    ((noisy, _),) = epochs_of(digits[..., None], config)
    assert len(noisy) == 80


@pytest.mark.parametrize("steps", [1, 2, 7, 49, 50, 51, 97, 101, 222, 445, 570, 593, 600, 997])
def test_whole_executions(steps):
    kept, per_execution = whole_executions(steps)
    assert steps * 0.99 <= kept <= steps
    assert kept % per_execution == 0
    assert per_execution <= 50
    assert per_execution >= 12 or steps < 12 or steps == 97  # a prime, and too few to drop one


def test_evaluation_noise_is_the_same_for_every_training_seed(digits):
    images = EvaluationImages(digits[..., None])
    noisy, clean = evaluation_images(images, TrainConfig(seed=0))
    again, _ = evaluation_images(images, TrainConfig(seed=5))
    assert np.array_equal(noisy, again)
    assert np.array_equal(clean, np.float32(digits[..., None]) / 255)
    first, _ = evaluation_images(EvaluationImages(digits[:10, ..., None]), TrainConfig())
    assert first.shape == (10, 28, 28, 1)


class TestPatchStream:
    def stream(self, count, patches=4, side=40):
        images = [np.full((side, side, 1), index, np.uint8) for index in range(count)]
        return PatchStream(lambda index: (images[index],), (patches,) * count, 20)

    def test_patches_of_many_images_are_mixed(self):
        batches = [np.rint(clean * 255) for (clean,) in self.stream(200).batches(10, seed=0, epoch=0)]
        assert len(batches) == 80
        assert np.mean([len(np.unique(batch)) for batch in batches]) > 7
        counts = np.unique(np.concatenate(batches)[:, 0, 0, 0], return_counts=True)[1]
        assert set(counts) == {4}

    def test_no_more_than_the_buffer_is_held(self):
        read = []

        def image(index):
            read.append(index)
            return (np.zeros((20, 20, 1), np.uint8),)

        batches = PatchStream(image, (1,) * (2 * SHUFFLE_BUFFER), 20).batches(10, seed=0, epoch=0)
        next(batches)
        assert SHUFFLE_BUFFER < len(read) < SHUFFLE_BUFFER + 50
        batches.close()

    def test_a_file_that_vanishes_is_an_error(self):
        def image(index):
            raise FileNotFoundError("gone.png")

        with pytest.raises(FileNotFoundError):
            list(PatchStream(image, (1, 1), 20).batches(1, 0, 0))


@pytest.mark.parametrize(("size", "expected"), [((64, 64), 1), ((128, 200), 6), ((640, 640), 16)])
def test_count_patches(size, expected):
    assert count_patches(*size, patch_size=64, maximum=16) == expected
