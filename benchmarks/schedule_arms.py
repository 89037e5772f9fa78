"""The arms of `benchmarks.schedule`: stages that rise in margin, in resolution, in both or in neither, at equal compute."""

from collections.abc import Sequence
from dataclasses import dataclass

from zoo.errors import RecipeError

ARMS = {
    "fixed": (False, False),
    "margin": (True, False),
    "resolution": (False, True),
    "both": (True, True),
}
"""Arm → whether its margin rises, and whether its resolution does. The first is what the others are compared with."""
ALLOWED_DIFFERENCE = 0.02
"""Of the arms' compute, as a share of the first one's."""


@dataclass(frozen=True)
class Setting:
    """What the arms have in common; a list has one value per stage.

    The margins rise from the first to the last one of recipes/photographs.yaml; docs/schedule.md says why to no larger one.

    Attributes:
        margins: of the stages of an arm whose margin rises; the others have the last one throughout.
        resolutions: in pixels; likewise.
        learning_rates: at the start of each stage, from which it falls to 0; the same in all arms.
        epochs: of each stage at the last resolution. A stage at a lower one has as many more as its pixels are fewer.
        warmup: share of the first stage in which the learning rate rises.
        test_resolution: of index and queries, in pixels.
    """

    margins: tuple[float, ...] = (0.05, 0.1, 0.2)
    resolutions: tuple[int, ...] = (64, 96, 128)
    learning_rates: tuple[float, ...] = (0.05, 0.03, 0.015)
    epochs: int = 8
    warmup: float = 0.125
    test_resolution: int = 144


QUICK = Setting((0.05, 0.2), (32, 64), (0.05, 0.02), epochs=2, test_resolution=72)
"""Minutes on two cores; too short to show more than that everything works."""


def stages(setting: Setting, arm: str) -> list[dict]:
    """An arm's stages, as a recipe has them (`training.recipes.Stage`).

    Every stage costs the same in all arms, but for the rounding to whole epochs, and its learning rate is the same function of
    the compute.
    """
    margin_rises, resolution_rises = ARMS[arm]
    last = setting.resolutions[-1]
    made = []
    for number, rate in enumerate(setting.learning_rates):
        resolution = setting.resolutions[number] if resolution_rises else last
        epochs = max(1, round(setting.epochs * last**2 / resolution**2))
        made.append(
            {
                "epochs": epochs,
                "resolution": resolution,
                "margin": setting.margins[number] if margin_rises else setting.margins[-1],
                "learning_rate": rate,
                "warmup_epochs": epochs * setting.warmup if number == 0 else 0.0,
            }
        )
    return made


def compute(arm_stages: Sequence[dict]) -> int:
    """Pixels per training image: the sum of epochs × resolution²."""
    return sum(stage["epochs"] * stage["resolution"] ** 2 for stage in arm_stages)


def equal_arms(setting: Setting) -> dict[str, list[dict]]:
    """Every arm's stages.

    Raises:
        RecipeError: an arm's compute differs by more than `ALLOWED_DIFFERENCE`, because epochs are whole.
    """
    arms = {arm: stages(setting, arm) for arm in ARMS}
    first = compute(next(iter(arms.values())))
    for arm, made in arms.items():
        difference = compute(made) / first - 1
        if abs(difference) > ALLOWED_DIFFERENCE:
            raise RecipeError(
                f"arm {arm}: whole epochs at {', '.join(str(stage['resolution']) for stage in made)} px cost {difference:+.1%} "
                f"compared with the first arm; expected at most {ALLOWED_DIFFERENCE:.0%}. Choose other --epochs, such as 8."
            )
    return arms
