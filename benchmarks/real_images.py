"""Denoise images that were not used in training: `python -m benchmarks.real_images --output-dir real`.

The commands of this package train on two kinds of images from folders: photographs (from scikit-image) with synthetic
noise, and pairs of clean and scanned pages (which this file draws and degrades). Then `python -m keras_dae.denoise`
denoises files that were not used in training. For each kind, a table is printed and a picture is written. The pictures
show photographs in the public domain (CC0): `camera` by Lav Varshney, `chelsea` by Stefan van der Walt.
"""

import argparse
import io
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import skimage
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from keras_dae._util.atomic import atomic_file
from keras_dae.evaluate.baselines import BASELINES, best_parameters
from keras_dae.report.plots import INK, MUTED

NOISES = (0.25, 0.1)
UNSEEN_PHOTOGRAPHS = ("camera.png", "chelsea.png")
PAGES, UNSEEN_PAGES = 80, 8
PAGE_SIZE = (480, 360)  # width, height
FONTS = ("DejaVu Sans", "DejaVu Serif", "DejaVu Sans Mono", "STIXGeneral")
WORDS = """a folder of noisy scans becomes a denoiser that runs anywhere the weights are trained on your own images and
every export is proven to compute the same thing 0123456789 measured figures stand beside their commands"""
AUTOENCODER = ["--recipe", "best", "--batch-size", 32]
UNET = ["--recipe", "photo", "--clip"]
TRAINING = {  # network -> images -> options of keras_dae.train, besides the folders
    "autoencoder": {
        "photographs": [*AUTOENCODER, "--epochs", 200, "--patches-per-image", 100],
        "pages": [*AUTOENCODER, "--epochs", 40, "--patches-per-image", 60],
    },
    "unet": {
        "photographs": [*UNET, "--epochs", 40, "--patches-per-image", 100],
        "pages": [*UNET, "--no-flips", "--epochs", 10, "--patches-per-image", 60],
    },
}


def main(argv=None):
    """Train, denoise and print tables; write the runs, the images and the pictures into `--output-dir`."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.real_images", description=__doc__.splitlines()[0])
    parser.add_argument("--output-dir", type=Path, required=True, help="new folder")
    parser.add_argument("--network", choices=TRAINING, default="autoencoder", help="what to train (autoencoder)")
    options = parser.parse_args(argv)
    folder, training = options.output_dir, TRAINING[options.network]
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        parser.error(f"cannot make the folder {folder}: {error.strerror}")
    for noise in NOISES:
        photographs(folder / f"photographs-{noise}", noise, training["photographs"])
    pages(folder / "pages", training["pages"])


def photographs(folder, noise, options):
    """Train on scikit-image's photographs; denoise two held-out ones."""
    for name in ("train", "clean", "noisy"):
        (folder / name).mkdir(parents=True)
    for path in Path(skimage.__file__).parent.glob("data/*"):
        if path.suffix in (".png", ".jpg"):
            shutil.copy(path, folder / ("clean" if path.name in UNSEEN_PHOTOGRAPHS else "train"))
    random = np.random.default_rng(0)
    for name in UNSEEN_PHOTOGRAPHS:
        clean = np.asarray(Image.open(folder / "clean" / name)) / 255
        noisy = np.clip(clean + random.normal(0, noise, clean.shape), 0, 1)
        Image.fromarray(np.uint8(np.rint(255 * noisy))).save(folder / "noisy" / name)
    train_and_denoise(folder, "--dataset", folder / "train", "--noise-factor", noise, *options)
    compare(folder, {"camera.png": (180, 60, 180, 140), "chelsea.png": (100, 60, 180, 140)})


def pages(folder, options):
    """Train on pairs of drawn pages and their scans; denoise scans of other pages."""
    for number in range(PAGES + UNSEEN_PAGES):
        clean = draw_page(number)
        place = folder / "train" if number < PAGES else folder
        for name, image in (("clean", clean), ("noisy", scan(clean, number))):
            (place / name).mkdir(parents=True, exist_ok=True)
            image.save(place / name / f"page{number:02}.png")
    pairs = ["--noisy-dir", folder / "train" / "noisy", "--clean-dir", folder / "train" / "clean"]
    train_and_denoise(folder, *pairs, *options)
    crop = (20, 20, 220, 130)
    compare(folder, {f"page{PAGES}.png": crop, f"page{PAGES + 1}.png": crop})


def draw_page(number):
    """Return a page of text: a grey image, black on white, slightly rotated."""
    random = np.random.default_rng([1, number])
    page = Image.new("L", PAGE_SIZE, 255)
    draw, top = ImageDraw.Draw(page), 12
    while top < PAGE_SIZE[1]:
        size = int(random.integers(11, 25))
        font = ImageFont.truetype(findfont(str(random.choice(FONTS))), size)
        draw.text((12, top), " ".join(random.choice(WORDS.split(), 12)), fill=int(random.integers(0, 90)), font=font)
        top += round(1.35 * size)
    return page.rotate(random.uniform(-2, 2), Image.Resampling.BICUBIC, fillcolor=255)


def scan(page, number):
    """Return the page as from a poor scanner: out of focus, few photons, sensor noise, JPEG of low quality."""
    random = np.random.default_rng([2, number])
    light = np.asarray(page.filter(ImageFilter.GaussianBlur(0.7)), float) / 255 * 0.75 + 0.12
    photons = random.uniform(25, 60)
    light = random.poisson(light * photons) / photons + random.normal(0, 0.04, light.shape)
    file = io.BytesIO()
    Image.fromarray(np.uint8(255 * np.clip(light, 0, 1))).save(file, "JPEG", quality=30)
    return Image.open(file).convert("L")


def train_and_denoise(folder, *options):
    """Train into `folder/run` and denoise `folder/noisy` into `folder/denoised`, with the commands of this package."""
    run = folder / "run"
    for command in (
        ["keras_dae.train", "--output-dir", run, *options],
        ["keras_dae.denoise", folder / "noisy", "--model", run, "--output-dir", folder / "denoised"],
    ):
        print("python -m", *command, flush=True)
        subprocess.run([sys.executable, "-m", *map(str, command)], check=True, stdout=subprocess.DEVNULL)


def compare(folder, crops):
    """Print the PSNR of the noisy and of the denoised files, and write a picture of some crops.

    The classical methods use the parameters that are best for each single image.
    """
    print(f"{'PSNR in dB':16}" + "".join(f"{name:>18}" for name in ("noisy", *BASELINES, "keras_dae")))
    table = []
    for path in sorted((folder / "clean").iterdir()):
        clean, noisy, denoised = (read(folder / kind / path.name) for kind in ("clean", "noisy", "denoised"))
        classical = [b(noisy, **best_parameters(b, noisy, clean)) for b in BASELINES.values()]
        table.append([-10 * np.log10(np.mean((image - clean) ** 2)) for image in (noisy, *classical, denoised)])
        print(f"{path.stem:16}" + "".join(f"{psnr:18.2f}" for psnr in table[-1]))
    print(f"{'mean':16}" + "".join(f"{psnr:18.2f}" for psnr in np.mean(table, axis=0)), flush=True)

    names = ("clean", "noisy", "denoised")
    figure = Figure(figsize=(9.4, 0.2 + 2.55 * len(crops)), dpi=110, facecolor="white", layout="constrained")
    for row, (name, (left, top, width, height)) in zip(figure.subplots(len(crops), 3), crops.items()):
        clean = read(folder / "clean" / name)
        for axis, kind in zip(row, names):
            image = read(folder / kind / name)
            psnr = "" if kind == "clean" else f", {-10 * np.log10(np.mean((image - clean) ** 2)):.1f} dB"
            crop = image[0, top : top + height, left : left + width]
            axis.imshow(crop, cmap="gray", vmin=0, vmax=1)
            axis.set_title(f"{kind}{psnr}", fontsize=10, color=INK if kind == "denoised" else MUTED)
            axis.set_axis_off()
    with atomic_file(folder / "comparison.png") as temporary:
        figure.savefig(temporary)


def read(path):
    """Return an image file as float32 `(1, height, width, channels)` in [0, 1]."""
    with Image.open(path) as image:
        pixels = np.asarray(image, np.float32) / 255
    return pixels.reshape(1, *pixels.shape[:2], -1)


if __name__ == "__main__":
    main()
