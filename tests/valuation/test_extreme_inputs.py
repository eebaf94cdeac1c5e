"""Extreme histories and parameters against arithmetic of fifty digits and more, written from other formulas.

The references are the closed forms of the papers (hypergeometric functions and differences of them), which lose
their digits in double precision and keep them in mpmath; the models compute the same by integrals and positive sums.
"""

import itertools

import mpmath as mp
import numpy as np
import pandas as pd
import pytest
from scipy import special

from analysis.valuation.bg_bb import BGBB
from analysis.valuation.bg_nbd import BGNBD
from analysis.valuation.integrals import discounted_time, purchases_of_leavers
from analysis.valuation.mbg_nbd import MBGNBD
from analysis.valuation.nbd import NBD
from analysis.valuation.pareto_nbd import ParetoNBD
from analysis.valuation.purchases import Cells

DIGITS = 40
RELATIVE = 1e-8
# x, t_x, T, horizon: no, tiny and huge silence; nothing to two thousand purchases
HISTORIES = [
    (0, 0.0, 0.0, 1.0),
    (0, 0.0, 1e-3, 1e3),
    (0, 0.0, 1e5, 52.0),
    (1, 1e-6, 1e-6, 1.0),
    (1, 1e-3, 1e5, 52.0),
    (1, 1e3, 1e3, 1e3),
    (30, 29.999, 30.0, 52.0),
    (170, 77.0, 77.0, 52.0),
    (170, 1.0, 77.0, 52.0),
    (2000, 400.0, 400.0, 52.0),
    (2000, 400.0, 400.001, 1e3),
    (2000, 1.0, 1e4, 52.0),
]
SMALL, LARGE = 1e-3, 1e3
PARAMS = [
    (0.25, 4.4, 0.8, 2.4),
    (1.0, 1.0, 1.0, 1.0),
    (SMALL, SMALL, SMALL, SMALL),
    (LARGE, LARGE, LARGE, LARGE),
    (SMALL, LARGE, LARGE, SMALL),
    (LARGE, SMALL, SMALL, LARGE),
    (LARGE, SMALL, LARGE, SMALL),
    (SMALL, LARGE, SMALL, LARGE),
    (0.5, SMALL, 2.0, LARGE),
    (LARGE, LARGE, SMALL, SMALL),
]
CASES = list(itertools.product(HISTORIES, PARAMS))
# x, t_x, n
OCCASIONS = [
    (0, 0, 0),
    (0, 0, 1),
    (0, 0, 700),
    (1, 1, 1),
    (1, 1, 700),
    (5, 400, 400),
    (300, 300, 300),
    (300, 300, 2000),
    (1000, 2000, 2000),
    (2000, 2000, 2000),
    (150, 1990, 2000),
]
OCCASION_HORIZONS = (1, 300)
DISCOUNT = 0.0027


def at(model, params):
    k = len(params)
    series = pd.Series(params, index=list(model.parameter_names), dtype=float)
    return model.results_class(model([1, 0], [1.0, 0.0], [2.0, 2.0]), series, np.full((k, k), np.nan), np.nan, None)


def agrees(got, exact):
    """Relative error below 1e-8; what double precision cannot hold must be next to nothing in both."""
    assert np.isfinite(got)
    if abs(exact) < mp.mpf(10) ** -290:
        assert abs(got) < 1e-280
    else:
        assert abs(mp.mpf(float(got)) / exact - 1) < RELATIVE


def log_agrees(got, exact):
    """A log-likelihood to 1e-8 of itself, or of one where it is smaller than that."""
    assert np.isfinite(got)
    assert abs(mp.mpf(float(got)) - exact) < RELATIVE * max(1, abs(exact))


@pytest.fixture(autouse=True)
def _precision():
    with mp.workdps(DIGITS):
        yield


def _purchases_of_leavers(c, span, a, b):
    """Closed form with a 2F1, or a sum over the purchases that there would be if nobody left where that has few terms."""
    z = span / (1 + span)
    if c < 100 or z > 0.9:
        near = a if a != 1 else a + mp.mpf(10) ** -20
        return (near + b - 1) / (near - 1) * (1 - (1 - z) ** c * mp.hyp2f1(c, b, near + b - 1, z))
    total, made, stays, chance, n = mp.mpf(0), mp.mpf(0), mp.mpf(1), mp.mpf(1), 0
    while n < c * span or chance * made > total * mp.mpf(10) ** -20:
        total += chance * made
        made, stays, chance, n = made + stays, stays * (b + n) / (a + b + n), chance * (c + n) / (n + 1) * z, n + 1
    return total * (1 - z) ** c


def _leaver(params, history, at_once):
    """Log-likelihood, P(alive) and conditional expectation of BG/NBD or MBG/NBD, from their closed forms."""
    r, alpha, a, b = map(mp.mpf, params)
    x, t_x, T, t = map(mp.mpf, history)
    c, stays = r + x, x + at_once
    alive = mp.beta(a, b + stays) / mp.beta(a, b) * (alpha + T) ** -c
    gone = mp.mpf(0)
    if stays > 0:
        gone = mp.beta(a + 1, b + stays - 1) / mp.beta(a, b) * (alpha + t_x) ** -c
    front = mp.loggamma(c) - mp.loggamma(r) + r * mp.log(alpha)
    if_alive = _purchases_of_leavers(c, t / (alpha + T), a, b + stays)
    probability = alive / (alive + gone)
    return front + mp.log(alive + gone), probability, probability * if_alive


def _check(model, params, exact):
    """Compare every history with its (log-likelihood, P(alive), expected purchases); returns the results."""
    x, t_x, T, horizon = np.array(HISTORIES).T
    results, cells = at(model, params), Cells.of(x, t_x, T)
    density, slope = model.loglike_cells(np.array(params), cells)
    assert np.isfinite(slope).all()
    density = density[cells.index]
    assert model(x, t_x, T).loglike(params) == pytest.approx(density.sum(), rel=1e-12)
    alive = results.probability_alive(x, t_x, T)
    for t in np.unique(horizon):
        plain = results.expected_purchases(t, x, t_x, T)
        discounted = results.expected_purchases(t, x, t_x, T, discount=DISCOUNT)
        assert (discounted <= plain * (1 + 1e-9)).all() and (
            discounted >= plain * np.exp(-DISCOUNT * t) * (1 - 1e-9)
        ).all()
        for i in np.flatnonzero(horizon == t):
            log_agrees(density[i], exact[i][0])
            agrees(alive[i], exact[i][1])
            agrees(plain[i], exact[i][2])
    return results


def test_the_grid_is_large_enough():
    assert len(CASES) >= 88 and len(OCCASIONS) * len(PARAMS) >= 88


@pytest.mark.parametrize("params", PARAMS)
@pytest.mark.parametrize(("model", "at_once"), [(BGNBD, 0), (MBGNBD, 1)])
def test_leaving_after_a_purchase(model, at_once, params):
    _check(model, params, [_leaver(params, history, at_once) for history in HISTORIES])


def _scaled_expint(s, z):
    """exp(z) E_s(z), by integration where mpmath's own function is slow."""
    if s + z < 1200:
        return mp.exp(z) * mp.expint(s, z)
    with mp.workdps(25):
        step = 1 / (s + z)
        return mp.quad(lambda y: mp.exp(-z * y - s * mp.log1p(y)), [0, step, 10 * step, 100 * step, mp.inf])


@pytest.mark.parametrize("params", PARAMS)
def test_leaving_at_any_moment(params):
    exact, endless = [], []
    for history in HISTORIES:
        r, alpha, s, beta = map(mp.mpf, params)
        x, t_x, T, t = map(mp.mpf, history)
        c, largest, gap = r + s + x, max(alpha, beta), abs(alpha - beta)
        second = s + 1 if alpha >= beta else r + x

        def part(moment, c=c, second=second, largest=largest, gap=gap):
            return mp.hyp2f1(c, second, c + 1, gap / (largest + moment)) / (largest + moment) ** c

        alive = (alpha + T) ** -(r + x) * (beta + T) ** -s
        gone = s / c * (part(t_x) - part(T))
        front = mp.loggamma(r + x) - mp.loggamma(r) + r * mp.log(alpha) + s * mp.log(beta)
        probability = alive / (alive + gone)
        stays = mp.log((beta + T + t) / (beta + T))
        if s != 1:
            stays = (1 - mp.exp(-(s - 1) * stays)) / (s - 1)
        rate = probability * (r + x) / (alpha + T) * (beta + T)
        exact.append((front + mp.log(alive + gone), probability, rate * stays))
        z = mp.mpf(DISCOUNT) * (beta + T)
        endless.append(rate * _scaled_expint(s, z))
    results = _check(ParetoNBD, params, exact)
    got = results.discounted_expected_residual_transactions(DISCOUNT, *np.array(HISTORIES).T[:3])
    for value, truth in zip(got, endless, strict=True):
        agrees(value, truth)


@pytest.mark.parametrize("params", PARAMS)
def test_never_leaving(params):
    r, alpha = map(mp.mpf, params[:2])
    exact = []
    for history in HISTORIES:
        x, _, T, t = map(mp.mpf, history)
        density = mp.loggamma(r + x) - mp.loggamma(r) + r * mp.log(alpha) - (r + x) * mp.log(alpha + T)
        exact.append((density, mp.mpf(1), (r + x) / (alpha + T) * t))
    _check(NBD, params[:2], exact)


@pytest.mark.parametrize("params", PARAMS)
def test_leaving_between_occasions(params):
    alpha, beta, gamma, delta = map(mp.mpf, params)
    near = gamma if gamma != 1 else gamma + mp.mpf(10) ** -20
    history = np.array(OCCASIONS, dtype=float).T
    results, cells = at(BGBB, params), Cells.of(*history)
    density, slope = BGBB.loglike_cells(np.array(params), cells)
    assert np.isfinite(slope).all()
    alive_now = results.probability_alive(*history)
    expected = {t: results.expected_purchases(t, *history) for t in OCCASION_HORIZONS}
    endless = results.discounted_expected_residual_transactions(DISCOUNT, *history)
    for i, (x, t_x, n) in enumerate(OCCASIONS):
        alive = mp.beta(alpha + x, beta + n - x) * mp.beta(gamma, delta + n)
        gone, term = mp.mpf(0), mp.beta(alpha + x, beta + t_x - x) * mp.beta(gamma + 1, delta + t_x)
        for t in range(t_x, n):
            gone += term
            term *= (beta + t - x) / (alpha + beta + t) * (delta + t) / (gamma + delta + 1 + t)
        log_agrees(density[cells.index[i]], mp.log(alive + gone) - mp.log(mp.beta(alpha, beta) * mp.beta(gamma, delta)))
        probability = alive / (alive + gone)
        agrees(alive_now[i], probability)
        chance = probability * (alpha + x) / (alpha + beta + n)
        for t in OCCASION_HORIZONS:
            now, later = (mp.loggamma(1 + delta + m) - mp.loggamma(near + delta + m) for m in (n, n + t))
            front = mp.exp(mp.loggamma(near + delta + n) - mp.loggamma(delta + n)) / (near - 1)
            agrees(expected[t][i], chance * front * (mp.exp(now) - mp.exp(later)))
        step = 1 / (1 + mp.mpf(DISCOUNT))
        hyper = mp.hyp2f1(1, delta + n + 1, gamma + delta + n + 1, step)
        agrees(endless[i], chance * (delta + n) / (gamma + delta + n) * step * hyper)


@pytest.mark.parametrize("rate", [1e-6, 1e-3, 1.0, 30.0, 1e5])
def test_discounted_time_is_an_exponential_integral(rate):
    for s in (1e-3, 0.5, 1.0, 1.5, 7.0, 1e3):
        exact = mp.exp(mp.mpf(rate)) * mp.expint(mp.mpf(s), mp.mpf(rate))
        assert abs(mp.mpf(float(discounted_time(s - 1.0, rate, np.inf))) / exact - 1) < 1e-12


@pytest.mark.parametrize(
    ("shape", "a", "b", "t", "discount"),
    [
        (0.3, 0.8, 2.4, 52.0, 0.002),
        (40.0, 30.0, 9.0, 300.0, 0.01),
        (3.0, 60.0, 400.0, 100.0, 0.3),
        (5.0, 2.0, 0.5, 9, 2),
    ],
)
def test_discounted_purchases_of_leavers_match_a_double_integral(shape, a, b, t, discount):
    """Gauss–Jacobi over the leaving probability, Gauss–Legendre over time."""
    node, weight = special.roots_jacobi(120, b - 1.0, a - 1.0)
    p, weight = 0.5 * (node + 1.0), weight / weight.sum()
    node, step = np.polynomial.legendre.leggauss(300)
    u = 0.5 * np.log1p(t / 7.0) * (node + 1.0)
    time = 7.0 * np.expm1(u)
    density = np.exp(-discount * time) * (time + 7.0) * 0.5 * np.log1p(t / 7.0) * step
    rate = shape / 7.0 * (1.0 + np.outer(p, time) / 7.0) ** -(shape + 1.0)
    got = purchases_of_leavers(shape, 7.0, a, b, np.array([t]), discount)[0]
    assert got == pytest.approx(weight @ rate @ density, rel=1e-10)
