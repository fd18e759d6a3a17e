import hashlib

import numpy as np
import platformdirs
import pytest

from keras_dae.data import digits as module
from keras_dae.data.digits import cached_digits, render_digits
from keras_dae.data.glyphs import stroke_fields


def test_the_same_on_every_machine():
    images, labels = render_digits(300, seed=0)
    assert (images.shape, images.dtype, labels.shape, labels.dtype) == ((300, 28, 28), np.uint8, (300,), np.uint8)
    assert (
        hashlib.sha256(images.tobytes()).hexdigest()
        == "53fc5dfb5a3ecd6fc90dbc94d39bdcb64eb38994fc40715a3aa1ffd070d6cb79"
    )


def test_stroke_fields_are_computed_once():
    assert stroke_fields() is stroke_fields()


def test_first_images_do_not_depend_on_how_many_there_are(digits):
    assert np.array_equal(render_digits(5, seed=7)[0], digits[:5])


def test_other_seed_other_digits(digits):
    assert (render_digits(80, seed=8)[0] != digits).any(axis=(1, 2)).all()


def test_fitted_and_centred_as_mnist_is():
    images, labels = render_digits(500, seed=3)
    rows, columns = images.max(2) > 0, images.max(1) > 0
    heights = 28 - rows.argmax(1) - rows[:, ::-1].argmax(1)
    widths = 28 - columns.argmax(1) - columns[:, ::-1].argmax(1)
    assert np.maximum(heights, widths).max() <= 20
    assert np.mean(np.maximum(heights, widths) >= 19) > 0.95
    mass = images.sum((1, 2), dtype=float)
    centre = (images.sum(2) @ np.arange(28)) / mass
    assert np.mean(np.abs(centre - 14) <= 0.5) > 0.95
    assert set(labels) == set(range(10))


@pytest.mark.slow
def test_as_bright_as_mnist():
    """MNIST's mean is 0.131 and its mean square 0.112 (both of the training images / 255)."""
    images = render_digits(1000, seed=4)[0] / 255
    assert images.mean() == pytest.approx(0.131, abs=0.02)
    assert (images**2).mean() == pytest.approx(0.112, abs=0.02)


@pytest.fixture
def cache(monkeypatch, tmp_path):
    monkeypatch.setattr(platformdirs, "user_cache_dir", lambda name: str(tmp_path / name))
    monkeypatch.setattr(module, "SET_SIZES", (20, 10))
    return tmp_path / "keras_dae" / f"digits-{module.RENDERING_VERSION}.npz"


@pytest.mark.slow
def test_cache_is_used(cache, monkeypatch):
    rendered = cached_digits()
    assert [len(images) for images in rendered] == [20, 10]
    assert cache.is_file()
    monkeypatch.setattr(module, "render_digits", None)
    assert all(np.array_equal(a, b) for a, b in zip(rendered, cached_digits()))


@pytest.mark.slow
@pytest.mark.parametrize("damage", [lambda content: content[:-100], lambda content: b"", lambda content: b"PK" * 50])
def test_damaged_cache_is_rendered_again(cache, capsys, damage):
    rendered = cached_digits()
    whole = cache.read_bytes()
    cache.write_bytes(damage(whole))
    assert all(np.array_equal(a, b) for a, b in zip(rendered, cached_digits()))
    assert "damaged" in capsys.readouterr().err
    assert np.array_equal(np.load(cache)["x_train"], rendered[0])


@pytest.mark.slow
def test_cache_that_cannot_be_written(cache, capsys):
    cache.parent.write_text("a file where the folder should be")
    assert len(cached_digits()[0]) == 20
    assert "not cached" in capsys.readouterr().err
