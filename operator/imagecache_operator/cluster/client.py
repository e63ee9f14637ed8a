# SPDX-License-Identifier: Apache-2.0
"""The real API server, through the official client's configuration, authentication and connection pool.

Plain JSON data goes in and out: the client's thousand generated models would cost memory and start-up time, and the
operator reads a handful of fields. Every call has a time-out, and none is retried here: a pass that fails is made
again as a whole, which is always safe.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import urllib3
import yaml
from kubernetes import client, config

from imagecache_operator import names
from imagecache_operator.cluster.api import RESOURCES, Conflict, Object, Objects, Rejected, Unavailable

TIMEOUT = (5, 20)  # seconds to connect, and between two reads
PAGE = 500
METADATA_PAGE = 50  # of other people's objects, each of which may have 256 KiB of annotations
_APPLY = "application/apply-patch+yaml"  # JSON is YAML, so the body stays JSON
_METADATA = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"
_ONE_METADATA = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"  # of each event of a watch


class Client:
    """An `Api`. Safe to use from several threads at once."""

    def __init__(self, configuration: client.Configuration | None = None, connections: int = 8) -> None:
        """Raises Unavailable where neither a Pod's nor a user's configuration is found, or the latter is broken."""
        if configuration is None:
            configuration = client.Configuration()
            try:
                config.load_incluster_config(client_configuration=configuration)
            except config.ConfigException:
                _load_users_configuration(configuration)
        configuration.retries = False
        configuration.connection_pool_maxsize = connections
        self._api = client.ApiClient(configuration)
        self._api.user_agent = names.PROGRAM

    def get(self, kind: str, name: str, namespace: str | None = None) -> Object | None:
        status, body, _ = self._call("GET", RESOURCES[kind].path(namespace, name))
        return None if status == 404 else _json(body)

    def list(self, kind: str, namespace: str | None = None, selector: str | None = None) -> Objects:
        return self._list(kind, namespace, selector, "application/json")

    def list_metadata(self, kind: str, namespace: str | None = None, selector: str | None = None) -> Objects:
        return self._list(kind, namespace, selector, _METADATA)

    def list_named_metadata(self, kind: str, name: str) -> Objects:
        return self._pages(kind, None, [("fieldSelector", f"metadata.name={name}")], _METADATA)[0]

    def list_versioned(self, kind: str) -> tuple[Objects, str]:
        """All objects of a kind, and the version of the list: `watch` tells what happens after it."""
        return self._pages(kind, None, [], "application/json")

    def list_metadata_versioned(self, kind: str) -> tuple[Objects, str]:
        """The same with nothing but each object's metadata."""
        return self._pages(kind, None, [], _METADATA)

    def watch(self, kind: str, version: str, seconds: int) -> Iterator[tuple[str, Object]]:
        """What happens to a kind after `version`, for so many seconds: (type, object), with the API server's types
        ADDED, MODIFIED, DELETED, BOOKMARK, and ERROR with a Status. Raises a ClusterError like every other call."""
        return self._watch(kind, version, seconds, "application/json", [])

    def watch_metadata(
        self, kind: str, version: str, seconds: int, selector: str | None = None,
    ) -> Iterator[tuple[str, Object]]:
        """The same of those that the label selector finds, with nothing but each object's metadata."""
        more = [("labelSelector", selector)] if selector else []
        return self._watch(kind, version, seconds, _ONE_METADATA, more)

    def _watch(
        self, kind: str, version: str, seconds: int, accept: str, more: Sequence[tuple[str, str]],
    ) -> Iterator[tuple[str, Object]]:
        query = [*more, ("watch", "true"), ("resourceVersion", version), ("allowWatchBookmarks", "true")]
        # The server ends the watch; where it is silent for long after that, the connection is dead.
        timeout = (TIMEOUT[0], seconds + TIMEOUT[1])
        response = self._send(
            "GET", RESOURCES[kind].path(), query=[*query, ("timeoutSeconds", str(seconds))], accept=accept,
            timeout=timeout,
        )
        try:
            if response.status >= 300:
                _raise(int(response.status), response.data or b"", {})
            for line in _lines(response.stream(amt=None, decode_content=False)):
                event = _json(line)
                yield str(event.get("type")), event.get("object") or {}
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise _unreachable(error) from error
        finally:
            response.close()

    def _list(self, kind: str, namespace: str | None, selector: str | None, accept: str) -> Objects:
        return self._pages(kind, namespace, [("labelSelector", selector)] if selector else [], accept)[0]

    def _pages(
        self, kind: str, namespace: str | None, chosen: Sequence[tuple[str, str]], accept: str,
    ) -> tuple[Objects, str]:
        query = [("limit", str(METADATA_PAGE if accept == _METADATA else PAGE)), *chosen]
        items: Objects = []
        token = ""
        while True:
            more = [("continue", token)] if token else []
            _, body, _ = self._call(
                "GET", RESOURCES[kind].path(namespace), query=query + more, missing_is_fine=False, accept=accept,
            )
            page = _json(body)
            found: Objects = page.get("items") or []
            for obj in found if accept == _METADATA else ():
                # The larger part of metadata, and nobody reads it: of ten thousand namespaces, 36 MB of memory.
                obj["metadata"].pop("managedFields", None)
            items += found
            meta = page.get("metadata") or {}
            token = meta.get("continue") or ""
            if not token:
                return items, str(meta.get("resourceVersion") or "")

    def create(self, manifest: Object) -> bool:
        meta = manifest["metadata"]
        status, body, _ = self._call(
            "POST", RESOURCES[manifest["kind"]].path(meta.get("namespace")), manifest, missing_is_fine=False,
            conflict_is_fine=True, query=[("fieldManager", names.FIELD_MANAGER)],
        )
        if status == 409 and _reason(body) != "AlreadyExists":
            raise Conflict(_message(body))
        return status != 409

    def apply(self, manifest: Object) -> None:
        self._apply(manifest, None)

    def apply_status(self, manifest: Object) -> None:
        self._apply(manifest, "status")

    def _apply(self, manifest: Object, subresource: str | None) -> None:
        meta = manifest["metadata"]
        path = RESOURCES[manifest["kind"]].path(meta.get("namespace"), meta["name"], subresource)
        status, body, _ = self._call(
            "PATCH", path, manifest, content_type=_APPLY,
            query=[("fieldManager", names.FIELD_MANAGER), ("force", "true")],
        )
        if status == 404:
            # A status belongs to an object; where that is gone, so is our view of it. For any other object a 404
            # means that its namespace or kind is missing, which somebody has to see to.
            raise Conflict(_message(body)) if subresource else Rejected(_message(body))

    def delete(self, kind: str, name: str, namespace: str | None = None, uid: str | None = None) -> None:
        options: Object = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"}
        if uid:
            options["preconditions"] = {"uid": uid}
        # A conflict is the precondition's: the name is another object's by now.
        self._call("DELETE", RESOURCES[kind].path(namespace, name), options, conflict_is_fine=True)

    def read_log(self, pod: str, namespace: str, container: str, lines: int) -> str:
        status, body, _ = self._call(
            "GET", RESOURCES["Pod"].path(namespace, pod, "log"),
            query=[("container", container), ("tailLines", str(lines)), ("limitBytes", "65536")],
            bad_request_is_fine=True,  # the container has not started yet
        )
        return body.decode("utf-8", "replace") if status == 200 else ""

    def _call(
        self, method: str, path: str, body: Any = None, *, query: Sequence[tuple[str, str]] = (),
        content_type: str = "application/json", accept: str = "application/json", missing_is_fine: bool = True,
        conflict_is_fine: bool = False, bad_request_is_fine: bool = False,
    ) -> tuple[int, bytes, dict[str, str]]:
        response = self._send(method, path, body, query=query, content_type=content_type, accept=accept)
        try:
            # Read to its end, the connection goes back into the pool.
            data = response.read()
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise _unreachable(error) from error
        status, headers = int(response.status), dict(response.headers)
        fine = (
            status < 300 or (status == 404 and missing_is_fine) or (status == 409 and conflict_is_fine)
            or (status == 400 and bad_request_is_fine)
        )
        if not fine:
            _raise(status, data, headers)
        return status, data, headers

    def _send(
        self, method: str, path: str, body: Any = None, *, query: Sequence[tuple[str, str]] = (),
        content_type: str = "application/json", accept: str = "application/json",
        timeout: tuple[int, int] = TIMEOUT,
    ) -> urllib3.BaseHTTPResponse:
        """The answer, whatever its status, with its body unread. Raises Unavailable where there is none."""
        try:
            request = self._api.param_serialize(
                method, path, query_params=[*query], body=body, auth_settings=["BearerToken"],
                header_params={"Accept": accept, "Content-Type": content_type},
            )
            answer: urllib3.BaseHTTPResponse = self._api.call_api(*request, _request_timeout=timeout).response
        except (urllib3.exceptions.HTTPError, client.ApiException, OSError) as error:
            raise _unreachable(error) from error
        return answer


def _load_users_configuration(configuration: client.Configuration) -> None:
    try:
        config.load_kube_config(client_configuration=configuration)
    except config.ConfigException as error:
        raise Unavailable(f"no cluster can be found: {error}") from None
    except (OSError, ValueError, TypeError, AttributeError, LookupError, yaml.YAMLError) as error:
        # What the client makes of a file that is none of its kind.
        raise Unavailable(f"no cluster can be found: the kubeconfig is broken ({type(error).__name__})") from None


def _lines(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The lines of a stream, each as soon as it is complete. A last one that is not is left out."""
    rest = b""
    for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        yield from filter(None, lines)


def _unreachable(error: Exception) -> Unavailable:
    return Unavailable(f"the API server cannot be reached: {type(error).__name__}")


def _raise(status: int, body: bytes, headers: dict[str, str]) -> None:
    if status == 409:
        raise Conflict(_message(body))
    if status in (408, 429) or status >= 500 or status == 401:
        # 401 passes too: a service account token is read again when it is renewed.
        after = next((v for k, v in headers.items() if k.lower() == "retry-after"), "")
        raise Unavailable(
            f"the API server answered {status}: {_message(body)}", float(after) if after.isdigit() else None,
        )
    raise Rejected(_message(body))


def _json(body: bytes) -> Object:
    try:
        found = json.loads(body)
    except ValueError as error:
        raise Unavailable("the API server's answer is not JSON") from error
    if not isinstance(found, dict):
        raise Unavailable("the API server's answer is no object")
    return found


def _message(body: bytes) -> str:
    try:
        return str(json.loads(body).get("message") or "")
    except (ValueError, AttributeError):
        return body[:200].decode("utf-8", "replace")


def _reason(body: bytes) -> str:
    try:
        return str(json.loads(body).get("reason") or "")
    except (ValueError, AttributeError):
        return ""
