# SPDX-License-Identifier: Apache-2.0
# Drives Meson; `meson setup`, `compile`, `test` and `install` work by themselves as well.
BUILD = build
IMAGE =
MINUTES = 1
QUICK =

all: $(BUILD)/build.ninja
	@meson compile -C $(BUILD)

$(BUILD)/build.ninja:
	@tools/deps.sh build
	@meson setup $(BUILD)

# A small disk through every format, or the user's own: make demo IMAGE=path
demo:
	@tools/demo.sh "$(BUILD)" "$(IMAGE)"

# Everything that has to hold, on this machine.
check:
	@tools/ci.sh check

# What `make check` takes a part of, in whole: disks started, chains, updates, crash states given to peers
check-long: all
	@meson test -C $(BUILD) --setup long --suite long

# Against qemu-img and cp, in turn: make bench, or make bench QUICK=1 on small disks
bench:
	@tools/deps.sh bench
	@$(MAKE) --no-print-directory all
	@python3 tests/bench/bench.py $(if $(QUICK),--quick)

# New inputs for the parsers: make fuzz MINUTES=10
fuzz:
	@tools/fuzz.sh $(MINUTES)

# Damaged images to qemu-img too: make fuzz-differential MINUTES=10
fuzz-differential: all
	@PYTHONPATH=tests VMIMG_BUILD=$(abspath $(BUILD)) python3 tests/fuzz/differential.py $(MINUTES)

# Which refusals of the parsers no test meets: make coverage (half an hour)
coverage:
	@[ -f build-cov/build.ninja ] || meson setup build-cov -Db_coverage=true --buildtype=debug >/dev/null
	@meson compile -C build-cov >/dev/null
	@find build-cov -name '*.gcda' -delete
	@VMIMG_SLACK=4 meson test -C build-cov --no-rebuild -t 5 $(addprefix --suite ,unit vectors hostile repair inspect \
		format bundle iso cli edit) || true
	@python3 tools/unreached.py build-cov

install: all
	@meson install -C $(BUILD)

clean:
	rm -rf $(BUILD) build-*/

.PHONY: all demo check check-long bench fuzz fuzz-differential coverage install clean
