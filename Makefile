# Two commands: `make demo` (train and evaluate on a spoken corpus) and `make test`.
VENV := .venv
PYTHON := $(VENV)/bin/python
CPU_ONLY := OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE=

.PHONY: setup demo test lint bench clean

setup: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(PYTHON) || python3 -m venv $(VENV)
	$(PYTHON) -m pip install --quiet --constraint constraints.txt --editable '.[demo,dev]'
	touch $@
