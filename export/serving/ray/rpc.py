"""TensorFlow Serving's gRPC API, without a server: its official messages in and out.

This module imports TensorFlow. The generated modules of tensorflow-serving-api do so anyway.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf import json_format
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2, model_pb2, predict_pb2

from export.serving.ray import description
from export.serving.ray.servable import MAX_BYTES, MAX_PIXELS, SIGNATURES, Asked, Refused, Servable

INPUT_TYPES = {"serving_default": tf.float32, "denoise_image": tf.string}


def requested_model(request: Any) -> Asked:
    """Return the model that a request is for."""
    spec = getattr(request, "model_spec", None) or model_pb2.ModelSpec()
    return Asked(
        spec.name,
        spec.version.value if spec.HasField("version") else None,
        spec.version_label if spec.HasField("version_label") else None,
    )


def read_predict(request: predict_pb2.PredictRequest) -> tuple[str, np.ndarray | list[bytes]]:
    """Read a PredictRequest.

    Returns:
        The name of the signature, and its input in the form that `Servable.images` takes.

    Raises:
        Refused: the request is too large, the signature is unknown, or the inputs have other names or types.
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
    return signature, _array(name, request.inputs[name], INPUT_TYPES[signature])


def _array(name, proto, dtype):
    """Return the array in a TensorProto; strings as a list of bytes."""
    if proto.dtype != dtype.as_datatype_enum:
        raise Refused("INVALID_ARGUMENT", f"expected {name} to be {dtype.name}, got another type")
    sizes = [dimension.size for dimension in proto.tensor_shape.dim]
    # A message of a few bytes may stand for any number of equal values.
    max_values = len(proto.string_val) if dtype == tf.string else 3 * MAX_PIXELS
    if min(sizes, default=0) < 0 or np.prod(sizes, dtype=object) > max_values:
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


def predict_response(
    servable: Servable, signature: str, output: np.ndarray | list[bytes]
) -> predict_pb2.PredictResponse:
    """Return the PredictResponse with the output of a signature, which `Servable.output` returned."""
    response = predict_pb2.PredictResponse(outputs={SIGNATURES[signature][1]: tf.make_tensor_proto(output)})
    response.model_spec.name = servable.name
    response.model_spec.signature_name = signature
    response.model_spec.version.value = servable.version
    return response


def metadata_response(servable: Servable, fields: Iterable[str]) -> get_model_metadata_pb2.GetModelMetadataResponse:
    """Return the GetModelMetadataResponse. Raises `Refused` unless `fields` is `signature_def`."""
    if set(fields) != {"signature_def"}:
        raise Refused("INVALID_ARGUMENT", "expected metadata_field to be signature_def")
    signatures = get_model_metadata_pb2.SignatureDefMap()
    json_format.ParseDict(description.signatures(servable), signatures)
    response = get_model_metadata_pb2.GetModelMetadataResponse()
    response.model_spec.name = servable.name
    response.model_spec.version.value = servable.version
    response.metadata["signature_def"].Pack(signatures)
    return response


def status_response(servable: Servable) -> get_model_status_pb2.GetModelStatusResponse:
    """Return the GetModelStatusResponse."""
    return json_format.ParseDict(description.status(servable), get_model_status_pb2.GetModelStatusResponse())
