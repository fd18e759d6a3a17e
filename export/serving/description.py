"""What TensorFlow Serving tells about a model: its status and its signatures, as REST has them and as gRPC has them."""


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
    floats = ("DT_FLOAT", (-1, -1, -1, servable.channels))
    strings = ("DT_STRING", (-1,))
    return {
        "signature_def": {
            "serving_default": _signature("serving_default", "noisy", "denoised", *floats),
            "denoise_image": _signature("denoise_image", "image_bytes", "denoised_bytes", *strings),
        }
    }


def _signature(signature, taken, given, dtype, shape):
    def tensor(name):
        sizes = [{"size": str(size), "name": ""} for size in shape]
        return {"dtype": dtype, "tensor_shape": {"dim": sizes, "unknown_rank": False}, "name": name}

    return {
        "inputs": {taken: tensor(f"{signature}_{taken}:0")},
        "outputs": {given: tensor("StatefulPartitionedCall:0")},
        "method_name": "tensorflow/serving/predict",
        "defaults": {},
    }
