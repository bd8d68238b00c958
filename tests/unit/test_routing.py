"""Routes: what a request must say, and whether one pass or parallel is chosen for what the bank has."""

import pytest
import torch


@pytest.fixture
def bank(tmp_path):
    from amask.mask_bank.bank import MaskBank

    return MaskBank(tmp_path)


@pytest.fixture
def add(bank):
    """Stores a mask of a task; `reached` is what its composition's record says, None for no record."""
    from amask.data.tasks import parse_task
    from amask.lalm.gating import Geometry
    from amask.lalm.identity import Identity
    from amask.mask_bank.mask import HeadMask

    identity = Identity(Geometry((8,)), "f" * 16, "tiny")
    numbers = iter(range(1, 200))

    def store(task, reached=None, keys=(), name=None):
        bits = torch.tensor([[bool(next(numbers) >> bit & 1) for bit in range(8)]])
        lineage = {} if reached is None else {"composite": {"reached": reached}}
        return bank.add(HeadMask(bits, identity, task=parse_task(task, keys=keys), lineage=lineage), name or task).stored

    store.identity = identity
    return store


def routed(bank, add, task, mode="auto", keys=()):
    from amask.data.tasks import parse_task
    from amask.serving.choose_route import RouteChooser

    found = RouteChooser(bank, add.identity, {}).route_spec(parse_task(task, keys=keys), mode)
    return found.mode, [mask.spec for mask in found.used_masks], found.reason


def test_one_pass_where_a_mask_reached_its_target(bank, add):
    for task in ("gr", "asr"):
        add(task)
    add("gr-asr")
    add("gr-asr", reached=False)
    assert routed(bank, add, "gr|asr") == (
        "parallel",
        ["gr@1", "asr@1"],
        "gr-asr in parallel by gr@1, asr@1, since gr-asr@1 was never measured against a target; see 'amask compose --help'",
    )
    add("gr-asr", reached=True)
    assert routed(bank, add, "gr|asr")[:2] == ("one-pass", ["gr-asr@3"])
    assert routed(bank, add, "gr|asr", "parallel")[:2] == ("parallel", ["gr@1", "asr@1"])


def test_the_newest_record_of_a_mask_counts(bank, add):
    """A search on more clips may say of the same heads that they do not reach the target after all."""
    for task in ("gr", "asr"):
        add(task)
    first = add("gr-asr", reached=True)
    again = first.with_(lineage={"composite": {"reached": False}})
    assert bank.add(again, "gr-asr").stored.version == 2
    assert bank.add(again, "gr-asr").stored.version == 2  # nothing new to tell
    assert routed(bank, add, "gr|asr")[0] == "parallel"


def test_parallel_where_there_is_no_mask_for_the_whole(bank, add):
    for task in ("gr", "asr", "ser"):
        add(task)
    how, masks, why = routed(bank, add, "ser|gr|asr")
    assert (how, masks) == ("parallel", ["ser@1", "gr@1", "asr@1"])
    assert "no mask does it in one pass" in why


def test_other_keys_are_another_answer(bank, add):
    from amask.errors import BankError

    for task in ("gr", "asr"):
        add(task)
    add("gr-asr-json", reached=True)
    assert routed(bank, add, "gr-asr-json")[0] == "one-pass"
    assert routed(bank, add, "gr-asr-json", keys=["GR", "ASR"])[0] == "parallel"
    with pytest.raises(BankError, match="with the keys GR, ASR; gr-asr-json@1 has gr, asr: pass these keys"):
        routed(bank, add, "gr-asr-json", "one-pass", keys=["GR", "ASR"])


def test_one_pass_where_a_part_has_no_mask(bank, add):
    add("gr")
    add("gr-asr", reached=False)
    how, masks, why = routed(bank, add, "gr|asr")
    assert (how, masks) == ("one-pass", ["gr-asr@1"])
    assert "no mask for the task 'asr'" in why


def test_what_is_not_there_is_said(bank, add):
    from amask.errors import BankError

    add("gr")
    with pytest.raises(BankError, match="no mask for the task 'asr'"):
        routed(bank, add, "gr|asr")
    with pytest.raises(BankError, match="no mask for the task 'gr-asr'"):
        routed(bank, add, "gr|asr", "one-pass")
    with pytest.raises(BankError, match="is one task"):
        routed(bank, add, "gr", "parallel")
    assert routed(bank, add, "gr") == ("one-pass", ["gr@1"], "")


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({}, "pass exactly one of instruction, task, mask and prompt; got none"),
        ({"task": "gr", "mask": "gr"}, "got task and mask"),
        ({"instruction": "x", "task": "gr", "prompt": "y"}, "got instruction and task and prompt"),
        ({"prompt": " "}, "the prompt is empty"),
        ({"prompt": "gender \udcff"}, "the prompt has bytes or half characters"),
        ({"instruction": "gender \ud800"}, "the instruction has bytes or half characters"),
        ({"task": "gr", "mode": "fast"}, "mode 'fast': expected one of auto, one-pass, parallel"),
        ({"mask": "gr", "mode": "parallel"}, "have one way"),
        ({"task": "gr THEN asr", "mode": "parallel"}, "have one way"),
        ({"task": "gr", "fallback": "prompt"}, "there is no instruction"),
        ({"instruction": "x", "fallback": "ask"}, "expected prompt"),
        ({"task": "gr", "predicted_bits": True}, "predicted bits are those of an instruction"),
        ({"mask": "gr", "keys": ("a", "b")}, "keys name the parts of a task"),
    ],
)
def test_requests_that_make_no_sense_are_refused(fields, problem):
    from amask.errors import InstructionError
    from amask.serving.routing import Request

    with pytest.raises(InstructionError, match=problem):
        Request(**fields)


@pytest.fixture
def choose(bank, add):
    """Chooses the route of a request; instructions are read as the task that they name."""
    from amask.data.tasks import builtin_tasks, parse_task
    from amask.errors import InstructionError
    from amask.predictor.intent import Intent
    from amask.predictor.route import InstructionRoute
    from amask.serving.choose_route import RouteChooser
    from amask.serving.routing import Request

    def read(text, _bits):
        if text == "nonsense":
            raise InstructionError("no mask serves the instruction")
        spec = parse_task(text)
        return InstructionRoute(text, "mask", Intent(spec.names, spec.form), 0.9, 0.5, spec=spec)

    return lambda **fields: RouteChooser(bank, add.identity, builtin_tasks()).choose(Request(**fields), read)


def test_each_kind_of_request_has_its_route(choose, add):
    from amask.serving.routing import ByMask, Parallel, Plan, Prompt

    gr, asr = add("gr"), add("asr")
    for route, stored in ((choose(task="gr"), gr), (choose(mask="asr@1"), asr)):
        assert isinstance(route, ByMask)
        assert (route.mask.digest, route.mask_names, route.task) == (stored.digest, stored.spec, stored.task)
    assert choose(mask=asr.with_()).mask_names == "asr"
    assert choose(prompt=" say it ") == Prompt(text="say it")
    parallel = choose(task="gr|asr")
    assert isinstance(parallel, Parallel)
    assert parallel.mask_names == "gr@1+asr@1"
    plan = choose(task="gr THEN asr@1 IF female")
    assert isinstance(plan, Plan)
    assert (plan.mode, plan.task_name) == ("plan", "gr THEN asr")
    assert plan.explain()[1] == "step 2: asr by asr@1, where step 1 says female"
    read = choose(instruction="asr")
    assert (read.mask_names, read.instruction, read.confidence) == ("asr@1", "asr", 0.45)


def test_what_no_mask_serves_is_prompted_where_that_is_asked_for(choose, add):
    from amask.errors import BankError, InstructionError

    add("gr")
    with pytest.raises(InstructionError, match="no mask serves"):
        choose(instruction="nonsense")
    with pytest.raises(BankError, match="no mask for the task 'asr'"):
        choose(instruction="asr")
    for text in ("nonsense", "asr"):
        route = choose(instruction=text, fallback="prompt")
        assert (route.mode, route.text, route.instruction) == ("prompt", text, text)
        assert "prompting the model with it instead" in route.warnings[0]


def test_routes_are_rows_of_json(choose, add):
    import json

    add("gr"), add("asr")
    row = json.loads(json.dumps(choose(instruction="gr").as_row()))
    assert (row["task"], row["mode"], row["mask"], row["confidence"]) == ("gr", "one-pass", "gr@1", 0.45)
    assert json.loads(json.dumps(choose(task="gr-asr-json").as_row()))["heads_on"] is None
