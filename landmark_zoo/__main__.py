"""The command `landmark-zoo`.

Built on cyclopts: its options are typed signatures and docstrings, it imports a sub-command's module only when that
sub-command runs, and it names the nearest command or option after a typo. typer loads every sub-command for any `--help`,
and jsonargparse needs every function imported to build its parser.
"""

import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

from cyclopts import App, CycloptsError, Parameter

from landmark_zoo import extras
from zoo.command import run
from zoo.errors import ZooError


class UsageError(ZooError):
    """An unknown command or option, or a value of the wrong type."""


class Command(NamedTuple):
    """A sub-command: where its function is, its line in the list of commands, and a worked example."""

    function: str
    summary: str
    example: str


COMMANDS = {
    "models": Command("models:models", "List the variants.", "models 'resnest*'"),
    "import": Command(
        "models:import_",
        "Convert published weights to a checkpoint.",
        "import resnest50d-528c19ca.pth --model resnest50 --headless --out resnest50.safetensors",
    ),
    "train": Command(
        "pipeline:train",
        "Train a model in PyTorch or Paddle.",
        "train --framework torch --recipe recipes/demo.yaml --model resnet10_narrow --data DATA --out a.safetensors",
    ),
    "export": Command(
        "export:export",
        "Convert a checkpoint to a verified SavedModel.",
        "export --ckpt resnest50.safetensors --out out",
    ),
    "check": Command("export:check", "Will TensorFlow 2.2 run a SavedModel?", "check out/saved_model"),
    "ensemble": Command(
        "export:ensemble",
        "Combine SavedModels into one.",
        "ensemble --members a/saved_model b/saved_model --weights 1 0.8 --out ensemble",
    ),
    "embed": Command(
        "retrieval:embed",
        "Compute the descriptors of a split.",
        "embed out/saved_model --data DATA --split index --out index",
    ),
    "search": Command(
        "retrieval:search",
        "Rank the index for each query and score it.",
        "search --index index --queries test --data DATA --out predictions.csv",
    ),
    "tune": Command(
        "retrieval:tune",
        "Choose a re-ranking on the training set.",
        "tune --train train --data DATA --out rerank.json",
    ),
    "merge": Command(
        "retrieval:merge",
        "Merge the parts of a search.",
        "merge part0.safetensors part1.safetensors --index INDEX --queries TEST --out predictions.csv",
    ),
    "evaluate": Command(
        "retrieval:evaluate", "Score a predictions file.", "evaluate predictions.csv --data DATA --json"
    ),
    "compare": Command(
        "retrieval:compare",
        "Is one predictions file better than another?",
        "compare ours.csv theirs.csv --data DATA",
    ),
    "serve": Command(
        "serve:serve",
        "Search by photograph in the browser.",
        "serve --model out/saved_model --store index --data DATA",
    ),
    "report": Command(
        "retrieval:report",
        "Write a page with every query and its hits.",
        "report --predictions predictions.csv --data DATA --out report.html",
    ),
    "demo": Command("pipeline:demo", "Run the full pipeline on rendered landmarks.", "demo --out runs/demo"),
    "pack": Command(
        "pipeline:pack",
        "Pack a SavedModel as a Kaggle data set.",
        "pack --saved-model ensemble/saved_model --owner YOUR_KAGGLE_NAME --out upload",
    ),
    "data check": Command("data:check", "Find images that cannot be decoded.", "data check --data DATA"),
    "data from-folder": Command(
        "data:from_folder",
        "Turn one folder of photographs per class into a data set.",
        "data from-folder PHOTOS --out DATA",
    ),
    "data shrink": Command(
        "data:shrink", "Copy a data set with smaller images.", "data shrink --data DATA --out SMALL --side 256"
    ),
    "data render": Command("data:render", "Draw the demo's data set.", "data render --out DATA"),
    "revisited data": Command(
        "revisited:data",
        "Turn the photographs into a data set.",
        "revisited data gnd_roxford5k.pkl --images PHOTOS --out DATA",
    ),
    "revisited score": Command(
        "revisited:score",
        "Score descriptors by the easy, medium and hard protocol.",
        "revisited score gnd_roxford5k.pkl --index INDEX --queries QUERIES",
    ),
    "revisited convert": Command(
        "revisited:convert",
        "Write the published ground truth as JSON.",
        "revisited convert gnd_roxford5k.pkl --out roxford5k.json",
    ),
}
GROUPS = {
    "data": "Prepare a data set.\n\nExample: landmark-zoo data render --out DATA",
    "revisited": "Score by Revisited Oxford or Paris.\n\nExample: landmark-zoo revisited score gnd_roxford5k.pkl --index INDEX "
    "--queries QUERIES",
}
"""The help of each group of sub-commands."""


def build_app(tokens: Sequence[str] = ()) -> App:
    """The command with all sub-commands, none of which is imported yet.

    Args:
        tokens: the command line; the sub-command that it starts with is described by its docstring, the others by a line.
    """
    chosen = next((name for name in COMMANDS if name.split() == list(tokens[: len(name.split())])), None)
    options: dict[str, Any] = {
        "help_format": "plaintext",
        "help_formatter": "plain",  # rich's Markdown and panels take longer to import than everything else
        "default_parameter": Parameter(negative=(), consume_multiple=True),
        "result_action": "return_value",
    }
    app = App(
        name="landmark-zoo",
        help="Image retrieval models in PyTorch and Paddle, exported exactly to SavedModels that TensorFlow 2.2 runs.\n\n"
        "Example: landmark-zoo models 'resnest*'",
        version=_version,
        **options,
    )
    groups = {name: App(name=name, help=text) for name, text in GROUPS.items()}
    for group in groups.values():
        app.command(group)
    for name, command in COMMANDS.items():
        group, _, last = name.rpartition(" ")
        groups.get(group, app).command(
            f"landmark_zoo.commands.{command.function}",
            name=last,
            help=None if name == chosen else command.summary,  # its own docstring says more
            help_epilogue=f"Example: landmark-zoo {command.example}",
        )
    return app


def _version() -> str:
    import landmark_zoo

    return landmark_zoo.__version__


def dispatch(tokens: list[str]) -> None:
    """Runs one command line, without the program's name.

    Raises:
        UsageError: it does not parse.
        ZooError: the command failed.
    """
    for before, token in zip(["", *tokens], tokens, strict=False):
        if not token.strip() and before != "--prefix":
            raise UsageError(f"{before or 'the command'}: the value is empty. Run `landmark-zoo --help`.")
    try:
        with extras.explained():
            build_app(tokens)(tokens, exit_on_error=False, print_error=False)
    except CycloptsError as error:
        where = " ".join(("landmark-zoo", *(error.command_chain or ())))
        raise UsageError(f"{' '.join(str(error).split())} Run `{where} --help`.") from None


def main() -> None:
    """Entry point of `landmark-zoo` and of `python -m landmark_zoo`."""
    run(lambda: dispatch(sys.argv[1:]))


if __name__ == "__main__":
    main()
