"""Interactive widgets for a notebook: panel() for one transfer, explorer() for the network, figures that move."""

from nstlab.widgets.exploring import Explorer, explorer
from nstlab.widgets.guests import Guest
from nstlab.widgets.moving import MovingFigure, by_sliders, divided, on_curve, seen_from
from nstlab.widgets.workbench import Panel, panel
