"""ONNX: model.onnx for onnxruntime, in Python, Node, C++ or a browser."""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import onnx
import tensorflow as tf
import tf2onnx

from export.graph import network
from keras_dae._util.atomic import atomic_file
from keras_dae.networks import NETWORKS, network_name

if TYPE_CHECKING:
    import keras

OPSET = 17  # onnxruntime reads it since 1.12 (2022)
DIMENSIONS = ("batch", "height", "width")


def export_onnx(model: "keras.Model", path: str | os.PathLike, metadata: Mapping[str, str] | None = None) -> None:
    """Write the network as ONNX, atomically. The same weights and metadata give the same bytes.

    The input `noisy` and the output `denoised` are float32 `(batch, height, width, channels)` in [0, 1], of any size
    from 1×1.

    Args:
        model: a Keras model of `keras_dae.networks.NETWORKS`.
        path: the .onnx file to write.
        metadata: for the file's `metadata_props`.

    Raises:
        UserError: `model` is another network, or the file cannot be written.

    Example::

        os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # before the import
        import onnxruntime
        from export import export_onnx

        export_onnx(model, "model.onnx", {"dataset": "mnist"})
        (denoised,) = onnxruntime.InferenceSession("model.onnx").run(["denoised"], {"noisy": noisy})
    """
    noisy = tf.TensorSpec((None, None, None, model.input_shape[-1]), tf.float32, "noisy")
    denoise = network(model)
    proto, _ = tf2onnx.convert.from_function(
        tf.function(lambda noisy: {"denoised": denoise(noisy)}, input_signature=[noisy]),
        input_signature=[noisy],
        opset=OPSET,
    )
    del proto.opset_import[1:]  # domains that this graph does not use
    proto.graph.name = model.name
    proto.graph.doc_string = ""  # tf2onnx writes a number that counts TensorFlow's traces
    for value in (*proto.graph.input, *proto.graph.output):
        for dimension, name in zip(value.type.tensor_type.shape.dim, DIMENSIONS):
            dimension.dim_param = name
    proto.graph.output[0].type.tensor_type.shape.dim[3].dim_value = model.input_shape[-1]
    _make_deterministic(proto.graph)
    onnx.helper.set_model_props(proto, {**(metadata or {}), **_about_network(model)})
    onnx.checker.check_model(proto, full_check=True)
    with atomic_file(path) as temporary:
        onnx.save(proto, os.fspath(temporary))


def _about_network(model: "keras.Model") -> dict[str, str]:
    """Return the name of the network, and by which sizes large images are cut into tiles.

    Files without them hold the autoencoder, as those of earlier versions.
    """
    name = network_name(model)
    return {} if name == "autoencoder" else {"network": name, **NETWORKS[name].geometry.grid.to_metadata()}


def _make_deterministic(graph: onnx.GraphProto) -> None:
    """Sort the nodes and rename what tf2onnx named, so that the same network gives the same bytes.

    tf2onnx iterates over sets, so the order of nodes and the numbers in names vary. It also merges equal constants,
    under the name of any one of them.
    """
    nodes = _sorted_nodes(graph)
    constants = _used_constants(graph, nodes)
    names = _new_names(nodes, constants)
    renamed_nodes = [_renamed_node(node, names) for node in nodes]
    renamed_constants = [_renamed_constant(constant, names) for constant in constants]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(renamed_nodes)
    graph.initializer.extend(renamed_constants)


def _sorted_nodes(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """Return the nodes that the outputs depend on, each after those that it needs: depth first from the outputs."""
    producers = {output: node for node in graph.node for output in node.output}
    done: dict[str, onnx.NodeProto] = {}  # first output of a node -> the node
    to_do = [output.name for output in reversed(graph.output)]
    while to_do:
        node = producers.get(to_do[-1])
        if node is None or node.output[0] in done:
            to_do.pop()
            continue
        inputs = [name for name in node.input if name in producers]
        missing = next((name for name in inputs if producers[name].output[0] not in done), None)
        if missing is None:
            done[node.output[0]] = node
        else:
            to_do.append(missing)
    return list(done.values())


def _used_constants(graph: onnx.GraphProto, nodes: Iterable[onnx.NodeProto]) -> list[onnx.TensorProto]:
    """Return the constants that the nodes use, in the order of their first use."""
    constants = {constant.name: constant for constant in graph.initializer}
    used = dict.fromkeys(name for node in nodes for name in node.input if name in constants)
    return [constants[name] for name in used]


def _new_names(nodes: Sequence[onnx.NodeProto], constants: Iterable[onnx.TensorProto]) -> dict[str, str]:
    """Return old name -> new name, for all nodes, tensors and constants.

    Small constants that are not biases of convolutions become `constant_<n>`, in the order given. In all other names,
    tf2onnx's numbers are counted from 0 in the order of their first appearance: with `pad__71` and `crop__9` it is
    `pad__0` and `crop__1`.
    """
    biases = {name for node in nodes if node.op_type == "Conv" for name in node.input[2:]}
    small = [constant.name for constant in constants if constant.name not in biases and len(constant.dims) < 2]
    names = dict.fromkeys(name for node in nodes for name in (node.name, *node.input, *node.output))
    others = [name for name in names if name not in small]
    numbers = dict.fromkeys(number for name in others for number in re.findall(r"__([0-9]+)", name))
    count = {number: f"__{position}" for position, number in enumerate(numbers)}
    new_names = {name: re.sub(r"__([0-9]+)", lambda found: count[found[1]], name) for name in others}
    return new_names | {name: f"constant_{position}" for position, name in enumerate(small)}


def _renamed_node(node: onnx.NodeProto, names: Mapping[str, str]) -> onnx.NodeProto:
    """Return a copy of a node with new names."""
    renamed = onnx.NodeProto()
    renamed.CopyFrom(node)
    renamed.name = names[node.name]
    renamed.input[:] = [names[name] for name in node.input]
    renamed.output[:] = [names[name] for name in node.output]
    return renamed


def _renamed_constant(constant: onnx.TensorProto, names: Mapping[str, str]) -> onnx.TensorProto:
    """Return a copy of a constant with its new name."""
    renamed = onnx.TensorProto()
    renamed.CopyFrom(constant)
    renamed.name = names[constant.name]
    return renamed
