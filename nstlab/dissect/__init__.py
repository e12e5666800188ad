"""What a layer does to a picture, measured on the network as it is, or with features off; activations in grey levels.

cards.py            a card for each layer, position, feature
features.py         statistics, spectra, the places that excite a feature
preferences.py      the pictures that features like best
reconstructions.py  runs that show what a layer keeps
gradients.py        which term pulls
interventions.py    what features do, by switching them off
groups.py           features that are active together
alignment.py        how alike layers, pictures and networks are
"""

from nstlab.dissect.alignment import cka, gram_cka, layer_similarity, picture_similarity
from nstlab.dissect.cards import (
    Comparison,
    FeatureCard,
    LayerCard,
    PositionCard,
    activations,
    compare_layer,
    feature_card,
    incoming_kernels,
    layer_card,
    layer_cards,
    position_card,
)
from nstlab.dissect.features import (
    Histogram,
    Patch,
    Spectrum,
    angle_to_others,
    best_patches,
    dead_features,
    feature_statistics,
    histogram,
    spectrum,
    spectrum_of,
    top_patches,
    zeros,
)
from nstlab.dissect.gradients import gradient_shares, gradient_shares_along
from nstlab.dissect.groups import Groups, feature_groups
from nstlab.dissect.interventions import gate_derivatives_along, removal_curves, switched_off
from nstlab.dissect.preferences import favourite, favourite_steps, favourites
from nstlab.dissect.reconstructions import Reconstruction, content_reconstruction, reconstruct, style_reconstruction
from nstlab.metrics import psnr, similarity
from nstlab.network import Box, pixel_gradient, position_at, receptive_box
from nstlab.optimise import gate_derivatives, gated_losses, off, ranked
