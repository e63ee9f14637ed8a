# SPDX-License-Identifier: Apache-2.0
"""The thinking: from what is seen to what is to be done. Pure: no I/O, no clock, no client, no kopf."""
