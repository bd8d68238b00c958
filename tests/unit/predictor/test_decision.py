"""Decisions: which mask, several or none; only what the bank serves; refusals that name what is near."""

import pytest
import torch


@pytest.fixture
def told(trained, monkeypatch):
    """A predictor whose network is sure of a given reading for every instruction."""
    from amask.predictor.calibration import Calibration
    from amask.predictor.predictor import Heard
    from amask.predictor.reading import Reading

    sober = trained.record.model_copy(update={"calibration": Calibration(threshold=0.5)})
    monkeypatch.setattr(trained, "record", sober)

    def make(*parts, form="plain", chance=0.99):
        chances = torch.full((len(trained.possible.readings),), (1 - chance) / (len(trained.possible.readings) - 1))
        chances[trained.possible.index(Reading(parts, form))] = chance
        heard = Heard(chances, torch.ones(trained.identity.geometry.shape).masked_fill(~trained.identity.geometry.present, -1))
        monkeypatch.setattr(trained, "hear", lambda texts: [heard for _ in texts])
        return trained

    return make


def test_a_task_runs_the_banks_mask(told, masks):
    decision = told("gr").decide(["who is it"], masks)[0]
    assert (decision.kind, str(decision.reading), decision.how) == ("mask", "gr", "one-pass")
    assert decision.mask is masks[0]
    assert decision.require().name == "gr"
    assert decision.neighbours[0].task == "gr"


def test_what_has_no_mask_is_not_taken_for_the_next_best(told, masks):
    """Read as `ser` by 60 of 100 and as `gr` by 39: in a bank without `ser` that is no request for `gr`."""
    from amask.predictor.reading import Reading

    predictor = told("ser", chance=0.6)
    (heard,) = predictor.hear(["x"])
    heard.chances[predictor.possible.index(Reading(("gr",)))] = 0.39
    assert str(predictor.decide(["x"], masks[:3])[0].reading) == "ser"
    assert predictor.decide(["x"], masks[:2])[0].kind == "refuse"


def test_raw_runs_the_predicted_bits(told, masks, identity):
    decision = told("gr").decide(["who is it"], masks, raw=True)[0]
    assert decision.how == "bits"
    assert torch.equal(decision.mask.bits, identity.geometry.present)
    assert decision.mask.lineage["instruction"] == "who is it"
    assert decision.mask.identity.same(identity)


def test_a_composite_runs_the_banks_mask_or_its_parts(told, masks):
    reached = masks[3].with_(lineage={"composite": {"reached": True}})
    banked = told("gr", "asr", form="json").decide(["x"], [*masks[:3], reached])[0]
    assert (banked.kind, banked.how, banked.mask) == ("composite", "one-pass", reached)
    doubtful = told("gr", "asr", form="json").decide(["x"], masks)[0]  # as `amask run` does it
    assert (doubtful.how, doubtful.mask) == ("parallel", None)
    alone = told("gr", "asr", form="json").decide(["x"], masks[1:])[0]  # there is no mask for one of its parts
    assert (alone.how, alone.mask) == ("one-pass", masks[3])
    parallel = told("asr", "gr", form="pipe").decide(["x"], masks)[0]
    assert (parallel.kind, parallel.how, parallel.mask) == ("composite", "parallel", None)
    assert parallel.spec.name == "asr-gr"


def test_keys_of_json_are_the_users(told, masks):
    decision = told("gr", "asr", form="json").decide(['{"sex": ?, "said": ?}'], masks)[0]
    assert decision.spec.keys == ("sex", "said")
    assert told("gr", "asr", form="json").decide(['{"gr": ?, "asr": ?}'], masks)[0].spec.keys == ()


@pytest.mark.parametrize("parts", [("age",), ("gr", "age")])
def test_what_the_bank_does_not_serve_is_refused(told, masks, parts):
    from amask.errors import InstructionError

    decision = told(*parts, form="plain" if len(parts) == 1 else "pipe").decide(["how old"], masks)[0]
    assert decision.kind == "refuse"
    assert decision.mask is None
    with pytest.raises(InstructionError, match="no mask serves"):
        decision.require()


def test_the_unclear_is_refused_with_the_two_nearest_and_their_wordings(told, masks):
    from amask.errors import InstructionError

    decision = told("gr", chance=0.02).decide(["hm"], masks)[0]
    assert decision.kind == "refuse"
    assert len(decision.neighbours) == 2
    for near in decision.neighbours:
        task = next(task for task in told("gr").record.tasks if task.name == near.task)
        assert near.example in (task.wordings or (task.title,))  # plain ones: nobody is to imitate slang
    with pytest.raises(InstructionError) as raised:
        decision.require()
    assert all(near.example in str(raised.value) for near in decision.neighbours)


@pytest.mark.parametrize("text", ["", "   "])
def test_nothing_said_is_refused_as_such(told, masks, text):
    from amask.errors import InstructionError

    with pytest.raises(InstructionError, match="the instruction is empty"):
        told("gr").decide([text], masks)[0].require()


def test_a_row_of_json(told, masks):
    row = told("gr").decide(["who is it"], masks)[0].as_row()
    assert row.keys() >= {"instruction", "decision", "task", "confidence", "heads_on", "neighbours"}
    assert (row["decision"], row["task"], row["heads_on"]) == ("mask", "gr", masks[0].heads_on)


def test_a_new_task_is_found_by_its_wording_without_training(trained, masks, made_mask):
    from amask.data.tasks import Task, builtin_tasks

    wordings = ("which device shall be switched", "what to switch on", "smart home command")
    own = Task(name="intent", metric="acc", labels=("lamp", "radio"), wordings=wordings)
    mask = made_mask("intent", dict(builtin_tasks()) | {"intent": own})
    decision = trained.decide(["Which device shall be switched?"], [*masks, mask])[0]
    assert (decision.kind, str(decision.reading), decision.mask) == ("mask", "intent", mask)
    assert str(trained.decide(["book a table for two"], [*masks, mask])[0].reading) != "intent"


def test_only_so_many_wordings_of_a_task_are_compared_as_take_no_time():
    from amask.predictor.predictor import COMPARED, Predictor

    index = Predictor.load().wordings
    assert max(index.sizes) <= COMPARED
    assert min(index.sizes) > COMPARED // 2
