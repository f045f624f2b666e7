from __future__ import annotations

import math

import numpy as np
import pytest
from made_scores import draw
from scipy.special import expit, logit
from scipy.stats import t as student_t
from sklearn.metrics import roc_auc_score

from midistill_tasks.metrics import intervals, roc
from midistill_tasks.metrics.clusters import resample


def auroc_by_pairs(labels, scores):
    wins = [
        float(a > b) + 0.5 * float(a == b)
        for a, la in zip(scores, labels, strict=True)
        for b, lb in zip(scores, labels, strict=True)
        if la == 1 and lb == 0
    ]
    return sum(wins) / len(wins)


def components_by_loops(labels, scores):
    """DeLong 1988, equations 3: V10 of each member and V01 of each non-member, as {row: value}."""
    members = [i for i, label in enumerate(labels) if label]
    others = [i for i, label in enumerate(labels) if not label]

    def psi(i, j):
        return float(scores[i] > scores[j]) + 0.5 * float(scores[i] == scores[j])

    v10 = {i: sum(psi(i, j) for j in others) / len(others) for i in members}
    v01 = {j: sum(psi(i, j) for i in members) / len(members) for j in others}
    return v10, v01


def covariance_by_loops(labels, a, b, clusters):
    """Obuchowski 1997: covariance of two clustered AUROCs; with a = b the variance, with single texts DeLong's."""
    (a10, a01), (b10, b01) = components_by_loops(labels, a), components_by_loops(labels, b)
    area_a, area_b = auroc_by_pairs(labels, a), auroc_by_pairs(labels, b)
    m, n, names = len(a10), len(a01), sorted(set(clusters))

    def deviation(components, area, name):
        rows = [i for i in components if clusters[i] == name]
        return sum(components[i] for i in rows) - len(rows) * area

    with_members = {clusters[i] for i in a10}
    with_others = {clusters[j] for j in a01}
    i10, i01, total = len(with_members), len(with_others), len(names)
    s10 = sum(deviation(a10, area_a, c) * deviation(b10, area_b, c) for c in with_members) * i10 / ((i10 - 1) * m)
    s01 = sum(deviation(a01, area_a, c) * deviation(b01, area_b, c) for c in with_others) * i01 / ((i01 - 1) * n)
    s11 = sum(deviation(a10, area_a, c) * deviation(b01, area_b, c) for c in names) * total / (total - 1)
    s11_other = sum(deviation(b10, area_b, c) * deviation(a01, area_a, c) for c in names) * total / (total - 1)
    return s10 / m + s01 / n + (s11 + s11_other) / (m * n)


def tpr_by_enumeration(labels, scores, bound):
    """Every threshold a person could type, and nothing between them."""
    best = 0.0
    for threshold in [*scores, math.inf]:
        called = [score >= threshold and score != math.inf for score in scores]
        fpr = sum(c for c, label in zip(called, labels, strict=True) if not label) / sum(1 - labels)
        tpr = sum(c for c, label in zip(called, labels, strict=True) if label) / sum(labels)
        if fpr <= bound:
            best = max(best, tpr)
    return best


@pytest.mark.parametrize("digits", [0, 1, 8])
def test_auroc_counts_pairs_and_half_of_ties(digits):
    labels, scores = draw(np.random.default_rng(digits), 61, digits=digits)
    assert roc.auroc(labels, scores) == pytest.approx(auroc_by_pairs(labels, scores), abs=1e-12)
    assert roc.auroc(labels, scores) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)


def test_auroc_takes_infinite_scores_as_the_lowest_and_highest():
    labels, scores = [1, 0, 1, 0, 1], [math.inf, -math.inf, -math.inf, 0.0, 0.5]
    assert roc.auroc(labels, scores) == auroc_by_pairs(labels, scores) == pytest.approx(4.5 / 6)


@pytest.mark.parametrize("digits", [0, 1, 8])
def test_delong_error_is_that_of_the_definition(digits):
    labels, scores = draw(np.random.default_rng(digits), 47, digits=digits)
    single = [str(i) for i in range(47)]
    assert roc.delong_stderr(labels, scores) ** 2 == pytest.approx(covariance_by_loops(labels, scores, scores, single))


def test_clustered_error_is_obuchowskis_where_clusters_hold_one_class_or_both():
    rng = np.random.default_rng(3)
    labels, scores = draw(rng, 60)
    clusters = [f"doc{i}" for i in rng.integers(14, size=60)]
    clusters[:6] = ["members only" if label else "others only" for label in labels[:6]]
    expected = covariance_by_loops(labels, scores, scores, clusters)
    assert roc.delong_stderr(labels, scores, clusters) ** 2 == pytest.approx(expected)


def test_paired_test_is_delongs_with_its_covariance():
    rng = np.random.default_rng(4)
    labels, a = draw(rng, 50)
    b = a + np.round(rng.normal(size=50), 1)
    for clusters in (None, [f"doc{i // 3}" for i in range(50)]):
        names = clusters or [str(i) for i in range(50)]
        aa, bb, ab = (covariance_by_loops(labels, x, y, names) for x, y in ((a, a), (b, b), (a, b)))
        test = roc.delong_paired(labels, a, b, clusters)
        assert test.diff == pytest.approx(auroc_by_pairs(labels, a) - auroc_by_pairs(labels, b))
        assert test.se**2 == pytest.approx(aa + bb - 2 * ab)
        assert test.p == pytest.approx(math.erfc(abs(test.diff) / test.se / math.sqrt(2)))


def test_paired_test_drops_texts_that_one_score_lacks_and_is_calm_about_itself():
    labels, a = draw(np.random.default_rng(5), 40)
    b = a.copy()
    b[:3] = math.nan
    assert roc.delong_paired(labels, a, b) == roc.delong_paired(labels[3:], a[3:], a[3:])
    assert roc.delong_paired(labels, a, a)[2:] == (0.0, 0.0, 1.0)


def test_paired_test_at_separation_keeps_an_error_for_the_perfect_side():
    labels, a = draw(np.random.default_rng(6), 40)
    perfect = labels.astype(float)
    test = roc.delong_paired(labels, perfect, a)
    assert test.se == pytest.approx(math.hypot(roc.delong_stderr(labels, a), roc.newcombe_stderr(20, 20)))
    assert roc.delong_paired(labels, a, perfect).se == pytest.approx(test.se)
    opposite = roc.delong_paired(labels, perfect, -perfect)
    assert opposite.diff == 1.0
    assert opposite.se > 0
    assert opposite.p < 1e-6


def test_components_that_differ_by_a_constant_give_no_p_rather_than_a_sure_one():
    test = roc.delong_paired([1, 1, 0, 0], [1, 3, 2, 4], [2, 4, 1, 3])
    assert test[:4] == (0.25, 0.75, -0.5, 0.0)
    assert math.isnan(test.p)


@pytest.mark.parametrize("sign", [1, -1])
def test_separation_has_newcombes_error_not_zero(sign):
    labels = np.arange(40) % 2
    assert roc.auroc(labels, sign * labels) == (1.0 if sign > 0 else 0.0)
    assert roc.delong_stderr(labels, sign * labels) == roc.newcombe_stderr(20, 20)
    limit = 1 - 1.959964 * roc.newcombe_stderr(20, 20)
    half = 19.0
    variance = limit * (1 - limit) * (1 + half * (1 - limit) / (2 - limit) + half * limit / (1 + limit)) / 400
    assert 1 - limit == pytest.approx(1.959964 * math.sqrt(variance), rel=1e-5)


def test_separation_counts_documents_not_texts():
    labels = np.repeat(np.arange(20) % 2, 5)
    clusters = [str(i) for i in np.repeat(np.arange(20), 5)]
    assert roc.delong_stderr(labels, labels, clusters) == roc.newcombe_stderr(10, 10)


def test_copies_of_a_text_in_its_cluster_do_not_shrink_the_errors():
    labels, scores = draw(np.random.default_rng(7), 120)
    ids = [str(i) for i in range(120)]
    tripled = (np.repeat(labels, 3), np.repeat(scores, 3), list(np.repeat(ids, 3)))
    assert roc.delong_stderr(*tripled) == pytest.approx(roc.delong_stderr(labels, scores, ids))
    assert roc.delong_stderr(*tripled[:2]) < 0.6 * roc.delong_stderr(labels, scores, ids)
    single = intervals.tpr_interval(labels, scores, 0.1, ids)
    assert intervals.tpr_interval(*tripled[:2], 0.1, tripled[2]) == pytest.approx(single, abs=0.06)


@pytest.mark.parametrize(("bound", "n"), [(0.01, 220), (0.01, 400), (0.05, 90), (0.2, 30)])
@pytest.mark.parametrize("digits", [0, 1, 8])
def test_tpr_is_the_best_of_all_thresholds_within_the_bound(bound, n, digits):
    labels, scores = draw(np.random.default_rng(n), n, shift=1.5, digits=digits)
    assert roc.tpr_at_fpr(labels, scores, bound) == tpr_by_enumeration(labels, scores, bound)


def test_a_tied_block_is_called_as_a_whole():
    # 100 non-members, one of them tied with half of the members at the top: FPR 1 % for all of that half.
    labels = np.array([1] * 10 + [0] * 100)
    scores = np.array([5.0] * 5 + [1.0] * 5 + [5.0] + [1.0] * 99)
    assert roc.tpr_at_fpr(labels, scores, 0.01) == 0.5
    scores[11] = 5.0  # now 2 % for any of them
    assert roc.tpr_at_fpr(labels, scores, 0.01) == 0.0


def test_the_bound_is_met_exactly_where_its_float_product_is_not_whole():
    assert 0.29 * 100 < 29
    labels = np.array([1] + [0] * 100)
    assert roc.tpr_at_fpr(labels, [100 - 29 + 0.5, *range(1, 101)], 0.29) == 1.0
    assert roc.tpr_at_fpr(labels, [100 - 30 + 0.5, *range(1, 101)], 0.29) == 0.0


def test_tpr_is_nan_below_one_false_positive():
    labels, scores = draw(np.random.default_rng(8), 198)
    assert math.isnan(roc.tpr_at_fpr(labels, scores, 0.01))
    assert not math.isnan(roc.tpr_at_fpr([*labels, 0], [*scores, 0.0], 0.01))


def test_bootstrap_weights_give_what_the_repeated_texts_give():
    labels, scores = draw(np.random.default_rng(9), 60, digits=0)
    order = np.argsort(-scores, kind="stable")
    member, values = labels[order].astype(bool), scores[order]
    for weights in resample(member, np.arange(60), 100, np.random.default_rng(0)):
        rates = roc._weighted_tpr(weights, member, values, 0.1)
        for row, rate in zip(weights, rates, strict=True):
            repeated = np.repeat(np.arange(60), row)
            assert rate == tpr_by_enumeration(member[repeated].astype(int), values[repeated], 0.1)


def test_bootstrap_draws_each_kind_of_cluster_as_often_as_there_are_and_repeats_itself():
    labels = np.array([1, 1, 0, 0, 1, 0, 1, 0, 1, 1], dtype=bool)
    codes = np.array([0, 0, 1, 2, 3, 3, 4, 4, 5, 6])
    for weights in resample(labels, codes, 50, np.random.default_rng(1)):
        assert (weights[:, 0] == weights[:, 1]).all()
        assert (weights[:, 4] == weights[:, 5]).all()
        assert (weights[:, [0, 8, 9]].sum(axis=1) == 3).all()  # members only
        assert (weights[:, [2, 3]].sum(axis=1) == 2).all()  # non-members only
        assert (weights[:, [4, 6]].sum(axis=1) == 2).all()  # both


def test_a_tpr_has_limits_only_where_the_bound_allows_five_false_positives():
    labels, scores = draw(np.random.default_rng(2), 998)
    assert all(map(math.isnan, intervals.tpr_interval(labels, scores, 0.01)))
    labels, scores = draw(np.random.default_rng(2), 1000)
    lower, upper = intervals.tpr_interval(labels, scores, 0.01)
    assert lower < roc.tpr_at_fpr(labels, scores, 0.01) < upper


def test_a_tpr_at_separation_has_limits():
    labels = np.arange(1000) % 2
    lower, upper = intervals.tpr_interval(labels, labels, 0.01)
    assert (upper, roc.tpr_at_fpr(labels, labels, 0.01)) == (1.0, 1.0)
    assert 0.98 < lower < 1


def test_chance_alone_reaches_more_than_the_bound():
    assert roc.chance_tpr(100, 0.01) == pytest.approx(2 / 101)
    assert roc.chance_tpr(1000, 0.001) == pytest.approx(2 / 1001)
    assert math.isnan(roc.chance_tpr(99, 0.01))
    rng = np.random.default_rng(3)
    labels = np.arange(240) % 2
    mean = np.mean([roc.tpr_at_fpr(labels, rng.normal(size=240), 0.01) for _ in range(1500)])
    assert mean == pytest.approx(roc.chance_tpr(120, 0.01), abs=0.0015)


def test_the_limits_of_an_auroc_are_delongs_on_the_logit_scale():
    labels, scores = draw(np.random.default_rng(4), 120, shift=2.5, digits=8)
    value, se = roc.auroc(labels, scores), roc.delong_stderr(labels, scores)
    freedom = roc.auroc_covariance(labels, [scores]).freedom
    half = student_t.isf(0.025, freedom) * se / (value * (1 - value))
    assert intervals.auroc_interval(labels, scores) == pytest.approx(
        (value, expit(logit(value) - half), expit(logit(value) + half))
    )
    separated = intervals.auroc_interval(labels, labels)
    assert separated.upper == 1.0
    assert separated.lower < 0.97


def test_a_seed_that_is_separated_among_others_that_nearly_are_leaves_the_mean_an_interval():
    labels = np.repeat([1, 0], 250)
    separated = labels + np.linspace(0, 0.5, 500)
    nearly = separated.copy()
    nearly[0] = nearly[498] + 1e-6  # one member below one non-member
    found = intervals.mean_auroc_interval(roc.auroc_covariance(labels, [separated, nearly, nearly]))
    assert 0.99 < found.lower < found.value - 1.96 * roc.newcombe_stderr(250, 250) / 3
    assert found.upper == 1


def test_few_texts_that_carry_the_error_widen_the_limits():
    """Satterthwaite's degrees of freedom; where all texts carry it, those of the smaller class."""
    rng = np.random.default_rng(9)
    labels = np.arange(200) % 2
    normal = roc.auroc_covariance(labels, [rng.normal(size=200) + labels])
    assert normal.freedom == 99
    mostly = np.where(labels, 2.0, 0.0) + rng.uniform(size=200)
    mostly[1] = 0.5  # one member among the non-members
    components = roc.auroc_components(labels == 1, mostly)[1]
    sides = [components[labels == side] for side in (0, 1)]
    doubt = sum((np.mean((c - c.mean()) ** 4) - c.var(ddof=1) ** 2 * 97 / 99) / 100**3 for c in sides)
    variance = sum(c.var(ddof=1) / 100 for c in sides)
    found = roc.auroc_covariance(labels, [mostly]).freedom
    assert found == pytest.approx(2 * variance**2 / doubt)
    assert found < 4
    names = [f"doc{n // 4}" for n in range(200)]
    assert roc.auroc_covariance(labels, [mostly], names).freedom < 4, "two of its texts are members, two are not"


def test_few_documents_widen_the_limits_by_students_t():
    assert intervals.quantile(14) == pytest.approx(2.1448, abs=1e-4)
    assert math.isnan(intervals.quantile(0))


@pytest.mark.parametrize(
    ("labels", "scores"),
    [([], []), ([1, 1], [0.1, 0.2]), ([0, 0], [0.1, 0.2]), ([1, 0], [math.nan, 0.2]), ([1, 0], [math.nan] * 2)],
)
def test_one_class_or_none_is_nan(labels, scores):
    assert math.isnan(roc.auroc(labels, scores))
    assert math.isnan(roc.delong_stderr(labels, scores))
    assert all(math.isnan(figure) for figure in roc.delong_paired(labels, scores, scores))
    assert math.isnan(roc.tpr_at_fpr(labels, scores, 0.5))


def test_two_texts_have_an_auroc_but_no_error():
    assert roc.auroc([1, 0], [2.0, 1.0]) == 1.0
    assert math.isnan(roc.delong_stderr([1, 0], [2.0, 1.0]))


def test_ties_everywhere_are_chance():
    labels, scores = [1, 0, 1, 0, 1, 0], [0.3] * 6
    assert roc.auroc(labels, scores) == 0.5
    assert roc.delong_stderr(labels, scores) == 0.0
    assert roc.tpr_at_fpr(labels, scores, 0.4) == 0.0


def test_nan_scores_are_left_out():
    labels, scores = draw(np.random.default_rng(11), 200)
    gaps = ([*labels, 1, 0], [*scores, math.nan, math.nan])
    assert roc.auroc(*gaps) == roc.auroc(labels, scores)
    assert roc.delong_stderr(*gaps) == roc.delong_stderr(labels, scores)
    assert roc.tpr_at_fpr(*gaps, 0.01) == roc.tpr_at_fpr(labels, scores, 0.01)


@pytest.mark.parametrize("texts_per_document", [1, 4])
def test_intervals_cover_the_truth_about_as_often_as_they_say(texts_per_document):
    rng, k, n, shift, runs = np.random.default_rng(12), texts_per_document, 200, 1.0, 300
    spread = math.sqrt(2 * (1 + (k > 1)))
    truth = 0.5 * math.erfc(-shift / spread / math.sqrt(2))
    covered = 0
    for _ in range(runs):
        labels = np.repeat(rng.permutation(np.arange(n // k) % 2), k)
        common = np.repeat(rng.normal(size=n // k), k) if k > 1 else 0.0
        scores = rng.normal(size=n) + shift * labels + common
        clusters = [str(i // k) for i in range(n)]
        covered += abs(roc.auroc(labels, scores) - truth) < 1.96 * roc.delong_stderr(labels, scores, clusters)
    assert 0.90 <= covered / runs <= 0.985


def test_paired_test_rejects_a_true_null_in_about_five_percent():
    rng, runs = np.random.default_rng(13), 400
    rejected = 0
    for _ in range(runs):
        labels, common = draw(rng, 120, digits=8)
        a, b = (common + 0.5 * rng.normal(size=120) for _ in range(2))
        rejected += roc.delong_paired(labels, a, b).p < 0.05
    assert 0.02 <= rejected / runs <= 0.085
