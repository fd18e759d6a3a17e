"""ONNX: model.onnx for onnxruntime, in Python, Node, C++ or a browser."""

import onnx
import tensorflow as tf
import tf2onnx

from export.graph import network
from keras_dae.files import whole_file

OPSET = 17  # read by every onnxruntime since 1.12 (2022)
DIMENSIONS = ("batch", "height", "width")


def export_onnx(model, path, metadata=None):
    """Write the network as ONNX, whole or not at all.

    Input `noisy` and output `denoised` are float32 `(batch, height, width, channels)` in [0, 1], any size from 1×1.

    Args:
        model: the Keras model.
        path: the .onnx file.
        metadata: str -> str, for the file's `metadata_props`.

    Raises:
        UserError: `model` is not this network, or the file cannot be written.
    """
    noisy = tf.TensorSpec((None, None, None, model.input_shape[-1]), tf.float32, "noisy")
    denoise = network(model)
    proto, _ = tf2onnx.convert.from_function(
        tf.function(lambda noisy: {"denoised": denoise(noisy)}, input_signature=[noisy]),
        input_signature=[noisy],
        opset=OPSET,
        custom_op_handlers={"Conv2DBackpropInput": (_conv_transpose, [])},
    )
    del proto.opset_import[1:]  # of domains that nothing here is from
    proto.graph.name = "denoising_autoencoder"
    proto.graph.doc_string = ""  # a number that counts what TensorFlow has traced
    for value in (*proto.graph.input, *proto.graph.output):
        for dimension, name in zip(value.type.tensor_type.shape.dim, DIMENSIONS):
            dimension.dim_param = name
    proto.graph.output[0].type.tensor_type.shape.dim[3].dim_value = model.input_shape[-1]
    _name_constants(proto.graph)
    onnx.helper.set_model_props(proto, metadata or {})
    onnx.checker.check_model(proto, full_check=True)
    with whole_file(path) as temporary:
        onnx.save(proto, temporary)


def _name_constants(graph):
    """Number the small constants in the order of their use, and sort all: the same network gives the same bytes.

    tf2onnx merges equal constants under the name of any of them, as the hashes of the day have it.
    """
    constants = {constant.name: constant for constant in graph.initializer}
    used = list(dict.fromkeys(name for node in graph.node for name in node.input if name in constants))
    small = [name for name in used if "/bias" not in name and len(constants[name].dims) < 2]
    names = {name: f"constant_{number}" for number, name in enumerate(small)}
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
    ordered = [constants[name] for name in used]
    for constant in ordered:
        constant.name = names.get(constant.name, constant.name)
    copies = [onnx.TensorProto.FromString(constant.SerializeToString()) for constant in ordered]
    del graph.initializer[:]
    graph.initializer.extend(copies)


def _conv_transpose(context, node, name, args):
    """Convert a transposed convolution to ConvTranspose with `pads`.

    tf2onnx's own handler asks for the output's shape at run time and slices and pads the result to it.
    """
    _, kernel, x, *bias = node.input  # no bias where all of it is 0
    strides = node.get_attr_value("strides")[1:3]
    paddings = node.get_attr_value("explicit_paddings") or [0] * 8  # before and after, for each of NHWC
    kernel = node.inputs[1].get_tensor_value(as_list=False).transpose(3, 2, 0, 1)
    output, shape, dtype = node.output, context.get_shape(node.output[0]), context.get_dtype(node.output[0])
    context.remove_node(node.name)
    first = context.make_node("Transpose", [x], attr={"perm": [0, 3, 1, 2]})
    weights = context.make_const(f"{name}/kernel", kernel)
    convolved = context.make_node(
        "ConvTranspose",
        [first.output[0], weights.output[0], *bias],
        attr={
            "strides": strides,
            "kernel_shape": kernel.shape[2:],
            "pads": [paddings[2], paddings[4], paddings[3], paddings[5]],
        },
        shapes=[[-1, kernel.shape[1], -1, -1]],
        dtypes=[dtype],
        name=f"{name}/ConvTranspose",
    )
    context.make_node(
        "Transpose", convolved.output, attr={"perm": [0, 2, 3, 1]}, outputs=output, shapes=[shape], dtypes=[dtype]
    )
