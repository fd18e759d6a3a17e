"""A replica: one model that answers REST and gRPC requests as TensorFlow Serving does."""

import asyncio
import contextlib
import itertools
import json
import logging
from collections.abc import Iterator
from typing import Any

import grpc
from google.protobuf.empty_pb2 import Empty
from ray import serve
from ray.serve.context import _get_global_client as get_client  # no public function tells what is running
from starlette.responses import Response

from export.serving.ray import description, rest
from export.serving.ray.servable import MAX_BYTES, Refused, Servable
from keras_dae.denoise.ray.cluster import ray_reason
from keras_dae.errors import UserError

LOOPBACK_PEERS = ("ipv4:127.", "ipv6:%5B::1%5D:", "unix:")
REQUEST_TIMEOUT = 60.0  # seconds that a request may take, including the time that it waits
MAX_BATCH_REQUESTS = 64
MAX_QUEUED_REQUESTS = 1000  # for each replica; further requests are answered with "unavailable"
TARGET_REQUESTS = 8  # Serve starts another replica when each of them has more requests than this
MIN_THREADED_SIZE = 2**18  # bytes or pixels; they take about 50 ms
QUIET_LOGGING = {"log_level": "ERROR", "enable_access_log": False}


def _grpc_method(answer):
    """Wrap a method that answers gRPC requests: refused requests, also those for other models, get an error status."""

    async def method(self, request, grpc_context):
        try:
            if not self.is_open and not grpc_context.peer().startswith(LOOPBACK_PEERS):
                raise Refused("PERMISSION_DENIED", "only requests from this machine are answered")
            self.servable.check(*self.rpc.requested_model(request))
            return await answer(self, request)
        except Refused as error:
            grpc_context.set_code(grpc.StatusCode[error.code])
            grpc_context.set_details(str(error))
            return Empty()

    return method


@serve.deployment(
    max_ongoing_requests=MAX_BATCH_REQUESTS,
    max_queued_requests=MAX_QUEUED_REQUESTS,
    ray_actor_options={"num_cpus": 1},
    logging_config=QUIET_LOGGING,
)
class Replica:
    """A model on one core.

    Args:
        run: the run folder, readable on this node.
        name: of the model, in requests.
        has_grpc: whether gRPC requests are answered. This imports TensorFlow.
        is_open: whether gRPC requests from other machines are answered. Ray's gRPC proxy listens on every address.
    """

    def __init__(self, run: str, name: str, has_grpc: bool, is_open: bool):
        self.servable = Servable(run, name)
        self.is_open = is_open
        if has_grpc:
            from export.serving.ray import rpc

            self.rpc = rpc

    @serve.batch(max_batch_size=MAX_BATCH_REQUESTS, batch_wait_timeout_s=0)
    async def denoise(self, requests):
        """Denoise the images of all waiting requests together. `requests` holds a list of images for each."""
        images = [image for images in requests for image in images]
        denoised = iter(await _call(_pixels(images), self.servable.denoise, images))
        return [list(itertools.islice(denoised, len(images))) for images in requests]

    async def predict(self, signature: str, value: Any, size: int) -> Any:
        """Return the output of a signature for its input `value`, see `Servable`. The request had `size` bytes."""
        images = await _call(size, self.servable.images, signature, value)
        denoised = await self.denoise(images)
        return await _call(_pixels(images), self.servable.output, signature, denoised)

    async def __call__(self, request):
        """Answer a REST request."""
        try:
            return _json(200, await self._rest(request))
        except Refused as error:
            return _json(rest.HTTP_STATUS[error.code], json.dumps({"error": str(error)}))

    async def _rest(self, request):
        kind, name, version = rest.route(request.method, request.url.path)
        self.servable.check(name, version)
        if kind == "status":
            return json.dumps(description.status(self.servable))
        if kind == "metadata":
            return json.dumps(description.metadata(self.servable))
        body = await _body(request)
        signature, value, is_row = await _call(len(body), rest.read_predict, body)
        output = await self.predict(signature, value, len(body))
        return await _call(len(body), rest.write_predict, output, is_row)

    @_grpc_method
    async def Predict(self, request):
        """Answer PredictionService/Predict."""
        signature, value = self.rpc.read_predict(request)
        output = await self.predict(signature, value, request.ByteSize())
        return self.rpc.predict_response(self.servable, signature, output)

    @_grpc_method
    async def GetModelMetadata(self, request):
        """Answer PredictionService/GetModelMetadata."""
        return self.rpc.metadata_response(self.servable, request.metadata_field)

    @_grpc_method
    async def GetModelStatus(self, request):
        """Answer ModelService/GetModelStatus."""
        return self.rpc.status_response(self.servable)

    @_grpc_method
    async def Classify(self, request):
        """Refuse the other methods of these services."""
        raise Refused("UNIMPLEMENTED", "expected Predict, GetModelMetadata or GetModelStatus")

    Regress = MultiInference = HandleReloadConfigRequest = Classify


async def _call(size, function, *arguments):
    """Return `function(*arguments)`. With large arguments it runs in a thread, to keep the event loop free.

    Serve's health checks are answered in the event loop.
    """
    return await asyncio.to_thread(function, *arguments) if size > MIN_THREADED_SIZE else function(*arguments)


def _pixels(images):
    return sum(image.size for image in images)


async def _body(request):
    """Return the body of a request. Raises `Refused` as soon as it has more than MAX_BYTES."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BYTES:
            raise Refused("RESOURCE_EXHAUSTED", f"expected a request of at most {MAX_BYTES:,} bytes")
    return body


def _json(status, content):
    return Response(content, status, media_type="application/json")


@contextlib.contextmanager
def deploy(
    run: str, name: str, replicas: tuple[int, int], http: dict[str, Any], grpc: dict[str, Any]
) -> Iterator[None]:
    """Run replicas while the block lasts, on the Ray cluster that this process is connected to.

    Args:
        run: the run folder, readable on every node.
        name: of the model, and of Serve's application.
        replicas: minimum and maximum number.
        http: Serve's options for REST: host and port.
        grpc: Serve's options for gRPC: port and services.

    Raises:
        UserError: Serve or a replica cannot be started, or Serve is running already with other options.
    """
    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    min_replicas, max_replicas = replicas
    scaling = {"min_replicas": min_replicas, "max_replicas": max_replicas, "target_ongoing_requests": TARGET_REQUESTS}
    is_open = http["host"] not in ("127.0.0.1", "::1", "localhost")
    app = Replica.options(  # type: ignore[attr-defined]  # what `serve.deployment` makes of the class
        autoscaling_config=scaling
    ).bind(run, name, bool(grpc["grpc_servicer_functions"]), is_open)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(_started(http, grpc))
            stack.callback(serve.delete, name)
            serve.run(app, name=name)
        except UserError:
            raise
        except Exception as error:  # noqa: BLE001 - Ray's exceptions have no common base
            raise UserError(f"cannot serve {run}: {ray_reason(error)}") from None
        yield


@contextlib.contextmanager
def _started(http, grpc):
    """Run Serve with these options while the block lasts. A Serve that is running already must have the same options.

    It keeps running after the block.
    """
    client = get_client(raise_if_no_controller_running=False)
    if client is not None:
        details, grpc = client.get_serve_details(), grpc if grpc["grpc_servicer_functions"] else {}
        for wanted, found in ((http, details["http_options"]), (grpc, details["grpc_options"])):
            if differing := [name for name in wanted if wanted[name] != found.get(name)]:
                there, asked = (", ".join(f"{name} {of.get(name)}" for name in differing) for of in (found, wanted))
                raise UserError(
                    f"Ray Serve is already running there with {there}, not {asked}; give those options, or stop it"
                )
        yield
        return
    timeout = {"request_timeout_s": REQUEST_TIMEOUT}
    serve.start(http_options=http | timeout, grpc_options=grpc | timeout, logging_config=QUIET_LOGGING)
    try:
        yield
    finally:
        serve.shutdown()
