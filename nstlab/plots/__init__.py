"""Records in, matplotlib figures out; nothing is computed here."""

from nstlab.plots.courses import bars, by_layer, drift, film_strips, over_iterations, picture_table
from nstlab.plots.features import box_colours, feature_card, overlay_png, png, position_card
from nstlab.plots.layers import (
    comparison,
    contact_sheet,
    layer_card,
    layer_profile,
    network,
    receptive_fields,
    scale,
)
from nstlab.plots.pictures import film_strip, losses, pictures, save_figure, triptych
from nstlab.plots.reconstructions import favourites, gradient_shares, reconstruction_quality, reconstructions
from nstlab.plots.reduction import (
    angle_histograms,
    cross_table,
    feature_pairs,
    metric_ranks,
    reduction_curves,
    tiles,
    tolerance,
)
from nstlab.plots.sweeps import (
    clusters,
    knob_sensitivity,
    loss_surfaces,
    sheet_png,
    sweep_sheets,
    trade_off,
    value_label,
)

__all__ = [
    "angle_histograms",
    "bars",
    "box_colours",
    "by_layer",
    "clusters",
    "comparison",
    "contact_sheet",
    "cross_table",
    "drift",
    "favourites",
    "feature_card",
    "feature_pairs",
    "film_strip",
    "film_strips",
    "gradient_shares",
    "knob_sensitivity",
    "layer_card",
    "layer_profile",
    "loss_surfaces",
    "losses",
    "metric_ranks",
    "network",
    "over_iterations",
    "overlay_png",
    "picture_table",
    "pictures",
    "png",
    "position_card",
    "receptive_fields",
    "reconstruction_quality",
    "reconstructions",
    "reduction_curves",
    "save_figure",
    "scale",
    "sheet_png",
    "sweep_sheets",
    "tiles",
    "tolerance",
    "trade_off",
    "triptych",
    "value_label",
]
