"""The fuzzers' targets hold for their seeds and for a few inputs made of these; `make fuzz` goes on from there."""

from __future__ import annotations

from random import Random

import pytest

from tests.fuzz.mutation import mutate, seeds
from tests.fuzz.targets import TARGETS

#: Inputs of each target: fewer where each is a whole life of an engine.
INPUTS = {target: 40 if target.endswith("_engine") else 300 for target in TARGETS}


@pytest.mark.parametrize("target", sorted(TARGETS))
def test_a_few_inputs(target: str) -> None:
    random, corpus, run = Random(target), seeds(target), TARGETS[target]
    for data in corpus:
        run(data)
    for _ in range(INPUTS[target]):
        data = mutate(target, random.choice(corpus), random.choice(corpus), random)
        run(data)
