"""All packages below keras_dae and export, and the shipped models; everything else is in setup.cfg."""

from setuptools import find_packages, setup

setup(packages=[*find_packages(include=["keras_dae*", "export*"]), "keras_dae.saved_models"])
