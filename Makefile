# The front door: `make help` lists what there is. PYTHON chooses the interpreter; each has a virtual environment of
# its own beside the others: make test PYTHON=python3.13

PYTHON ?= python3
# The version, as in 3.13t for a free-threaded one; what its directories of compiled files have in their names, and
# what the names of its extension modules end with.
TAG := $(shell $(PYTHON) -c 'import sys; print("%d.%d%s" % (*sys.version_info[:2], sys.abiflags))')
CACHE_TAG := $(shell $(PYTHON) -c 'import sys; print(sys.implementation.cache_tag)')
SUFFIX := $(shell $(PYTHON) -c 'import sysconfig; print(sysconfig.get_config_var("EXT_SUFFIX"))')
VENV ?= .venv-$(TAG)
BENCH ?= .venv-bench-$(TAG)
AUTOBAHN ?= .venv-autobahn
PYTHON2 ?= python2.7
BIN := $(VENV)/bin
ARGS ?=
ONLY ?=
DURATION ?= 60

# When Cython last made C files, in its directory.
TRANSLATED := build/cython/.translated

HEADERS := $(shell find src -name '*.h')
NATIVE := $(shell find src -name '*.pyx' -o -name '*.pxd') $(HEADERS) setup.py
SOURCES := $(shell find src -name '*.py' -o -name '*.pyi' -o -name 'py.typed')
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

ifeq ($(TAG),)
$(error "$(PYTHON)" does not run: name a Python of 3.11 or newer, as in `make test PYTHON=python3.12`)
endif

.DEFAULT_GOAL := help
.PHONY: help demo test check format bench bench-quick bench-guard docs screenshots dev sanitize fuzz races soak coverage dist
.PHONY: autobahn uvicorn-suite framework-suites bridge-versions model chaos wheels try-wheels cross release clean
.DELETE_ON_ERROR:

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 20

demo: $(VENV)/.native ## a server and both clients talk over ws and wss, and what they said is printed
	$(BIN)/python examples/demo.py

test: $(VENV)/.native $(VENV)/.test peers ## the whole test suite (ARGS="-k frame --runtime uvloop+epoll")
	$(BIN)/python -m $(if $(ARGS),pytest $(ARGS),tests.run)

check: $(VENV)/.native $(VENV)/.check ## formatting, lint, types and English
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/clang-format --dry-run -Werror $(HEADERS)
	PATH="$(abspath $(BIN)):$$PATH" cython-lint src # which runs pycodestyle by its name
	$(BIN)/python tests/english.py
	$(BIN)/mypy

format: $(VENV)/.check ## put the formatting right
	$(BIN)/ruff format
	$(BIN)/ruff check --fix
	$(BIN)/clang-format -i $(HEADERS)

bench: $(BENCH)/.contenders ## measure against the C floor and the other libraries (ONLY=echo,memory)
	$(BENCH)/bin/python bench/run.py $(if $(ONLY),--only $(ONLY)) $(ARGS)

bench-quick: $(BENCH)/.contenders ## a look within three minutes, at fewer libraries; results in bench/build/quick
	$(BENCH)/bin/python bench/run.py --quick --results bench/build/quick $(if $(ONLY),--only $(ONLY)) $(ARGS)

bench-guard: $(VENV)/.native $(VENV)/.test ## count the instructions of a message and compare with bench/baseline.json
	@$(PYTHON) tests/peers/needed.py valgrind
	$(BIN)/python bench/guard.py $(ARGS)

docs: $(VENV)/.native $(VENV)/.docs ## the documentation, in docs/build/html
	$(BIN)/sphinx-build --fail-on-warning --keep-going --fresh-env -b html docs docs/build/html

screenshots: $(VENV)/.native $(VENV)/.test ## take the pictures for the documentation anew; look at them
	@$(PYTHON) tests/peers/needed.py chromium tmux
	PYTHONPATH=. $(BIN)/python docs/screenshots.py $(ARGS)

dev: $(VENV)/.native $(VENV)/.test $(VENV)/.check $(VENV)/.docs peers ## everything that development needs
	@echo 'ready: . $(BIN)/activate'

# AddressSanitizer must be loaded before Python, and sees each of Python's objects only when Python takes them from
# malloc. Python itself leaves memory behind at exit: leaks are found by `make soak`. What is freed is kept back for a
# short while only, since tests bound the memory in use. What AddressSanitizer found is printed last, where it is seen;
# UndefinedBehaviorSanitizer writes to the descriptor of standard error alone, which pytest must not capture. Greenlets,
# which move parts of the stack to the heap and back, look like errors: gevent's programs are left out. uvloop drives the
# same reactor as asyncio: once is enough.
REPORT = build/sanitize/report
SANITIZED = LD_PRELOAD="$$(gcc -print-file-name=libasan.so) $$(gcc -print-file-name=libstdc++.so)" PYTHONMALLOC=malloc \
	ASAN_OPTIONS=detect_leaks=0:abort_on_error=1:quarantine_size_mb=1:thread_local_quarantine_size_kb=64:log_path=$(CURDIR)/$(REPORT) \
	UBSAN_OPTIONS=print_stacktrace=1:log_path=$(CURDIR)/$(REPORT) \
	PYTHONPATH=build/sanitize/src $(BIN)/python

# What the sanitizers found is a failure, whatever the program said of itself.
SHOW_REPORT = || status=$$?; for report in $(REPORT).*; do \
	test -e "$$report" && head -n 60 "$$report" >&2 && status=1; done; exit $${status:-0}

sanitize: build/sanitize/.built-$(TAG) $(VENV)/.test ## the tests of native code with address and undefined-behaviour sanitizers
	@rm -f $(REPORT).*
	$(SANITIZED) -m $(if $(ARGS),pytest $(ARGS),tests.run --native) --capture=sys --hypothesis-profile=bounded \
		--deselect=tests/faces/test_gevent.py -k "not uvloop" $(SHOW_REPORT)

fuzz: build/sanitize/.built-$(TAG) $(VENV)/.test ## throw mutated conversations at both roles, with the sanitizers (DURATION=60)
	@rm -f $(REPORT).*
	$(SANITIZED) tests/fuzz/run.py --seconds $(DURATION) $(ARGS) $(SHOW_REPORT)

# Takes a free-threaded Python that was configured with --with-thread-sanitizer, since it has to see what Python's own locks
# order: CONTRIBUTING.md. Randomly placed memory is more than this sanitizer copes with. Memory is not judged under it, nor
# what CPython does at the end of a process; one test imports what only `test` installs.
races: build/races/.built-$(TAG) $(VENV)/.races ## threads at everything they share, with ThreadSanitizer (PYTHON=/opt/py313tsan/bin/python3)
	PYTHONPATH=build/races/src TSAN_OPTIONS="suppressions=$(CURDIR)/tests/races.supp history_size=4" \
		setarch -R $(BIN)/python -m pytest -s -k "not uvloop and not portable and not memory and not process and not gil" \
		$(or $(ARGS),$(addprefix tests/faces/test_,racing.py threadsafe.py thread_handlers.py))

autobahn: $(VENV)/.native $(AUTOBAHN)/.suite ## the Autobahn testsuite against server and client (ARGS='--cases "3.*"', PYTHON2=python2.7)
	$(BIN)/python tests/interop/autobahn/run.py --wstest $(abspath $(AUTOBAHN))/bin/wstest $(ARGS)

uvicorn-suite: $(VENV)/.native $(VENV)/.test ## uvicorn's own WebSocket tests with lapwing's class, on each of its parsers
	$(call other_suites,uvicorn)

framework-suites: $(VENV)/.native $(VENV)/.test ## Starlette's and FastAPI's own WebSocket tests, over TCP to lapwing
	$(call other_suites,starlette fastapi)

bridge-versions: $(VENV)/.native $(VENV)/.test ## the tests of the bridges with the oldest versions of other servers (ARGS=uvicorn)
	$(BIN)/python tests/interop/versions.py $(ARGS)

# other_suites PROJECTS: the tests of these projects, with lapwing in their place.
ifneq ($(findstring t,$(TAG)),)
other_suites = @echo "left out: not all the packages of these tests support free-threaded builds of Python"
else
define other_suites
	$(BIN)/python -m pip --disable-pip-version-check --quiet install --group other-suites
	$(BIN)/python tests/interop/suites/run.py $(1) $(ARGS)
endef
endif

soak: $(VENV)/.native $(VENV)/.test ## 100,000 connections made and broken, 10,000 at once, 100,000 topics: nothing is left of them
	@$(PYTHON) tests/peers/needed.py redis
	$(BIN)/python tests/soak/run.py $(ARGS)

model: $(VENV)/.native $(VENV)/.test ## 100,000 steps of the hub against its model, in virtual time (ARGS="STEPS SEED ...")
	$(BIN)/python -m tests.hub.model $(ARGS)

chaos: $(VENV)/.native $(VENV)/.test ## hubs of each kind under load and faults, judged by what subscribers got (DURATION=60 ARGS="nats --seed 1")
	@$(PYTHON) tests/peers/needed.py redis
	$(BIN)/python -m tests.chaos.run --seconds $(DURATION) $(ARGS)

# Lines of Cython are named from the directory of their build: the tests run there.
coverage: build/trace/.built-$(TAG) $(VENV)/.coverage peers ## line and branch coverage of the Python and the Cython code
	for each in $$(ls -A); do test -e build/trace/$$each || ln -s ../../$$each build/trace/$$each; done
	cd build/trace && PYTHONPATH=$(CURDIR)/build/trace/src $(abspath $(BIN))/coverage run -m pytest --hypothesis-profile=bounded $(ARGS)
	cd build/trace && $(abspath $(BIN))/coverage report

dist: $(VENV)/.dist ## sdist and wheel in dist/, each installed in a fresh virtual environment and tried
	rm -rf dist
	$(BIN)/python -m build
	PYTHON=$(PYTHON) tests/try-dist dist/*.tar.gz dist/*.whl

wheels: $(VENV)/.dist $(VENV)/.build ## wheels for each Python, glibc 2.17 and musl, x86_64 and aarch64 (ONLY=cp314,musllinux PYTHONS="...")
	PYTHONPATH=. $(BIN)/python -m release.wheels $(if $(ONLY),--only $(ONLY)) $(ARGS)
	PYTHONPATH=. $(BIN)/python -m release.checks

try-wheels: $(VENV)/.dist peers ## install each wheel for this machine without a compiler, and run its tests
	PYTHONPATH=. $(BIN)/python -m release.trying $(if $(ONLY),--only $(ONLY)) $(ARGS)

cross: $(TRANSLATED) $(VENV)/.dist ## compile every module for macOS and Windows; what comes of it is not run
	PYTHONPATH=. $(BIN)/python -m release.cross $(ARGS)

release: $(VENV)/.dist $(VENV)/.build peers ## make a release of HEAD, and say what would be uploaded; uploads nothing
	PYTHONPATH=. $(BIN)/python -m release $(if $(ONLY),--only $(ONLY)) $(ARGS)

clean: ## remove all that was built or installed here
	rm -rf build dist docs/build bench/build .venv-* src/*.egg-info tests/interop/node/node_modules bench/node/node_modules
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage
	find src -name '*.so' -delete
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# --- what the targets above stand on ----------------------------------------------------------------------------

.PHONY: peers
peers: # as root they are installed; otherwise their tests are left out
	@$(PYTHON) tests/peers/needed.py

$(VENV)/.venv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo 'lapwing needs Python 3.11 or newer: make PYTHON=python3.12 ...' >&2; exit 1; }
	@$(PYTHON) -c 'import os, sysconfig as s; os.stat(s.get_path("include") + "/Python.h")' 2>/dev/null || { \
		echo 'the headers of $(PYTHON) are missing (on Debian: apt-get install python3-dev)' >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --upgrade 'pip>=25.1'
	@touch $@

# Not all that the tests use can be had for free-threaded builds; for 3.13t newer releases of this one cannot.
GROUP_test := $(if $(findstring t,$(TAG)),test-free-threaded)
CONSTRAINT_3.13t := "hypothesis<6.151"

$(VENV)/.%: pyproject.toml | $(VENV)/.venv
	$(PIP) install --group $(or $(GROUP_$*),$*) $(CONSTRAINT_$(TAG))
	@touch $@

# What has to be built again is decided here and removed: setuptools and Cython do not see a change of directives, nor one
# during a build, which is also why a stamp has the time of the build's beginning.
#
# The C files that Cython makes are the same for every Python and for both sanitizers.
$(TRANSLATED): $(NATIVE) | $(VENV)/.build
	@mkdir -p $(@D) && touch $@.begun
	@rm -rf $(if $(filter %.pxd %.h setup.py,$?),$(@D)/src,$(patsubst %.pyx,$(@D)/%.c,$(filter %.pyx,$?)))
	$(BIN)/python setup.py --quiet --name >/dev/null
	@mv $@.begun $@

# The extensions, built in place for an editable installation, again when a native file has changed.
$(VENV)/.native: $(NATIVE) $(TRANSLATED) | $(VENV)/.editable
	@touch $@.begun
	@rm -rf $(if $(filter %.pxd %.h setup.py,$?),build/default/*-$(CACHE_TAG)*,$(call outdated,build/default))
	LAPWING_TRANSLATED=1 $(BIN)/python setup.py --quiet build_ext --inplace
	@mv $@.begun $@

$(VENV)/.editable: pyproject.toml | $(VENV)/.build
	LAPWING_NATIVE=0 $(PIP) install --no-build-isolation --editable .
	@touch $@

# outdated DIRECTORY: what was made there of the changed .pyx files.
outdated = $(patsubst src/%.pyx,$1/lib*/%$(SUFFIX),$(filter %.pyx,$?))

# A build for another purpose is made in a copy of the sources, and comes before the ordinary one on PYTHONPATH.
SWITCH_sanitize := LAPWING_TRANSLATED=1 LAPWING_SANITIZE=1
SWITCH_trace := LAPWING_TRACE=1
SWITCH_races := LAPWING_TRANSLATED=1 LAPWING_SANITIZE=thread
build/%/.built-$(TAG): $(NATIVE) $(SOURCES) | $(VENV)/.native
	@rm -rf $(if $(filter %.pxd %.h setup.py,$?),build/$*,$(call outdated,build/$*/build/$*))
	@mkdir -p build/$*/build && touch $@.begun
	@cp -a build/cython build/$*/build/
	tar -c --exclude='*.so' --exclude=__pycache__ src setup.py pyproject.toml README.md LICENSE | tar -x -C build/$*
	cd build/$* && $(SWITCH_$*) $(abspath $(BIN))/python setup.py --quiet build_ext --inplace
	@mv $@.begun $@

# The suite runs on Python 2.7 alone, for which virtualenv stopped making environments.
$(AUTOBAHN)/.suite:
	$(PYTHON) -m venv $(AUTOBAHN)-maker
	$(AUTOBAHN)-maker/bin/python -m pip --disable-pip-version-check --quiet install 'virtualenv<20.22'
	$(AUTOBAHN)-maker/bin/virtualenv --quiet --python=$(PYTHON2) $(AUTOBAHN)
	$(AUTOBAHN)/bin/python -m pip --disable-pip-version-check --quiet install autobahntestsuite==25.10.1
	@touch $@

# The other libraries live in an environment of their own, at pinned versions, with lapwing as it is built here. `ws` comes
# along where Node.js is installed.
$(BENCH)/.contenders: pyproject.toml bench/requirements.txt bench/node/package-lock.json | $(VENV)/.native
	$(PYTHON) -m venv $(BENCH)
	$(BENCH)/bin/python -m pip --disable-pip-version-check --quiet install --upgrade 'pip>=25.1'
	$(BENCH)/bin/python -m pip --disable-pip-version-check --quiet install -r bench/requirements.txt 'setuptools>=77.0.3' 'Cython>=3.1.0'
	LAPWING_NATIVE=0 $(BENCH)/bin/python -m pip --disable-pip-version-check --quiet install --no-build-isolation --editable .
	if command -v npm >/dev/null; then npm ci --prefix bench/node --ignore-scripts --silent; fi
	@touch $@
