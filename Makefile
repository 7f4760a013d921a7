# SPDX-License-Identifier: Apache-2.0
# Drives Meson; `meson setup`, `compile`, `test` and `install` work by themselves as well.
BUILD = build

all: $(BUILD)/build.ninja
	@meson compile -C $(BUILD)

$(BUILD)/build.ninja:
	meson setup $(BUILD)

.PHONY: all
