# SPDX-License-Identifier: Apache-2.0
"""What users and builders may say: pydantic models only, the single source of the CRD, its defaults and its docs."""
