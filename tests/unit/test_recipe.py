"""Which recipe a training has, and how it scales."""

import pytest


@pytest.fixture
def choose():
    from amask.data.tasks import parse_task
    from amask.mask_bank.recipe import choose_recipe

    return lambda *tasks, **how: choose_recipe([parse_task(task) for task in tasks], **how)


def test_recipes_by_size_and_tasks(choose):
    from amask.mask_bank.recipe import COMPOSITE, LARGE, PAPER, SMALL

    assert choose("gr") == choose("gr", "gr-asr") == choose("gr", parameters=10**7) == SMALL
    assert choose("gr-asr", "gr-asr-json") == COMPOSITE
    assert choose("gr", parameters=7 * 10**9) == choose("gr-asr", parameters=7 * 10**9) == LARGE
    assert (LARGE.peak, LARGE.tau_end, LARGE.sparsity) == (PAPER.peak, PAPER.tau_end, PAPER.sparsity) == (1e-2, 0.05, 1e-4)
    assert choose("gr", name="paper") == PAPER
    assert choose("gr", name="small", parameters=7 * 10**9) == SMALL


@pytest.mark.parametrize("steps", [10, 30, 120, 1000])
def test_schedules_scale_with_the_steps(choose, steps):
    """Logits can travel as far in a shorter training: the rate summed over the steps reaches from their start past 0."""
    from amask.mask_bank.schedules import LearningRateSchedule

    recipe = choose("gr", steps=steps)
    rate = LearningRateSchedule(recipe.peak, recipe.floor, recipe.warmup, recipe.steps, start=recipe.floor)
    assert sum(rate.at(step) for step in range(steps)) > min(1.0, steps / 30) * recipe.mean
    assert recipe.warmup == int(0.1 * steps)
    assert choose("gr", steps=steps, peak=0.01, warmup=3).peak == 0.01


def test_what_cannot_be_is_refused(choose):
    from amask.errors import DataError

    with pytest.raises(DataError, match="no recipe 'huge'; there are auto, small, composite, large, paper"):
        choose("gr", name="huge")
    with pytest.raises(DataError, match="cannot train with steps 0"):
        choose("gr", steps=0)


def test_what_is_all_held_to_a_form_distils_nothing_and_says_so(choose):
    from amask.errors import DataError

    with pytest.raises(DataError, match="a composite learns only what its form leaves open"):
        choose("gr-asr", distillation=0.5)
    assert choose("gr-asr", name="small", distillation=0.5).distillation == 0.5
