"""How torchvision, and with it timm, is imported beside a CPU build of PyTorch."""

import sys
from types import ModuleType


def without_operators() -> None:
    """torchvision registers shapes for operators of its compiled part, which from the usual wheel does not load beside a CPU
    build of torch. Residual networks use none of them, so the registration may be empty."""
    sys.modules.setdefault("torchvision._meta_registrations", ModuleType("torchvision._meta_registrations"))
