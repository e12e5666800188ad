"""The examples in the docstrings run."""

import doctest
import importlib
import pkgutil

import pytest
import torch

import nstlab

MODULES = [module.name for module in pkgutil.walk_packages(nstlab.__path__, "nstlab.") if "__main__" not in module.name]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name, tmp_path):
    module = importlib.import_module(name)
    names = {public: getattr(nstlab, public) for public in nstlab.__all__}
    result = doctest.testmod(module, extraglobs={"tmp": tmp_path, "torch": torch, "lab": nstlab, **names})
    assert result.failed == 0
