"""The facts of the data set on Kaggle; `test_kaggle_client` compares the rules with the client's own."""

import pytest

from submission import metadata, pack
from zoo.errors import SubmissionError


def committed() -> dict:
    return metadata.read_metadata(metadata.TEMPLATE)


def test_the_committed_metadata_is_valid():
    metadata.check_metadata(committed(), pack.FILES)
    assert committed()["id"] == "landmark-zoo/landmark-zoo-ensemble"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"subtitle": "too short"}, "subtitle of 20 to 80"),
        ({"subtitle": "s" * 81}, "subtitle of 20 to 80"),
        ({"description": "INSERT_DESCRIPTION_HERE"}, "placeholder"),
        ({"licenses": []}, "exactly one license"),
        ({"licenses": [{"name": "other"}, {"name": "CC0-1.0"}]}, "exactly one license"),
        ({"licenses": [{"title": "other"}]}, "exactly one license"),
        ({"licenses": [{"name": "not-a-licence"}]}, "found 'not-a-licence'. Kaggle knows CC0-1.0, "),
        ({"licenses": [{"name": "MIT"}]}, "found 'MIT'. Kaggle knows CC0-1.0, "),
        ({"licenses": [{"name": "Apache-2.0"}]}, "Kaggle writes it 'apache-2.0'"),
        ({"licenses": [{"name": ["other"]}]}, r"found \['other'\]"),
        ({"resources": [{"path": "absent.csv"}]}, "absent.csv"),
        ({"resources": [{"path": "README.md"}, {"path": "README.md"}]}, "no resource twice"),
        ({"resources": [{"path": "README.md", "schema": {}}]}, "a path and a description"),
        ({"id_no": "many"}, "a number as id_no"),
    ],
)
def test_refuses_metadata_that_kaggle_refuses(change, message):
    with pytest.raises(SubmissionError, match=message):
        metadata.check_metadata(committed() | change, pack.FILES)
