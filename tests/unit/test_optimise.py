import io
import itertools

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import nstlab as lab
from nstlab.errors import RunError
from nstlab.images import Pictures, load_pictures
from nstlab.optimise import INITIAL_VALUES, LBFGS, STYLE_LOSSES, Objective, make_optimizer, set_up, steps
from nstlab.optimise.compact_lbfgs import CompactLBFGS
from nstlab.optimise.lbfgs import LONGEST_STEP
from nstlab.reduction import TECHNIQUES
from nstlab.settings import Settings


def test_steps_are_numbered_and_carry_the_losses_of_their_picture(small):
    settings = Settings(**small, iterations=3)
    objective, _ = set_up(settings)
    done = list(lab.transfer(settings))
    assert [step.iteration for step in done] == [0, 1, 2, 3]
    for step in done:
        losses = {name: float(value) for name, value in objective(objective.net.prepare(step.image)).items()}
        assert step.losses == pytest.approx(losses, rel=1e-4, abs=1e-2)
        assert step.losses["style"] == pytest.approx(sum(step.losses[name] for name in settings.style_layers), rel=1e-5)
        assert step.losses["total"] == pytest.approx(step.losses["content"] + 1000 * step.losses["style"], rel=1e-5)


def test_a_step_is_a_copy(small):
    first, second = itertools.islice(lab.transfer(Settings(**small)), 2)
    assert not torch.equal(first.image, second.image)


@pytest.mark.parametrize("init", INITIAL_VALUES)
@pytest.mark.parametrize("k_S", [0.01, 1e7])
def test_every_initial_value_descends_whatever_k_S(small, init, k_S):
    """From flat pictures the loss curves downwards at first; a raw gradient step there reaches 10³²."""
    totals = [step.losses["total"] for step in lab.transfer(Settings(**small, init=init, k_S=k_S, iterations=14))]
    assert max(totals) < 3 * totals[0]
    assert totals[-1] < 0.9 * totals[0]


def test_the_first_step_moves_pixels_by_a_grey_level_on_average(small):
    first, second = itertools.islice(lab.transfer(Settings(**small, init="white_noise")), 2)
    assert 255 * (second.image - first.image).abs().mean() == pytest.approx(1, rel=1e-3)


def test_lbfgs_on_a_quadratic_reaches_its_minimum():
    target = torch.linspace(-3, 4, 12)
    x = torch.zeros(12, requires_grad=True)
    optimizer = LBFGS(x, 1.0, 20)
    for _ in range(30):
        optimizer.zero_grad()
        loss = ((x - target).square() * torch.arange(1, 13)).sum()
        loss.backward()
        optimizer.step(lambda loss=loss: loss)
    assert torch.allclose(x.detach(), target, atol=1e-4)


def bowl(x: torch.Tensor) -> torch.Tensor:
    """Smooth, not quadratic, one minimum."""
    c = torch.linspace(0.5, 3, len(x), dtype=x.dtype)
    return (c * torch.log(torch.cosh(x - c))).sum() + 0.1 * (x[1:] * x[:-1]).square().sum()


def hills(x: torch.Tensor) -> torch.Tensor:
    """It curves downwards in places, where a pair is not kept."""
    c = torch.linspace(1, 3, len(x), dtype=x.dtype)
    return (c * (1 - torch.cos(2 * x))).sum() + 0.02 * x.square().sum()


@pytest.fixture(scope="module")
def problems(random_net):
    """Name -> a loss in float64 and where to start: two of twelve numbers, and that of a transfer of 40 pixels."""
    settings = Settings(size=40, content_layers=("relu2_1",), style_layers=("relu1_1", "relu2_1"))
    pictures = [Pictures(p.content.double(), (p.styles[0].double(),)) for p in load_pictures(settings)]
    objective = Objective(random_net, pictures, settings)
    noise = torch.rand(pictures[0].content.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    return {
        "bowl": (bowl, torch.linspace(-1, 1, 12, dtype=torch.float64)),
        "hills": (hills, torch.linspace(-6, 5, 12, dtype=torch.float64)),
        "transfer": (lambda x: objective(x)["total"], random_net.prepare(noise)),
    }


class Descent:
    """An L-BFGS at work; torch's own takes the lengths that ours gives to its first step and its longest."""

    def __init__(self, loss, x: torch.Tensor, history_size: int, torchs: bool = False, kind: type = LBFGS) -> None:
        self.loss, self.torchs, self.x = loss, torchs, x.detach().clone().requires_grad_()
        if torchs:
            fixed = {"max_iter": 1, "tolerance_grad": 0, "tolerance_change": 0}
            self.optimizer = torch.optim.LBFGS([self.x], lr=self.x.numel(), history_size=history_size, **fixed)
        else:
            self.optimizer = kind(self.x, 1.0, history_size)

    @property
    def memory(self) -> dict:
        return self.optimizer.state[self.x]

    @property
    def pairs(self) -> int:
        """How many it remembers."""
        return len(self.optimizer.state_dict()["state"][0].get("old_dirs" if self.torchs else "y", []))

    def step(self) -> torch.Tensor:
        """One step; where it leads."""
        before = self.x.detach().clone()
        self.optimizer.step(self._evaluate)
        self.optimizer.param_groups[0]["lr"] = 1.0  # after a first step of one grey level a number
        if self.torchs:
            longest = LONGEST_STEP / float(self.memory["d"].abs().mean())
            if self.memory["t"] > longest:
                self.memory["t"] = longest
                self.x.data = before + longest * self.memory["d"].view_as(before)
        return self.x.detach().clone()

    def _evaluate(self) -> torch.Tensor:
        self.optimizer.zero_grad()
        loss = self.loss(self.x)
        loss.backward()
        return loss


def near(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Equal but for rounding, which 30 steps in float64 bring to 1e-13 of the largest number."""
    return float((one - other).abs().max()) < 1e-10 * float(other.abs().max())


@pytest.mark.parametrize("history_size", [5, 30])
@pytest.mark.parametrize("problem", ["bowl", "hills", "transfer"])
@pytest.mark.parametrize("kind", [LBFGS, CompactLBFGS])
def test_lbfgs_takes_the_steps_of_torchs(problems, problem, history_size, kind):
    loss, start = problems[problem]
    ours, torchs = Descent(loss, start, history_size, kind=kind), Descent(loss, start, history_size, torchs=True)
    for number in range(30):
        one, other = ours.step(), torchs.step()
        assert near(one, other), number
        assert ours.pairs == torchs.pairs
    assert float(loss(one)) < 0.4 * float(loss(start))
    if problem == "hills" and history_size == 30:
        assert ours.pairs < 29  # else no pair was refused


@pytest.mark.parametrize("already", [1, 3, 7])
@pytest.mark.parametrize("kind", [LBFGS, CompactLBFGS])
def test_lbfgs_resumes_to_the_bit_from_its_stored_state(problems, kind, already):
    loss, start = problems["bowl"]
    straight = Descent(loss, start, 5, kind=kind)
    for _ in range(already):
        straight.step()
    stored = io.BytesIO()
    torch.save(straight.optimizer.state_dict(), stored)
    resumed = Descent(loss, straight.x, 5, kind=kind)
    resumed.optimizer.load_state_dict(torch.load(io.BytesIO(stored.getvalue()), weights_only=True))
    assert all(torch.equal(straight.step(), resumed.step()) for _ in range(10))


@pytest.mark.parametrize("already", [1, 3, 12])
@pytest.mark.parametrize("kinds", [(LBFGS, CompactLBFGS), (CompactLBFGS, LBFGS)])
def test_a_run_can_change_its_device(problems, kinds, already):
    """The two kinds store the same: what one remembers, the other goes on from."""
    loss, start = problems["hills"]
    one = Descent(loss, start, 5, kind=kinds[0])
    for _ in range(already):
        one.step()
    other = Descent(loss, one.x, 5, kind=kinds[1])
    other.optimizer.load_state_dict(one.optimizer.state_dict())
    assert other.pairs == one.pairs
    for number in range(15):
        assert near(one.step(), other.step()), number


class _Waits(TorchDispatchMode):
    """Counts how often the host asks for a number, which on a GPU it would wait for."""

    seen = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function is torch.ops.aten._local_scalar_dense.default:
            self.seen += 1
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("values", [{}, {"style_loss": "mean_std", "k_TV": 1}, {"content_loss": "l1"}], ids=str)
def test_an_iteration_asks_for_no_number_on_its_way(small, values):
    """So that a GPU need not wait, and a CUDA graph can replay it; LBFGS itself, for CPUs, would ask."""
    settings = Settings(**small, convolution="plain", **values)
    for kind, expected in ((CompactLBFGS, False), (LBFGS, True)):
        iterate = _iteration(settings, kind)
        for _ in range(4):
            with _Waits() as waits:
                iterate()
        assert bool(waits.seen) is expected


def test_what_compact_lbfgs_remembers_stays_in_its_place(problems):
    """A CUDA graph writes where it wrote when it was recorded."""
    loss, start = problems["bowl"]
    descent = Descent(loss, start, 5, kind=CompactLBFGS)
    places = []
    for _ in range(9):
        descent.step()
        places.append({name: value.data_ptr() for name, value in descent.memory.items()})
    assert set(places[1]) == {"S", "Y", "pairs", "g", "moved"}
    assert all(place == places[1] for place in places[1:])


@pytest.mark.parametrize("already", [1, 2, 12])
@pytest.mark.parametrize("problem", ["bowl", "hills", "transfer"])
def test_lbfgs_goes_on_from_the_state_of_torchs(problems, problem, already):
    """As it stands in checkpoints of before 2026-12."""
    loss, start = problems[problem]
    torchs = Descent(loss, start, 5, torchs=True)
    for _ in range(already):
        torchs.step()
    ours = Descent(loss, torchs.x, 5)
    ours.optimizer.load_state_dict(torchs.optimizer.state_dict())
    for number in range(15):
        assert near(ours.step(), torchs.step()), number


def test_what_is_loaded_goes_where_the_picture_is(problems):
    """Told by its floating type, as by its device: torch brings every state but one named `step` to x's."""
    loss, start = problems["bowl"]
    single = Descent(loss, start.float(), 5)
    for _ in range(3):
        single.step()
    double = Descent(loss, single.x.double(), 5)
    double.optimizer.load_state_dict(single.optimizer.state_dict())
    double.step()
    kept = [value for value in double.memory.values() if isinstance(value, torch.Tensor)]
    kept += [value for pairs in (double.memory["s"], double.memory["y"]) for value in pairs]
    assert len(kept) == 8 and all(value.dtype == torch.float64 for value in kept)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("init", value) for value in INITIAL_VALUES],
        *[("style_loss", value) for value in STYLE_LOSSES],
        *[("reduction", value) for value in TECHNIQUES],
        *[("gates", f"{order}:50") for order in ("first", "last", "random")],
    ],
)
def test_a_run_draws_from_its_seed_what_it_says(name, value):
    """Two seeds begin at the same picture with the same loss, unless something is drawn."""
    knobs = TECHNIQUES[value].knobs if name == "reduction" else ()
    some = {knob: by for knob, by in {"amount": 0.5, "bits": 2, "gradient_kept": 0.5}.items() if knob in knobs}
    settings = Settings(**{name: value}, **some, size=64, device="cpu")
    (one, x), (other, y) = (set_up(settings.with_(seed=seed)) for seed in (0, 1))
    alike = torch.equal(x, y) and torch.equal(one(x)["total"], other(y)["total"])
    assert alike is not settings.draws


def test_the_picture_is_not_clamped_while_it_is_optimised(small):
    last = list(lab.transfer(Settings(**small, optimizer="adam", learning_rate=60, iterations=4)))[-1]
    assert last.image.max() > 1


def test_divergence_names_the_iteration(small):
    settings = Settings(**small, k_S=1e12, learning_rate=1000, optimizer="adam")
    objective, x = set_up(settings)

    def explode(x, weights):
        losses = objective(x, weights)
        return {name: value * (float("nan") if bool((x - start).any()) else 1) for name, value in losses.items()}

    start = x.detach().clone()
    explode.shown, explode.shape_at = objective.shown, objective.shape_at
    with pytest.raises(RunError, match="not finite at iteration 1: lower learning_rate or k_S"):
        list(steps(explode, x, make_optimizer(x, settings), settings))


def test_reconstruction_is_a_transfer_with_one_term(small):
    settings = Settings(**small, init="white_noise", content_layers=("relu1_1",), style_layers=(), iterations=100)
    *_, last = lab.transfer(settings)
    error = (last.image - lab.load_image("astronaut", 48)).square().mean()
    assert -10 * error.log10() > 23  # dB: only a working reconstruction from relu1_1 comes so near


def test_with_only_style_the_content_picture_does_not_matter(small):
    """But for its shape: both are square."""
    settings = Settings(**small, init="white_noise", content_layers=(), iterations=3)
    one, other = (list(lab.transfer(settings.with_(content=name))) for name in ("astronaut", "brick"))
    assert all(torch.equal(a.image, b.image) for a, b in zip(one, other, strict=True))
    assert [step.losses for step in one] == [step.losses for step in other]
    both = settings.with_(content_layers=("relu2_1",))
    one, other = (list(lab.transfer(both.with_(content=name))) for name in ("astronaut", "brick"))
    assert not torch.equal(one[-1].image, other[-1].image)


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["float32", "tf32", "bfloat16"])
def test_cuda_agrees_with_the_cpu(small, precision):
    reference = Settings(**small | {"device": "cpu"}, iterations=5)
    runs = reference, reference.with_(device="cuda", precision=precision)
    one, other = (list(lab.transfer(settings))[-1] for settings in runs)
    assert one.losses["total"] == pytest.approx(other.losses["total"], rel=0.02 if precision == "float32" else 0.1)


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["float32", "tf32", "bfloat16"])
def test_cuda_gives_the_same_bytes_twice(small, precision):
    settings = Settings(**small | {"device": "cuda"}, precision=precision, iterations=12)
    one, other = ([step.image for step in lab.transfer(settings)] for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.gpu
def test_cuda_waits_for_nothing_within_an_iteration(small):
    iterate = _iteration(Settings(**small | {"device": "cuda"}))
    for _ in range(3):
        iterate()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(3):
            iterate()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.gpu
def test_an_iteration_can_be_replayed_as_a_cuda_graph(small):
    """The same pictures as without."""
    settings = Settings(**small | {"device": "cuda"})
    recorded, straight = _iteration(settings), _iteration(settings)
    warm = torch.cuda.Stream()
    warm.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(warm):  # as torch asks for, before anything is recorded
        for _ in range(4):
            recorded()
    torch.cuda.current_stream().wait_stream(warm)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        x = recorded()
    for _ in range(3):
        graph.replay()
    for _ in range(7):
        expected = straight()
    assert torch.allclose(x, expected, rtol=0, atol=0.5)  # grey levels


def _iteration(settings: Settings, kind: type = CompactLBFGS):
    """A function that does one iteration of a transfer and returns the picture in grey levels."""
    objective, x = set_up(settings)
    optimizer, weights = kind(x, settings.step_length, settings.history_size), settings.term_weights()

    def iterate() -> torch.Tensor:
        optimizer.zero_grad()
        objective(x, weights)["total"].backward()
        optimizer.step()
        return x.detach()

    return iterate


def test_coarse_to_fine_starts_small_and_ends_at_size(small):
    settings = Settings(**small | {"size": 160, "style": "astronaut"}, scales=3, scale_iterations=2, iterations=5)
    done = list(lab.transfer(settings))
    assert [step.image.shape[2] for step in done] == [40, 40, 80, 80, 160, 160]
    objective, _ = set_up(settings.with_(scales=1))
    last = {name: float(value) for name, value in objective(objective.net.prepare(done[-1].image)).items()}
    assert done[-1].losses == pytest.approx(last, rel=1e-3)  # judged by the full-size pictures


def test_a_larger_picture_is_the_smaller_one_enlarged(small):
    settings = Settings(**small | {"size": 96}, scales=2, scale_iterations=1, iterations=1)
    first, second = lab.transfer(settings)
    shrunk = torch.nn.functional.interpolate(second.image, first.image.shape[2:], mode="area")
    assert 255 * (shrunk - first.image).abs().mean() < 6  # one update lies between them
