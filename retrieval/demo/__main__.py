"""Draws the demo's data set."""

import argparse

from retrieval.demo.dataset import write_demo_data
from zoo.arguments import given_path, ranged
from zoo.command import log, run
from zoo.files import new_folder
from zoo.strict import Seed


def main() -> None:
    """Command line; see `--help`."""
    parser = argparse.ArgumentParser(
        prog="python -m retrieval.demo",
        description="python -m retrieval.demo --out demo-data\n\n"
        "Draws 872 small photographs of made-up landmarks, in the layout of Google Landmarks v2: 512 to train on, \n"
        "280 in the index and 80 queries, a third of whose landmarks training never sees.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=given_path, required=True, metavar="DIR", help="new or empty folder")
    parser.add_argument("--seed", type=ranged(Seed), default=0, help="another seed gives other landmarks (default: 0)")
    parser.add_argument(
        "--overwrite", action="store_true", help="replace the content of DIR once the new set is complete"
    )
    arguments = parser.parse_args()
    with new_folder(arguments.out, overwrite=arguments.overwrite) as folder:
        write_demo_data(folder, seed=arguments.seed)
    log(f"train with `--data {arguments.out}`")
    print(arguments.out)


if __name__ == "__main__":
    run(main)
