"""Smaller networks: which there are, what they leave of a network, what they cost.

techniques.py       the techniques, by name, and `reduced`, which turns a VGG19 into one that can replace it
shrinking.py        removes channels layer by layer
distinctiveness.py  which channels are the same feature twice
codebooks.py        weights that are shared, pruned and coded
costs.py            parameters, multiply-adds, bytes; what a channel matters to a loss
"""

from nstlab.reduction.costs import Cost, cost, gate_derivatives
from nstlab.reduction.distinctiveness import Selection, merge
from nstlab.reduction.shrinking import Channels
from nstlab.reduction.techniques import TECHNIQUES, Technique, reduced
