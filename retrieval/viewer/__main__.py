"""Writes the report of a ranking."""

import argparse

from retrieval.viewer.make_report import report_files
from zoo.arguments import given_path
from zoo.command import run

HELP = """\
python -m retrieval.viewer --predictions predictions.csv --data DIR --out report.html
python -m retrieval.viewer --index INDEX --queries TEST --data DIR --map --out report.html

Writes one page with every scored query, its nearest images and the relevant ones that were missed. DIR holds the images and
retrieval_solution_v2.1.csv. The ranking is a predictions file, or the index is searched; with both, the file is the ranking, and
the descriptors give its cosines and distances.
"""


def main() -> None:
    """Command line; see `--help`."""
    parser = argparse.ArgumentParser(description=HELP, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--predictions", type=given_path, help="a contest predictions file (id,images)")
    parser.add_argument("--index", type=given_path, help="store or embeddings of the index images")
    parser.add_argument("--queries", type=given_path, help="store or embeddings of the query images, by the same model")
    parser.add_argument("--data", type=given_path, required=True, help="data set with its images and its solution")
    parser.add_argument("--compare", type=given_path, help="predictions of another ranking, to compare with")
    parser.add_argument("--map", action="store_true", help="place the descriptors on a map (extra `map`)")
    parser.add_argument("--out", type=given_path, required=True, help="page to write (.html)")
    given = parser.parse_args()
    report_files(
        given.out,
        given.data,
        predictions=given.predictions,
        index=given.index,
        queries=given.queries,
        compare=given.compare,
        with_map=given.map,
    )
    print(given.out)


if __name__ == "__main__":
    run(main)
