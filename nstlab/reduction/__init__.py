"""Smaller networks: which there are, what they leave of a network, what it costs.

techniques.py       the ways, by name, and `reduced`, which makes of a VGG19 another one that takes its place
shrinking.py        channels taken away layer by layer
distinctiveness.py  which channels are the same feature twice
codebooks.py        weights that are shared, pruned and coded
costs.py            parameters, multiply-adds, bytes; what a channel means to a loss
"""

from nstlab.reduction.costs import Cost, cost, gate_derivatives
from nstlab.reduction.distinctiveness import Selection, merge
from nstlab.reduction.shrinking import Channels
from nstlab.reduction.techniques import TECHNIQUES, Technique, reduced
