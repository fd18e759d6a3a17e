"""Measure trained denoisers on Gaussian noise: `python -m benchmarks.denoising RUN … --images FOLDER --output FILE`.

Nothing is trained. Each image gets the same noise for every contender, N(0, σ²), which is not clipped; denoised values
are clipped to [0, 1]. PSNR and SSIM are measured per image; tables show their means with 95 % confidence intervals. The
classical methods are told σ; the other parameters of non-local means and total variation are the best ones for the
middle of the first images. The speed section runs each contender in a process of its own, on one and on two threads.
"""

import argparse
import importlib.util
from pathlib import Path

import numpy as np
from tqdm import tqdm

from benchmarks.contender import add_rounds, ratio, take_turns
from keras_dae._util.json_files import write_json
from keras_dae.denoise.denoiser import load_denoiser
from keras_dae.errors import UserError, run_command
from keras_dae.evaluate.baselines import best_parameters, chosen_baselines
from keras_dae.evaluate.intervals import confidence_interval
from keras_dae.images.find import find_files
from keras_dae.images.read import IMAGE_SUFFIXES, read_image
from keras_dae.images.unit_range import to_unit

SIGMAS = (15, 25, 50)  # of 255
TUNED_ON = 5  # images whose middle decides the parameters of the classical methods
MIDDLE = 96  # pixels, at most
THREADS = (1, 2)
HAS_BM3D = importlib.util.find_spec("bm3d") is not None
DNCNN = "DnCNN, random weights"


def main(argv=None):
    """Measure and print tables; write all figures into a JSON file; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.denoising", description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run folder with model.onnx, or a .onnx file")
    parser.add_argument("--images", type=Path, required=True, help="folder of clean images")
    parser.add_argument("--sigma", type=float, nargs="+", default=SIGMAS, help="noise levels (15 25 50)")
    parser.add_argument("--channels", type=int, choices=(1, 3), default=1, help="1 for grey, 3 for colour (1)")
    parser.add_argument("--limit", type=int, help="measure only the first images")
    parser.add_argument("--no-classical", action="store_true", help="leave the classical methods out: BM3D is slow")
    parser.add_argument("--no-speed", action="store_true", help="leave the speed section out")
    parser.add_argument("--output", type=Path, required=True, help="JSON file for all figures")
    add_rounds(parser, 5)
    return run_command(measure, **vars(parser.parse_args(argv)))


def measure(runs, images, sigma, channels, limit, no_classical, no_speed, output, rounds):
    """Measure quality and speed of all contenders, print them, and write them into the file `output`."""
    clean = [to_unit(read_image(path, channels)) for path in find_files(images, IMAGE_SUFFIXES).files[:limit]]
    if not clean:
        raise UserError(f"expected images in {images}, got none")
    results = {"images": len(clean), "channels": channels, "quality": {}}
    write_json(output, results)  # raises before anything is measured if it cannot be written
    denoisers = {str(run): load_denoiser(run) for run in runs}
    for level in sigma:
        noisy = [add_noise(image, level, index) for index, image in enumerate(clean)]
        contenders = {"noisy": lambda image: image}
        contenders |= {name: denoiser.denoise_batch for name, denoiser in denoisers.items()}
        contenders |= {} if no_classical else classical(noisy, clean)
        results["quality"][f"{level:g}"] = {
            name: quality(clean, noisy, denoise, f"σ {level:g}, {name}") for name, denoise in contenders.items()
        }
        print(quality_table(results["quality"][f"{level:g}"], level), flush=True)
        write_json(output, results)
    if not no_speed:
        results["speed"] = speed(runs, not no_classical, rounds)
        print(speed_table(results["speed"]))
        write_json(output, results)


def add_noise(image, level, index):
    """Return a float32 image with Gaussian noise of standard deviation `level` / 255, which depends on the index."""
    random = np.random.default_rng([int(level * 1000), index])
    return image + np.float32(level / 255) * random.standard_normal(image.shape, np.float32)


def classical(noisy, clean):
    """Return name -> function of a batch for the classical methods, with their best parameters."""
    size = min(MIDDLE, *(min(image.shape[:2]) for image in clean[:TUNED_ON]))
    noisy_middles, clean_middles = (
        np.stack([middle(image, size) for image in images[:TUNED_ON]]) for images in (noisy, clean)
    )
    sigma = float(np.sqrt(np.mean(np.square([np.std(one - other) for one, other in zip(noisy, clean)]))))

    def with_parameters(name, baseline):
        parameters = {"sigma": sigma} if name == "BM3D" else best_parameters(baseline, noisy_middles, clean_middles)
        return lambda batch: baseline(batch, **parameters)

    return {name: with_parameters(name, baseline) for name, baseline in chosen_baselines(HAS_BM3D).items()}


def middle(image, size):
    """Return the middle of an image, `size` pixels in height and width."""
    top, left = ((side - size) // 2 for side in image.shape[:2])
    return image[top : top + size, left : left + size]


def quality(clean, noisy, denoise, name):
    """Return metric -> `[mean, low, high]` over the images, and the PSNR of each."""
    from keras_dae.metrics import per_image_metrics

    values = {"psnr": [], "ssim": []}
    for one, other in zip(tqdm(clean, name, disable=None), noisy):
        denoised = np.clip(denoise(other[None]), 0, 1)
        metrics = per_image_metrics(one[None], denoised)
        for metric, found in values.items():
            found.append(float(metrics[metric][0]))
    intervals = {metric: confidence_interval(np.array(found)) for metric, found in values.items()}
    means = {metric: [one.mean, one.low, one.high] for metric, one in intervals.items()}
    return {**means, "psnr_of_images": values["psnr"]}


def speed(runs, with_bm3d, rounds):
    """Return threads -> contender -> figure -> values, one per round."""
    names = {str(run): ["benchmarks.denoising_speed", "run", run] for run in runs}
    names[DNCNN] = ["benchmarks.denoising_speed", "dncnn", "-"]
    if with_bm3d and HAS_BM3D:
        names["BM3D"] = ["benchmarks.denoising_speed", "bm3d", "-"]
    return {
        threads: take_turns(
            {name: [*arguments, threads] for name, arguments in names.items()}, rounds, f"{threads} threads"
        )
        for threads in THREADS
    }


def quality_table(contenders, level):
    """Return the quality at one noise level as Markdown."""
    lines = [f"| σ = {level:g} | PSNR (dB) | 95 % | SSIM |", "|---|---|---|---|"]
    for name, means in contenders.items():
        mean, low, high = means["psnr"]
        interval = "" if low is None else f"{low:.2f} to {high:.2f}"
        lines.append(f"| {name} | {mean:.2f} | {interval} | {means['ssim'][0]:.4f} |")
    return "\n".join(lines) + "\n"


def speed_table(results):
    """Return the speed as Markdown: medians, and ratios to DnCNN and BM3D as medians over the rounds."""
    lines = [
        "| | threads | seconds per megapixel | peak MiB of one image | times DnCNN | times BM3D |",
        "|---|---|---|---|---|---|",
    ]
    for threads, contenders in results.items():
        for name, figures in contenders.items():
            pixels = figures["megapixels/s"]
            ratios = [
                f"{ratio(pixels, contenders[other]['megapixels/s']):.1f}" if other in contenders else ""
                for other in (DNCNN, "BM3D")
            ]
            seconds, peak = 1 / np.median(pixels), np.median(figures["peak MiB"])
            side = figures["side"][0]
            memory = f"{peak:,.0f} ({side}×{side})"
            lines.append(f"| {name} | {threads} | {seconds:.3f} | {memory} | {ratios[0]} | {ratios[1]} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    raise SystemExit(main())
