import numpy as np
import pytest
from statsmodels.stats.multitest import multipletests

from harness.errors import SpecError
from harness.stats.multiplicity import benjamini_hochberg, holm


@pytest.mark.parametrize("seed", range(5))
def test_agree_with_statsmodels(seed):
    rng = np.random.default_rng(seed)
    p = np.round(rng.random(12) ** 3, 3)
    assert holm(p) == pytest.approx(multipletests(p, method="holm")[1])
    assert benjamini_hochberg(p) == pytest.approx(multipletests(p, method="fdr_bh")[1])


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])


def test_one_p_value_is_left_alone_and_none_stays_none():
    assert holm([0.02]) == [0.02]
    assert benjamini_hochberg([]) == []


def test_p_values_outside_the_unit_interval_are_refused():
    with pytest.raises(SpecError):
        holm([0.1, 1.2])
    with pytest.raises(SpecError):
        benjamini_hochberg([float("nan")])
