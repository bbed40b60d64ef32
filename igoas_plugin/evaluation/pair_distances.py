"""Histograms of the distances of right and of wrong pairs of a query and a gallery image."""

import numpy as np

BINS = 64


class PairDistances:
    """Histograms with bins of one width, which grows with the largest distance.

    Pairs come one query at a time, so that no matrix of all distances is kept.

    Attributes:
        counts: {"right": pairs of one identity, "wrong": pairs of two identities}, in each of BINS bins.
        end: upper end of the last bin; the first one starts at 0.

    Example:
        >>> pairs = PairDistances()
        >>> pairs.add(np.array([0.2, 0.9, 0.8]), np.array([True, False, False]))
        >>> pairs.end, pairs.counts["right"].nonzero(), int(pairs.counts["wrong"].sum())
        (1.0, (array([12]),), 2)
    """

    def __init__(self):
        self.end = 2.0**-20
        self.counts = {state: np.zeros(BINS, np.int64) for state in ("right", "wrong")}

    def add(self, distances: np.ndarray, right: np.ndarray) -> None:
        """Counts pairs. Distances that are not finite are left out; rounding below 0 counts as 0.

        Args:
            distances: shape (N,).
            right: whether each pair has one identity, (N,).
        """
        finite = np.isfinite(distances)
        values = distances[finite].clip(min=0)
        if not len(values):
            return
        while self.end <= values.max():
            self.end *= 2
            for state, counts in self.counts.items():
                merged = counts.reshape(-1, 2).sum(1)  # two bins of the old width are one of the new
                self.counts[state] = np.concatenate([merged, np.zeros_like(merged)])
        bins = (values * (BINS / self.end)).astype(np.int64)
        for state, chosen in (("right", right[finite]), ("wrong", ~right[finite])):
            self.counts[state] += np.bincount(bins[chosen], minlength=BINS)

    @property
    def edges(self) -> np.ndarray:
        """Ends of the bins up to the largest distance, (B + 1,)."""
        used = np.flatnonzero(sum(self.counts.values()))
        return np.arange(used[-1] + 2 if len(used) else 1) * (self.end / BINS)

    def shares(self, state: str) -> np.ndarray:
        """Returns the share of the pairs of a state in each bin up to the largest distance, in %, (B,)."""
        counts = self.counts[state]
        return 100 * counts[: len(self.edges) - 1] / max(counts.sum(), 1)
