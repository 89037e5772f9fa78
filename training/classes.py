"""How the classes of the margin loss are divided among processes, and which of them a step compares with."""

import math

import numpy as np

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX = ((np.uint64(30), np.uint64(0xBF58476D1CE4E5B9)), (np.uint64(27), np.uint64(0x94D049BB133111EB)))


def own_classes(classes: int, rank: int, processes: int) -> range:
    """The consecutive classes of process `rank`: as many for each process as possible, the first ones get one more.

    Args:
        classes: of all processes.
        rank: of the process, from 0.
        processes: their number.
    """
    each, more = divmod(classes, processes)
    start = rank * each + min(rank, more)
    return range(start, start + each + (rank < more))


def drawn_classes(own: range, labels: np.ndarray, share: float, seed: int, step: int) -> np.ndarray:
    """The classes of a process that a step compares with: those of the batch, and a random share of the others.

    Partial FC (arXiv 2203.15565, §3.2) draws a fixed number per process; here each class is drawn by a hash of (seed, step,
    class), so that the classes of a step do not depend on the number of processes.

    Args:
        own: the process's classes.
        labels: int64 [N], the classes of the whole batch.
        share: of the other classes, from 0 to 1.
        seed: of the drawing.
        step: number of the step.

    Returns:
        Positions in `own`, int64 and ascending; at least one.
    """
    # splitmix64 (Steele et al. 2014) of the class, started at a place that depends on seed and step.
    start = np.random.SeedSequence(seed, spawn_key=(step,)).generate_state(1, np.uint64)
    mixed = start + _GOLDEN * (np.arange(own.start, own.stop, dtype=np.uint64) + np.uint64(1))
    for shift, factor in _MIX:
        mixed = (mixed ^ (mixed >> shift)) * factor
    mixed ^= mixed >> np.uint64(31)
    drawn = mixed < np.uint64(min(math.ceil(share * 2.0**64), 2**64 - 1))
    present = labels[(labels >= own.start) & (labels < own.stop)] - own.start
    drawn[present] = True
    if not drawn.any():
        drawn[0] = True
    return np.flatnonzero(drawn)
