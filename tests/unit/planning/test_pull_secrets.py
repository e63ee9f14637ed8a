# SPDX-License-Identifier: Apache-2.0
"""Pull Secrets in the plan: what reaches a builder, for how long, what people are told, and what a change leads to."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from imagecache_operator import names
from imagecache_operator.api.conditions import ConditionReason, ConditionType
from imagecache_operator.api.credentials import Credentials
from imagecache_operator.api.imagecache import AttemptState, Phase, Status
from imagecache_operator.api.reasons import Reason
from imagecache_operator.planning.attempts import LONGEST_DELAY
from imagecache_operator.planning.decision import Plan
from imagecache_operator.planning.observed import AttemptSecret, Observed, PullSecret

from .facts import (
    HOME,
    NOW,
    PASSWORD,
    UID,
    after,
    attempt,
    attempt_of,
    available,
    bad,
    builder,
    cache,
    condition,
    created,
    deleted,
    ended,
    good,
    missing_secret,
    planned,
    pod,
    pull_secret,
    secret,
    seen,
    spec,
    status,
    volume,
)

LATER = NOW + LONGEST_DELAY
USABLE = ConditionType.PULL_SECRETS
MINE = AttemptSecret(names.builder_name(HOME, UID, 1, 1), 1)


def announced(*secrets: PullSecret) -> Observed:
    """An attempt was announced for these Secrets, and its Pod has not been made."""
    first = seen(pull_secrets=secrets)
    return after(first, planned(first))


def made(*secrets: PullSecret) -> Any:
    """What is created for a freshly announced attempt, by kind."""
    return {m["kind"]: m for m in planned(announced(*secrets)).create}


def handed_over(*secrets: PullSecret) -> Credentials:
    """What the builder will read."""
    data = made(*secrets)["Secret"]["data"][names.CREDENTIALS_KEY]
    return Credentials.model_validate_json(base64.b64decode(data))


def test_a_builder_gets_the_credentials_that_its_images_need_and_no_others() -> None:
    needed, other = pull_secret(), pull_secret("team-b:other", match="elsewhere.example")
    assert handed_over(needed, other).entries == needed.credentials
    both = pull_secret("team-b:path", match="registry.example/ml")
    assert handed_over(needed, both).entries == (*needed.credentials, *both.credentials)


def test_the_secret_is_made_before_its_pod_and_mounted_by_it() -> None:
    assert created(planned(announced(pull_secret()))) == [secret(1), pod(1)]
    objects = made(pull_secret())
    pod_spec, (container,) = objects["Pod"]["spec"], objects["Pod"]["spec"]["containers"]
    (source,) = [v["secret"] for v in pod_spec["volumes"] if v["name"] == "credentials"]
    assert source == {"secretName": objects["Secret"]["metadata"]["name"], "defaultMode": 0o440}
    (mount,) = [m for m in container["volumeMounts"] if m["name"] == "credentials"]
    (file,) = [e["value"] for e in container["env"] if e["name"] == names.ENV_CREDENTIALS_FILE]
    assert file == f"{mount['mountPath']}/{names.CREDENTIALS_KEY}"
    assert mount["readOnly"] is True
    assert objects["Secret"]["immutable"] is True
    assert objects["Secret"]["metadata"]["namespace"] == objects["Pod"]["metadata"]["namespace"]


@pytest.mark.parametrize("secrets", [
    (), (missing_secret(),), (pull_secret(match="elsewhere.example"),), (pull_secret(match="registry.example:444"),),
])
def test_without_anything_to_hand_over_there_is_no_secret(secrets: tuple[PullSecret, ...]) -> None:
    objects = made(*secrets)
    assert list(objects) == ["Pod"]
    assert "credentials" not in json.dumps(objects["Pod"])


def test_no_password_is_anywhere_but_in_the_secret() -> None:
    for facts in (
        announced(pull_secret()),
        seen(status(AttemptState.RUNNING), pull_secrets=(pull_secret(),), volume=volume(), builders=(builder(),)),
        seen(status(AttemptState.RUNNING), pull_secrets=(pull_secret(),), volume=volume(),
             builders=(ended(bad(Reason.UNAUTHORIZED, None)),)),
    ):
        done = planned(facts)
        shown = [done.status.model_dump_json(), *(repr(e) for e in done.events), repr(facts)]
        shown += [json.dumps(m) for m in done.create if m["kind"] != "Secret"]
        for hidden in (PASSWORD, base64.b64encode(PASSWORD.encode()).decode()):
            assert not [text for text in shown if hidden in text]


def test_the_secret_goes_when_the_end_of_its_attempt_is_in_status_and_not_before() -> None:
    over = seen(
        status(AttemptState.RUNNING), volume=volume(), builders=(ended(good()),), attempt_secrets=(MINE,),
        pull_secrets=(pull_secret(),),
    )
    first = planned(over)
    assert deleted(first) == []
    assert set(deleted(planned(after(over, first)))) == {pod(1), secret(1)}


@pytest.mark.parametrize("state", [AttemptState.SUCCEEDED, AttemptState.FAILED, AttemptState.LOST])
def test_what_a_crash_left_behind_is_removed(state: AttemptState) -> None:
    facts = seen(status(state), volume=volume(), attempt_secrets=(MINE,))
    assert secret(1) in deleted(planned(facts))


def test_a_deleted_cache_is_not_gone_before_its_secret_is() -> None:
    done = planned(seen(cache(status(AttemptState.RUNNING), deleting=True), attempt_secrets=(MINE,)))
    assert not done.gone
    assert deleted(done) == [secret(1)]
    assert f"Secret {MINE.name}" in (done.status.message or "")
    assert planned(seen(cache(status(AttemptState.RUNNING), deleting=True))).gone


def usable(*secrets: PullSecret, before: Status | None = None) -> Plan:
    listed = spec(building_config={"image_pull_secrets": tuple(s.reference for s in secrets)})
    return planned(seen(cache(before or status(AttemptState.RUNNING), spec=listed), pull_secrets=secrets,
                        volume=volume(), builders=(builder(),)))


def test_a_secret_that_cannot_be_used_is_named_and_stops_nothing() -> None:
    wrong = PullSecret("team-b:x", "2", problem=ConditionReason.SECRET_INVALID, words="is not JSON")
    done = usable(missing_secret(), pull_secret("team-c:good"), wrong)
    told = condition(done, USABLE)
    assert (told.status, told.reason) == ("False", ConditionReason.SECRET_NOT_FOUND)
    assert "Secret team-a:regcred does not exist; Secret team-b:x is not JSON" in told.message
    assert done.status.phase is Phase.CREATING
    (event,) = [e for e in done.events if e.reason == ConditionReason.SECRET_NOT_FOUND]
    assert (event.type, event.message) == ("Warning", told.message)


def test_the_warning_is_given_once_and_again_when_it_is_another() -> None:
    first = usable(missing_secret())
    same = usable(missing_secret(), before=first.status)
    assert [e.reason for e in same.events] == []
    other = PullSecret("team-a:regcred", problem=ConditionReason.SECRET_FORBIDDEN, words="may not be read (no)")
    again = usable(other, before=first.status)
    assert [e.reason for e in again.events] == [ConditionReason.SECRET_FORBIDDEN]
    assert again.events[0].key != first.events[-1].key


def test_secrets_that_can_be_used_are_told_of_too() -> None:
    told = condition(usable(pull_secret()), USABLE)
    assert (told.status, told.reason, told.message) == ("True", ConditionReason.SECRETS_READ, "1 Secret read")
    idle = condition(usable(pull_secret(), pull_secret("team-b:idle", match="elsewhere.example")), USABLE)
    assert (idle.status, idle.message) == ("True", "2 Secrets read; nothing for these images in team-b:idle")


def test_without_listed_secrets_there_is_no_such_condition() -> None:
    assert {c.type for c in planned(seen()).status.conditions} == {"Ready", "Reconciling", "Stalled", "Served"}


def failed(*secrets: PullSecret) -> Any:
    """A cache that failed for want of the right password, with what its attempt was made with in status."""
    start = seen(pull_secrets=secrets)
    number = attempt_of(planned(start)).pull_secrets
    of_attempt = attempt(AttemptState.FAILED, pull_secrets=number, reason="ImageFailed", observed_generation=1)
    return seen(status(phase=Phase.FAILED, attempt=of_attempt), pull_secrets=secrets, volume=volume())


@pytest.mark.parametrize("now", [
    (pull_secret(version="uid/2"),), (pull_secret(version="other/1"),), (missing_secret(),),
    (pull_secret(), pull_secret("team-b:more")),
])
def test_a_change_of_a_listed_secret_asks_for_a_new_attempt(now: tuple[PullSecret, ...]) -> None:
    before = failed(pull_secret())
    assert planned(before, LATER).status.phase is Phase.FAILED
    changed = seen(before.cache, pull_secrets=now, volume=volume())
    # Machines touch Secrets too, and each wrong password brings an account nearer to being locked.
    assert planned(changed, LATER - timedelta(seconds=1)).status.phase is Phase.FAILED
    done = planned(changed, LATER)
    assert (attempt_of(done).number, attempt_of(done).state) == (2, AttemptState.STARTING)
    assert planned(after(changed, done), LATER).status.attempt == attempt_of(done), "and for one only"


def test_a_secret_that_comes_is_a_change() -> None:
    before = failed(missing_secret())
    assert attempt_of(planned(seen(before.cache, pull_secrets=(pull_secret(),), volume=volume()), LATER)).number == 2


def test_what_cannot_be_read_just_now_is_no_change() -> None:
    unknown = PullSecret("team-a:regcred", None, problem=ConditionReason.SECRET_UNAVAILABLE, words="cannot be read now")
    before = failed(pull_secret())
    done = planned(seen(before.cache, pull_secrets=(unknown,), volume=volume()), LATER)
    assert done.status.phase is Phase.FAILED
    assert condition(done, USABLE).reason == ConditionReason.SECRET_UNAVAILABLE


def test_a_change_of_a_secret_skips_no_back_off() -> None:
    lost = attempt(AttemptState.LOST, pull_secrets="older", failures=3, reason="Timeout", observed_generation=1)
    facts = seen(status(attempt=lost), pull_secrets=(pull_secret(),), volume=volume())
    assert attempt_of(planned(facts, NOW + timedelta(seconds=39))).number == 1
    done = planned(facts, NOW + timedelta(seconds=40))
    assert (attempt_of(done).number, attempt_of(done).failures) == (2, 3)


def test_a_secret_that_changes_before_its_pod_is_made_is_handed_over_anew() -> None:
    facts = replace(announced(pull_secret()), attempt_secrets=(MINE,), pull_secrets=(pull_secret(version="uid/2"),))
    done = planned(facts)
    assert (created(done), deleted(done)) == ([], [secret(1)])
    assert attempt_of(done).number == 1
    assert created(planned(replace(after(facts, done), attempt_secrets=()))) == [secret(1), pod(1)]


def test_a_secret_that_a_waiting_pod_has_lost_is_made_again() -> None:
    facts = replace(announced(pull_secret()), builders=(builder(),), volume=volume())
    assert created(planned(facts)) == [secret(1)]
    assert created(planned(replace(facts, attempt_secrets=(MINE,)))) == []


def test_a_complete_cache_does_not_care() -> None:
    facts = seen(available(), volume=volume(), pull_secrets=(pull_secret(version="uid/9"),))
    assert planned(facts, NOW + timedelta(hours=1)).status.phase is Phase.AVAILABLE


@pytest.mark.parametrize(("listed", "words"), [
    (missing_secret(), "Secret team-a:regcred does not exist"),
    (pull_secret(match="elsewhere.example"), "nothing for these images in team-a:regcred"),
    (pull_secret(), ""),
])
def test_a_private_image_that_failed_tells_what_may_be_wrong_with_the_secrets(listed: PullSecret, words: str) -> None:
    facts = seen(
        status(AttemptState.RUNNING), volume=volume(), builders=(ended(bad(None, Reason.UNAUTHORIZED)),),
        pull_secrets=(listed,),
    )
    message = planned(facts).status.message or ""
    assert words in message
    assert ("Secret" in message) is bool(words)
