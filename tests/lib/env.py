# SPDX-License-Identifier: Apache-2.0
"""Where things are. Meson sets the variables; the defaults serve a test started by hand."""

import os
import shutil

SOURCE = os.environ.get("VMIMG_SOURCE") or os.path.dirname(
    os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("VMIMG_BUILD") or os.path.join(SOURCE, "build")
VMIMG = os.environ.get("VMIMG") or os.path.join(BUILD, "vmimg")
CORPUS = os.environ.get("VMIMG_CORPUS") or os.path.join(SOURCE, "..", "shared", "corpus")
# Instrumented builds are slower and larger: time and memory bars are multiplied by this.
SLACK = float(os.environ.get("VMIMG_SLACK", "1"))


def have(*tools):
    """Whether every tool is on PATH (system folders that users' PATHs leave out are looked at too)."""
    return all(find(tool) for tool in tools)


def find(tool):
    return shutil.which(tool) or shutil.which(tool, path="/usr/sbin:/sbin:/usr/local/sbin")
