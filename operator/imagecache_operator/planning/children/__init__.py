# SPDX-License-Identifier: Apache-2.0
"""One module for each kind of child, each with one function that makes its manifest."""
