import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nstlab.errors import RequestError
from nstlab.layers import layer_names
from nstlab.optimise import INITIAL_VALUES
from nstlab.settings import Settings, as_text


def test_every_setting_says_what_it_means():
    for name, field in Settings.model_fields.items():
        assert field.description, name


def test_unknown_name_names_the_nearest():
    with pytest.raises(RequestError, match="unknown setting 'k_s': did you mean 'k_S'"):
        Settings(k_s=3)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"k_S": -1}, "k_S"),
        ({"k_S": float("nan")}, "k_S"),
        ({"size": 31}, "size"),
        ({"init": "noise"}, "white_noise"),
        ({"iterations": -1}, "iterations"),
        ({"style_layers": ("relu4_9",)}, "did you mean 'relu4_"),
        ({"style_layers": ("relu1_1", "relu1_1")}, "twice"),
        ({"style_layers": (), "content_layers": ()}, "nothing to optimise"),
        ({"style_layer_weights": (1.0, 2.0)}, "2 style_layer_weights for 5"),
        ({"style_layer_weights": (1.0, 2.0, 3.0, 4.0, -5.0)}, "negative"),
        ({"weights": "orignal-8bit"}, "did you mean 'original-8bit'"),
        ({"device": "gpu"}, "device = 'gpu': should be one of auto, cpu, cuda, cuda:1, mps"),
        ({"content": ""}, "content"),
        ({"content": "a\0b"}, "content"),
    ],
)
def test_a_bad_value_is_refused_in_one_line(values, words):
    with pytest.raises(RequestError) as error:
        Settings(**values)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_frozen():
    with pytest.raises(Exception, match="frozen"):
        Settings().k_S = 3


def test_text_as_a_command_line_has_it():
    settings = Settings.from_text(
        {"k_S": "1e2", "style_layers": "relu1_1,relu2_1", "learning_rate": "none", "content_layers": ""}
    )
    assert settings.k_S == 100
    assert settings.style_layers == ("relu1_1", "relu2_1")
    assert settings.learning_rate is None
    assert settings.content_layers == ()


@given(
    k_S=st.floats(0, 1e12),
    changes=st.dictionaries(st.integers(1, 10**6), st.floats(0, 1e12), max_size=3).map(lambda d: sorted(d.items())),
    weights=st.lists(st.floats(0, 1e6), min_size=1, max_size=4) | st.none() | st.just("balanced"),
    rate=st.none() | st.floats(1e-6, 1000),
)
def test_text_there_and_back(k_S, changes, weights, rate):
    count = len(weights) if isinstance(weights, list) else 2
    layers = {"style_layers": layer_names()[:count], "style_layer_weights": weights}
    settings = Settings(k_S=k_S, k_S_changes=changes, learning_rate=rate, **layers)
    assert Settings.from_text({name: as_text(value) for name, value in settings.changed().items()}) == settings
    everything = {name: as_text(value) for name, value in settings.model_dump(mode="json").items()}
    assert Settings.from_text(everything) == settings


def test_text_that_agrees_with_where_the_rest_comes_from():
    base = Settings(style_layers=("relu1_1", "relu2_1"), k_S=3)
    settings = Settings.from_text({"style_layer_weights": "1,2"}, base)
    assert settings.style_layer_weights == (1, 2) and settings.k_S == 3


def test_a_word_is_a_name_and_a_path_becomes_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert Settings(content="coffee").content == "coffee"
    assert Settings(content="mine.jpg").content == str(tmp_path / "mine.jpg")
    assert Settings(weights="./w.pth").weights == str(tmp_path / "w.pth")


@given(
    k_S=st.floats(0, 1e12),
    init=st.sampled_from(list(INITIAL_VALUES)),
    layers=st.lists(st.sampled_from(layer_names()), unique=True, min_size=1).map(tuple),
    rate=st.none() | st.floats(1e-6, 1000),
)
def test_json_there_and_back(k_S, init, layers, rate):
    settings = Settings(k_S=k_S, init=init, style_layers=layers, learning_rate=rate)
    assert Settings(**json.loads(settings.model_dump_json())) == settings
    assert Settings(**settings.changed()) == settings


def test_layers_are_named_as_in_the_papers():
    names = layer_names()
    assert len(names) == 37
    assert names[:5] == ("conv1_1", "relu1_1", "conv1_2", "relu1_2", "pool1")
    assert names[-2:] == ("relu5_4", "pool5")
