"""The libraries that the zoo is held against; development dependencies alone (`pip install -e .[dev]`)."""

import sys
from types import ModuleType


def import_timm() -> ModuleType:
    """timm, beside any build of torch.

    torchvision registers shapes for operators of its own compiled part, which a CPU build of torch does not load from the
    usual wheel. timm's residual networks use none of them, so that registration may be empty.
    """
    sys.modules.setdefault("torchvision._meta_registrations", ModuleType("torchvision._meta_registrations"))
    import timm

    return timm
