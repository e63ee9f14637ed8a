# SPDX-License-Identifier: Apache-2.0
"""A package, so that its two caches live as long as its tests and no longer."""
