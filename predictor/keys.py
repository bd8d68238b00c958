"""What the user calls the parts of a JSON answer: `{"sex": …}`, names in quotes, `{text, mood}`, "keys: text, mood"."""

import re

_OPEN, _CLOSE = '"“”„', '"”“'
_BEFORE_COLON = re.compile(rf"[{_OPEN}]([^{_OPEN}]{{1,30}})[{_CLOSE}]\s*:")
_QUOTED = re.compile(rf"[{_OPEN}]([^{_OPEN}:,]{{1,30}})[{_CLOSE}]")
_BRACES = re.compile(r"\{([^{}]+)\}")
_LISTED = re.compile(r"\b(?:keys|fields|schlüsseln?|feldern?)\b\s*(?:are|named|called|sind)?\s*:?([^.?!:]+)", re.IGNORECASE)
_BETWEEN = re.compile(r"\s*(?:,|;|\band\b|\bund\b|&|\+|/)\s*")
_NAME = re.compile(r"[^\W\d]\w{0,30}")


def json_keys(instruction: str, count: int) -> tuple[str, ...]:
    """The names that an instruction gives to the parts, in the order of the text; none where it does not name as many.

    Args:
        instruction: what was said.
        count: how many parts the answer has.
    """
    lists = [_BEFORE_COLON.findall(instruction), _QUOTED.findall(instruction)]
    for found in (_BRACES.search(instruction), _LISTED.search(instruction)):
        between = _BETWEEN.split(found[1].strip()) if found else []
        lists.append(between if all(map(_NAME.fullmatch, between)) else [])
    for words in lists:
        names = tuple(name.strip() for name in words)
        if all(names) and len(set(names)) == len(names) == count:
            return names
    return ()
