# `make course` and `make test` are the two commands; both set everything up first. `make help` lists the rest.

PYTHON ?= python3
PROFILE ?= laptop
CHAPTERS ?= notebooks/*.ipynb
BIN := .venv/bin
NBVAL := --nbval --nbval-sanitize-with tests/notebooks/sanitize.cfg --nbval-current-env --nbval-cell-timeout 1800
# Two workers with a thread each; threads that wait for one another on busy cores can be ten times slower.
ONE_THREAD := OMP_NUM_THREADS=1

# Where it is set, every one of some thirty kernels would compile torch's and sympy's sources anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup course test store lab gpu-check clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' Makefile

setup:  ## virtual environment, locked packages, data (at once when done; UV_TORCH_BACKEND=cpu: torch without CUDA)
	@$(PYTHON) tools/bootstrap.py

course: setup  ## run the ten chapters into build/course, with a report (PROFILE=smoke, laptop, gpu)
	$(BIN)/aigc course run --profile $(PROFILE) --out build/course
	@echo "To open the course in JupyterLab: make lab"

test: setup  ## everything that CI runs: style, tests, stored results, every chapter with another seed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(ONE_THREAD) $(BIN)/python -m pytest tests -n 2
	$(ONE_THREAD) $(BIN)/python -m pytest $(NBVAL) notebooks -n 2 --dist loadscope
	$(BIN)/aigc course run --profile smoke --seed 1 --fresh --out build/smoke

store: setup  ## run chapters anew and store their outputs in place (CHAPTERS=notebooks/03*.ipynb)
	cd notebooks && $(ONE_THREAD) ../$(BIN)/jupyter nbconvert --to notebook --execute --inplace \
		--ExecutePreprocessor.record_timing=False $(abspath $(wildcard $(CHAPTERS)))

lab: setup  ## open the course in JupyterLab, at chapter 1
	$(BIN)/jupyter lab notebooks/01_background.ipynb

gpu-check: setup  ## where there is a GPU: its tests, and every recipe in bf16 and compiled beside the CPU
	$(BIN)/aigc gpu-check

clean:  ## remove build/ (executed chapters and reports)
	rm -rf build
