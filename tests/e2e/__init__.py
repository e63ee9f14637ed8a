# SPDX-License-Identifier: Apache-2.0
"""A package, so that what its tests share goes before `tests/life` takes the cluster down."""
