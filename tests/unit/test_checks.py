"""What tests check beside their assertions: types and shapes of amask's signatures, at each call."""

import numpy as np
import pytest
from beartype.roar import BeartypeCallHintViolation


def test_modules_are_under_the_checks() -> None:
    from amask.data import silence

    assert type(silence.__loader__).__module__.startswith("jaxtyping")


def test_shapes_are_checked() -> None:
    from amask.data.silence import levels

    assert len(levels(np.zeros(16000, np.float32), 16000)) == 50
    with pytest.raises(TypeError, match="wave"):
        levels(np.zeros((2, 16000), np.float32), 16000)
    with pytest.raises(TypeError, match="wave"):
        levels(np.zeros(16000), 16000)


def test_axes_of_one_name_are_as_long() -> None:
    from amask.data.labels import _equal_error

    assert _equal_error(np.array([True, False]), np.array([0.9, 0.1])) == 0
    with pytest.raises(TypeError, match="scores"):
        _equal_error(np.array([True, False]), np.array([0.9, 0.1, 0.4]))


def test_a_result_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    from amask.data.silence import levels

    monkeypatch.setattr(np, "log10", lambda power: power[:, None])
    with pytest.raises(TypeError, match="return value"):
        levels(np.zeros(16000, np.float32), 16000)


def test_types_are_checked_where_nothing_has_a_shape() -> None:
    """In functions, methods and dataclasses; also behind the first call, which is when the checks are made."""
    from amask.data.headers import Layout
    from amask.data.labels import bare, find_label

    assert find_label("a man", ("man", "woman")) == "man"
    for _ in range(2):
        with pytest.raises(BeartypeCallHintViolation, match="answer"):
            find_label(3, ("man", "woman"))
    with pytest.raises(BeartypeCallHintViolation, match="around"):
        bare("a", around=1)
    with pytest.raises(BeartypeCallHintViolation, match="first"):
        Layout(b"RIFF", "12", b"data", "<I")
