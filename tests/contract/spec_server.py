# SPDX-License-Identifier: Apache-2.0
"""What a real API server thinks of a spec, by dry runs. `test_spec_documents.py` and `test_spec_edits.py` ask.

The kind is ImageCache's double, so that no operator answers.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from imagecache_operator.cluster.api import RESOURCES, Api
from kubernetes import client, config

from tests.cluster import Cluster
from tests.conformance.stages import DOUBLE, GROUP, RealStage, define_double, double_resource


@dataclass(frozen=True)
class Answer:
    """Why it refused, which is empty where it did not; then `spec` is what it would have stored."""

    refusal: str
    spec: Any = None

    @property
    def taken(self) -> bool:
        return self.refusal == ""


class Server:
    """Asks a real API server. Unknown fields are refused, as kubectl asks for, unless `strict` is False."""

    def __init__(self, cluster: Cluster, api: Api) -> None:
        configuration = client.Configuration()
        config.load_kube_config(str(cluster.kubeconfig), client_configuration=configuration)
        self._client = client.ApiClient(configuration)
        self._api = api

    def creation(self, spec: Any, name: str = "a-name", strict: bool = True) -> Answer:
        """What it says to a new object."""
        return self._ask("POST", double_resource().path(), {"metadata": {"name": name}, "spec": spec}, strict)

    def edit(self, before: Any, spec: Any) -> Answer:
        """What it says to another spec of an object that is there."""
        meta = {k: before["metadata"][k] for k in ("name", "uid", "resourceVersion")}
        return self._ask("PUT", double_resource().path(name=meta["name"]), {"metadata": meta, "spec": spec}, True)

    def created(self, name: str, spec: Any) -> Any:
        """An object that is really there, until the server is left."""
        self._api.create({"apiVersion": f"{GROUP}/v1alpha1", "kind": DOUBLE, "metadata": {"name": name}, "spec": spec})
        return self._api.get(DOUBLE, name)

    def _ask(self, method: str, path: str, document: Any, strict: bool) -> Answer:
        request = self._client.param_serialize(
            method, path, query_params=[("dryRun", "All"), ("fieldValidation", "Strict" if strict else "Ignore")],
            body={"apiVersion": f"{GROUP}/v1alpha1", "kind": DOUBLE, **document}, auth_settings=["BearerToken"],
            header_params={"Accept": "application/json", "Content-Type": "application/json"},
        )
        response = self._client.call_api(*request, _request_timeout=(5, 20))
        answer = json.loads(response.read())
        assert response.status in (200, 201, 400, 422), answer
        return Answer("", answer["spec"]) if response.status < 300 else Answer(str(answer["message"]))


@contextlib.contextmanager
def double_server(cluster: Cluster) -> Iterator[Server]:
    """The cluster's API server, which knows the double until the block ends."""
    define_double()
    try:
        stage = RealStage(cluster)
        try:
            yield Server(cluster, stage.api)
        finally:
            stage.close()
    finally:
        del RESOURCES[DOUBLE]
