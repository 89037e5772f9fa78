"""A data set of small random photographs, for trainings of seconds."""

from pathlib import Path

import numpy as np
from PIL import Image


def write_tiny_data(root: Path, recipe: str, landmarks: int = 4, images: int = 4) -> Path:
    """Fills a folder with a data set and `recipe.yaml`; returns the folder."""
    random = np.random.default_rng(0)
    rows = ["landmark_id,images"]
    for landmark in range(landmarks):
        ids = [f"{landmark:x}{number:015x}" for number in range(images)]
        rows.append(f"{landmark * 10},{' '.join(ids)}")
        for image_id in ids:
            path = root.joinpath("train", *image_id[:3], f"{image_id}.jpg")
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = random.integers(0, 256, (6, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).resize((48, 40)).save(path)
    (root / "train_clean.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    (root / "recipe.yaml").write_text(recipe, encoding="utf-8")
    return root
