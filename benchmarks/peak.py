"""Contenders for peak speed: multiply-adds per second in a large matrix product and a large convolution.

python -m benchmarks.peak CONTENDER THREADS    (started by `python -m benchmarks`)
"""

import sys

import numpy as np

from benchmarks.contender import serve
from benchmarks.inference import onnx_session, seconds_per_call

SIDE = 1024  # height and width of the matrices
IMAGES, CHANNELS, SIZE, KERNEL = 16, 64, 56, 3  # the convolution's output has the shape of its input
MATMUL = SIDE**3  # multiply-adds
CONV = IMAGES * SIZE**2 * KERNEL**2 * CHANNELS**2


def onnxruntime_products(threads):
    """Return two functions without arguments: a matrix product and a convolution by onnxruntime."""
    from onnx import TensorProto, helper

    def runner(operator, shapes, **attributes):
        node = helper.make_node(operator, ["a", "b"], ["c"], **attributes)
        arrays = [np.random.default_rng(0).random(shape, np.float32) for shape in shapes]
        a = helper.make_tensor_value_info("a", TensorProto.FLOAT, shapes[0])
        c = helper.make_tensor_value_info("c", TensorProto.FLOAT, None)
        b = helper.make_tensor("b", TensorProto.FLOAT, shapes[1], arrays[1].tobytes(), raw=True)
        graph = helper.make_graph([node], "product", [a], [c], [b])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        session = onnx_session(model.SerializeToString(), threads)
        return lambda: session.run(None, {"a": arrays[0]})

    matmul = runner("MatMul", [(SIDE, SIDE), (SIDE, SIDE)])
    shapes = [(IMAGES, CHANNELS, SIZE, SIZE), (CHANNELS, CHANNELS, KERNEL, KERNEL)]
    return matmul, runner("Conv", shapes, pads=[KERNEL // 2] * 4)


def torch_products(threads):
    """Return two functions without arguments: a matrix product and a convolution by PyTorch."""
    import torch

    torch.set_num_threads(threads)
    a, b = torch.rand(2, SIDE, SIDE)
    images = torch.rand(IMAGES, CHANNELS, SIZE, SIZE).to(memory_format=torch.channels_last)
    kernel = torch.rand(CHANNELS, CHANNELS, KERNEL, KERNEL).to(memory_format=torch.channels_last)
    return lambda: torch.mm(a, b), lambda: torch.conv2d(images, kernel, padding=KERNEL // 2)


CONTENDERS = {"onnxruntime": onnxruntime_products, "PyTorch": torch_products}


def main(name, threads):
    """Serve measurements: 10⁹ multiply-adds per second in each."""
    matmul, conv = CONTENDERS[name](int(threads))
    serve(
        lambda: {
            "matrix product": MATMUL / seconds_per_call(matmul) / 1e9,
            "convolution": CONV / seconds_per_call(conv) / 1e9,
        }
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
