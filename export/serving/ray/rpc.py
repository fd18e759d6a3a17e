"""TensorFlow Serving's gRPC API in its official messages. No server.

The generated modules of tensorflow-serving-api import TensorFlow themselves, so that its own conversions cost no more.
"""

import numpy as np
import tensorflow as tf
from google.protobuf import json_format
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2, model_pb2, predict_pb2

from export.serving.ray import description
from export.serving.ray.servable import MAX_BYTES, MAX_PIXELS, SIGNATURES, Refused

TYPES = {"serving_default": tf.float32, "denoise_image": tf.string}


def model_wanted(request):
    """Return `(name, version)` of the model that a request is for; the version is None for the newest."""
    spec = getattr(request, "model_spec", None) or model_pb2.ModelSpec()
    if spec.version_label:
        raise Refused("NOT_FOUND", f"Unrecognized servable version label: {spec.version_label}")
    return spec.name, spec.version.value if spec.HasField("version") else None


def read_predict(request):
    """Return `(signature, value)` of a PredictRequest, the value being what `Servable.images` takes.

    Raises:
        Refused: too large, an unknown signature, or other inputs or types than its own.
    """
    if request.ByteSize() > MAX_BYTES:
        raise Refused("RESOURCE_EXHAUSTED", f"expected a request of at most {MAX_BYTES:,} bytes")
    signature = request.model_spec.signature_name or "serving_default"
    if signature not in SIGNATURES:
        raise Refused("FAILED_PRECONDITION", f'Serving signature key "{signature}" not found.')
    name, output = SIGNATURES[signature]
    if set(request.inputs) != {name}:
        raise Refused("INVALID_ARGUMENT", f"expected the input {name}, got {', '.join(request.inputs) or 'none'}")
    if not set(request.output_filter) <= {output}:
        raise Refused("INVALID_ARGUMENT", f"expected output_filter to name {output}")
    return signature, _array(name, request.inputs[name], TYPES[signature])


def _array(name, proto, dtype):
    if proto.dtype != dtype.as_datatype_enum:
        raise Refused("INVALID_ARGUMENT", f"expected {name} to be {dtype.name}, got another type")
    sizes = [dimension.size for dimension in proto.tensor_shape.dim]
    # A message of a few bytes may promise any number of equal values.
    most = len(proto.string_val) if dtype == tf.string else 3 * MAX_PIXELS
    if min(sizes, default=0) < 0 or np.prod(sizes, dtype=object) > most:
        raise Refused("RESOURCE_EXHAUSTED", f"expected at most {MAX_PIXELS:,} pixels in a request, got more")
    try:
        array = tf.make_ndarray(proto)
    except (ValueError, TypeError):
        raise Refused("INVALID_ARGUMENT", f"tensor parsing error: {name}") from None
    if dtype == tf.string:
        if array.ndim != 1:
            raise Refused("INVALID_ARGUMENT", f"expected {name} [batch], got {list(array.shape)}")
        return array.tolist()
    return array


def predict_response(servable, signature, output):
    """Return the PredictResponse that holds a signature's output."""
    response = predict_pb2.PredictResponse(outputs={SIGNATURES[signature][1]: tf.make_tensor_proto(output)})
    response.model_spec.name = servable.name
    response.model_spec.signature_name = signature
    response.model_spec.version.value = servable.version
    return response


def metadata_response(servable, fields):
    """Return the GetModelMetadataResponse. Raises `Refused` for other `fields` than TensorFlow Serving knows."""
    if set(fields) != {"signature_def"}:
        raise Refused("INVALID_ARGUMENT", "expected metadata_field to be signature_def")
    signatures = get_model_metadata_pb2.SignatureDefMap()
    json_format.ParseDict(description.signatures(servable), signatures)
    response = get_model_metadata_pb2.GetModelMetadataResponse()
    response.model_spec.name = servable.name
    response.model_spec.version.value = servable.version
    response.metadata["signature_def"].Pack(signatures)
    return response


def status_response(servable):
    """Return the GetModelStatusResponse."""
    return json_format.ParseDict(description.status(servable), get_model_status_pb2.GetModelStatusResponse())
