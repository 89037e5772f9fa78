"""The rows of the comparison with real TensorFlows."""

from benchmarks import tensorflows


def row(version: str, *, onednn: bool = False, models: int = 3) -> dict:
    return {"tensorflow": version, "python": "3.11", "onednn": onednn, "models": models, "ran": 2, "disagreements": []}


def test_new_rows_replace_those_of_their_version_only():
    kept = [row("2.9.0"), row("2.9.0", onednn=True), row("2.13.0")]
    found = tensorflows.merged(kept, [row("2.13.0", onednn=True, models=9), row("2.13.0", models=9), row("2.2.0")])
    assert [(one["tensorflow"], one["onednn"], one["models"]) for one in found] == [
        ("2.2.0", False, 3),
        ("2.9.0", False, 3),
        ("2.9.0", True, 3),
        ("2.13.0", False, 9),
        ("2.13.0", True, 9),
    ]


def test_the_table_lists_what_differs():
    wrong = {"model": "a", "checker": "accepted", "tensorflow": "Error"}
    text = tensorflows.table([row("2.9.0") | {"disagreements": [wrong]}])
    assert (
        "| 2.9.0 | 3.11 | no | 3 | 2 | 2 |" in text
        and "- 2.9.0, `a`: the checker says: accepted; TensorFlow: Error" in text
    )
