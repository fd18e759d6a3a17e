"""The results of `python -m benchmarks` as Markdown tables and as a plot."""

from statistics import median

from benchmarks.contender import ratio
from benchmarks.inference import BATCHES
from benchmarks.quality import GOAL

PYTORCH_IN_PYTHON = ("PyTorch eager", "PyTorch eager, channels_last", "torch.compile, channels_last")
# Multiply-adds of the network's forward pass on a 28×28 image: the encoder's, and as many again for the decoder.
# A training step on the image takes three times as many.
MULTIPLY_ADDS = 2 * (14**2 * 3**2 * 1 * 16 + 7**2 * 3**2 * 16 * 32 + 3**2 * 5**2 * 32 * 64)


def table(results):
    """Return all results as Markdown: one table for each section, then the ratios."""
    machine = results["machine"]
    names = ("python", "tensorflow", "keras", "onnxruntime", "torch")
    parts = [
        f"{machine['processor']}, {machine['cores']} cores; {', '.join(f'{name} {machine[name]}' for name in names)}. "
        f"Medians of {results['rounds']} rounds. In each, all contenders of a table take turns, each in a process."
    ]
    by_batch = {f"batch {size}": (f"batch {size}", lambda seconds, size=size: size / seconds) for size in BATCHES}
    for section, heading, figures in (
        ("inference", "images/s", by_batch),
        ("large_image", "4,000×4,000", {"megapixels/s": ("pixels/s", lambda rate: rate / 1e6)}),
        ("training", "training", {"images/s": ("images/s", float)}),
        ("quality", f"to a test MSE of {GOAL}", {"seconds": ("seconds", float), "epochs": ("epochs", float)}),
        ("peak", "10⁹ multiply-adds/s", {name: (name, float) for name in ("matrix product", "convolution")}),
    ):
        for name, contest in results.get(section, {}).items():
            columns = {**figures, "peak MiB": ("peak MiB", float)} if section != "quality" else figures
            parts.append(rows([f"{heading}, {name}", *columns], [
                [contender, *(number(median(map(convert, measured[key]))) for key, convert in columns.values())]
                for contender, measured in contest.items()
            ]))  # fmt: skip
    for section, condition in (("inference", ""), ("fixed_size", ", sizes fixed")):
        if section in results:
            parts.append(latency(f"milliseconds at batch 1{condition}", results[section]))
    parts.append(rows(["ratio", "measured"], [[name, f"{value:.2f}"] for name, value in ratios(results).items()]))
    return "\n\n".join(parts) + "\n"


def latency(heading, contests):
    """Return a table of the milliseconds that a call with one image takes."""
    header = [heading, *contests]
    contenders = next(iter(contests.values()))
    return rows(header, [
        [name, *(f"{1e3 * median(contest[name]['batch 1']):.3f}" for contest in contests.values())]
        for name in contenders
    ])  # fmt: skip


def ratios(results):
    """Return the ratios of the results, name -> ratio: each is the median over the rounds of a ratio within a round."""
    found = {}
    peaks = {
        name: 1e9 * max(median(measured["convolution"]) for measured in contest.values())
        for name, contest in results.get("peak", {}).items()
    }
    for name, contest in results.get("training", {}).items():
        for rival in ("PyTorch", "PyTorch, channels_last", "PyTorch, torch.compile"):
            rates = contest["keras_dae"]["images/s"], contest[rival]["images/s"]
            found[f"training images/s, {name}: keras_dae / {rival}"] = ratio(*rates)
    for contest in results.get("quality", {}).values():
        ours, theirs = contest.values()
        found[f"time to a test MSE of {GOAL}: keras_dae / PyTorch"] = ratio(ours["seconds"], theirs["seconds"])
    for name, contest in results.get("inference", {}).items():
        pairs = [
            ("model.onnx", "PyTorch's ONNX export", 256),
            ("model.onnx", "PyTorch's ONNX export", 1),
            ("model.int8.onnx", "model.onnx", 256),
        ]
        for size in BATCHES[1:]:
            fastest = min(PYTORCH_IN_PYTHON, key=lambda rival: median(contest[rival][f"batch {size}"]))
            pairs += [("load_denoiser", rival, size) for rival in dict.fromkeys((PYTORCH_IN_PYTHON[0], fastest))]
        for ours, theirs, size in pairs:
            seconds = contest[theirs][f"batch {size}"], contest[ours][f"batch {size}"]
            found[f"images/s at batch {size}, {name}: {ours} / {theirs}"] = ratio(*seconds)
        if name in peaks:
            rate = 256 / median(contest["model.onnx"]["batch 256"])
            found[f"model.onnx at batch 256, {name}: share of the convolution peak"] = (
                rate * MULTIPLY_ADDS / peaks[name]
            )
    for name, contest in results.get("fixed_size", {}).items():
        seconds = contest["PyTorch's ONNX export"]["batch 1"], contest["model.onnx"]["batch 1"]
        found[f"images/s at batch 1, sizes fixed, {name}: model.onnx / PyTorch's ONNX export"] = ratio(*seconds)
    for name, contest in results.get("training", {}).items():
        cores = threads_name(results["machine"]["cores"])
        if cores in peaks:
            rate = median(contest["keras_dae"]["images/s"])
            found[f"training, {name}: share of the convolution peak"] = 3 * rate * MULTIPLY_ADDS / peaks[cores]
    return found


def threads_name(count):
    """Return the name of the contests with this number of threads.

    >>> threads_name(1), threads_name(2)
    ('1 thread', '2 threads')
    """
    return f"{count} thread{'s' * (count > 1)}"


def rows(header, lines):
    """Return a Markdown table."""
    ruler = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join(f"| {' | '.join(line)} |" for line in (header, ruler, *lines))


def number(value):
    """Return a number with three significant digits, or without decimals from 100 on.

    >>> number(0.12345), number(12345.6)
    ('0.123', '12,346')
    """
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def plot(results, path):
    """Plot images/s against the batch size, in one panel for each number of threads."""
    from matplotlib.figure import Figure

    contests = results["inference"]
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    for axes, (name, contest) in zip(
        figure.subplots(1, len(contests), sharey=True, squeeze=False)[0], contests.items()
    ):
        for contender, measured in contest.items():
            axes.plot(BATCHES, [size / median(measured[f"batch {size}"]) for size in BATCHES], "o-", label=contender)
        axes.set(xscale="log", yscale="log", xlabel="batch size", title=name, xticks=BATCHES, xticklabels=BATCHES)
        axes.grid(alpha=0.3)
        axes.minorticks_off()
    figure.axes[0].set_ylabel("28×28 images/s")
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside right center", fontsize="small")
    figure.savefig(path, dpi=110, format="png")
