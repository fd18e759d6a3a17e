"""What runs in each replica: one model, that answers REST and gRPC as TensorFlow Serving would."""

import asyncio
import contextlib
import itertools
import json
import logging

import grpc
from google.protobuf.empty_pb2 import Empty
from ray import serve
from ray.serve.context import _get_global_client as get_client  # for want of a public way to ask what runs
from starlette.responses import Response

from export.serving.ray import description, rest
from export.serving.ray.servable import MAX_BYTES, Refused, Servable
from keras_dae.denoise.ray.cluster import reason
from keras_dae.errors import UserError

LOOPBACK = ("ipv4:127.", "ipv6:%5B::1%5D:", "unix:")
TIMEOUT = 60.0  # seconds that a request may take, waiting included
MAX_AT_ONCE = 64  # requests in a batch
MAX_WAITING = 1000  # requests beside, for each replica; more are told that it is unavailable
BUSY = 8  # requests in a replica that call for another one
LARGE = 2**18  # bytes or pixels; some 50 ms
QUIET = {"log_level": "ERROR", "enable_access_log": False}


def _grpc_method(answer):
    """Return the method that Serve calls: it answers a request for this model, or sets the status that says why not."""

    async def method(self, request, grpc_context):
        try:
            if not self.is_open and not grpc_context.peer().startswith(LOOPBACK):
                raise Refused("PERMISSION_DENIED", "only requests from this machine are answered")
            self.servable.check(*self.rpc.model_wanted(request))
            return await answer(self, request)
        except Refused as error:
            grpc_context.set_code(grpc.StatusCode[error.code])
            grpc_context.set_details(str(error))
            return Empty()

    return method


@serve.deployment(
    max_ongoing_requests=MAX_AT_ONCE,
    max_queued_requests=MAX_WAITING,
    ray_actor_options={"num_cpus": 1},
    logging_config=QUIET,
)
class Replica:
    """A model on one core.

    Args:
        run: the run folder, readable on this node.
        name: that requests know the model by.
        has_grpc: whether to prepare for gRPC, which imports TensorFlow.
        is_open: whether gRPC requests from other machines are answered. Ray's gRPC proxy listens on every address.
    """

    def __init__(self, run, name, has_grpc, is_open):
        self.servable = Servable(run, name)
        self.is_open = is_open
        if has_grpc:
            from export.serving.ray import rpc

            self.rpc = rpc

    @serve.batch(max_batch_size=MAX_AT_ONCE, batch_wait_timeout_s=0)
    async def denoise(self, requests):
        """Denoise the images of all requests that are waiting as one batch."""
        images = [image for images in requests for image in images]
        denoised = iter(await _aside(_pixels(images), self.servable.denoise, images))
        return [list(itertools.islice(denoised, len(images))) for images in requests]

    async def predict(self, signature, value, size):
        """Return a signature's output, see `Servable`; the request was of `size` bytes."""
        images = await _aside(size, self.servable.images, signature, value)
        denoised = await self.denoise(images)
        return await _aside(_pixels(images), self.servable.output, signature, denoised)

    async def __call__(self, request):
        """Answer a REST request."""
        try:
            return _json(200, await self._rest(request))
        except Refused as error:
            return _json(rest.STATUS[error.code], json.dumps({"error": str(error)}))

    async def _rest(self, request):
        what, name, version = rest.route(request.method, request.url.path)
        self.servable.check(name, version)
        if what != "predict":
            return json.dumps(getattr(description, what)(self.servable))
        body = await _body(request)
        signature, value, is_row = await _aside(len(body), rest.read_predict, body)
        output = await self.predict(signature, value, len(body))
        return await _aside(len(body), rest.write_predict, output, is_row)

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
        """Refuse what these services have beside."""
        raise Refused("UNIMPLEMENTED", "expected Predict, GetModelMetadata or GetModelStatus")

    Regress = MultiInference = HandleReloadConfigRequest = Classify


async def _aside(size, function, *arguments):
    """Return `function(*arguments)`; what is large runs in a thread, for Serve's health checks are answered in this."""
    return await asyncio.to_thread(function, *arguments) if size > LARGE else function(*arguments)


def _pixels(images):
    return sum(image.size for image in images)


async def _body(request):
    """Return the body of a request, of which no more is read than may be."""
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MAX_BYTES:
            raise Refused("RESOURCE_EXHAUSTED", f"expected a request of at most {MAX_BYTES:,} bytes")
    return body


def _json(status, content):
    return Response(content, status, media_type="application/json")


@contextlib.contextmanager
def deploy(run, name, replicas, http, grpc):
    """Have replicas while the block lasts, in the Ray that this process is connected to.

    Args:
        run: the run folder, readable on every node.
        name: of the model, and of Serve's application.
        replicas: fewest and most.
        http: Serve's options for REST: host and port.
        grpc: those for gRPC: port and services.

    Raises:
        UserError: Serve or a replica cannot be started, or Serve runs already with other options.
    """
    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    least, most = replicas
    scaling = {"min_replicas": least, "max_replicas": most, "target_ongoing_requests": BUSY}
    is_open = http["host"] not in ("127.0.0.1", "::1", "localhost")
    app = Replica.options(autoscaling_config=scaling).bind(run, name, bool(grpc["grpc_servicer_functions"]), is_open)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(_started(http, grpc))
            stack.callback(serve.delete, name)
            serve.run(app, name=name)
        except UserError:
            raise
        except Exception as error:  # noqa: BLE001 - Ray's have no common base
            raise UserError(f"cannot serve {run}: {reason(error)}") from None
        yield


@contextlib.contextmanager
def _started(http, grpc):
    """Have Serve run while the block lasts, with these options; one that runs already, and stays, must have them."""
    client = get_client(raise_if_no_controller_running=False)
    if client is not None:
        details, grpc = client.get_serve_details(), grpc if grpc["grpc_servicer_functions"] else {}
        for wanted, found in ((http, details["http_options"]), (grpc, details["grpc_options"])):
            if differing := [name for name in wanted if wanted[name] != found.get(name)]:
                there, asked = (", ".join(f"{name} {of.get(name)}" for name in differing) for of in (found, wanted))
                raise UserError(f"Ray Serve runs there already with {there}, not {asked}; give those, or end it")
        yield
        return
    timeout = {"request_timeout_s": TIMEOUT}
    serve.start(http_options=http | timeout, grpc_options=grpc | timeout, logging_config=QUIET)
    try:
        yield
    finally:
        serve.shutdown()
