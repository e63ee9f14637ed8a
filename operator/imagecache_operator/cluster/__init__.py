# SPDX-License-Identifier: Apache-2.0
"""The only package that talks to an API server: a small protocol, the official client behind it, and the reading of
what it answers into the frozen facts that `planning` thinks about."""
