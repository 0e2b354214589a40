# Two commands: `make demo` trains and evaluates on a spoken corpus, `make test` proves the rest.
SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
DEMO := .demo/LibriSpeech

.PHONY: setup demo digits test exactness chaos tasks lint bench screenshots wheel

setup: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || python3 -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: setup
	$(BIN)/orchestra data synth librispeech --root $(DEMO)
	$(BIN)/orchestra data prepare librispeech --root $(DEMO)
	$(BIN)/orchestra run asr --preset asr-demo --cpu --nproc 2

# Real voices: connected digits from recordings named {digit}_{speaker}_{take}.wav.
digits: setup
	@test -n "$(RECORDINGS)" || { echo "which recordings? make digits RECORDINGS=DIR" >&2; exit 2; }
	$(BIN)/orchestra data prepare digits --root "$(RECORDINGS)" --out data/digits
	$(BIN)/orchestra run asr --preset digits --cpu --nproc 2

test: lint
	$(BIN)/python -m pytest -n 2 --dist loadfile

# Interrupted == uninterrupted at all worlds, workers and moments, and 50 random kills.
exactness: setup
	$(BIN)/python -m pytest -n 2 --dist loadgroup -m "exactness or not exactness" tests/exactness

# The whole fault matrix: each fault, how it was injected and what was seen, in one table.
chaos: setup
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "(fault or chaos) and not exactness"

# Each task on its tiny corpus: trained to the score in its README, killed, resumed, evaluated.
tasks: setup
	$(BIN)/python -m pytest -n 2 --dist loadfile -m tasks

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: setup
	$(BIN)/python -m tests.benchmarks

# The README's pictures of the monitor, in tests/screenshots.
screenshots: setup
	$(BIN)/python -m tests.screenshots

wheel: setup
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .
