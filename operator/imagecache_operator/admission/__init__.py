# SPDX-License-Identifier: Apache-2.0
"""The webhook: what the API server asks before it takes a Pod. A program and a Deployment of its own, so that Pods
start no slower because the operator is busy."""
