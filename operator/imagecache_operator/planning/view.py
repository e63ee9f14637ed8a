# SPDX-License-Identifier: Apache-2.0
"""One pass's facts, with what follows from them directly. Only `plan.py` uses it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from imagecache_operator import names
from imagecache_operator.api.credentials import Credentials
from imagecache_operator.api.imagecache import Attempt, AttemptState, ImageStatus, Spec, VolumeStatus
from imagecache_operator.planning import attempts, images, pull_secrets, wording
from imagecache_operator.planning.children import volume
from imagecache_operator.planning.decision import Manifest, ObjectRef
from imagecache_operator.planning.observed import Builder, Observed
from imagecache_operator.settings import Settings


@dataclass(frozen=True)
class View:
    """The facts of one pass with what the questions of `plan.py` all ask of them."""

    observed: Observed
    settings: Settings
    now: datetime

    @property
    def spec(self) -> Spec:
        spec = self.observed.cache.spec
        if spec is None:
            raise AssertionError("asked only after the spec was found valid")
        return spec

    @property
    def builder(self) -> Builder | None:
        """The Pod of the latest attempt."""
        last = self.observed.cache.status.attempt
        return self.observed.builder_of(last.number) if last else None

    @property
    def attempt(self) -> Attempt | None:
        """The latest attempt, after a look at its Pod."""
        last = self.observed.cache.status.attempt
        if last is None:
            return None
        return attempts.followed(last, self.builder, self.settings.builder_start_deadline, self.now)

    @property
    def retry_asked(self) -> bool:
        cache = self.observed.cache
        # An empty value says nothing, and could not be told from "nothing handled yet".
        return bool(cache.retry) and cache.retry != cache.status.handled_retry

    @property
    def images(self) -> tuple[ImageStatus, ...]:
        """The images as the ended builder left them, or as an earlier pass wrote them down."""
        cache = self.observed.cache
        references = cache.spec.images if cache.spec else tuple(i.reference for i in cache.status.images)
        if self.builder is not None and self.builder.outcome is not None:
            # With those that an earlier pass has named: an edit of the list meanwhile does not unsay it.
            named = [i.pull_secret for i in cache.status.images if i.pull_secret]
            listed = cache.spec.pull_secrets if cache.spec else ()
            return images.ended(references, self.builder.outcome, {*listed, *named})
        return cache.status.images or images.waiting(references)

    @property
    def ended_attempts(self) -> tuple[ObjectRef, ...]:
        """Pods and Secrets of attempts whose end is in the status that was read (not in the one about to be
        written), and which may therefore go."""
        last = self.observed.cache.status.attempt
        kept = last.number if last and last.state in (AttemptState.STARTING, AttemptState.RUNNING) else None
        # Those of other attempts go too: there are some where somebody has emptied the status.
        return (
            *(ObjectRef("Pod", b.name) for b in self.observed.builders if not b.deleting and b.attempt != kept),
            *(ObjectRef("Secret", s.name) for s in self.observed.attempt_secrets if s.attempt != kept),
        )

    @property
    def asked_again(self) -> bool:
        """A person wants another attempt: by the annotation, or by an edit of the spec since the last one."""
        last = self.observed.cache.status.attempt
        edited = last is not None and last.observed_generation not in (None, self.observed.cache.generation)
        return self.retry_asked or edited

    @property
    def next_attempt(self) -> Attempt:
        """The attempt after the latest one, for the spec and the Secrets as they are now."""
        return attempts.next_attempt(
            self.attempt, self.observed.cache.generation, self.pull_secrets, fresh=self.asked_again,
            with_secrets=bool(self.spec.pull_secrets),
        )

    def renewed(self, attempt: Attempt) -> Attempt:
        """An announced attempt without its Pod, for the spec and the Secrets as they are now."""
        listed = bool(self.spec.pull_secrets)
        return attempts.renewed(attempt, self.observed.cache.generation, self.pull_secrets, with_secrets=listed)

    @property
    def secrets_changed(self) -> bool:
        """Whether a listed Secret has changed since the last attempt was announced.

        Not a person's wish like the others: Secrets are touched by machines too, some every minute, and each attempt
        with a wrong password brings an account nearer to being locked. So it skips no back-off and forgets no failure.
        """
        last, now = self.observed.cache.status.attempt, self.pull_secrets
        return last is not None and now is not None and last.pull_secrets != now

    @property
    def pull_secrets(self) -> str | None:
        """Which versions of the listed Secrets there are now."""
        return pull_secrets.version(self.observed.pull_secrets)

    @property
    def secrets_hint(self) -> str:
        """What about the listed Secrets may be why an image is private to the builder; empty where nothing is."""
        seen = self.observed.pull_secrets
        _, _, words = pull_secrets.usable(self.spec.images, seen)
        return words if seen and not all(pull_secrets.serves(self.spec.images, secret) for secret in seen) else ""

    @property
    def credentials(self) -> Credentials:
        """What the images need of the listed Secrets."""
        return pull_secrets.needed(self.spec.images, self.observed.pull_secrets)

    @property
    def how_to_retry(self) -> str:
        name = self.observed.cache.name
        return f"kubectl annotate imagecache {name} {names.ANNOTATION_RETRY}=$(date +%s) --overwrite"

    @property
    def left_behind(self) -> bool:
        """Whether something must be gone before the next builder may be made: only one at a time on one volume, and
        nobody who reads it."""
        seen = self.observed
        return bool(seen.builders or seen.server.parts) or (seen.volume is not None and seen.volume.deleting)

    @property
    def named_leftovers(self) -> str:
        """What `left_behind` speaks of, by name: a Pod on a lost node stays until somebody removes Pod or node."""
        seen = self.observed
        volume = [f"volume {seen.volume.name}"] if seen.volume and seen.volume.deleting else []
        server = [f"{part.kind} {part.name}" for part in seen.server.parts]
        return " and ".join([*(f"Pod {builder.name}" for builder in seen.builders), *server, *volume])

    @property
    def size(self) -> str | None:
        """What the layout takes of what is asked for. The builder's Pod may be gone, the spec may have grown since."""
        outcome = self.builder.outcome if self.builder else None
        used = wording.size(outcome.used) if outcome else (self.observed.cache.status.size or "").partition(" of ")[0]
        return f"{used} of {self.spec.image_cache_size} GiB" if used else None

    @property
    def claim_name(self) -> str:
        return names.volume_name(self.observed.home_uid, self.observed.cache.uid)

    def claim(self) -> Manifest:
        return volume.manifest(
            self.observed.cache, self.spec.image_cache_size, self.spec.storage_class_name,
            self.observed.home_uid, self.settings.namespace,
        )

    @property
    def claim_if_different(self) -> tuple[Manifest, ...]:
        """The claim, where it is missing or of another size than the spec says; nothing where it is right."""
        seen = self.observed.volume
        return () if seen is not None and seen.requested == self._wanted_size else (self.claim(),)

    @property
    def volume_unfit(self) -> bool:
        """Whether there is a volume that no attempt can use as it is."""
        seen = self.observed.volume
        return seen is not None and (seen.phase == "Lost" or seen.requested != self._wanted_size)

    @property
    def _wanted_size(self) -> str:
        return volume.requested_size(self.spec.image_cache_size)

    @property
    def named_volume(self) -> VolumeStatus | None:
        """The volume as status names it while the images are not complete on it."""
        return VolumeStatus(name=self.observed.volume.name) if self.observed.volume else None

    @property
    def deletable_volume(self) -> tuple[ObjectRef, ...]:
        """The volume, if it is there and not yet on its way out."""
        seen = self.observed.volume
        if seen is None or seen.deleting:
            return ()
        return (ObjectRef("PersistentVolumeClaim", seen.name, seen.uid),)

    @property
    def all_children(self) -> tuple[ObjectRef, ...]:
        """Everything that can be deleted and is not yet on its way. (Server and warmer are not in question here: they
        go before all else, see `serving.py` and `warming.py`.)"""
        pods = tuple(ObjectRef("Pod", b.name) for b in self.observed.builders if not b.deleting)
        secrets = tuple(ObjectRef("Secret", s.name) for s in self.observed.attempt_secrets)
        return (*pods, *secrets, *self.deletable_volume)

    @property
    def server_parts(self) -> tuple[ObjectRef, ...]:
        """What there is of a server, and is not yet on its way out. Its Pods go with their Deployment."""
        parts = (part for part in self.observed.server.parts if part.kind != "Pod" and not part.deleting)
        return (*self.former_ingress, *(ObjectRef(part.kind, part.name) for part in parts))

    @property
    def former_ingress(self) -> tuple[ObjectRef, ...]:
        """The server's Ingress, where servers had host names and have node ports now. The right to look at it may have
        gone with the setting, so it is known by its Service, and goes before that one is changed. Where it may not be
        deleted, it goes with the cache, which owns it."""
        seen = self.observed
        if self.settings.server_domain or not seen.server.behind_ingress:
            return ()
        return (ObjectRef("Ingress", names.server_name(seen.home_uid, seen.cache.uid), if_allowed=True),)

    @property
    def canary_pods(self) -> tuple[ObjectRef, ...]:
        """The Pods that try the server, as far as they are not yet on their way out."""
        return tuple(ObjectRef("Pod", pod.name) for pod in self.observed.canaries if not pod.deleting)

    @property
    def warmer(self) -> tuple[ObjectRef, ...]:
        """The warmer, if it is there and not yet on its way out, and its credentials. Once it is, nothing has to wait
        for it: its Pods go with it, or with their nodes."""
        seen = self.observed.warmer
        itself = () if seen is None or seen.deleting else (ObjectRef("DaemonSet", seen.name),)
        return (*itself, *(ObjectRef("Secret", secret.name) for secret in self.observed.warmer_secrets))

    @property
    def missing_class(self) -> str:
        """Why nothing will ever make the pending volume; empty where something may."""
        seen = self.observed.volume
        if seen is None or seen.phase != "Pending" or seen.storage_class in self.observed.storage_classes:
            return ""
        there_are = f"there are: {', '.join(self.observed.storage_classes) or 'none'}"
        if seen.storage_class is None:
            return (
                f"The cluster has no default StorageClass, and spec.storageClassName names none ({there_are}). "
                "Make one the default, or create another ImageCache that names one"
            )
        return f"StorageClass {seen.storage_class} does not exist ({there_are}). Create it, or another ImageCache"

    @property
    def counted_images(self) -> str:
        return wording.counted(len(self.spec.images), "image")

    def why_lost(self, attempt: Attempt) -> str:
        """Why that attempt ended without success, as part of a sentence."""
        of_images = attempt.reason == attempts.REASON_IMAGES
        return (images.failure(self.images) if of_images else attempt.message or "unknown").rstrip(".")
