"""Formulas in TeX as MathML, which browsers draw themselves: no script, no network."""

from __future__ import annotations


def mathml(tex: str, as_block: bool = False) -> str:
    """A formula in TeX as a <math> element; as_block: on a line of its own.

    Raises ValueError for TeX that docutils does not know.

    >>> mathml("k_S").split()
    ['<math', 'xmlns="http://www.w3.org/1998/Math/MathML">', '<msub>', '<mi>k</mi>', '<mi>S</mi>', '</msub>', '</math>']
    """
    from docutils.utils.math.latex2mathml import tex2mathml

    tex = tex.replace(r"\dots", r"\ldots").replace(r"\operatorname", r"\,\operatorname")
    return tex2mathml(tex, as_block=as_block)
