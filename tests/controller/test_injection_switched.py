# SPDX-License-Identifier: Apache-2.0
"""When Pods are injected at all: by the setting, and by the kubelets that there are."""

from __future__ import annotations

from typing import Any

import pytest
from imagecache_operator.cluster.api import Object, Unavailable
from imagecache_operator.controller.injection import Injection

from .webhook_place import DAY, OFF, ON, SETTINGS, Place
from .world import Mortal


def test_the_setting_takes_the_registration_away_and_keeps_the_certificate_right() -> None:
    place = Place()
    place.look()
    assert place.look(OFF) == 1
    assert place.configuration is None
    place.now += 61 * DAY
    assert place.look(OFF) == 1
    assert place.look(OFF) == 0
    assert place.look() == 1
    place.check()


def test_an_older_kubelet_takes_the_registration_away_for_as_long_as_it_is_there(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    place = Place()
    place.look()
    operator = place.operator()
    operator.run_once()
    place.node("node-2", "v1.36.3")
    for _ in range(3):
        operator.run_once()
    assert place.configuration is None
    assert place.look() == 0
    place.memory.remove("Node", "node-2")
    for _ in range(2):
        operator.run_once()
    place.check()
    told = [r.getMessage() for r in caplog.records if r.getMessage().startswith("injection is")]
    assert told[-3:] == [
        "injection is off (IMAGECACHE_INJECTION=auto): the kubelet of node node-2 is v1.36.3, and 1.37 is needed",
        "injection is off (IMAGECACHE_INJECTION=auto): the kubelet of node node-2 is v1.36.3, and 1.37 is needed",
        "injection is on (IMAGECACHE_INJECTION=auto)",
    ], "each operator says it once, and again when it is another"


@pytest.mark.parametrize(("version", "metadata", "registered"), [
    ("v1.35.0", {}, True), ("v1.34.1", {}, False), ("", {}, True),
    ("v1.24.3-vk-N/A", {"labels": {"type": "virtual-kubelet"}}, True),
])
def test_who_asks_for_it_gets_it_where_kubelets_have_image_volumes(
    version: str, metadata: dict[str, Any], registered: bool,
) -> None:
    place = Place()
    place.node("node-2", version, **metadata)
    place.look()
    assert place.configuration is None
    place.look(ON)
    assert (place.configuration is not None) == registered
    place.look()
    assert place.configuration is None


def test_nodes_that_cannot_be_listed_change_nothing() -> None:
    place = Place()
    place.look()

    class Blind(Mortal):
        def list(self, kind: str, namespace: str | None = None, selector: str | None = None) -> list[Object]:
            raise Unavailable("not now")

    with pytest.raises(Unavailable):
        Injection(Blind(place.memory), SETTINGS, lambda: place.now).run_once()
    place.check()
    Injection(Blind(place.memory), OFF, lambda: place.now).run_once()
    assert place.configuration is None, "by the setting alone, whatever the nodes are"
