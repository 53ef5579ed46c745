from collections import Counter
from random import Random

import pytest

from loadtests.zipf import Zipf


def test_the_second_rank_comes_half_as_often_as_the_first() -> None:
    law, rng = Zipf(200), Random(0)
    drawn = Counter(law.draw(rng) for _ in range(50_000))
    harmonic = sum(1 / rank for rank in range(1, 201))
    assert drawn[0] / 50_000 == pytest.approx(1 / harmonic, rel=0.05)
    assert drawn[0] / drawn[1] == pytest.approx(2, rel=0.1)
    assert set(drawn) <= set(range(200))
    assert len(drawn) > 190
