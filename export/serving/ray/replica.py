"""A replica: one model that answers REST and gRPC requests as TensorFlow Serving does."""

import asyncio
import contextlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from google.protobuf.empty_pb2 import Empty
from ray import serve
from ray.serve.context import _get_global_client as get_client  # no public function tells Serve's host and ports
from starlette.responses import Response

from export.serving.ray import description, rest
from export.serving.ray.batcher import Batcher, Budget
from export.serving.ray.servable import MAX_BYTES, MAX_PIXELS, Images, Refused, Servable
from keras_dae.denoise.ray.cluster import ray_reason
from keras_dae.errors import UserError

LOOPBACK_PEERS = ("ipv4:127.", "ipv6:%5B::1%5D:", "unix:")
REQUEST_TIMEOUT = 60.0  # seconds that a request may take, including the time that it waits
MAX_REQUESTS = 64  # that a replica has begun
MAX_QUEUED_REQUESTS = 1000  # for each replica; further requests are answered with "unavailable"
TARGET_REQUESTS = 8  # Serve starts another replica when each of them has more requests than this
# What a replica holds at most, of all requests that it has begun. On one core the pixels take about 6 seconds with the
# network autoencoder and 20 with unet, which is less than REQUEST_TIMEOUT.
REPLICA_BYTES, REPLICA_PIXELS = 4 * MAX_BYTES, 2 * MAX_PIXELS
QUIET_LOGGING = {"log_level": "ERROR", "enable_access_log": False}


def _grpc_method(answer):
    """Wrap a method that answers gRPC requests: refused requests, also those for other models, get an error status."""

    async def method(self, request, grpc_context):
        try:
            if not self.is_open and not grpc_context.peer().startswith(LOOPBACK_PEERS):
                raise Refused("PERMISSION_DENIED", "only requests from this machine are answered")
            self.servable.check(self.rpc.requested_model(request))
            return await answer(self, request)
        except Refused as error:
            grpc_context.set_code(grpc.StatusCode[error.code])
            grpc_context.set_details(str(error))
            return Empty()

    return method


@serve.deployment(
    max_ongoing_requests=MAX_REQUESTS,
    max_queued_requests=MAX_QUEUED_REQUESTS,
    ray_actor_options={"num_cpus": 1},
    logging_config=QUIET_LOGGING,
)
class Replica:
    """A model on one core.

    Args:
        run: the run folder, readable on this node.
        name: of the model, in requests.
        labels: label -> version.
        has_grpc: whether gRPC requests are answered. This imports TensorFlow.
        is_open: whether gRPC requests from other machines are answered. Ray's gRPC proxy listens on every address.
    """

    def __init__(self, run: str, name: str, labels: dict[str, int], has_grpc: bool, is_open: bool):
        self.servable = Servable(run, name, labels)
        self.is_open = is_open
        self.bytes, self.pixels = Budget(REPLICA_BYTES, "bytes"), Budget(REPLICA_PIXELS, "pixels")
        # The event loop answers Serve's health checks. All work on requests is done in this one thread, one after the
        # other, because a replica has one core, and several at once would need more memory.
        self.thread = ThreadPoolExecutor(1)
        self.denoise = Batcher(self.servable.denoise, self.thread, MAX_PIXELS)
        if has_grpc:
            from export.serving.ray import rpc

            self.rpc = rpc

    async def _call(self, function, *arguments):
        """Return `function(*arguments)`, computed in the thread."""
        return await asyncio.get_running_loop().run_in_executor(self.thread, function, *arguments)

    async def predict(self, read: Callable[[], tuple[str, Images, Any]], write: Callable[..., Any]) -> Any:
        """Answer a predict request.

        Args:
            read: returns the name of the signature, the images, and an argument for `write`.
            write: makes the answer of the name of the signature, the output and that argument.

        Raises:
            Refused: the request is refused, or the replica has too much to do.
        """
        signature, images, argument = await self._call(read)
        with self.pixels.reserved(images.pixels):
            denoised = await self.denoise(images)
            return await self._call(lambda: write(signature, self.servable.output(signature, denoised), argument))

    async def __call__(self, request):
        """Answer a REST request."""
        try:
            return _json(200, await self._rest(request))
        except Refused as error:
            return _json(rest.HTTP_STATUS[error.code], json.dumps({"error": str(error)}))

    async def _rest(self, request):
        kind, asked = rest.route(request.method, request.url.path)
        self.servable.check(asked)
        if kind == "status":
            return json.dumps(description.status(self.servable))
        if kind == "metadata":
            return json.dumps(description.metadata(self.servable))
        with contextlib.ExitStack() as held:
            body = await _body(request, self.bytes, held)

            def read():
                signature, value, is_row = rest.read_predict(body)
                return signature, self.servable.images(signature, value), is_row

            return await self.predict(read, lambda signature, output, is_row: rest.write_predict(output, is_row))

    @_grpc_method
    async def Predict(self, request):
        """Answer PredictionService/Predict."""

        def read():
            signature, value = self.rpc.read_predict(request)
            return signature, self.servable.images(signature, value), None

        def write(signature, output, _):
            return self.rpc.predict_response(self.servable, signature, output)

        with self.bytes.reserved(request.ByteSize()):
            return await self.predict(read, write)

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


async def _body(request, budget, held):
    """Return the body of a request. Its bytes are reserved until `held` is closed.

    Raises:
        Refused: the body has more than MAX_BYTES, or more than the budget has left. Its rest is not read.
    """
    body = bytearray()
    async for chunk in request.stream():
        held.enter_context(budget.reserved(len(chunk)))
        body += chunk
        if len(body) > MAX_BYTES:
            raise Refused("RESOURCE_EXHAUSTED", f"expected a request of at most {MAX_BYTES:,} bytes")
    return body


def _json(status, content):
    return Response(content, status, media_type="application/json")


@contextlib.contextmanager
def deploy(
    run: str,
    name: str,
    labels: Mapping[str, int],
    replicas: tuple[int, int],
    http: dict[str, Any],
    grpc: dict[str, Any],
    replace: bool = False,
) -> Iterator[None]:
    """Run replicas while the block lasts, on the Ray cluster that this process is connected to.

    Args:
        run: the run folder, readable on every node.
        name: of the model, and of Serve's application.
        labels: label -> version that requests may ask for.
        replicas: minimum and maximum number.
        http: Serve's options for REST: host and port.
        grpc: Serve's options for gRPC: port and services.
        replace: whether an application of this name, which another process may have started, is replaced.

    Raises:
        UserError: Serve or a replica cannot be started, Serve is running already with other options, or an application
            of this name is running.
    """
    min_replicas, max_replicas = replicas
    scaling = {"min_replicas": min_replicas, "max_replicas": max_replicas, "target_ongoing_requests": TARGET_REQUESTS}
    is_open = http["host"] not in ("127.0.0.1", "::1", "localhost")
    app = Replica.options(  # type: ignore[attr-defined]  # what `serve.deployment` makes of the class
        autoscaling_config=scaling
    ).bind(run, name, dict(labels), bool(grpc["grpc_servicer_functions"]), is_open)
    with contextlib.ExitStack() as stack:
        stack.enter_context(_quiet("ray.serve"))
        try:
            stack.enter_context(_started(http, grpc))
            stack.enter_context(_application(app, name, replace))
        except UserError:
            raise
        except Exception as error:  # noqa: BLE001 - Ray's exceptions have no common base
            raise UserError(f"cannot serve {run}: {ray_reason(error)}") from None
        yield


@contextlib.contextmanager
def _application(app, name, replace):
    """Run an application under a name while the block lasts. If another process replaces it, the other's stays."""
    before = _deployed_at(name)
    if before is not None and not replace:
        raise UserError(
            f"expected a free name, got {name}, which is running on that cluster already; give another --name, or "
            "--replace"
        )
    ours = before
    try:
        try:
            serve.run(app, name=name)
        finally:
            ours = _deployed_at(name)  # also of an application that could not start
        yield
    finally:
        if ours not in (None, before) and _deployed_at(name) == ours:
            serve.delete(name)


def _deployed_at(name):
    """Return when the application of this name was deployed; None if there is none. It tells two of them apart."""
    application = serve.status().applications.get(name)
    return application and application.last_deployed_time_s


@contextlib.contextmanager
def _quiet(name):
    """Log only errors under a name while the block lasts."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


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
    try:
        serve.start(http_options=http | timeout, grpc_options=grpc | timeout, logging_config=QUIET_LOGGING)
        yield
    finally:
        serve.shutdown()
