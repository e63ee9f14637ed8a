# SPDX-License-Identifier: Apache-2.0
"""Names of children: legal whatever the cache is called, and never the same for two children."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st
from imagecache_operator import names

DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
UIDS = st.uuids().map(str)
WHICH = st.tuples(UIDS, UIDS, st.integers(1, 10**6), st.integers(1, 10**6))


@given(WHICH)
def test_every_name_is_a_dns_label(which: tuple[str, str, int, int]) -> None:
    home, uid, generation, attempt = which
    assert DNS_LABEL.fullmatch(names.volume_name(home, uid))
    assert DNS_LABEL.fullmatch(names.builder_name(home, uid, generation, attempt))
    assert DNS_LABEL.fullmatch(names.warmer_name(home, uid))


@given(WHICH, WHICH)
def test_another_child_has_another_name(one: tuple[str, str, int, int], other: tuple[str, str, int, int]) -> None:
    assert (names.builder_name(*one) == names.builder_name(*other)) is (one == other)
    assert (names.volume_name(*one[:2]) == names.volume_name(*other[:2])) is (one[:2] == other[:2])


@given(WHICH)
def test_the_same_child_has_the_same_name(which: tuple[str, str, int, int]) -> None:
    assert names.builder_name(*which) == names.builder_name(*which)


def test_names_do_not_change_between_versions() -> None:
    """An operator that names children otherwise than the one before it would build again."""
    assert names.volume_name("home", "uid") == "imc-25c0bad639c482fa"
    assert names.builder_name("home", "uid", 1, 12) == "imc-ce462ee31661ac02-builder-12"
    assert names.warmer_name("home", "uid") == "imc-25c0bad639c482fa-warmer"


def test_parts_cannot_run_into_each_other() -> None:
    assert names.volume_name("ab", "c") != names.volume_name("a", "bc")
    assert names.builder_name("h", "u", 1, 11) != names.builder_name("h", "u", 11, 1)


def test_the_attempt_can_be_read_in_a_builders_name() -> None:
    assert names.builder_name("h", "u", 1, 7).endswith("-builder-7")


def test_the_selector_finds_what_the_labels_say() -> None:
    selector = dict(term.split("=") for term in names.managed_selector("home").split(","))
    assert selector.items() <= names.child_labels(names.COMPONENT_VOLUME, "home", "uid").items()
    assert not selector.items() <= names.child_labels(names.COMPONENT_VOLUME, "another home", "uid").items()
