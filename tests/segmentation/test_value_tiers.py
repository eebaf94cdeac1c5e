"""Tiers by expected value: cut as R×F×M is, crossed with it, and what those whom both let go could still bring."""

import datetime as dt

import ibis
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis import segmentation
from analysis.reporting.numbers import Formatter
from analysis.segmentation import value_tiers
from analysis.segmentation.tiers import tier_cuts
from analysis.segmentation.value_tiers import DISPUTES, LetGo, significant
from analysis.valuation import (
    add_rfm_scores,
    calibration_holdout,
    customer_summary,
    customer_value,
    fit_models,
    purchase_timing,
    rfm_edges,
)

START, DAYS = dt.date(2022, 1, 1), 500
END = START + dt.timedelta(days=DAYS - 1)
TIERS = st.sampled_from(["protect", "invest", "let_go", "too_early"])


@pytest.fixture(scope="module")
def words():
    return segmentation.Words(Formatter("en", "USD"), "households")


def make_lines(customers=500, seed=5, leave=0.004):
    """Order lines of customers who buy and leave at random."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(customers):
        start = int(rng.integers(0, DAYS // 2))
        rate, stay, mean = rng.gamma(1.2, 0.02), rng.exponential(1 / leave), 20.0 * rng.gamma(4.0, 0.25)
        gaps = np.cumsum(rng.exponential(1 / rate, 200))
        days = np.unique(np.r_[start, (start + gaps)[gaps < stay]].astype(int))
        for day in days[days < DAYS]:
            rows.append((f"{i:04d}", START + dt.timedelta(days=int(day)), round(mean * rng.gamma(4.0, 0.25) + 1, 2)))
    frame = pd.DataFrame(rows, columns=["customer_id", "order_date", "net_amount"])
    frame = frame.assign(order_id=np.arange(len(frame)).astype(str), is_return=False)
    lines = ibis.memtable(frame)
    return lines.mutate(net_amount=lines.net_amount.cast("decimal(18, 4)"))


@pytest.fixture(scope="module")
def company():
    lines = make_lines()
    summary = customer_summary(lines, END, 0.3)
    base = add_rfm_scores(summary, rfm_edges(summary)).to_pyarrow().to_pandas()
    base = base.sort_values("customer_id", ignore_index=True)
    models = fit_models(base.merge(purchase_timing(lines, END), on="customer_id"))
    value = customer_value(
        base,
        models,
        None,
        horizon_weeks=52,
        observed_from=START,
        observed_to=END,
        margin_rate=0.3,
        discount_rate=0.1,
        draws=80,
    )
    customers = base.merge(value.frame, on="customer_id")
    customers["value_tier"], _ = segmentation.assign_tiers(customers["rfm_product"], customers["T"])
    ranked, _ = segmentation.ranking_value(customers)
    customers["expected_tier"], _ = segmentation.expected_tiers(ranked, customers["T"])
    return lines, base, models, value, customers


# -- the cut -------------------------------------------------------------------------------------------------------------


def test_expected_value_is_cut_by_the_rule_of_rfm():
    value = np.arange(1.0, 101.0)
    tier, cuts = segmentation.expected_tiers(value, np.r_[10, np.full(99, 400)])
    assert tier.value_counts().to_dict() == {"invest": 60, "protect": 20, "let_go": 19, "too_early": 1}
    assert cuts == tier_cuts(value) and tier.name == "expected_tier"


def test_constant_value_and_one_customer_are_invested_in():
    for n in (1, 40):
        tier, cuts = segmentation.expected_tiers(np.full(n, 12.5), np.full(n, 400))
        assert set(tier) == {"invest"} and cuts.protect_from is None and cuts.invest_share == 1


def test_values_that_differ_in_the_last_bits_are_ties():
    value = np.full(50, 0.1) + np.where(np.arange(50) % 2, np.spacing(0.1), 0.0)
    assert len(np.unique(value)) == 2
    frame = pd.DataFrame({"residual_value": value})
    ranked, measure = segmentation.ranking_value(frame)
    assert len(np.unique(ranked)) == 1 and measure == "residual_value"


@given(st.lists(st.floats(-1e12, 1e12, allow_subnormal=False), min_size=1, max_size=50))
def test_rounding_keeps_the_order_and_the_size(values):
    values = np.array(values)
    rounded = significant(values)
    order = np.argsort(values, kind="stable")
    assert (np.diff(rounded[order]) >= 0).all()
    assert np.allclose(rounded, values, rtol=1e-8, atol=0)


def test_without_a_margin_customers_are_ranked_by_expected_sales_in_the_same_order(company):
    customers = company[-1]
    unknown = customers.assign(residual_value=np.nan, clv=np.nan)
    ranked, measure = segmentation.ranking_value(unknown)
    assert measure == "expected_sales"
    by_margin, _ = segmentation.ranking_value(customers)
    assert pd.Series(ranked).corr(pd.Series(by_margin), method="spearman") > 0.999
    assert segmentation.ranking_value(customers, "clv")[1] == "clv"


def test_no_expected_value_or_no_such_value_is_one_clear_line():
    nobody = pd.DataFrame({"residual_value": [np.nan], "expected_purchases": [np.nan], "expected_spend": [5.0]})
    with pytest.raises(ValueError, match="nobody has come back yet"):
        segmentation.ranking_value(nobody)
    with pytest.raises(ValueError, match="'spend' is not a value"):
        segmentation.ranking_value(nobody, "spend")


def test_cut_facts_speak_of_sales_where_no_margin_is_known(words):
    _, cuts = segmentation.expected_tiers(np.arange(1.0, 101.0))
    said = segmentation.expected_cut_facts(cuts, "expected_sales", 52)
    assert said["kind"] == "sales" and said["let_go_share"] == pytest.approx(0.2)
    assert "$81.00 or more" in words("expected_tier_rule", **said)
    _, alike = segmentation.expected_tiers(np.full(9, 1.0))
    assert "No cut comes near" in words("expected_tier_rule", **segmentation.expected_cut_facts(alike, "clv", 52))


# -- crossed ---------------------------------------------------------------------------------------------------------------


@settings(max_examples=40)
@given(st.lists(st.tuples(st.none() | TIERS, st.none() | TIERS), max_size=60))
def test_cross_table_and_disputes_count_everybody_once(pairs):
    frame = pd.DataFrame(pairs, columns=["value_tier", "expected_tier"], dtype="str")
    known = frame.dropna()
    cells = segmentation.crossed_tiers(frame)
    assert cells.to_numpy().sum() == len(known)
    for rfm in cells.index:
        for value in cells.columns:
            assert cells.loc[rfm, value] == (known["value_tier"].eq(rfm) & known["expected_tier"].eq(value)).sum()
    found = segmentation.disputed(frame)
    protect = cells.loc["protect"].sum() + cells["protect"].sum() if "protect" in cells else 0
    both = cells.loc["protect", "protect"] if "protect" in cells else 0
    assert found["rfm_protects"].sum() + found["value_protects"].sum() == protect - 2 * both
    assert not (found["rfm_protects"] & found["value_protects"]).any()
    assert not (found["rfm_lets_go"] & found["value_lets_go"]).any()


def crossed(counts):
    rows = [(rfm, value) for (rfm, value), n in counts.items() for _ in range(n)]
    return pd.DataFrame(rows, columns=["value_tier", "expected_tier"])


def test_agreement_is_a_share_with_its_interval_and_what_chance_would_give(words):
    frame = crossed({("protect", "protect"): 60, ("invest", "invest"): 100, ("protect", "let_go"): 40})
    found = segmentation.agreement_finding(frame, 10, words)
    assert (found["value"], found["n"], found["total"], found["opposed"]) == (0.8, 160, 200, 40)
    assert found["low"] < 0.8 < found["high"]
    assert found["by_chance"] == pytest.approx(0.5 * 0.3 + 0.5 * 0.5)
    assert "40 are protected by one" in words("tier_agreement", **found)
    few = segmentation.agreement_finding(crossed({("protect", "protect"): 60, ("invest", "protect"): 4}), 10, words)
    assert few["value"] is None and few["reason"]
    assert "Too few" in words("tier_agreement", **few)
    total = segmentation.agreement_finding(crossed({("invest", "invest"): 30}), 10, words)
    assert total["value"] == 1.0 and total["opposed"] == 0
    assert "Nobody is protected" in words("tier_agreement", **total)


def test_small_cells_are_hidden_and_cannot_be_worked_out(words):
    frame = crossed({("protect", "protect"): 60, ("protect", "invest"): 4, ("invest", "invest"): 90})
    shown = value_tiers.shown_cells(frame, 10)
    assert list(shown.index) == ["protect", "invest"]
    cells = shown.to_numpy(dtype=float)
    assert np.isnan(cells[0]).all() and not ((cells > 0) & (cells < 10)).any()
    figure = segmentation.crossed_figure(frame, 10, words)
    assert [t.get_text() for t in figure.axes[0].texts].count("–") >= 2
    assert figure.axes[0].get_title(loc="left") == "Too few households to compare the tiers"


def test_a_thin_corner_hides_as_few_people_as_it_can(words):
    counts = {("protect", "protect"): 289, ("protect", "invest"): 106, ("protect", "let_go"): 2}
    counts |= {("invest", "protect"): 111, ("invest", "invest"): 927, ("invest", "let_go"): 192}
    counts |= {("let_go", "invest"): 140, ("let_go", "let_go"): 206}
    shown = value_tiers.shown_cells(crossed(counts), 10)
    hidden = shown.isna().to_numpy()
    assert hidden.tolist() == [[True, False, True], [True, False, True], [False, False, False]]
    assert shown.loc["let_go"].tolist() == [0, 140, 206]


def test_a_dispute_that_holds_a_few_opposed_is_not_counted():
    frame = crossed(
        {("protect", "invest"): 40, ("protect", "let_go"): 2, ("invest", "let_go"): 30, ("invest", "protect"): 20}
    )
    frame = frame.assign(recency_days=1.0, frequency=2, spend=3.0)
    table = segmentation.dispute_table(frame, 10).set_index("dispute")
    assert table["customers"].isna().to_dict() == {"rfm_protects": True, "value_protects": False, "value_lets_go": True}
    assert table.loc["value_protects", "customers"] == 20 and (table["spend"] == 3).all()


@settings(max_examples=40)
@given(st.lists(st.integers(0, 30), min_size=9, max_size=9))
def test_no_small_cell_is_shown_and_none_stands_alone(counts):
    names = ("protect", "invest", "let_go")
    pairs = [(rfm, value) for rfm in names for value in names]
    shown = value_tiers.shown_cells(crossed(dict(zip(pairs, counts, strict=True))), 10).to_numpy(dtype=float)
    assert not ((shown > 0) & (shown < 10)).any()
    for view in (shown, shown.T):
        for line in view:
            assert np.isnan(line).sum() != 1 or (np.nan_to_num(line) == 0).all()


def test_a_few_too_early_are_joined_with_those_to_let_go(words):
    counts = {("invest", "invest"): 90, ("let_go", "let_go"): 30, ("too_early", "too_early"): 3}
    shown = value_tiers.shown_cells(crossed(counts), 10)
    assert list(shown.index) == ["invest", "let_go+too_early"]
    assert shown["let_go+too_early"].tolist() == [0, 33] and shown["invest"].tolist() == [90, 0]
    enough = crossed(counts | {("too_early", "too_early"): 12})
    assert len(value_tiers.shown_cells(enough, 10)) == 3
    assert segmentation.crossed_figure(crossed(counts), 10, words)


def test_heat_map_states_the_agreement(words, company):
    customers = company[-1]
    figure = segmentation.crossed_figure(customers, 1, words)
    same = (customers["value_tier"] == customers["expected_tier"]).mean()
    assert segmentation.crossed_facts(customers, 1)["same"] == pytest.approx(same)
    assert f"{same:.0%}" in figure.axes[0].get_title(loc="left")
    assert words("crossed.alt", **segmentation.crossed_facts(customers, 1))
    assert segmentation.crossed_figure(customers.head(0), 10, words)


def test_dispute_table_describes_the_groups_and_leaves_out_small_ones(company):
    customers = company[-1]
    table = segmentation.dispute_table(customers, 5).set_index("dispute")
    opposed = (customers["value_tier"] == "protect") & (customers["expected_tier"] == "let_go")
    opposed |= (customers["value_tier"] == "let_go") & (customers["expected_tier"] == "protect")
    found = segmentation.disputed(customers)
    assert set(table.index) == {name for name in DISPUTES if found[name].sum() >= 5}
    for name in table.index:
        few = 0 < (found[name] & opposed).sum() < 5
        assert np.isnan(table.loc[name, "customers"]) if few else table.loc[name, "customers"] == found[name].sum()
        assert table.loc[name, "residual_value"] == pytest.approx(customers.loc[found[name], "residual_value"].mean())
    assert table.loc["value_protects", "residual_value"] > table.loc["rfm_protects", "residual_value"]
    assert segmentation.dispute_table(customers, 10_000).empty
    bare = customers.drop(columns=["probability_alive", "residual_value"])
    assert segmentation.dispute_table(bare, 5)["residual_value"].isna().all()


# -- let go by both ----------------------------------------------------------------------------------------------------------


def test_the_model_behind_the_values_is_found_again(company):
    lines, base, models, value, _ = company
    found, name = segmentation.models_behind(base, value.frame, lines, END, 52)
    assert name == value.forecast and set(found.purchases) == set(models.purchases)
    shuffled = value.frame.sample(frac=1, random_state=1)
    assert segmentation.models_behind(base, shuffled, lines, END, 52)[1] == name
    other = value.frame.assign(expected_purchases=value.frame["expected_purchases"] * 1.01)
    assert segmentation.models_behind(base, other, lines, END, 52) is None
    assert segmentation.models_behind(base, value.frame.assign(expected_purchases=np.nan), lines, END, 52) is None


def test_simulated_interval_of_those_let_go_holds_what_they_bring(company):
    lines, base, _, value, customers = company
    models, name = segmentation.models_behind(base, value.frame, lines, END, 52)
    found = segmentation.let_go_by_both(customers, 52, (models, name), draws=400)
    gone = customers[customers["value_tier"].eq("let_go") & customers["expected_tier"].eq("let_go")]
    assert found.customers == len(gone) >= 20 and found.basis == "simulation" and found.measure == "margin"
    assert found.expected == pytest.approx(gone["residual_value"].sum())
    assert found.low <= found.expected <= found.high
    rng = np.random.default_rng(9)
    history = [gone["frequency"].to_numpy(float), *(gone[c].to_numpy(float) / 7 for c in ("recency", "T"))]
    bought, _ = models.purchases[name].simulate_future(52, *history, rng, size=200)
    spent = models.spend.simulate_spend(bought, history[0], gone["monetary_value"].to_numpy(float), rng)
    came = 0.3 * spent.sum(axis=1) * np.exp(-np.log(1.1) / 2)  # discounted by half a year: purchases come all year
    inside = ((found.low <= came) & (came <= found.high)).mean()
    # the interval also holds what is not known of the parameters, so it may cover more than 95 %
    assert inside > 0.95 - 4 * np.sqrt(0.95 * 0.05 / 200)


def test_without_a_model_upper_limits_are_summed_and_flagged_where_they_bound_nothing(company):
    customers = company[-1]
    found = segmentation.let_go_by_both(customers, 52)
    gone = customers[customers["value_tier"].eq("let_go") & customers["expected_tier"].eq("let_go")]
    assert found.basis == "upper_limits" and np.isnan(found.low)
    assert found.high == pytest.approx((gone["clv_high"] - gone["existing_value"]).sum())
    assert found.at_mean == (gone["clv_high"] - gone["clv"] <= 1e-9 * gone["residual_value"]).sum()


def test_without_a_margin_those_let_go_are_told_in_sales(company):
    lines, base, _, value, customers = company
    unknown = customers.assign(residual_value=np.nan, clv_high=np.nan, existing_value=np.nan)
    behind = segmentation.models_behind(base, value.frame, lines, END, 52)
    found = segmentation.let_go_by_both(unknown, 52, behind, draws=80)
    assert found.measure == "sales" and found.low <= found.expected <= found.high
    none = segmentation.let_go_by_both(unknown, 52)
    assert none.basis == "none" and np.isnan(none.high)


def test_price_of_a_contact_comes_from_campaigns_or_the_study_or_nobody():
    campaigns = pd.DataFrame({"campaign_id": list("abc"), "cost_per_contact": [0.5, np.nan, 1.5]})
    assert segmentation.contact_price(campaigns, 9.0) == {
        "cost": 1.0,
        "cheapest": 0.5,
        "dearest": 1.5,
        "source": "campaigns",
    }
    assert segmentation.contact_price(campaigns[["campaign_id"]], 9.0)["source"] == "assumption"
    assert segmentation.contact_price(None, None) == dict.fromkeys(("cost", "cheapest", "dearest")) | {
        "source": "unknown"
    }


@pytest.mark.parametrize(
    ("cost", "said"),
    [
        (0.5, "pays only if it raises what they bring by more than 25%"),
        (5.0, "more than all of that"),
        (None, "cannot pay if it costs more than $3.00"),
    ],
)
def test_those_let_go_are_held_against_the_cost_of_a_contact(words, cost, said):
    found = LetGo(100, 200.0, 120.0, 300.0, "simulation", 0, "margin", 52)
    facts = segmentation.let_go_finding(found, segmentation.contact_price(None, cost), 10, words)
    assert (facts["value"], facts["low"], facts["high"], facts["reason"]) == (200.0, 120.0, 300.0, None)
    assert said in words("let_go_both", **facts)


def test_limits_of_single_customers_are_labelled_and_small_groups_not_told(words):
    price = segmentation.contact_price(None, 1.0)
    summed = LetGo(100, 200.0, np.nan, 900.0, "upper_limits", 40, "margin", 52)
    facts = segmentation.let_go_finding(summed, price, 10, words)
    assert facts["low"] is None and "do not add up" in facts["reason"]
    told = words("let_go_both", **facts)
    assert "the upper limits of each one alone add up to $900" in told and "40 of them" in told
    few = segmentation.let_go_finding(LetGo(3, 1.0, 0.0, 2.0, "simulation", 0, "margin", 52), price, 10, words)
    assert few["value"] is None and few["n"] is None and "Too few" in words("let_go_both", **few)
    nobody = segmentation.let_go_by_both(crossed({("invest", "invest"): 3}).assign(**_columns(3)), 52)
    facts = segmentation.let_go_finding(nobody, price, 10, words)
    assert facts["n"] == 0 and words("let_go_both", **facts) == "Nobody is let go by both."
    unlimited = LetGo(50, 20.0, np.nan, np.nan, "none", 0, "margin", 52)
    assert words("let_go_both", **segmentation.let_go_finding(unlimited, price, 10, words))


def _columns(n):
    names = ("expected_purchases", "expected_spend", "residual_value", "existing_value", "clv_high")
    return dict.fromkeys(names, np.ones(n))


def test_the_split_of_the_valuation_room_is_one_row_a_customer(company):
    """What the contest relies on: scores and value of the same customers, in the same order."""
    split = calibration_holdout(company[0], END - dt.timedelta(weeks=13), END)
    assert split["customer_id"].is_monotonic_increasing and split["customer_id"].is_unique
