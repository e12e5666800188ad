"""The explorer's switches: several, undone, exported; what the style asks for; a painting without them."""

import pytest

import nstlab as lab
from nstlab.errors import RequestError
from nstlab.settings import Settings


@pytest.fixture(scope="module")
def tool():
    return lab.explorer("astronaut", "swirl", size=64, net=lab.load_vgg19(device="cpu"))


@pytest.fixture
def switches(tool):
    found = tool.controls["switches"]
    found.switch("")
    return found


def told(switches):
    """The percentages that are shown, by name."""
    rows = switches.told.value.split('<div class="nst-switches-bar">')[1:]
    return {row.split("</span>")[0][6:]: float(row.split("</i>")[-1].split("%")[0]) for row in rows}


def test_a_click_switches_off_and_on_and_is_undone(tool, switches):
    assert told(switches)["style"] == 100 and switches.gates == "" and switches.reset_button.disabled
    tool.choose("relu3_1", 7)
    assert switches.toggle_button.description == "Switch relu3_1 #7 off"
    switches.toggle_button.click()
    tool.choose("relu1_1", 5)
    switches.toggle_button.click()
    assert switches.text.value == switches.gates == "relu3_1:7;relu1_1:5" and told(switches)["style"] < 100
    assert "2 features are off" in switches.told.value
    tool.choose("relu3_1", 7)
    assert switches.toggle_button.description == "Switch relu3_1 #7 on"
    switches.toggle_button.click()
    assert switches.gates == "relu1_1:5"
    switches.undo_button.click()
    assert switches.gates == "relu3_1:7;relu1_1:5"
    switches.reset_button.click()
    assert switches.gates == "" and told(switches)["style"] == 100 and "no features are off" in switches.told.value


def test_what_carries_most_takes_most_and_is_a_setting(switches):
    left = {}
    for gates in ("first:50", "random:50", "last:50"):
        switches.text.value = gates
        left[gates] = told(switches)["style"]
        assert Settings(gates=switches.gates).gates
        assert "50 features are off" in switches.told.value
    assert left["first:50"] < left["random:50"] <= left["last:50"] == 100


def test_what_cannot_be_switched_is_said_and_changes_nothing(switches):
    switches.switch("relu3_1:7")
    for text in ("relu3_1:999", "nonsense", "first:99999", "relu9_1:1"):
        switches.text.value = text
        assert 'role="alert"' in switches.told.value and switches.gates == "relu3_1:7"
    with pytest.raises(RequestError):
        switches.switch("relu3_1:999")


def test_it_paints_without_them_and_remembers(switches):
    painting = switches.repainting
    painting.iterations = 3
    missing = {}
    for gates in ("", "first:400"):
        switches.switch(gates)
        painting.button.click()
        painting.wait(60)
        assert painting.picture.value and "of the style is missing" in painting.line.value
        missing[gates] = float(painting.line.value.split(": ")[1].split("%")[0])
    assert missing[""] < missing["first:400"]
    switches.switch("")
    assert painting.picture.value and painting.button.layout.display == "none"


def test_one_picture_has_no_style_to_lose():
    alone = lab.explorer("astronaut", size=48, net=lab.load_vgg19("random", device="cpu"))
    assert "switches" not in alone.controls
