"""A report in words, and as JSON."""

from typing import Any

from keras_dae.inspect.folder import NoiseReport, Spread
from keras_dae.inspect.verdict import Verdict

LABEL = 18  # characters


def lines_of(report: NoiseReport, verdict: Verdict) -> list[str]:
    """Return the lines that the command prints."""
    rows = [
        ("images", _images(report)),
        ("values", _values(report)),
        ("saturated", f"{report.black:.2%} black, {report.full:.2%} white"),
        ("noise level", f"σ = {report.sigma.median:.1f} of 255{_between(report.sigma, report.files)}"),
        ("noise curve", _curve(report)),
        ("autocorrelation", f"{_xy(report.lag1)} at 1 pixel; {_xy(report.lag2)} at 2 pixels"),
        ("flattest blocks", f"standard deviation {report.deviation:.1f} of 255"),
    ]
    lines = [f"{label:{LABEL}}{text}" for label, text in rows]
    lines += ["", *verdict.sentences]
    if verdict.command:
        needs_clean = " (CLEAN is a folder of clean images of the same kind)" if "CLEAN" in verdict.command else ""
        lines += ["", f"The command to run{needs_clean}:", verdict.command]
    return lines


def json_of(report: NoiseReport, verdict: Verdict) -> dict[str, Any]:
    """Return the report as values that JSON can store. Levels and deviations are on the scale from 0 to 255."""
    curve = report.curve
    return {
        "files": report.files,
        "sigma": report.sigma.median,
        "gain": curve.gain if curve else None,
        "read_noise": curve.read_noise if curve else None,
        "lag1": list(report.lag1),
        "lag2": list(report.lag2),
        "saturated": report.saturated,
        "correlated": verdict.is_correlated,
        "kind": verdict.kind,
        "verdict": " ".join(verdict.sentences),
        "command": verdict.command,
        "sigma_quartiles": _quartiles(report.sigma),
        "gain_quartiles": _quartiles(report.gain),
        "read_noise_quartiles": _quartiles(report.read_noise),
        "curve": [list(map(float, point)) for point in zip(curve.level, curve.variance)] if curve else [],
        "flat_deviation": report.deviation,
        "black": report.black,
        "white": report.full,
        "minimum": report.minimum,
        "maximum": report.maximum,
        "levels": report.levels,
        "white_value": report.white.value,
        "types": list(report.types),
        "formats": report.kinds,
        "jpeg": report.jpegs,
        "copies": report.copies,
        "constant": report.constant,
        "skipped": list(report.skipped),
    }


def _images(report: NoiseReport) -> str:
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in report.kinds.items())
    colours = "colour" if report.is_colour else "grey"
    pairs = " with a second shot" if report.second_dir is not None else ""
    left_out = [f"{report.copies:,} equal to others"] if report.copies else []
    left_out += [f"{report.constant:,} of one value"] if report.constant else []
    left_out += [f"{len(report.skipped):,} not usable"] if report.skipped else []
    return f"{report.files:,}{pairs}: {kinds}; {colours}" + (
        f"; not counted: {', '.join(left_out)}" if left_out else ""
    )


def _values(report: NoiseReport) -> str:
    types = ", ".join(report.types)
    white = report.white.value if report.white.dtype in report.types else 1
    levels = f", {report.levels:,} levels" if report.levels is not None else ""
    return f"{types}, {report.minimum:g} to {report.maximum:g}{levels}; white is {white}"


def _curve(report: NoiseReport) -> str:
    if not report.curve or not report.gain or not report.read_noise:
        return "not known: too few flat blocks of different brightness"
    curve = report.curve
    sign = "−" if curve.intercept < 0 else "+"
    line = f"variance = {curve.gain:.3g} · level {sign} {abs(curve.intercept):.3g}"
    exact = "exact, from two shots; " if report.second_dir is not None else ""
    return (
        f"{line} ({exact}gain {curve.gain:.3g}{_between(report.gain, report.files, 3, '; ')}, read noise "
        f"{curve.read_noise:.2g}{_between(report.read_noise, report.files, 2, '; ')})"
    )


def _between(spread: Spread, files: int, digits: int = 0, start: str = " (") -> str:
    """Return the quartiles in words; nothing for one file."""
    if files < 2:
        return ""
    low, high = (f"{value:.{digits}g}" if digits else f"{value:.1f}" for value in (spread.low, spread.high))
    if start == " (":
        return f" (half of the images: {low} to {high})"
    return f" [{low} to {high}]"


def _xy(lag: tuple[float, float]) -> str:
    return f"{lag[0]:.2f} in x, {lag[1]:.2f} in y"


def _quartiles(spread: Spread | None) -> list[float] | None:
    return [spread.low, spread.high] if spread else None
