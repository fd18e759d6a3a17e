"""Serving on Ray without a server: requests, answers and user errors. test_serving_on_ray.py starts the server."""

import importlib.util
import json
import tracemalloc

import numpy as np
import pytest
from conftest import assert_user_error
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("ray", reason="Ray is not installed: pip install -e '.[ray]'")

from export.serving import ray_app
from export.serving.ray import rest
from export.serving.ray.servable import SIGNATURES, Refused, Servable
from keras_dae import pretrained

VALUES = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["b64", "noisy", "image_bytes"]), inner)
    ),
    max_leaves=8,
)
KEYS = st.sampled_from(["instances", "inputs", "signature_name"])


@pytest.fixture(scope="module")
def servable():
    return Servable(pretrained.model_folder("mnist"), "denoiser")


@pytest.mark.slow
@given(st.dictionaries(KEYS, VALUES | st.sampled_from(list(SIGNATURES))).map(json.dumps) | st.text() | st.binary())
def test_any_body_is_answered_or_refused(servable, body):
    try:
        signature, value, is_row = rest.read_predict(body)
        images = servable.images(signature, value)
        rest.write_predict(servable.output(signature, servable.denoise(images)), is_row)
    except Refused as error:
        assert error.code in rest.HTTP_STATUS
        assert str(error)


def test_a_string_among_numbers_takes_no_memory():
    body = json.dumps({"instances": ["A" * 1_000_000] + [1] * 1000})
    tracemalloc.start()
    try:
        with pytest.raises(Refused, match="expected JSON numbers"):
            rest.read_predict(body)
        assert tracemalloc.get_traced_memory()[1] < 20e6
    finally:
        tracemalloc.stop()


def test_images_of_one_request_keep_their_order(servable):
    random = np.random.default_rng(0)
    images = [np.uint8(random.integers(0, 256, (size, size, 1))) for size in (28, 20, 28, 33, 20)]
    for denoised, image in zip(servable.denoise(images), images, strict=True):
        assert np.array_equal(denoised, servable.denoise([image])[0])


def test_version_is_the_newest_saved_model(tmp_path):
    (tmp_path / "model.onnx").write_bytes((pretrained.model_folder("mnist") / "model.onnx").read_bytes())
    for version in ("2", "10", "not-one"):
        (tmp_path / "saved_model" / version).mkdir(parents=True)
    assert Servable(tmp_path, "denoiser").version == 10


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["no-such-run"], "no-such-run"),
        (["mnist", "--replicas", "2", "1"], "--replicas"),
        (["mnist", "--replicas", "0", "1"], "--replicas"),
        (["mnist", "--port", "70000"], "70000"),
        (["mnist", "--port", "0"], "from 1 to 65535"),
        (["mnist", "--port", "8500"], "two ports"),
        (["mnist", "--host", "no such host"], "no such host"),
    ],
)
def test_user_errors_are_one_line(arguments, expected, capsys):
    assert_user_error(ray_app.main(arguments), capsys.readouterr().err, expected)


def test_without_ray(monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert_user_error(ray_app.main(["mnist"]), capsys.readouterr().err, "pip install 'keras_dae[ray]'")
