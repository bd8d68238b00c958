"""The masks that names stand for, as sets and as masks."""

import pytest

from .truth import mask_of, random_sets


@pytest.fixture(scope="module")
def sets() -> dict[str, frozenset]:
    return random_sets(0)


@pytest.fixture(scope="module")
def masks(sets) -> dict:
    return {name: mask_of(on) for name, on in sets.items()}
