"""Contenders in denoising speed: megapixels per second on one noisy image in memory.

python -m benchmarks.denoising_speed run|dncnn|bm3d MODEL THREADS [SIDE]    (`python -m benchmarks.denoising` starts it)

MODEL is a run folder or a .onnx file, and `-` for the others. SIDE is the image's height and width in pixels. To
measure the memory for 100 megapixels: `echo | python -m benchmarks.denoising_speed run MODEL 2 10000`.
"""

import itertools
import sys
import time

import numpy as np

from benchmarks.contender import serve

SIDES = {"run": 1024, "dncnn": 512, "bm3d": 192}  # pixels; small where a contender is slow
SIGMA = 25  # of 255
DNCNN_LAYERS, DNCNN_CHANNELS = 17, 64  # Zhang et al. 2017, arXiv:1608.03981


def of_run(model, threads):
    """Return a function from an image to the denoised one: a run's model.onnx."""
    from keras_dae.denoise.denoiser import load_denoiser

    return load_denoiser(model, threads).denoise


def dncnn(model, threads):
    """Return the same for a DnCNN with random weights in onnxruntime, its batch normalization folded in."""
    from onnx import TensorProto, helper, numpy_helper

    from benchmarks.inference import onnx_session

    random, nodes, weights, name = np.random.default_rng(0), [], [], "x"
    channels = [1, *[DNCNN_CHANNELS] * (DNCNN_LAYERS - 1), 1]
    for layer, (inputs, outputs) in enumerate(itertools.pairwise(channels)):
        kernel = random.normal(0, (2 / (9 * inputs)) ** 0.5, (outputs, inputs, 3, 3)).astype(np.float32)
        weights += [numpy_helper.from_array(kernel, f"w{layer}")]
        weights += [numpy_helper.from_array(np.zeros(outputs, np.float32), f"b{layer}")]
        nodes.append(helper.make_node("Conv", [name, f"w{layer}", f"b{layer}"], [f"c{layer}"], pads=[1] * 4))
        name = f"c{layer}"
        if layer < DNCNN_LAYERS - 1:
            nodes.append(helper.make_node("Relu", [name], [f"r{layer}"]))
            name = f"r{layer}"
    nodes.append(helper.make_node("Sub", ["x", name], ["y"]))
    values = [helper.make_tensor_value_info(one, TensorProto.FLOAT, [1, 1, "h", "w"]) for one in ("x", "y")]
    graph = helper.make_graph(nodes, "dncnn", values[:1], values[1:], weights)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    session = onnx_session(proto.SerializeToString(), threads)
    return lambda image: session.run(None, {"x": np.float32(image)[None, None] / 255})[0]


def bm3d(model, threads):
    """Return the same for BM3D, which runs on one thread."""
    from keras_dae.evaluate.baselines import bm3d

    return lambda image: bm3d(np.float32(image)[None, :, :, None] / 255, SIGMA / 255)


CONTENDERS = {"run": of_run, "dncnn": dncnn, "bm3d": bm3d}


def main(name, model, threads, side=None):
    """Measure one image whenever `python -m benchmarks.denoising` asks for it."""
    denoise = CONTENDERS[name](model, int(threads))
    random, side = np.random.default_rng(0), int(side or SIDES[name])
    image = np.empty((side, side), np.uint8)
    for row in image:  # row by row: little memory
        row[:] = np.clip(128 + SIGMA * random.standard_normal(side, np.float32), 0, 255)

    def measure():
        start = time.perf_counter()
        denoise(image)
        return {"megapixels/s": image.size / 1e6 / (time.perf_counter() - start), "side": side}

    serve(measure)


if __name__ == "__main__":
    main(*sys.argv[1:])
