"""The network: a sequence of named functions from pictures to activations.

sequence.py          a network as a sequence of any functions; layer.py, measuring.py: what each of them does
vgg19.py             the 37 functions F1 ... F37 and their descriptions; VGG16
efficientnet.py      EfficientNet-Lite0, stage by stage
networks.py          the networks by name
weights.py           where their weights come from; formats.py, weights_files.py: other tools' files, read safely
gating.py            features that are scaled or switched off
convolution.py       3x3 convolutions, forward and backward, as fast as a CPU allows; winograd.py: with fewer products;
                     onednn.py: with private functions of torch; fused.py, pooling.py, relu.py: and what follows them
arena.py             memory for large tensors, which one takes from another
receptive_fields.py  what a position sees
sparse_gradients.py  gradients of which only the strongest entries are passed back
device.py            the device to compute on
"""

from nstlab.network.arena import Arena, make_arena
from nstlab.network.convolution import (
    Kernels,
    algorithm,
    algorithms,
    bordered,
    bytes_kept,
    convolve,
    is_fast,
    is_in_strips,
    workspace,
)
from nstlab.network.device import bfloat16_units, choose_device, in_double
from nstlab.network.formats import TORCHVISION_SCALE
from nstlab.network.fused import is_computed_again
from nstlab.network.layer import Layer
from nstlab.network.networks import (
    NETWORKS,
    defaults_of,
    layers_of,
    load_network,
    make_network,
    network_read_as,
    network_sha256,
)
from nstlab.network.onednn import at_least_float32, has_wide_vectors, product, symmetric_product
from nstlab.network.receptive_fields import Box, pixel_gradient, position_at, receptive_box
from nstlab.network.relu import order_of
from nstlab.network.sequence import Network
from nstlab.network.vgg19 import VGG16, VGG19, describe_layers, load_vgg19
from nstlab.network.weights import (
    ORIGINAL_MEAN,
    SOURCES,
    Weights,
    needs_download,
    read_weights,
    sha256_of_tensors,
    torchvisions_file,
    weights_read_as,
    weights_sha256,
)
from nstlab.network.weights_files import check_torch_file
