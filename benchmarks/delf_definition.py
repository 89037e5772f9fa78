"""The contest's metrics in plain Python, straight from their definitions: the rival of `benchmarks.score` and the tests' judge.

Written from the definitions in DELF's documentation strings (tensorflow/models, research/delf, datasets/google_landmarks_dataset), with
nothing of `retrieval` in it. A truth of lists is searched as DELF searches it; with sets the same code is faster.
"""

import statistics
from collections.abc import Collection, Mapping, Sequence

Ranked = Mapping[str, Sequence]
Truth = Mapping[str, Collection]


def mean_average_precision(predictions: Ranked, truth: Truth, k: int) -> float:
    """mAP@K over all queries of the truth."""
    total = 0.0
    for query, hits in predictions.items():
        relevant, seen = truth[query], set()
        correct, sum_of_precisions = 0, 0.0
        for place in range(min(len(hits), k)):
            hit = hits[place]
            if hit in seen:
                continue
            seen.add(hit)
            if hit in relevant:
                correct += 1
                sum_of_precisions += correct / (place + 1)
        total += sum_of_precisions / min(len(relevant), k)
    return total / len(truth)


def mean_precisions(predictions: Ranked, truth: Truth, k: int) -> list[float]:
    """Mean precision at the ranks 1 to K; a list that ends early has no further right hits."""
    totals = [0.0] * k
    for query, hits in predictions.items():
        relevant, seen = truth[query], set()
        correct = 0
        for place in range(k):
            if place < len(hits) and hits[place] not in seen:
                seen.add(hits[place])
                correct += hits[place] in relevant
            totals[place] += correct / (place + 1)
    return [total / len(truth) for total in totals]


def mean_median_position(predictions: Ranked, truth: Truth, k: int) -> tuple[float, float]:
    """Mean and median rank of the first right hit, K + 1 if there is none."""
    positions = []
    for query, relevant in truth.items():
        position = k + 1
        for place, hit in enumerate(predictions.get(query, ())[:k]):
            if hit in relevant:
                position = place + 1
                break
        positions.append(position)
    return statistics.mean(positions), statistics.median(positions)


def global_average_precision(predictions: Mapping[str, tuple[int, float]], truth: Truth) -> float:
    """GAP: the surest predictions first; ties by query, then by landmark."""
    surest = sorted((-score, query, landmark) for query, (landmark, score) in predictions.items())
    correct, total = 0, 0.0
    for place, (_, query, landmark) in enumerate(surest):
        if landmark in truth[query]:
            correct += 1
            total += correct / (place + 1)
    return total / sum(1 for landmarks in truth.values() if landmarks)
