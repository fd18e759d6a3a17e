"""The Ray Serve app with its server. It opens ports, so it runs in a network namespace (own_network.py)."""

import base64
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import picture_files
import pytest
import requests
import tensorflow as tf
from conftest import assert_user_error
from google.protobuf import json_format
from own_network import OUTSIDE_ADDRESS, ROOT
from PIL import Image
from tensorflow.core.framework.tensor_pb2 import TensorProto
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

pytest.importorskip("ray", reason="Ray is not installed: pip install -e '.[ray]'")

from export.serving import client
from export.serving.ray.servable import MAX_BYTES
from export.to_saved_model import export_saved_model
from keras_dae import pretrained
from keras_dae.denoise.batching import denoise_contents
from keras_dae.denoise.denoiser import load_denoiser
from keras_dae.networks.keras_file import load_model

pytestmark = [pytest.mark.slow, pytest.mark.own_network]

RUN = pretrained.model_folder("mnist")
URL, ADDRESS = "http://127.0.0.1:8501", "127.0.0.1:8500"
MODEL = f"{URL}/v1/models/denoiser"
CLIENTS = 8
TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "1" * 32}
ATTEMPTS = 3  # Ray gives up when its processes take more than a minute to start, which happens on a busy machine


@pytest.fixture(scope="module")
def server():
    """The process of the app, with two replicas."""
    for _ in range(ATTEMPTS):
        process = start_app()
        line = process.stdout.readline()
        if line.startswith(MODEL):
            break
        output = line + process.communicate(timeout=100)[0]  # its error is on standard error
    else:
        pytest.fail(f"the app did not start; it printed: {output}")
    try:
        yield process
        started = descendants(process.pid)
        os.killpg(process.pid, signal.SIGINT)  # as Ctrl-C does
        assert process.wait(100) == 130
        time.sleep(1)
        assert not set(started) & set(descendants(1)), "processes were left behind"
    finally:
        process.kill()
        process.communicate()


def start_app():
    command = [sys.executable, "-m", "export.serving.ray_app", RUN, "--replicas", "2", "2"]
    return subprocess.Popen(
        command,
        env={**os.environ, **TOKEN},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A shell that starts the tests in the background has its children ignore SIGINT.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def descendants(ancestor):
    """Return `{pid: command line}` of the descendants of a process."""
    listed = subprocess.run(["ps", "-ww", "-eo", "pid=,ppid=,args="], capture_output=True, text=True, check=True).stdout
    rows = [
        (int(pid), int(parent), command) for pid, parent, command in (row.split(None, 2) for row in listed.splitlines())
    ]
    found, before = {ancestor: ""}, 0
    while len(found) > before:
        before = len(found)
        found |= {pid: command for pid, parent, command in rows if parent in found}
    return found


def replicas(server):
    """Return the process numbers of the app's replicas."""
    return [pid for pid, command in descendants(server.pid).items() if command.startswith("ray::ServeReplica")]


@pytest.fixture(scope="module")
def saved_model(tmp_path_factory):
    """The SavedModel that TensorFlow Serving would load."""
    path = tmp_path_factory.mktemp("served") / "1"
    export_saved_model(load_model(RUN / "model.keras"), path)
    return tf.saved_model.load(str(path))


@pytest.fixture(scope="module")
def channel(server):
    with grpc.insecure_channel(ADDRESS, options=[("grpc.max_send_message_length", -1)]) as channel:
        yield channel


@pytest.fixture(scope="module")
def predict(channel):
    return prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict


def post(body, path=":predict"):
    return requests.post(f"{MODEL}{path}", data=body if isinstance(body, bytes) else json.dumps(body), timeout=300)


def png(height, width, seed=0, mode="L"):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, len(mode)), np.uint8)
    return tf.io.encode_png(pixels).numpy()


def b64(content):
    return {"b64": base64.b64encode(content).decode()}


def request(signature="serving_default", name="denoiser", version=None, output_filter=(), **inputs):
    made = predict_pb2.PredictRequest(output_filter=output_filter)
    made.model_spec.name, made.model_spec.signature_name = name, signature
    if version is not None:
        made.model_spec.version.value = version
    for key, value in inputs.items():
        made.inputs[key].CopyFrom(value if isinstance(value, TensorProto) else tf.make_tensor_proto(value))
    return made


def test_the_process_is_left_as_it_was_and_can_serve_again():
    """The environment and the logging of Ray. It comes before the tests that start the `server`: same ports."""
    code = """
import logging, os
import requests
from export.serving.ray.app import serving

before = dict(os.environ)
for _ in range(2):
    with serving("mnist", grpc_port=0, replicas=(1, 1)):
        assert requests.get("http://127.0.0.1:8501/v1/models/other").status_code == 404
    assert dict(os.environ) == before
    assert logging.getLogger("ray.serve").level != logging.ERROR
"""
    command = [sys.executable, "-c", code]
    for _ in range(3):
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
        if "killed by `ray.kill`" not in done.stderr:  # Ray gives up an actor that starts slowly on a busy machine
            break
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("way", [["--rest"], ["--grpc"]])
def test_client_gives_the_pixels_of_the_saved_model(way, server, saved_model, tmp_path):
    (tmp_path / "digit.png").write_bytes(png(28, 28))
    (tmp_path / "odd.png").write_bytes(png(41, 21))
    (tmp_path / "large.png").write_bytes(png(600, 700))
    paths = sorted(map(str, tmp_path.glob("*.png")))
    assert client.main([*paths, "--output-dir", str(tmp_path / "out"), *way]) == 0
    for path in map(Path, paths):
        outputs = saved_model.signatures["denoise_image"](tf.constant([path.read_bytes()]))
        expected = tf.io.decode_png(outputs["denoised_bytes"][0]).numpy()[..., 0]
        denoised = np.asarray(Image.open(tmp_path / "out" / path.name))
        assert np.abs(np.int16(denoised) - expected).max() <= 1


def test_files_have_the_bytes_of_the_command_line(server, predict):
    """All kinds of files, by REST and by gRPC."""
    contents = [*picture_files.plain_files().values(), *picture_files.special_files().values()]
    expected = [denoised.content for denoised in denoise_contents(load_denoiser(RUN), contents)]
    answer = post({**IMAGE, "inputs": {"image_bytes": [b64(content) for content in contents]}})
    assert [base64.b64decode(output["b64"]) for output in answer.json()["outputs"]] == expected
    response = predict(request("denoise_image", image_bytes=contents))
    assert tf.make_ndarray(response.outputs["denoised_bytes"]).tolist() == expected


def test_client_keeps_the_kind_of_a_file(server, tmp_path):
    (tmp_path / "photograph.jpg").write_bytes(picture_files.plain_files()["rgb.jpg"])
    assert client.main([str(tmp_path / "photograph.jpg"), "--output-dir", str(tmp_path / "out")]) == 0
    with Image.open(tmp_path / "out" / "photograph.jpg") as image:
        assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (41, 33))


def test_labels(server, predict):
    noisy = np.zeros((1, 20, 20, 1), np.float32)
    body = {"inputs": noisy.tolist()}
    assert post(body, "/labels/stable:predict").json() == post(body, "/versions/1:predict").json()
    assert requests.get(f"{MODEL}/labels/stable/metadata", timeout=300).status_code == 200
    assert post(body, "/labels/canary:predict").status_code == 404  # version 2, which is not there
    asked = request(noisy=noisy)
    asked.model_spec.version_label = "stable"
    assert predict(asked).model_spec.version.value == 1
    asked.model_spec.version_label = "other"
    with pytest.raises(grpc.RpcError, match="Unrecognized servable version label: other"):
        predict(asked)


def test_floats(server, predict, saved_model):
    noisy = np.random.default_rng(0).normal(0.5, 1, (3, 29, 31, 1)).astype(np.float32)  # also outside [0, 1]
    expected = saved_model.signatures["serving_default"](tf.constant(noisy))["denoised"].numpy()
    rows = noisy.tolist()
    for path in (":predict", "/versions/1:predict"):
        for named in (rows, [{"noisy": row} for row in rows]):
            body = {"instances": named, "signature_name": "serving_default"}
            np.testing.assert_allclose(post(body, path).json()["predictions"], expected, atol=1e-5)
        for named in (rows, {"noisy": rows}):
            np.testing.assert_allclose(post({"inputs": named}, path).json()["outputs"], expected, atol=1e-5)
    response = predict(request(noisy=noisy, version=1, output_filter=["denoised"]))
    np.testing.assert_allclose(tf.make_ndarray(response.outputs["denoised"]), expected, atol=1e-5)
    assert (response.model_spec.name, response.model_spec.version.value) == ("denoiser", 1)


def test_status_and_metadata(server, channel, saved_model):
    state = {"error_code": "OK", "error_message": ""}
    status = {"model_version_status": [{"version": "1", "state": "AVAILABLE", "status": state}]}
    assert requests.get(MODEL, timeout=300).json() == status
    asked = get_model_status_pb2.GetModelStatusRequest()
    asked.model_spec.name = "denoiser"
    assert model_service_pb2_grpc.ModelServiceStub(channel).GetModelStatus(asked) == json_format.ParseDict(
        status, get_model_status_pb2.GetModelStatusResponse()
    )

    metadata = requests.get(f"{MODEL}/versions/1/metadata", timeout=300).json()
    assert metadata["model_spec"] == {"name": "denoiser", "signature_name": "", "version": "1"}
    signatures = get_model_metadata_pb2.SignatureDefMap()
    json_format.ParseDict(metadata["metadata"]["signature_def"], signatures)
    asked = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    asked.model_spec.name = "denoiser"
    response = prediction_service_pb2_grpc.PredictionServiceStub(channel).GetModelMetadata(asked)
    packed = get_model_metadata_pb2.SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(packed)
    assert packed == signatures
    for name, function in saved_model.signatures.items():
        described = signatures.signature_def[name]
        ours = {**described.inputs, **described.outputs}
        theirs = {**function.structured_input_signature[1], **function.structured_outputs}
        assert set(ours) == set(theirs)
        for key, spec in theirs.items():
            assert ours[key].dtype == spec.dtype.as_datatype_enum
            assert tf.TensorShape(ours[key].tensor_shape).as_list() == spec.shape.as_list()


BOMB = tf.io.encode_png(tf.zeros((5000, 5000, 1), tf.uint8)).numpy()
IMAGE = {"signature_name": "denoise_image"}
ROW = [[[0.5]] * 20] * 20


def short_name(value):
    """Return a name of a parameter that is short enough for a command line; None for pytest's choice."""
    return repr(value)[:40] if isinstance(value, (str, bytes)) else None


@pytest.mark.parametrize(
    ("code", "path", "body"),
    [
        (400, "", {"instances": [ROW]}),
        (400, ":classify", {"instances": [ROW]}),
        (404, "/versions/2:predict", {"instances": [ROW]}),
        (400, ":predict", b""),
        (400, ":predict", b"{"),
        (400, ":predict", b"\xff\xfe{}"),
        (400, ":predict", b"[" * 100_000),
        (400, ":predict", b'{"instances": ' + b"[" * 200 + b"]" * 200 + b"}"),
        (400, ":predict", []),
        (400, ":predict", {}),
        (400, ":predict", {"instances": [ROW], "inputs": [ROW]}),
        (400, ":predict", {"instances": []}),
        (400, ":predict", {"instances": ROW}),
        (400, ":predict", {"instances": [ROW, ROW[1:]]}),
        (400, ":predict", {"instances": [ROW, {"noisy": ROW}]}),
        (400, ":predict", {"instances": [{"other": ROW}]}),
        (400, ":predict", {"inputs": {"other": [ROW]}}),
        (400, ":predict", {"inputs": {"noisy": [ROW], "other": 1}}),
        (400, ":predict", {"instances": [[[["a"]]]]}),
        (400, ":predict", {"instances": [[[[True]]]]}),
        (400, ":predict", {"instances": [[[[None]]]]}),
        (400, ":predict", {"instances": [[[[float("nan")]]]]}),
        (400, ":predict", {"instances": [[[[float("inf")]]]]}),
        (400, ":predict", {"instances": [[[[1e300]]]]}),
        (400, ":predict", {"instances": [[[[10**400]]]]}),
        (400, ":predict", b'{"instances": [[[[' + b"9" * 5000 + b"]]]]}"),
        (400, ":predict", {"instances": [ROW], "signature_name": "other"}),
        (400, ":predict", {"instances": [ROW], "signature_name": 1}),
        (400, ":predict", {**IMAGE, "instances": ["not an image"]}),
        (400, ":predict", {**IMAGE, "instances": [{"b64": "%%%"}]}),
        (400, ":predict", {**IMAGE, "instances": [{"b64": "\ud800"}]}),
        (400, ":predict", {**IMAGE, "instances": [{"b64": 1}]}),
        (400, ":predict", {**IMAGE, "instances": [b64(b"")]}),
        (400, ":predict", {**IMAGE, "instances": [b64(png(28, 28)[:-30])]}),
        (400, ":predict", {**IMAGE, "instances": [b64(png(28, 28)), b64(b"GIF89a")]}),
        (400, ":predict", {**IMAGE, "inputs": b64(png(28, 28))}),
        (413, ":predict", {**IMAGE, "instances": [b64(BOMB)]}),
        (413, ":predict", {**IMAGE, "instances": [b64(png(1500, 1500))] * 8}),
        (413, ":predict", b" " * (MAX_BYTES + 1)),
    ],
    ids=short_name,
)
def test_bad_rest_requests(server, code, path, body):
    answer = post(body, path)
    assert answer.status_code == code, answer.text
    assert list(answer.json()) == ["error"]
    assert answer.json()["error"]


def test_no_such_model_or_path(server):
    for url in (f"{MODEL}2", f"{MODEL}2/metadata", f"{MODEL}/versions/7"):
        answer = requests.get(url, timeout=300)
        assert answer.status_code == 404
        assert "Servable not found" in answer.json()["error"]
    assert requests.get(f"{URL}/v1/other", timeout=300).json() == {"error": "Malformed request: GET /v1/other"}


def promising(shape, dtype, **values):
    """Return a TensorProto of a few bytes that stands for a large tensor."""
    return TensorProto(dtype=dtype, tensor_shape={"dim": [{"size": size} for size in shape]}, **values)


@pytest.mark.parametrize(
    ("code", "asked"),
    [
        ("NOT_FOUND", lambda: request(name="other", noisy=np.zeros((1, 20, 20, 1), np.float32))),
        ("NOT_FOUND", lambda: request(version=2, noisy=np.zeros((1, 20, 20, 1), np.float32))),
        ("FAILED_PRECONDITION", lambda: request("other", noisy=np.zeros((1, 20, 20, 1), np.float32))),
        ("INVALID_ARGUMENT", lambda: request()),
        ("INVALID_ARGUMENT", lambda: request(other=np.zeros((1, 20, 20, 1), np.float32))),
        ("INVALID_ARGUMENT", lambda: request(noisy=np.zeros((1, 20, 20, 1)))),
        ("INVALID_ARGUMENT", lambda: request(noisy=np.zeros((1, 20, 20, 3), np.float32))),
        ("INVALID_ARGUMENT", lambda: request(noisy=np.zeros((0, 20, 20, 1), np.float32))),
        ("INVALID_ARGUMENT", lambda: request(noisy=np.full((1, 20, 20, 1), np.nan, np.float32))),
        ("INVALID_ARGUMENT", lambda: request(noisy=np.zeros((1, 20, 20, 1), np.float32), output_filter=["other"])),
        ("INVALID_ARGUMENT", lambda: request("denoise_image", image_bytes=[b"not an image"])),
        ("INVALID_ARGUMENT", lambda: request("denoise_image", image_bytes=png(28, 28))),
        ("INVALID_ARGUMENT", lambda: request(noisy=promising([1, 20, 20, 1], 1, tensor_content=b"123"))),
        ("RESOURCE_EXHAUSTED", lambda: request(noisy=promising([2**40, 2**40, 20, 1], 1, float_val=[0.5]))),
        ("RESOURCE_EXHAUSTED", lambda: request(noisy=promising([-1, 20, 20, 1], 1, float_val=[0.5]))),
        ("RESOURCE_EXHAUSTED", lambda: request("denoise_image", image_bytes=promising([10**8], 7, string_val=[b"a"]))),
        ("RESOURCE_EXHAUSTED", lambda: request("denoise_image", image_bytes=[BOMB])),
        ("RESOURCE_EXHAUSTED", lambda: request("denoise_image", image_bytes=[b" " * (MAX_BYTES + 1)])),
    ],
)
def test_bad_grpc_requests(predict, code, asked):
    with pytest.raises(grpc.RpcError) as caught:
        predict(asked(), timeout=300)
    assert caught.value.code() == grpc.StatusCode[code], caught.value.details()
    assert caught.value.details()


def test_other_grpc_methods(channel):
    with pytest.raises(grpc.RpcError) as caught:
        asked = classification_pb2.ClassificationRequest()
        asked.model_spec.name = "denoiser"
        prediction_service_pb2_grpc.PredictionServiceStub(channel).Classify(asked)
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_a_killed_replica_fails_only_its_own_requests(server, monkeypatch):
    body, image = {**IMAGE, "instances": [b64(png(28, 28))]}, png(28, 28)
    answered, failed = [], []
    killed = threading.Event()

    def load(_):
        while len(answered) < 400 or not killed.is_set():
            try:
                status = post(body).status_code
            except requests.ConnectionError:
                status = None
            (answered if status == 200 else failed).append(status)
            if status != 200:
                client.denoise_rest(image, URL)  # the client repeats the request
        return True

    def kill():
        time.sleep(0.5)
        first, _ = replicas(server)
        os.kill(first, signal.SIGKILL)
        killed.set()

    with ThreadPoolExecutor(CLIENTS + 1) as pool:
        killing = pool.submit(kill)
        assert all(pool.map(load, range(CLIENTS)))
        killing.result()
    assert len(failed) <= CLIENTS, failed
    assert set(failed) <= {None, *client.RETRIED_STATUS}


def test_ports_that_are_open_to_all_refuse_strangers(server, predict):
    listening = subprocess.run(["ss", "-ltnpH"], capture_output=True, text=True, check=True).stdout.splitlines()
    ports = [
        line.split()[3].rpartition(":")[2]
        for line in listening
        if any(f"pid={pid}," in line for pid in replicas(server)) and "127.0.0.1" not in line
    ]
    assert ports
    codes = set()
    for port in ports:
        with grpc.insecure_channel(f"{OUTSIDE_ADDRESS}:{port}") as channel:
            for call in (
                channel.unary_unary("/ray.serve.ASGIService/HandleRequest", lambda _: b""),  # would take pickles
                prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict,
            ):
                with pytest.raises(grpc.RpcError) as caught:
                    call(request(noisy=np.zeros((1, 20, 20, 1), np.float32)), timeout=60)
                codes.add(caught.value.code().name)
    assert codes <= {"UNAUTHENTICATED", "PERMISSION_DENIED", "UNIMPLEMENTED"}
    assert "UNAUTHENTICATED" in codes
    assert "PERMISSION_DENIED" in codes


@pytest.mark.parametrize("port", [8500, 8501])
def test_only_loopback(server, port):
    with pytest.raises(OSError), socket.create_connection((OUTSIDE_ADDRESS, port), timeout=5):
        pass


def run_app(*arguments):
    command = [sys.executable, "-m", "export.serving.ray_app", *map(str, arguments)]
    done = subprocess.run(command, env={**os.environ, **TOKEN}, capture_output=True, text=True, timeout=300)
    return done.returncode, done.stderr


def test_serve_is_running_already(server):
    """It is not changed, and a request that it cannot meet is refused."""
    (address,) = {
        match[1] for line in descendants(server.pid).values() if (match := re.search(r"gcs-address=(\S+)", line))
    }
    there = [RUN, "--replicas", 1, 1, "--address", address]
    with ThreadPoolExecutor(2) as pool:
        port = pool.submit(run_app, *there, "--port", 8502)
        name = pool.submit(run_app, *there)
        other = pool.submit(run_app, *there, "--name", "other")
        assert_user_error(*port.result(), "Ray Serve is already running there with port 8501, not port 8502")
        assert_user_error(*other.result(), "Prefix / is being used by application", "denoiser")
        assert_user_error(*name.result(), "got denoiser, which is running on that cluster already", "--replace")
    assert requests.get(MODEL, timeout=300).status_code == 200
    assert requests.get(f"{MODEL[:-8]}other", timeout=300).status_code == 404


def test_a_port_that_is_taken(server):
    assert_user_error(*run_app(RUN), "cannot listen on 127.0.0.1:8501")
    assert_user_error(*run_app(RUN, "--port", 8502), "cannot listen on 127.0.0.1:8500")


def test_no_cluster_at_the_address():
    assert_user_error(*run_app(RUN, "--address", "127.0.0.1:9"), "expected a Ray cluster at 127.0.0.1:9")
    assert_user_error(*run_app(RUN, "--address", "nonsense"), "expected a Ray cluster at nonsense")
