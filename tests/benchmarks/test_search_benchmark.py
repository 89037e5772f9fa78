"""The benchmark of the search on a small part: every contender has a figure, and the descriptors are as it says."""

import faiss
import numpy as np

from benchmarks import search as benchmark


def test_every_contender_has_a_figure(tmp_path, monkeypatch):
    monkeypatch.setattr(benchmark, "DIMENSIONS", benchmark.MEMBERS * 16)
    monkeypatch.setattr(benchmark, "PART", 16)
    monkeypatch.setattr(benchmark, "INDEX", 3000)
    part = benchmark.measure(3000, 40, (("IVF4,Flat", 1), ("IVF4,Flat", 4)), tmp_path)
    assert part["flat_other_sets"] <= 0.1 and part["anonymous_gib"] > 0.01
    assert [row["recall100"] < 1 for row in part["ivf"]] == [True, False]
    assert part["ivf"][1]["map100"] == part["map100"] > 0.3
    results = {
        "part": part,
        "processor": "a",
        "threads": faiss.omp_get_max_threads(),
        "settings": ["OMP_NUM_THREADS=1"],
    }
    results |= {"blas": [], "contest": benchmark.measure_contest(20, tmp_path)}
    text = benchmark.table(results)
    assert text.count("| faiss IVF4,Flat, nprobe") == 2 and "OMP_NUM_THREADS=1" in text
    assert f"extrapolated to all {benchmark.TEST:,}" in text


def test_descriptors_have_unit_norm_and_landmarks_look_alike(monkeypatch):
    monkeypatch.setattr(benchmark, "INDEX", 10_000)
    landmarks = benchmark.make_landmarks(2000, 0)
    counts = np.sort(np.bincount(landmarks))[::-1]
    assert counts[0] > 5 * np.median(counts)  # a long tail
    index, queries = benchmark.descriptors(landmarks[:500], (0,)), benchmark.descriptors(landmarks[:500], (1,))
    assert index.dtype == np.float16 and (index != queries).any()
    np.testing.assert_allclose(np.linalg.norm(index.astype(np.float64), axis=1), 1, atol=1e-3)
    cosines = queries.astype(np.float64) @ index.T.astype(np.float64)
    same = landmarks[:500, None] == landmarks[None, :500]
    assert abs(cosines[same].mean() - benchmark.RELATED) < 0.08 and abs(cosines[~same].mean()) < 0.05
