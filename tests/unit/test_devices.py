"""What a GPU asks of a transfer, tried on torch's `meta` device, whose tensors have no numbers in them.

They cannot be read, as a GPU's should not be within an iteration, and what goes to a GPU must all be there.
"""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import nstlab as lab
from nstlab.images import load_pictures
from nstlab.network.convolution import bordered, repeated_border
from nstlab.optimise import STYLE_LOSSES, Descent, Objective, load_network, losses_together
from nstlab.optimise.compact_lbfgs import CompactLBFGS
from nstlab.settings import Settings

TWO_STYLES = {"style": "swirl,waves", "content_masks": "astronaut-figure,astronaut-ground"}
VARIED = [
    {},
    TWO_STYLES,
    {"pooling": "average", "gates": "relu1_1:3,5=0.5;relu2_1:3=mean"},
    {"padding": "replicate", "precision": "bfloat16"},
    {"network": "efficientnet-lite0"},
    {"colour": "luminance", "k_TV": 1.0},
    {"colour": "matched", "k_TV": 1.0, "tv": "l2", "content_loss": "l1"},
    {"colour": "recombined", "init": "white_noise"},
    {"size": 96, "scales": 2, "scale_iterations": 2},
    *({"style_loss": name} for name in STYLE_LOSSES),
]


class OnOneDevice(TorchDispatchMode):
    """Notes the functions that get arrays from two devices, besides those that copy."""

    def __init__(self) -> None:
        super().__init__()
        self.mixing: set[str] = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        arrays = [t for t in tree_leaves((args, kwargs or {})) if isinstance(t, torch.Tensor) and t.dim()]
        if len({t.device for t in arrays}) > 1 and "copy" not in str(function):
            self.mixing.add(str(function))
        return function(*args, **(kwargs or {}))


def test_arrays_on_two_devices_are_noted():
    with OnOneDevice() as one:
        torch.rand(3, 3) @ torch.rand(3, 3, device="meta")
    assert one.mixing == {"aten.mm.default"}


@pytest.mark.parametrize("values", VARIED, ids=str)
def test_an_iteration_is_computed_where_the_network_is_and_reads_nothing_from_there(small, values, monkeypatch):
    """Alone, and several in a batch."""
    settings = Settings(**small | values, **({} if "network" in values else {"weights": "random"}))
    net, pictures = load_network(settings).to("meta"), load_pictures(settings)
    monkeypatch.setattr("nstlab.optimise.together.values_of", lambda losses: losses)  # an iteration's one wait
    with OnOneDevice() as one:
        with torch.no_grad():
            objectives = [Objective(net, pictures, settings) for _ in range(2)]
        pixels = [net.prepare(pictures[0].content).requires_grad_() for _ in objectives]
        several = [Descent(o, x, CompactLBFGS(x), settings) for o, x in zip(objectives, pixels, strict=True)]
        for descents in (several[:1], several[1:], several, several, several):
            for losses in losses_together(descents):
                assert {value.device.type for value in losses.values()} == {"meta"}
        shown = objectives[0].shown(pixels[0])
    assert shown.device.type == "meta" and one.mixing == set()


def test_a_picture_goes_to_the_network_from_wherever_it_is(small):
    """So that `net(net.prepare(lab.load_image(...)), keep=...)` works on a GPU too."""
    net = lab.load_vgg19("random", device="cpu").to("meta")
    x = net.prepare(lab.load_image("astronaut", 48))
    assert x.device.type == "meta" and net(x, keep=["relu1_1"])["relu1_1"].shape == (1, 64, 48, 48)


@pytest.fixture
def flags():
    """torch's, as they are by default, with cuBLAS's as bad as cuDNN's; put back afterwards."""
    cudnn, cublas = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32, cublas.allow_tf32
    cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32, cublas.allow_tf32 = True, False, True, True
    yield lambda: (cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32, cublas.allow_tf32)
    cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32, cublas.allow_tf32 = before


@pytest.mark.parametrize("network", ["vgg19", "vgg16", "efficientnet-lite0", "mine.py:blur"])
@pytest.mark.parametrize("precision", ["float32", "tf32"])
def test_a_gpu_rounds_and_repeats_as_it_is_told(network, precision, flags, monkeypatch, tmp_path):
    """Whatever the network: without TF32 unless asked, and with the same bytes twice. No GPU is needed to be told."""
    (tmp_path / "mine.py").write_text(
        "import nstlab, torch\n\ndef blur():\n    return nstlab.Network({'b': torch.nn.AvgPool2d(3, 1, 1)})\n"
    )
    monkeypatch.chdir(tmp_path)
    for name in ("nstlab.network.vgg19.choose_device", "nstlab.network.networks.choose_device"):
        monkeypatch.setattr(name, lambda device: torch.device("cuda"))
    monkeypatch.setattr(torch.nn.Module, "to", lambda net, *place, **order: net)
    takes, weights = network.startswith("vgg"), None if ":" in network else "random"
    lab.load_network(network, weights, device="cuda", **({"precision": precision} if takes else {}))
    asked = takes and precision == "tf32"
    assert flags() == (False, True, asked, asked)


def test_a_border_repeated_for_a_gpu_is_torchs():
    x = torch.rand(1, 3, 5, 7, dtype=torch.float64, requires_grad=True)
    weights = torch.rand(1, 3, 7, 9, dtype=torch.float64)
    gradients = []
    for border in (repeated_border, lambda x: bordered(x, "replicate")):
        y = border(x)
        gradients.append((y.detach(), *torch.autograd.grad((y * weights).sum(), x)))
    for ours, torchs in zip(*gradients, strict=True):
        assert torch.allclose(ours, torchs, rtol=1e-12, atol=0)
