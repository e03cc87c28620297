# Every target makes its own virtual environment in .venv first, and skips that when requirements.txt and pyproject.toml have
# not changed.
PYTHON ?= python3
VENV := .venv
BENCHMARKS := conv_lstm long_sequences mnist scale grid startup memory prox_lstm adv_alstm sentiment
PARTS = $(shell grep -lE "mark.reliability|thorough|fuzz," tests/test_*.py tests/reliability/test_*.py)
RUN := OMP_NUM_THREADS=1 $(VENV)/bin/python

.PHONY: report test reliability lint bench clean

report: $(VENV)/.installed  ## the studies in their quick profile, and outputs/report/index.html
	$(RUN) reproduce.py --jobs 2 || [ $$? -eq 3 ]  # 3: some data could not be fetched, as the page says

test: lint  ## lint and all tests, a process per core
	$(RUN) -m pytest -q -n auto --dist worksteal

reliability: $(VENV)/.installed requirements-dev.txt  ## the long checks, all to their end, and their counts in docs/reliability.md; LONG=1: hours
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	failed=; for part in $(PARTS); do \
	    $(RUN) -m pytest -q $$part -m reliability $(if $(LONG),--long) --counts=docs/results/reliability.json || failed="$$failed $$part"; \
	done; test -z "$$failed" || { echo "failed:$$failed"; exit 1; }

lint: $(VENV)/.installed
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check --quiet .

bench: $(VENV)/.installed  ## timings and peak memory: docs/results/benchmarks.md, in a quarter of an hour
	for name in $(BENCHMARKS); do $(RUN) benchmarks/bench_$$name.py || exit 1; done

$(VENV)/.installed: requirements.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.txt --editable .
	touch $@

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache
