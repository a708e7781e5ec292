"""Adds the published weights to the package; all other settings of the build stand in setup.cfg.

A wheel carries the repository's folder zoo/ as keras_dynnets/published, so that `zoo.load` needs
no network. setup.cfg can find packages or name them, not both; hence this file.
"""

from setuptools import find_packages, setup

setup(
    packages=[
        *find_packages(include=["keras_dynnets", "keras_dynnets.*"]),
        "keras_dynnets.published",
    ],
    package_dir={"keras_dynnets.published": "zoo"},
)
