"""Serving on Ray without a server: requests, answers and user errors. test_serving_on_ray.py starts the server."""

import importlib.util
import json
import tracemalloc
from pathlib import Path

import numpy as np
import picture_files
import pytest
from conftest import assert_user_error, run_module
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("ray", reason="Ray is not installed: pip install -e '.[ray]'")

from export.serving import ray_app
from export.serving.ray import rest
from export.serving.ray.servable import LABELS, SIGNATURES, Asked, Refused, Servable
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
        rest.write_predict(servable.output(signature, servable.denoise(images.items)), is_row)
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
    images = [random.random((size, size, 1), np.float32) for size in (28, 20, 28, 33, 20)]
    files = list(picture_files.plain_files().values())
    items = [images[0], files[0], images[1], *files[1:], *images[2:]]
    for denoised, item in zip(servable.denoise(items), items, strict=True):
        (alone,) = servable.denoise([item])
        assert type(denoised) is type(item)
        assert np.array_equal(denoised, alone) if isinstance(item, np.ndarray) else denoised == alone


@pytest.mark.slow
def test_files_have_the_bytes_that_the_command_line_writes(servable, tmp_path):
    """Also files that say with their metadata how their pixels are meant."""
    files = {**picture_files.plain_files(), **picture_files.special_files()}
    (tmp_path / "in").mkdir()
    for name, content in files.items():
        (tmp_path / "in" / name).write_bytes(content)
    command = ["keras_dae.denoise", tmp_path / "in", "--model", "mnist", "--output-dir", tmp_path / "out"]
    assert run_module(*command).returncode == 0
    images = servable.images("denoise_image", list(files.values()))
    assert images.pixels == len(files) * 33 * 41
    answers = servable.output("denoise_image", servable.denoise(images.items))
    for name, answer in zip(files, answers, strict=True):
        assert answer == (tmp_path / "out" / name).read_bytes(), name


def test_what_the_command_line_refuses_is_refused(servable):
    picture = picture_files.picture()
    animation = picture_files.content(picture, "PNG", save_all=True, append_images=[picture.rotate(90)])
    images = servable.images("denoise_image", [picture_files.content(picture, "PNG"), animation])
    with pytest.raises(Refused, match="expected still images"):
        servable.output("denoise_image", servable.denoise(images.items))
    tiff = picture_files.content(picture, "TIFF")
    with pytest.raises(Refused, match="PNG or JPEG files, got something else"):
        servable.images("denoise_image", [tiff])


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("/v1/models/m", Asked("m")),
        ("/v1/models/m/versions/3", Asked("m", version=3)),
        ("/v1/models/m/labels/stable", Asked("m", label="stable")),
    ],
)
def test_paths_of_tf_serving(path, asked):
    assert rest.route("GET", path) == ("status", asked)
    assert rest.route("GET", f"{path}/metadata") == ("metadata", asked)
    assert rest.route("POST", f"{path}:predict") == ("predict", asked)
    for method, wrong in (("POST", path), ("GET", f"{path}:predict"), ("GET", f"{path}/other"), ("GET", f"{path}/")):
        with pytest.raises(Refused, match="Malformed request"):
            rest.route(method, wrong)


def test_labels_name_versions():
    folder = pretrained.model_folder("mnist")
    served = Servable(folder, "m", {"stable": 1, "next": 2})
    served.check(Asked("m", label="stable"))
    with pytest.raises(Refused, match=r"Specific\(m, 2\)"):
        served.check(Asked("m", label="next"))
    with pytest.raises(Refused, match="Unrecognized servable version label: other"):
        served.check(Asked("m", label="other"))
    with pytest.raises(Refused, match=r"Latest\(n\)"):
        served.check(Asked("n"))


def test_labels_by_grpc():
    from tensorflow_serving.apis import model_pb2, predict_pb2

    from export.serving.ray import rpc

    spec = model_pb2.ModelSpec(name="m", version_label="stable")
    assert rpc.requested_model(predict_pb2.PredictRequest(model_spec=spec)) == Asked("m", label="stable")


def test_labels_are_those_of_tf_servings_configuration():
    from google.protobuf import text_format
    from tensorflow_serving.config import model_server_config_pb2

    text = (Path(ray_app.__file__).parent / "tf_serving" / "models.config").read_text()
    (config,) = text_format.Parse(text, model_server_config_pb2.ModelServerConfig()).model_config_list.config
    assert dict(config.version_labels) == LABELS


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
