"""benchmarks/results/<name>.json: what a benchmark measured, with the commit and the code that made it.

Example:
    python -m benchmarks.results_files schedule runs/schedule.json

stores what another machine measured, such as one with a GPU that has no git checkout.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from parity_tests.provenance import EXPORTED, WRITER, made_by
from zoo.arguments import given_path
from zoo.command import run
from zoo.constants import FRAMEWORKS
from zoo.errors import DataError
from zoo.files import write_json
from zoo.text import read_json

FOLDER = Path(__file__).resolve().with_name("results")
SEARCHED = tuple(
    f"retrieval/{name}.py"
    for name in (
        "search",
        "exact",
        "bounds",
        "candidates",
        "bfloat16_candidates",
        "devices",
        "store",
        "embeddings",
        "ranking",
    )
)
TRAINED = (
    *(f"training/{name}.py" for name in ("loop", "recipes", "batches", "augment", "images")),
    *("torch_models/train.py", "paddle_models/train.py", *SEARCHED),
    *(f"retrieval/{name}.py" for name in ("metrics", "right_hits")),
)
CODE: dict[str, tuple[str, ...]] = {
    "serving": (*EXPORTED, "benchmarks/serving*.py"),
    "export_cost": (
        *EXPORTED,
        "export/to_savedmodel.py",
        "export/origins.py",
        "export/steps.py",
        "benchmarks/export_cost.py",
    ),
    "converters": (
        *EXPORTED,
        *(f"export/writer/{name}.py" for name in ("convert", "onnx2tf", "onnx2tf_worker")),
        "benchmarks/converters.py",
    ),
    "coverage": (
        *("export/exporters.py", "export/onnx_names.py", "export/normal_form/[!_]*.py", *WRITER, "zoo/preprocess.py"),
        *(
            f"export/{name}.py"
            for name in ("from_onnx", "foreign_graph", "onnx_[!rn]*", "writer/convert", "parity/probes")
        ),
        *(f"benchmarks/{name}.py" for name in ("coverage_[!p]*", "coverage_process", "serving_worker")),
    ),
    "published": (
        *EXPORTED,
        *("zoo/import_weights.py", "zoo/published/[!_]*.py"),
        *("parity_tests/published/[!_]*.py", "benchmarks/published.py"),
    ),
    "tensorflows": (
        *(f"export/checker/{name}.py" for name in ("*_rules", "*_types", "flat_graph", "nodes", "made_of_constants")),
        *("export/checker/*_worker.py", "export/tensorflows.py"),
        *(f"tests/export/{name}.py" for name in ("checked_*", "converted_models", "write_in_another", "corpus")),
    ),
    "kernels": (*EXPORTED, "benchmarks/kernels*.py"),
    "grouped_convolutions": ("export/normal_form/grouped.py", "benchmarks/grouped_convolutions*.py"),
    "paddle_onednn": (
        *(f"paddle_models/{name}.py" for name in ("embedder", "layers", "resnet")),
        "benchmarks/paddle_onednn.py",
    ),
    "data": (
        *(f"training/{name}.py" for name in ("batches", "augment", "images")),
        *(f"retrieval/data/{name}.py" for name in ("images", "sources", "shrink")),
        "benchmarks/data.py",
    ),
    "embed": (
        *(f"retrieval/{name}.py" for name in ("embed_split", "image_batches", "store", "store_writer", "cluster")),
        *("retrieval/data/images.py", "zoo/preprocess.py", "benchmarks/embed.py"),
    ),
    "training": (
        *(
            f"{side}_models/{name}.py"
            for side in FRAMEWORKS
            for name in ("train", "optimiser", "distributed", "arc_margin", "embedder", "layers", "resnest", "resnet")
        ),
        "zoo/processors.py",
        *(f"benchmarks/{name}.py" for name in ("training", "training_side", "plain_torch", "plain_paddle")),
    ),
    "head": (
        *(f"{side}_models/{name}.py" for side in FRAMEWORKS for name in ("optimiser", "distributed", "arc_margin")),
        "training/classes.py",
        *("benchmarks/head.py", "benchmarks/head_process.py"),
    ),
    "report": ("retrieval/viewer/*.py", "benchmarks/report.py"),
    "demo": (*EXPORTED, *TRAINED, "retrieval/demo/*.py"),
    "photographs": (*EXPORTED, *TRAINED),
    "gpu": (
        *(f"torch_models/{name}.py" for name in ("train", "distributed", "optimiser", "arc_margin", "layers")),
        "benchmarks/gpu.py",
    ),
    "schedule": (
        *(f"training/{name}.py" for name in ("recipes", "schedule", "loop", "batches", "augment", "images", "classes")),
        *("torch_models/[!_]*.py", "zoo/weights.py", "zoo/preprocess.py", "zoo/variants.py"),
        *(f"retrieval/{name}.py" for name in ("embed", "metrics", "right_hits", "comparison")),
        "benchmarks/schedule*.py",
    ),
    "score": (
        *(f"retrieval/{name}.py" for name in ("right_hits", "metrics")),
        *("benchmarks/score.py", "benchmarks/delf_definition.py"),
    ),
    "search": (*SEARCHED, "retrieval/approximate.py", "benchmarks/search.py"),
    "rerank": (
        *(
            f"retrieval/{name}.py"
            for name in ("expansion", "leave_one_out", "neighbours", "reciprocal", "rerank", "tune")
        ),
        *("retrieval/whitening.py", "benchmarks/rerank.py"),
    ),
    "kills": (
        *(f"zoo/{name}.py" for name in ("files", "claims", "disk", "exchange", "processes", "command")),
        "tests/reliability/kills.py",
    ),
    "fuzz": (
        *(
            f"zoo/{name}.py"
            for name in ("limits", "inputs", "text", "tensors", "checkpoint", "manifest", "yaml_files", "strict")
        ),
        *(
            "zoo/import_weights.py",
            "zoo/published/*.py",
            "training/recipes.py",
            *(f"training/{name}.py" for name in ("state", "shards", "history", "images")),
            "pipeline/run_folder.py",
        ),
        *(f"retrieval/data/{name}.py" for name in ("csv_tables", "gldv2", "images", "sources", "tar_shards")),
        *(
            f"retrieval/{name}.py"
            for name in ("sharded", "embeddings", "whitening", "solution", "revisited/ground_truth")
        ),
        *(
            f"export/{name}.py"
            for name in (
                "onnx_file",
                "onnx_parts",
                "onnx_sizes",
                "written_out",
                "zips",
                "bounded_graph",
                "saved_model_file",
            )
        ),
        *("export/checker/[!mr]*.py", "export/checker/model_rules.py", "export/checker/registry.py"),
        *("tests/reliability/[!tksn]*.py", "tests/reliability/s[!l]*.py", "tests/reliability/readers/*.py"),
    ),
}
"""The code that each file's figures depend on; `tests/architecture/test_figures.py` compares its hash."""


def write_results(name: str, results: Any, path: Path | None = None) -> Path:
    """Writes `results` with its provenance; returns the path, by default benchmarks/results/<name>.json."""
    path = path or FOLDER / f"{name}.json"
    write_json(path, {"made_by": made_by(CODE[name]), "results": results})
    return path


def read_results(name: str) -> Any:
    """What `write_results` stored, without its provenance."""
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))["results"]


def adopt(name: str, path: Path, folder: Path = FOLDER) -> Path:
    """Stores a file that `write_results` made on another machine, with this checkout's commit. Returns where it is.

    Raises:
        DataError: other code measured it than this checkout has.
    """
    found = read_json(path, advice=f"It is written by `python -m benchmarks.{name}`.")
    here = made_by(CODE[name])
    if found["made_by"]["code"] != here["code"]:
        raise DataError(
            f"{path} was measured with the code {found['made_by']['code']}, and this checkout has {here['code']}. Check out the commit "
            "that was copied to the other machine, or measure again."
        )
    stored = folder / f"{name}.json"
    write_json(stored, {"made_by": here, "results": found["results"]})
    return stored


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=sorted(CODE), help="which results they are")
    parser.add_argument("file", type=given_path, help="the JSON file from the other machine")
    given = parser.parse_args()
    print(adopt(given.name, given.file))


if __name__ == "__main__":
    run(main)
