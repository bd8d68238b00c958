"""What users call the parts of a JSON answer."""

import pytest


def test_hand_written_requests():
    from amask.predictor.keys import json_keys
    from amask.predictor.wordings import read_wordings

    requests = read_wordings().composites.requests
    for request in (*requests.train, *requests.held_out):
        if request.form == "json":
            keys = json_keys(request.text, len(request.parts))
            assert request.keys == (() if keys == request.parts else keys), request.text


@pytest.mark.parametrize(
    ("text", "count", "keys"),
    [
        ("gender and words as json", 2, ()),
        ('{"a": 1, "b": 2, "c": 3}', 2, ()),
        ("json with the keys who, what and how", 3, ("who", "what", "how")),
        ("json, keys: a, a", 2, ()),
        ('the "words" as json', 2, ()),
        ('gender and words as json: " " and "x"', 2, ()),
    ],
)
def test_names_are_taken_only_where_there_are_as_many(text, count, keys):
    from amask.predictor.keys import json_keys

    assert json_keys(text, count) == keys
