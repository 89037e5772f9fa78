"""Recipes (`training.recipes.read_recipe`)."""

from pathlib import Path

from hypothesis import strategies as st

from tests.reliability.mutations import damaged
from tests.reliability.reader import Reader
from training.recipes import read_recipe

_VALID = b"""models: [resnet10_narrow, resnest14_narrow]
batch_size: 32
scale: 30.0
weight_decay: 5e-4
gradient_clip: null
head: {neck: linear_bn, embedding_size: 64}
augmentation: {crop_area: [0.6, 1.0], flip: true}
stages:
  - {epochs: 5, resolution: 48, margin: 0.05, learning_rate: 0.05, warmup_epochs: 1}
  - {epochs: 7, resolution: 64, margin: 0.2, learning_rate: 0.03}
"""
_LINES = _VALID.decode().splitlines()
_VALUES = st.one_of(
    st.sampled_from(
        (
            *(
                "0",
                "-1",
                "1",
                "1e400",
                ".inf",
                ".nan",
                "9" * 5000,
                "true",
                "null",
                "''",
                "[]",
                "{}",
                "[1, 2]",
                "!!int abc",
                "010",
            ),
            *(
                "!!timestamp 2001-01-01",
                "!!bool maybe",
                "!!binary x",
                "!!python/object/apply:os.system [touch executed]",
                "*a",
            ),
            *(
                "!!set {a, b}",
                "1:30:10",
                "2001-12-14",
                "0x10",
                "0b1",
                "1_000",
                "|\n  a",
                "'\\ud800'",
                '"\\uD800"',
                "&a [*a]",
            ),
        )
    ),
    st.text(max_size=12),
)
_LAUGHS = "a0: &a0 [lol]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12))
_HOSTILE = (
    _LAUGHS.encode(),
    b"models: &m [*m]\n",
    b"[" * 100_000,
    b"{a: " * 50_000,
    b"- " * 60_000,
    b"? " * 60_000,
    b"!" * 100_000,
    b"a: 1\n" * 20_000,
    b"&a " * 30_000,
    b"'" * 120_001,
    b'"' + b"\\x41" * 30_000,
    b"# " * (1 << 20),
    b"\xff\xfem\x00",
    b"%YAML 1.2\n---\n" * 1000,
    b"<<: {models: [resnet18]}\n",
    b"a: " + b"1:" * 60_000 + b"1",
)


@st.composite
def _edited(draw: st.DrawFn) -> bytes:
    """A recipe in which values are others, lines are twice, or missing."""
    lines = list(_LINES)
    for _ in range(draw(st.integers(1, 3))):
        number = draw(st.integers(0, len(lines) - 1))
        kind = draw(st.sampled_from(("value", "value", "value", "twice", "missing", "indent")))
        if kind == "value" and ":" in lines[number]:
            lines[number] = f"{lines[number].partition(':')[0]}: {draw(_VALUES)}"
        elif kind == "twice":
            lines.insert(number, lines[number])
        elif kind == "missing" and len(lines) > 1:
            del lines[number]
        elif kind == "indent":
            lines[number] = draw(st.sampled_from((" ", "\t", "- ", "  "))) + lines[number]
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def _read(path: Path) -> None:
    recipe = read_recipe(path)
    assert recipe.batch_size > 1 and recipe.stages
    for model in recipe.models:
        recipe.spec(model)


READER = Reader(
    "recipe (YAML)",
    st.one_of(damaged(_VALID), _edited(), st.sampled_from(_HOSTILE)),
    _read,
    place="recipe.yaml",
)
