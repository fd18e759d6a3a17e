"""An evaluation in words: a table and remarks."""

from keras_dae.errors import printable

METRICS = {"mse": "MSE", "psnr": "PSNR (dB)", "ssim": "SSIM"}


TRAINED = (
    (True, "at noise it was trained for"),
    (False, "at noise it was not trained for"),
    (None, "trained for we do not know what"),
)


def table(evaluation):
    """Return the results as text: a block for each noise level, a line for each contender, means ± half intervals."""
    names = [row["name"] for row in evaluation["levels"][0]["results"]]
    width = max(map(len, names)) + 2
    lines = [f"{evaluation['dataset']}: {images_name(evaluation)}, {noise_name(evaluation)}"]
    for level in evaluation["levels"]:
        head = f"noise {level_name(level['noise_factor'])}".strip()
        lines += ["", f"{head:{width}}" + "".join(f"{title:>18}" for title in METRICS.values()) + f"{'made worse':>14}"]
        for row in level["results"]:
            cells = [_cell(row[metric], digits) for metric, digits in (("mse", 5), ("psnr", 2), ("ssim", 3))]
            worse = "" if row["kind"] == "noisy" else f"{row['made_worse']:,}"
            mark = " *" if row.get("trained_for_this") is False else ""
            lines.append(
                f"{printable(row['name']) + mark:{width}}" + "".join(f"{c:>18}" for c in cells) + f"{worse:>14}"
            )
    if any(row.get("trained_for_this") is False for level in evaluation["levels"] for row in level["results"]):
        lines += ["", "* not trained for this noise"]
    return "\n".join(lines)


def remarks(evaluation):
    """Return sentences that say for each model where it is worth using: at the noise it was trained for, and beyond."""
    sentences = []
    for index, model in enumerate(evaluation["levels"][0]["results"]):
        if model["kind"] != "model":
            continue
        told = [_compare(level, index) for level in evaluation["levels"]]
        for trained, words in TRAINED:
            found = [comparison for comparison in told if comparison["trained"] is trained]
            if found:
                sentences.append(f"{printable(model['name'])}, {words}: {_sum_up(found, evaluation['images'])}")
    return sentences


def _compare(level, index):
    """Return how far a model is ahead of the noisy images and of the best classical method, in dB."""
    noisy, model = level["results"][0], level["results"][index]
    classical = max((r for r in level["results"] if r["kind"] == "classical"), key=lambda row: row["psnr"]["mean"])
    return {
        "at": f"at {level_name(level['noise_factor']) or 'real noise'}",
        "trained": model["trained_for_this"],
        "noisy": model["psnr"]["mean"] - noisy["psnr"]["mean"],
        "classical": model["psnr"]["mean"] - classical["psnr"]["mean"],
        "best": classical["name"],
        "worse": model["made_worse"],
    }


def _sum_up(found, images):
    """Return what holds at some levels: the least and the greatest gains, and where images are made worse."""
    gains = []
    for key, name in (("noisy", "the noisy images"), ("classical", "the best classical method")):
        ends = sorted(found, key=lambda comparison: comparison[key])
        ends = [ends[0], ends[-1]] if len(ends) > 1 else ends
        against = "" if key == "noisy" else ", " + " and ".join(dict.fromkeys(end["best"] for end in ends))
        gains.append(" to ".join(f"{end[key]:+.2f} dB ({end['at']})" for end in ends) + f" against {name}{against}")
    worse = [f"{comparison['worse']:,} {comparison['at']}" for comparison in found if comparison["worse"]]
    return f"{'; '.join(gains)}; of {images:,} images it makes {', '.join(worse) or 'none'} worse than they were"


def level_name(noise_factor):
    """Return a level in words: `0.5`, `0.1 to 0.9`, or nothing for real noise."""
    return " to ".join(f"{factor:g}" for factor in noise_factor or ())


def images_name(evaluation):
    """Return in words how many images, or patches of them, an evaluation or a metrics.json is about."""
    patches = f" ({evaluation['patches']:,} patches)" if "patches" in evaluation else ""
    return f"{evaluation['images']:,} test images{patches}"


def noise_name(evaluation):
    """Return the kind of noise in words, from an evaluation or a metrics.json."""
    if evaluation["noise"] == ["real pairs"]:
        return "real noise"
    return f"{' or '.join(evaluation['noise'])} noise"


def _cell(value, digits):
    if value["low"] is None:
        return f"{value['mean']:.{digits}f}"
    return f"{value['mean']:.{digits}f} ±{(value['high'] - value['low']) / 2:.{digits}f}"
