# SPDX-License-Identifier: Apache-2.0
"""What the tests share. Import as `from lib import harness, process, …` with tests/ on PYTHONPATH."""
