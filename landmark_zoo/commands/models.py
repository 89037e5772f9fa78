"""`landmark-zoo models` and `landmark-zoo import`."""

import json
from pathlib import Path
from typing import Literal

from landmark_zoo.commands import Colour, Flag, Json, Pixels


def models(pattern: str = "*", /, *, as_json: Json = False) -> None:
    """List the variants: name, parameters, features of the backbone, and the published networks that they equal.

    Args:
        pattern: shell pattern of names.
        as_json: print the table as JSON.
    """
    import math

    from landmark_zoo.api import get_spec, list_models
    from zoo.variants import SPECS, VARIANTS
    from zoo.weights import parameter_shapes

    names = list_models(pattern) or [
        get_spec(pattern).name
    ]  # a published name, or an error that names the nearest ones
    rows = []
    for name in names:
        shapes = parameter_shapes(SPECS[name])
        parameters = sum(math.prod(shape) for key, shape in shapes.items() if "running_" not in key)
        features = SPECS[name].backbone.features
        rows.append({"name": name, "parameters": parameters, "features": features, "equals": VARIANTS[name].equals})
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    width = max(len(name) for name in names)
    print(f"{'name':{width}}  {'parameters':>12}  {'features':>8}  equals")
    for row in rows:
        line = f"{row['name']:{width}}  {row['parameters']:12,}  {row['features']:8}  {', '.join(row['equals'])}"
        print(line.rstrip())


def import_(
    source: Path,
    /,
    *,
    model: str,
    out: Path,
    headless: Flag = False,
    size: Pixels = 224,
    channels: Literal["rgb", "bgr"] | None = None,
    mean: Colour | None = None,
    std: Colour | None = None,
    resize: Literal["antialias", "bilinear"] | None = None,
    prefix: str | None = None,
    pool: Literal["gem", "avg", "max", "avg_max", "avg_gem", "max_gem"] | None = None,
    l2_before_neck: Flag = False,
    whitening: str | None = None,
    last_stride: Literal[1, 2] | None = None,
    stem_pool: Literal["padded", "ceil"] | None = None,
) -> None:
    """Convert published weights to a checkpoint that loads in both frameworks. Nothing in the file is executed.

    Args:
        source: .pth, .pt, .pdparams, .safetensors, .h5 or .keras.
        model: the variant, by our name or a published one.
        out: the checkpoint to write (.safetensors).
        headless: only the backbone; its averaged features are the descriptor.
        size: side in pixels that images are resized to.
        channels: the order of the channels that the weights were trained with; default: the file's or its library's.
        mean: of each channel in that order, 0 to 1; default: the file's or its library's.
        std: of each channel in that order, 0 to 1; default: the file's or its library's.
        resize: the filter; default: antialias.
        prefix: what stands before the backbone's names in the file; default: it is looked for.
        pool: global pooling, if the head has no tensors that tell it.
        l2_before_neck: the pooled features are scaled to unit norm, if nothing in the file tells it.
        whitening: the name of one of the file's whitenings, to apply to the descriptor.
        last_stride: stride of the last layer; default: the library's, or 2.
        stem_pool: the stem's pooling pads each side, or none; default: the library's, or padded.
    """
    from zoo.import_weights import import_file
    from zoo.lookup import find_spec
    from zoo.published.heads import Stated
    from zoo.specs import StatedPreprocess

    stated = Stated(
        preprocess=StatedPreprocess(size=size, channels=channels, mean=mean, std=std, resize=resize),
        pool=pool,
        l2_before_neck=l2_before_neck or None,
        whitening=whitening,
        last_stride=last_stride,
        stem_pool=stem_pool,
    )
    import_file(source, find_spec(model), out, headless=headless, prefix=prefix, stated=stated)
    print(out)
