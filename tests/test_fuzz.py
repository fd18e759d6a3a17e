"""A short version of `campaign_fuzz.py`: every reader gets damaged files. Bugs that the campaign found have tests."""

import damaged
import numpy as np
import pytest
from campaign_fuzz import PERCENT, make_run
from fuzz_targets import Targets
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keras_dae.data import mnist

QUIET = {"deadline": None, "derandomize": True, "suppress_health_check": list(HealthCheck)}


@pytest.fixture(scope="module")
def targets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz")
    shapes, checks = mnist.SHAPES, dict(mnist.SOURCES["mnist"].checks)
    (folder / "files").mkdir()
    yield Targets(folder / "files", make_run(folder))
    mnist.SHAPES = shapes
    mnist.SOURCES["mnist"].checks.update(checks)


@pytest.mark.slow
@pytest.mark.parametrize("reader", PERCENT)
def test_reader(targets, reader):
    slow = reader in ("onnx", "keras", "card")

    @settings(
        max_examples=20 if slow else 100, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
    )
    @given(
        st.sampled_from(range(len(targets.seeds[reader]))),
        st.lists(st.tuples(st.sampled_from(damaged.KINDS), st.integers(0, 2**31)), min_size=1, max_size=4),
    )
    def fuzz(sound, damages):
        content = targets.seeds[reader][sound]
        for kind, seed in damages:
            _, content = damaged.mutate(content, kind, np.random.default_rng(seed))
        targets.functions[reader](content)

    fuzz()


@settings(max_examples=100, **QUIET)
@given(st.binary(max_size=300))
def test_any_bytes(targets, content):
    for reader in ("images", "arrays", "idx", "safetensors", "config"):
        targets.functions[reader](content)


def test_error_that_begins_with_a_line_break(targets):
    """The campaign found this: the name of a damaged member begins with a vertical tab, so the error was empty."""
    sound = damaged.npz(images=np.zeros((2, 20, 20), np.uint8))
    targets.images(sound.replace(b"images.npy", b"\x0bC\x01ges.npy").replace(b"NUMPY", b"NUMPX"))
