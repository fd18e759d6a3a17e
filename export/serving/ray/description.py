"""What TensorFlow Serving tells about a model: its status and its signatures, as REST has them and as gRPC has them."""

from export.serving.ray.servable import SIGNATURES


def status(servable):
    """Return the JSON value of GetModelStatusResponse."""
    state = {"error_code": "OK", "error_message": ""}
    version = {"version": str(servable.version), "state": "AVAILABLE", "status": state}
    return {"model_version_status": [version]}


def metadata(servable):
    """Return the JSON value that REST has for GetModelMetadataResponse."""
    spec = {"name": servable.name, "signature_name": "", "version": str(servable.version)}
    return {"model_spec": spec, "metadata": {"signature_def": signatures(servable)}}


def signatures(servable):
    """Return the JSON value of SignatureDefMap."""
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
