# SPDX-License-Identifier: Apache-2.0
"""From the marks of a builder's report to the names of Secrets in status, and to whose Pods may use the cache."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from imagecache_operator.api.access import NAMESPACE_PATTERN
from imagecache_operator.api.imagecache import PULL_SECRET_PATTERN, AttemptState, Spec
from imagecache_operator.api.reasons import Reason
from imagecache_operator.api.report import ImageOutcome, Outcome, mark_of
from imagecache_operator.planning.access import admitted
from imagecache_operator.planning.decision import Plan
from imagecache_operator.planning.observed import Observed
from imagecache_operator.planning.pull_secrets import UNKNOWN, named

from .facts import CARRIER, DIGEST, GIB, after, cache, ended, planned, seen, spec, status, volume

OURS, OLD, THEIRS = "team-a:regcred", "team-a:old", "team-b:regcred"
SECRETS = st.frozensets(st.from_regex(PULL_SECRET_PATTERN, fullmatch=True), max_size=4)


def listing(*secrets: str) -> Spec:
    return spec(building_config={"image_pull_secrets": secrets} if secrets else None)


def pulled(*marks: str | None, listed: tuple[str, ...] = (OURS, THEIRS)) -> Observed:
    """The builder has ended well, and says with which Secrets it pulled the two images."""
    outcome = Outcome(images=tuple(
        ImageOutcome(digest=DIGEST, carrier=CARRIER, size=GIB, pulled_with=mark) for mark in marks
    ))
    as_read = Outcome.from_termination_message(outcome.to_termination_message())
    return seen(cache(status(AttemptState.RUNNING), spec=listing(*listed)), volume=volume(), builders=(ended(as_read),))


def told(done: Plan) -> list[str | None]:
    return [image.pull_secret for image in done.status.images]


def edited(facts: Observed, *secrets: str) -> Observed:
    return replace(facts, cache=replace(facts.cache, generation=2, spec=listing(*secrets)))


@pytest.mark.parametrize(("used", "listed", "names", "admits"), [
    (((), ()), (), [None, None], "all namespaces"),
    (((OURS,), ()), (OURS, THEIRS), [OURS, None], "1 namespace (team-a)"),
    (((OURS,), (OURS,)), (OURS,), [OURS, OURS], "1 namespace (team-a)"),
    (((OURS,), (OLD,)), (OLD, OURS), [OURS, OLD], "1 namespace (team-a)"),
    (((OURS,), (THEIRS,)), (OURS, THEIRS), [OURS, THEIRS], "nobody"),
    (((OURS, THEIRS), ()), (OURS, THEIRS), [UNKNOWN, None], "nobody"),
    (((OURS, OLD), (OURS,)), (OURS, OLD), [UNKNOWN, OURS], "nobody"),
    (((THEIRS,), ()), (OURS,), [UNKNOWN, None], "nobody"),
    (((THEIRS,), (OURS,)), (OURS,), [UNKNOWN, OURS], "nobody"),
    (((OURS,), ()), (), [UNKNOWN, None], "nobody"),
], ids=str)
def test_status_names_the_secret_and_its_namespace_may_use_the_cache(
    used: tuple[tuple[str, ...], ...], listed: tuple[str, ...], names: list[str | None], admits: str,
) -> None:
    facts = pulled(*map(mark_of, used), listed=listed)
    done = planned(facts)
    assert told(done) == names
    assert admitted(after(facts, done).cache).words == admits


def test_what_was_named_stays_named_whatever_is_edited_afterwards() -> None:
    facts = pulled(mark_of((OURS,)), None)
    named_once = after(facts, planned(facts))
    without = edited(named_once, THEIRS)
    assert without.builders, "its Pod is still there, and with it the mark"
    assert told(planned(without)) == [OURS, None]
    gone = replace(after(without, planned(without)), builders=())
    assert told(planned(gone)) == [OURS, None]
    assert admitted(gone.cache).words == "1 namespace (team-a)"
    assert admitted(edited(gone).cache).words == "1 namespace (team-a)", "no Secret is listed any more"


def test_an_edit_before_it_was_named_leaves_it_to_nobody_for_good() -> None:
    facts = edited(pulled(mark_of((OURS,)), None))
    assert told(planned(facts)) == [UNKNOWN, None]
    back = edited(replace(after(facts, planned(facts)), builders=()), OURS)
    assert told(planned(back)) == [UNKNOWN, None]
    assert admitted(back.cache).nobody


def test_an_image_that_failed_names_none() -> None:
    failed = ImageOutcome(reason=Reason.DENIED, pulled_with=mark_of((OURS,)))
    facts = pulled(None, None)
    facts = replace(facts, builders=(ended(Outcome(images=(failed, failed))),))
    assert told(planned(facts)) == [None, None]


@given(used=SECRETS, listed=SECRETS)
def test_a_mark_becomes_the_one_secret_that_it_is_of_and_is_never_lost(
    used: frozenset[str], listed: frozenset[str],
) -> None:
    found = named(mark_of(used), used | listed)
    assert found == (None if not used else next(iter(used)) if len(used) == 1 else UNKNOWN)
    assert named(mark_of(used), listed - used) == (UNKNOWN if used else None)


@pytest.mark.parametrize("mark", ["", "x", UNKNOWN, "a" * 5000])
def test_a_mark_that_nobody_has_made_is_of_nobody(mark: str) -> None:
    assert named(mark, (OURS,)) == UNKNOWN


def test_no_namespace_can_have_the_name_that_stands_for_nobody() -> None:
    assert not re.fullmatch(NAMESPACE_PATTERN, UNKNOWN)
    assert ":" not in UNKNOWN
