# The commands of the project. Each sets up what it needs; a fresh machine needs Python 3.11+, make and a network.
PYTHON ?= $$(python3 infra/fastest_python.py)
BIN := .venv/bin
INSTALLED := .venv/.installed

.PHONY: help install run demo test lint format faults usage-faults bench bench-quick bench-plots compat conformance lock contract clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

install: $(INSTALLED) ## Set up the virtual environment from the lock file

$(INSTALLED): requirements.lock pyproject.toml
	@python=$(PYTHON) && \
	  "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Turnstream needs Python 3.11 or newer; set PYTHON=")' && \
	  echo "Setting up .venv with $$python (about a minute, once) ..." && \
	  "$$python" -m venv --clear .venv
	@$(BIN)/pip install -qq --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/pip install -qq --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

run: $(INSTALLED) ## Start everything on this machine and print how to chat; Ctrl-C stops it
	@$(BIN)/turnstream up

demo: $(INSTALLED) ## Start, chat with the OpenAI SDK, show history and trace, stop
	@$(BIN)/turnstream demo

test: lint ## All checks and all tests, on the real servers
	$(BIN)/pytest --numprocesses 2 --dist loadscope --no-loadscope-reorder

lint: $(INSTALLED) ## Formatting, lint, types, import directions, generated documents
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/turnstream contract check

format: $(INSTALLED) ## Format and mend what can be mended
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

contract: $(INSTALLED) ## Generate JSON Schema, AsyncAPI and the events reference from the models
	$(BIN)/turnstream contract generate

faults: TURNS ?= 1000
faults: SEED ?= 7
faults: $(INSTALLED) ## Kill, stop and restart everything under load, and check that no promise broke (TURNS=, SEED=)
	$(BIN)/python -m tests.faults --turns $(TURNS) --seed $(SEED)

usage-faults: TURNS ?= 1000
usage-faults: $(INSTALLED) ## Kill the usage sink and inference under load; files, log and clients must add up (TURNS=)
	$(BIN)/python -m tests.faults.usage_sums --turns $(TURNS)

compat: SUITES ?=
compat: $(INSTALLED) ## Run the clients of others (OpenAI's SDKs, LangChain, Vercel's AI SDK) against a Turnstream started for it (SUITES=)
	@$(BIN)/python -m tests.compat $(SUITES)

conformance: CASES ?= 10000
conformance: $(INSTALLED) ## Try every route with requests made out of the OpenAPI document, on a stack started for it (CASES=)
	@$(BIN)/python -m tests.conformance --cases $(CASES)

bench: $(INSTALLED) ## Measure everything, also beside LiteLLM, and draw it; results go to bench/results (half an hour)
	$(BIN)/python bench/end_to_end.py --peer litellm
	$(BIN)/python bench/end_to_end.py --backend triton
	$(BIN)/python bench/end_to_end.py --peer litellm --curve
	$(BIN)/python bench/stateless_stages.py
	$(BIN)/python bench/inference_alone.py
	$(BIN)/python bench/edge_alone.py
	$(BIN)/python bench/sink_alone.py
	$(BIN)/python bench/resume.py
	$(BIN)/python bench/windows.py
	@$(MAKE) bench-plots

bench-quick: $(INSTALLED) ## Two loads in less than two minutes, against the upstream and the last kept result
	$(BIN)/python bench/quick.py

bench-plots: $(INSTALLED) ## Draw the kept results as PNG into docs/images
	@$(BIN)/pip install --quiet --disable-pip-version-check --target .venv/plot-tool --upgrade --requirement bench/plot.txt
	PYTHONPATH=.venv/plot-tool $(BIN)/python bench/plot.py

lock: $(INSTALLED) ## Resolve requirements.lock anew, with hashes
	$(BIN)/pip install --quiet --disable-pip-version-check --target .venv/lock-tool uv
	.venv/lock-tool/bin/uv pip compile pyproject.toml --extra all --group dev --universal --python-version 3.11 \
	  --generate-hashes --no-emit-index-url --no-header --upgrade --quiet --output-file requirements.lock
	.venv/lock-tool/bin/uv pip compile tests/compat/requirements.in --universal --python-version 3.11 \
	  --generate-hashes --no-emit-index-url --no-header --upgrade --quiet --output-file tests/compat/requirements.lock

clean: ## Remove everything that was made here, data included
	rm -rf .venv .turnstream .mypy_cache .pytest_cache .ruff_cache .hypothesis
