# SPDX-License-Identifier: Apache-2.0
"""The running operator: kopf's events wake, one daemon for each ImageCache makes the passes. Decides nothing."""
