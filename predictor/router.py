"""`InstructionRouter`: from what the network says and the masks that there are to what is done."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cached_property

import torch
from jaxtyping import Bool
from torch import Tensor

from ..data.answer_format import AnswerFormat
from ..data.tasks import Form, Task, TaskSpec
from ..mask_bank.mask import HeadMask
from .clauses import conditional, corrected, listed_items, numbered_items
from .form_cues import noun_tasks
from .form_reader import read_form
from .form_reading import FormReading
from .intent import UNSUPPORTED, Intent
from .nearest import WordingIndex
from .no_request import is_no_request
from .predictor import Prediction, Predictor, wordings_for
from .resources import normalise
from .route import How, InstructionRoute, Kind, Neighbour
from .second_readings import settled

MIN_INTENT_PROB = 0.2  # probability among the supported intents below which a request is unclear
BRACES = ("{", "}")
NOTHING = FormReading({}, "")
MIN_COSINE = 0.75  # cosine from which the nearest wording decides for a task that was never trained


class InstructionRouter:
    """Routes instructions for one bank. Making one takes longer than routing: keep it for the next instruction.

    An intent can be served where there is a mask for it, or one for each of its parts.

    Args:
        predictor: reads the instructions.
        masks: what there is; of two for one task the last counts.
    """

    def __init__(self, predictor: Predictor, masks: Iterable[HeadMask]) -> None:
        self.predictor = predictor
        having = [mask for mask in masks if mask.task is not None]
        self.masks = {Intent(mask.task.names, mask.task.form): mask for mask in having if mask.task}
        self.tasks: dict[str, Task] = {part.name: part for mask in having if mask.task for part in mask.task.parts}
        self._exact_wordings = self._own_wordings()

    def _own_wordings(self) -> dict[str, Intent]:
        """The wordings that tasks come with, of tasks that have a mask; none that two tasks have."""
        found: dict[str, Intent | None] = {}
        for name, task in self.tasks.items():
            intent = Intent((name,))
            for text in task.wordings if intent in self.masks else ():
                key = _plain(text)
                found[key] = intent if found.get(key, intent) == intent else None
        return {text: intent for text, intent in found.items() if intent}

    def supports(self, intent: Intent) -> bool:
        """Whether there is a mask for an intent, or one for each of its parts."""
        return intent in self.masks or all(Intent((part,)) in self.masks for part in intent.parts)

    @cached_property
    def _supported_mask(self) -> Bool[Tensor, " intent"]:
        return torch.tensor([self.supports(intent) for intent in self.predictor.space.intents])

    def route(
        self, instructions: Sequence[str], *, use_predicted_bits: bool = False, neighbours: bool = True
    ) -> list[InstructionRoute]:
        """What to do about each instruction.

        Args:
            instructions: the instructions.
            use_predicted_bits: run the predicted bits instead of the bank's mask, which there need not be.
            neighbours: name the nearest tasks also where the instruction is clear, which takes as long again.
        """
        instructions = [text.encode("utf-8", "replace").decode() for text in instructions]  # no halves of characters
        forms = [NOTHING if is_no_request(text) else read_form(text, self.predictor.mender) for text in instructions]
        read = self._route_texts([form.content for form in forms], use_predicted_bits)
        read = settled(forms, read, lambda texts: self._route_texts(texts, use_predicted_bits))
        found = []
        for text, form, first in zip(instructions, forms, read, strict=True):
            after = corrected(text)
            later = self.route([after], use_predicted_bits=use_predicted_bits, neighbours=False)[0] if after else None
            if later is not None and later.kind != "refuse":
                found.append(replace(later, instruction=text))
                continue
            route = replace(self._with_clauses(form.content, first, use_predicted_bits), instruction=text)
            route = route if route.kind == "refuse" else self._with_form(route, form, use_predicted_bits)
            if neighbours or route.kind == "refuse":
                route = replace(route, neighbours=self.neighbours(form.content, self.predictor.predict([form.content])[0]))
            found.append(route)
        return found

    def _route_texts(self, texts: Sequence[str], use_predicted_bits: bool) -> list[InstructionRoute]:
        """What to do about each text, which has no forms in it."""
        if not texts:
            return []
        predictions, new = self.predictor.predict(texts), self._route_new_tasks(texts)
        return [
            self._route_one(text, prediction, use_predicted_bits) if use_predicted_bits or task is None else task
            for text, prediction, task in zip(texts, predictions, new, strict=True)
        ]

    def _with_clauses(self, text: str, route: InstructionRoute, use_predicted_bits: bool) -> InstructionRoute:
        """A condition or a list of many tasks, where all that it says can be done."""
        whether = conditional(text)
        if whether is not None and self.supports(Intent((whether.task,))):
            (main,) = self._route_texts([whether.main], use_predicted_bits=False)
            if main.kind != "refuse" and whether.task not in main.intent.parts:
                name = main.spec.name if main.spec else str(main.intent)
                return replace(main, kind="plan", plan=whether.plan(name), spec=None, mask=None, how=None)
        numbered = numbered_items(text)
        items = numbered or listed_items(text)
        if numbered or (items and len(route.intent.parts) != len(items)):
            return self._with_items(items, route, use_predicted_bits)
        return route

    def _with_items(self, items: Sequence[str], route: InstructionRoute, use_predicted_bits: bool) -> InstructionRoute:
        """Tasks that are numbered, or four and more, each by itself; what the network reads at once has three at most."""
        read = self._route_texts(items, use_predicted_bits=False)
        parts = tuple(each.intent.parts[0] for each in read if len(each.intent.parts) == 1)
        if use_predicted_bits or len(parts) < len(items) or len(set(parts)) < len(parts):
            return route
        intent = Intent(parts, "json" if route.intent.form == "json" else "pipe")
        spec = TaskSpec(parts=tuple(self.tasks[part] for part in parts), form=intent.form)
        sure = min(each.confidence_total for each in read)
        if intent == route.intent:
            return route
        one_pass = self._in_one_pass(spec, intent)
        how: How = "one-pass" if one_pass else "parallel"
        mask = self.masks[intent] if one_pass else None
        return InstructionRoute(route.instruction, "composite", intent, sure, 1.0, spec=spec, how=how, mask=mask)

    def _with_form(self, route: InstructionRoute, form: FormReading, use_predicted_bits: bool) -> InstructionRoute:
        """The route with the form that was asked for, in the order of a template."""
        intent = route.intent
        if len(intent.parts) > 1:
            parts = _in_order(intent.parts, form.order)
            braces = form.format.get("wrap") == BRACES  # around several parts they are JSON's
            kind: Form = "json" if form.json or braces or intent.form == "json" else "pipe"
            if (parts, kind) != (intent.parts, intent.form) and not use_predicted_bits and route.kind != "plan":
                known = {task.name: task for task in self.predictor.record.tasks} | self.tasks
                intent = Intent(parts, kind)
                spec = TaskSpec(parts=tuple(known[part] for part in parts), form=kind)
                one_pass = self._in_one_pass(spec, intent)
                how: How = "one-pass" if one_pass else "parallel"
                route = replace(route, intent=intent, spec=spec, how=how, mask=self.masks[intent] if one_pass else None)
        answer_format, warnings = _format_for(intent, form)
        if route.spec is not None and intent.form == "json" and answer_format.keys and not use_predicted_bits:
            keys = () if answer_format.keys == intent.parts else answer_format.keys
            spec = route.spec.model_copy(update={"keys": keys})
            if not self._in_one_pass(spec, intent):
                route = replace(route, how="parallel", mask=None)
            route = replace(route, spec=spec)
        return replace(route, answer_format=answer_format, warnings=warnings)

    def _route_one(self, text: str, prediction: Prediction, use_predicted_bits: bool) -> InstructionRoute:
        """The likeliest intent that can be served, if something can be and it is clear what; a task's own wording always is."""
        calibration = self.predictor.record.calibration
        intent = self._exact_wordings.get(_plain(text))
        if intent is not None:
            return self._serve(text, intent, 1.0, 1.0, prediction, use_predicted_bits)
        probs = (prediction.probs if use_predicted_bits else prediction.probs * self._supported_mask)[:-1]
        confidence, at = calibration.probability(float(probs.sum())), int(probs.argmax())
        prob = float(probs[at] / probs.sum().clamp(min=1e-9))
        other = float(prediction.probs[:-1].max()) > float(probs[at])  # what is likelier has no mask
        said = any(letter.isalnum() for letter in text)
        if other or not said or not confidence >= calibration.threshold or not prob >= MIN_INTENT_PROB:
            return InstructionRoute(text, "refuse", UNSUPPORTED, confidence, prob, without_mask=self._without_mask(prediction))
        return self._serve(text, self.predictor.space.intents[at], confidence, prob, prediction, use_predicted_bits)

    def _without_mask(self, prediction: Prediction) -> str:
        """The single task that is clearly meant, where the bank has no mask for it."""
        calibration, probs = self.predictor.record.calibration, prediction.probs[:-1]
        intent = self.predictor.space.intents[int(probs.argmax())]
        clear = (
            calibration.probability(float(probs.sum())) >= calibration.threshold and probs.max() >= MIN_INTENT_PROB * probs.sum()
        )
        return intent.parts[0] if clear and len(intent.parts) == 1 and not self.supports(intent) else ""

    def _serve(
        self, text: str, intent: Intent, confidence: float, prob: float, prediction: Prediction, use_predicted_bits: bool
    ) -> InstructionRoute:
        """The mask or masks for an intent: the bank's own or its parts', or the predicted bits."""
        known = {task.name: task for task in self.predictor.record.tasks} | self.tasks
        parts = tuple(known[part] for part in intent.parts)
        spec = TaskSpec(parts=parts, form=intent.form)
        how: How = "bits" if use_predicted_bits else "one-pass" if self._in_one_pass(spec, intent) else "parallel"
        mask = (
            self._predicted(text, spec, prediction) if use_predicted_bits else self.masks[intent] if how == "one-pass" else None
        )
        kind: Kind = "mask" if len(parts) == 1 else "composite"
        return InstructionRoute(text, kind, intent, confidence, prob, spec=spec, how=how, mask=mask)

    def _in_one_pass(self, spec: TaskSpec, intent: Intent) -> bool:
        """Whether its own mask does it, as `amask run` chooses: it reached its target, or parts have none."""
        whole = self.masks.get(intent)
        if whole is None or whole.task is None or len(intent.parts) == 1:
            return whole is not None
        good = whole.task.json_keys == spec.json_keys and bool(whole.reached_target)
        return good or not all(Intent((part,)) in self.masks for part in intent.parts)

    def _predicted(self, text: str, spec: TaskSpec, prediction: Prediction) -> HeadMask:
        """The mask of the predicted bits."""
        lineage = {"operation": "predicted", "instruction": text, "masks": dict(self.predictor.record.masks)}
        return HeadMask.from_logits(prediction.logits, self.predictor.identity, task=spec, lineage=lineage)

    def neighbours(self, text: str, prediction: Prediction, count: int = 2) -> tuple[Neighbour, ...]:
        """The tasks that are likeliest a part of what was asked for, each with the nearest of its own wordings."""
        probs = self.predictor.space.task_marginals(prediction.probs)
        nearest = self.predictor.suggestion_index.nearest([text])[0]
        there = [task for task in probs if Intent((task,)) in self.masks]
        likely = sorted(there or probs, key=lambda task: (-round(probs[task], 2), -nearest[task][0]))
        return tuple(Neighbour(task, probs[task], nearest[task][1]) for task in likely[:count])

    @cached_property
    def _new(self) -> WordingIndex | None:
        """The wordings of tasks that the predictor was never trained for."""
        trained = {task.name for task in self.predictor.record.tasks}
        names = [name for name in self.tasks if name not in trained and Intent((name,)) in self.masks]
        said = {name: wordings_for(self.tasks[name]) for name in names}
        return WordingIndex(self.predictor.encoder, said) if any(said.values()) else None

    def _route_new_tasks(self, instructions: Sequence[str]) -> list[InstructionRoute | None]:
        """Routes to tasks that the predictor was never trained for, where a wording of theirs is the nearest, and near."""
        if self._new is None:
            return [None] * len(instructions)
        found: list[InstructionRoute | None] = []
        for text, near in zip(instructions, self._new.nearest(instructions), strict=True):
            task, (alike, _) = next(iter(near.items()))
            if alike < MIN_COSINE:
                found.append(None)
                continue
            (other,) = self.predictor.wordings.nearest(
                [text]
            )  # only now: the first use encodes many wordings, which takes seconds
            intent, spec = Intent((task,)), TaskSpec(parts=(self.tasks[task],))
            nearest = alike >= max(each for each, _ in other.values())
            route = InstructionRoute(
                text, "mask", intent, min(1.0, alike), 1.0, spec=spec, how="one-pass", mask=self.masks[intent]
            )
            found.append(route if nearest and any(letter.isalnum() for letter in text) else None)
        return found


def _plain(text: str) -> str:
    """A request without marks and politeness."""
    return normalise(text).removeprefix("please ").removesuffix(" please")


def _in_order(parts: tuple[str, ...], order: Sequence[str]) -> tuple[str, ...]:
    """Parts in the order of a template that names each of them once; else as they are."""
    named = []
    for text in order:
        words = text.replace("_", " ").casefold().split()
        meant = {text} | {task for word in words for task in noun_tasks(word)}
        named.append([part for part in parts if part in meant])
    found = tuple(each[0] for each in named if len(each) == 1)
    return found if set(found) == set(parts) and len(found) == len(parts) else parts


def _format_for(intent: Intent, form: FormReading) -> tuple[AnswerFormat, tuple[str, ...]]:
    """The form for some tasks, and what was left out of it."""
    fields, warnings, count = dict(form.format), [], len(intent.parts)
    warnings += [f"the answer has no such form: {name}" for name in form.unsupported]
    warnings += [f"not understood as part of the form: {text!r}" for text in form.unread]
    if intent.form == "json":
        fields["layout"] = "json"
    if fields.get("layout") == "json":
        fields.pop("separator", None)
        if fields.get("wrap") == BRACES:
            del fields["wrap"]
    if fields.get("keys") == intent.parts:
        del fields["keys"]
    keys = fields.get("keys", ())
    if keys and len(keys) != count:
        warnings.append(f"the keys {', '.join(keys)} do not go with the {count} parts {', '.join(intent.parts)}")
        del fields["keys"]
    if count == 1:
        fields.pop("separator", None)
        if fields.get("layout") == "lines":
            del fields["layout"]
    if "separator" in fields and fields.get("layout") in ("lines", "list"):
        del fields["layout"]
    labels = {task: dict(names) for task, names in form.labels.items() if task in intent.parts}
    if labels:
        fields["labels"] = labels
    own = {task: said for task, said in form.parts.items() if task in intent.parts and count > 1}
    for task in form.parts.keys() - own.keys():
        fields = dict(form.parts[task]) | fields
    if own:
        fields["parts"] = own
    try:
        return AnswerFormat.model_validate(fields), tuple(warnings)
    except ValueError:
        return AnswerFormat(), (*warnings, "the form contradicts itself and was left out")
