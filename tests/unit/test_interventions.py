"""What switching features off does to the losses, against finite differences, closed forms and a planted feature."""

import pandas as pd
import pytest
import torch

import nstlab as lab
from nstlab import dissect
from nstlab.errors import RequestError
from nstlab.images import Pictures
from nstlab.network import Network
from nstlab.optimise import Objective, cover, set_up
from nstlab.settings import Settings

SETTINGS = Settings(size=48, k_S=100, iterations=3, device="cpu", convolution="plain")


@pytest.fixture(scope="module")
def painting():
    """An objective, and a picture between content and style, where both losses are not 0."""
    objective, x = set_up(SETTINGS.with_(init="average"))
    return objective, x.detach()


@pytest.mark.parametrize("targets", ["gated", "whole"])
def test_derivatives_are_those_of_finite_differences(targets):
    content, style = (cover(lab.load_image(name, 48), 32, 32).double() for name in ("astronaut", "swirl"))
    pictures = Pictures(content, (style,))
    net = lab.load_vgg19(device="cpu", convolution="plain").double()
    objective = Objective(net, pictures, SETTINGS)
    x = net.prepare((content + style) / 2)
    table = dissect.gate_derivatives(objective, x, ["relu1_1", "relu4_1"], targets).set_index(["layer", "feature"])
    for layer, feature in (("relu1_1", 5), ("relu4_1", 59), ("relu4_1", 0)):
        moved = [dissect.gated_losses(objective, x, {layer: {feature: 1 + h}}, targets) for h in (1e-4, -1e-4)]
        for term in ("style", "content"):
            slope = float(moved[0][term] - moved[1][term]) / 2e-4
            assert table.loc[(layer, feature), term] == pytest.approx(slope, rel=1e-3, abs=1e-6 * float(moved[0][term]))


def test_the_derivatives_of_the_deepest_layer_add_up(painting):
    """Its Gram is of degree 2 in the gates, its loss of degree 4: Euler's theorem for homogeneous functions."""
    objective, x = painting
    deepest = dissect.gate_derivatives(objective, x, ["relu5_1"])
    assert deepest["style"].sum() == pytest.approx(4 * float(objective(x)["relu5_1"]), rel=1e-3)


def test_small_gates_change_the_loss_as_predicted_and_large_ones_differently(painting):
    objective, x = painting
    ranking = dissect.ranked(dissect.gate_derivatives(objective, x))
    found = dissect.switched_off(objective, x, [*ranking[:2], ranking[-1]])
    assert found["style_predicted"].iloc[0] < found["style_predicted"].iloc[1] < 0
    assert found["style"].iloc[0] < 0  # what asks for most is asked for no more
    assert abs(found["style"].iloc[0] - found["style_predicted"].iloc[0]) > 0.01 * abs(found["style"].iloc[0])
    assert abs(found["style"].iloc[2]) < 1e-3 * abs(found["style"].iloc[0])


def test_the_style_picture_asks_for_nothing_and_loses_what_it_has(painting):
    objective, _ = painting
    style = objective.net.prepare(objective.pictures[0].styles[0])
    at_style = Objective(
        objective.net, Pictures(objective.pictures[0].styles[0], objective.pictures[0].styles), SETTINGS
    )
    assert dissect.gate_derivatives(at_style, style)["style"].abs().max() < 1e-3
    lost = dissect.gated_losses(at_style, style, "relu4_1:0-255", targets="whole")
    assert float(lost["style"]) > 1 and float(dissect.gated_losses(at_style, style, "relu4_1:0-255")["style"]) < 1e-3


def test_a_feature_that_alone_carries_a_style_is_found_first():
    """A planted network: content is brightness, and the style differs from it in one of eight features."""
    draw = torch.Generator().manual_seed(0)
    mixing = torch.rand(8, 3, generator=draw)
    mixing[3] = torch.tensor([5.0, -5.0, 0.0])  # red without green: nothing grey has it
    mix = torch.nn.Conv2d(3, 8, 1, bias=False)
    mix.weight.data = mixing.view(8, 3, 1, 1)
    net = Network({"mix": mix, "relu": torch.nn.ReLU()}, mean=(0, 0, 0), content_layers=["mix"], style_layers=["relu"])
    grey = torch.rand(1, 1, 24, 24, generator=draw).expand(1, 3, 24, 24)
    red = grey + torch.tensor([0.2, -0.2, 0.0]).view(1, 3, 1, 1)
    settings = Settings(size=32).model_copy(update={"content_layers": ("mix",), "style_layers": ("relu",)})
    objective = Objective(net, Pictures(grey, (red,)), settings)
    x = net.prepare(grey)
    assert dissect.ranked(dissect.gate_derivatives(objective, x))[0] == ("relu", 3)
    curves = dissect.removal_curves(objective, x, [("relu", f) for f in (3, 0, 1, 2, 4, 5, 6, 7)], [0, 1], draws=3)
    style = curves[curves["removed"] == 1].groupby("order")["style"].mean()
    whole = curves[curves["removed"] == 0]["style"].mean()
    assert style["first"] < 0.2 * whole < style["last"]


def test_curves_start_at_the_loss_and_the_first_lose_it_first(painting):
    objective, x = painting
    ranking = dissect.ranked(dissect.gate_derivatives(objective, x, ["relu4_1"]))
    curves = dissect.removal_curves(objective, x, ranking, [0, 32, 512], draws=2)
    assert len(curves) == 4 * 3
    assert curves[curves["removed"] == 0]["style"].to_numpy() == pytest.approx(float(objective(x)["style"]), rel=1e-4)
    assert curves[curves["removed"] == 512]["style"].std() < 1e-3 * curves["style"].mean()  # whatever the order
    some = curves[curves["removed"] == 32].groupby("order")["style"].mean()
    assert some["first"] < some["random"] < some["last"]
    again = dissect.removal_curves(objective, x, ranking, [0, 32, 512], draws=2)
    pd.testing.assert_frame_equal(curves, again)
    with pytest.raises(RequestError, match="between 0 and 512"):
        dissect.removal_curves(objective, x, ranking, [513])


def test_along_a_transfer_in_units_of_the_loss():
    table, image = dissect.gate_derivatives_along(SETTINGS, [0, 3], ["relu5_1"])
    assert list(table["iteration"].unique()) == [0, 3] and image.shape[1] == 3
    assert (table[table["iteration"] == 0]["content"] == 0).all()  # the content picture has no content loss
    with pytest.raises(RequestError, match="between 0 and 3"):
        dissect.gate_derivatives_along(SETTINGS, [4])


def test_what_is_exported_is_the_setting(painting):
    gates = dissect.off([("relu4_1", 12), ("relu3_1", 3), ("relu4_1", 13)])
    assert Settings(gates=gates).gates == "relu3_1:3;relu4_1:12-13"
    with pytest.raises(RequestError, match="did you mean 'whole'"):
        dissect.gated_losses(*painting, {}, targets="wole")
