"""Descriptors of index and queries on any device, for `benchmarks.schedule`."""

import os
from collections.abc import Sequence

import numpy as np
import torch

from retrieval.data.gldv2 import Gldv2
from retrieval.embeddings import require_descriptors
from retrieval.image_batches import BATCH_SIZE, Resized, batches
from torch_models.checkpoint import build
from zoo.checkpoint import Checkpoint
from zoo.errors import SpecError
from zoo.preprocess import normalise
from zoo.specs import PreprocessSpec

Descriptors = tuple[np.ndarray, np.ndarray]
"""Of the index, float32 [N, D], and of the queries, float32 [Q, D]."""


class RetrievalImages:
    """Index and queries on a device, decoded, resized and normalised once for all checkpoints.

    Args:
        data: the data set.
        query_ids: the queries.
        preprocess: of the checkpoints.
        device: of the networks.

    Attributes:
        index_ids: of the images in the index.
    """

    def __init__(self, data: Gldv2, query_ids: Sequence[str], preprocess: PreprocessSpec, device: str) -> None:
        self.index_ids = data.readable_ids("index")
        paths = [data.image_path("index", name) for name in self.index_ids]
        paths += [data.image_path("test", name) for name in query_ids]
        wanted, self._preprocess, self._device = Resized.of(preprocess), preprocess, device
        resized = batches(paths, [wanted], BATCH_SIZE, len(os.sched_getaffinity(0)))
        self._inputs = [torch.from_numpy(normalise(batch[wanted], preprocess)).to(device) for batch in resized]

    def describe(self, checkpoint: Checkpoint) -> Descriptors:
        """A checkpoint's descriptors of all images, in float32.

        Raises:
            SpecError: it expects other inputs than the images were made for.
        """
        if checkpoint.spec.preprocess != self._preprocess:
            raise SpecError(
                f"{checkpoint.spec.name} expects {checkpoint.spec.preprocess}, and the images were made for {self._preprocess}. "
                "Compare models with equal preprocessing."
            )
        model = build(checkpoint).to(self._device)
        with torch.inference_mode():
            rows = torch.cat([model(inputs) for inputs in self._inputs]).cpu().numpy()
        require_descriptors(rows, range(len(rows)))
        return rows[: len(self.index_ids)], rows[len(self.index_ids) :]


def concatenated(members: Sequence[Descriptors]) -> Descriptors:
    """The members' descriptors side by side, as in an exported ensemble."""
    index, queries = zip(*members, strict=True)
    return np.concatenate(index, axis=1), np.concatenate(queries, axis=1)


def device_name(device: str) -> str:
    """The name of a GPU, or how many processors there are."""
    if device == "cpu":
        return f"{len(os.sched_getaffinity(0))} CPU cores"
    return torch.cuda.get_device_name(device)
