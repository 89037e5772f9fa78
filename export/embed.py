"""Descriptors of a whole split from a SavedModel, by its batch signature in today's TensorFlow.

Example:
    python -m export.embed --saved-model ensemble/saved_model --data DATA --split index --out index.safetensors
"""

import argparse
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from tqdm import tqdm

from export.embedder import batch_inputs, call_batch
from retrieval.data.gldv2 import Gldv2
from retrieval.data.images import read_image
from retrieval.embeddings import Embeddings
from zoo.command import run
from zoo.preprocess import resize
from zoo.signature import read_batch_input


def embed_split(saved_model: Path, data: Gldv2, split: str, batch_size: int) -> Embeddings:
    """Descriptors of all readable images of a split, in the order of its table; images are decoded side by side."""
    inputs, ids = batch_inputs(saved_model), data.readable_ids(split)

    def resized(image_id: str) -> dict[str, np.ndarray]:
        image = read_image(data.image_path(split, image_id))
        return {name: resize(image, *read_batch_input(name)) for name in inputs}

    descriptors = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in tqdm(range(0, len(ids), batch_size), desc=f"embed {split}", unit="batch"):
            images = list(pool.map(resized, ids[start : start + batch_size]))
            descriptors.append(call_batch(saved_model, {name: np.stack([i[name] for i in images]) for name in inputs}))
    source = {
        "model": str(saved_model),
        "framework": "tensorflow",
        "size": max(read_batch_input(name)[0] for name in inputs),
    }
    return Embeddings(ids, np.concatenate(descriptors), source)


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--saved-model", required=True, type=Path, help="a single model or an ensemble")
    parser.add_argument("--data", required=True, type=Path, help="a data set in the Google Landmarks v2 layout")
    parser.add_argument("--split", choices=("train", "index", "test"), default="index")
    parser.add_argument("--batch-size", type=int, default=32, help="images at a time")
    parser.add_argument("--out", required=True, type=Path, help="embeddings to write (.safetensors)")
    return parser.parse_args()


def main() -> None:
    """Command line."""
    arguments = parse_arguments()
    embeddings = embed_split(arguments.saved_model, Gldv2(arguments.data), arguments.split, arguments.batch_size)
    embeddings.save(arguments.out)
    print(arguments.out)


if __name__ == "__main__":
    run(main)
