"""What all tests share: small pictures, a folder for runs, one network."""

from __future__ import annotations

import importlib.util
from types import ModuleType

import matplotlib
import numpy as np
import pytest
import torch
from PIL import Image

import nstlab as lab
from nstlab.storage import home

matplotlib.use("agg")  # here, and not in the environment: kernels that tests start draw into their notebooks


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")


@pytest.fixture(scope="session")
def net() -> lab.VGG19:
    """The real VGG19, on the CPU."""
    return lab.load_vgg19(device="cpu")


@pytest.fixture(scope="session")
def random_net() -> lab.VGG19:
    """Untrained VGG19 in float64 with average pooling: smooth but for the ReLUs."""
    return lab.load_vgg19("random", pooling="average", device="cpu").double()


@pytest.fixture(scope="session")
def load_script():
    """A function that gives a script of the project, named by its path from the root, as a module."""

    def load(path: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location("script", home() / path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture
def small(tmp_path) -> dict:
    """Settings of a run that takes a second."""
    return {"content": "astronaut", "style": "swirl", "size": 48, "device": "cpu"}


@pytest.fixture
def picture(tmp_path):
    """A function that writes an RGB array as a picture and gives its path."""

    def write(pixels: np.ndarray, name: str = "picture.png", **options) -> str:
        path = tmp_path / name
        Image.fromarray(pixels).save(path, **options)
        return str(path)

    return write


@pytest.fixture
def noise() -> torch.Tensor:
    """A (1, 3, 40, 56) picture of noise in [0, 1]."""
    return torch.rand(1, 3, 40, 56, generator=torch.Generator().manual_seed(1))
