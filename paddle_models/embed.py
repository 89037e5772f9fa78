"""Descriptors straight from a checkpoint, in Paddle: the reference that every export is held against.

Example:
    python -m paddle_models.embed --ckpt resnet50.safetensors --data DATA --split index --out index.safetensors
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import paddle
from tqdm import tqdm

from paddle_models.checkpoint import build
from retrieval.data.gldv2 import Gldv2
from retrieval.data.images import read_image
from retrieval.embeddings import Embeddings
from zoo.checkpoint import Checkpoint, fingerprint, load_checkpoint
from zoo.command import run
from zoo.files import new_file
from zoo.preprocess import normalise, resize


def embed(checkpoint: Checkpoint, pixels: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """Descriptors float32 [N, D] of each batch of resized pixels [N, H, W, 3], RGB, 0 to 255."""
    model = build(checkpoint)
    with paddle.no_grad():
        for batch in pixels:
            yield model(paddle.to_tensor(normalise(batch, checkpoint.spec.preprocess))).numpy()


def embed_split(checkpoint: Checkpoint, data: Gldv2, split: str, batch_size: int) -> Embeddings:
    """Descriptors of all images of a split, in the order of its table."""
    ids = data.readable_ids(split)
    size, how = checkpoint.spec.preprocess.size, checkpoint.spec.preprocess.resize

    def batches() -> Iterator[np.ndarray]:
        for start in tqdm(range(0, len(ids), batch_size), desc=f"embed {split}", unit="batch"):
            paths = (data.image_path(split, image_id) for image_id in ids[start : start + batch_size])
            yield np.stack([resize(read_image(path), size, how) for path in paths])

    source = {"model": checkpoint.spec.name, "framework": "paddle", "size": size, "checkpoint": fingerprint(checkpoint)}
    return Embeddings(tuple(ids), np.concatenate(list(embed(checkpoint, batches()))), source)


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ckpt", required=True, type=Path, help="a landmark-zoo checkpoint from either framework")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--data", type=Path, help="a data set in the Google Landmarks v2 layout")
    what.add_argument("--pixels", type=Path, help="an npz of resized batches float32 [N, H, W, 3], RGB, 0 to 255")
    parser.add_argument("--split", choices=("train", "index", "test"), default="index", help="of --data")
    parser.add_argument("--batch-size", type=int, default=32, help="images at a time, with --data")
    parser.add_argument("--out", required=True, type=Path, help="embeddings (.safetensors), or an npz with --pixels")
    return parser.parse_args()


def main() -> None:
    """Command line."""
    arguments = parse_arguments()
    checkpoint = load_checkpoint(arguments.ckpt)
    if arguments.data:
        embed_split(checkpoint, Gldv2(arguments.data), arguments.split, arguments.batch_size).save(arguments.out)
    else:
        with np.load(arguments.pixels, allow_pickle=False) as batches:
            outputs = dict(zip(batches, embed(checkpoint, (batches[name] for name in batches)), strict=True))
        with new_file(arguments.out) as partial, open(partial, "wb") as file:
            np.savez(file, **outputs)
    print(arguments.out)


if __name__ == "__main__":
    run(main)
