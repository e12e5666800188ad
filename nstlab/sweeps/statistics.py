"""What a replicated sweep can say: effects with intervals, comparisons, shares of variance, ranks, and what it cannot.

The *pair* (content, style) is what findings are to hold for, so pairs are what is resampled and compared within; runs
of one pair that differ in their seed alone are not further evidence, but tell how large noise is. All of it is scipy's
and statsmodels'; here it is only asked of a table.
"""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist
from typing import Any

import numpy as np
import pandas as pd

from nstlab.errors import RequestError

PAIR = ("content", "style")
LEVEL = 0.95
"""Of the intervals; 1 - LEVEL is the rate at which a knob without an effect is taken to have one."""
DRAWS = 9999
EMPTY = "none"


@dataclass(frozen=True)
class Study:
    """One number of a sweep's table, over its factors and its replicates.

    table: a row for each run; factors: the columns that the sweep varies on purpose; value: the column in question;
    pair: the columns that say which pictures; seed: the column of seeds, if there is one; log: take the logarithm to
    base 10, for numbers that differ by factors. Only pairs that have every combination of the factors count; `missing`
    are the others. Raises RequestError for columns that are not there, and if no pair is complete.
    """

    table: pd.DataFrame
    factors: Sequence[str]
    value: str
    pair: Sequence[str] = PAIR
    seed: str = "seed"
    log: bool = False

    def __post_init__(self) -> None:
        for name in (*self.factors, self.value, *self.pair):
            if name not in self.table:
                raise RequestError(f"the table has no column {name}; it has {', '.join(self.table)}")
        if not self.factors:
            raise RequestError("a study needs at least one factor that varies")
        if self.cells.empty:
            raise RequestError(f"no pair of pictures has {self.value} for every combination of {self._names}")

    @property
    def _names(self) -> str:
        return " and ".join(self.factors)

    @cached_property
    def runs(self) -> pd.DataFrame:
        """The columns that count, with labels for factors and pairs: pair, the factors, seed, value."""
        runs = self.table[list(self.factors)].astype(object)
        runs = runs.where(runs.notna(), EMPTY)
        pairs = self.table[list(self.pair)].astype(str)
        runs["pair"] = pairs.agg(", ".join, axis=1) if len(self.pair) else "all"
        runs["seed"] = self.table.get(self.seed, 0)
        values = self.table[self.value].astype(float)
        runs["value"] = np.log10(values.where(values > 0)) if self.log else values
        return runs

    @cached_property
    def _all_cells(self) -> pd.DataFrame:
        means = self.runs.groupby(["pair", *self.factors], sort=False)["value"].mean()
        levels = [list(dict.fromkeys(self.runs[name])) for name in self.factors]
        wanted = pd.MultiIndex.from_product(levels, names=list(self.factors))
        pairs = {pair: part.droplevel("pair").to_dict() for pair, part in means.groupby("pair", sort=False)}
        found = [[cells.get(key if len(levels) > 1 else key[0], np.nan) for key in wanted] for cells in pairs.values()]
        return pd.DataFrame(found, pd.Index(pairs, name="pair"), wanted)

    @cached_property
    def cells(self) -> pd.DataFrame:
        """Mean over the seeds: a row for each complete pair, a column for each combination of the factors."""
        return self._all_cells.dropna()

    @property
    def missing(self) -> list[str]:
        """The pairs that lack a combination, and do not count."""
        return [pair for pair in self._all_cells.index if pair not in self.cells.index]

    def by(self, factor: str) -> pd.DataFrame:
        """Mean over the seeds and the other factors: a row for each pair, a column for each level of one factor."""
        if factor not in self.factors:
            raise RequestError(f"{factor} is no factor of this study: {self._names}")
        return self.cells.T.groupby(level=factor, sort=False).mean().T

    @cached_property
    def noise(self) -> float:
        """The standard deviation between runs that differ in their seed alone; NaN without such runs."""
        kept = self.runs[self.runs["pair"].isin(self.cells.index)]
        groups = kept.groupby(["pair", *self.factors], sort=False)["value"]
        freedom = (groups.count() - 1).clip(lower=0)
        if not freedom.sum():
            return float("nan")
        return float(np.sqrt((groups.var().fillna(0) * freedom).sum() / freedom.sum()))

    def effects(self) -> pd.DataFrame:
        """How far each level lies from the mean of its factor's levels, within a pair; one row for each level.

        Columns factor, level, mean (of the value), effect, low and high: a bootstrap interval over pairs (bias-
        corrected and accelerated, Efron 1987), NaN for fewer than three. With few pairs such an interval is too
        narrow: of eight planted pairs it has the truth nine times in ten.
        """
        rows = []
        for factor in self.factors:
            by = self.by(factor)
            apart = by.sub(by.mean(axis=1), axis=0)
            for level in by:
                low, high = interval(apart[level])
                effect = {"effect": apart[level].mean(), "low": low, "high": high}
                rows.append({"factor": factor, "level": level, "mean": by[level].mean(), **effect})
        return pd.DataFrame(rows)

    def change(self, factor: str, a: Any, b: Any) -> dict[str, Any]:
        """From level a to level b of a factor within pairs, asked by itself: one row of `comparisons`, uncorrected.

        Keys a, b; difference (b - a), low, high: as in `effects`; wins: in how many pairs b is larger; p: of a paired
        t-test; pairs: how many there are. Raises RequestError for a level that is not there.
        """
        by = self.by(factor)
        for level in (a, b):
            if level not in by:
                raise RequestError(f"{factor} has no level {level}; it has {', '.join(map(str, by))}")
        apart = by[b] - by[a]
        low, high = interval(apart)
        found = {"difference": apart.mean(), "low": low, "high": high, "wins": int((apart > 0).sum())}
        return {"a": a, "b": b, **found, "p": _chance(apart), "pairs": len(apart)}

    def comparisons(self, factor: str) -> pd.DataFrame:
        """Each two levels of a factor, compared within pairs; one row for each two.

        Columns as the keys of `change`, with p corrected by Holm's method for the number of comparisons; noise: the
        difference that seeds alone make at this rate (NaN: not known); stands_out: p is small enough and the
        difference larger than noise.
        """
        from statsmodels.stats.multitest import multipletests  # like scipy.stats, most of a second to load

        by = self.by(factor)
        seeds = self.runs.groupby(["pair", *self.factors])["seed"].nunique().min()
        averaged = len(by) * max(int(seeds), 1) * self.cells.shape[1] / by.shape[1]
        noise = self.noise * np.sqrt(2 / averaged) * NormalDist().inv_cdf(0.5 + LEVEL / 2)
        rows = [self.change(factor, a, b) for a, b in itertools.combinations(by, 2)]
        columns = ["a", "b", "difference", "low", "high", "wins", "p", "pairs"]
        table = pd.DataFrame(rows, columns=columns).assign(noise=noise)
        if len(table):
            table["p"] = multipletests(table["p"], 1 - LEVEL, "holm")[1]
        heard = ~(table["difference"].abs() <= table["noise"])  # NaN: not known, so no reason to doubt
        return table.assign(stands_out=(table["p"] <= 1 - LEVEL) & heard)

    def variance(self) -> pd.DataFrame:
        """What the value varies with, once each pair's own mean is taken away: factors, interactions, pairs.

        Columns term, share (0 to 1), p: of a repeated-measures analysis of variance with the pair as the subject, so
        that a factor counts only if pairs agree on it; it takes differences between levels to vary alike from pair to
        pair. NaN for one pair. The last term is what depends on the pair.
        """
        from statsmodels.formula.api import ols
        from statsmodels.stats.anova import AnovaRM, anova_lm

        plain = {name: f"f{number}" for number, name in enumerate(self.factors)}
        cells = self.cells.rename_axis(columns=plain).stack(list(plain.values()), future_stack=True)  # as pandas 3 does
        long = cells.rename("y").reset_index()
        long = long.astype({name: str for name in plain.values()})
        model = " * ".join(f"C({name})" for name in plain.values())
        several = len(self.cells) > 1
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # one pair leaves nothing to test against
            squares = anova_lm(ols(f"y ~ {'C(pair) + ' if several else ''}{model}", long).fit())["sum_sq"]
            tested = {}
            if several:
                found = AnovaRM(long, "y", "pair", within=list(plain.values())).fit().anova_table
                tested = found["Pr > F"].to_dict()
        squares = squares.drop("C(pair)", errors="ignore")
        words = {f"C({name})": factor for factor, name in plain.items()}
        rows = []
        for term, value in squares.items():
            parts = term.split(":")
            depends = term == "Residual"
            name = "depends on the pair" if depends else " × ".join(words[part] for part in parts)
            p = tested.get(":".join(part[2:-1] for part in parts), np.nan)
            rows.append({"term": name, "share": value / max(squares.sum(), 1e-300), "p": p})
        return pd.DataFrame(rows)

    def ranks(self, factor: str, lowest_first: bool = True) -> pd.DataFrame:
        """The levels of a factor in order, best first: columns level, rank (mean over pairs), best, worst, first.

        In a pair, levels that are closer than `noise` share their mean rank; `first` counts the pairs in which a level
        shares the first place.
        """
        by = self.by(factor) * (1 if lowest_first else -1)
        tie = 0.0 if np.isnan(self.noise) else self.noise
        placed = pd.DataFrame([_with_ties(row, tie) for row in by.to_numpy()], by.index, by.columns)
        first = placed.eq(placed.min(axis=1), axis=0).sum()
        table = {"rank": placed.mean(), "best": placed.min(), "worst": placed.max(), "first": first}
        return pd.DataFrame(table).rename_axis("level").sort_values("rank", kind="stable").reset_index()

    def limits(self) -> list[str]:
        """What cannot be said for lack of replicates, a sentence each."""
        said, pairs = [], len(self.cells)
        if pairs == 1:
            said.append("One pair of pictures: nothing can be said of others, and no interval can be given.")
        for factor in self.factors:
            levels = self.by(factor).shape[1]
            if 1 < pairs < (enough := pairs_for(levels)):
                said.append(
                    f"{pairs} pairs of pictures: that two of the {levels} values of {factor} differ is certain only "
                    f"as far as differences are normally distributed; to do without that takes {enough} pairs."
                )
        if np.isnan(self.noise):
            said.append("One seed: how much of a difference is noise is not known.")
        if self.missing:
            said.append(f"Not counted, for want of a combination: {'; '.join(self.missing)}.")
        return said


def as_factor(change: Mapping[str, Any]) -> str:
    """A change of a logarithm, as from `Study.change`, in words: the factor, its interval, the pairs that agree.

    >>> as_factor({"difference": 0.301, "low": 0.2, "high": 0.4, "wins": 5, "pairs": 6})
    '2.00 times (95 %: 1.58 to 2.51; 5 of 6 pairs)'
    """
    factor, low, high = (10 ** change[name] for name in ("difference", "low", "high"))
    return f"{factor:.2f} times (95 %: {low:.2f} to {high:.2f}; {agreeing(change)} of {change['pairs']} pairs)"


def agreeing(change: Mapping[str, Any]) -> int:
    """In how many pairs a change, as from `Study.change`, has the direction of its mean."""
    return change["wins"] if change["difference"] > 0 else change["pairs"] - change["wins"]


def pairs_for(levels: int) -> int:
    """How many pairs it takes until a difference that all of them share stands out among so many levels by its signs.

    Of n signs all are alike in two of 2ⁿ cases, and Holm's method multiplies that by the number of comparisons.

    >>> pairs_for(2), pairs_for(7)
    (6, 10)
    """
    return math.ceil(math.log2(levels * (levels - 1) / (1 - LEVEL)))


def interval(values: pd.Series) -> tuple[float, float]:
    """A bootstrap interval of the mean, LEVEL wide; NaN for fewer than three values."""
    from scipy.stats import bootstrap

    numbers = values.to_numpy(float)
    if len(numbers) < 3:
        return float("nan"), float("nan")
    if _alike(numbers):
        return float(numbers[0]), float(numbers[0])
    draw = np.random.default_rng(0)
    found = bootstrap((numbers,), np.mean, n_resamples=DRAWS, confidence_level=LEVEL, rng=draw, method="BCa")
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def _chance(apart: pd.Series) -> float:
    """How likely so large a mean is if there is no difference: a paired t-test; NaN for fewer than two pairs."""
    from scipy.stats import ttest_1samp

    numbers = apart.to_numpy(float)
    if len(numbers) < 2:
        return float("nan")
    if _alike(numbers):
        return float(not numbers.any())  # the same in all pairs, which leaves nothing to chance
    return float(ttest_1samp(numbers, 0).pvalue)


def _alike(numbers: np.ndarray) -> bool:
    """Whether all numbers are the same but for rounding."""
    return bool(np.ptp(numbers) <= 1e-12 * np.abs(numbers).max())


def _with_ties(values: np.ndarray, tie: float) -> np.ndarray:
    """Ranks from 1, in which neighbours that are no further apart than `tie` are equal."""
    order = np.argsort(values, kind="stable")
    groups = np.concatenate([[0], np.cumsum(np.diff(values[order]) > tie)])
    ranks = np.empty(len(values))
    ranks[order] = pd.Series(groups).rank()
    return ranks
