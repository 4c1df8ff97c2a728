# Needs Python >= 3.11 with pip and venv, and make. Everything else comes into .venv.
# Another Python: make demo PYTHON=python3.13

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test all-tests unit service acceptance lint format docs openapi constraints locks clean
.PHONY: bench bench-gpu bench-gateway bench-workers bench-estimates load chaos soak containers images fuzz fuzz-intakes
.PHONY: integrations screenshots readers stopping headline ranking sense intervals noise layers imputation same-reports studies studies-large

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEV := $(VENV)/.installed-dev
DEMO := $(VENV)/.installed-demo
# three processes on two cores, since tests of the service wait for others; libraries that start a thread for each core
# would take it from them. All of them stayed below 16 GB together.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses 3 --dist loadfile --durations=20
# where it is set, each of the hundreds of processes of the tests would compile the whole project anew (0.8 s each)
unexport PYTHONDONTWRITEBYTECODE
BENCHMARKS := PYTHONPATH=tests $(BIN)/python -m benchmarks
# compiled now, so that the first start of gateway and worker does not wait for it (9 s for torch alone)
INSTALL := $(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python -c constraints.txt

help: ## Show this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 18

demo: $(DEMO) ## Audit an ImageNet model on eight photos over HTTP; writes demo-report.json and demo-report.html
	$(BIN)/auditcore demo

# type checking has one thread, so that the tests begin beside it
test: $(DEV) ## Everything .ci/run checks: lint, types, import rules, OpenAPI drift, tests but for the long ones of `make acceptance`
	$(MAKE) --jobs 2 lint all-tests

all-tests: $(DEV)
	$(BIN)/auditcore openapi --out openapi --check
	$(PYTEST) -v -m "not long"

unit: $(DEV) ## The quick part of tests/unit, in about 85 s of two cores; tests/unit/conftest.py says what is left out
	$(PYTEST) tests/unit -m "not slow and not thorough"

service: $(DEV) ## All tests of the service: gateway, store, both queues, workers, command line
	$(PYTEST) tests/service

acceptance: $(DEV) ## Before a release: tests of the whole with full-size networks and real servers, and all long tests
	$(PYTEST) tests/acceptance tests/sense
	$(PYTEST) -m long tests/unit tests/service tests/browser tests/gpu

# each in an environment of its own, since they need other versions of what we need
integrations: $(DEV) ## Build environments with Airflow and kfp, and run the operator and the component in them; 5 minutes
	PYTHONPATH=tests $(BIN)/python -c 'import foreign_servers as f; [f.environment(n, with_project=True) for n in ("airflow", "kubeflow")]'
	OMP_NUM_THREADS=1 $(BIN)/pytest -v -p no:xdist tests/acceptance/test_orchestrators.py

lint: $(DEV) ## Style, types, import rules, security, Dockerfiles
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/bandit --quiet --configfile pyproject.toml --recursive src service
	$(BIN)/hadolint docker/*.Dockerfile docker/debian/*.Dockerfile
	$(BIN)/python docker/lock.py --check

format: $(DEV) ## Format every file, and fix what the linter can fix
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

screenshots: $(DEV) ## Make the pictures of the dashboard in docs/how-to again; needs Chromium on PATH
	PYTHONPATH=tests $(BIN)/python -m browser.screenshots docs/how-to

readers: $(DEV) ## Measure how long three readers need for their tasks; 2 minutes, writes docs/benchmarks/readers.md; needs Chromium on PATH
	PYTHONPATH=tests $(BIN)/python -m browser.three_readers

# -W: warnings are errors, -n is not given: links to Python's and pydantic's own classes lead nowhere without internet
docs: $(DEV) ## Build the documentation in docs/_build: warnings are errors, links are checked
	$(BIN)/sphinx-build -W --keep-going --quiet -b html docs docs/_build

bench: $(DEV) ## Measure what audits cost beside the bare model, the papers' way and Quantus; 12 minutes, writes bench.json
	$(BENCHMARKS).bench --out bench.json

# no environment is made: a machine with a GPU has its own torch, and may reach no registry (tests/gpu/wheels.txt)
bench-gpu: ## Check and measure on CUDA: parity with the CPU, synchronizations, speed; 8 minutes, writes bench-gpu.json
	$(if $(wildcard $(BIN)/python),$(BIN)/python,$(PYTHON)) tests/gpu/run.py --out bench-gpu.json

bench-gateway: $(DEV) ## Measure submits at 50 a second on SQLite, and kill the gateway
	$(BIN)/python tests/benchmarks/gateway_load.py

bench-workers: $(DEV) ## Measure two workers beside one, and what the service adds to an audit
	$(BIN)/python tests/benchmarks/workers.py

# as root, for network namespaces, disks and PostgreSQL's own user; without root those scenarios are skipped
chaos: $(DEV) ## Break every part of the service and check that nothing is lost; as root, 40 minutes, writes chaos/
	CHAOS_OUT=$(CURDIR)/chaos CHAOS_BASE=$(BASE) OMP_NUM_THREADS=1 $(BIN)/pytest -p no:cacheprovider tests/chaos $(ARGS)

soak: $(DEV) ## Run AUDITS=500 audits under faults at random, repeatable by SEED=1; 20 minutes, writes chaos/soak.md
	PYTHONPATH=tests OMP_NUM_THREADS=1 $(BIN)/python -m chaos.soak --audits $(or $(AUDITS),500) --seed $(or $(SEED),1) --out chaos

load: $(DEV) ## Measure gateways under 100 clients and 500 event streams; 9 minutes, writes load/
	PYTHONPATH=tests $(BIN)/python -m benchmarks.service_load --out load

bench-estimates: $(DEV) ## Compare estimated with actual seconds over several plans
	$(BIN)/python tests/benchmarks/estimates.py

# schemathesis makes them; the normal tests run a few
fuzz: $(DEV) ## Send 200 made-up requests to each operation of a running gateway, and sequences of them, or EXAMPLES=...
	FUZZ_EXAMPLES=$(or $(EXAMPLES),200) $(BIN)/pytest --verbose tests/service/test_fuzzed_interface.py

stopping: $(DEV) ## Simulate how often a stop rule errs, and how many images it saves
	$(BIN)/python tests/benchmarks/stopping.py

headline: $(DEV) ## Measure robustness beside faithfulness of all explainers on the demo model; draws the README's picture
	$(BENCHMARKS).headline

ranking: $(DEV) ## Measure signed against magnitude orders on planted truths and on photos: the tables of docs/ranking.md
	$(BENCHMARKS).ranking

sense: $(DEV) ## Show what every metric says of maps whose quality is known: the tables of docs/sense.md
	$(BENCHMARKS).sense

studies: $(DEV) ## Train and audit the papers' methods with SEEDS=5 on images with known truth; writes studies/studies.md
	$(BENCHMARKS).studies --seeds $(or $(SEEDS),5) --out studies

studies-large: $(DEV) ## The same with ResNet-50 on larger images, on a card, in studies-large/; --price says how long it takes (docs/benchmarks/studies.md)
	$(BENCHMARKS).studies --large --device cuda --seeds $(or $(SEEDS),5) --out studies-large

intervals: $(DEV) ## Simulate how often 95 % confidence intervals hold the mean; the table of docs/intervals.md
	$(BENCHMARKS).coverage

noise: $(DEV) ## Measure how often maps that know nothing pass a condition
	$(BENCHMARKS).noise

layers: $(DEV) ## Write docs/grad-cam-layers.md: the layer that Grad-CAM reads of known architectures; 5 minutes
	$(BENCHMARKS).layers

imputation: $(DEV) ## Measure ROAD's imputation: multigrid against short preconditioned conjugate gradients
	$(BIN)/python tests/benchmarks/imputation.py

same-reports: $(DEV) ## Compare the reports of all presets with those of the commit BASE, byte by byte; 1 minute
	PYTHONPATH=tests $(BIN)/python tests/benchmarks/same_reports.py $(or $(BASE),HEAD)

fuzz-intakes: $(DEV) ## Read hostile images, maps, weights, archives and graphs for SECONDS each (60), guided by coverage
	$(INSTALL) -e '.[fuzz]'
	PYTHONPATH=tests $(BIN)/python -m fuzz --seconds $(or $(SECONDS),60)

openapi: $(DEV) ## Write openapi/openapi.json and openapi/report.schema.json anew
	$(BIN)/auditcore openapi --out openapi

constraints: $(DEV) ## Resolve constraints.txt anew from the ranges in pyproject.toml
	{ sed -n '/^#/p' constraints.txt; $(BIN)/uv pip compile pyproject.toml --quiet --universal --upgrade --extra dev \
		--python-version 3.11 --no-header --no-annotate | grep -v -E '^(nvidia|cuda|triton|auditcore)'; } > constraints.new
	mv constraints.new constraints.txt

locks: $(DEV) ## Write docker/requirements anew: the packages of the images, with hashes, under constraints.txt
	$(BIN)/python docker/lock.py

images: $(DEV) ## Build gateway, worker, worker for the CPU and TorchServe with podman or docker, and list what is in them
	docker/build-images $(IMAGES)

containers: $(DEV) ## Start docker/compose.yaml in real containers, kill them, check their limits; writes containers.md
	OMP_NUM_THREADS=1 $(BIN)/pytest -v -p no:xdist tests/containers/in_containers.py

clean: ## Remove the environment, caches and what the demo wrote
	rm -rf $(VENV) .venv-foreign build dist var docs/_build docs/reference demo-report.json demo-report.html bench.json bench-gpu.json headline.json
	rm -rf stopping.json chaos load containers.json containers.md fuzz-findings
	rm -rf .pytest_cache .ruff_cache .mypy_cache .import_linter_cache .hypothesis
	find src service tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/uv: # uv resolves and installs in seconds what takes pip minutes
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed: make PYTHON=...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt uv

$(DEV): pyproject.toml constraints.txt | $(BIN)/uv
	$(INSTALL) -e '.[dev]'
	touch $(DEV) $(DEMO)

$(DEMO): pyproject.toml constraints.txt | $(BIN)/uv
	$(INSTALL) -e '.[demo]'
	touch $(DEMO)
