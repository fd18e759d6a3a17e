"""The client against test servers with TF Serving's wire format, which run the SavedModel itself."""

import base64
import concurrent.futures
import http.server
import io
import json
import os
import threading
from pathlib import Path

import grpc
import numpy as np
import pytest
import tensorflow as tf
from conftest import assert_user_error
from google.protobuf import text_format
from PIL import Image
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc
from tensorflow_serving.config import model_server_config_pb2

from export.serving.client import RequestFailed, denoise_grpc, denoise_rest, main
from export.to_saved_model import export_saved_model
from keras_dae.networks.autoencoder import build_autoencoder

SERVING = Path(__file__).parent.parent / "export" / "serving" / "tf_serving"


@pytest.fixture(scope="module")
def model():
    return build_autoencoder(initialization="torch", seed=0)


@pytest.fixture(scope="module")
def signatures(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("served") / "1"
    export_saved_model(model, path)
    return tf.saved_model.load(str(path)).signatures


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    """gRPC's PredictionService/Predict, with the official servicer class."""

    def __init__(self, signatures):
        self.signatures = signatures

    def Predict(self, request, context):
        if request.model_spec.name != "denoiser":
            context.abort(grpc.StatusCode.NOT_FOUND, f"Servable not found for request: {request.model_spec.name}")
        inputs = {name: tf.constant(tf.make_ndarray(value)) for name, value in request.inputs.items()}
        try:
            outputs = self.signatures[request.model_spec.signature_name](**inputs)
        except tf.errors.InvalidArgumentError as error:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, error.message)
        return predict_pb2.PredictResponse(
            model_spec=request.model_spec, outputs={name: tf.make_tensor_proto(v) for name, v in outputs.items()}
        )


class Rest(http.server.BaseHTTPRequestHandler):
    """REST's predict in the row format, after TF Serving's documentation."""

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path != "/v1/models/denoiser:predict":
            return self.answer(404, {"error": f"Servable not found for request: {self.path}"})
        images = [base64.b64decode(instance["b64"]) for instance in body["instances"]]
        try:
            outputs = self.server.signatures[body["signature_name"]](image_bytes=tf.constant(images))
        except tf.errors.InvalidArgumentError as error:
            return self.answer(400, {"error": error.message})
        (denoised,) = outputs.values()
        return self.answer(200, {"predictions": [{"b64": base64.b64encode(v).decode()} for v in denoised.numpy()]})

    def answer(self, status, content):
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(content).encode())

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def rest_url(signatures):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Rest)
    server.signatures = signatures
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def grpc_address(signatures):
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(2), options=[("grpc.max_receive_message_length", -1)])
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(PredictionService(signatures), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None)


@pytest.fixture(params=["rest", "grpc"])
def way(request):
    """Options of the command line for one protocol."""
    fixture = {"rest": "rest_url", "grpc": "grpc_address"}[request.param]
    return [f"--{request.param}", request.getfixturevalue(fixture)]


def picture(path, height, width, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width), np.uint8)
    Image.fromarray(pixels).save(path)
    return pixels


def test_images_are_denoised(way, model, tmp_path):
    pixels = picture(tmp_path / "a.png", 28, 36)
    picture(tmp_path / "b.jpg", 41, 20)
    options = [str(tmp_path / "a.png"), str(tmp_path / "b.jpg"), "--output-dir", str(tmp_path / "out")]
    assert main([*options, *way]) == 0
    denoised = np.asarray(Image.open(tmp_path / "out/a.png"))
    expected = 255 * np.asarray(model(pixels[None, :, :, None] / np.float32(255)))[0, :, :, 0]
    assert np.abs(denoised - expected).max() <= 1
    assert Image.open(tmp_path / "out/b.png").size == (20, 41)


def test_a_bad_image_stops_no_other(way, tmp_path, capsys):
    picture(tmp_path / "good.png", 28, 28)
    (tmp_path / "bad.png").write_bytes(b"not an image")
    names = ["bad.png", "missing.png", "good.png"]
    assert main([*(str(tmp_path / name) for name in names), "--output-dir", str(tmp_path / "out"), *way]) == 1
    error = capsys.readouterr().err
    assert "2 of 3 images failed" in error
    assert "bad.png" in error
    assert "missing.png" in error
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["good.png"]


def test_no_image_is_overwritten(tmp_path, capsys):
    picture(tmp_path / "a.png", 28, 28)
    before = (tmp_path / "a.png").read_bytes()
    assert_user_error(main([str(tmp_path / "a.png"), "--output-dir", str(tmp_path)]), capsys.readouterr().err, "input")
    assert (tmp_path / "a.png").read_bytes() == before
    picture(tmp_path / "a.jpg", 28, 28)
    both = [str(tmp_path / name) for name in ("a.png", "a.jpg")]
    error = (main([*both, "--output-dir", str(tmp_path / "out")]), capsys.readouterr().err)
    assert_user_error(*error, "would both become")


def test_unknown_model(way, tmp_path, capsys):
    picture(tmp_path / "a.png", 28, 28)
    options = [str(tmp_path / "a.png"), "--output-dir", str(tmp_path / "out"), "--model", "other", *way]
    assert main(options) == 1
    assert "Servable not found" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("way", [["--rest", "http://127.0.0.1:9"], ["--grpc", "127.0.0.1:9"]])
def test_nobody_there(tmp_path, way, capsys):
    picture(tmp_path / "a.png", 28, 28)
    assert main([str(tmp_path / "a.png"), "--output-dir", str(tmp_path / "out"), "--timeout", "5", *way]) == 1
    error = capsys.readouterr().err
    assert "a.png" in error
    assert "Traceback" not in error


def test_larger_than_grpcs_default_limit(grpc_address):
    noise = np.random.default_rng(0).integers(0, 256, (2100, 2100), np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "PNG", compress_level=0)
    assert len(file.getvalue()) > 4 * 2**20
    denoised = denoise_grpc(file.getvalue(), grpc_address, timeout=120)
    assert Image.open(io.BytesIO(denoised)).size == (2100, 2100)


def test_the_error_names_the_server(rest_url):
    with pytest.raises(RequestFailed, match=rest_url):
        denoise_rest(b"not an image", rest_url)


def test_a_real_tf_serving(tmp_path):
    """Against the server that TF_SERVING_URL names, such as http://127.0.0.1:8501."""
    if not os.environ.get("TF_SERVING_URL"):
        pytest.skip("TF_SERVING_URL names no TensorFlow Serving")
    picture(tmp_path / "a.png", 28, 36)
    denoised = denoise_rest((tmp_path / "a.png").read_bytes(), os.environ["TF_SERVING_URL"])
    assert Image.open(io.BytesIO(denoised)).size == (36, 28)


def test_tf_serving_can_read_the_configuration():
    text = (SERVING / "models.config").read_text()
    parsed = text_format.Parse(text, model_server_config_pb2.ModelServerConfig())
    (config,) = parsed.model_config_list.config
    assert (config.name, config.base_path) == ("denoiser", "/models/denoiser")
    assert dict(config.version_labels) == {"stable": 1, "canary": 2}
    compose = (SERVING / "compose.yaml").read_text()
    assert "tensorflow/serving:2.19.1" in compose
    for name in ("models.config", "batching.config"):
        assert f"/config/{name}" in compose
        assert (SERVING / name).is_file()
