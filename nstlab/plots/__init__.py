"""Records in, matplotlib figures out; nothing is computed here."""

from nstlab.plots.pictures import film_strip, losses, pictures, save_figure, triptych

__all__ = ["film_strip", "losses", "pictures", "save_figure", "triptych"]
