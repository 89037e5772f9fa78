"""`landmark-zoo revisited data`, `revisited score` and `revisited convert`."""

import json
from pathlib import Path

from landmark_zoo import extras
from landmark_zoo.commands import Flag, Json
from zoo.command import log


def data(gnd: Path, /, *, images: Path, out: Path, overwrite: Flag = False) -> None:
    """Turn the photographs into a data set that `landmark-zoo embed` reads: the index, and the queries cut out by their boxes.

    Args:
        gnd: the published gnd_roxford5k.pkl or gnd_rparis6k.pkl, or the JSON of it.
        images: folder with the published photographs, at any depth.
        out: the data set to make.
        overwrite: replace the folder if it holds something.
    """
    from retrieval.revisited.data_set import make_data_set

    index, queries = make_data_set(gnd, images, out, overwrite=overwrite)
    log(f"{index:,} images in the index, {queries:,} queries")
    log(
        f"embed them with `landmark-zoo embed MODEL --data {out} --split index --out INDEX`, and the split test likewise"
    )
    print(out)


def score(gnd: Path, /, *, index: Path, queries: Path, as_json: Json = False) -> None:
    """Rank the whole index for each query, and print mAP and mP@1, 5 and 10 of the easy, medium and hard protocol.

    Args:
        gnd: the published gnd_roxford5k.pkl or gnd_rparis6k.pkl, or the JSON of it.
        index: descriptors of the index images.
        queries: descriptors of the queries, by the same model.
        as_json: print the figures as one JSON object on stdout.
    """
    with extras.explained():
        from retrieval.revisited.scoring import score_files

        figures = score_files(gnd, index, queries)
    if as_json:
        print(json.dumps(figures, indent=2))
        return
    columns = {
        "map": "mAP",
        "precision_1": "mP@1",
        "precision_5": "mP@5",
        "precision_10": "mP@10",
        "queries": "queries",
    }
    print("".join([" " * 8, *(f"{title:>9}" for title in columns.values())]))
    for protocol, own in figures.items():
        cells = (
            "-" if own[key] is None else f"{own[key]:.4f}" if key != "queries" else str(own[key]) for key in columns
        )
        print("".join([f"{protocol:8}", *(f"{cell:>9}" for cell in cells)]))


def convert(gnd: Path, /, *, out: Path) -> None:
    """Write the published ground truth as JSON, with names instead of positions. The pickle is parsed and never executed.

    Args:
        gnd: the published gnd_roxford5k.pkl or gnd_rparis6k.pkl.
        out: JSON file to write.
    """
    from retrieval.revisited.ground_truth import read_ground_truth, write_ground_truth
    from zoo.files import output_file

    with output_file(out, [gnd]):
        write_ground_truth(out, read_ground_truth(gnd))
    print(out)
