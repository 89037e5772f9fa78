"""Names, dtypes and shapes of the served model.

The contest calls the first signature positionally, so it has exactly one input. The second signature embeds batches of
images that are already resized (`zoo.preprocess.resize`), which is many times faster for large sets.
"""

CONTEST_SIGNATURE = "serving_default"
CONTEST_INPUT = "input_image"
"""uint8 [H, W, 3], RGB, any H and W from 1."""

BATCH_SIGNATURE = "embed_resized"

DESCRIPTOR = "global_descriptor"
"""float32 [D] from the contest's signature, [N, D] from the batch signature; unit norm unless the spec says otherwise."""


def batch_input(size: int, resize: str = "antialias") -> str:
    """Name of the batch signature's input float32 [N, size, size, 3], RGB, values from 0 to 255.

    An ensemble has one such input per distinct resolution and resize filter (`PreprocessSpec`) of its members.
    """
    return f"images_{size}" + ("" if resize == "antialias" else f"_{resize}")


def read_batch_input(name: str) -> tuple[int, str]:
    """The size and the resize filter in an input's name."""
    _, size, *resize = name.split("_")
    return int(size), resize[0] if resize else "antialias"
