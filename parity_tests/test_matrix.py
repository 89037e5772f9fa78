"""The whole matrix: the small version of every variant, from both frameworks, into a real TensorFlow 2.2; and complete tables."""

import re
from pathlib import Path

import pytest

from export import parity
from parity_tests import matrix
from parity_tests.full_size import CHECK_SIZES, FULL_SIZE, SIZE
from parity_tests.libraries import MAKERS
from parity_tests.results_table import read
from parity_tests.small_models import FAMILIES, SMALL_SPECS
from zoo.constants import FRAMEWORKS
from zoo.tolerances import TOLERANCES, Difference
from zoo.variants import VARIANTS

MODELS_PAGE = Path(__file__).resolve().parents[1] / "docs" / "models.md"


def arrows(framework: str) -> list[str]:
    """Every step of one network from a framework into TensorFlow 2.2."""
    first = ["torch ↔ paddle", f"{framework} → onnx", "onnx → normal form", "normal form → savedmodel"]
    return [*first, "preprocessing → graph", "savedmodel → tf 2.2", f"{framework} → tf 2.2"]


@pytest.fixture(scope="module")
def rows(tmp_path_factory, tf22_python, request) -> dict[tuple[str, str], list[parity.Row]]:
    folder = tmp_path_factory.mktemp("matrix")
    found = matrix.measure(folder)
    if request.config.getoption("--write-parity"):
        matrix.write_table(folder, found)
    return found


def test_every_arrow_of_every_member_holds(rows):
    assert set(rows) == {(name, framework) for name in SMALL_SPECS for framework in FRAMEWORKS}
    for (_, framework), found in rows.items():
        assert [row.arrow for row in found] == arrows(framework)
    parity.require([row for found in rows.values() for row in found])


# The tests below read only the tables. `python -m parity_tests.matrix`, `python -m parity_tests.full_size` and
# `python docs/generate.py` write them.


def measured(network: str) -> dict[tuple[str, str], dict[tuple[str, str], dict[str, str]]]:
    """Rows of parity.csv by (model, framework), then by (arrow, size)."""
    found: dict = {}
    for row in read():
        if row["network"] == network:
            found.setdefault((row["model"], row["framework"]), {})[row["arrow"], row["size"]] = row
    return found


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_has_parity_rows(name, framework):
    found = measured("small").get((FAMILIES[name], framework), {})
    assert {arrow for arrow, _ in found} == set(arrows(framework))


@pytest.mark.parametrize("name", [n for n, row in VARIANTS.items() if row.equals or "narrow" not in n])
def test_every_variant_has_an_oracle(name):
    """The narrow networks of the demo are not published; the published members of their families represent them."""
    assert VARIANTS[name].equals
    assert all(source.split(" ")[0] in MAKERS for source in VARIANTS[name].equals)


def test_every_variant_has_a_row_in_the_documentation():
    page = MODELS_PAGE.read_text(encoding="utf-8")
    assert not [name for name in VARIANTS if not re.search(rf"^\| `{name}` \|", page, re.MULTILINE)]


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("name", FULL_SIZE)
def test_every_full_size_network_was_measured(name, framework):
    found = measured("full size").get((name, framework), {})
    wanted = {(arrow, str(size)) for arrow in arrows(framework) for size in (SIZE, *CHECK_SIZES)}
    # Images of any size are resized to the served one, so that arrow has no other sizes.
    wanted -= {("preprocessing → graph", str(size)) for size in CHECK_SIZES}
    assert set(found) == wanted


def test_every_row_is_within_the_current_tolerance():
    for row in read():
        tolerance = TOLERANCES[row["arrow"]]
        assert Difference(float(row["max_abs"]), float(row["cosine"])).within(tolerance), row
        assert float(row["tolerance"]) == tolerance.max_abs
