"""A page in the browser that finds the index images nearest to a photograph.

Examples:
    python -m export.serve --model ensemble/saved_model --store index --data DATA
    python -m export.serve --model resnet50.safetensors --store index --port 8080
"""

import argparse
from pathlib import Path

from export.embedder import open_describer
from retrieval.data.gldv2 import Gldv2
from retrieval.data.landmarks import IndexLandmarks, index_landmarks
from retrieval.serve.app import create_app
from retrieval.serve.finder import Finder
from retrieval.serve.pictures import example_pictures, index_pictures
from retrieval.serve.server import HOST, PORT, listen, own_names, serve, url
from retrieval.store import Rows, open_rows
from zoo.arguments import given_path, ranged
from zoo.command import log, run
from zoo.constants import FRAMEWORKS
from zoo.strict import Port


def serve_model(
    model: Path, store: Path, data: Path | None = None, framework: str | None = None, host: str = HOST, port: int = PORT
) -> None:
    """Serves the page until Ctrl-C; its address is printed on stdout when it can be opened.

    Args:
        model: a SavedModel's folder, an ONNX file or a checkpoint.
        store: what `landmark-zoo embed` made with it: a store's folder or an embeddings file.
        data: the data set of the store; without it, ids are shown instead of images and landmarks.
        framework: for a checkpoint.
        host: where to listen.
        port: where to listen; 0 takes a free one.

    Raises:
        ServeError: the port is in use, or the host is not one of this machine.
        DataError: the store was made with another model or from another data set.
        ExportError: the model cannot be read.
    """
    listener = listen(host, port)
    with listener:
        index = open_rows(store)
        dataset = Gldv2(data) if data else None
        pictures = index_pictures(dataset, _split(index), index.ids) if dataset else None
        examples = example_pictures(dataset) if dataset else None
        landmarks = index_landmarks(dataset) if dataset else IndexLandmarks({}, {})
        log(f"opening {model}")
        finder = Finder(open_describer(model, framework), index, landmarks)
        app = create_app(finder, pictures, examples, names=own_names(host))
        log(f"{len(index.ids):,} images; Ctrl-C stops. Open")
        print(url(listener, host), flush=True)
        serve(app, listener)


def _split(index: Rows) -> str:
    """The split that the rows were made from."""
    data = index.source.get("data")
    return str(data.get("split", "index")) if isinstance(data, dict) else "index"


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--model", required=True, type=given_path, help="a SavedModel's folder, an ONNX file or a checkpoint"
    )
    parser.add_argument(
        "--store", required=True, type=given_path, help="a store or an embeddings file, made with --model"
    )
    parser.add_argument("--data", type=given_path, help="the data set of the store; default: ids are shown, no images")
    parser.add_argument("--framework", choices=FRAMEWORKS, help="for a checkpoint; default: the one that trained it")
    parser.add_argument("--host", default=HOST, help=f"where to listen (default: {HOST}, this machine only)")
    parser.add_argument("--port", type=ranged(Port), default=PORT, help=f"default: {PORT}; 0 takes a free one")
    return parser.parse_args()


def main() -> None:
    """Command line."""
    arguments = parse_arguments()
    serve_model(arguments.model, arguments.store, arguments.data, arguments.framework, arguments.host, arguments.port)


if __name__ == "__main__":
    run(main)
