"""The transfer: what is minimised, and how.

losses.py     how activations are compared, for content and style: pure functions
masks.py, colour.py, smoothness.py  control: where a style goes, whose colours, how rough
objective.py  the terms of the loss, by name, for one pair of pictures; tiles.py: the same in bounded memory
carriers.py   which features carry a loss
initial.py    the picture at iteration 0
lbfgs.py      the optimiser, written out; compact_lbfgs.py  the same for a GPU
descent.py    the steps; together.py: those of several transfers, in one batch
networks.py   the network that the settings ask for, whole or reduced
memory.py, pace.py  forecasts of memory and time
"""

from nstlab.optimise.carriers import BY_GATE, Feature, chosen_gates, gate_derivatives, gated_losses, off, ranked
from nstlab.optimise.colour import luminance, matched, recombined, to_paint_from, to_show
from nstlab.optimise.descent import (
    Descent,
    Optimizer,
    Step,
    check_code,
    check_state,
    initial_picture,
    least_side,
    make_optimizer,
    set_up,
    steps,
    transfer,
)
from nstlab.optimise.initial import INITIAL_VALUES, cover, initial_value
from nstlab.optimise.lbfgs import LBFGS
from nstlab.optimise.losses import (
    CONTENT_LOSSES,
    STYLE_LOSSES,
    StyleLoss,
    content_loss,
    firing,
    gaussian,
    gaussian_w2_loss,
    gram,
    layer_weights,
    mmd_gaussian_loss,
    projections,
    samples,
    sliced_wasserstein_loss,
    style_loss,
    style_loss_of,
)
from nstlab.optimise.masks import weighted
from nstlab.optimise.memory import computed_layers, is_out_of_memory, is_tiled, memory_free, memory_needed, with_tile
from nstlab.optimise.networks import load_network, reduced_network, settled, with_own_layers
from nstlab.optimise.objective import TERMS, Objective, Term, weighted_sum
from nstlab.optimise.pace import Forecast, first_rate, forecast, measured_rate
from nstlab.optimise.smoothness import absolute_variation, squared_variation
from nstlab.optimise.tiles import TiledObjective, margins
from nstlab.optimise.together import check_batch, losses_together, network_in_common
