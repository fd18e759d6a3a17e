"""Send images to TensorFlow Serving: `python -m export.serving.client IMAGE … --output-dir OUT [--rest | --grpc]`.

PNG or JPEG files are sent unchanged to the signature `denoise_image`. TensorFlow Serving answers with PNG files. The
Ray app answers with files of the same kind, which have the bytes that `python -m keras_dae.denoise` writes. If a server
fails during a request, or has too much to do, the request is repeated. That is safe, because denoising changes nothing
on the server.
"""

import argparse
import base64
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from keras_dae._util.atomic import atomic_file
from keras_dae._util.command import prepare_command
from keras_dae.denoise.work import Work, check_targets
from keras_dae.errors import UserError, first_line, run_command

SIGNATURE = "denoise_image"
PNG = b"\x89PNG"  # the first bytes of such a file
DEFAULT_URL = "http://127.0.0.1:8501"
DEFAULT_ADDRESS = "127.0.0.1:8500"
MAX_MESSAGE_BYTES = 256 * 2**20  # gRPC's default of 4 MiB is less than a photograph
MAX_ATTEMPTS = 5  # they take about three seconds in all
RETRIED_STATUS = (500, 502, 503, 504)  # HTTP status of a server, or a proxy in front of it, that fails
RETRY_POLICY = {
    "maxAttempts": MAX_ATTEMPTS,
    "initialBackoff": "0.2s",
    "maxBackoff": "2s",
    "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE", "INTERNAL"],
}


class RequestFailed(UserError):
    """The server could not be reached, or it refused a request. The message says which server, and why."""

    status = 1


def denoise_rest(image: bytes, url: str = DEFAULT_URL, model: str = "denoiser", timeout: float = 30.0) -> bytes:
    """Denoise one image through the REST API.

    Args:
        image: content of a PNG or JPEG file.
        url: address of the server, without a path.
        model: the name of the model on the server.
        timeout: seconds to wait for the server.

    Returns:
        The content of a file with an image of the same size: a PNG file, or from the Ray app a file of the same kind.

    Raises:
        RequestFailed: the server does not answer in time, or answers with an error.

    Example::

        png = denoise_rest(Path("scan.png").read_bytes(), "http://127.0.0.1:8501")
    """
    import requests
    from urllib3.util import Retry

    body: dict = {"signature_name": SIGNATURE, "instances": [{"b64": base64.b64encode(image).decode()}]}
    retries = Retry(
        MAX_ATTEMPTS - 1,
        connect=0,
        status_forcelist=RETRIED_STATUS,
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


def denoise_grpc(image: bytes, address: str = DEFAULT_ADDRESS, model: str = "denoiser", timeout: float = 30.0) -> bytes:
    """Denoise one image through gRPC.

    Args:
        image: content of a PNG or JPEG file.
        address: `host:port` of the server.
        model: the name of the model on the server.
        timeout: seconds to wait for the server.

    Returns:
        The content of a file with an image of the same size: a PNG file, or from the Ray app a file of the same kind.

    Raises:
        RequestFailed: the server does not answer in time, or answers with an error.

    Example::

        png = denoise_grpc(Path("scan.png").read_bytes(), "127.0.0.1:8500")
    """
    import grpc
    import tensorflow as tf
    from tensorflow_serving.apis import model_pb2, predict_pb2, prediction_service_pb2_grpc

    request = predict_pb2.PredictRequest(
        model_spec=model_pb2.ModelSpec(name=model, signature_name=SIGNATURE),
        inputs={"image_bytes": tf.make_tensor_proto([image])},
    )
    options = [
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        ("grpc.per_rpc_retry_buffer_size", MAX_MESSAGE_BYTES),  # larger requests would not be repeated
        ("grpc.service_config", json.dumps({"methodConfig": [{"name": [{}], "retryPolicy": RETRY_POLICY}]})),
    ]
    with grpc.insecure_channel(address, options=options) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        try:
            answer = stub.Predict(request, timeout=timeout)
        except grpc.RpcError as error:
            raise RequestFailed(f"{address} answered {error.code().name}: {first_line(error.details())}") from None
    return tf.make_ndarray(answer.outputs["denoised_bytes"])[0]


def denoise_files(paths: Sequence[str], output_dir: str, denoise: Callable[[bytes], bytes]) -> None:
    """Write `output_dir/<name>` for each image file. If a file fails, the others are still denoised.

    The ending is `.png` if the answer is a PNG file; otherwise it is that of the file. Existing files are replaced.

    Args:
        paths: image files.
        output_dir: folder to write into.
        denoise: function from the content of an image file to the content of the denoised file.

    Raises:
        UserError: an output would overwrite an input, or two inputs would have the same output.
        RequestFailed: some files failed. It is raised at the end and names them.
    """
    sources = [Path(path) for path in paths]
    check_targets([Work(path, Path(output_dir, f"{path.stem}.png")) for path in sources])
    check_targets([Work(path, Path(output_dir, path.name)) for path in sources])
    failed = []
    for source in sources:
        try:
            denoised = denoise(source.read_bytes())
            name = f"{source.stem}.png" if denoised.startswith(PNG) else source.name
            with atomic_file(Path(output_dir, name)) as temporary:
                temporary.write_bytes(denoised)
        except (OSError, UserError) as error:
            failed.append(f"{source}: {first_line(error)}")
    if failed:
        raise RequestFailed(f"{len(failed)} of {len(paths)} images failed: {'; '.join(failed)}")


def parser(prog: str = "python -m export.serving.client") -> argparse.ArgumentParser:
    """Return the argument parser of the command."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Send images to TensorFlow Serving, or to the Ray app, and write the denoised images to a folder.",
    )
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="PNG or JPEG file")
    parser.add_argument("--output-dir", required=True, help="folder to write the denoised files into")
    parser.add_argument("--model", default="denoiser", help="name of the model on the server (default: %(default)s)")
    parser.add_argument("--timeout", type=float, default=30.0, help="seconds to wait for an answer (default: 30)")
    protocol = parser.add_mutually_exclusive_group()
    protocol.add_argument(
        "--rest",
        metavar="URL",
        nargs="?",
        const=DEFAULT_URL,
        help="use REST, the default (default URL: %(const)s)",
    )
    protocol.add_argument(
        "--grpc", metavar="HOST:PORT", nargs="?", const=DEFAULT_ADDRESS, help="use gRPC (default address: %(const)s)"
    )
    return parser


def main(argv: Sequence[str] | None = None, prog: str = "python -m export.serving.client") -> int:
    """Run the command. Returns the exit status: 1 if an image failed."""
    prepare_command()
    options = parser(prog).parse_args(argv)

    def denoise(image):
        if options.grpc:
            return denoise_grpc(image, options.grpc, options.model, options.timeout)
        return denoise_rest(image, options.rest or DEFAULT_URL, options.model, options.timeout)

    return run_command(denoise_files, options.images, options.output_dir, denoise)


if __name__ == "__main__":
    sys.exit(main())
