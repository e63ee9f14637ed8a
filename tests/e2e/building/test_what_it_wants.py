# SPDX-License-Identifier: Apache-2.0
"""The operator asks for nothing that it may not have, whatever happened to it in these tests: the last of them, by its
name."""

from __future__ import annotations

from datetime import UTC, datetime

from tests.support.audit import OPERATOR, AuditLog, refused
from tests.support.kube import Kube

COLLECTED = datetime.now(UTC)  # before the first test ran


def test_nothing_was_refused_for_want_of_a_right(kube: Kube) -> None:
    kube.operator_is_back(kube.kill_operator())  # run alone, it asks for something too
    asked = AuditLog(kube.cluster.audit_log).requests(OPERATOR, COLLECTED)
    assert asked
    assert refused(asked) == []
