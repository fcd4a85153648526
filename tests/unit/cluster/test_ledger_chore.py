"""How late a change in MLflow can be seen."""

from __future__ import annotations

import pytest

from cluster.keeper.ledger_chore import rest_s


@pytest.mark.parametrize("took_s", [0.0, 0.1, 0.4, 0.8])
def test_while_all_is_read_within_a_second_a_change_is_seen_within_five(took_s):
    assert rest_s(took_s) + took_s <= 5.0


@pytest.mark.parametrize("took_s", [1.0, 8.0, 20.0, 40.0, 55.0])
def test_a_change_is_seen_within_a_minute_however_long_reading_takes(took_s):
    assert rest_s(took_s) + took_s <= 60.0


@pytest.mark.parametrize("took_s", [0.5, 2.0, 5.0])
def test_mlflow_is_left_alone_most_of_the_time(took_s):
    assert rest_s(took_s) >= 4 * took_s
