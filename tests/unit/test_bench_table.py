"""Of a benchmark only what it makes of its figures: a figure is nothing to assert."""

import pytest

from tests.bench.table import Goal, Row, lines_of, medians


class TestRow:
    @pytest.mark.parametrize(
        ("goal", "said", "met"),
        [
            (Goal(2), "≤ 2", "yes"),
            (Goal(1.9), "≤ 1.9", "no"),
            (Goal(2, is_least=True), "≥ 2", "yes"),
            (Goal(2.1, is_least=True), "≥ 2.1", "no"),
            (Goal(16, is_of_ours=True), "≤ 16 MB", "yes"),
            (Goal(15.9, is_of_ours=True), "≤ 15.9 MB", "no"),
        ],
    )
    def test_meets_its_goal_by_its_ratio_or_by_itself(self, goal: Goal, said: str, met: str):
        row = Row("growth", 16, 8, "MB", goal)

        assert {
            "name": "growth",
            "ours": 16,
            "reference": 8,
            "unit": "MB",
            "ratio": 2,
            "goal": said,
            "met": met == "yes",
        } == row.said()
        assert (said, met) == row.cells()[-2:]


class TestLines:
    def test_are_a_table_as_wide_as_its_widest(self):
        rows = [Row("a", 6.0714, 2.64, "ms", Goal(2)), Row("longer", 16, 200, "MB", Goal(0.08))]

        assert [
            "| name   | ours     | reference | ratio | goal   | met |",
            "| ------ | -------- | --------- | ----- | ------ | --- |",
            "| a      | 6.071 ms | 2.64 ms   | 2.3   | ≤ 2    | no  |",
            "| longer | 16 MB    | 200 MB    | 0.08  | ≤ 0.08 | yes |",
        ] == lines_of(rows)


class TestMedians:
    def test_are_of_all_rounds_in_which_each_has_its_turn(self):
        turns = []

        def measure(name: str, *samples: float) -> list[float]:
            turns.append(name)
            return [len(turns) * sample for sample in samples]

        found = medians(2, lambda: measure("ours", 1, 10), lambda: measure("reference", 1))

        assert ["ours", "reference", "ours", "reference"] == turns
        # Of 1, 10, 3, 30 and of 2, 4.
        assert [6.5, 3] == found
