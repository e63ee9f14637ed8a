# SPDX-License-Identifier: Apache-2.0
"""The looks at the webhook's certificate and registration, with an API server in memory: they come to their end from
wherever they begin, whoever is killed, and then write nothing."""

from __future__ import annotations

import base64
from collections.abc import Callable
from datetime import timedelta

import pytest
from imagecache_operator import names
from imagecache_operator.cluster.api import Conflict, Object, Rejected, Unavailable
from imagecache_operator.controller import certificates
from imagecache_operator.controller.injection import CONFIGURATION, Injection
from imagecache_operator.planning.webhook import LOOK_AGAIN, WAITING

from .webhook_place import BEGIN, DAY, SETTINGS, Place
from .world import Killed, Mortal


def test_a_fresh_start_makes_the_certificate_and_registers_the_webhook() -> None:
    place = Place()
    assert place.look() == 2
    place.check()


def test_a_second_look_and_a_second_operator_write_nothing() -> None:
    place = Place()
    place.look()
    assert [place.look(), place.look()] == [0, 0]


def test_nothing_is_intercepted_before_a_pod_of_the_webhook_is_ready() -> None:
    place = Place(ready=0)
    operator = place.operator()
    operator.run_once()
    assert place.secret, "its Pods need the certificate to become ready"
    assert operator.run_once().again_in == WAITING
    assert place.configuration is None
    place.ready(1)
    place.look()
    place.check()


def test_without_its_deployment_nothing_is_intercepted() -> None:
    place = Place()
    place.memory.remove("Deployment", names.WEBHOOK, names.NAMESPACE)
    operator = place.operator()
    operator.run_once()
    assert operator.run_once().again_in == WAITING
    assert place.configuration is None


def revert_bundle(found: Object) -> None:
    for entry in found["webhooks"]:
        entry["clientConfig"]["caBundle"] = ""


def test_a_bundle_that_somebody_has_taken_out_is_put_back() -> None:
    place = Place()
    place.look()
    place.memory.edit(CONFIGURATION, names.WEBHOOK_CONFIGURATION, revert_bundle)
    assert place.look() == 1
    place.check()


def test_a_registration_that_somebody_has_deleted_comes_back() -> None:
    place = Place()
    place.look()
    place.memory.remove(CONFIGURATION, names.WEBHOOK_CONFIGURATION)
    assert place.look() == 1
    place.check()


DAMAGE: dict[str, Callable[[Object], object]] = {
    "certificate": lambda o: o["data"].update({"tls.crt": "bm90aGluZw=="}),
    "its key": lambda o: o["data"].update({"tls.key": ""}),
    "authority": lambda o: o["data"].update({"ca.crt": "bm90aGluZw=="}),
    "its absence": lambda o: o["data"].pop("ca.crt"),
    "authority's key": lambda o: o["data"].pop("ca.key"),
    "two halves": lambda o: o["data"].update({"ca.key": o["data"]["tls.key"]}),
    "everything": lambda o: o.update(data={"tls.crt": "", "tls.key": ""}),
    "no data": lambda o: o.pop("data"),
    "type": lambda o: o.update(type="Opaque"),
    "immutable": lambda o: o.update(immutable=True),
}


@pytest.mark.parametrize("change", DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_secret_is_made_whole(change: Callable[[Object], object]) -> None:
    place = Place()
    place.look()
    place.damage(change)
    assert place.look() > 0
    place.check()
    assert place.look() == 0


def test_a_deleted_secret_is_made_anew_with_an_authority_of_its_own() -> None:
    place = Place()
    place.look()
    before = place.files
    place.memory.remove("Secret", names.WEBHOOK_SECRET, names.NAMESPACE)
    assert place.look() == 2
    place.check()
    assert certificates.authorities(before)[0].pem.encode() not in place.files["ca.crt"]


def test_a_certificate_is_renewed_in_time_and_the_registration_is_left_alone() -> None:
    place = Place()
    place.look()
    before, registered = place.files, place.configuration
    place.now = BEGIN + 59 * DAY
    assert place.look() == 0
    place.now = BEGIN + 60 * DAY
    assert place.look() == 1
    place.check()
    assert place.files["ca.crt"] == before["ca.crt"]
    assert place.files["tls.crt"] != before["tls.crt"]
    assert place.configuration == registered


@pytest.mark.parametrize("later", [90 * DAY, 20 * 365 * DAY])
def test_after_a_long_absence_it_comes_back_by_itself(later: timedelta) -> None:
    place = Place()
    place.look()
    place.now += later
    place.look()
    place.check()
    assert place.look() == 0


def test_at_every_moment_of_a_new_authority_the_api_server_trusts_what_is_served() -> None:
    place = Place()
    place.look()
    place.damage(lambda o: o["data"].pop("ca.key"))
    served = [place.files["tls.crt"]]  # what Pods may serve with: kubelet brings the newest when it likes
    operator = place.operator()
    while operator.run_once().again_in != LOOK_AGAIN:
        if place.files["tls.crt"] not in served:
            served.append(place.files["tls.crt"])
        for certificate in served:
            for entry in place.configuration["webhooks"]:
                bundle = base64.b64decode(entry["clientConfig"]["caBundle"])
                files = {**place.files, "tls.crt": certificate, "ca.crt": bundle}
                assert any(
                    certificates._signed(found, authority)
                    for found in certificates._certificates(files, "tls.crt")
                    for authority in certificates._certificates(files, "ca.crt")
                )
    assert len(served) == 2
    place.check()
    assert len(certificates.authorities(place.files)) == 2
    place.now += 61 * DAY
    place.look()
    assert len(certificates.authorities(place.files)) == 1, "the former one is needed no more"


def test_with_its_namespace_goes_the_registration() -> None:
    place = Place()
    place.look()
    place.memory.delete("Namespace", names.NAMESPACE)
    assert place.configuration is None


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("change", [None, *DAMAGE.values()], ids=["a fresh start", *DAMAGE])
def test_killed_at_any_write_it_goes_on(change: Callable[[Object], object] | None, after: bool) -> None:
    deaths = 0
    while _outlives_its_write(deaths + 1, change, after):
        deaths += 1
    assert deaths > 0


def _outlives_its_write(number: int, change: Callable[[Object], object] | None, after: bool) -> bool:
    """Whether there was a write of that number to be killed at."""
    place = Place()
    if change:
        place.look()
        place.damage(change)
    fatal, place.api.after = place.api.writes + number, after
    place.api.die_at = lambda n: n == fatal
    try:
        place.look()
    except Killed:
        place.look()
        place.check()
        assert place.look() == 0
        return True
    place.check()
    return False


def test_two_operators_that_begin_at_once_agree() -> None:
    place = Place()

    class Late(Mortal):
        """Between its look and its write the other one has done everything."""

        def create(self, manifest: Object) -> bool:
            place.look()
            return super().create(manifest)

    Injection(Late(place.memory), SETTINGS, lambda: place.now).run_once()
    place.check()
    assert place.look() == 0


def test_a_renewal_of_what_another_operator_has_just_renewed_is_refused() -> None:
    place = Place()
    place.look()
    place.now += 61 * DAY

    class Late(Mortal):
        def apply(self, manifest: Object) -> None:
            place.look()
            super().apply(manifest)

    with pytest.raises(Conflict):
        Injection(Late(place.memory), SETTINGS, lambda: place.now).run_once()
    place.check()
    assert place.look() == 0


def test_a_namespace_that_is_not_there_passes() -> None:
    place = Place()
    with pytest.raises(Unavailable, match="nowhere"):
        Injection(place.api, SETTINGS.model_copy(update={"namespace": "nowhere"})).run_once()


def test_what_the_cluster_refuses_is_told() -> None:
    place = Place()
    place.memory.refuse = lambda verb, manifest: "not allowed" if manifest["kind"] == CONFIGURATION else None
    operator = place.operator()
    operator.run_once()
    with pytest.raises(Rejected, match="not allowed"):
        operator.run_once()


def test_no_key_is_in_any_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    place = Place()
    place.look()
    place.damage(DAMAGE["its key"])
    place.look()
    assert "renewed Secret imagecache-webhook-tls" in caplog.text
    assert "-----" not in caplog.text
    assert not [v for v in place.secret["data"].values() if v in caplog.text]
