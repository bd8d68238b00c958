"""Temperature and learning rate over the steps of a training."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

steps_and_decay = st.integers(2, 400).flatmap(
    lambda steps: st.tuples(st.just(steps), st.one_of(st.floats(0, 1), st.integers(2, steps).map(float)))
)


@given(steps_and_decay)
@settings(deadline=None)  # the first example imports torch
def test_temperature_falls_linearly_to_its_end(case):
    from amask.mask_bank.schedules import LinearSchedule

    steps, decay = case
    schedule = LinearSchedule(4.0, 0.5, decay, steps)
    taus = [schedule.at(step) for step in range(steps + 1)]
    assert all(tau == 0.5 for tau in taus[schedule.decay_steps :])
    falls = [earlier - later for earlier, later in zip(taus, taus[1:], strict=False)][: schedule.decay_steps]
    assert falls == pytest.approx([3.5 / max(1, schedule.decay_steps)] * schedule.decay_steps)
    assert taus[0] == (4.0 if schedule.decay_steps else 0.5)


@pytest.mark.parametrize(("decay", "steps"), [(0.3, 27_000), (15.0, 15), (1.0, 90_000), (0.0, 0)])
def test_a_decay_up_to_one_is_a_share(decay, steps):
    from amask.mask_bank.schedules import LinearSchedule

    assert LinearSchedule(4.0, 0.05, decay, 90_000).decay_steps == steps


def test_learning_rate():
    from amask.mask_bank.schedules import LearningRateSchedule

    schedule = LearningRateSchedule(peak=1e-2, minimum=1e-4, warmup=100, steps=1000, start=1e-6)
    rates = [schedule.at(step) for step in range(1001)]
    assert rates[0] == 1e-6
    assert rates[50] == pytest.approx((1e-6 + 1e-2) / 2)
    assert rates[500] == pytest.approx((1e-2 + 1e-4) / 2)  # the cosine's middle is that of all steps
    assert rates[1000] == pytest.approx(1e-4)
    assert all(earlier < later for earlier, later in zip(rates[:99], rates[1:100], strict=True))
    assert all(earlier > later for earlier, later in zip(rates[100:], rates[101:], strict=False))


def test_warm_up_is_constant_without_a_start():
    from amask.mask_bank.schedules import LearningRateSchedule

    schedule = LearningRateSchedule(peak=1e-2, minimum=0.0, warmup=5, steps=100)
    assert {schedule.at(step) for step in range(5)} == {1e-2}
    assert LearningRateSchedule(peak=1e-2, minimum=0.0, warmup=0, steps=100).at(0) == 1e-2


def test_warm_up_may_start_over_with_each_epoch():
    from amask.mask_bank.schedules import LearningRateSchedule

    once = LearningRateSchedule(1e-2, 1e-4, 80, 200, 1e-3)
    anew = LearningRateSchedule(1e-2, 1e-4, 80, 200, 1e-3, steps_per_epoch=50)
    for step in range(200):
        assert anew.at(step) == once.at(step - 50 if 50 <= step < 80 else step)


@pytest.mark.parametrize("fraction", [1.5, -0.1])
def test_a_recipe_takes_a_share_or_whole_steps(fraction):
    import pydantic

    from amask.mask_bank.recipe import Recipe

    assert Recipe(tau_fraction=1.0).tau_fraction == 1.0
    with pytest.raises(pydantic.ValidationError, match=r"tau_fraction"):
        Recipe(tau_fraction=fraction)
