"""The making of the pocket model: each part against another that says the same, and killed and gone on with."""

import numpy as np
import pytest
import torch


@pytest.fixture(scope="module")
def pocket():
    from amask.lalm.registry import load_model

    return load_model("pocket", "cpu")


@pytest.fixture(scope="module")
def spoken(pocket):
    """Some clips of the slice that ships: the manifest's rows and their waveforms."""
    from amask.data.reading import read_manifest
    from amask.pocket import SLICE

    manifest = read_manifest(SLICE)
    clips = [clip for clip in manifest if clip.kind == "speech" and "ser" in clip.labels][:40]
    return clips, [manifest.wave(clip) for clip in clips[:6]]


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
        modules = torch.nn.ModuleDict({"line": torch.nn.Linear(3, 1)})

        def losses(step):
            if step == stop:
                raise Stopped
            inputs = torch.randn(8, 3, generator=torch.Generator().manual_seed(step))
            return {"square": ((modules["line"](inputs).squeeze(1) - inputs.sum(1)) ** 2).mean()}

        told = []
        settings = {"steps": 120, "peak": 0.1, "warmup": 4, "save_every": 5}
        train(modules, losses, checkpoint=checkpoint, log=told.append, **settings)
        assert told[-1].startswith("step 120/120")
        return modules["line"].weight.detach()

    whole = run(tmp_path / "whole.pt")
    assert torch.allclose(whole, torch.ones(1, 3), atol=0.05)  # it has learnt to add
    with pytest.raises(Stopped):
        run(tmp_path / "cut.pt", stop=23)
    assert torch.equal(run(tmp_path / "cut.pt"), whole)


def test_a_store_keeps_each_clips_frames(tmp_path):
    from amask.data.manifest import Clip, Manifest
    from amask.pocket.making.store import build_store

    manifest = Manifest(tuple(Clip(path=str(length)) for length in (3, 1, 4)), tmp_path)
    computed = []

    def compute(paths):
        computed.append(len(paths))
        return [np.arange(2 * int(path.name), dtype=np.float32).reshape(-1, 2) - 1 for path in paths]

    build_store(tmp_path / "store.npz", manifest, compute, batch=2)
    store = build_store(tmp_path / "store.npz", manifest, lambda _: pytest.fail("it was stored"))
    assert computed == [2, 1]
    frames, lengths = store.batch([2, 1])
    assert lengths.tolist() == [store.length(2), store.length(1)] == [4, 1]
    assert frames[0].tolist() == [[-1, 0], [1, 2], [3, 4], [5, 6]]
    assert frames[1].tolist() == [[-1, 0], [-1, -1], [-1, -1], [-1, -1]]  # filled with the clip's lowest value


def test_batches_are_of_similar_length_and_take_each_clip_once():
    from itertools import islice

    from amask.pocket.making.store import batches_by_length

    lengths = np.random.default_rng(0).integers(10, 200, 480).tolist()
    chosen = list(range(0, 480, 2))
    batches = list(islice(batches_by_length(lengths, chosen, 10, seed=1, chunk=12), 24))
    assert sorted(clip for batch in batches for clip in batch) == chosen
    assert np.mean([np.ptp([lengths[clip] for clip in batch]) for batch in batches]) < 40
    assert batches == list(islice(batches_by_length(lengths, chosen, 10, seed=1, chunk=12), 24))


def test_short_and_rare_clips_are_learnt_from_more_often():
    from amask.data.manifest import Clip
    from amask.pocket.making.store import training_clips

    said = [("speech", "one two three"), ("speech", "one two"), ("digits", "four"), ("scene", ""), ("real", "one")]
    clips = [Clip(path=str(n), kind=kind, split="train", text=text) for n, (kind, text) in enumerate(said)]
    clips.append(Clip(path="5", kind="speech", split="dev", text="one"))
    assert training_clips(clips, {"digits": 3, "short": 2}) == [0, 1, 1, 2, 2, 2, 3, 4]
    assert training_clips(clips, {}) == [0, 1, 2, 3, 4]


def test_the_mels_are_of_what_the_model_hears(pocket, tmp_path):
    """Silence behind the words is cut for training as it is for an answer."""
    import soundfile

    from amask.data.manifest import Clip, Manifest
    from amask.pocket.making.stages import mel_store

    rng = np.random.default_rng(0)
    wave = np.concatenate([0.3 * rng.normal(size=16_000), 1e-4 * rng.normal(size=24_000)]).astype(np.float32)
    soundfile.write(tmp_path / "clip.wav", wave, 16_000, subtype="FLOAT")
    store = mel_store(tmp_path / "mels.npz", Manifest((Clip(path="clip.wav"),), tmp_path), pocket.processor.feature_extractor)
    assert store.length(0) * 0.02 == pytest.approx(1.25, abs=0.03)  # a second of sound and a quarter of silence


def test_a_voice_is_warped_along_the_mels():
    from amask.pocket.making.stages import warp_voice

    mels = torch.from_numpy(np.random.default_rng(1).normal(size=(2, 3, 10)).astype(np.float32))
    assert torch.equal(warp_voice(mels, np.random.default_rng(0), 0.0), mels)
    factors = np.random.default_rng(10).uniform(0.7, 1.3, 2)
    assert factors.min() < 1 < factors.max()  # one voice is stretched, the other pressed together
    warped = warp_voice(mels, np.random.default_rng(10), 0.3)
    for row, factor in enumerate(factors):
        for frame in range(3):  # mel m shows what was at factor · m; past the top, the top
            expected = np.interp(factor * np.arange(10), np.arange(10), mels[row, frame])
            np.testing.assert_allclose(warped[row, frame], expected, atol=1e-5)


def test_sinusoids_are_whispers():
    from transformers.models.whisper.modeling_whisper import sinusoids as whispers

    from amask.pocket.making.stages import sinusoids

    torch.testing.assert_close(sinusoids(50, 24), whispers(50, 24))


def test_the_short_way_through_the_encoder_is_the_models(pocket, spoken):
    """Where it hears a little of the silence behind a clip, as the model does."""
    from amask.pocket.making.encoder import encode, output_lengths

    _, waves = spoken
    heard = pocket.encode(waves)
    extracted = pocket.processor.feature_extractor(waves, sampling_rate=16_000, return_tensors="pt", return_attention_mask=True)
    lengths = extracted["attention_mask"].sum(-1)
    mels = extracted["input_features"].transpose(1, 2)[:, : int(lengths.max()) + 8]
    with torch.no_grad():
        _, pooled = encode(pocket.model.model.audio_tower, mels, lengths)
        embeds = pocket.model.model.multi_modal_projector(pooled)
    assert output_lengths(lengths)[1].tolist() == heard.lengths.tolist()
    for row, length in enumerate(heard.lengths.tolist()):
        torch.testing.assert_close(embeds[row, :length], heard.embeds[row, :length], rtol=0, atol=1e-3)


def _told(pocket, rows):
    """The instruction of each row, without what stands around it."""
    from amask.pocket.architecture import TEMPLATE

    start, end = TEMPLATE.after.split("{}")
    return [pocket.tokenizer.decode(row.after).removeprefix(start).removesuffix(end) for row in rows]


def _heard(pocket, waves):
    features = pocket.encode(waves)
    return features, [row[:length] for row, length in zip(features.embeds, features.lengths.tolist(), strict=True)]


def test_the_loss_on_answers_is_the_models(pocket, spoken):
    from amask.pocket.making.language import answer_loss
    from amask.pocket.making.lessons import Lessons

    clips, waves = spoken
    features, audio = _heard(pocket, waves)
    rows = Lessons(pocket.tokenizer, clips, 0.0).draw(list(range(6)), np.random.default_rng(0))
    with torch.no_grad():
        found = answer_loss(pocket.model, audio, rows)
    targets = [pocket.tokenizer.decode(row.answer[:-1]) for row in rows]
    losses, real = pocket.token_losses(features, targets, None, _told(pocket, rows))
    torch.testing.assert_close(found["first"], 0.3 * losses[:, 0].mean())
    torch.testing.assert_close(found["rest"], losses[:, 1:][real[:, 1:]].mean())


def test_told_nothing_the_first_token_is_as_likely_as_the_tasks(pocket, spoken):
    """The loss is the mean of what each task's answer would give, by how likely the tasks are."""
    from amask.pocket.making.language import answer_loss
    from amask.pocket.making.lessons import Lessons, task_shares

    clips, waves = spoken
    rows = Lessons(pocket.tokenizer, clips[:1], 1.0).draw([0], np.random.default_rng(0))
    features, audio = _heard(pocket, waves[:1])
    expected = 0.0
    for task, share in task_shares(clips[0], told=False).items():
        losses, _ = pocket.token_losses(features, [task.target(clips[0].labels)])
        expected += share * float(losses[0, 0])
    with torch.no_grad():
        assert float(answer_loss(pocket.model, audio, rows)["first"]) == pytest.approx(0.3 * expected, rel=1e-4)


def test_shares_of_the_next_token_by_hand():
    from amask.pocket.making.lessons import next_shares

    end, bar, male, six, brace = range(5)
    answers = [([male, end], 3.0), ([male, bar, six, end], 2.0), ([six, end], 4.0), ([brace, male, end], 1.0)]
    whole = {male: 0.5, six: 0.4, brace: 0.1}
    assert next_shares(answers[0][0], answers) == [whole, {end: 0.6, bar: 0.4}]
    assert next_shares(answers[1][0], answers) == [whole, {end: 0.6, bar: 0.4}, {six: 1.0}, {end: 1.0}]
    assert next_shares(answers[3][0], answers[3:]) == [{brace: 1.0}, {male: 1.0}, {end: 1.0}]


def test_what_is_offered_before_the_audio_is_what_may_be_answered(pocket):
    from amask.data.manifest import Clip
    from amask.data.tasks import parse_task
    from amask.pocket.architecture import OFFERED, TEMPLATE, offer
    from amask.pocket.making.lessons import Lessons, composites

    assert [offer(parse_task(name)) for name in ("gr", "gr-asr", "asr-gr-json")] == [
        "gender",
        "gender bar words",
        "json words gender",
    ]
    clip = Clip(path="", labels={"asr": "six", "gr": "male", "s2tt": "sechs"})
    tasks = [*(parse_task(name) for name in clip.labels), *composites(clip.labels)]
    by_offer = {offer(task): task.target(clip.labels) for task in tasks}
    rows = Lessons(pocket.tokenizer, [clip], 1.0, offers=0.5).draw([0] * 200, np.random.default_rng(0))
    whole = pocket.tokenizer(TEMPLATE.before, add_special_tokens=False)["input_ids"]
    offering = [row for row in rows if row.before != whole]
    assert 0.4 < len(offering) / len(rows) < 0.6
    for row in offering:
        words = pocket.tokenizer.decode(row.before).split(" with ")[1].removesuffix("<|audio_bos|>").split(" or ")
        possible = {by_offer[word] for word in words}
        assert pocket.tokenizer.decode(row.answer[:-1]) in possible
        firsts = {pocket.tokenizer(text, add_special_tokens=False)["input_ids"][0] for text in possible}
        assert set(row.shares[0]) == firsts
    assert all(word in TEMPLATE.before for word in OFFERED.values())


def test_told_nothing_no_task_is_much_likelier_than_the_others():
    """JSON answers all begin alike, so together they count as one: likelier than "male", which is right of half the clips."""
    from collections import Counter

    from amask.data.manifest import Clip
    from amask.pocket.making.lessons import task_shares

    clip = Clip(path="", labels={"asr": "six", "gr": "male", "ser": "sad", "s2tt": "sechs"})
    shares = task_shares(clip, told=False)
    first: Counter[str] = Counter()
    for task, share in shares.items():
        first["json" if task.form == "json" else task.names[0]] += share
    assert max(first.values()) < 0.32
    assert min(first.values()) > 0.09
    pipes = {task: share for task, share in shares.items() if task.names[0] in ("gr", "asr") and task.form != "json"}
    going_on = sum(share for task, share in pipes.items() if len(task.parts) > 1)
    assert 0.4 < going_on / sum(pipes.values()) < 0.6  # to stop or to go on is open too
    assert first["json"] > 1.25 * first["gr"] / 2


def test_a_clip_with_two_labels_is_seldom_told_composites():
    """Each composite has a weight of its own, however few there are: two single tasks at 2.5, two pipes and two JSON forms."""
    from amask.data.manifest import Clip
    from amask.pocket.making.lessons import COMPOSITE_WEIGHT, task_shares

    shares = task_shares(Clip(path="", labels={"asr": "six", "s2tt": "sechs"}), told=True)
    several = sum(share for task, share in shares.items() if len(task.parts) > 1)
    assert several == pytest.approx(4 * COMPOSITE_WEIGHT / (5 + 4 * COMPOSITE_WEIGHT))


def test_lessons_say_what_a_clip_has_and_nothing_withheld(pocket, spoken):
    from amask.data.manifest import Clip
    from amask.data.tasks import builtin_tasks, parse_task
    from amask.pocket.instructions import wordings
    from amask.pocket.making.lessons import Lessons, composites

    clips = [*spoken[0], Clip(path="child", labels={"age": "child"}), Clip(path="rain", labels={"aac": "rain falls", "asr": ""})]
    rows = Lessons(pocket.tokenizer, clips, 0.4).draw(
        [at for at in range(len(clips)) for _ in range(40)], np.random.default_rng(0)
    )
    told_nothing = 0
    withheld = {text for name in builtin_tasks() for text in wordings(parse_task(name), "withheld")}
    for row, said in zip(rows, _told(pocket, rows), strict=True):
        labels = clips[row.clip].labels
        possible = {labels[task] for task in labels} | {spec.target(labels) for spec in composites(labels)}
        assert pocket.tokenizer.decode(row.answer).removesuffix(pocket.tokenizer.eos_token) in possible
        assert said.lower().removeprefix("please ").rstrip(".?").removesuffix(" please") not in withheld
        told_nothing += not said
        assert said or len(labels) > 1
    assert 0.3 * len(rows) < told_nothing < 0.5 * len(rows)
    parts = composites(clips[0].labels)
    assert {len(spec.parts) for spec in parts} == {2}
    assert len(parts) == 4 * 3 * 2  # ordered pairs of asr, gr, ser and s2tt, in two forms


ROUND = {"peak": 1e-3, "warmup": 1}
TINY = {
    "seed": 5,
    "threads": 2,
    "corpus": {"train": {"speech": 40, "scene": 8}, "dev": {"speech": 4}},
    "encoder": {"batch": 2, "rounds": [{"steps": 2, "easy_steps": 0, "weights": {}, **ROUND}] * 2},
    "language": {"batch": 2, "vocabulary": 400, "rounds": [{"steps": 2, "no_instruction": 0.5, "offers": 0.5, **ROUND}] * 2},
}


def test_the_whole_making_stopped_and_gone_on_with(humming, monkeypatch, tmp_path):
    """With a tiny corpus: it ends with a model that transformers loads, with the same weights as without a stop."""
    from safetensors.torch import load_file
    from transformers import AutoProcessor, Qwen2AudioForConditionalGeneration

    from amask.pocket.making import __main__ as making
    from amask.pocket.making import encoder, stages

    monkeypatch.setattr(encoder, "phones", tuple)  # letters; espeak-ng need not be here
    making.make(tmp_path / "whole", None, TINY)
    weights = load_file(tmp_path / "whole" / "weights" / "model.safetensors")

    trained = stages.train

    def stop(*args, checkpoint, **settings):
        trained(*args, checkpoint=checkpoint, **settings)
        if checkpoint.name == "encoder2.pt":
            raise Stopped

    monkeypatch.setattr(stages, "train", stop)
    with pytest.raises(Stopped):
        making.make(tmp_path / "cut", None, TINY)
    monkeypatch.setattr(stages, "train", trained)
    making.make(tmp_path / "cut", None, TINY)
    others = load_file(tmp_path / "cut" / "weights" / "model.safetensors")
    assert weights.keys() == others.keys()
    assert all(torch.equal(weights[name], others[name]) for name in weights)
    model = Qwen2AudioForConditionalGeneration.from_pretrained(tmp_path / "cut" / "weights")
    assert sum(parameter.numel() for parameter in model.parameters()) < 10_000_000
    processor = AutoProcessor.from_pretrained(tmp_path / "cut" / "weights")
    assert processor.tokenizer("what's the speaker's gender").input_ids
