"""Instructions that are read again: where what is left of the form says more, or what was read cannot be all that is meant."""

import re
from collections.abc import Callable, Sequence

from .clause_text import asked_for, without_json
from .form_cues import noun_tasks
from .form_reading import FormReading
from .means import without_means
from .route import InstructionRoute

CLEAR_INTENT_PROB = 0.5  # of a single task, below which it is read again without what says how to find the answer
_CLAUSE = re.compile(r"[,;.:!?]|\b(?:and|then|und|dann)\b")

RouteTexts = Callable[[Sequence[str]], list[InstructionRoute]]
"""Routes texts that have no forms in them."""


def settled(forms: Sequence[FormReading], read: Sequence[InstructionRoute], route_texts: RouteTexts) -> list[InstructionRoute]:
    """Routes for what was read, some of it again.

    Args:
        forms: what instructions say of the form.
        read: the routes for the rest of each.
        route_texts: reads other texts.
    """
    read = list(read)
    again = [at for at, (form, route) in enumerate(zip(forms, read, strict=True)) if _says_more(form, route)]
    for at, route in zip(again, route_texts([forms[at].whole for at in again]), strict=True):
        read[at] = route
    for settle in (_without_means, _by_labels, _by_one_key):
        settle(forms, read, route_texts)
    return read


def _says_more(form: FormReading, route: InstructionRoute) -> bool:
    """Whether demands are to be read, too: they name answers that were not understood yet, or nothing was."""
    if form.whole in ("", form.content):
        return False
    parts = set(route.intent.parts)
    return route.kind == "refuse" or any(demand.tasks and not demand.tasks & parts for demand in form.soft)


def _without_means(forms: Sequence[FormReading], read: list[InstructionRoute], route_texts: RouteTexts) -> None:
    """Where several parts were read, none, or one hardly, what is asked for without the words that say how to find the answer."""
    doubtful = [at for at, (form, route) in enumerate(zip(forms, read, strict=True)) if _is_doubtful(form, route)]
    shorter = {at: without_means(forms[at].content) for at in doubtful}
    changed = [at for at in doubtful if shorter[at] != forms[at].content]
    for at, route in zip(changed, route_texts([shorter[at] for at in changed]), strict=True):
        parts, before = set(route.intent.parts), set(read[at].intent.parts)
        surer = len(parts) == 1 and route.intent_prob > read[at].intent_prob
        if parts and (parts < before or (len(before) < 2 and surer)):
            read[at] = route


def _by_labels(forms: Sequence[FormReading], read: list[InstructionRoute], route_texts: RouteTexts) -> None:
    """Where the answer is to be one of a task's labels, that task, unless a clause by itself asks for another."""
    for at, (form, route) in enumerate(zip(forms, read, strict=True)):
        asked, parts = asked_for(form.labelled), route.intent.parts
        if not asked or not parts or parts == (form.labelled,) or _names_several(form):
            continue
        if len(parts) > 1:
            clauses = route_texts([piece for piece in _CLAUSE.split(form.content) if piece.strip()])
            if form.labelled not in parts or any(clause.intent.parts not in ((), (form.labelled,)) for clause in clauses):
                continue
        (labelled,) = route_texts([asked])
        read[at] = labelled if labelled.intent.parts == (form.labelled,) else route


def _by_one_key(forms: Sequence[FormReading], read: list[InstructionRoute], route_texts: RouteTexts) -> None:
    """Where one key is named, but several parts were read, what the words without JSON say, or the key, if that is one part."""
    doubtful = [
        at
        for at, (form, route) in enumerate(zip(forms, read, strict=True))
        if len(form.format.get("keys", ())) == 1 and len(route.intent.parts) > 1
    ]
    for at, route in zip(doubtful, route_texts([without_json(forms[at].content) for at in doubtful]), strict=True):
        words = forms[at].format["keys"][0].replace("_", " ").lower().split()
        named = {task for word in words for task in noun_tasks(word)}
        if len(route.intent.parts) == 1:
            read[at] = route
        elif len(named) == 1 and named < set(read[at].intent.parts):
            (read[at],) = route_texts([asked_for(named.pop())])


def _is_doubtful(form: FormReading, route: InstructionRoute) -> bool:
    """Whether several parts were read, none, or one hardly, and the form does not speak for several."""
    return (len(route.intent.parts) != 1 or route.intent_prob < CLEAR_INTENT_PROB) and not _names_several(form)


def _names_several(form: FormReading) -> bool:
    """Whether a form is one for several parts."""
    keys = form.format.get("keys", ())
    return "separator" in form.format or form.format.get("layout") == "lines" or len(form.order) > 1 or len(keys) > 1
