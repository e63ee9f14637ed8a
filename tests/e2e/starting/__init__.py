# SPDX-License-Identifier: Apache-2.0
"""How a cache is served, and how Pods start from it, or as if there were none."""
