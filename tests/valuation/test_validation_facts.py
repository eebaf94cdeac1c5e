"""Facts and tables of validation, contest, track record, early warning and win-back: they say what the results say."""

import datetime as dt
from dataclasses import dataclass, replace

import ibis
import numpy as np
import pandas as pd
import pytest

from analysis import valuation
from analysis.reporting.numbers import Formatter
from analysis.reporting.sentences import Sentences
from analysis.valuation.early_warning import BROKE, DRIFTING, IN_RHYTHM
from analysis.valuation.intervals import share_interval
from analysis.valuation.validation import calibration

FMT = Formatter("en", "USD")
START, DAYS = dt.date(2023, 1, 1), 364
END = START + dt.timedelta(days=DAYS - 1)
CLOCK = {"observed_from": START, "observed_to": END}
MONEYS = ["value_in_rhythm", "value_now", "value_at_risk", "most_to_spend"]
SHARES = ["overdue_probability", "probability_alive", "probability_by_habit", "break_even"]


def order_lines(customers=400, seed=4, days=DAYS):
    """Customers who buy at random at their own rate from their first day on; some leave."""
    rng, rows = np.random.default_rng(seed), []
    for i in range(customers):
        rate, first = rng.gamma(2.0, 0.03), rng.integers(0, 90)
        last = first + rng.exponential(300)
        bought = np.flatnonzero(rng.random(days) < rate)
        for day in {first, *bought[(bought > first) & (bought < last)]}:
            rows.append((f"{i:04d}", START + dt.timedelta(days=int(day)), round(float(rng.lognormal(2.5, 0.5)), 2)))
    frame = pd.DataFrame(rows, columns=["customer_id", "order_date", "net_amount"])
    frame["order_id"], frame["is_return"] = frame.index.astype(str), False
    lines = ibis.memtable(frame)
    return lines.mutate(net_amount=lines.net_amount.cast("decimal(18, 4)"))


@dataclass(frozen=True)
class Base:
    lines: ibis.Table
    summary: pd.DataFrame
    models: valuation.FittedModels
    holdout: valuation.Holdout
    value: valuation.CustomerValue


def valued(lines, entry="first_purchase", margin=0.3):
    summary = valuation.customer_summary(lines, END, margin).to_pandas()
    models = valuation.fit_models(summary)
    holdout, _ = valuation.run_holdout(lines, START, END, entry, 13)
    value = valuation.customer_value(
        summary,
        models,
        holdout,
        horizon_weeks=52,
        entry=entry,
        recent=valuation.recent_activity(lines, END, 91),
        margin_rate=margin,
        discount_rate=0.1,
        draws=100,
        **CLOCK,
    )
    return Base(lines, summary, models, holdout, value)


@pytest.fixture(scope="module")
def base():
    return valued(order_lines())


@pytest.fixture(scope="module")
def warning(base):
    return warned(base)


def warned(base, entry="first_purchase", **options):
    given = {"saved": 0.2, "top_share": 0.5, "contact_cost": 0.5, "annual_discount": 0.1, "entry": entry} | options
    found, reason = valuation.run_early_warning(base.lines, base.summary, base.value, base.models, **CLOCK, **given)
    assert (found is None) == bool(reason)
    return found


def won(base, **options):
    given = {"lapse_weeks": 8, "return_weeks": 8, "annual_discount": 0.1, "contact_cost": 0.5} | options
    return valuation.run_win_back(base.lines, base.summary, base.value, **CLOCK, **given)


# -- early warning


def test_the_warning_says_what_was_found(base, warning):
    facts = valuation.warning_facts(warning, base.value, 0.5)
    listed = valuation.warning_list(warning)
    assert facts["listed"] == len(listed) == warning.alarms + warning.drifting >= 10
    assert set(listed["stage"]) <= {BROKE, DRIFTING}
    assert facts["risk_low"] <= facts["at_risk"] <= facts["risk_high"] and facts["risk_reason"] is None
    assert facts["break_even"] is None or facts["split"]
    assert (facts["kind"], facts["horizon"], facts["saved"]) == ("margin", 52, 0.2)
    assert (facts["watched"], facts["least_purchases"]) == (warning.watched, 9) and facts["best"] >= warning.watched
    assert 0.0 <= facts["left_out_share"] <= 1.0
    assert facts["expected_saved"] is None or facts["expected_saved"] == pytest.approx(0.2 * facts["kept_value"])


def test_the_first_and_half_are_counted_by_their_days(base, warning):
    found = warning_of(warning, [LOST, DRIFTED])
    found.frame.loc[~found.frame["late"], "act_by"] = [END + dt.timedelta(days=d) for d in range(138)]
    facts = valuation.warning_facts(found, base.value, 0.5)
    assert (facts["first_by"], facts["first_due"]) == (END + dt.timedelta(days=13), 14)
    assert (facts["half_by"], facts["half_due"]) == (END + dt.timedelta(days=68), 69)
    assert not facts["first_now"] and not facts["half_now"]
    # never fewer than a small group, and those who are due on the same day are counted with it
    found.frame.loc[~found.frame["late"], "act_by"] = [END] * 30 + [END + dt.timedelta(days=1)] * 108
    facts = valuation.warning_facts(found, base.value, 0.5, small_group=20)
    assert (facts["first_by"], facts["first_due"], facts["first_now"]) == (END, 30, True)
    assert (facts["half_due"], facts["half_now"]) == (138, False)
    few = valuation.warning_facts(found, base.value, 0.5, small_group=200)
    assert few["first_by"] is None and few["half_by"] is None


def test_the_list_begins_with_the_first_to_act_on_and_is_rounded(warning):
    listed = valuation.warning_list(warning_of(warning, [LOST, DRIFTED]))
    late = listed["late"].to_numpy()
    assert late.sum() == 113 and not late[:138].any()
    in_time = listed[~late]
    assert in_time["act_by"].is_monotonic_increasing
    for _, day in in_time.groupby("act_by"):
        assert day["most_to_spend"].is_monotonic_decreasing
    assert listed.loc[late, "value_at_risk"].is_monotonic_decreasing
    for names, decimals in ((MONEYS, 2), (SHARES, 3), (["usual_gap"], 1)):
        assert (listed[names] == listed[names].round(decimals)).all(axis=None)
    assert listed["silent_days"].dtype == "int64" and not listed["late"].isna().any()


def test_the_headline_leaves_out_what_it_does_not_count_on(base, warning):
    facts = valuation.warning_facts(warning, base.value, 0.5)
    # the model in use values them as they stand, so all that is at risk is out of the total
    assert base.value.forecast_kind != "model" or facts["left_out_share"] == pytest.approx(1.0, abs=1e-6)
    rosy = base.value.frame.assign(residual_value=1e9)
    facts = valuation.warning_facts(warning, replace(base.value, frame=rosy), 0.5)
    assert facts["left_out_share"] == 0.0


# -- the early warning on earlier days


def test_the_replay_says_what_came_of_earlier_lists(base, warning):
    replay = warning.replay
    facts = valuation.replay_facts(replay, base.value, base.holdout)
    assert (facts["weeks"], facts["times"]) == (13, 2) and facts["latest"] == END - dt.timedelta(weeks=13)
    counted = sum(facts[f"{name}_n"] or 0 for name in ("late", "in_time", "rhythm"))
    assert counted <= len(replay.frame)
    for name in ("late", "in_time", "rhythm", "now_late", "now_in_time"):
        if facts[f"{name}_n"] is not None:
            assert facts[f"{name}_low"] <= facts[f"{name}_share"] <= facts[f"{name}_high"]
            assert facts[f"{name}_share"] == facts[f"{name}_returned"] / facts[f"{name}_n"]
            assert facts[f"{name}_share"] <= facts[f"{name}_since"] and facts[f"{name}_said"] <= facts[f"{name}_says"]
    table = valuation.replay_table(replay, FMT)
    assert list(table.columns) == list(valuation.REPLAY_COLUMNS)
    assert table["group"].tolist()[-1] == "in rhythm" and table["customers"].sum() == counted


def test_what_the_model_foresaw_is_told_of_the_same_weeks_only(base, warning):
    facts = valuation.replay_facts(warning.replay, base.value, base.holdout, small_group=1)
    if base.value.forecast_kind == "model":
        broke = warning.replay.frame.query("stage == @BROKE and cut == @warning.replay.cuts[0]")
        assert facts["model_of"] == len(broke) and facts["model_came"] == broke["bought"].sum()
    other = replace(base.holdout, weeks=26.0)
    assert valuation.replay_facts(warning.replay, base.value, other)["model"] is None
    assert valuation.replay_facts(warning.replay, base.value)["model"] is None


def test_few_in_a_replay_are_not_told(base, warning):
    facts = valuation.replay_facts(warning.replay, base.value, base.holdout, small_group=10_000)
    assert facts["late_share"] is None and facts["now_in_time_says"] is None and facts["held"] and not facts["too_low"]
    assert valuation.replay_table(warning.replay, FMT, small_group=10_000).empty


def test_a_history_too_short_to_replay_says_so(base):
    found = warned(base, replay_weeks=30)
    assert found.replay is None and "less than half of the 364 observed days" in found.replay_reason
    facts = valuation.warning_facts(found, base.value, 0.5)
    assert (facts["replayed"], facts["corrected"], facts["replay_reason"]) == (False, False, found.replay_reason)
    assert (found.frame["probability_alive"] == found.frame["probability_by_habit"]).all()


def warning_of(warning, parts):
    """A warning whose list holds, for each part, so many customers at a stage, late or not, each with so much at risk."""
    rows = [warning.frame.iloc[np.arange(n) % len(warning.frame)].assign(**row) for n, row in parts]
    frame = pd.concat(rows, ignore_index=True)
    frame["most_to_spend"] = np.where(frame["late"], 0.0, 0.2 * frame["value_at_risk"])
    sums = {late: frame.loc[frame["late"] == late, "value_at_risk"].sum() for late in (True, False)}
    return replace(
        warning,
        frame=frame,
        alarms=int((frame["stage"] == BROKE).sum()),
        drifting=int((frame["stage"] == DRIFTING).sum()),
        value_at_risk=valuation.Estimate(sum(sums.values()), 1.0, 1e6),
        in_time=valuation.Estimate(sums[False], 0.9 * sums[False], 1.1 * sums[False]),
        late=valuation.Estimate(sums[True], 0.9 * sums[True], 1.1 * sums[True]),
        most_to_spend=float(frame["most_to_spend"].sum()),
    )


LOST = (113, {"stage": BROKE, "late": True, "value_at_risk": 700.0})
DRIFTED = (138, {"stage": DRIFTING, "late": False, "value_at_risk": 165.0})


def keep_sentences(facts):
    sentences = Sentences("02_customer_valuation", FMT)
    words = {"customer": "customer", "customers": "customers"} | facts
    ends = {"value": facts["at_risk"], "low": facts["risk_low"], "high": facts["risk_high"]}
    said = [sentences.render(name, **ends, **words) for name in ("early_warning", "early_warning_habit")]
    return " ".join(said), sentences.render("saved_check", **words)


def test_what_can_be_kept_is_told_apart_from_what_is_lost(base, warning):
    found = warning_of(warning, [LOST, (1, LOST[1] | {"stage": DRIFTING}), DRIFTED])
    facts, table = valuation.warning_facts(found, base.value, 2.0), valuation.warning_table(found)
    by_group = table.set_index("group")["customers"].to_dict()
    # one who drifts and is late is hidden in a group, and the sentence counts as the table does
    assert by_group == {"broken or drifting, probably too late": 114, "broken or drifting, still in time": 138}
    assert (facts["late"], facts["in_time"]) == (114, 138)
    assert facts["late_value"] + facts["kept_value"] == pytest.approx(facts["at_risk"])
    assert facts["spend_each"] == pytest.approx(33.0) and facts["break_even"] == pytest.approx(2.0 / 165.0)
    said, checked = keep_sentences(facts)
    assert "$79,800 of what is at risk is probably lost already: that of 114 " in said and "$22,770 of it" in said
    assert "On those 138 spend at most $33.00 each" in checked and "On the others nothing" in checked


def test_too_few_of_either_are_told_apart_nowhere(base, warning):
    few = warning_of(warning, [(3, LOST[1]), (12, LOST[1] | {"late": False}), DRIFTED])
    facts, table = valuation.warning_facts(few, base.value, 2.0), valuation.warning_table(few)
    assert table["group"].tolist() == ["broken", "drifting"]
    told = ("late", "late_value", "in_time", "kept_value", "break_even", "spend_each")
    assert not facts["split"] and [facts[name] for name in told] == [None] * 6
    said, checked = keep_sentences(facts)
    assert "lost" not in said and "Act on the" in said and "spend" not in checked


def test_all_in_time_and_all_late(base, warning):
    said, checked = keep_sentences(valuation.warning_facts(warning_of(warning, [DRIFTED]), base.value, None))
    assert (
        "138 of the best customers are late by their own habit, but more likely still there" in said
        and "On the others" not in checked
    )
    assert "no campaign does" in checked
    gone = valuation.warning_facts(warning_of(warning, [LOST]), base.value, 2.0, 10, "campaigns")
    said, checked = keep_sentences(gone)
    assert "that of 113 who are more likely gone" in said and "kept (" not in said
    assert gone["spend_each"] is None and checked.endswith("(parameter saved).")


def test_the_origin_of_the_cost_is_said(base, warning):
    facts = valuation.warning_facts(warning_of(warning, [LOST, DRIFTED]), base.value, 2.0, 10, "campaigns")
    assert "At $2.00 a contact, the average of the campaigns so far" in keep_sentences(facts)[1]
    stated = valuation.warning_facts(warning_of(warning, [LOST, DRIFTED]), base.value, 2.0)
    assert "At $2.00 a contact, contacting all who can still be kept" in keep_sentences(stated)[1]


def test_money_and_days_of_few_are_not_told(base, warning):
    facts = valuation.warning_facts(warning, base.value, 0.5, small_group=10_000)
    hidden = ("at_risk", "risk_low", "risk_high", "first_by", "half_by", "break_even", "spend_each", "left_out_share")
    assert [facts[name] for name in hidden] == [None] * 8
    assert "fewer than 10000" in facts["risk_reason"]


def staged(warning, **counts):
    """A warning with so many customers in each stage: late and in time for those who broke, then drifting, then in rhythm."""
    stages = {"late": (BROKE, True), "time": (BROKE, False), "drift": (DRIFTING, False), "rhythm": (IN_RHYTHM, False)}
    parts = [
        warning.frame.iloc[np.arange(n) % len(warning.frame)].assign(stage=stages[k][0], late=stages[k][1])
        for k, n in counts.items()
    ]
    return replace(warning, frame=pd.concat(parts, ignore_index=True))


@pytest.mark.parametrize(
    ("counts", "groups"),
    [
        (
            {"late": 10, "time": 12, "drift": 20, "rhythm": 30},
            {
                "broken, probably too late": 10,
                "broken, still in time": 12,
                "drifting, still in time": 20,
                "in rhythm": 30,
            },
        ),
        (
            {"late": 4, "time": 12, "drift": 20, "rhythm": 30},
            {"broken": 16, "drifting": 20, "in rhythm": 30},
        ),
        ({"late": 4, "time": 3, "drift": 20, "rhythm": 30}, {"broken or drifting": 27, "in rhythm": 30}),
        ({"late": 4, "drift": 3, "rhythm": 30}, {"in rhythm": 30}),
        ({"rhythm": 30}, {"in rhythm": 30}),
    ],
)
def test_small_groups_are_merged_and_then_left_out(warning, counts, groups):
    table = valuation.warning_table(staged(warning, **counts))
    assert table.set_index("group")["customers"].to_dict() == groups
    assert list(table.columns) == list(valuation.WARNING_COLUMNS)


def test_nobody_drops_out_for_being_silent_where_the_last_weeks_are_repeated():
    """Repeating the last weeks foresees nothing for those silent in them, who are the ones to warn of."""
    base = valued(order_lines(300, seed=5), entry="left_truncated")
    repeated = replace(base, value=replace(base.value, forecast="last period", forecast_kind="heuristic"))
    warning = warned(repeated, entry="left_truncated", top_share=1.0)
    silent = warning.frame[warning.frame["silent_days"] > 91]
    assert len(silent) and (silent["value_in_rhythm"] > 0).all()


def test_a_base_without_habits_gives_the_reason(base):
    few = replace(base, lines=base.lines.filter(base.lines.customer_id < "0020"))
    found, reason = valuation.run_early_warning(
        few.lines, base.summary, base.value, base.models, **CLOCK, entry="first_purchase", saved=0.2
    )
    assert found is None and "too few to learn one from" in reason
    unknown = replace(base.value, expected_sales=valuation.Estimate(float("nan")))
    assert warned(replace(base, value=unknown)) is None


# -- win-back


def test_win_back_has_a_gain_and_an_upper_bound_with_intervals(base):
    found, reason = won(base)
    assert not reason
    facts = valuation.win_back_facts(found, base.value, 0.0, 0.5)
    assert facts["brings_low"] <= facts["brings"] <= facts["brings_high"]
    assert facts["return_low"] < facts["return_share"] < facts["return_high"]
    assert facts["needed"] > 0 and facts["lapse_weeks"] == 8
    assert facts["raised"] == 0.2 and facts["pays"] <= facts["worth_it"] and facts["gain"] < facts["brings"]
    more, _ = won(base, raised=1.0)
    facts = valuation.win_back_facts(more, base.value, 0.0, 0.5)
    assert facts["gain_low"] < facts["gain"] < facts["gain_high"] and facts["pays"] > found.pays
    table = valuation.win_back_table(found, FMT)
    assert table["customers"].tolist() == found.groups["customers"].tolist()
    assert set(valuation.WINBACK_COLUMNS) <= set(table)
    for column in ("gain", "worth"):
        assert table[column].str.fullmatch(r"−?\$[\d.,]+ \(−?\$[\d.,]+ – −?\$[\d.,]+\)").all()


def test_the_first_line_of_the_list_is_the_first_to_approach_in_round_numbers(base):
    found, _ = won(base)
    # in whatever order the ranking comes
    listed = valuation.win_back_list(replace(found, frame=found.frame.sample(frac=1.0, random_state=1)), None)
    assert listed["rank"].tolist() == list(range(1, len(listed) + 1)) and listed["gain"].iloc[0] == listed["gain"].max()
    first = found.frame.loc[found.frame["gain"].idxmax()]
    row = listed.iloc[0]
    assert row["customer_id"] == first["customer_id"] and list(listed)[:2] == ["customer_id", "rank"]
    assert (row["gain"], row["second_value"]) == (round(first["gain"], 2), round(first["second_value"], 2))
    assert (row["probability"], row["silent_weeks"]) == (
        round(first["probability"], 3),
        round(first["silent_weeks"], 1),
    )


def test_who_is_on_both_lists_is_said(base, warning):
    found, _ = won(base)
    both = valuation.win_back_list(found, warning).set_index("customer_id")["on_early_warning"]
    assert both.any() and not both.all()
    assert set(both[both].index) == set(found.frame["customer_id"]) & set(
        valuation.warning_list(warning)["customer_id"]
    )
    assert not valuation.win_back_list(found, None)["on_early_warning"].any()


def test_without_cost_and_incentive_no_uplift_is_asked_for(base):
    found, _ = won(base, contact_cost=None)
    assert valuation.win_back_facts(found, base.value, 0.0, None)["needed"] is None
    dear, _ = won(base, incentive=5.0)
    assert dear.expected_value.value < found.expected_value.value
    assert valuation.win_back_facts(dear, base.value, 5.0, 0.5)["needed"] > 0


def test_few_to_win_back_show_no_money(base):
    found, _ = won(base, raised=1.0)
    facts = valuation.win_back_facts(found, base.value, 0.0, 0.5, small_group=10_000)
    assert facts["brings"] is None and "fewer than 10000" in facts["brings_reason"] and facts["needed"] is None
    assert found.pays and facts["gain"] is None and "fewer than 10000" in facts["gain_reason"]


@pytest.mark.parametrize(
    ("options", "reason"),
    [({"lapse_weeks": 50}, "do not hold 50 weeks of silence"), ({"small_group": 5000}, "too few to learn from")],
)
def test_a_short_history_gives_the_reason(base, options, reason):
    found, why = won(base, **options)
    assert found is None and reason in why


# -- validation and contest


@pytest.fixture(scope="module")
def checked(base):
    return valuation.run_validation(base.holdout, base.lines, END, draws=100, small_group=10, seed=1)


def test_validation_simulates_the_best_model_alone(base, checked):
    assert set(checked.totals["forecast"]) == {base.holdout.best_model}
    facts = valuation.validation_facts(checked, base.holdout)
    assert 0 <= facts["inside"] <= facts["groups"] and facts["top_low"] <= facts["top"] <= facts["top_high"]
    assert facts["perfect"] >= facts["top"]
    assert valuation.rankers(base.holdout) == [base.holdout.best_model, base.holdout.best_heuristic]


def test_the_verdict_on_probabilities_is_that_of_the_drawn_groups(base, checked):
    facts = valuation.validation_facts(checked, base.holdout)
    groups = checked.returning
    judged = calibration(groups)
    assert (facts["held"], facts["level"], facts["spread"]) == (judged.held, judged.level_verdict, judged.slope_verdict)
    assert facts["gap"] == pytest.approx(facts["said_mean"] - facts["came_mean"])
    high = valuation.calibration_facts(groups.assign(predicted=groups["actual"] * 0.5 + 0.5))
    assert (high["level"], high["held"]) == ("high", False) and high["gap_low"] > 0
    few = valuation.calibration_facts(groups.iloc[:2])
    assert few["spread"] == "unknown" and few["slope"] is few["slope_low"] is None


def test_the_fault_of_probabilities_is_shown_by_the_groups_that_prove_it():
    def facts(predicted, actual):
        low, high = share_interval(1000 * np.array(actual), np.full(4, 1000))
        groups = pd.DataFrame({"customers": 1000, "predicted": predicted, "actual": actual})
        return valuation.calibration_facts(
            groups.assign(inside=(low <= groups["predicted"]) & (groups["predicted"] <= high))
        )

    ends = ("low_said", "low_came", "high_said", "high_came")
    extreme = facts([0.02, 0.20, 0.70, 0.98], [0.07, 0.22, 0.64, 0.975])
    assert (extreme["level"], extreme["spread"]) == ("right", "extreme")
    assert [extreme[name] for name in ends] == [0.02, 0.07, 0.70, 0.64]
    cautious = facts([0.10, 0.30, 0.70, 0.90], [0.03, 0.29, 0.71, 0.90])
    assert cautious["spread"] == "cautious" and [cautious[name] for name in ends] == [0.10, 0.03, None, None]
    assert [facts([0.1, 0.3, 0.7, 0.9], [0.1, 0.3, 0.7, 0.9])[name] for name in ends] == [None] * 4


def test_the_share_active_has_a_range_and_stands_beside_its_test(base):
    options = {"draws": 50, "small_group": 10, "seed": 1}
    facts = valuation.alive_facts(base.value, base.models, base.summary, base.holdout, **options)
    assert facts["alive"] == pytest.approx(
        valuation.value_facts(base.value, valuation.value_groups(base.value))["alive_mean"]
    )
    assert facts["alive_low"] < facts["least_alive"] <= facts["alive"] <= facts["most_alive"] < facts["alive_high"]
    # whoever bought was active, so a model that says fewer than that cannot be right
    assert facts["bought"] == (base.holdout.frame["holdout_frequency"] > 0).mean() < facts["alive_then"]
    assert facts["level"] in ("right", "high", "low") and facts["said_mean"] < facts["alive_then"]
    untested = valuation.alive_facts(base.value, base.models, base.summary, None, **options)
    assert not untested["alive_tested"] and "bought" not in untested
    with pytest.raises(ValueError, match="no model gives a probability"):
        valuation.alive_facts(replace(base.value, alive_model=None), base.models, base.summary, None, **options)


def test_concentration_of_what_is_expected_is_told_beside_what_was_brought(base):
    found, reason = valuation.expected_concentration(base.summary, base.value, 0.2)
    facts = valuation.shift_facts(found, base.value)
    best = valuation.value_groups(base.value)["residual_share"].iloc[:2].sum()
    assert not reason and facts["expected_share"] == pytest.approx(best, abs=1e-6)
    assert facts["shift_kind"] == "margin" and facts["expected_low"] < best < facts["expected_high"]
    brought = valuation.concentration(base.summary["margin"]).top_share.value
    assert facts["past_share"] == pytest.approx(brought)
    sure = facts["shift_low"] > 0 or facts["shift_high"] < 0
    assert (facts["shift"] != "same") == sure
    assert 0 < facts["half_expected"] < 0.5 and 0 < facts["stay"] < 1


def test_without_a_margin_expected_sales_are_compared_and_nothing_expected_gives_the_reason(base):
    frame = base.value.frame.assign(residual_value=np.nan, existing_value=np.nan)
    sales = replace(base.value, frame=frame, margin=None)
    found, _ = valuation.expected_concentration(base.summary, sales, 0.2)
    assert valuation.shift_facts(found, sales)["shift_kind"] == "sales"
    assert found.past.top_share.value == pytest.approx(valuation.concentration(base.summary["spend"]).top_share.value)
    nothing = replace(sales, expected_sales=valuation.Estimate(np.nan))
    none, reason = valuation.expected_concentration(base.summary, nothing, 0.2)
    assert none is None and reason == "there is nothing to expect a value from"


def test_claims_are_counted_as_they_are_shown(base, checked):
    table, facts = valuation.claims_for_people(checked, FMT), valuation.claims_facts(checked)
    assert (len(table), facts["totals"], facts["ranges"]) == (6, 2, 4)
    held = table["held"] == "yes"
    assert (held[:2].sum(), held[2:].sum()) == (facts["totals_held"], facts["ranges_held"])
    assert table["forecast"].iloc[0] == "All purchases"
    # a range is named by what it should hold, not by a level that it is not held to
    meant = checked.coverage.set_index(["what", "level"])["claimed"]["purchases", 0.8]
    assert table["forecast"].iloc[2] == f"One customer’s purchases: range to hold {FMT.share(meant)}"


def test_without_a_model_there_are_no_claims(base):
    scores = base.holdout.scores[base.holdout.scores["kind"] == "heuristic"].reset_index(drop=True)
    plain = replace(base.holdout, scores=scores, best=scores["forecast"].iloc[0])
    checked = valuation.run_validation(plain, base.lines, END, draws=100, small_group=10, seed=1)
    assert valuation.claims_for_people(checked, FMT).empty
    assert valuation.claims_facts(checked)["totals"] == 0
    facts = valuation.validation_facts(checked, plain)
    assert facts["model"] == "" and "inside" not in facts
    assert valuation.rankers(plain) == [plain.best_heuristic]


def test_the_contest_names_its_winner_and_the_ties(base):
    found, reason = valuation.run_contest(base.holdout, base.lines, START, END)
    assert not reason
    facts, table = valuation.contest_facts(found), valuation.contest_for_people(found, FMT)
    assert table["verdict"].iloc[0] == "best" and (table["verdict"] == "may be as good").sum() == len(facts["tied"])
    assert facts["error_low"] <= facts["error"] <= facts["error_high"]
    assert len(table) == facts["methods"] >= 5


def test_a_contest_of_other_weeks_gives_the_reason(base):
    found, reason = valuation.run_contest(replace(base.holdout, weeks=12.0), base.lines, START, END)
    assert found is None and "same number of weeks" in reason


# -- track record


@dataclass
class Last:
    value: pd.DataFrame
    observed_to: dt.date
    parameters: dict
    money: dict
    currency: str | None = None

    def has(self, table):
        return table == "customer_value"

    def read(self, table):
        return self.value


def test_the_first_edition_has_no_record(base):
    found, reason = valuation.run_track_record(None, base.lines, base.summary, END)
    assert found is None and reason == "there is no edition whose data ended at least 4 weeks before these"


def test_an_earlier_edition_is_held_against_what_came(base):
    as_of = END - dt.timedelta(weeks=13)
    known = base.summary[base.summary["T"] >= 91]
    rate = base.holdout.frame.set_index("customer_id")["holdout_frequency"].reindex(known["customer_id"]).fillna(0)
    value = pd.DataFrame(
        {
            "customer_id": known["customer_id"],
            "expected_purchases": 4.0 * rate.to_numpy(),
            "residual_value": 10.0,
            "existing_value": 1.0,
            "clv_low": 0.0,
            "clv_high": 100.0,
        }
    )
    last = Last(value, as_of, {"horizon_weeks": 52}, {"discount_rate": None})
    found, reason = valuation.run_track_record(last, base.lines, base.summary, END, 0.3)
    assert not reason
    facts = valuation.track_facts(found)
    assert facts["expected"] == facts["actual"] > 0 and not facts["clear"]
    assert facts["as_of"] == as_of and facts["weeks"] == 13
    assert facts["held_ratio"] != facts["held_ratio"] and "13.0 have passed" in facts["held_reason"]
    soon = replace(last, observed_to=END - dt.timedelta(weeks=2))
    found, reason = valuation.run_track_record(soon, base.lines, base.summary, END, 0.3)
    assert found is None and "4 are needed" in reason
