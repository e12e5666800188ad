"""Other tools' command lines, in nstlab's settings: what their numbers mean here, and what has no counterpart.

likeness.py      a command line in, settings and notes out; the default weights of all tools
command_line.py  options, read as the tools' own parsers read them
units.py         from their losses to k_S, style_layer_weights and k_TV
translation.py   what a tool is
gatys.py, pastiche.py, neural_style.py, gordicaleksa.py, crowsonkb.py: a tool each, with its source, its options and
their defaults
"""

from nstlab.other_tools.likeness import TOOLS, Likeness, default_weights, like

__all__ = ["TOOLS", "Likeness", "default_weights", "like"]
