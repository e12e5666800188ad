"""Without the private parts of other libraries that it uses, nstlab still works, slower or plainer."""

from types import SimpleNamespace

import distributed
import nbclient
import pytest
import torch

import nstlab as lab
from nstlab.network import convolution, has_wide_vectors, product
from nstlab.network.convolution import Kernels, algorithm
from nstlab.runs import this_machine
from nstlab.settings import Settings
from nstlab.sweeps import execution, notebook

MANY = (96, 64, 64)  # a shape for which NNPACK is the fastest


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(1, *MANY, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("gone", ["_nnpack_available", "_nnpack_spatial_convolution"])
def test_torch_without_nnpack(x, monkeypatch, gone):
    monkeypatch.setattr(convolution, "has_wide_vectors", lambda: False)  # with them nothing needs it
    draw = torch.Generator().manual_seed(3)
    kernels = Kernels(torch.randn(128, MANY[0], 3, 3, generator=draw), torch.randn(128, generator=draw))
    expected = kernels(x)
    monkeypatch.delattr(torch, gone)
    assert algorithm(MANY[0], 128, 64, 64) == "onednn"
    assert torch.allclose(kernels(x), expected, rtol=1e-4, atol=1e-2)
    assert this_machine(Settings(device="cpu"))["machine"]["convolution"] == "winograd, onednn"


@pytest.mark.parametrize("gone", ["_linear_pointwise", "_reorder_convolution_weight", "_convolution_pointwise"])
def test_torch_without_onednns_private_functions(net, monkeypatch, gone):
    a, b = torch.randn(512, 600), torch.randn(600, 512)
    before, shape = product(a, b), (512, 512, 24, 24)
    weight, x = torch.randn(512, 512, 3, 3), torch.randn(1, *shape[1:])
    expected = Kernels(weight, torch.zeros(512))(x)
    monkeypatch.setattr(torch.ops.mkldnn, gone, None)
    assert torch.allclose(product(a, b), before, rtol=1e-4, atol=1e-3)
    is_direct = has_wide_vectors() and gone != "_linear_pointwise"
    assert algorithm(*shape) == ("onednn" if is_direct else "winograd")
    assert torch.allclose(Kernels(weight, torch.zeros(512))(x), expected, rtol=1e-3, atol=1e-2)
    assert ("winograd" in this_machine(Settings(device="cpu"))["machine"]["convolution"]) is not is_direct


def test_tensors_that_do_not_tell_their_version(net, x, monkeypatch):
    """Transformed kernels are not kept then; after a change in place the activations are the changed network's."""

    def untold(tensor):
        raise AttributeError

    monkeypatch.setattr(torch.Tensor, "_version", property(untold), raising=False)
    weight, bias = torch.randn(32, 32, 3, 3), torch.zeros(32)
    convolved = convolution.Convolution(weight, bias)
    assert not convolved.is_of(weight, bias)
    changed = lab.load_vgg19("random", device="cpu")
    picture = changed.prepare(torch.rand(1, 3, 48, 48))
    before = changed(picture, keep=["conv4_2"])["conv4_2"]
    with torch.no_grad():
        changed.conv4_2_weight.mul_(2)
    assert torch.allclose(changed(picture, keep=["conv4_2"])["conv4_2"], 2 * before, rtol=1e-4, atol=1e-4)


def test_an_nbclient_that_knows_none_of_the_options(monkeypatch):
    options = {"coalesce_streams": True, "on_cell_start": print}
    assert notebook._for_nbclient(**options) == options
    monkeypatch.setattr(nbclient.NotebookClient, "class_trait_names", classmethod(lambda cls: []))
    assert notebook._for_nbclient(**options) == {}


def test_a_distributed_without_the_name_of_a_killed_worker(monkeypatch):
    class Future:
        status = "error"

        def exception(self):
            return distributed.scheduler.KilledWorker("point", SimpleNamespace(address="tcp://here"), 4)

    assert execution._outcome(Future())["state"] == "died"
    monkeypatch.delattr(distributed, "KilledWorker")
    outcome = execution._outcome(Future())
    assert outcome["state"] == "failed" and "could not compute it" in outcome["error"]
