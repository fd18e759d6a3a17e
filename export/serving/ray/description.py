"""The status and the signatures of a model, in the form in which TensorFlow Serving's REST and gRPC APIs give them."""

from typing import Any

from export.serving.ray.servable import SIGNATURES, Servable


def status(servable: Servable) -> dict[str, Any]:
    """Return GetModelStatusResponse as a JSON value."""
    state = {"error_code": "OK", "error_message": ""}
    version = {"version": str(servable.version), "state": "AVAILABLE", "status": state}
    return {"model_version_status": [version]}


def metadata(servable: Servable) -> dict[str, Any]:
    """Return GetModelMetadataResponse as a JSON value, in the form that REST uses."""
    spec = {"name": servable.name, "signature_name": "", "version": str(servable.version)}
    return {"model_spec": spec, "metadata": {"signature_def": signatures(servable)}}


def signatures(servable: Servable) -> dict[str, Any]:
    """Return SignatureDefMap as a JSON value."""
    return {
        "signature_def": {
            "serving_default": _signature(
                "serving_default", "DT_FLOAT", noisy=(-1, -1, -1, servable.channels), denoised=(-1, -1, -1, -1)
            ),
            "denoise_image": _signature("denoise_image", "DT_STRING", image_bytes=(-1,), denoised_bytes=(-1,)),
        }
    }


def _signature(signature, dtype, **shapes):
    def tensor(name, graph_name):
        sizes = [{"size": str(size), "name": ""} for size in shapes[name]]
        return {"dtype": dtype, "tensor_shape": {"dim": sizes, "unknown_rank": False}, "name": graph_name}

    taken, given = SIGNATURES[signature]
    return {
        "inputs": {taken: tensor(taken, f"{signature}_{taken}:0")},
        "outputs": {given: tensor(given, "StatefulPartitionedCall:0")},
        "method_name": "tensorflow/serving/predict",
        "defaults": {},
    }
