# SPDX-License-Identifier: Apache-2.0
"""The program of the builder Pod: pulls every image of one attempt onto the volume, verifies every byte, reports.

It knows registries and files and nothing of Kubernetes. `build.py` is the flow; start reading there.
"""
