"""Send images to TensorFlow Serving: `python -m export.serving.client IMAGE … --output-dir OUT [--rest | --grpc]`.

PNG or JPEG files go to the signature `denoise_image` as they are; PNGs come back. What a failing server
had in its hands is sent again, which is safe: denoising changes nothing.
"""

import argparse
import base64
import json
import sys
from pathlib import Path

from keras_dae._util.atomic import atomic_file
from keras_dae.denoise.files import Work, check_targets
from keras_dae.errors import UserError, first_line, run_command

SIGNATURE = "denoise_image"
MAX_MESSAGE = 256 * 2**20  # bytes; gRPC's own limit of 4 MiB is less than a photograph
ATTEMPTS = 5  # some three seconds in all
AGAIN = (500, 502, 503, 504)  # what a server or the proxy before it answers when it fails
RETRY_POLICY = {
    "maxAttempts": ATTEMPTS,
    "initialBackoff": "0.2s",
    "maxBackoff": "2s",
    "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE", "INTERNAL"],
}


class RequestFailed(UserError):
    """The server could not be reached, or refused a request; says which and why."""

    status = 1


def denoise_rest(image, url="http://127.0.0.1:8501", model="denoiser", timeout=30.0):
    """Return the denoised PNG of one image file's bytes, through the REST API.

    Args:
        image: content of a PNG or JPEG file.
        url: of the server, without a path.
        model: name that the server knows the model by.
        timeout: seconds to wait for the server.

    Raises:
        RequestFailed: no answer in time, or an error from the server.
    """
    import requests
    from urllib3.util import Retry

    body = {"signature_name": SIGNATURE, "instances": [{"b64": base64.b64encode(image).decode()}]}
    retries = Retry(
        ATTEMPTS - 1,
        connect=0,
        status_forcelist=AGAIN,
        allowed_methods=None,
        backoff_factor=0.2,
        raise_on_status=False,
    )
    try:
        with requests.Session() as session:
            session.mount(url, requests.adapters.HTTPAdapter(max_retries=retries))
            answer = session.post(f"{url}/v1/models/{model}:predict", json=body, timeout=timeout)
        content = answer.json()
    except (requests.RequestException, ValueError) as error:
        raise RequestFailed(f"no answer from {url}: {first_line(error)}") from None
    if answer.status_code != 200:
        raise RequestFailed(f"{url} answered {answer.status_code}: {content.get('error', 'no reason given')}")
    return base64.b64decode(content["predictions"][0]["b64"])


def denoise_grpc(image, address="127.0.0.1:8500", model="denoiser", timeout=30.0):
    """Return the denoised PNG of one image file's bytes, through gRPC; `address` is `host:port`, else as above."""
    import grpc
    import tensorflow as tf
    from tensorflow_serving.apis import model_pb2, predict_pb2, prediction_service_pb2_grpc

    request = predict_pb2.PredictRequest(
        model_spec=model_pb2.ModelSpec(name=model, signature_name=SIGNATURE),
        inputs={"image_bytes": tf.make_tensor_proto([image])},
    )
    options = [
        ("grpc.max_send_message_length", MAX_MESSAGE),
        ("grpc.max_receive_message_length", MAX_MESSAGE),
        ("grpc.per_rpc_retry_buffer_size", MAX_MESSAGE),  # larger ones would not be sent again
        ("grpc.service_config", json.dumps({"methodConfig": [{"name": [{}], "retryPolicy": RETRY_POLICY}]})),
    ]
    with grpc.insecure_channel(address, options=options) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        try:
            answer = stub.Predict(request, timeout=timeout)
        except grpc.RpcError as error:
            raise RequestFailed(f"{address} answered {error.code().name}: {first_line(error.details())}") from None
    return tf.make_ndarray(answer.outputs["denoised_bytes"])[0]


def denoise_files(paths, output_dir, denoise):
    """Write `output_dir/<name>.png` for each image file; go on past a bad one. What is there already is replaced.

    Args:
        paths: image files.
        output_dir: folder to write into.
        denoise: function from an image file's bytes to a PNG's.

    Raises:
        UserError: an output would overwrite an input, or two inputs would give one.
        RequestFailed: at the end, naming the files that could not be done.
    """
    files = [Work(path, Path(output_dir, f"{path.stem}.png")) for path in map(Path, paths)]
    check_targets(files)
    failed = []
    for source, target in files:
        try:
            denoised = denoise(source.read_bytes())
            with atomic_file(target) as temporary:
                temporary.write_bytes(denoised)
        except (OSError, UserError) as error:
            failed.append(f"{source}: {first_line(error)}")
    if failed:
        raise RequestFailed(f"{len(failed)} of {len(paths)} images failed: {'; '.join(failed)}")


def parser(prog="python -m export.serving.client"):
    """Return the argument parser of the command."""
    parser = argparse.ArgumentParser(prog=prog, description=__doc__.splitlines()[0])
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="PNG or JPEG file")
    parser.add_argument("--output-dir", required=True)
    parser.add_argument("--model", default="denoiser", help="name that the server knows the model by (denoiser)")
    parser.add_argument("--timeout", type=float, default=30.0, help="seconds (30)")
    way = parser.add_mutually_exclusive_group()
    way.add_argument("--rest", metavar="URL", nargs="?", const="http://127.0.0.1:8501", help="(http://127.0.0.1:8501)")
    way.add_argument("--grpc", metavar="HOST:PORT", nargs="?", const="127.0.0.1:8500", help="(127.0.0.1:8500)")
    return parser


def main(argv=None, prog="python -m export.serving.client"):
    """Command line of `denoise_files`; returns the exit status: 1 when an image failed."""
    options = parser(prog).parse_args(argv)

    def denoise(image):
        if options.grpc:
            return denoise_grpc(image, options.grpc, options.model, options.timeout)
        return denoise_rest(image, options.rest or "http://127.0.0.1:8501", options.model, options.timeout)

    return run_command(denoise_files, options.images, options.output_dir, denoise)


if __name__ == "__main__":
    sys.exit(main())
