import pytest
import torch

import nstlab as lab
from nstlab.errors import RequestError
from nstlab.layers import layer_names

# Simonyan & Zisserman 2015, table 1, worked out by hand: jump, receptive field
KNOWN = {
    "conv1_1": (1, 3),
    "conv1_2": (1, 5),
    "pool1": (2, 6),
    "conv2_1": (2, 10),
    "conv3_1": (4, 24),
    "pool3": (8, 52),
}
KNOWN |= {"conv4_1": (8, 68), "conv4_4": (8, 116), "conv5_1": (16, 156), "conv5_4": (16, 252), "pool5": (32, 268)}


def test_the_table_of_layers(net):
    assert [layer.name for layer in net.layers] == list(layer_names())
    assert {name: (net.layer(name).stride, net.layer(name).receptive_field) for name in KNOWN} == KNOWN
    assert sum(layer.parameters for layer in net.layers) == 20_024_384
    assert sum(layer.multiply_adds(224, 224) for layer in net.layers) == 19_508_428_800
    assert sum(layer.parameters for layer in net.layers[:30]) == 12_944_960  # through relu5_1
    assert net.layer("conv1_1").multiply_adds(224, 224) == 86_704_128


@pytest.mark.parametrize("pooling", ["average", "max"])
def test_receptive_field_and_stride_against_the_gradients_support(pooling):
    """The pixels that one position depends on: all of the field with average pooling, part of it with max."""
    net = lab.load_vgg19("random", pooling=pooling, device="cpu", convolution="plain")  # zeros stay zeros
    for layer in net.layers:  # positive weights and inputs: nothing cancels, no ReLU shuts
        if layer.kind == "conv":
            getattr(net, f"{layer.name}_weight").abs_()
    for layer in net.layers:
        if layer.kind == "relu":  # sees what its convolution sees
            continue
        side = layer.receptive_field + 3 * layer.stride
        side += -side % layer.stride
        x = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(layer.index)).requires_grad_()
        activation = net(x, keep=[layer.name])[layer.name]
        middle = activation.shape[2] // 2
        spans = []
        for position in (middle - 1, middle):
            (gradient,) = torch.autograd.grad(activation[0, :, position, position].sum(), x, retain_graph=True)
            rows = gradient.abs().sum((0, 1, 3)).nonzero().flatten()
            spans.append((int(rows[0]), int(rows[-1]) + 1))
        (first, last), (first_next, _) = spans
        if pooling == "average":
            inside = first > 0 and last < side
            assert not inside or last - first == layer.receptive_field, layer
            assert not inside or first_next - first == layer.stride, layer
        else:
            assert last - first <= layer.receptive_field, layer


def test_a_relu_does_not_overwrite_its_convolution(net, noise):
    kept = net(net.prepare(noise), keep=["conv1_1", "relu1_1"])
    assert kept["conv1_1"].min() < 0
    assert torch.equal(kept["conv1_1"].clamp(min=0), kept["relu1_1"])


def test_nothing_deeper_than_needed(net):
    assert net.groups(["relu2_1", "conv1_2"])[-1] == ("conv2_1", "relu2_1")
    assert net.groups([]) == []


def test_what_is_asked_for_is_never_fused_away(net):
    for kept in ([name] for name in layer_names()):
        groups = net.groups(kept)
        assert [name for group in groups for name in group] == list(layer_names()[: net.layer(kept[0]).index])
        assert groups[-1][-1] == kept[0]
    everything = net.groups(layer_names())
    assert everything == [(name,) for name in layer_names()]


def test_the_network_is_its_layers_one_by_one(net, noise):
    x = net.prepare(noise)
    kept = net(x, keep=layer_names())
    for name in layer_names():
        x = net.apply_layer(name, x)
        assert torch.equal(x, kept[name])


def test_an_unknown_layer_names_the_nearest(net, noise):
    with pytest.raises(RequestError, match="unknown layer 'relu41': did you mean 'relu4_1'"):
        net(noise, keep=["relu41"])


def test_prepare_and_restore_are_inverse(net, noise):
    assert torch.allclose(net.restore(net.prepare(noise)), noise, atol=1e-6)


def test_homogeneous_without_biases(random_net, noise):
    """Untrained weights have no biases: twice the input is exactly twice every activation."""
    x = random_net.prepare(noise.double())
    once, twice = random_net(x, keep=["relu5_1"]), random_net(2 * x, keep=["relu5_1"])
    assert torch.equal(2 * once["relu5_1"], twice["relu5_1"])


def test_shifting_by_the_jump_shifts_interior_features(net):
    picture = torch.rand(1, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    jump = net.layer("relu3_1").stride
    here = net(net.prepare(picture[:, :, :88, :88]), keep=["relu3_1"])["relu3_1"]
    there = net(net.prepare(picture[:, :, jump : 88 + jump, jump : 88 + jump]), keep=["relu3_1"])["relu3_1"]
    assert torch.allclose(here[:, :, 7:-6, 7:-6], there[:, :, 6:-7, 6:-7], rtol=1e-4, atol=1e-2)


def test_statistics_of_the_original_weights(net):
    """Measured with these weights before: zeros, and how many directions a Gram over pictures has."""
    expected = {  # zeros, participation ratio, entropy rank
        "relu1_1": (0.46, 4.1, 6),
        "relu2_1": (0.36, 4.4, 14),
        "relu3_1": (0.53, 10.6, 40),
        "relu4_1": (0.47, 6.2, 31),
        "relu5_1": (0.76, 32, 130),
    }
    pictures = [
        net.prepare(lab.load_image(name, 256)) for name in ("astronaut", "coffee", "chelsea", "rocket", "tissue")
    ]
    kept = [net(picture, keep=expected) for picture in pictures]
    for layer, (zeros, ratio, rank) in expected.items():
        found = sum(float((activations[layer] == 0).float().mean()) for activations in kept) / len(kept)
        assert found == pytest.approx(zeros, abs=0.08), layer
        eigenvalues = torch.linalg.eigvalsh(sum(lab.gram(activations[layer]) for activations in kept).double())
        p = eigenvalues.clamp(min=0) / eigenvalues.sum()
        assert 1 / 1.6 < float(1 / p.square().sum()) / ratio < 1.6, layer
        assert 1 / 1.6 < float((-torch.xlogy(p, p).sum()).exp()) / rank < 1.6, layer


def test_pooling_of_odd_sizes(net):
    odd = torch.rand(1, 3, 97, 131)
    assert net(odd, keep=["pool1", "pool3"])["pool3"].shape == (1, 256, 12, 16)
    assert net.layer("pool3").size(97, 131) == (12, 16)


def test_a_device_that_is_not_there():
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    with pytest.raises(RequestError, match="use device=cpu"):
        lab.load_vgg19("random", device="cuda")
