"""ONNX: model.onnx for onnxruntime, in Python, Node, C++ or a browser."""

import re

import onnx
import tensorflow as tf
import tf2onnx

from export.graph import network
from keras_dae._util.atomic import atomic_file

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
    )
    del proto.opset_import[1:]  # of domains that nothing here is from
    proto.graph.name = "denoising_autoencoder"
    proto.graph.doc_string = ""  # a number that counts what TensorFlow has traced
    for value in (*proto.graph.input, *proto.graph.output):
        for dimension, name in zip(value.type.tensor_type.shape.dim, DIMENSIONS):
            dimension.dim_param = name
    proto.graph.output[0].type.tensor_type.shape.dim[3].dim_value = model.input_shape[-1]
    _name_in_order(proto.graph)
    onnx.helper.set_model_props(proto, metadata or {})
    onnx.checker.check_model(proto, full_check=True)
    with atomic_file(path) as temporary:
        onnx.save(proto, temporary)


def _name_in_order(graph):
    """Order the nodes, and number constants and what tf2onnx made, so that the same network gives the same bytes.

    tf2onnx goes through sets, and merges equal constants under the name of any of them.
    """
    _order(graph)
    constants = {constant.name: constant for constant in graph.initializer}
    used = list(dict.fromkeys(name for node in graph.node for name in node.input if name in constants))
    small = [name for name in used if "/bias" not in name and len(constants[name].dims) < 2]
    names, counted = {name: f"constant_{number}" for number, name in enumerate(small)}, {}

    def rename(name):
        if name not in names:
            names[name] = re.sub("__([0-9]+)", lambda found: f"__{counted.setdefault(found[1], len(counted))}", name)
        return names[name]

    for node in graph.node:
        node.name = rename(node.name)
        node.input[:] = map(rename, node.input)
        node.output[:] = map(rename, node.output)
    initializers = [constants[name] for name in used]
    for constant in initializers:
        constant.name = rename(constant.name)
    copies = [onnx.TensorProto.FromString(constant.SerializeToString()) for constant in initializers]
    del graph.initializer[:]
    graph.initializer.extend(copies)


def _order(graph):
    """Put each node after those that it needs, as they are met on the way back from the outputs."""
    producers = {output: node for node in graph.node for output in node.output}
    ordered = {}

    def visit(name):
        node = producers.get(name)
        if node is None or node.output[0] in ordered:
            return
        for needed in node.input:
            visit(needed)
        ordered[node.output[0]] = onnx.NodeProto.FromString(node.SerializeToString())

    for output in graph.output:
        visit(output.name)
    del graph.node[:]
    graph.node.extend(ordered.values())
