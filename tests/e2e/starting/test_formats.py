# SPDX-License-Identifier: Apache-2.0
"""The other forms of `storedAs`, as test_available.py does it for plain tars: made by a builder Pod, judged by tools
that are not ours, started by real kubelets from a plain registry, and by Pods that ask for them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from imagecache_operator.api.reference import parse

from tests.support import volume_server
from tests.support.kube import NAMESPACE, Cache, Kube, until
from tests.support.starts import Starts, images_of, volumes
from tests.support.upstream import Upstream
from tests.support.volume_server import VolumeServer, config_and_diff_ids

FORMS = ("Original", "Zstd")


@pytest.fixture(scope="module")
def references(upstream: Upstream) -> dict[str, str]:
    return {name: upstream.reference(name) for name in upstream.images}


@pytest.fixture(scope="module")
def caches(kube: Kube, references: dict[str, str]) -> Iterator[dict[str, Cache]]:
    made = {form: Cache(kube, f"e2e-{form.lower()}") for form in FORMS}
    for form, cache in made.items():
        cache.apply(references.values(), {"storedAs": form})
    try:
        for cache in made.values():
            cache.wait_for("Available")
        yield made
    finally:
        volume_server.remove_all(kube)
        for cache in made.values():
            cache.delete()


@pytest.fixture(scope="module", params=FORMS)
def form(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def server(caches: dict[str, Cache], form: str) -> VolumeServer:
    volume_server.check(caches[form])
    return volume_server.serve(caches[form])


def test_skopeo_agrees_on_config_and_layers(
    server: VolumeServer, upstream: Upstream, references: dict[str, str],
) -> None:
    with server.from_host() as address:
        for name, reference in references.items():
            stored, image = parse(reference), upstream.images[name]
            found = config_and_diff_ids(
                f"{address}/{stored.stored_repository}", f":{stored.stored_tag}", "--tls-verify=false",
            )
            assert found == (image.own.config.digest, list(image.own.diff_ids)), name


def test_an_original_is_found_by_its_own_digest(
    server: VolumeServer, form: str, upstream: Upstream, references: dict[str, str],
) -> None:
    """What a Pod pins and a signature signs."""
    with server.from_host() as address:
        for name, reference in references.items():
            repository, digest = parse(reference).stored_repository, upstream.digest(name)
            if form == "Original":
                config_and_diff_ids(f"{address}/{repository}", f"@{digest}", "--tls-verify=false")
            else:
                with pytest.raises(AssertionError, match="manifest unknown"):
                    config_and_diff_ids(f"{address}/{repository}", f"@{digest}", "--tls-verify=false")


def test_kubelets_start_a_pod_from_each_image(
    server: VolumeServer, form: str, kube: Kube, references: dict[str, str],
) -> None:
    started = {f"e2e-{form.lower()}-{number}": reference for number, reference in enumerate(references.values())}
    for number, (name, reference) in enumerate(started.items()):
        server.start_pod(name, reference, kube.cluster.nodes[number % 2])
    # They would keep the layers on the nodes, which are to be cold for others. By force they would be gone for the API
    # server, while a node may take 40 s more.
    kube.cluster.kubectl("-n", NAMESPACE, "delete", "pods", *started, "--grace-period=1")


def test_a_cold_node_takes_layers_from_the_cache_alone(
    form: str, caches: dict[str, Cache], starts: Starts, upstream: Upstream,
) -> None:
    """As test_start_from_cache.py does it for plain tars: one image of gzip, one of zstd."""
    cache, images = caches[form], ("team/app:2.1", "team/web:zstd")
    cache.wait_until_served()
    until(lambda: starts.would_be_injected(starts.reference(images[0]), cache.name), "the webhook knows it", 30)
    starts.forget(*images)
    before = starts.logged()
    started = starts.start(f"cold-{form.lower()}", *map(starts.reference, images), ask=cache.name)
    assert len(volumes(started)) == 2
    assert starts.layers_asked(before, *images) == set()
    assert [image_id.partition("@")[2] for _, image_id in images_of(started)] == [*map(upstream.digest, images)]
