"""Routes: which mask, several or none; only what the bank serves; refusals that name what is near."""

import pytest
import torch


@pytest.fixture
def certain(trained, monkeypatch):
    """A predictor whose network is sure of a given intent for every instruction."""
    from amask.predictor.calibration import Calibration
    from amask.predictor.intent import Intent
    from amask.predictor.predictor import Prediction

    sober = trained.record.model_copy(update={"calibration": Calibration(threshold=0.5)})
    monkeypatch.setattr(trained, "record", sober)

    def make(*parts, form="plain", prob=0.99):
        probs = torch.full((len(trained.space.intents),), (1 - prob) / (len(trained.space.intents) - 1))
        probs[trained.space.index(Intent(parts, form))] = prob
        prediction = Prediction(
            probs, torch.ones(trained.identity.geometry.shape).masked_fill(~trained.identity.geometry.present, -1)
        )
        monkeypatch.setattr(trained, "predict", lambda texts: [prediction for _ in texts])
        return trained

    return make


def route_all(predictor, instructions, masks, **options):
    from amask.predictor.router import InstructionRouter

    return InstructionRouter(predictor, masks).route(instructions, **options)


def test_a_task_runs_the_banks_mask(certain, masks):
    route = route_all(certain("gr"), ["who is it"], masks)[0]
    assert (route.kind, str(route.intent), route.how) == ("mask", "gr", "one-pass")
    assert route.mask is masks[0]
    assert route.spec_or_raise().name == "gr"
    assert route.neighbours[0].task == "gr"


def test_what_has_no_mask_is_not_taken_for_the_next_best(certain, masks):
    """Read as `ser` by 60 of 100 and as `gr` by 39: in a bank without `ser` that is no request for `gr`."""
    from amask.predictor.intent import Intent

    predictor = certain("ser", prob=0.6)
    (prediction,) = predictor.predict(["x"])
    prediction.probs[predictor.space.index(Intent(("gr",)))] = 0.39
    assert str(route_all(predictor, ["x"], masks[:3])[0].intent) == "ser"
    assert route_all(predictor, ["x"], masks[:2])[0].kind == "refuse"


def test_raw_runs_the_predicted_bits(certain, masks, identity):
    route = route_all(certain("gr"), ["who is it"], masks, use_predicted_bits=True)[0]
    assert route.how == "bits"
    assert torch.equal(route.mask.bits, identity.geometry.present)
    assert route.mask.lineage["instruction"] == "who is it"
    assert route.mask.identity.same(identity)


def test_a_composite_runs_the_banks_mask_or_its_parts(certain, masks):
    reached = masks[3].with_(lineage={"composite": {"reached": True}})
    banked = route_all(certain("gr", "asr", form="json"), ["x"], [*masks[:3], reached])[0]
    assert (banked.kind, banked.how, banked.mask) == ("composite", "one-pass", reached)
    doubtful = route_all(certain("gr", "asr", form="json"), ["x"], masks)[0]  # as `amask run` does it
    assert (doubtful.how, doubtful.mask) == ("parallel", None)
    whole = route_all(certain("gr", "asr", form="json"), ["x"], masks[1:])[0]  # there is no mask for one of its parts
    assert (whole.how, whole.mask) == ("one-pass", masks[3])
    parallel = route_all(certain("asr", "gr", form="pipe"), ["x"], masks)[0]
    assert (parallel.kind, parallel.how, parallel.mask) == ("composite", "parallel", None)
    assert parallel.spec.name == "asr-gr"


def test_keys_of_json_are_the_users(certain, masks):
    route = route_all(certain("gr", "asr", form="json"), ['{"sex": ?, "said": ?}'], masks)[0]
    assert route.spec.keys == ("sex", "said")
    assert route_all(certain("gr", "asr", form="json"), ['{"gr": ?, "asr": ?}'], masks)[0].spec.keys == ()


@pytest.mark.parametrize("parts", [("age",), ("gr", "age")])
def test_what_the_bank_does_not_serve_is_refused(certain, masks, parts):
    from amask.errors import InstructionError

    route = route_all(certain(*parts, form="plain" if len(parts) == 1 else "pipe"), ["how old"], masks)[0]
    assert route.kind == "refuse"
    assert route.mask is None
    with pytest.raises(InstructionError, match="no mask serves"):
        route.spec_or_raise()


def test_the_unclear_is_refused_with_the_two_nearest_and_their_wordings(certain, masks):
    from amask.errors import InstructionError

    route = route_all(certain("gr", prob=0.02), ["hm"], masks)[0]
    assert route.kind == "refuse"
    assert len(route.neighbours) == 2
    for near in route.neighbours:
        task = next(task for task in certain("gr").record.tasks if task.name == near.task)
        assert near.example in (task.wordings or (task.title,))  # plain ones: nobody is to imitate slang
    with pytest.raises(InstructionError) as raised:
        route.spec_or_raise()
    assert all(near.example in str(raised.value) for near in route.neighbours)


@pytest.mark.parametrize("text", ["", "   "])
def test_nothing_said_is_refused_as_such(certain, masks, text):
    from amask.errors import InstructionError

    with pytest.raises(InstructionError, match="the instruction is empty"):
        route_all(certain("gr"), [text], masks)[0].spec_or_raise()


def test_a_row_of_json(certain, masks):
    row = route_all(certain("gr"), ["who is it"], masks)[0].as_row()
    assert row.keys() >= {"instruction", "decision", "task", "confidence", "heads_on", "neighbours"}
    assert (row["decision"], row["task"], row["heads_on"]) == ("mask", "gr", masks[0].heads_on)


def test_a_new_task_is_found_by_its_wording_without_training(trained, masks, made_mask):
    from amask.data.tasks import Task, builtin_tasks

    wordings = ("which device shall be switched", "what to switch on", "smart home command")
    own = Task(name="intent", metric="acc", labels=("lamp", "radio"), wordings=wordings)
    mask = made_mask("intent", dict(builtin_tasks()) | {"intent": own})
    route = route_all(trained, ["Which device shall be switched?"], [*masks, mask])[0]
    assert (route.kind, str(route.intent), route.mask) == ("mask", "intent", mask)
    assert str(route_all(trained, ["book a table for two"], [*masks, mask])[0].intent) != "intent"


def test_only_so_many_wordings_of_a_task_are_compared_as_take_no_time():
    from amask.predictor.predictor import MAX_INDEXED_WORDINGS, Predictor

    index = Predictor.load().wordings
    assert max(index.sizes) <= MAX_INDEXED_WORDINGS
    assert min(index.sizes) > MAX_INDEXED_WORDINGS // 2
