# SPDX-License-Identifier: Apache-2.0
"""How caches come about, or do not, and how they go."""
