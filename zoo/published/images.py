"""How the images of a published network are prepared, and who says so: the user, the file or its library."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np

from zoo.errors import CheckpointError
from zoo.published.libraries import Library
from zoo.published.names import plain_name
from zoo.published.pickled_values import Opaque
from zoo.published.settings import Settings, three_numbers
from zoo.specs import PreprocessSpec, StatedPreprocess

Tensors = Mapping[str, np.ndarray | Opaque]


def known_images(
    library: Library | None, settings: Settings, buffers: Tensors, stated: StatedPreprocess
) -> tuple[StatedPreprocess, str]:
    """What is known of a network's images beside what the user states, and whose it is, for a message.

    Args:
        library: whose network it is.
        settings: what the file says of its network, in the terms of that library.
        buffers: the tensors of `buffer_names`, by their key.
        stated: what the user says, in place of which nothing of the file is read.

    Raises:
        CheckpointError: the file has a mean or a deviation that is not three numbers.
    """
    if library is None or library.images == StatedPreprocess():
        return StatedPreprocess(), "the model's usual ones"
    colours = {key: _of_buffer(value, key) for key, value in buffers.items() if getattr(stated, key) is None}
    colours |= {
        key: three_numbers(found, key) for key, found in settings.colours.items() if getattr(stated, key) is None
    }
    return replace(library.images, **colours), "the file's" if colours else f"{library.name}'s"


def buffer_names(library: Library | None, names: Iterable[str], prefix: str) -> dict[str, str]:
    """{a tensor's name: `mean` or `std`} of those that say how the images of the network behind a prefix are prepared."""
    if library is None:
        return {}
    root = prefix.removesuffix(library.trunk)
    keys = {root + name: key for name, key in library.buffers.items()}
    return {name: keys[plain] for name in names if (plain := plain_name(name)) in keys}


def _of_buffer(value: np.ndarray | Opaque, key: str) -> tuple[float, ...]:
    """Mean or deviation per channel for pixels from 0 to 1, from a tensor for pixels from 0 to 255."""
    if isinstance(value, Opaque) or value.size != 3 or value.dtype.kind not in "fiu":
        raise CheckpointError(
            f"its buffer of the pixels' {key} is not three numbers; pass --{key} with three numbers from 0 to 1"
        )
    return tuple(float(number) / 255 for number in value.reshape(-1))


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
