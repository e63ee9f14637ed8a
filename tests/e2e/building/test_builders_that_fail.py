# SPDX-License-Identifier: Apache-2.0
"""Builders that end before their time, whatever the images: too little memory, an image that nobody can pull, a proxy
that is not there.

The operator runs as a process here, with settings that make its builders fail.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.support.cutting_proxy import ApiServer, CuttingProxy
from tests.support.kube import NAMESPACE, Cache, Kube, until
from tests.support.operator_process import Installed, OperatorProcess, nobody_in_the_cluster
from tests.support.upstream import Upstream

NO_MEMORY, NO_IMAGE, NO_PROXY = "e2e-out-of-memory", "e2e-no-builder-image", "e2e-no-proxy"
Run = Callable[..., AbstractContextManager[OperatorProcess]]


@pytest.fixture(scope="module")
def operator(kube: Kube, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """An operator with other settings, instead of the cluster's own: `with operator(IMAGECACHE_…=…):`."""
    folder: Path = tmp_path_factory.mktemp("operator")
    _remove_all(kube)  # of a run that was cut off
    with (
        nobody_in_the_cluster(kube),
        CuttingProxy(ApiServer.of(kube.cluster.kubeconfig), lambda moment: False) as proxy,
    ):
        installed = Installed.of(kube)
        yield lambda **settings: installed.running(proxy.url, folder, folder / "operator.log", **settings)
    _remove_all(kube)


def _remove_all(kube: Kube) -> None:
    for name in (NO_MEMORY, NO_IMAGE, NO_PROXY):
        Cache(kube, name).delete()


def lost(cache: Cache, failures: int) -> str:
    """The attempt's own words, once that many have failed."""
    until(lambda: cache.status.get("attempt", {}).get("failures", 0) >= failures, f"{failures} attempts failed", 120,
          lambda: str(cache.status))
    return str(cache.status["attempt"]["message"])


def test_too_little_memory_is_told_and_with_enough_it_goes_on(
    operator: Run, kube: Kube, upstream: Upstream,
) -> None:
    cache = Cache(kube, NO_MEMORY)
    with operator(IMAGECACHE_BUILDER_MEMORY="20Mi"):
        cache.apply([upstream.reference("base/tools:1.0")])
        assert "OOMKilled" in lost(cache, 1)
        assert cache.condition("Ready")["reason"] == "RetryScheduled"
    with operator():
        status = cache.wait_for("Available")
        assert status["attempt"]["number"] >= 2


def test_a_builder_image_that_nobody_can_pull(operator: Run, kube: Kube, upstream: Upstream) -> None:
    cache = Cache(kube, NO_IMAGE)
    settings = {
        "IMAGECACHE_BUILDER_IMAGE": f"{upstream.host}:5000/no/such-builder:1",
        "IMAGECACHE_BUILDER_START_DEADLINE": "12", "IMAGECACHE_MAX_ATTEMPTS": "2",
    }
    with operator(**settings):
        cache.apply([upstream.reference("base/tools:1.0")])
        assert "had not started after 12 seconds" in lost(cache, 1)
        assert "no/such-builder:1" in lost(cache, 1)
        status = cache.wait_for("Failed")
        assert cache.condition("Ready")["reason"] == "AttemptsExhausted"
        assert (status["attempt"]["number"], status["attempt"]["failures"]) == (2, 2)
        assert "imagecache.dev/retry" in status["message"], "what to do"
        until(lambda: not cache.builders(), "the builder Pod is removed", 30)
    with operator():  # a person has corrected the setting, and asks again
        cache.annotate("imagecache.dev/retry=again")
        assert cache.wait_for("Available")["attempt"]["number"] == 3


def test_builders_go_through_the_proxy_that_the_secret_names(operator: Run, kube: Kube, upstream: Upstream) -> None:
    """Through one that nobody answers for, so that whoever went past it would be found out."""
    cache = Cache(kube, NO_PROXY)
    kube.apply({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": NO_PROXY, "namespace": NAMESPACE},
        "stringData": {"HTTPS_PROXY": "http://somebody:proxy-password@127.0.0.1:9"},
    })
    with operator(IMAGECACHE_REGISTRY_PROXY=NO_PROXY, IMAGECACHE_BUILDER_RETRIES="0"):
        cache.apply([upstream.reference("base/tools:1.0")])
        lost(cache, 1)
        assert "Nobody answers at the proxy 127.0.0.1:9" in cache.status["images"][0]["message"]
        assert "proxy-password" not in str(cache.object)
    kube.delete("secret", NO_PROXY)
    with operator(IMAGECACHE_REGISTRY_PROXY=NO_PROXY):
        cache.annotate("imagecache.dev/retry=again")
        cache.wait_for("Available")
