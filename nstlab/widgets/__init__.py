"""Interactive widgets for a notebook: panel() for one transfer, explorer() for the network."""

from nstlab.widgets.exploring import Explorer, explorer
from nstlab.widgets.workbench import Panel, panel
