# The two commands of README: `make demo` and `make test`. Each sets up what it needs with Python 3.11, venv and pip.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
UV_VERSION := 0.13.9
UV := .uv/bin/uv
RUN := .venv/bin/
ARGS ?=
OUT ?= dist
NODE_CLIENTS := tests/clients/node/node_modules/.installed

export UV_PYTHON_DOWNLOADS := never
# Compiled once, when they are installed: a process that may not write beside its libraries would compile them at each start.
export UV_COMPILE_BYTECODE := 1

.PHONY: demo test test-services lint format bench volume rig rig-changed rig-drain rig-syscalls rig-powercut services-start services-stop reference docs docs-serve wheelhouse sbom clean

demo: .venv/.locked  ## a city on this machine: publish, materialise, disclose, verify (ARGS=--once, ARGS=--json)
	@$(RUN)exchange demo $(ARGS)

test: .venv/.locked  ## everything that needs no service, in under five minutes
	$(RUN)pytest $(ARGS)

test-services: .venv/.locked $(NODE_CLIENTS)  ## the suites against real Apache Kafka and PostgreSQL, and the slow ones
	@eval "$$($(RUN)python deploy/local/services.py start --env)" && \
		EXCHANGE_TEST_REQUIRED=1 $(RUN)pytest -m "services or slow" --durations=10 $(ARGS); status=$$?; \
		$(RUN)python deploy/local/services.py stop; exit $$status

lint: .venv/.locked  ## ruff, formatting and mypy, as CI runs them
	$(RUN)ruff check .
	$(RUN)ruff format --check .
	$(RUN)mypy

format: .venv/.locked
	$(RUN)ruff check --fix .
	$(RUN)ruff format .

bench: .venv/.locked  ## side-by-side measurements on Kafka and PostgreSQL; ratios in one run
	@eval "$$($(RUN)python deploy/local/services.py start --env)" && $(RUN)python -m bench $(ARGS); status=$$?; \
		$(RUN)python deploy/local/services.py stop; exit $$status

volume: .venv/.locked  ## a city of 100,000 through all of `exchange up`: time, memory, disk
	@$(RUN)python -m bench.volume $(ARGS)

rig: .venv/.locked  ## kills and other faults for five minutes, held against an oracle (ARGS="--seed 7 --kills 30")
	@$(RUN)python -m rig $(ARGS)

rig-changed: .venv/.locked  ## topics re-created, cut short and widened: alarms, and the way back (ARGS="--kafka --postgres")
	@$(RUN)python -m rig.changed $(ARGS)

rig-drain: .venv/.locked  ## PostgreSQL and Kafka away while records come in: how fast is it caught up? (ARGS="--times 5")
	@$(RUN)python -m rig.drain $(ARGS)

rig-syscalls: .venv/.locked  ## a materialiser, a gateway and the audit log's writer crash at every system call that writes (ARGS="--of audit"); needs strace
	@$(RUN)python -m rig.syscalls $(ARGS)

rig-powercut: .venv/.locked  ## the power goes at every call of the audit log's writer (ARGS="--step 10"); needs strace
	@$(RUN)python -m rig.powercut $(ARGS)

services-start: .venv/.locked  ## Apache Kafka and PostgreSQL on loopback, for trying
	@$(RUN)python deploy/local/services.py start --env --product

services-stop: .venv/.locked
	@$(RUN)python deploy/local/services.py stop

reference: .venv/.locked  ## the pages of docs/ that are made from the code
	@$(RUN)python -m handbook

docs: .venv/.locked  ## docs/ as a site in dist/site, to be served or opened as files; a link that leads nowhere ends it
	@$(RUN)python -m zensical build --clean --strict

docs-serve: .venv/.locked  ## the same on loopback, built again whenever a page changes (ARGS="-a 127.0.0.1:8001")
	@$(RUN)python -m zensical serve $(ARGS)

wheelhouse: $(UV)  ## all wheels of this platform in OUT, to install without a network (docs/installing.md)
	rm -rf $(OUT)/wheelhouse && mkdir -p $(OUT)/wheelhouse
	$(UV) export --quiet --locked --no-dev --no-emit-project --no-annotate -o $(OUT)/wheelhouse/requirements.txt
	.uv/bin/pip download --quiet --disable-pip-version-check --require-hashes --only-binary :all: \
		--dest $(OUT)/wheelhouse -r $(OUT)/wheelhouse/requirements.txt
	$(UV) build --quiet --wheel --out-dir $(OUT)/wheelhouse --python $(PYTHON)

sbom: $(UV)  ## what is shipped, with versions and hashes, as CycloneDX in OUT
	@mkdir -p $(OUT)
	$(UV) export --quiet --locked --no-dev --format cyclonedx1.5 -o $(OUT)/exchange.cdx.json

clean:
	rm -rf .venv .uv .services .cache dist tests/clients/node/node_modules .mypy_cache .ruff_cache .pytest_cache .hypothesis

.venv/.locked: uv.lock pyproject.toml $(UV)
	$(UV) sync --quiet --locked --python $(PYTHON)
	@touch $@

# The registry's clients for Node, which a test runs. Nothing of them is built or run while they are installed.
$(NODE_CLIENTS): tests/clients/node/package-lock.json
	cd tests/clients/node && npm ci --quiet --ignore-scripts --omit=optional --no-audit --no-fund
	@touch $@

$(UV):
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed; make PYTHON=/path/to/python3.11" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .uv
	.uv/bin/pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
