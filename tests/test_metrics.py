import numpy as np
import pytest

from keras_dae.metrics import mean_metrics, mse, psnr, ssim

skimage_metrics = pytest.importorskip("skimage.metrics", reason="scikit-image is not installed")


@pytest.fixture
def images():
    random = np.random.default_rng(0)
    clean = random.random((3, 24, 32, 1), dtype=np.float32)
    return clean, np.clip(clean + random.normal(0, 0.1, clean.shape), 0, 1).astype(np.float32)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (mse, skimage_metrics.mean_squared_error),
        (psnr, lambda a, b: skimage_metrics.peak_signal_noise_ratio(a, b, data_range=1)),
        (
            ssim,
            lambda a, b: skimage_metrics.structural_similarity(
                a, b, data_range=1, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
            ),
        ),
    ],
)
def test_as_scikit_image_has_it(images, ours, theirs):
    expected = [theirs(a[..., 0], b[..., 0]) for a, b in zip(*images)]
    np.testing.assert_allclose(ours(*images), expected, atol=1e-4)


def test_psnr_of_identical_images_is_finite(images):
    np.testing.assert_allclose(psnr(images[0], images[0]), 100, atol=1e-3)


def test_means_over_many_images():
    clean = np.zeros((1203, 20, 20, 1), np.float32)
    image = np.zeros_like(clean)
    image[::3] = 0.1
    means = mean_metrics(clean, image)
    assert means["mse"] == pytest.approx(0.01 / 3, rel=1e-4)
    assert means["psnr"] == pytest.approx((20 + 2 * 100) / 3, rel=1e-4)  # of each image, then averaged


def test_patches_of_an_image_count_as_one():
    clean = np.zeros((5, 20, 20, 1), np.float32)
    image = np.float32([0.1, 0.1, 0.1, 0.1, 1])[:, None, None, None] + clean
    assert mean_metrics(clean, image)["psnr"] == pytest.approx(4 * 20 / 5)
    assert mean_metrics(clean, image, np.array([7, 7, 7, 7, 3]))["psnr"] == pytest.approx(20 / 2)
