"""What Apple's GPUs (device "mps") lack, tried on torch's `meta` device, which is made to lack it too.

They have no float64, average only areas that are all of one size, and torch's own table says which functions it has not
written for them. Tensors of `meta` have no numbers in them: what is brought to the CPU from there is noise.
"""

from functools import cache
from pathlib import Path

import pytest
import torch
import torchgen
import yaml
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from nstlab import dissect, evaluation
from nstlab.doctor import examine
from nstlab.optimise import STYLE_LOSSES, Objective, make_optimizer, matched, set_up, steps, weighted
from nstlab.optimise.carriers import gate_derivatives
from nstlab.reduction.distinctiveness import merge
from nstlab.reduction.shrinking import refitted
from nstlab.settings import Settings

ADDED_UP = [name for name, loss in STYLE_LOSSES.items() if loss.averages]  # from tiles
EVERYWHERE = {"MPS", "CompositeExplicitAutograd", "CompositeExplicitAutogradNonFunctional", "CompositeImplicitAutograd"}


@cache
def not_for_apple() -> set[str]:
    """torch's functions that a CPU or CUDA has and Apple's GPUs do not."""
    table = Path(torchgen.__file__).parent / "packaged/ATen/native/native_functions.yaml"
    functions = yaml.load(table.read_text(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    by_name = {function["func"].split("(")[0]: function for function in functions}

    def has(name: str) -> bool:
        function = by_name[name]
        if "structured_delegate" in function:
            return has(function["structured_delegate"])
        kinds = {kind.strip() for kinds in function.get("dispatch", {}) for kind in kinds.split(",")}
        return not kinds or bool(kinds & EVERYWHERE)

    return {f"aten.{name}" for name in by_name if not has(name)}


def on_gpu(values: object) -> list[torch.Tensor]:
    return [t for t in tree_leaves(values) if isinstance(t, torch.Tensor) and t.device.type == "meta"]


class Apple(TorchDispatchMode):
    """The meta device, as such a GPU."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs, there, name = kwargs or {}, on_gpu((args, kwargs or {})), str(function)
        if there:
            assert name.removesuffix(".default") not in not_for_apple(), f"{name} is not written for Apple's GPUs"
            if "adaptive_avg_pool2d" in name:
                sides = zip(args[0].shape[2:], args[1], strict=True)
                assert all(side % size == 0 for side, size in sides), f"areas of several sizes: {name}"
        if name == "aten._local_scalar_dense.default" and there:
            return 1.0
        if name == "aten._to_copy.default" and there and str(kwargs.get("device")) == "cpu":
            assert kwargs.get("dtype") in (None, args[0].dtype), "a change of type on the way to the CPU happens first"
            return torch.rand(args[0].shape).to(args[0].dtype)
        found = function(*args, **kwargs)
        assert not {torch.float64, torch.complex128} & {t.dtype for t in on_gpu(found)}, f"float64 in {name}"
        return found


@pytest.fixture
def apple(monkeypatch):
    """For a test: the device of all networks lacks what Apple's lack."""
    monkeypatch.setattr("nstlab.network.device.WITHOUT_DOUBLE", ("meta",))
    for room in ("network.vgg19", "network.networks", "runs.manifest"):
        monkeypatch.setattr(
            f"nstlab.{room}.choose_device", lambda device: torch.device("meta" if device == "auto" else device)
        )
    with Apple():
        yield


@pytest.fixture
def there(small, apple) -> tuple[Settings, Objective, torch.Tensor]:
    """Settings, what they minimise, and the initial value."""
    settings = Settings(**small | {"device": "auto"}, weights="random")
    return settings, *set_up(settings)


def test_apples_table_is_read():
    known = not_for_apple()
    assert {"aten.linalg_eig", "aten.linalg_ldl_factor_ex"} <= known
    assert not {"aten.convolution", "aten.mm", "aten.max_pool2d_with_indices", "aten.sort", "aten.relu"} & known


@pytest.mark.parametrize(
    "ask",
    [
        lambda x: x.double(),
        lambda x: torch.zeros_like(x, dtype=torch.float64),
        lambda x: x.to("cpu", torch.float64),
        lambda x: torch.linalg.eig(x[0, 0]),
        lambda x: torch.nn.functional.adaptive_avg_pool2d(x, 3),
    ],
)
def test_the_stand_in_refuses_what_apples_gpus_refuse(ask, apple):
    with pytest.raises(AssertionError):
        ask(torch.ones(1, 1, 4, 4, device="meta"))


@pytest.mark.parametrize(
    "style_loss, tile", [*((name, None) for name in STYLE_LOSSES), *((name, 32) for name in ADDED_UP)]
)
def test_a_transfer_with_every_loss(style_loss, tile, small, apple):
    settings = Settings(
        **small | {"device": "auto", "size": 50, "style": "swirl,waves", "iterations": 2, "tile": tile},
        **{"weights": "random", "style_loss": style_loss, "style_layer_weights": "balanced", "k_TV": 1.0},
    )
    if STYLE_LOSSES[style_loss].masking is weighted:  # else it counts positions, and meta has no numbers to count
        settings = settings.with_(content_masks="astronaut-figure,astronaut-ground")
    objective, x = set_up(settings)
    for step in steps(objective, x, make_optimizer(x, settings), settings):
        assert step.picture.device.type == x.grad.device.type == "meta"
    assert step.iteration == 2


@pytest.mark.parametrize("colour", ["matched", "luminance", "recombined"])
def test_colours(colour, small, apple):
    settings = Settings(**small | {"device": "auto"}, weights="random", colour=colour)
    objective, x = set_up(settings)
    assert objective.shown(x).device.type == "meta"
    pictures = [torch.rand(1, 3, 8, 8).to("meta") for _ in range(2)]
    assert matched(*pictures).device.type == "meta"


def test_cards_shares_and_alignments(there):
    _, objective, x = there
    net, image = objective.net, torch.rand(1, 3, 48, 48)
    assert len(dissect.layer_card(net, image, "relu2_1").statistics) == 128
    assert "relu1_1" in dissect.gradient_shares(objective, x).index
    assert dissect.layer_similarity(net, image, ["relu1_1", "relu2_1"]).shape == (2, 2)
    assert dissect.picture_similarity(net, {"a": image, "b": image}, "relu2_1").shape == (2, 2)
    assert len(gate_derivatives(objective, x, ["relu1_1"])) == 64


def test_what_is_evaluated(there):
    settings, objective, x = there
    assert evaluation.relative_error(x.detach(), x.detach()) >= 0
    assert evaluation.equal_pull(settings, style_loss="gaussian_w2") > 0
    assert isinstance(evaluation.gradient_fidelity(objective.net, objective.net, settings), float)
    assert evaluation.Judge(settings).judge(torch.rand(1, 3, 48, 48))


def test_reductions(apple):
    a, W = torch.rand(6, 40).to("meta"), torch.rand(6, 5).to("meta")
    assert merge(a, W, 4).stands_for.shape[1] == 6
    W, b = refitted(W, W[:, 0], torch.rand(5, 40).to("meta"), torch.rand(6, 40).to("meta"))
    assert W.device.type == b.device.type == "meta"


def test_doctor_says_what_the_cpu_takes_beside_it(apple):
    lines = []
    found = examine(["48"], "vgg19", lines.append)
    assert found["sizes"][48]["seconds on the CPU"] > 0
    assert any("s an iteration (" in line and "with device=cpu)" in line for line in lines)
