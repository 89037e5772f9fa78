"""The sub-commands of `landmark-zoo`: one typed function each, whose docstring is its help.

These modules import only light ones at the top, so that `--help` is fast; a function imports its room when it is called.
The option names are those of the room's own module command; `tests/landmark_zoo/test_same_options.py` compares them.
"""

from typing import Annotated

from cyclopts import Parameter

Flag = Annotated[bool, Parameter(show_default=False)]
"""An option without a value."""

Json = Annotated[bool, Parameter(name="--json", show_default=False)]
"""The option --json; a parameter named `json` would hide the module."""
