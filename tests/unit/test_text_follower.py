"""What a listener is told while an answer is decoded: beginnings of its text, ever longer, whatever the tokens are."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

END = 0


def decode(ids) -> list[str]:
    """Tokens that are bytes, so that a letter may be several; no space stands before a full stop."""
    return [bytes(token for token in row if token != END).decode(errors="replace").replace(" .", ".") for row in ids.tolist()]


def follow(rows: list[list[int]], prompt: int = 0) -> tuple[list[list[str]], list[str]]:
    """What the listeners of rows are told, and the rows' texts."""
    from amask.lalm.text_follower import TextFollower

    told: list[list[str]] = [[] for _ in rows]
    follower = TextFollower(decode, [each.append for each in told])
    follower.prompt = prompt
    longest = max(map(len, rows))
    ids = torch.tensor([[1] * prompt + row + [END] * (longest - len(row)) for row in rows])
    scores = torch.zeros(len(rows), 4)
    for step in range(longest):
        assert follower(ids[:, : prompt + step], scores) is scores
    return told, [text.strip() for text in decode(ids[:, prompt:])]


@settings(deadline=None)
@given(
    st.lists(
        st.text(st.characters(exclude_characters="\0\ufffd", exclude_categories=["Cs"]), max_size=12), min_size=1, max_size=3
    )
)
def test_it_is_told_ever_longer_beginnings(texts):
    told, wanted = follow([list(text.encode()) + [END] for text in texts], prompt=2)
    for beginnings, text in zip(told, wanted, strict=True):
        assert all(text.startswith(beginning) for beginning in beginnings)
        assert all(len(after) > len(before) for before, after in zip(beginnings, beginnings[1:], strict=False))


def test_it_is_told_nearly_all_of_it():
    told, _ = follow([list(b"one two three")])
    assert told[0][0] == "o"
    assert told[0][-1] == "one two thr"


def test_rows_without_a_listener_are_left_alone():
    from amask.lalm.text_follower import TextFollower

    told = []
    follower = TextFollower(decode, [None, told.append])
    for step in range(4):
        follower(torch.tensor([list(b"aaaa"), list(b"bbbb")])[:, :step], torch.zeros(2, 4))
    assert told == ["b", "bb"]
