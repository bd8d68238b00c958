"""docs/cli.md is what the commands say of themselves."""

import runpy


def test_the_page_is_what_the_commands_say(root):
    made = runpy.run_path(str(root / "docs" / "make_cli.py"))["page"]()
    assert made.rstrip() + "\n" == (root / "docs" / "cli.md").read_text(encoding="utf-8"), "run python docs/make_cli.py"
    for command in ("amask run", "amask compose", "amask predict", "amask bank train"):
        assert f"## {command}\n" in made
