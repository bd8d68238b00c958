"""The path of one `amask run --instruction`: how many functions of ours it goes through, and what it does once."""

import sys
from collections import Counter

SYNTHETIC = {"<module>", "<lambda>", "<listcomp>", "<genexpr>", "<dictcomp>", "<setcomp>"}
MOST = 360  # distinct functions: 356 today, forms, spelling, warnings and pruning included; 352 before there was one pipeline


def test_the_path_is_short_and_decides_and_reads_once(amask, clip, root):
    from amask.mask_bank import versions

    arguments = ("run", "--instruction", "what's the speaker's gender", clip)
    assert amask(*arguments).exit_code == 0  # imports
    versions._load_unchanged.cache_clear()
    calls: Counter[tuple[str, str]] = Counter()
    read: Counter[object] = Counter()
    package, tests = str(root), str(root / "tests")

    def profile(frame, event, _):
        code = frame.f_code
        if event != "call" or not code.co_filename.startswith(package) or code.co_filename.startswith(tests):
            return
        if ".venv" not in code.co_filename and code.co_name not in SYNTHETIC:
            calls[code.co_filename.removeprefix(package), code.co_qualname] += 1
            if code.co_qualname == "load_mask":
                read[frame.f_locals["path"]] += 1

    sys.setprofile(profile)
    try:
        done = amask(*arguments)
    finally:
        sys.setprofile(None)
    assert done.exit_code == 0
    assert calls["/predictor/router.py", "InstructionRouter.route"] == 1
    assert calls["/serving/choose_route.py", "RouteChooser.choose"] == 1
    assert read
    assert max(read.values()) == 1, read
    assert calls["/mask_bank/versions.py", "list_versions"] <= 3 * len(read)  # for the route, the answers and the predictor
    assert len(calls) <= MOST, sorted(calls)
