"""The making of the pocket model: each part against another that says the same, and killed and gone on with."""

from dataclasses import replace
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


def test_the_mels_are_of_what_the_model_hears(tmp_path):
    """Silence behind the words is cut for training as it is for an answer."""
    from amask.pocket.architecture import build_extractor
    from amask.pocket.making.encoder import log_mels

    wave = np.concatenate([3 * _noise(1.0), 1e-3 * _noise(1.5, 1)])
    soundfile.write(tmp_path / "clip.wav", wave, 16_000, subtype="FLOAT")
    soundfile.write(tmp_path / "long.wav", 3 * _noise(2.0), 16_000, subtype="FLOAT")
    mels, lengths = log_mels([tmp_path / "clip.wav", tmp_path / "long.wav"], build_extractor())
    assert lengths[0] * 0.01 == pytest.approx(1.25, abs=0.03)  # a second of sound and a quarter of silence
    assert lengths[1] == mels.shape[1] == 200


def test_the_short_way_through_the_encoder_is_the_models(tiny, tmp_path):
    """Where it hears a little of the silence behind a clip, as the model does."""
    from amask.pocket.making.encoder import features

    waves = [_noise(seconds, seed) for seed, seconds in enumerate((0.7, 1.5, 1.1))]
    for at, wave in enumerate(waves):
        soundfile.write(tmp_path / f"{at}.wav", wave, 16_000, subtype="FLOAT")
    heard = tiny.encode(waves)
    found = features(tiny.model.model.audio_tower, [tmp_path / f"{at}.wav" for at in range(3)], tiny.processor.feature_extractor)
    assert [len(row) for row in found] == heard.lengths.tolist()
    for at, row in enumerate(found):
        embeds = tiny.model.model.multi_modal_projector(torch.from_numpy(row)).detach()
        # The last positions' convolutions see the padding, which is another there.
        torch.testing.assert_close(embeds[:-2], heard.embeds[at, : len(row) - 2], rtol=0, atol=2e-2)


def test_the_encoder_starts_from_whispers_weights(tmp_path):
    from transformers import WhisperConfig, WhisperModel
    from transformers.models.qwen2_audio.modeling_qwen2_audio import Qwen2AudioEncoder

    from amask.errors import ModelError
    from amask.pocket.architecture import audio_config
    from amask.pocket.making.encoder import encode, start_encoder

    sizes = {"encoder_layers": 2, "encoder_attention_heads": 2, "encoder_ffn_dim": 32, "d_model": 16}
    decoder = {"decoder_layers": 1, "decoder_attention_heads": 2, "decoder_ffn_dim": 16}
    torch.manual_seed(0)
    whisper = WhisperModel(WhisperConfig(num_mel_bins=80, vocab_size=51865, **sizes, **decoder)).eval()
    whisper.save_pretrained(tmp_path / "whisper")
    tower = Qwen2AudioEncoder(audio_config(**sizes)).eval()
    start_encoder(tower, str(tmp_path / "whisper"))
    mels = torch.randn(1, 3000, 80)
    with torch.no_grad():
        theirs = whisper.encoder(mels.transpose(1, 2)).last_hidden_state[:, :750]
        whisper.encoder.embed_positions = torch.nn.Embedding.from_pretrained(whisper.encoder.embed_positions.weight[:750])
        whisper.encoder.config.max_source_positions = 750
        theirs = whisper.encoder(mels[:, :1500].transpose(1, 2)).last_hidden_state
        ours, _ = encode(tower, mels[:, :1500], torch.tensor([1500]))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    with pytest.raises(ModelError, match="other sizes"):
        start_encoder(Qwen2AudioEncoder(audio_config(**sizes | {"d_model": 32})), str(tmp_path / "whisper"))
    with pytest.raises(ModelError, match="cannot load the encoder"):
        start_encoder(tower, str(tmp_path / "absent"))


def test_mean_and_deviation_of_what_is_heard_only():
    from amask.pocket.making.supervision import statistics

    pooled = torch.randn(2, 6, 3)
    found = statistics(pooled, torch.tensor([6, 4]))
    short = pooled[1, :4]
    torch.testing.assert_close(found[1], torch.cat([short.mean(0), short.std(0, correction=0)]), rtol=1e-3, atol=1e-3)


def test_targets_of_the_heads():
    from amask.data.manifest import Clip
    from amask.pocket.making.supervision import LETTERS, MISSING, Labeller

    clips = [
        Clip(path="a", labels={"asr": "It's", "gr": "male", "aac": "rain falls while a bell rings"}, speaker="p"),
        Clip(path="b", labels={"asr": "", "aac": "silence"}),
        Clip(path="c", labels={"asr": "a", "osr": "a ; b", "ser": "sad"}, speaker="p+q"),
        Clip(path="d", labels={"age": "child"}, speaker="q"),
    ]
    targets = Labeller(clips)(clips)
    assert ["".join(LETTERS[at - 1] for at in said) for said in targets.first[:3]] == ["it's", "", "a"]
    assert targets.first[3] is None  # nothing is known of the words; "" is known to be none
    assert targets.second == [None, None, [LETTERS.index("b") + 1], None]
    assert targets.classes["gr"].tolist() == [1, MISSING, MISSING, MISSING]
    assert targets.classes["speaker"].tolist() == [0, MISSING, MISSING, 1]
    assert targets.sounds.sum(1).tolist() == [2, 1, 0, 0]
    assert targets.has_sounds.tolist() == [True, True, False, False]


def _lessons(tiny, clips, told=2, untold=3, offers=0.0):
    from amask.pocket.making.lessons import Lessons

    return Lessons(tiny.tokenizer, clips, told, untold, offers)


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
    return tiny.tokenizer.decode(answer.after).removeprefix(start).removesuffix(end)


def test_answers_behind_one_clip_cost_what_each_alone_costs(tiny, clips):
    """Against the model's own losses, one answer at a time."""
    from amask.lalm.batching import AudioFeatures
    from amask.pocket.making.attention import use_attention
    from amask.pocket.making.language import FIRST, answer_loss

    maker = _lessons(tiny, clips, told=3, untold=0)
    lessons = [maker.lesson(at, np.random.default_rng(at)) for at in (0, 1, 3)]
    torch.manual_seed(1)
    audio = [torch.randn(length, 256) for length in (9, 5, 7)]
    first, rest = [], []
    for lesson, heard in zip(lessons, audio, strict=True):
        for answer in lesson.answers:
            features = AudioFeatures(heard[None], torch.tensor([len(heard)]))
            target = tiny.tokenizer.decode(answer.answer[:-1])
            losses, _ = tiny.token_losses(features, [target], None, [_instruction(tiny, answer)])
            first.append(losses[0, 0])
            rest.append(losses[0, 1:])
    use_attention(tiny.decoder)
    with torch.no_grad():
        found = answer_loss(tiny.model, maker.opening, audio, lessons)
        lessons[1] = replace(lessons[1], before=maker.opening)  # words of its own, which are the same
        again = answer_loss(tiny.model, maker.opening, audio, lessons)
    torch.testing.assert_close(again, found, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found["first"], FIRST * torch.stack(first).mean(), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found["rest"], torch.cat(rest).mean(), rtol=1e-4, atol=1e-4)


def test_told_nothing_the_first_token_is_as_likely_as_the_tasks(tiny, clips):
    """The loss is the mean of what each task's answer would give, by how likely the tasks are."""
    from amask.data.tasks import parse_task
    from amask.lalm.batching import AudioFeatures
    from amask.pocket.making.attention import use_attention
    from amask.pocket.making.language import FIRST, answer_loss
    from amask.pocket.making.lessons import task_shares

    maker = _lessons(tiny, clips, told=0, untold=1)
    lesson = maker.lesson(0, np.random.default_rng(0))
    audio = torch.randn(9, 256)
    expected = 0.0
    for task, share in task_shares(clips[0], told=False).items():
        features = AudioFeatures(audio[None], torch.tensor([9]))
        losses, _ = tiny.token_losses(features, [parse_task(task).target(clips[0].labels)])
        expected += share * float(losses[0, 0])
    use_attention(tiny.decoder)
    with torch.no_grad():
        found = answer_loss(tiny.model, maker.opening, [audio], [lesson])
    assert float(found["first"]) == pytest.approx(FIRST * expected, rel=1e-4)


def test_shares_of_the_next_token_by_hand():
    from amask.pocket.making.lessons import next_shares

    end, bar, male, six, brace = range(5)
    answers = [([male, end], 3.0), ([male, bar, six, end], 2.0), ([six, end], 4.0), ([brace, male, end], 1.0)]
    whole = {male: 0.5, six: 0.4, brace: 0.1}
    assert next_shares(answers[0][0], answers) == [whole, {end: 0.6, bar: 0.4}]
    assert next_shares(answers[1][0], answers) == [whole, {end: 0.6, bar: 0.4}, {six: 1.0}, {end: 1.0}]
    assert next_shares(answers[3][0], answers[3:]) == [{brace: 1.0}, {male: 1.0}, {end: 1.0}]


def test_what_is_offered_before_the_audio_is_what_may_be_answered(tiny, clips):
    from amask.data.tasks import parse_task
    from amask.pocket.architecture import OFFERED, TEMPLATE, offer
    from amask.pocket.making.lessons import composites, spec

    assert [offer(parse_task(name)) for name in ("gr", "gr-asr", "asr-gr-json")] == [
        "gender",
        "gender bar words",
        "json words gender",
    ]
    labels = clips[0].labels
    by_offer = {offer(spec(name)): spec(name).target(labels) for name in (*labels, *composites(labels))}
    lessons = _lessons(tiny, clips, offers=0.5)
    assert tiny.tokenizer.decode(lessons.opening) == TEMPLATE.before
    drawn = [lessons.lesson(0, np.random.default_rng(seed)) for seed in range(200)]
    offering = [lesson for lesson in drawn if lesson.before]
    assert 0.35 < len(offering) / len(drawn) < 0.65
    for lesson in offering:
        words = tiny.tokenizer.decode(lesson.before).split(" with ")[1].removesuffix("<|audio_bos|>").split(" or ")
        possible = {by_offer[word] for word in words}
        firsts = {tiny.tokenizer(text, add_special_tokens=False)["input_ids"][0] for text in possible}
        for answer in lesson.answers:
            assert _instruction(tiny, answer) == ""
            assert tiny.tokenizer.decode(answer.answer[:-1]) in possible
            assert set(answer.shares[0]) == firsts
    assert all(word in TEMPLATE.before for word in OFFERED.values())


def test_told_nothing_no_task_is_much_likelier_than_the_others(clips):
    """JSON answers all begin alike, so together they count as one: likelier than "male", which is right of half the clips."""
    from collections import Counter

    from amask.pocket.making.lessons import spec, task_shares

    shares = task_shares(clips[0], told=False)
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
            # With one label only nothing is left untold: else the model would say that, told nothing.
            assert sum(not said for said in told) == (0 if len(labels) == 1 else min(3, len(labels) + len(composites(labels))))
            for said, answer in zip(told, lesson.answers, strict=True):
                assert tiny.tokenizer.decode(answer.answer).removesuffix(tiny.tokenizer.eos_token) in possible
                assert said.lower().removeprefix("please ").rstrip(".?").removesuffix(" please") not in withheld
    assert len(composites(clips[0].labels)) == 4 * 3 * 2  # ordered pairs of asr, gr, ser and s2tt, in two forms


def test_batches_of_lessons_keep_their_limit_and_take_each_clip_in_turn(tiny, clips):
    lengths, maker = [40, 7, 20, 3], _lessons(tiny, clips)
    seen = []
    for batch in islice(maker.batches([0, 1, 2, 3] * 10, lengths, 600, seed=0), 40):
        tokens = len(maker.opening) + sum(lengths[lesson.clip] + lesson.text_length for lesson in batch)
        assert len(batch) == 1 or tokens <= 600
        seen += [lesson.clip for lesson in batch]
    assert sorted(seen[:40]) == sorted([0, 1, 2, 3] * 10)


def test_short_clips_come_first(tiny, clips):
    """Until their steps are over only clips up to a length, then all; the same every time."""
    maker = _lessons(tiny, clips)
    lengths = [10, 20, 40, 80]

    def heard(count):
        batches = islice(maker.batches([0, 1, 2, 3], lengths, 400, seed=3, short_first=[(3, 20), (8, 40)]), count)
        return [[lesson.clip for lesson in batch] for batch in batches]

    found = heard(40)
    assert {clip for batch in found[:3] for clip in batch} == {0, 1}
    assert {clip for batch in found[4:8] for clip in batch} <= {0, 1, 2}  # the batch at the border may be of both
    assert 3 in {clip for batch in found[9:] for clip in batch}
    assert found == heard(40)
