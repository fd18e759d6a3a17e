"""What runs in each replica: one model, that answers REST and gRPC as TensorFlow Serving would."""

import itertools
import json

import grpc
from google.protobuf.empty_pb2 import Empty
from ray import serve
from starlette.responses import Response

from export.serving import description, rest
from export.serving.servable import MAX_BYTES, Refused, Servable

LOOPBACK = ("ipv4:127.", "ipv6:%5B::1%5D:", "unix:")
MOST_AT_ONCE = 64  # requests in a replica; more wait in the proxy


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


@serve.deployment(max_ongoing_requests=MOST_AT_ONCE)
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
            from export.serving import rpc  # and TensorFlow

            self.rpc = rpc

    @serve.batch(max_batch_size=MOST_AT_ONCE, batch_wait_timeout_s=0)
    async def denoise(self, requests):
        """Denoise the images of all requests that are waiting as one batch."""
        denoised = iter(self.servable.denoise([image for images in requests for image in images]))
        return [list(itertools.islice(denoised, len(images))) for images in requests]

    async def predict(self, signature, value):
        """Return a signature's output, see `Servable`."""
        return self.servable.output(signature, await self.denoise(self.servable.images(signature, value)))

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
        signature, value, is_row = rest.read_predict(await _body(request))
        return rest.write_predict(await self.predict(signature, value), is_row)

    @_grpc_method
    async def Predict(self, request):
        """Answer PredictionService/Predict."""
        signature, value = self.rpc.read_predict(request)
        return self.rpc.predict_response(self.servable, signature, await self.predict(signature, value))

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
