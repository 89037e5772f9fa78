"""The full pipeline, from photographs to a packed submission: train, export, check, concatenate, search, score, report.

Examples:
    python -m pipeline --out runs/demo
    python -m pipeline --data DATA --recipe recipes/demo.yaml --out runs/mine

Without --data it renders a small set of landmarks. Each step is a separate process that reads and writes files, so Paddle,
PyTorch and TensorFlow never share one. If interrupted, run the same command again to resume.
"""

import argparse

from pipeline.run import DEMO_RECIPE, run_pipeline
from zoo.arguments import given_path
from zoo.command import run


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", type=given_path, help="a data set in the Google Landmarks v2 layout; default: render a small one"
    )
    parser.add_argument("--recipe", type=given_path, default=DEMO_RECIPE, help="models and training schedule")
    parser.add_argument("--out", type=given_path, required=True, help="folder of this run")
    parser.add_argument("--owner", default="landmark-zoo", help="Kaggle user name in the packed submission")
    return parser.parse_args()


def main() -> None:
    """Command line."""
    arguments = parse_arguments()
    print(run_pipeline(arguments.recipe, arguments.data, arguments.out, arguments.owner))


if __name__ == "__main__":
    run(main)
