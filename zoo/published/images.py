"""How the images of a published network are prepared, and who says so: the user, the file or its library."""

from collections.abc import Mapping

import numpy as np

from zoo.published.libraries import Library
from zoo.published.names import plain_name
from zoo.published.pickled_values import Opaque
from zoo.published.settings import Settings, three_numbers
from zoo.specs import PreprocessSpec, StatedPreprocess

Tensors = Mapping[str, np.ndarray | Opaque]


def known_images(
    library: Library | None, settings: Settings, tensors: Tensors, prefix: str, stated: StatedPreprocess
) -> tuple[StatedPreprocess, str]:
    """What is known of a network's images beside what the user states, and whose it is, for a message.

    Args:
        library: whose network it is.
        settings: what the file says of its network, in the terms of that library.
        tensors: all of the file's.
        prefix: what stands before the backbone's names.
        stated: what the user says, in place of which nothing of the file is read.

    Raises:
        CheckpointError: the file has a mean or a deviation that is not three numbers.
    """
    if library is None or library.images == StatedPreprocess():
        return StatedPreprocess(), "the model's usual ones"
    colours = pixels_of_buffers(library, tensors, prefix.removesuffix(library.trunk))
    colours |= {
        key: three_numbers(found, key) for key, found in settings.colours.items() if getattr(stated, key) is None
    }
    usual = library.images
    known = StatedPreprocess(
        channels=usual.channels, mean=colours.get("mean", usual.mean), std=colours.get("std", usual.std)
    )
    return known, "the file's" if colours else f"{library.name}'s"


def pixels_of_buffers(library: Library, tensors: Tensors, root: str) -> dict[str, tuple[float, ...]]:
    """Mean and deviation for pixels from 0 to 1, of a library whose files have them as tensors for pixels from 0 to 255."""
    if not library.buffers:
        return {}
    keys = {root + name: key for name, key in library.buffers.items()}
    found = {keys[plain]: value for name, value in tensors.items() if (plain := plain_name(name)) in keys}
    return {
        key: tuple(float(number) / 255 for number in value.reshape(-1))
        for key, value in found.items()
        if isinstance(value, np.ndarray) and value.size == 3
    }


def described_images(preprocess: PreprocessSpec, whose: str, stated: StatedPreprocess) -> str:
    """Channels, mean and deviation in words, and whose they are."""
    said = [key for key in ("channels", "mean", "std") if getattr(stated, key) is not None]
    if len(said) == 3:
        whose = "as stated"
    else:
        whose += f", but for the stated {' and '.join(said)}" if said else ""
        whose += "; --channels, --mean and --std state others"
    mean, std = (" ".join(f"{value:.4g}" for value in values) for values in (preprocess.mean, preprocess.std))
    return f"images: {preprocess.channels}, mean {mean}, std {std} ({whose})"
