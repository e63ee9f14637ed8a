# SPDX-License-Identifier: Apache-2.0
"""What a builder says fits where the kubelet puts it, and comes back as it was said."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from imagecache_operator.api.imagecache import PULL_SECRET_PATTERN
from imagecache_operator.api.job import BuildJob
from imagecache_operator.api.reasons import TRANSIENT, Reason
from imagecache_operator.api.report import (
    TERMINATION_MESSAGE_LIMIT,
    ImageOutcome,
    ImageProgress,
    ImageState,
    Outcome,
    Progress,
    mark_of,
)
from pydantic import ValidationError

DIGEST = "sha256:" + "f" * 64
DIGESTS = st.binary(min_size=32, max_size=32).map(lambda data: f"sha256:{data.hex()}")
TEXTS = st.text(max_size=900)
SECRETS = st.from_regex(PULL_SECRET_PATTERN, fullmatch=True)
MARKS = st.frozensets(SECRETS, min_size=1, max_size=3).map(mark_of)
IMAGES = st.builds(
    ImageOutcome, reason=st.none() | st.sampled_from(Reason), digest=st.none() | DIGESTS,
    carrier=st.none() | DIGESTS, pulled_with=st.none() | MARKS, size=st.integers(0, 2**63), message=TEXTS,
)
OUTCOMES = st.builds(
    Outcome, images=st.lists(IMAGES, max_size=20).map(tuple), used=st.integers(0, 2**63),
    reason=st.none() | st.sampled_from(Reason), message=TEXTS,
)


@settings(max_examples=200, deadline=None)
@given(OUTCOMES)
def test_every_outcome_fits_and_only_prose_is_cut(outcome: Outcome) -> None:
    text = outcome.to_termination_message()
    assert len(text.encode()) <= TERMINATION_MESSAGE_LIMIT
    back = Outcome.from_termination_message(text)
    assert (back.reason, back.used, back.succeeded) == (outcome.reason, outcome.used, outcome.succeeded)
    assert [i.model_copy(update={"message": ""}) for i in back.images] == [
        i.model_copy(update={"message": ""}) for i in outcome.images
    ]


@pytest.mark.parametrize(("said", "kept"), [
    ({"digest": DIGEST}, 30), ({"digest": DIGEST, "carrier": DIGEST, "pulled_with": "Z4OjHqv2"}, 9),
], ids=["as they fail", "at the worst"])
def test_twenty_images_that_all_say_much_still_fit(said: dict[str, str], kept: int) -> None:
    longest = ImageOutcome(reason=Reason.REGISTRY_UNAVAILABLE, size=2**62, message="é" * 5000, **said)
    text = Outcome(images=(longest,) * 20, message="é" * 5000).to_termination_message()
    assert len(text.encode()) <= TERMINATION_MESSAGE_LIMIT
    back = Outcome.from_termination_message(text).images
    assert all(len(i.message) >= kept for i in back), "each keeps some of its words"
    assert {(i.digest, i.carrier, i.pulled_with) for i in back} == {
        (longest.digest, longest.carrier, longest.pulled_with),
    }


def test_digests_are_short_on_their_way_and_whole_for_everybody() -> None:
    digest = "sha256:" + "0123456789abcdef" * 4
    outcome = Outcome(images=(ImageOutcome(digest=digest, carrier=DIGEST, size=1),))
    text = outcome.to_termination_message()
    assert text == (
        '{"images":[{"d":"ASNFZ4mrze8BI0VniavN7wEjRWeJq83vASNFZ4mrze8","c":"%s8","z":1}]}' % ("_" * 42)
    )
    assert Outcome.from_termination_message(text) == outcome
    assert outcome.images[0].model_dump()["digest"] == digest
    of_an_older_builder = f'{{"images": [{{"d": "{digest}"}}]}}'
    assert Outcome.from_termination_message(of_an_older_builder).images[0].digest == digest


@given(st.frozensets(SECRETS, max_size=4), st.frozensets(SECRETS, max_size=4))
def test_secrets_have_a_short_mark_together_and_none_have_none(some: frozenset[str], others: frozenset[str]) -> None:
    mark = mark_of(some)
    assert (mark is None) == (not some)
    assert mark is None or (len(mark) == 8 and mark.isascii())
    assert (mark == mark_of(others)) == (some == others)


def test_a_mark_is_the_same_in_every_version() -> None:
    """A builder's is read by an operator that was updated meanwhile."""
    assert mark_of(("a:b",)) == "Z4OjHqv2"
    assert mark_of(("/home/ann/\udcff/config.json",)), "a path by hand, of bytes that are no text"


def test_short_words_are_not_cut() -> None:
    outcome = Outcome(images=(ImageOutcome(reason=Reason.DENIED, message="no"),), message="one of one failed")
    assert Outcome.from_termination_message(outcome.to_termination_message()) == outcome


@pytest.mark.parametrize("text", ["", "Killed", "{", "[]", "null", '{"images": 1}', '{"images": [{"r": "NoSuch"}]}'])
def test_what_is_no_outcome_is_refused(text: str) -> None:
    with pytest.raises(ValidationError):
        Outcome.from_termination_message(text)


def test_fields_of_a_newer_builder_are_borne() -> None:
    assert Outcome.from_termination_message('{"images": [{"d": "sha256:1", "new": 1}], "newer": []}').succeeded


@pytest.mark.parametrize(("outcome", "good"), [
    (Outcome(), False),
    (Outcome(images=(ImageOutcome(),)), True),
    (Outcome(images=(ImageOutcome(), ImageOutcome(reason=Reason.DENIED))), False),
    (Outcome(images=(ImageOutcome(),), reason=Reason.CANCELLED), False),
])
def test_success_is_every_image(outcome: Outcome, good: bool) -> None:
    assert outcome.succeeded is good


def test_progress_is_one_short_line() -> None:
    one = ImageProgress(state=ImageState.PULLING, bytes_done=2**40, bytes_total=2**41)
    line = Progress(images=(one,) * 20, bytes_done=2**44, bytes_total=2**45).model_dump_json(by_alias=True)
    assert "\n" not in line
    assert len(line) < 2048
    assert Progress.model_validate_json(line).images[19] == one


def test_a_job_comes_back_as_it_was_written() -> None:
    job = BuildJob(images=("busybox",), platforms=("linux/amd64",), capacity=1, plain_http=("r:5000",))
    assert BuildJob.model_validate_json(job.model_dump_json(by_alias=True, exclude_defaults=True)) == job
    with pytest.raises(ValidationError):
        BuildJob(images=(), platforms=("linux/amd64",), capacity=1)


def test_only_trouble_that_passes_by_itself_is_tried_again() -> None:
    assert {
        Reason.REGISTRY_UNAVAILABLE, Reason.TOO_MANY_REQUESTS, Reason.DNS_FAILED, Reason.TIMEOUT, Reason.CANCELLED,
        Reason.INTERNAL,
    } == TRANSIENT
