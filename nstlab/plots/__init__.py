"""Records in, matplotlib figures out; nothing is computed here."""

from nstlab.plots.alternative import described, draws, in_words
from nstlab.plots.control import borders, captioned_rows, lines, masks
from nstlab.plots.courses import bars, by_layer, drift, film_strips, over_iterations, picture_table
from nstlab.plots.dissection import favourites, gradient_shares, reconstruction_quality, reconstructions
from nstlab.plots.features import (
    box_colours,
    colour_stops,
    feature_card,
    feature_details,
    overlay_png,
    png,
    position_card,
)
from nstlab.plots.interventions import (
    by_gates,
    carried,
    grams,
    predictions,
    removal_curves,
    served,
    similarity_matrices,
    where_groups_act,
)
from nstlab.plots.layers import (
    comparison,
    contact_sheet,
    layer_card,
    layer_profile,
    network,
    receptive_fields,
    scale,
)
from nstlab.plots.reduction import (
    angle_histograms,
    cross_table,
    feature_pairs,
    metric_ranks,
    reduction_curves,
    tiles,
    tolerance,
)
from nstlab.plots.statistics import effects, with_intervals
from nstlab.plots.sweeps import (
    clusters,
    knob_sensitivity,
    loss_surfaces,
    sheet_png,
    sheet_tiles,
    sweep_sheets,
    trade_off,
    value_label,
)
from nstlab.plots.transfers import LAYER_COLOURS, film_strip, losses, pictures, save_figure, triptych

for _name, _draw in list(globals().items()):
    if draws(_draw):
        globals()[_name] = described(_draw)
