"""Answers that are held to a form keep it, whatever the model would say and wherever the budget ends."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

EOS = "<eos>"


@pytest.fixture(scope="module")
def tokenizer():
    """Every byte is a token, and a few merges that cross the marks of a form."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [('"', "}"), ('"', ","), ('"', ":"), ("|", "a"), ("f", "e"), ("fe", "m")]
    pieces = [EOS, *alphabet, *("".join(pair) for pair in merges)]
    made = Tokenizer(models.BPE({piece: at for at, piece in enumerate(pieces)}, merges))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token=EOS, pad_token=EOS)


@pytest.fixture(scope="module")
def model(tokenizer):
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **sizes)).eval()


@pytest.fixture(scope="module")
def say(model, tokenizer):
    """Samples answers from noise at temperature 5, each held to its form, with a budget of tokens."""
    from amask.lalm.constrained_decoding import ConstraintProcessor

    def say(forms, budget, seed, beams=1):
        torch.manual_seed(seed)
        prompt = torch.randint(1, len(tokenizer), (len(forms), 3))
        held = ConstraintProcessor(tokenizer, forms, 3, budget, [tokenizer.eos_token_id])
        most = budget + max(form.extra_tokens if form else 0 for form in forms)
        how = {"num_beams": beams} if beams > 1 else {"do_sample": True, "temperature": 5.0, "top_k": 0}
        config = GenerationConfig(max_new_tokens=most, pad_token_id=0, eos_token_id=tokenizer.eos_token_id, **how)
        made = model.generate(prompt, attention_mask=torch.ones_like(prompt), generation_config=config, logits_processor=[held])
        return tokenizer.batch_decode(made[:, 3:], skip_special_tokens=True)

    return say


def fits(spec, answer) -> bool:
    """Whether an answer is in the task's form, its labels among those that there are: told without the grammar."""
    parts = spec.split(answer)
    return parts is not None and all(not part.labels or parts[part.name] in part.labels for part in spec.parts)


SPECS = ("gr", "ser", "gr-asr", "asr-gr", "gr-asr-json", "asr-gr-json", "ser-age-asr-json", "age-ser-gr")


@settings(max_examples=10, deadline=None)
@given(names=st.lists(st.sampled_from(SPECS), min_size=1, max_size=6), budget=st.integers(1, 12), seed=st.integers(0, 10**6))
def test_every_answer_fits_its_own_form(say, names, budget, seed):
    from amask.data.tasks import parse_task
    from amask.lalm.constrained_decoding import task_constraint

    specs = [parse_task(name) for name in names]
    for spec, answer in zip(specs, say([task_constraint(spec) for spec in specs], budget, seed), strict=True):
        assert fits(spec, answer), (spec.name, budget, answer)
        if spec.form == "json":
            assert json.loads(answer).keys() == set(spec.names)


def test_beams_and_rows_without_a_form(say):
    from amask.data.tasks import parse_task
    from amask.lalm.constrained_decoding import task_constraint

    spec = parse_task("gr-asr-json")
    held, free = say([task_constraint(spec), None], 6, 3, beams=3)
    assert fits(spec, held)
    assert not fits(spec, free)


def test_open_text_has_no_form():
    from amask.data.tasks import parse_task
    from amask.lalm.constrained_decoding import task_constraint

    assert task_constraint(parse_task("asr")) is None


def test_odd_text_and_keys_survive(tokenizer):
    """What JSON can hold can be said: the grammar takes the JSON of any text, byte by byte."""
    import llguidance
    from llguidance.hf import from_tokenizer

    from amask.data.tasks import parse_task
    from amask.lalm.constrained_decoding import task_constraint

    spec = parse_task("gr-asr-json", keys=["Geschlecht (m/w)", 'was "gesagt" wird'])
    held = from_tokenizer(tokenizer, n_vocab=len(tokenizer), eos_token=[tokenizer.eos_token_id])
    for text in ('so "sagt" er', "grüß dich 🎉", "back\\slash\nline", "{}[]|", ""):
        matcher = llguidance.LLMatcher(held, task_constraint(spec).grammar)
        said = tokenizer(spec.target({"gr": "male", "asr": text}), add_special_tokens=False)["input_ids"]
        assert matcher.try_consume_tokens(said) == len(said), text
        assert matcher.is_accepting()


@pytest.mark.parametrize("seed", range(3))
def test_a_schema_is_kept(say, seed):
    from amask.lalm.constrained_decoding import schema_constraint

    schema = {
        "type": "object",
        "properties": {"size": {"enum": ["big", "small"]}, "note": {"type": "string"}, "sweet": {"type": "boolean"}},
        "required": ["size", "note", "sweet"],
        "additionalProperties": False,
    }
    (answer,) = say([schema_constraint(schema)], 8, seed)
    found = json.loads(answer)
    assert found["size"] in ("big", "small")
    assert isinstance(found["note"], str)
    assert isinstance(found["sweet"], bool)


STRING, NUMBER = {"type": "string"}, {"type": "number"}
SCHEMAS = {
    "a number before a text": {"properties": {"n": NUMBER, "t": STRING}, "required": ["n", "t"]},
    "a list of texts": {"properties": {"said": {"type": "array", "items": STRING}}, "required": ["said"]},
    "three numbers at least": {"properties": {"n": {"type": "array", "items": NUMBER, "minItems": 3}}, "required": ["n"]},
    "objects in a list": {
        "properties": {"who": {"type": "array", "items": {"type": "object", "properties": {"name": STRING, "age": NUMBER}}}},
        "required": ["who"],
    },
    "a long text": {"properties": {"t": {"type": "string", "minLength": 40}}, "required": ["t"]},
    "long keys": {"properties": {f"{letter * 90}": {"type": "boolean"} for letter in "abcdef"}, "required": [f"{'a' * 90}"]},
}


@settings(max_examples=8, deadline=None)
@given(
    names=st.lists(st.sampled_from(sorted(SCHEMAS)), min_size=1, max_size=5),
    budget=st.integers(1, 12),
    seed=st.integers(0, 10**6),
)
def test_any_schema_comes_to_its_end(say, names, budget, seed):
    """Where the budget ends within a number, a list or a text, what follows leads out of it."""
    from amask.lalm.constrained_decoding import schema_constraint

    forms = [schema_constraint({"type": "object", "additionalProperties": False} | SCHEMAS[name]) for name in names]
    for name, form, answer in zip(names, forms, say(forms, budget, seed), strict=True):
        assert form.is_complete(answer), (name, answer)
        found = json.loads(answer)
        assert set(SCHEMAS[name]["required"]) <= set(found)


def _is_number(value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


RIGHT = {  # what each schema says, in Python
    "a number before a text": lambda it: _is_number(it["n"]) and isinstance(it["t"], str),
    "a list of texts": lambda it: all(isinstance(each, str) for each in it["said"]),
    "three numbers at least": lambda it: len(it["n"]) >= 3 and all(map(_is_number, it["n"])),
    "objects in a list": lambda it: all(
        isinstance(each.get("name", ""), str) and _is_number(each.get("age", 0)) for each in it["who"]
    ),
    "a long text": lambda it: len(it["t"]) >= 40,
    "long keys": lambda it: all(isinstance(each, bool) for each in it.values()),
}


def test_hundreds_of_answers_in_json_parse_and_fit(say):
    """Twelve batches of thirty rows from a random model at temperature 5, each row of a task or schema of its own."""
    import random

    from amask.data.tasks import parse_task
    from amask.lalm.constrained_decoding import schema_constraint, task_constraint

    rng = random.Random(1)
    tasks = {name: parse_task(name) for name in SPECS if name.endswith("-json")}
    forms = {name: task_constraint(task) for name, task in tasks.items()}
    forms |= {name: schema_constraint({"type": "object", "additionalProperties": False} | SCHEMAS[name]) for name in SCHEMAS}
    for batch in range(12):
        names = rng.choices(sorted(forms), k=30)
        for name, answer in zip(names, say([forms[name] for name in names], 1 + batch % 12, batch), strict=True):
            found = json.loads(answer)
            assert fits(tasks[name], answer) if name in tasks else RIGHT[name](found), (name, answer)
            if name in SCHEMAS:
                assert set(SCHEMAS[name]["required"]) <= set(found) <= set(SCHEMAS[name]["properties"])


def test_what_cannot_come_to_its_end_is_told(say):
    from amask.lalm.constrained_decoding import schema_constraint

    wanted = {"type": "object", "properties": {"t": {"type": "string", "minLength": 2000}}, "required": ["t"]}
    form = schema_constraint(wanted, extra_tokens=8)
    (answer,) = say([form], 4, 0)
    assert not form.is_complete(answer)


def test_a_schema_that_cannot_be_kept_is_refused():
    from amask.errors import ModelError
    from amask.lalm.constrained_decoding import schema_constraint

    with pytest.raises(ModelError, match="cannot hold answers to this schema"):
        schema_constraint({"type": "strange"})


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        ({"type": "object", "properties": {"a": {"type": "string", "pattern": "red"}}}, r"its pattern 'red' .*'\^red\$'"),
        ({"oneOf": [{"type": "string"}, {"type": "integer"}, {"type": "number"}]}, "oneOf cannot be followed; write anyOf"),
    ],
)
def test_schemas_that_decoding_cannot_follow_are_refused_in_words_that_help(schema, says):
    from amask.errors import ModelError
    from amask.lalm.constrained_decoding import schema_constraint

    with pytest.raises(ModelError, match=says):
        schema_constraint(schema)


def test_a_schema_from_a_file():
    from amask.errors import DataError
    from amask.lalm.constrained_decoding import parse_schema

    assert parse_schema(b'\xef\xbb\xbf{"type": "string"}', "x.json") == {"type": "string"}
    for wrong, says in ((b"[]", "x.json holds a list"), (b"{", "x.json is no JSON"), (b"\xff", "x.json is no JSON")):
        with pytest.raises(DataError, match=says):
            parse_schema(wrong, "x.json")
