"""Measure throughput and latency of the Ray Serve app: `python -m benchmarks.serving_load RUN`.

REST requests come from wrk, gRPC requests from an asynchronous client in this process, both over loopback. A request
has one or several 28×28 PNG files. The clients share the cores with the server. Needs wrk, and
pip install -e '.[ray]'.
"""

import argparse
import asyncio
import base64
import io
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from keras_dae.data.digits import render_digits
from keras_dae.errors import UserError, run_command

PORT, GRPC_PORT = 8501, 8500
CONNECTIONS = 16
SECONDS = 10  # of load for each line of the table
MAX_REQUESTS = 100_000  # of the gRPC client, in case they fail immediately
INSTANCES = (1, 32)  # images in a request


def main(argv=None):
    """Run `measure`; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving_load", description=__doc__.splitlines()[0])
    parser.add_argument("run", help="run folder with model.onnx, or the name of a shipped model")
    parser.add_argument("--replicas", type=int, nargs="+", default=[1, 2], help="numbers of replicas to measure (1 2)")
    parser.add_argument(
        "--seconds", type=int, default=SECONDS, help="seconds of load for each line of the table (%(default)s)"
    )
    options = parser.parse_args(argv)
    return run_command(measure, options.run, options.replicas, options.seconds)


def measure(run, replicas, seconds):
    """Print a line for each number of replicas, protocol and number of images per request.

    Raises:
        UserError: wrk is missing, the app does not start, or a request failed.
    """
    if not shutil.which("wrk"):
        raise UserError("expected wrk to be installed (Debian has it as a package)")
    print("| replicas | protocol | images per request | images/s | p50 ms | p99 ms | requests | errors |")
    print("|---|---|---|---|---|---|---|---|")
    failed = 0
    for count in replicas:
        with Server(run, count):
            for protocol, load in {"REST": load_rest, "gRPC": load_grpc}.items():
                for instances in INSTANCES:
                    images = pngs(instances)
                    load(images, 2)  # to warm up
                    found = load(images, seconds)
                    failed += found["errors"]
                    rate = instances * (found["requests"] - found["errors"]) / found["seconds"]
                    print(
                        f"| {count} | {protocol} | {instances} | {rate:,.0f} | {found['p50']:.1f} | {found['p99']:.1f} "
                        f"| {found['requests']:,} | {found['errors']} |",
                        flush=True,
                    )
    if failed:
        raise UserError(f"{failed} requests failed")


class Server:
    """The app in a separate process, while the block lasts."""

    def __init__(self, run, replicas):
        options = ["--replicas", replicas, replicas, "--port", PORT, "--grpc-port", GRPC_PORT]
        self.command = [sys.executable, "-m", "export.serving.ray_app", *map(str, [run, *options])]

    def __enter__(self):
        self.process = subprocess.Popen(self.command, stdout=subprocess.PIPE, text=True)
        if not self.process.stdout.readline():
            raise UserError(f"{' '.join(self.command)} failed")

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()


def pngs(count):
    """Return `count` noisy digits, each as the content of a PNG file."""
    digits = render_digits(count, seed=0)[0]
    noisy = np.clip(digits / 255 + 0.5 * np.random.default_rng(0).standard_normal(digits.shape), 0, 1)
    contents = []
    for image in np.uint8(255 * noisy):
        file = io.BytesIO()
        Image.fromarray(image).save(file, "PNG")
        contents.append(file.getvalue())
    return contents


def load_rest(images, seconds):
    """Send REST requests with wrk; return requests, seconds, p50 and p99 in milliseconds, and errors."""
    instances = [{"b64": base64.b64encode(image).decode()} for image in images]
    with tempfile.NamedTemporaryFile("w", suffix=".json") as body:
        json.dump({"signature_name": "denoise_image", "instances": instances}, body)
        body.flush()
        script = Path(__file__).with_suffix(".lua")
        url = f"http://127.0.0.1:{PORT}/v1/models/denoiser:predict"
        limits = ["-t1", f"-c{CONNECTIONS}", f"-d{seconds}s"]
        command = ["wrk", *limits, "-s", script, url, "--", body.name]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def load_grpc(images, seconds):
    """Send gRPC requests from this process; return what `load_rest` does."""
    return asyncio.run(_load_grpc(images, seconds))


async def _load_grpc(images, seconds):
    import grpc
    import tensorflow as tf
    from tensorflow_serving.apis import model_pb2, predict_pb2, prediction_service_pb2_grpc

    request = predict_pb2.PredictRequest(
        model_spec=model_pb2.ModelSpec(name="denoiser", signature_name="denoise_image"),
        inputs={"image_bytes": tf.make_tensor_proto(images)},
    )
    times, failed = [], 0

    async def client(stub):
        nonlocal failed
        while len(times) + failed < MAX_REQUESTS and time.perf_counter() < start + seconds:
            sent = time.perf_counter()
            try:
                await stub.Predict(request, timeout=60)
                times.append(1000 * (time.perf_counter() - sent))
            except grpc.RpcError:
                failed += 1

    async with grpc.aio.insecure_channel(f"127.0.0.1:{GRPC_PORT}") as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        start = time.perf_counter()
        await asyncio.gather(*(client(stub) for _ in range(CONNECTIONS)))
    p50, p99 = np.percentile(times or [np.nan], [50, 99])
    taken = time.perf_counter() - start
    return {"requests": len(times) + failed, "seconds": taken, "p50": p50, "p99": p99, "errors": failed}


if __name__ == "__main__":
    sys.exit(main())
