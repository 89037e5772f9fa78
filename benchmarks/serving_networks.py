"""Times our own networks in PyTorch and Paddle; the protocol and the command line are `benchmarks/serving_worker.py`'s.

Example:
    python -m benchmarks.serving_networks \\
        '{"kind": "torch", "checkpoint": "model.safetensors", "inputs": "x.npz", "threads": 2}'
"""

import functools

import numpy as np

from benchmarks.serving_worker import serve
from zoo.checkpoint import load_checkpoint


def torch_forms(job: dict) -> tuple[dict, dict]:
    """Eager PyTorch: unchanged, channels-last, and with every BatchNorm fused into its convolution."""
    import torch
    from torch.fx.experimental.optimization import fuse

    from torch_models.checkpoint import build

    torch.set_num_threads(job["threads"])
    checkpoint = load_checkpoint(job["checkpoint"])

    def form(fused: bool, layout: torch.memory_format) -> tuple:
        network = build(checkpoint)
        network = (fuse(network) if fused else network).to(memory_format=layout)

        def prepare(images: np.ndarray) -> torch.Tensor:
            return torch.from_numpy(images).contiguous(memory_format=layout)

        def call(images: torch.Tensor) -> np.ndarray:
            with torch.inference_mode():
                return network(images).numpy()

        return prepare, call

    names = {
        "eager": (False, torch.contiguous_format),
        "channels-last": (False, torch.channels_last),
        "fused": (True, torch.contiguous_format),
        "fused, channels-last": (True, torch.channels_last),
    }
    forms = {name: functools.partial(form, *how) for name, how in names.items()}
    return forms, {"torch": torch.__version__}


def paddle_forms(job: dict) -> tuple[dict, dict]:
    """Paddle, eager and as a static graph, on all threads.

    Without oneDNN: eager mode never uses it, and static graphs compute wrong values with it (`benchmarks/paddle_onednn.py`).
    """
    import paddle

    from paddle_models.checkpoint import build

    paddle.base.core.set_num_threads(job["threads"])
    checkpoint = load_checkpoint(job["checkpoint"])

    def form(static: bool) -> tuple:
        network = build(checkpoint)
        if static:
            images = paddle.static.InputSpec([None, 3, None, None], "float32", "images")
            network = paddle.jit.to_static(network, input_spec=[images], full_graph=True)
            network.eval()

        def call(images: paddle.Tensor) -> np.ndarray:
            with paddle.no_grad():
                return network(images).numpy()

        return paddle.to_tensor, call

    forms = {"eager": functools.partial(form, False), "to_static, without oneDNN": functools.partial(form, True)}
    return forms, {"paddle": paddle.__version__}


if __name__ == "__main__":
    serve({"torch": torch_forms, "paddle": paddle_forms})
