"""What a command loads: nothing that it does not need, so that it starts about as quickly as torch and transformers."""

import subprocess
import sys

HEAVY = ("datasets", "sklearn", "sentence_transformers", "pandas", "matplotlib", "nltk", "sacrebleu", "rouge_score")
CODE = """
import sys
from amask.cli.main import app
try:
    app(sys.argv[1:], prog_name="amask")
except SystemExit as stop:
    assert not stop.code, stop.code
print(*sorted({name.partition(".")[0] for name in sys.modules}), file=sys.stderr)
"""


def _loaded(*arguments: object) -> set[str]:
    command = [sys.executable, "-P", "-c", CODE, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr
    return set(done.stderr.splitlines()[-1].split())


def test_a_task_is_run_without_what_only_training_and_tables_need(clip):
    loaded = _loaded("run", "--task", "gr", clip)
    assert "transformers" in loaded
    assert not loaded & set(HEAVY)


def test_help_loads_no_model():
    loaded = _loaded("run", "--help")
    assert not loaded & {"torch", "transformers", "numpy", *HEAVY}
