import ctypes
import itertools
import sys

import numpy as np
import pytest

from keras_dae.config import TrainConfig
from keras_dae.data.batches import epoch_plan, evaluation_images, training_batches, whole_executions
from keras_dae.data.load import load_dataset
from keras_dae.data.patches import SHUFFLE_BUFFER, PatchStream, count_patches
from keras_dae.data.resized import resized
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


class TestAugmentation:
    """Flips and scales follow from the seed and the epoch, and show every image as it may be seen."""

    @pytest.fixture
    def corners(self):
        """40 images of 4×4 pixels whose pixels are all different, uint8."""
        return np.arange(16, dtype=np.uint8).reshape(1, 4, 4, 1) + np.arange(40, dtype=np.uint8).reshape(40, 1, 1, 1)

    def test_all_eight_positions_occur_and_no_others(self, corners):
        config = TrainConfig(batch_size=40, epochs=8, noise_factor=(0,), flips=True)
        positions = {
            np.rot90(side, turns).tobytes()
            for turns in range(4)
            for side in (np.arange(16).reshape(4, 4), np.arange(16).reshape(4, 4).T)
        }
        seen = set()
        for noisy, clean in epochs_of(corners, config):
            np.testing.assert_array_equal(noisy, clean)
            levels = np.rint(clean[..., 0] * 255).astype(int)
            seen |= {(image - image.min()).tobytes() for image in levels}
        assert seen == positions

    def test_other_shapes_are_not_turned_sideways(self):
        images = np.random.default_rng(0).integers(0, 255, (40, 4, 8, 1), np.uint8)
        noisy, _ = next(iter(training_batches(images, TrainConfig(batch_size=40, flips=True))))
        assert noisy.shape == (40, 4, 8, 1)

    def test_noisy_and_clean_images_of_a_pair_are_turned_alike(self, photographs):
        pairs = TrainConfig(
            noisy_dir=str(photographs), clean_dir=str(photographs), patch_size=20, batch_size=8, flips=True
        )
        noisy, clean = next(iter(training_batches(load_dataset(pairs).train, pairs)))
        np.testing.assert_array_equal(noisy, clean)

    @pytest.mark.parametrize("options", [{"flips": True}, {"flips": True, "scales": (1.0, 0.7)}])
    def test_a_later_start_gives_the_same_batches(self, photographs, options):
        config = TrainConfig(dataset=str(photographs), patch_size=20, batch_size=8, epochs=3, **options)
        train = load_dataset(config).train
        whole, rest = epochs_of(train, config), epochs_of(train, config, first_epoch=1)
        for (noisy, clean), (noisy_again, clean_again) in zip(whole[1:], rest, strict=True):
            np.testing.assert_array_equal(noisy, noisy_again)
            np.testing.assert_array_equal(clean, clean_again)
        assert not np.array_equal(whole[0][1], whole[1][1])

    @pytest.mark.parametrize("scale", [0.5, 2])
    @pytest.mark.parametrize("dtype", [np.uint8, np.float32])
    def test_scales_resize_the_whole_image(self, dtype, scale):
        ramp = np.linspace(0, 1, 200)[None, :, None].repeat(100, 0)
        ramp = np.rint(ramp * 255).astype(dtype) if dtype == np.uint8 else ramp.astype(dtype)
        stream = PatchStream(lambda index: (ramp,), (50,), 40, scales=(scale,))
        steps = [
            float(np.mean(np.diff(patch[0][0, :, 0].astype(float))))
            for patch in stream.cut(0, np.random.default_rng(0))
        ]
        step = (255 if dtype == np.uint8 else 1) / 199
        np.testing.assert_allclose(steps, step / scale, rtol=0.05)

    def test_scales_that_make_an_image_too_small_are_left_out(self):
        image = np.zeros((30, 40, 1), np.uint8)
        stream = PatchStream(lambda index: (image,), (3,), 28, scales=(1.0, 0.9, 0.5))
        assert all(patch[0].shape == (28, 28, 1) for patch in stream.cut(0, np.random.default_rng(0)))

    def test_averages_over_what_is_left_out(self):
        """Reducing black and white columns to half gives grey, not a choice of columns."""
        stripes = np.zeros((64, 64, 1), np.uint8)
        stripes[:, ::2] = 255
        assert np.abs(resized(stripes, 0.5)[8:-8, 8:-8].astype(int) - 128).max() < 12


class MallocInfo(ctypes.Structure):
    """What glibc's mallinfo2 returns; `hblks` is the number of blocks that are mappings of their own."""

    _fields_ = (
        *((name, ctypes.c_size_t) for name in ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks")),
        *((name, ctypes.c_size_t) for name in ("fsmblks", "uordblks", "fordblks", "keepcost")),
    )


@pytest.mark.skipif(sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="needs glibc 2.33")
def test_freed_memory_is_reused(config, photographs):
    """Although TensorFlow tells glibc otherwise: a block of 8 MiB is not a mapping of its own."""
    stream = load_dataset(TrainConfig(dataset=str(photographs), patch_size=20)).train
    next(iter(training_batches(stream, config)))
    libc = ctypes.CDLL(None)
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    libc.mallinfo2.restype = MallocInfo
    libc.free(libc.malloc(8 * 2**20))  # glibc's own rule: blocks up to the largest that was freed are not mappings
    before = libc.mallinfo2().hblks
    blocks = [libc.malloc(8 * 2**20) for _ in range(4)]
    try:
        assert libc.mallinfo2().hblks == before
    finally:
        for block in blocks:
            libc.free(block)
