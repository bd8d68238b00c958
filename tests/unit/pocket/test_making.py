"""The making of the pocket model: each part against another that says the same, and killed and gone on with."""

from itertools import islice

import numpy as np
import pytest
import soundfile
import torch


def test_learning_rate_by_hand():
    from amask.pocket.making.loop import learning_rate

    assert learning_rate(0, 110, 1.0, 10) == pytest.approx(0.1)
    assert learning_rate(9, 110, 1.0, 10) == pytest.approx(1.0)
    assert learning_rate(60, 110, 1.0, 10) == pytest.approx(0.05 + 0.95 / 2)  # half-way down the cosine
    assert learning_rate(110, 110, 1.0, 10) == pytest.approx(0.05)


class Stopped(Exception):
    pass


def test_a_killed_training_goes_on_to_the_same_bits(tmp_path):
    from amask.pocket.making.loop import train

    def run(checkpoint, stop=None):
        torch.manual_seed(0)
        modules = torch.nn.ModuleDict({"line": torch.nn.Linear(3, 1), "slow": torch.nn.Linear(3, 1)})

        def losses(step):
            if step == stop:
                raise Stopped
            inputs = torch.randn(8, 3, generator=torch.Generator().manual_seed(step))
            return {name: ((line(inputs).squeeze(1) - inputs.sum(1)) ** 2).mean() for name, line in modules.items()}

        told = []
        settings = {"steps": 120, "peak": {"line": 0.1, "slow": 1e-4}, "warmup": 4, "save_every": 5}
        train(modules, losses, checkpoint=checkpoint, log=told.append, **settings)
        assert told[-1].startswith("step 120/120")
        return torch.stack([line.weight.detach() for line in modules.values()])

    whole = run(tmp_path / "whole.pt")
    assert torch.allclose(whole[0], torch.ones(1, 3), atol=0.05)  # it has learnt to add
    assert not torch.allclose(whole[1], torch.ones(1, 3), atol=0.05)  # at a rate of its own
    with pytest.raises(Stopped):
        run(tmp_path / "cut.pt", stop=23)
    assert torch.equal(run(tmp_path / "cut.pt"), whole)


def test_each_number_takes_its_share_of_a_step(tmp_path):
    """Adam's steps do not grow with the gradient, so rates scale the steps: Adam's first is the learning rate."""
    from amask.pocket.making.loop import train

    line = torch.nn.Linear(2, 1, bias=False)
    torch.nn.init.zeros_(line.weight)
    rates = {line.weight: torch.tensor([[0.0, 3.0]])}
    settings = {"steps": 1, "peak": {"line": 0.01}, "warmup": 1, "checkpoint": tmp_path / "c.pt", "log": lambda _line: None}
    train(torch.nn.ModuleDict({"line": line}), lambda _step: {"loss": -line.weight.sum()}, rates=rates, **settings)
    torch.testing.assert_close(line.weight.detach(), torch.tensor([[0.0, 0.03]]))


def test_a_store_keeps_each_clips_frames_and_goes_on_where_it_was(tmp_path):
    from amask.data.manifest import Clip, Manifest
    from amask.pocket.making.store import build_store

    sizes = (3, 1, 4, 2, 5)
    manifest = Manifest(tuple(Clip(path=str(size), duration=float(size)) for size in sizes), tmp_path)
    computed = []

    def compute(paths):
        if len(computed) == 2:
            computed.append([])
            raise Stopped
        computed.append([int(path.name) for path in paths])
        return [np.arange(2 * int(path.name), dtype=np.float32).reshape(-1, 2) - 1 for path in paths]

    def build(work):
        return build_store(tmp_path / "store", manifest, work, lambda _line: None, shard=3, batch=2)

    with pytest.raises(Stopped):
        build(compute)
    build(compute)
    assert computed == [[1, 3], [4], [], [2, 5]]  # files of similar length together, and no shard twice
    store = build(lambda _paths: pytest.fail("it was stored"))
    frames, lengths = store.batch([2, 1])
    assert [store.length(at) for at in range(5)] == list(sizes)
    assert lengths.tolist() == [4, 1]
    assert frames[0].tolist() == [[-1, 0], [1, 2], [3, 4], [5, 6]]
    assert frames[1].tolist() == [[-1, 0], [-1, -1], [-1, -1], [-1, -1]]  # filled with the clip's lowest value


def test_batches_are_of_similar_length_within_their_limits_and_take_each_clip_once():
    from amask.pocket.making.store import batches_by_length

    seconds = np.random.default_rng(0).uniform(0.5, 10, 480).tolist()
    chosen = list(range(0, 480, 2))

    def draw():
        return batches_by_length(seconds, chosen, 40.0, 12, seed=1, chunk=120)

    batches, seen = [], 0
    for batch in draw():
        batches.append(batch)
        seen += len(batch)
        if seen == len(chosen):
            break
    assert sorted(clip for batch in batches for clip in batch) == chosen
    assert max(map(len, batches)) <= 12
    assert max(len(batch) * max(seconds[clip] for clip in batch) for batch in batches) <= 40
    assert np.mean([np.ptp([seconds[clip] for clip in batch]) for batch in batches]) < 2
    assert batches == list(islice(draw(), len(batches)))


def test_short_and_rare_clips_are_learnt_from_more_often():
    from amask.data.manifest import Clip
    from amask.pocket.making.store import training_clips

    said = [("speech", "one two three"), ("speech", "one two"), ("digits", "four"), ("scene", ""), ("person", "one")]
    clips = [Clip(path=str(n), kind=kind, split="train", text=text) for n, (kind, text) in enumerate(said)]
    clips.append(Clip(path="5", kind="speech", split="dev", text="one"))
    assert training_clips(clips, {"digits": 3, "short": 2}) == [0, 1, 1, 2, 2, 2, 3, 4]
    assert training_clips(clips, {}) == [0, 1, 2, 3, 4]


def _noise(seconds, seed=0):
    return (0.1 * np.random.default_rng(seed).normal(size=int(seconds * 16_000))).astype(np.float32)


def test_stored_states_become_what_the_model_hears(tiny, tmp_path):
    """The encoder but for its last layer, run once, and the rest at training: what the model itself makes of the clips."""
    from amask.pocket.making.encoder import AudioFront, early_states
    from amask.pocket.making.store import FrameStore

    waves = [_noise(seconds, seed) for seed, seconds in enumerate((0.7, 1.5, 1.1))]
    for at, wave in enumerate(waves):
        soundfile.write(tmp_path / f"{at}.wav", wave, 16_000, subtype="FLOAT")
    heard = tiny.encode(waves)
    tower = tiny.model.model.audio_tower
    states = early_states(tower, [tmp_path / f"{at}.wav" for at in range(3)], tiny.processor.feature_extractor)
    store = FrameStore(np.concatenate(states), np.cumsum([0, *map(len, states)]))
    with torch.no_grad():
        found, lengths = AudioFront(tower, tiny.model.model.multi_modal_projector)(*store.batch([0, 1, 2]))
    assert lengths.tolist() == heard.lengths.tolist()
    for row, count in enumerate(lengths.tolist()):
        # The last positions' convolutions see the padding, which is another there.
        torch.testing.assert_close(found[row, : count - 2], heard.embeds[row, : count - 2], rtol=0, atol=2e-2)


def test_a_model_hears_silence_behind_a_clip(tiny):
    heard = tiny.encode([_noise(1.0), _noise(2.0)])
    assert heard.lengths.tolist() == pytest.approx([25 * 4.0, 25 * 5.0], abs=1)


def test_the_encoder_is_whispers(whisper):
    from amask.errors import ModelError
    from amask.lalm.qwen2_audio import hidden_states
    from amask.pocket.making.encoder import load_whisper, start_encoder

    source = load_whisper(str(whisper))
    tower = start_encoder(source)
    mels = torch.randn(1, 80, 3000)
    with torch.no_grad():
        theirs = source.model.encoder(mels).last_hidden_state
        ours = tower.layer_norm(hidden_states(tower, mels, torch.tensor([3000])))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    with pytest.raises(ModelError, match="cannot load Whisper"):
        load_whisper(str(whisper / "absent"))


def test_the_kept_tokens_encode_as_all_of_whispers_do(whisper):
    from transformers import AutoTokenizer

    from amask.pocket.architecture import kept_tokens, prune_tokenizer

    full = AutoTokenizer.from_pretrained(whisper)
    kept = kept_tokens(full, 300)
    pruned = prune_tokenizer(full, kept)
    assert len(kept) == 300
    for text in ("one two three", "rain falls", 'Größe 7 {"gr": "male"}'):
        assert pruned.decode(pruned(text).input_ids) == text
    kept = kept_tokens(full, 1000)  # all that are of lower case
    text = "one two six female"
    assert [kept[at] for at in prune_tokenizer(full, kept)(text).input_ids] == full(" " + text).input_ids


def _lessons(tiny, clips, prompted=2, unprompted=3):
    from amask.pocket.making.lessons import Lessons

    return Lessons(tiny.tokenizer, clips, prompted, unprompted)


@pytest.fixture
def clips():
    """Clips of some kinds, with what they are labelled with."""
    from amask.data.manifest import Clip

    labels = (
        {"asr": "one two", "gr": "male", "ser": "sad", "s2tt": "eins zwei"},
        {"asr": "six", "gr": "female"},
        {"asr": "", "aac": "rain falls"},
        {"age": "child"},
    )
    return [Clip(path=str(at), labels=each, split="train") for at, each in enumerate(labels)]


def _instruction(tiny, answer):
    """The instruction before an answer, without what stands around it."""
    from amask.pocket.architecture import TEMPLATE

    start, end = TEMPLATE.after.split("{}")
    return tiny.tokenizer.decode(answer.after).removeprefix(start).removesuffix(end).strip()


def _losses(tiny, audio, lessons):
    from amask.pocket.making.language import answer_loss, lay_out

    null = tiny.tokenizer.convert_tokens_to_ids("<|audio_bos|>")
    lengths = torch.tensor([len(each) for each in audio])
    padded = torch.nn.utils.rnn.pad_sequence(audio, batch_first=True)
    with torch.no_grad():
        return answer_loss(tiny.model, padded, lengths, lay_out(lessons, null, tiny.tokenizer.eos_token_id), lessons)


@pytest.fixture
def project(constructed):
    """Random encoder output as the language model is given it."""
    return lambda length: constructed.builder.project(torch.randn(length, 96))


def test_answers_behind_one_clip_cost_what_each_alone_costs(tiny, clips, project):
    """Against the model's own losses, one answer at a time, by the stock pass."""
    from amask.lalm.batching import AudioFeatures
    from amask.pocket.making.language import FIRST

    maker = _lessons(tiny, clips, prompted=3, unprompted=0)
    lessons = [maker.lesson(at, np.random.default_rng(at)) for at in (0, 1, 3)]
    torch.manual_seed(1)
    audio = [project(length) for length in (9, 5, 7)]
    tiny.audio = tiny.audio.model_copy(update={"fixed_audio": False})
    first, rest = [], []
    for lesson, heard in zip(lessons, audio, strict=True):
        for answer in lesson.answers:
            features = AudioFeatures(heard[None], torch.tensor([len(heard)]))
            target = tiny.tokenizer.decode(answer.answer[:-1])
            losses, _ = tiny.token_losses(features, [target], None, [_instruction(tiny, answer)])
            first.append(losses[0, 0])
            rest.append(losses[0, 1:])
    found = _losses(tiny, audio, lessons)
    torch.testing.assert_close(found["first"], FIRST * torch.stack(first).mean(), rtol=5e-3, atol=5e-3)
    torch.testing.assert_close(found["rest"], torch.cat(rest).mean(), rtol=5e-3, atol=5e-3)


def test_text_alone_gives_the_models_losses(tiny, project):
    """The pass over text alone is what a training of masks runs; the stock pass is what answers come from."""
    from amask.lalm.batching import AudioFeatures

    torch.manual_seed(2)
    audio = torch.nn.utils.rnn.pad_sequence([project(9), project(6)], batch_first=True)
    features = AudioFeatures(audio, torch.tensor([9, 6]))
    gates = (torch.rand(2, *tiny.geometry.shape) > 0.3).float()
    gates[:, 0] = 1
    found = tiny.token_losses(features, ["one two", "male"], gates, ["say it", ""])[0]
    tiny.audio = tiny.audio.model_copy(update={"fixed_audio": False})
    torch.testing.assert_close(
        found, tiny.token_losses(features, ["one two", "male"], gates, ["say it", ""])[0], rtol=1e-3, atol=1e-3
    )


@pytest.mark.parametrize("beams", [1, 3])
def test_answers_from_a_cache_of_the_audio_are_the_stock_passes(tiny, project, beams):
    """Rows of different lengths, prompts and gates, in one batch; and labels by likelihood."""
    from amask.lalm.batching import AudioFeatures
    from amask.lalm.likelihood import label_probabilities

    torch.manual_seed(3)
    audio = torch.nn.utils.rnn.pad_sequence([project(9), project(4), project(6)], batch_first=True)
    features, prompts = AudioFeatures(audio, torch.tensor([9, 4, 6])), ["say it", "", "the words of it, please"]
    gates = (torch.rand(3, *tiny.geometry.shape) > 0.3).float()
    gates[:, 0] = 1
    found = []
    for fixed in (True, False):
        tiny.audio = tiny.audio.model_copy(update={"fixed_audio": fixed})
        answers = tiny.answer(features, gates, prompts, max_new_tokens=8, beams=beams)
        found.append([answer.text for answer in answers])
        found.append(label_probabilities(tiny, features, ["male", "female", "one two"], gates, prompts))
    assert found[0] == found[2]
    torch.testing.assert_close(found[1], found[3], rtol=1e-3, atol=1e-4)


def test_pruned_to_a_mask_it_answers_as_with_gates(tiny, project):
    """Also where a layer has no heads left, and by the pass over text alone as by the stock one."""
    from amask.lalm.batching import AudioFeatures

    torch.manual_seed(4)
    audio = torch.nn.utils.rnn.pad_sequence([project(9), project(6)], batch_first=True)
    features, answers = AudioFeatures(audio, torch.tensor([9, 6])), ["one two", "male"]
    gates = (torch.rand(*tiny.geometry.shape) > 0.4).float()
    gates[0], gates[2] = 1, 0
    pruned = tiny.pruned(gates)
    wanted = tiny.token_losses(features, answers, gates)[0]
    torch.testing.assert_close(pruned.token_losses(features, answers, None)[0], wanted, rtol=1e-4, atol=1e-4)
    given = [[each.text for each in model.answer(features, g, max_new_tokens=6)] for model, g in ((tiny, gates), (pruned, None))]
    assert given[0] == given[1]


def test_unprompted_the_first_token_is_as_likely_as_the_tasks(tiny, clips, project):
    """The loss is the mean of what each task's answer would give, by how likely the tasks are."""
    from amask.data.tasks import parse_task
    from amask.lalm.batching import AudioFeatures
    from amask.pocket.making.language import FIRST
    from amask.pocket.making.lessons import task_shares

    lesson = _lessons(tiny, clips, prompted=0, unprompted=1).lesson(0, np.random.default_rng(0))
    audio = project(9)
    expected = 0.0
    for task, share in task_shares(clips[0], prompted=False).items():
        features = AudioFeatures(audio[None], torch.tensor([9]))
        losses, _ = tiny.token_losses(features, [parse_task(task).target(clips[0].labels)])
        expected += share * float(losses[0, 0])
    assert float(_losses(tiny, [audio], [lesson])["first"]) == pytest.approx(FIRST * expected, rel=1e-3)


def test_shares_of_the_next_token_by_hand():
    from amask.pocket.making.lessons import next_shares

    end, bar, male, six, brace = range(5)
    answers = [([male, end], 3.0), ([male, bar, six, end], 2.0), ([six, end], 4.0), ([brace, male, end], 1.0)]
    whole = {male: 0.5, six: 0.4, brace: 0.1}
    assert next_shares(answers[0][0], answers) == [whole, {end: 0.6, bar: 0.4}]
    assert next_shares(answers[1][0], answers) == [whole, {end: 0.6, bar: 0.4}, {six: 1.0}, {end: 1.0}]
    assert next_shares(answers[3][0], answers[3:]) == [{brace: 1.0}, {male: 1.0}, {end: 1.0}]


def test_unprompted_no_task_is_much_likelier_than_the_others(clips):
    """JSON answers all begin alike, so together they count as one: likelier than "male", which is right of half the clips."""
    from collections import Counter

    from amask.pocket.making.lessons import spec, task_shares

    shares = task_shares(clips[0], prompted=False)
    first: Counter[str] = Counter()
    for name, share in shares.items():
        first["json" if spec(name).form == "json" else spec(name).names[0]] += share
    assert sum(shares.values()) == pytest.approx(1)
    assert max(first.values()) < 0.32
    assert min(first.values()) > 0.09
    pipes = {name: share for name, share in shares.items() if spec(name).names[0] in ("gr", "asr") and spec(name).form != "json"}
    going_on = sum(share for name, share in pipes.items() if "-" in name)
    assert 0.4 < going_on / sum(pipes.values()) < 0.6  # to stop or to go on is open too
    assert first["json"] > 1.25 * first["gr"] / 2


def test_lessons_say_what_a_clip_has_and_nothing_withheld(tiny, clips):
    from amask.data.tasks import builtin_tasks, parse_task
    from amask.pocket.instructions import wordings
    from amask.pocket.making.lessons import composites, spec

    withheld = {text for name in builtin_tasks() for text in wordings(parse_task(name), "withheld")}
    lessons = _lessons(tiny, clips)
    for seed in range(40):
        for at, clip in enumerate(clips):
            lesson = lessons.lesson(at, np.random.default_rng([seed, at]))
            labels = clip.labels
            possible = {*labels.values()} | {spec(name).target(labels) for name in composites(labels)}
            told = [_instruction(tiny, answer) for answer in lesson.answers]
            # With one label only all is prompted: else the model would say that, unprompted.
            assert sum(not said for said in told) == (0 if len(labels) == 1 else min(3, len(labels) + len(composites(labels))))
            for said, answer in zip(told, lesson.answers, strict=True):
                assert tiny.tokenizer.decode(answer.answer).removesuffix(tiny.tokenizer.eos_token) in possible
                assert said.lower().removeprefix("please ").rstrip(".?").removesuffix(" please") not in withheld
    assert len(composites(clips[0].labels)) == 4 * 3 * 2  # ordered pairs of asr, gr, ser and s2tt, in two forms


def test_json_of_a_tokenizer_that_begins_with_a_space(tiny):
    """What a grammar allows one spelling of is not spelled with a space before it: every allowed token is a good one."""
    import llguidance

    from amask.data.tasks import parse_task
    from amask.lalm.constrained_decoding import _tokens, task_constraint

    held = _tokens(tiny.tokenizer, len(tiny.tokenizer), (tiny.tokenizer.eos_token_id,))
    constraint = task_constraint(parse_task("gr-asr-json"))
    rng = np.random.default_rng(1)
    for _ in range(5):
        matcher = llguidance.LLMatcher(held, constraint.grammar)
        for _ in range(12):
            bits = np.unpackbits(np.frombuffer(matcher.compute_bitmask(), np.uint8), bitorder="little")
            assert matcher.consume_token(int(rng.choice(bits.nonzero()[0])))
            assert not matcher.get_error()
