# SPDX-License-Identifier: Apache-2.0
"""End to end, on a real cluster: how caches come about (`building`), and how Pods start from them (`starting`)."""
