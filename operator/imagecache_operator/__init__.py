# SPDX-License-Identifier: Apache-2.0
"""The ImageCache operator: one program with the subcommands `controller`, `builder` and `crds`."""
