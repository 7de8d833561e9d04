# make demo and make test need git, make, gcc, curl and a Python >= 3.12 anywhere; they set up all else in .venv.
# Stamps live in .make/: a target runs again when what it was made from has changed.

SHELL := /bin/sh
# An installed wheel has its bytecode; where an environment forbids it, each command of this tree would compile all of it.
unexport PYTHONDONTWRITEBYTECODE
.DEFAULT_GOAL := help
.PHONY: help setup demo test test-long test-wheel lint bench bench-micro bench-compare bench-report load-test wheel clean debian-packages

BIN      := .venv/bin
PYTHON3  := $(BIN)/python
EXT_SRC  := $(wildcard ext/outrider_ext/*.py ext/outrider_ext/*.pyx ext/outrider_ext/*.pxd ext/outrider_ext/*.pxi)
PKG_SRC  := $(shell find proxy ext policies -type f ! -name '*.so' ! -name '*.c' ! -name '*.pyc' 2>/dev/null)
PIP      := $(PYTHON3) -m pip install -qq --disable-pip-version-check

help:
	@echo "make demo           see it work: mock provider, sidecar, an unmodified app; no key, no network"
	@echo "make test           the suite, then a subset against the installed wheel"
	@echo "make test-long      the tests that take minutes"
	@echo "make lint           ruff, mypy, Cython warnings as errors"
	@echo "make bench          CPU, latency and memory beside nginx and HAProxy (under 3 minutes)"
	@echo "make bench-micro    what one call of each part costs, without sockets"
	@echo "make bench-compare  the last two runs of both beside each other (BASE=REV: with that revision's)"
	@echo "make bench-report   tables and plots of the results to bench/build/report"
	@echo "make load-test      1,000 requests/s of locust's users for a minute, and a verdict (docs/load-testing.md)"
	@echo "make wheel          dist/*.whl and dist/*.tar.gz"
	@echo "make clean          removes what these targets made"

setup: .make/ext

.make/venv: pyproject.toml tools/find-python
	@mkdir -p .make
	@command -v $${CC:-cc} >/dev/null || { echo "No C compiler found; install gcc (Debian: build-essential)." >&2; exit 1; }
	@if ! $(PYTHON3) -c 'import sys; sys.exit(sys.version_info < (3, 12))' 2>/dev/null; then \
		python=$$(tools/find-python) || exit 1; \
		echo "setup: .venv with $$python"; \
		rm -rf .venv && "$$python" -m venv .venv; \
	fi
	@echo "setup: packages"
	@# The build tools stand in the venv, so the editable install and later rebuilds share one compiler cache.
	@$(PIP) "setuptools>=80" "cython>=3.2"
	@$(PIP) --no-build-isolation -e '.[dev,aws,demo]'
	@touch $@

# Editable install: Python sources are live, compiled modules are rebuilt here when theirs changed.
.make/ext: .make/venv setup.py $(EXT_SRC)
	@echo "setup: compiled modules"
	@$(PYTHON3) -W ignore setup.py --quiet build_ext --inplace > .make/ext.log 2>&1 || { cat .make/ext.log; exit 1; }
	@touch $@

debian-packages:
	@tools/debian-packages redis-server iptables ip openssl nginx haproxy fish wget curl

demo: setup
	@$(BIN)/outrider demo

# Half of it waits: for processes, Redis, deadlines; two at a time on two cores. `worksteal` leaves most tests of a module
# with the fixtures that it shares. The main suite runs last, so that its closing line is the last thing said.
test: setup debian-packages test-wheel
	@echo "test: the suite"
	@$(BIN)/pytest -q -m "not long" -n logical --maxprocesses 4 --dist worksteal

test-long: setup debian-packages
	@$(BIN)/pytest -q -m long

wheel: .make/wheel

# sdist first, wheel from that sdist: proves that the sdist holds all that a build needs.
.make/wheel: .make/ext $(PKG_SRC) pyproject.toml setup.py MANIFEST.in README.md LICENSE
	@echo "wheel: building sdist and wheel"
	@rm -rf dist build
	@$(PYTHON3) -m build --no-isolation --outdir dist . > .make/wheel.log 2>&1 || { tail -n 40 .make/wheel.log; exit 1; }
	@ls dist
	@touch $@

.make/wheel-venv/made: .make/wheel
	@test -x .make/wheel-venv/bin/python || $(PYTHON3) -m venv .make/wheel-venv
	@.make/wheel-venv/bin/python -m pip install -qq --disable-pip-version-check pytest dist/*.whl
	@.make/wheel-venv/bin/python -m pip install -qq --disable-pip-version-check --force-reinstall --no-deps dist/*.whl
	@touch $@

# From another folder, with nothing of this tree on the path.
test-wheel: .make/wheel-venv/made
	@echo "test: the installed wheel"
	@root=$$(pwd) && cd / && env -u PYTHONPATH OUTRIDER_INSTALLED=1 "$$root/.make/wheel-venv/bin/python" -m pytest -q \
		-c /dev/null --rootdir "$$root/tests" --noconftest -p no:cacheprovider "$$root/tests/test_installed.py"

lint: setup
	@echo "lint: ruff";   $(BIN)/ruff check . && $(BIN)/ruff format --check .
	@echo "lint: mypy";   $(BIN)/mypy
	@echo "lint: cython"; OUTRIDER_STRICT=1 $(PYTHON3) -W ignore setup.py --version > .make/strict.log 2>&1 \
		|| { cat .make/strict.log; exit 1; }

bench: setup
	@tools/debian-packages nginx haproxy openssl libssl
	@$(PYTHON3) -m bench

bench-micro: setup
	@$(PYTHON3) -m bench.micro

bench-compare: setup
	@$(PYTHON3) -m bench.compare $(if $(BASE),--base $(BASE))

# locust and matplotlib, into .venv and only for those who ask: locust brings gevent.
.make/bench-extra: .make/venv
	@echo "setup: locust, matplotlib"
	@$(PYTHON3) -c 'import tomllib; project = tomllib.load(open("pyproject.toml", "rb"))["project"]; \
		print(*project["optional-dependencies"]["bench"], sep="\n")' > .make/bench-extra.txt
	@$(PIP) -r .make/bench-extra.txt
	@touch $@

load-test: setup .make/bench-extra
	@tools/debian-packages openssl libssl
	@$(PYTHON3) -m bench.loadtest sustained

bench-report: setup .make/bench-extra
	@$(PYTHON3) -m bench.report

clean:
	rm -rf .make .venv build dist outrider.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find proxy ext tests bench -name __pycache__ -type d -prune -exec rm -rf {} +
	rm -f ext/outrider_ext/*.so ext/outrider_ext/*.c
	rm -rf bench/build
