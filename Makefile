# make demo   the user's question answered by a mask, on a clip of the repository; then the mask, drawn
# make test   ruff and all tests
# make lint   ruff, its formatter, and mypy
# Each creates the environment it needs; it is used again until pyproject.toml, constraints.txt or the version changes.

VENV ?= .venv
CLIP ?= docs/clips/woman.opus
# A file is run by one process, so that what its tests share is made once; in the order of their names, which has small files last.
PYTEST_ARGS ?= -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder
export PYTHON # unset: the first Python 3.11 or newer that .ci/install finds
unexport PYTHONDONTWRITEBYTECODE # tests start many processes, each of which would compile amask anew

.PHONY: demo test lint clean

demo: $(VENV)/.installed
	@test -f "$(CLIP)" || { echo "amask: there is no clip '$(CLIP)'; name one: make demo CLIP=path" >&2; exit 1; }
	@echo "$$ amask run --instruction \"what's the speaker's gender\" $(CLIP)"
	@"$(VENV)/bin/amask" run --instruction "what's the speaker's gender" "$(CLIP)"
	@echo "$$ amask bank show gr"
	@"$(VENV)/bin/amask" bank show gr

test: $(VENV)/.installed-dev
	"$(VENV)/bin/python" -m ruff check .
	"$(VENV)/bin/python" -P -m pytest $(PYTEST_ARGS)

# mypy wants a folder of the package's name: build/types/amask is a link to the root.
lint: $(VENV)/.installed-dev
	"$(VENV)/bin/python" -m ruff check .
	"$(VENV)/bin/python" -m ruff format --check .
	@mkdir -p build/types && ln -sfn ../.. build/types/amask
	MYPYPATH=build/types "$(VENV)/bin/python" -P -m mypy -p amask

$(VENV)/.installed: pyproject.toml constraints.txt __init__.py
	@.ci/install "$(VENV)"

$(VENV)/.installed-dev: pyproject.toml constraints.txt __init__.py
	@.ci/install "$(VENV)" dev

# An environment of another folder (the repository was moved) or without a working Python is made again.
ifneq ($(shell grep -sFx "$(CURDIR)" "$(VENV)/.installed" && "$(VENV)/bin/python" -c ''),$(CURDIR))
.PHONY: $(VENV)/.installed $(VENV)/.installed-dev
endif

clean:
	rm -rf .venv build dist amask.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
