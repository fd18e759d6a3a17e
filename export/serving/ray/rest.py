"""TensorFlow Serving's REST API, without a server: paths, and JSON in and out.

Its documentation defines the format: https://www.tensorflow.org/tfx/serving/api_rest
"""

import base64
import itertools
import json
import re
from typing import Literal

import numpy as np

from export.serving.ray.servable import SIGNATURES, Asked, Refused

# gRPC code -> HTTP status. TensorFlow Serving answers 429 for RESOURCE_EXHAUSTED, but HTTP has
# a separate status for a request that is too large: 413.
HTTP_STATUS = {"INVALID_ARGUMENT": 400, "NOT_FOUND": 404, "RESOURCE_EXHAUSTED": 413, "UNAVAILABLE": 503}
MODEL_PATH = re.compile(
    r"/v1/models/(?P<name>[^/:]+)(?:/versions/(?P<version>\d{1,18})|/labels/(?P<label>[^/:]+))?"
    r"(?P<end>:predict|/metadata|)"
)
KINDS: dict[tuple[str, str], Literal["predict", "status", "metadata"]] = {  # method and end of the path -> kind
    ("POST", ":predict"): "predict",
    ("GET", "/metadata"): "metadata",
    ("GET", ""): "status",
}


def route(method: str, path: str) -> tuple[Literal["predict", "status", "metadata"], Asked]:
    """Return what a request asks for: the kind of answer, and the model.

    Raises:
        Refused: there is no such path.

    Example:
        >>> route("POST", "/v1/models/denoiser/versions/2:predict")
        ('predict', Asked(name='denoiser', version=2, label=None))
        >>> route("GET", "/v1/models/denoiser/labels/stable")
        ('status', Asked(name='denoiser', version=None, label='stable'))
    """
    match = MODEL_PATH.fullmatch(path)
    kind = KINDS.get((method, match["end"])) if match else None
    if not match or not kind:
        raise Refused("INVALID_ARGUMENT", f"Malformed request: {method} {path}")
    version = None if match["version"] is None else int(match["version"])
    return kind, Asked(match["name"], version, match["label"])


def read_predict(body: str | bytes | bytearray) -> tuple[str, np.ndarray | list[bytes], bool]:
    """Read the JSON of a predict request.

    Returns:
        The name of the signature; its input, in the form that `Servable.images` takes; and whether the request has
        the row format (`instances`) and not the column format (`inputs`).

    Raises:
        Refused: the body is not JSON or not such a request, the signature is unknown, or values have another type.
    """
    try:
        request = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Refused("INVALID_ARGUMENT", f"JSON Parse error: {error}") from None
    if not isinstance(request, dict):
        raise Refused("INVALID_ARGUMENT", "JSON Value: Is not object")
    signature = request.get("signature_name", "serving_default")
    if not isinstance(signature, str):
        raise Refused("INVALID_ARGUMENT", "'signature_name' key must be a string value.")
    signature = signature or "serving_default"
    if signature not in SIGNATURES:
        raise Refused("INVALID_ARGUMENT", f'Serving signature name: "{signature}" not found in signature def')
    is_row = "instances" in request
    if is_row == ("inputs" in request):
        raise Refused("INVALID_ARGUMENT", "expected one of the keys 'instances' and 'inputs'")
    name = SIGNATURES[signature][0]
    value = _rows(request["instances"], name) if is_row else _named(request["inputs"], name)
    return signature, _numbers(value) if signature == "serving_default" else _strings(value), is_row


def write_predict(output: np.ndarray | list[bytes], is_row: bool) -> str:
    """Return the answer to a predict request as JSON.

    Args:
        output: what `Servable.output` returned.
        is_row: whether the request had the row format.
    """
    values = output.tolist() if isinstance(output, np.ndarray) else [{"b64": _encoded(png)} for png in output]
    return json.dumps({"predictions" if is_row else "outputs": values})


def _rows(instances, name):
    if not isinstance(instances, list) or not instances:
        raise Refused("INVALID_ARGUMENT", "expected 'instances' to be a list with at least one element")
    if len({_is_named(instance) for instance in instances}) > 1:
        raise Refused("INVALID_ARGUMENT", "expected 'instances' to be values, or objects, not both")
    return [_named(instance, name) for instance in instances]


def _is_named(value):
    return isinstance(value, dict) and set(value) != {"b64"}


def _named(value, name):
    """Return the value of the only input. A request may name it or not."""
    if not _is_named(value):
        return value
    if set(value) != {name}:
        raise Refused("INVALID_ARGUMENT", f"JSON object keys must be equal to: {name}")
    return value[name]


def _numbers(value):
    # NumPy must not see a string: from one long string among many numbers it would make many long strings.
    level = [value]
    while (kinds := set(map(type, level))) == {list}:
        level = list(itertools.chain.from_iterable(level))
    if kinds - {int, float, list}:
        raise Refused("INVALID_ARGUMENT", "expected JSON numbers in noisy")
    try:
        return np.asarray(value, np.float64)
    except OverflowError:
        raise Refused("INVALID_ARGUMENT", "expected noisy to be finite float32 numbers") from None
    except (ValueError, TypeError, RecursionError):
        raise Refused("INVALID_ARGUMENT", "expected lists of one length at each level") from None


def _strings(value):
    if not isinstance(value, list):
        raise Refused("INVALID_ARGUMENT", "expected image_bytes to be a list")
    return [_decoded(item) for item in value]


def _decoded(item):
    """Return the bytes of `{"b64": "…"}`, or of a plain string."""
    try:
        if isinstance(item, str):
            return item.encode()
        if isinstance(item, dict) and set(item) == {"b64"} and isinstance(item["b64"], str):
            return base64.b64decode(item["b64"] + "=" * (-len(item["b64"]) % 4), validate=True)
    except ValueError:
        raise Refused("INVALID_ARGUMENT", "Unable to base64 decode") from None
    raise Refused("INVALID_ARGUMENT", 'expected each of image_bytes to be {"b64": "…"}')


def _encoded(content):
    return base64.b64encode(content).decode()
