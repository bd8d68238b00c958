"""The masked language model: prompts, logits, losses, answers, and the training of a mask."""

from pathlib import Path

import pytest
import torch
import transformers
from torch import Tensor, nn

from .recorded import head_gates, read

LOGITS = {"rtol": 0, "atol": 1e-3}
GRADIENTS = {"rtol": 1e-4, "atol": 1e-4}
GRADIENTS_FROM_WAVES = {"rtol": 1e-3, "atol": 1e-4}  # 2.2e-4 was seen, depending on the number of threads
EXACT = {"rtol": 0, "atol": 0}
SAID = {"real": "Female"}  # answers of the training run; those of the other clips are in losses.json

# Prompts


def texts(answers) -> list[str]:
    return [answer.text for answer in answers]


def instruction_of(model, after: str) -> str:
    head, _, tail = model.template.after.partition("{}")
    assert after.startswith(head)
    assert after.endswith(tail)
    return after[len(head) : len(after) - len(tail)]


def test_prompts(model, recorded, features):
    tensors = recorded.tensors("prompts")
    start = model.model.get_input_embeddings()(torch.tensor([model.tokenizer.bos_token_id]))
    for name, case in recorded.json("prompts").items():
        asked = [instruction_of(model, text) for text in case["after_text"]]
        for at, before in enumerate(case["before_text"]):
            assert model._ids(before).tolist() == case["before_ids"][at]
            assert model._ids(model.template.before).tolist() == [model.tokenizer.bos_token_id, *case["before_ids"][at]]
            real = sum(case["after_attention_mask"][at])
            assert model._ids(model.template.after.format(asked[at])).tolist() == case["after_ids"][at][:real]
        mask, embeds = tensors[f"{name}.wrapped_attention_mask"].bool(), tensors[f"{name}.wrapped_embeds"]
        rows = model._prompt_embeds(features("syn"), [f" {text}\n" for text in asked])
        for row, wrapped, real in zip(rows, embeds, mask, strict=True):
            torch.testing.assert_close(row, torch.cat([start, wrapped[real]]), **EXACT)


# The language model


@pytest.fixture(scope="module")
def forward(recorded):
    return recorded.tensors("forward")


def test_thresholded_mask(model, forward):
    from amask.mask_bank.mask import threshold

    logits, binary = (head_gates(model, forward[name]) for name in ("mask_logits", "mask_binary"))
    assert torch.equal(threshold(logits, model.geometry).float(), binary)
    assert torch.equal(forward["weight_tensor_rows"][0], forward["mask_binary"])


def run(model, gates: Tensor | None, embeds: Tensor, mask: Tensor) -> Tensor:
    """Logits at positions that count padding, as in training."""
    from amask.lalm.gating import gated

    at = torch.arange(embeds.shape[1])[None].expand(len(embeds), -1)
    with gated(model.sites, gates):
        return model.model(inputs_embeds=embeds, attention_mask=mask, position_ids=at, use_cache=False).logits


@pytest.mark.parametrize("case", ["empty", "mixed"])
def test_logits(padded, forward, case):
    embeds, mask = forward[f"{case}.inputs_embeds"], forward[f"{case}.attention_mask"]
    gates = head_gates(padded, forward["weight_tensor_rows"])
    for name, given in (("masked", gates), ("nomask", None)):
        if f"{case}.logits_{name}" in forward:
            real = mask.bool()
            logits = run(padded, given, embeds, mask)
            torch.testing.assert_close(logits[real], forward[f"{case}.logits_{name}"][real], **LOGITS)


def test_logits_from_the_waveform(model, batches, forward):
    rows = torch.stack(model._prompt_embeds(model.encode_like_authors(batches["syn"].waves), [""] * len(batches["syn"].waves)))
    torch.testing.assert_close(rows, forward["empty.inputs_embeds"], rtol=1e-5, atol=2e-5)
    logits = run(model, head_gates(model, forward["weight_tensor_rows"]), rows, torch.ones(rows.shape[:2]))
    torch.testing.assert_close(logits, forward["empty.logits_masked"][..., : logits.shape[-1]], **LOGITS)


def sampled(logits: Tensor, forward, name: str, about) -> Tensor:
    """The authors' mask of one kind of sampling, from the recorded noise."""
    from amask.mask_bank.sampling import relaxed, straight_through

    if not about["use_gumbel"]:
        return logits.sigmoid().expand(forward[f"{name}.weight_tensor"].shape)
    soft = relaxed(logits, forward[f"{name}.noise_exponential"].log(), about["tau"])
    return straight_through(soft) if about["gumbel_hard"] else soft


def qa_loss(model, forward, gates) -> Tensor:
    """The loss of the recorded inputs, where instructions of different length are padded behind them."""
    logits = run(model, gates, forward["loss_qa.inputs_embeds"], forward["loss_qa.attention_mask"])
    labels = forward["loss_qa.labels"][:, 1:]
    return nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels.flatten(), ignore_index=-100)


def test_losses_and_gradients(padded, recorded, features, forward):
    said = recorded.json("losses")
    variants = {name: about for name, about in said.items() if "loss_lm" in about}
    assert len(variants) >= 4
    for name, about in variants.items():
        case = name.partition(".")[0]
        logits = forward["mask_logits"].clone().requires_grad_()
        weights = sampled(logits, forward, name, about)
        torch.testing.assert_close(weights, forward[f"{name}.weight_tensor"], rtol=0, atol=1e-6)
        gates = head_gates(padded, weights)
        if case == "loss_qa":
            loss = qa_loss(padded, forward, gates)
        else:
            loss = padded.loss(features("syn"), said[f"{case}.text"]["text"], gates)
        total = loss + about["norm_lambda"] * weights.sum(1).mean()
        for kind, value in (("lm", loss), ("total", total)):
            torch.testing.assert_close(value[None], forward[f"{name}.loss_{kind}"], rtol=0, atol=1e-5)
            (gradient,) = torch.autograd.grad(value, logits, retain_graph=True)
            torch.testing.assert_close(gradient, forward[f"{name}.grad_mask_logits_{kind}"], **GRADIENTS)


def test_answers_as_tokens(model, recorded):
    for name, case in recorded.json("losses").items():
        for text, ids, mask in zip(case.get("text", ()), case.get("ids", ()), case.get("attention_mask", ()), strict=True):
            assert [*model._ids(text).tolist(), model.end_token] == ids[: sum(mask)], name


def test_losses_without_the_row_of_pad(model, recorded, features, forward):
    said = recorded.json("losses")
    compared = 0
    for name, about in said.items():
        if name.startswith("loss_empty.") and "loss_lm_if_the_PAD_column_is_dropped" in about:
            gates = head_gates(model, forward[f"{name}.weight_tensor"])
            loss = model.loss(features("syn"), said["loss_empty.text"]["text"], gates)
            assert float(loss) == pytest.approx(about["loss_lm_if_the_PAD_column_is_dropped"], abs=1e-5)
            compared += 1
    assert compared


# Generation


def until_end(ids: list[int], end: int) -> list[int]:
    """What comes before the first end token; versions differ in how they fill finished rows."""
    return ids[: ids.index(end)] if end in ids else ids


def generation_cases(recorded):
    """Cases whose ids hold for this version of transformers and for prompts padded on the left."""
    for name, case in recorded.json("generation")["cases"].items():
        if case["portable"]:
            yield name, case, case["new_ids"]
        elif transformers.__version__.startswith("5.23.") and len(set(case["prompts"])) == 1:
            yield name, case, case["transformers_5_23_new_ids"]


def test_generation(padded, recorded, features, forward, monkeypatch):
    settings = recorded.json("generation")["generate_cfg"]
    plain, seen = padded.model.generate, []
    monkeypatch.setattr(padded.model, "generate", lambda **given: seen.append(plain(**given)) or seen[-1])
    compared = 0
    for name, case, expected in generation_cases(recorded):
        batch, _, place = name.partition("_")
        heard = features(batch)
        if place.startswith("row"):
            heard = heard.rows([int(place.removeprefix("row").partition("_")[0])])
        asked = [instruction_of(padded, prompt.partition("<SpeechHere>")[2]) for prompt in case["prompts"]]
        on = forward["mask_logits"].sigmoid() >= case["prob_threshold"]
        gates = None if case["mask"] == "none" else head_gates(padded, on.float())
        texts(padded.answer(heard, gates, asked, max_new_tokens=settings["max_new_tokens"], beams=case["num_beams"]))
        got = seen.pop().tolist()
        end = padded.end_token
        assert [until_end(row, end) for row in got] == [until_end(row, end) for row in expected], name
        compared += 1
    assert compared >= 8


# Training


def test_training_steps(padded, recorded):
    """The released loop: AdamW without decay on 1-D tensors, temperature and rate by schedule, noise for each row."""
    from amask.mask_bank.sampling import relaxed, straight_through
    from amask.mask_bank.schedules import LearningRateSchedule, LinearSchedule

    run, steps = recorded.json("train"), recorded.tensors("train")
    settings, optims, told = run["config"], run["config"]["optims"], run["steps"]
    count, epoch = len(told["ids"]), settings["iters_per_epoch"]
    begin, end, decay = (float(settings[f"tau_{name}"]) for name in ("temp_begin", "temp_end", "decay_steps"))
    temperature = LinearSchedule(begin, end, decay, count)
    peak, low, start = (float(optims[name]) for name in ("init_lr", "min_lr", "warmup_start_lr"))
    rate = LearningRateSchedule(peak, low, optims["warmup_steps"], count, start, epoch)
    texts = recorded.json("losses")["loss_empty.text"]["text"]
    answers = SAID | {f"syn{at}": text for at, text in enumerate(texts)}

    logits = steps["before"][0].clone().requires_grad_()
    optimizer = torch.optim.AdamW([logits], lr=peak, betas=(0.9, optims["beta2"]), eps=1e-8, weight_decay=0)
    for step, names in enumerate(told["ids"]):
        clips = [Path(name).stem for name in names]
        torch.testing.assert_close(logits.detach(), steps["before"][step], rtol=0, atol=1e-4)
        tau = temperature.at(step)
        assert tau == pytest.approx(told["tau"][step])
        assert rate.at(step) == pytest.approx(told["lr"][step])
        gates = straight_through(relaxed(logits, steps["noise"][step].log(), tau))
        assert torch.equal(gates, steps["sampled"][step])
        heard = padded.encode_like_authors([read(recorded, padded, clip) for clip in clips])
        norm = gates.sum(1).mean()
        assert norm.item() == pytest.approx(told["normalizer"][step])
        loss = padded.loss(heard, [answers[clip] for clip in clips], head_gates(padded, gates))
        loss = loss + settings["norm_lambda"] * norm
        assert loss.item() == pytest.approx(told["loss"][step], abs=2e-5)
        optimizer.zero_grad()
        loss.backward()
        torch.testing.assert_close(logits.grad, steps["grad"][step], **GRADIENTS_FROM_WAVES)
        optimizer.param_groups[0]["lr"] = rate.at(step)
        optimizer.step()
        torch.testing.assert_close(logits.detach(), steps["after"][step], rtol=0, atol=1e-4)
