"""Write docs/api.md from the docstrings of amask's public names: `python docs/make_api.py`."""

import inspect
import re
from pathlib import Path
from typing import Any

import amask

PAGE = Path(__file__).with_name("api.md")
START = """# The Python API

Written by `python docs/make_api.py` from the docstrings; the examples run in the tests.
Every name is imported as `amask.NAME`; nothing heavy is loaded before it is used.
"""


def page() -> str:
    """The whole page."""
    names = sorted(amask.__all__, key=str.lower)
    contents = " · ".join(f"[`{name}`](#{name.lower()})" for name in names)
    return "\n".join([START, contents, "", *(_entry(name, getattr(amask, name)) for name in names)])


def _entry(name: str, thing: object) -> str:
    lines = [f"## {name}", "", f"```python\n{_signature(name, thing)}\n```", "", _text(thing), ""]
    if inspect.isclass(thing) and not issubclass(thing, Exception):
        for method, member in _methods(thing):
            lines += [f"### {name}.{method}", "", f"```python\n{_signature(method, member)}\n```", "", _text(member), ""]
    return "\n".join(lines)


def _methods(thing: type) -> list[tuple[str, Any]]:
    """Public methods and properties that amask itself documents, in the order of their names."""
    found = []
    for name in sorted(vars(thing)):
        member = inspect.unwrap(getattr(vars(thing)[name], "__func__", vars(thing)[name]))
        described = inspect.isfunction(member) or isinstance(member, property) or hasattr(member, "func")
        if not name.startswith("_") and described and inspect.getdoc(member):
            found.append((name, member))
    return found


def _signature(name: str, thing: object) -> str:
    thing = getattr(thing, "fget", None) or getattr(thing, "func", None) or thing
    try:
        signature = str(inspect.signature(thing))
    except (TypeError, ValueError):
        signature = ""
    kind = "class" if inspect.isclass(thing) else "def"
    # Objects without a spelling, and where the package lies on this machine.
    return re.sub(r"<[^<>]*>|PosixPath\('[^']*'\)", "…", f"{kind} {name}{signature}".replace("amask.", ""))


def _text(thing: object) -> str:
    """A docstring as Markdown: sections as bold words, examples as code."""
    lines, code = [], False
    for line in (inspect.getdoc(thing) or "").splitlines():
        if line.strip().startswith(">>>") and not code:
            lines += ["", "```python"]
            code = True
        if code and not line.strip():
            lines.append("```")
            code = False
        heading = line.rstrip(":") if line.endswith(":") and line[:1].isupper() and " " not in line else ""
        if code:
            lines.append(line.removeprefix("    "))
        elif heading:
            lines += ["", f"**{heading}**", ""]
        elif line.startswith("    ") and ": " in line and not line.startswith("     "):
            lines.append(f"- `{line.strip().split(': ')[0]}`: {line.strip().split(': ', 1)[1]}")
        else:
            lines.append(f"  {line.strip()}" if line.startswith("     ") else line)
    return "\n".join([*lines, *(["```"] if code else [])])


def main() -> None:
    """Write the page."""
    PAGE.write_text(page().rstrip() + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
