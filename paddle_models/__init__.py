"""The zoo's networks in Paddle; mirrors `torch_models` file by file and name by name.

Importing the package prepares the process: Paddle decides at its own import how many threads it uses and which
instructions its matrix multiplication takes, and both defaults are slow on CPUs (`zoo.processors`).
"""

import os

from zoo.processors import paddle_settings

for _name, _value in paddle_settings().items():
    os.environ.setdefault(_name, _value)
