"""How much a file may ask for. Every reader of the project has its limits here, and one error for what exceeds them.

A small file must not make a large process or an endless one: reading a file takes at most 1 GiB of memory beyond the file's own
size, and what a file claims (a length, a depth, a number of references) is compared with these limits before it is believed.
Each limit is far above what real files have.
"""

from zoo.errors import ZooError

TEXT_BYTES = 32 << 20
"""Bytes of a JSON or a YAML file, or of a header; of JSON that is all empty lists, Python makes 22 times as many."""
YAML_BYTES = 1 << 17
"""Characters of a YAML file; its parser is slow."""
DEPTH = 64
"""Mappings and lists inside each other, in any format."""
DIGITS = 400
"""Characters of a number."""

PICKLE_STEPS = 2_000_000
"""Opcodes of a pickle; a training script's checkpoint of 1,000 tensors with its optimiser has about 100,000."""
PICKLE_TEXT = 256 << 20
"""Bytes of one text in a pickle; old files of Paddle store a whole array as one text."""
PICKLE_COPIES = 256 << 20
"""Bytes that the constructors of a pickle copy beyond its size, with 64 for an item of a list."""
GROUND_TRUTH_IDS = 4_000_000
"""Positions in the lists of a ground truth of Revisited Oxford or Paris; Paris has 6,322 images and 70 queries."""
GRAPH_NODES = 1_000_000
"""Nodes of a graph, with all functions that it calls written out."""
ONNX_NODES = 20_000
"""Nodes of an ONNX file, which are followed one by one; the largest of timm's networks have 5,000."""
CALL_DEPTH = 64
"""Functions that call each other, one inside the other."""
REPEATED_BYTES = 64 << 20
"""Bytes of the constants of a graph that are one value repeated, and so take no space in the file."""
ZIP_ENTRIES = 10_000
"""Files in a zip."""
ZIP_GROWTH = 1 << 30
"""Bytes that a zip may grow by, beyond three times its size, when it is unpacked; weights hardly compress."""
HDF5_OBJECTS = 200_000
"""Groups, arrays, their directories and the names of them in an HDF5 file; Keras writes about ten for a tensor."""
HDF5_METADATA = 64 << 20
"""Bytes of an HDF5 file that are no arrays; Keras' ResNet-152 has 1 MB of them."""
HDF5_MESSAGES = 1_000_000
"""Attributes, types and other parts of the headers of an HDF5 file; Keras writes about ten for a tensor."""
NAME = 500
"""Characters of a tensor's name, with the path to it; what is longer is none."""
TENSORS = 20_000
"""Tensors of a file; a network with its teacher and its averages has about 6,000."""
FITTED = 4_000
"""Tensors of a file that is compared with every variant; the largest variant has 2,000."""
PREFIXES = 16
"""Places in a file that are tried as a backbone, those with most names first."""
AXES = 8
"""Axes of a tensor."""
TABLE_LINE = 1 << 24
"""Characters of a row of a table; GLDv2-clean's largest landmark has over 10,000 ids in one."""
PROCESSES = 10_000
"""Processes of one training, each of which has a file in its state."""
STEPS = 10**12
"""Steps of a training; one of 120 epochs of GLDv2's images has a million."""
LANDMARK_DIGITS = 18
"""Digits of a landmark's id, which is an int64."""
BATCH_PIXELS = 1 << 33
"""Pixels of a training batch: 8,192 images of 1024 × 1024 pixels, far more than fit into memory."""
IMAGE_MEMORY = 1 << 30
"""Bytes of memory for decoding an image; `retrieval.data.images` says how many pixels these are in each format."""
IMAGE_BYTES = 1 << 29
"""Bytes of an image file; the largest images that `IMAGE_MEMORY` allows have 357 MB uncompressed."""
TAR_NAME = 1 << 16
"""Bytes of a member's name in a tar, and of what else is told of it."""
IMAGE_TILE = 1 << 29
"""Bytes of a tile of a TIFF file, which is decoded whole even if the image is smaller."""


def require_at_most(limit: int, found: int, what: str, where: object, error: type[ZooError]) -> None:
    """Raises `error` if `found` is larger than `limit`.

    Args:
        limit: a constant of this module.
        found: what the file has or claims to have.
        what: its name and unit, for example "bytes" or "nested lists".
        where: the file, or the place in it.
        error: the class that the reader documents.

    Raises:
        error: "{where}: {found} {what}, more than the limit of {limit}. …"
    """
    if found > limit:
        raise error(
            f"{where}: {found:,} {what}, more than the limit of {limit:,}. It is damaged, or not a file of this kind."
        )
