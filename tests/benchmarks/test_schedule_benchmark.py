"""Does the schedule pay? Equal compute, the statistics and the report, on made-up numbers; and which trainings are begun."""

import dataclasses
import itertools
import json

import numpy as np
import pytest

from benchmarks import results_files, schedule, schedule_tables
from benchmarks.schedule_arms import ALLOWED_DIFFERENCE, ARMS, QUICK, Setting, compute, equal_arms, stages
from benchmarks.schedule_scores import ALL, complete_seeds, ranked_precisions, summary, t_interval
from retrieval.metrics import average_precision
from training.recipes import read_recipe
from training.schedule import Schedule
from zoo.errors import CheckpointError, DataError, RecipeError

QUERIES = 60
MODELS = ("one", "two")


@pytest.mark.parametrize("setting", [Setting(), Setting(epochs=6), QUICK])
def test_the_arms_cost_the_same_and_differ_in_what_their_names_say(setting):
    arms = equal_arms(setting)
    costs = [compute(made) for made in arms.values()]
    assert max(costs) / min(costs) - 1 <= ALLOWED_DIFFERENCE
    for arm, made in arms.items():
        margins, resolutions = ([stage[key] for stage in made] for key in ("margin", "resolution"))
        assert (len(set(margins)) > 1, len(set(resolutions)) > 1) == ARMS[arm]
        assert (margins[-1], resolutions[-1]) == (setting.margins[-1], setting.resolutions[-1])
        assert [stage["learning_rate"] for stage in made] == list(setting.learning_rates)


def test_the_learning_rate_is_the_same_at_the_same_share_of_the_compute():
    """At the ends of the stages and of the warm-up, which cost the same in all arms."""
    rates = []
    for arm in ("fixed", "resolution"):
        changes = schedule.recipe_changes(QUICK, stages(QUICK, arm))
        recipe = read_recipe(schedule.RECIPE, changes)
        assert recipe.serving_resolution == QUICK.test_resolution
        steps = Schedule(recipe, 64)
        ends = np.cumsum([stage.epochs * 64 for stage in recipe.stages])
        rates.append([steps[int(place)].learning_rate for place in (ends[0] // 8, ends[0] // 2, ends[0], ends[1] - 32)])
    assert rates[0] == pytest.approx(rates[1], abs=1e-3)


def test_arms_that_whole_epochs_make_unequal_are_refused():
    with pytest.raises(RecipeError, match="resolution.*--epochs"):
        equal_arms(Setting(epochs=1))


def made_up(effects: dict[str, float], seeds: int = 5, noise: float = 0.002) -> dict:
    """AP per query of every training: an effect per arm, differences between queries and seeds, and noise."""
    random = np.random.default_rng(0)
    queries, of_seeds = random.uniform(0.3, 0.7, QUERIES), random.normal(0, 0.05, seeds)
    return {
        (model, arm, seed): queries + of_seeds[seed] + effects.get(arm, 0.0) + random.normal(0, noise, QUERIES)
        for model, arm, seed in itertools.product(MODELS, ARMS, range(seeds))
    }


def together(found: dict):
    return lambda members: np.mean([found[member] for member in members], axis=0) + 0.1


def test_a_paired_difference_is_seen_through_larger_differences_between_seeds_and_queries():
    found = made_up({"margin": 0.01, "resolution": -0.01})
    rows = summary(found, MODELS, together(found))["differences"]
    verdicts = {(row["model"], row["arm"]): schedule_tables.verdict(row) for row in rows}
    for model in (*MODELS, ALL):
        assert (verdicts[model, "margin"], verdicts[model, "resolution"]) == ("better", "worse")
    row = next(row for row in rows if (row["model"], row["arm"]) == (ALL, "margin"))
    assert row["difference"] == pytest.approx(0.01, abs=0.002)
    for interval in ("over_seeds", "over_queries"):
        assert row[interval][0] < row["difference"] < row[interval][1]


def test_a_difference_that_one_seed_alone_makes_is_not_shown():
    found = made_up({})
    found = {key: value + 0.2 * (key[1:] == ("both", 0)) for key, value in found.items()}
    rows = summary(found, MODELS, together(found))["differences"]
    row = next(row for row in rows if (row["model"], row["arm"]) == (ALL, "both"))
    assert row["difference"] > 0.03 and row["over_queries"][0] > 0
    assert schedule_tables.verdict(row) == "no"


@pytest.mark.parametrize(("count", "quantile"), [(2, 12.706), (5, 2.776), (16, 2.131), (17, 2.120), (31, 2.042)])
def test_a_t_interval(count, quantile):
    values = np.arange(count) / count
    low, high = t_interval(values.tolist())
    assert (low + high) / 2 == pytest.approx(values.mean())
    assert (high - low) / 2 == pytest.approx(quantile * values.std(ddof=1) / np.sqrt(count), rel=3e-3)


def test_one_value_has_no_interval():
    assert t_interval([0.5]) is None


def test_a_seed_counts_only_if_all_arms_have_it():
    found = made_up({}, seeds=3)
    del found["one", "both", 1]
    assert complete_seeds(found, ["one"]) == complete_seeds(found, MODELS) == [0, 2]
    assert complete_seeds(found, ["two"]) == [0, 1, 2]
    rows = summary(found, MODELS, together(found))
    assert {(row["model"], row["seeds"]) for row in rows["differences"]} == {("one", 2), ("two", 3), (ALL, 2)}


def test_an_ensemble_is_compared_with_its_best_member():
    found = made_up({}, seeds=2)
    found = {key: value + 0.3 * (key[0] == "two") for key, value in found.items()}
    rows = summary(found, MODELS, together(found))["ensembles"]
    of_models = next(row for row in rows if row["members"] == "2 models" and row["arm"] == "fixed")
    assert of_models["best"] == pytest.approx(np.mean([found["two", "fixed", seed].mean() for seed in range(2)]))
    assert of_models["difference"] == pytest.approx(of_models["ensemble"] - of_models["best"])
    assert schedule_tables.verdict(of_models) == "worse"
    assert {row["members"] for row in rows} == {"2 models", "2 seeds of one", "2 seeds of two"}
    assert all(row["over_seeds"] is None for row in rows if "seeds" in row["members"])


def test_the_ranking_is_by_distance_and_keeps_the_order_of_equals():
    random = np.random.default_rng(1)
    index, queries = random.normal(size=(40, 4)).astype(np.float32), random.normal(size=(5, 4)).astype(np.float32)
    index[7] = index[3]
    ids = [f"{row:02}" for row in range(40)]
    truth = [["07"], ["03"], ["00", "39"], ["05"], ["11", "12", "13"]]
    expected = []
    for query, right in zip(queries, truth, strict=True):
        nearest = sorted(range(40), key=lambda row, q=query: (float(np.linalg.norm(index[row] - q)), row))
        expected.append(average_precision([ids[row] for row in nearest[:10]], right, 10))
    assert ranked_precisions(index, ids, queries, truth, 10) == pytest.approx(expected)


def figures(found: dict, setting: Setting = QUICK) -> dict:
    shown = {"device": "a GPU", "precision": "bfloat16", "torch": "2", "images": 1084, "batches": 33, "index": 824}
    rows = [{"model": m, "arm": a, "seed": s, "map100": 0.5, "seconds": 9.0} for m, a, s in found]
    known = {
        "setting": dataclasses.asdict(setting) | shown | {"queries": QUERIES, "batch_size": 32},
        "arms": equal_arms(setting),
        "trainings": rows,
        "failed": [],
    }
    return known | summary(found, MODELS, together(found))


def test_the_report_shows_every_arm_and_is_a_table():
    found = made_up({"margin": 0.01})
    made = json.loads(json.dumps(figures(found)))  # as it is stored
    text = schedule_tables.report(made)
    assert "| (c) resolution rises | 0.2 | 32 → 64 | 8 + 2 | 330 | 1.000 | 9 |" in text
    assert "complete in all arms: 5 seeds." in text and "failed" not in text
    for table in text.split("\n\n")[1:]:
        head, rule, *rows = table.splitlines()
        assert {line.count("|") for line in (head, rule, *rows)} == {head.count("|")}
        assert rows


def test_a_report_without_a_complete_seed_says_so():
    text = schedule_tables.report(figures({("one", "fixed", 0): np.full(QUERIES, 0.5)}) | {"failed": ["one-both-0"]})
    assert "complete in all arms: no seeds; **failed: 1**" in text
    assert "difference" not in text


class Runs(schedule.Trainings):
    """Trainings that end at once, one of them with status 1; after the first of seed 2, the time is up."""

    def _wait_for(self, member):
        if member == ("one", "fixed", 2):
            self._until = 0.0
        if member[1:] != ("both", 1):
            self.path(member).touch()
        return member[1:] == ("both", 1)


def started(folder):
    options = schedule.Options(folder, folder / "work", "cpu", "float32", at_once=1, minutes=100.0)
    return Runs(options, QUICK, equal_arms(QUICK))


def of(*seeds):
    return [("one", arm, seed) for seed in seeds for arm in ARMS]


def test_a_failed_training_is_named_and_the_others_go_on(tmp_path):
    runs, done = started(tmp_path), []
    runs.run(of(0, 1), done.extend)
    assert runs.failed == [("one", "both", 1)]
    assert sorted(done) == sorted(set(of(0, 1)) - set(runs.failed))


def test_a_model_and_seed_that_are_begun_get_all_their_arms(tmp_path):
    runs, done = started(tmp_path), []
    runs.run(of(0, 2, 3), done.extend)
    assert sorted(done) == sorted(of(0, 2))
    assert not runs.failed


def test_what_is_finished_is_not_trained_again(tmp_path):
    for _ in range(2):
        runs, done = started(tmp_path), []
        runs.run(of(0), done.extend)
        assert sorted(done) == sorted(of(0))
    assert len(json.loads(runs.path(done[0], ".seconds.json").read_text(encoding="utf-8"))) == 1


def test_a_checkpoint_of_another_setting_is_refused(tmp_path, monkeypatch):
    runs = started(tmp_path)
    recipe = runs.recipe(("resnet10_narrow", "fixed", 3))
    assert recipe.seed == 3 and recipe.stages[0].margin == QUICK.margins[-1]

    def other(path):
        return type("Found", (), {"provenance": {"recipe": "other"}})

    monkeypatch.setattr(schedule, "load_checkpoint", other)
    with pytest.raises(CheckpointError, match="another recipe"):
        runs.checkpoint(("resnet10_narrow", "fixed", 3))


def test_results_of_another_machine_are_stored_if_the_code_is_the_same(tmp_path, monkeypatch):
    monkeypatch.setitem(results_files.CODE, "schedule", ("zoo/errors.py",))
    made = results_files.write_results("schedule", {"x": 1}, tmp_path / "made.json")
    stored = results_files.adopt("schedule", made, tmp_path)
    assert json.loads(stored.read_text(encoding="utf-8"))["results"] == {"x": 1}
    monkeypatch.setitem(results_files.CODE, "schedule", ("zoo/files.py",))
    with pytest.raises(DataError, match="measured with the code"):
        results_files.adopt("schedule", made, tmp_path)
