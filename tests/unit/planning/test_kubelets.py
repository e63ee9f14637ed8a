# SPDX-License-Identifier: Apache-2.0
"""What is done on which kubelets: versions as distributions write them, and the words for the one that is too old."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from imagecache_operator.planning.kubelets import Version, version, why_not_at_all, why_not_by_default, why_not_private
from imagecache_operator.planning.observed import Kubelet

NEW = Kubelet("v1.37.2", "node-1")


@pytest.mark.parametrize(("text", "expected"), [
    ("v1.37.2", (1, 37)), ("1.37.2", (1, 37)), ("v1.30.4-eks-a737599", (1, 30)), ("v1.33.5+k3s1", (1, 33)),
    ("v1.32.6-gke.1060000", (1, 32)), ("v1.31.13+rke2r1", (1, 31)), ("v1.28.15-r2-28.0.24.4", (1, 28)),
    ("v1.37", (1, 37)), ("v2.0.0", (2, 0)), ("v1.100.0", (1, 100)), ("v1.24.3-vk-N/A", (1, 24)),
    ("v1.37.0-rc.1", (1, 37)), ("v1.37.0-alpha.2.123+0a1b2c", (1, 36)), ("v1.37.0-beta.0", (1, 36)),
    ("v1.37.0-betatron.1", (1, 37)),
    ("", None), ("v", None), ("v1", None), ("1.x", None), ("N/A", None), ("latest", None), ("v1.12345.0", None),
    ("v\uff11.37.0", None), (" v1.37.0", None), ("kubelet v1.37.0", None),
])
def test_versions_as_kubelets_write_them(text: str, expected: Version | None) -> None:
    assert version(text) == expected


@given(st.text() | st.from_regex(r"v?[0-9]{0,3}\.[0-9]{0,3}.*"))
def test_any_text_is_a_version_or_none(text: str) -> None:
    found = version(text)
    if found is not None:
        assert text.removeprefix("v").startswith(f"{text.removeprefix('v').partition('.')[0]}.")
        assert int(text.removeprefix("v").partition(".")[0]) == found[0]
    assert [bool(why([Kubelet(text, "n")])) for why in (why_not_private, why_not_by_default)] == [
        found is None or found < (1, 35), found is None or found < (1, 37),
    ]


@pytest.mark.parametrize(("text", "private", "by_default", "at_all"), [
    ("v1.37.0", True, True, True),
    ("v1.38.0-alpha.0", True, True, True),
    ("v1.36.9+k3s1", True, False, True),
    ("v1.35.0", True, False, True),
    ("v1.35.0-beta.1", False, False, False),
    ("v1.34.99", False, False, False),
    ("v1.9.0", False, False, False),
    ("who knows", False, False, True),
])
def test_one_kubelet_that_is_too_old_is_enough(text: str, private: bool, by_default: bool, at_all: bool) -> None:
    for kubelets in ([NEW, Kubelet(text, "node-2")], [Kubelet(text, "node-2"), NEW], [Kubelet(text, "node-2")]):
        words = why_not_private(kubelets), why_not_by_default(kubelets), why_not_at_all(kubelets)
        assert [not said for said in words] == [private, by_default, at_all]
        assert all("node-2" in said for said in words if said)


@pytest.mark.parametrize("text", ["v1.24.3-vk-N/A", "v1.99.0", ""])
def test_a_virtual_node_is_nothing_to_inject_for_by_default_and_never_takes_from_a_cache(text: str) -> None:
    kubelets = [NEW, Kubelet(text, "burst", virtual=True)]
    assert why_not_by_default(kubelets) == "node burst is virtual, and may take no Pod with an image volume"
    assert (why_not_private(kubelets), why_not_at_all(kubelets)) == ("", "")


def test_the_oldest_is_named() -> None:
    kubelets = [Kubelet("v1.36.0", "c"), Kubelet("v1.9.1", "b"), NEW, Kubelet("v1.35.1", "a")]
    assert why_not_by_default(kubelets) == "the kubelet of node b is v1.9.1, and 1.37 is needed"
    assert why_not_private(kubelets) == "the kubelet of node b is v1.9.1, and 1.35 is needed"
    assert why_not_at_all(kubelets) == "the kubelet of node b is v1.9.1, and 1.35 is needed"


def test_what_cannot_be_read_is_not_repeated() -> None:
    words = why_not_private([Kubelet("\x1b[31m", "a"), NEW])
    assert words == "the kubelet of node a names no version that can be read, and 1.35 is needed"
    assert why_not_private([Kubelet("v1.9\x1b[31m" + "x" * 500, "a")]).isprintable()


def test_before_there_are_nodes_nothing_is_known() -> None:
    assert why_not_by_default([]) == why_not_private([]) == "the cluster has no nodes yet"
    assert why_not_at_all([]) == ""
