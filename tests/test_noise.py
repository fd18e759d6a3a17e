import numpy as np
import pytest
import tensorflow as tf

from keras_dae.noise import NOISE_MODELS, add_noise
from keras_dae.noise_names import NOISES

SHAPE = (8, 64, 64, 1)


def flat(value):
    return tf.fill(SHAPE, value)


def draw(noise, factor, clean=None, seed=(1, 2), clip=False):
    return add_noise(flat(0.5) if clean is None else clean, noise, factor, seed, clip).numpy()


def test_all_names_have_a_model():
    assert tuple(NOISE_MODELS) == NOISES
    assert all("factor" in model.__doc__ for model in NOISE_MODELS.values())


@pytest.mark.parametrize(
    ("noise", "factor", "level", "deviation"),
    [
        ("gaussian", 0.3, 0.5, 0.3),
        ("uniform", 0.3, 0.5, 0.3 / 3**0.5),
        ("speckle", 0.4, 0.25, 0.1),
        ("speckle", 0.4, 1.0, 0.4),
        ("poisson", 0.2, 1.0, 0.2),
        ("poisson", 0.2, 0.25, 0.1),
        ("poisson", 0.02, 0.25, 0.01),
        ("poisson_gaussian", 0.2, 1.0, 0.2),
        ("correlated", 0.2, 0.5, 0.2),
    ],
)
def test_moments(noise, factor, level, deviation):
    noisy = draw(noise, factor, flat(level))
    assert noisy.mean() == pytest.approx(level, abs=0.01)
    assert noisy.std() == pytest.approx(deviation, rel=0.02)


def test_gaussian_is_normal_and_uniform_is_bounded():
    gaussian = (draw("gaussian", 0.3) - 0.5) / 0.3
    assert np.mean(np.abs(gaussian) < 1) == pytest.approx(0.6827, abs=0.01)
    assert np.mean(gaussian**4) == pytest.approx(3, abs=0.2)
    uniform = draw("uniform", 0.3) - 0.5
    assert 0.299 < np.abs(uniform).max() <= 0.3


def test_poisson_counts_photons():
    counts = draw("poisson", 0.2) / 0.2**2
    np.testing.assert_allclose(counts, np.rint(counts), atol=1e-4)


def test_the_share_of_shot_noise_is_drawn_for_each_image():
    noisy = draw("poisson_gaussian", 0.2, tf.fill((400, 32, 32, 1), 0.25))
    variances = noisy.var(axis=(1, 2, 3)) / 0.2**2  # 1 - share + share / 4
    assert 0.2 < variances.min() < 0.3
    assert 0.93 < variances.max() < 1.1
    assert variances.mean() == pytest.approx(1 - 0.75 / 2, abs=0.03)


def test_correlated_noise_has_the_autocorrelation_that_is_promised():
    """That of w · m is w² times that of m; the mean of w² over U(0.5, 1) is 7 / 12. It is the same at all places."""
    noise = draw("correlated", 0.1, tf.fill((1200, 47, 64, 1), 0.5)) - 0.5
    for place in range(4):
        for first, second in (
            (noise[:, place], noise[:, place + 1]),
            (noise[:, :, place], noise[:, :, place + 1]),
            (noise[:, -2 - place], noise[:, -1 - place]),
        ):
            assert np.mean(first * second) / 0.01 == pytest.approx(0.75 * 7 / 12, abs=0.03)
    for distance, expected in ((1, 0.75), (2, 0.3), (3, 0.05)):
        for first, second in (
            (noise[:, distance:], noise[:, :-distance]),
            (noise[:, :, distance:], noise[:, :, :-distance]),
        ):
            assert np.mean(first * second) / 0.01 == pytest.approx(expected * 7 / 12, abs=0.01)
    borders = [noise[:, 0], noise[:, -1], noise[:, :, 0], noise[:, :, -1]]
    assert [border.std() for border in borders] == pytest.approx([0.1] * 4, rel=0.03)


def test_photo_is_a_mixture():
    noise = draw("photo", 0.1, tf.fill((300, 16, 16, 3), 0.5)) - 0.5
    is_grey = np.ptp(noise, axis=-1).max(axis=(1, 2)) < 1e-6
    in_bytes = (noise + 0.5) * 255
    is_jpeg = np.abs(in_bytes - np.rint(in_bytes)).max(axis=(1, 2, 3)) < 1e-3
    assert is_grey[~is_jpeg].mean() == pytest.approx(1 / 3, abs=0.1)
    assert is_jpeg.mean() == pytest.approx(1 / 2, abs=0.1)
    neighbours = np.mean(noise[:, 1:] * noise[:, :-1], axis=(1, 2, 3)) / noise.var(axis=(1, 2, 3))
    assert (neighbours[~is_jpeg] > 0.15).mean() == pytest.approx(1 / 3, abs=0.12)
    assert noise[~is_jpeg].std() == pytest.approx(0.1 * ((2 + 1 - 0.5 / 2) / 3) ** 0.5, rel=0.05)


@pytest.mark.parametrize("level", [0.1, 0.5, 0.9])
def test_photo_leaves_the_mean_as_it_was(level):
    """Less than a quarter of a level of 255."""
    noisy = draw("photo", 0.02, tf.fill((400, 16, 16, 1), level))
    assert noisy.mean() == pytest.approx(level, abs=0.25 / 255)


def test_blocks_of_jpeg_begin_anywhere():
    """A clean ramp saved by JPEG has steps between its blocks of 8 pixels."""
    clean = tf.broadcast_to(tf.linspace(0.0, 1.0, 64)[None, None, :, None], (600, 24, 64, 1))
    noisy = draw("photo", 1e-6, clean)
    changes = np.abs(noisy - clean).sum(axis=(0, 1, 3))
    by_column = changes.reshape(8, 8).sum(axis=0)
    assert by_column.max() < 1.3 * by_column.min()


@pytest.mark.parametrize(
    ("noise", "white", "black"), [("salt", 0.2, 0), ("pepper", 0, 0.2), ("salt_and_pepper", 0.1, 0.1)]
)
def test_replaced_fractions(noise, white, black):
    noisy = draw(noise, 0.2)
    assert np.mean(noisy == 1) == pytest.approx(white, abs=0.01)
    assert np.mean(noisy == 0) == pytest.approx(black, abs=0.01)
    assert np.mean(noisy == 0.5) == pytest.approx(0.8, abs=0.01)


@pytest.mark.parametrize("noise", NOISES)
class TestEveryNoise:
    def test_same_seed_same_noise(self, noise):
        first, again, other = (draw(noise, 0.3, seed=seed) for seed in ((1, 2), (1, 2), (1, 3)))
        assert np.array_equal(first, again)
        assert (first != other).mean() > 0.1

    def test_images_of_a_batch_differ(self, noise):
        noisy = draw(noise, 0.3)
        assert (noisy[0] != noisy[1]).mean() > 0.1

    def test_same_eagerly_and_inside_tf_data(self, noise):
        clean = tf.random.stateless_uniform(SHAPE, (5, 5))
        dataset = tf.data.Dataset.from_tensors(clean).map(lambda images: add_noise(images, noise, 0.3, (1, 2)))
        assert np.array_equal(next(iter(dataset)).numpy(), draw(noise, 0.3, clean, clip=True))

    def test_factor_0_changes_nothing(self, noise):
        clean = tf.random.stateless_uniform(SHAPE, (5, 5))
        np.testing.assert_allclose(draw(noise, 0, clean), clean, atol=1e-7)

    def test_clipping(self, noise):
        clipped = draw(noise, 1.0, clip=True)
        assert clipped.min() >= 0
        assert clipped.max() <= 1
        np.testing.assert_allclose(clipped, np.clip(draw(noise, 1.0, clip=False), 0, 1))

    def test_colour(self, noise):
        assert draw(noise, 0.3, tf.fill((2, 20, 20, 3), 0.5)).shape == (2, 20, 20, 3)


def test_clipping_is_the_default():
    assert add_noise(flat(0.5), "gaussian", 1.0, (1, 2)).numpy().max() == 1


def test_factor_range_is_drawn_for_each_image():
    noisy = draw("gaussian", (0.1, 0.6), tf.fill((500, 32, 32, 1), 0.5))
    deviations = noisy.std(axis=(1, 2, 3))
    assert 0.09 < deviations.min() < 0.12
    assert 0.57 < deviations.max() < 0.63
    assert deviations.mean() == pytest.approx(0.35, abs=0.02)


def test_one_of_several_noises_is_drawn_for_each_image():
    noisy = draw(["pepper", "salt", "uniform"], 0.2, tf.fill((600, 16, 16, 1), 0.5))
    peppered, salted = (noisy == 0).any(axis=(1, 2, 3)), (noisy == 1).any(axis=(1, 2, 3))
    assert not (peppered & salted).any()
    assert peppered.mean() == pytest.approx(1 / 3, abs=0.06)
    assert salted.mean() == pytest.approx(1 / 3, abs=0.06)


@pytest.mark.parametrize(
    ("noise", "factor", "expected"),
    [
        ("rain", 0.5, "rain"),
        ([], 0.5, "got none"),
        ("gaussian", -0.1, "not negative"),
        ("gaussian", float("nan"), "not negative"),
        ("gaussian", float("inf"), "finite"),
        (["gaussian", "salt"], 1.5, r"in \[0, 1\]"),
        ("gaussian", (0.6, 0.1), "LOW HIGH"),
        ("gaussian", (0.1, 0.2, 0.3), "LOW HIGH"),
    ],
)
def test_wrong_arguments(noise, factor, expected):
    with pytest.raises(ValueError, match=expected):
        draw(noise, factor)
