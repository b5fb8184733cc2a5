from __future__ import annotations

import dataclasses
from datetime import date, datetime

import pytest
from report_rows import DS, audit_rows, bin_rows, day_rows, metric_rows, model_row, sample_report

from clickmill.report.data import Collisions


def test_models_stand_by_ne_and_those_without_ne_last():
    rows = [*metric_rows("b-1", 0.82), *metric_rows("a-1", 0.81), *metric_rows("c-1", 0.5)]
    for row in rows:
        if row["model_id"] == "c-1" and row["metric"] == "ne":
            row.update(value=None, reason="all labels agree")
    report = sample_report(metrics=rows)
    assert [model.model_id for model in report.models] == ["a-1", "b-1", "c-1"]
    assert report.models[-1].figure("ne").reason == "all labels agree"


def test_a_model_holds_its_figures_of_each_stage_and_what_it_was_trained_with():
    model = sample_report().models[0]
    assert model.figure("calibration_ratio", "p_sampled").value == 9.8
    assert model.figure("calibration_ratio").value == 1.0031
    assert (model.bits, model.keep_rate, model.calibration, model.trained_on) == (22, 0.05, "platt", {"sample": 3})
    assert (model.n, model.clicks, model.traffic) == (200_000, 6_021, "full")


def test_slices_do_not_reach_the_leaderboard():
    rows = metric_rows("a-1", 0.81)
    report = sample_report(metrics=rows + day_rows("a-1", {"2026-01-10": 0.3}))
    assert report.models[0].figure("ne").value == 0.81


def test_a_metric_that_was_not_computed_says_so():
    assert sample_report().models[0].figure("brier").reason == "not computed"


def test_training_that_hit_its_limit_is_remarked():
    stopped = {model.name: model.remarks for model in sample_report().models}
    assert stopped["lr"] == ()
    assert "200 iterations" in stopped["lr_nocross"][0]


def test_a_judged_model_whose_training_row_is_gone_is_shown_by_its_id():
    report = sample_report(models=[])
    assert report.models[0].name == report.models[0].model_id
    assert report.models[0].seconds is None


def test_a_day_judged_twice_has_the_later_evaluation_under_the_models_name():
    old, new = "lr-2026-01-09-aa", "lr-2026-01-10-bb"
    history = [
        *day_rows(new, {"2026-01-09": 0.80, "2026-01-10": 0.81}),
        *[{**row, "ds": date(2026, 1, 9)} for row in day_rows(old, {"2026-01-08": 0.79, "2026-01-09": 0.99})],
    ]
    report = sample_report(
        metrics=metric_rows(new, 0.8), history=history, models=[model_row(old, "lr"), model_row(new, "lr")]
    )
    assert [(figure.day.day, figure.ne) for figure in report.days] == [(8, 0.79), (9, 0.80), (10, 0.81)]
    assert {figure.name for figure in report.days} == {"lr"}


def test_days_of_models_that_are_not_judged_today_are_left_out():
    report = sample_report(
        metrics=metric_rows("lr-1", 0.8),
        models=[model_row("lr-1", "lr"), model_row("x-1", "other")],
        history=day_rows("x-1", {"2026-01-10": 0.7}),
    )
    assert report.days == ()


def test_slots_stand_by_collision_mass_at_the_fewest_bits_of_a_model():
    report = sample_report()
    assert [slot.slot for slot in report.collisions] == ["c21×user", "c21", "c3"]
    assert report.collisions_day == DS
    assert report.bits == (22,)


def test_bits_that_were_not_audited_are_ordered_by_the_nearest_that_were():
    rows = metric_rows("m-1", 0.8)
    report = sample_report(metrics=rows, models=[model_row("m-1", "m", bits=32)])
    assert report.collisions[0].slot == "c21×user"


@pytest.mark.parametrize(
    ("mass", "enough"), [({18: 0.2, 20: 0.009, 19: 0.01}, 20), ({18: 0.01}, None), ({}, None)]
)
def test_enough_bits_are_the_fewest_with_less_than_one_per_cent(mass, enough):
    assert Collisions("s", 1, 1, None, None, mass).enough_bits() == enough


def test_empty_bins_are_left_out_and_bins_stand_in_order():
    rows = bin_rows("m-1")[::-1]
    rows[3] = {**rows[3], "n": 0.0}
    rows[4] = {**rows[4], "ctr": None}
    model = sample_report(metrics=metric_rows("m-1", 0.8), reliability=rows).models[0]
    found = [bin.p_mean for bin in model.reliability["calibrated"]]
    assert len(found) == 18
    assert found == sorted(found)


def test_rejects_stand_by_number_of_lines():
    rows = [
        {"reason": reason, "lines": n, "source": "s", "line": 1, "text": None}
        for reason, n in (("a", 1), ("b", 5))
    ]
    assert [reject.reason for reject in sample_report(rejects=rows).rejects] == ["b", "a"]


def test_a_day_of_which_nothing_is_known_is_an_empty_report():
    report = sample_report(metrics=[], history=[], reliability=[], models=[], audit=[], rejects=[])
    assert (report.models, report.days, report.collisions, report.rejects) == ((), (), (), ())
    assert not report.knows_truth


def test_the_truth_is_known_where_a_model_is_measured_against_it():
    assert sample_report().knows_truth
    assert not sample_report(metrics=metric_rows("m-1", 0.8, truth=None)).knows_truth


def test_the_report_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        sample_report().ds = datetime(2026, 1, 1).date()


def test_the_audit_of_one_day_is_one_row_a_slot():
    assert len(sample_report(audit=audit_rows("a", 3)).collisions) == 1
