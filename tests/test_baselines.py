import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from skimage.restoration import denoise_nl_means, denoise_tv_chambolle

from keras_dae.evaluate.baselines import BASELINES, best_parameters, bm3d, median, nl_means, total_variation


@pytest.fixture
def images():
    """Smooth pictures, clean and with Gaussian noise of 0.1."""
    random = np.random.default_rng(0)
    clean = gaussian_filter(random.random((4, 28, 32, 1)), (0, 2, 2, 0))
    clean = np.float32((clean - clean.min()) / np.ptp(clean))
    return clean, np.clip(clean + random.normal(0, 0.1, clean.shape), 0, 1).astype(np.float32)


def error(a, b):
    return float(np.mean((a - b) ** 2))


@pytest.mark.parametrize("name", [*BASELINES, "BM3D"])
@pytest.mark.parametrize("channels", [1, 3])
def test_best_parameters_are_best_and_help(images, name, channels):
    if name == "BM3D":
        pytest.importorskip("bm3d", reason="bm3d is not installed: pip install -e '.[bm3d]'")
        images = [kind[:1] for kind in images]  # it takes a second each
    baseline = {**BASELINES, "BM3D": bm3d}[name]
    clean, noisy = (np.repeat(kind, channels, axis=-1) for kind in images)
    parameters = best_parameters(baseline, noisy, clean)
    denoised = baseline(noisy, **parameters)
    assert denoised.shape == noisy.shape
    assert denoised.dtype == np.float32
    assert error(denoised, clean) < 0.6 * error(noisy, clean)
    for factor in (0.1, 10):
        if parameters:
            others = {key: factor * value for key, value in parameters.items()}
            assert error(baseline(noisy, **others), clean) > error(denoised, clean)


def test_are_scikit_images(images):
    _, noisy = images
    expected = denoise_nl_means(noisy[1, ..., 0], patch_size=5, patch_distance=6, h=0.08, sigma=0.1)
    np.testing.assert_allclose(nl_means(noisy, 0.08, 0.1)[1, ..., 0], expected, atol=1e-5)
    expected = denoise_tv_chambolle(noisy[1, ..., 0], weight=0.1)
    np.testing.assert_allclose(total_variation(noisy, 0.1)[1, ..., 0], expected, atol=1e-6)


def test_median_of_nine():
    image = np.zeros((1, 5, 5, 1), np.float32)
    image[0, 1:4, 1:3] = 1
    assert median(image)[0, 2, 2, 0] == 1  # 6 of 9 are white
    assert median(image)[0, 1, 1, 0] == 0  # 4 of 9
    image[0, :2, :1] = 1
    assert median(image)[0, 0, 0, 0] == 1  # the corner is repeated outside
