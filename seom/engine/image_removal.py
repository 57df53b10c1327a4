"""Removing images, with Docker's rules about names, users and force.

By a name: the name goes; the image goes with its last name. By an id: all names of one repository
go with the image; names in several need force. Running containers cannot be forced, stopped ones
can: the image is then hidden but kept for them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from seom.errors import Conflict, SeomError
from seom.images.store import Image, ImageStore
from seom.oci.reference import Reference


class User(Protocol):
    """A container made from an image."""

    @property
    def id(self) -> str:
        """Its id."""
        ...

    @property
    def running(self) -> bool:
        """Whether it has a process."""
        ...


class Publish(Protocol):
    def __call__(self, action: str, image_id: str, name: str) -> None: ...


class DeleteConflict(Conflict):
    """An image cannot be removed; used tells whether that is because of a container."""

    def __init__(self, image_id: str, reason: str, hard: bool, used: bool) -> None:
        how = "cannot be forced" if hard else "must be forced"
        super().__init__(f"conflict: unable to delete {short(image_id)} ({how}) - {reason}")
        self.used = used


@dataclass(frozen=True, slots=True)
class _Blockers:
    """What may stand in the way of a removal."""

    stopped: bool
    names: bool


class Removal:
    """Removes images of a store; returns items like {"Untagged": NAME} and {"Deleted": DIGEST}."""

    def __init__(self, store: ImageStore, users: Callable[[str], Sequence[User]], publish: Publish) -> None:
        self._store = store
        self._users = users
        self._publish = publish

    def remove(self, name: str, force: bool, prune_parents: bool) -> list[dict[str, str]]:
        """Remove by name or id. Raises NotFound, and Conflict with Docker's texts."""
        image_id, reference = self._store.resolve_id(name)
        items: list[dict[str, str]] = []
        names = self._store.references(image_id)
        if reference is not None:
            users = self._users(image_id)
            if not force and users and _in_one_repository(names):
                raise Conflict(
                    f'conflict: unable to remove repository reference "{name}" (must force) - container '
                    f"{short(users[0].id)} is using its referenced image {short(image_id)}"
                )
            self._untag(image_id, reference, items)
            self._untag_lonely_digests(image_id, reference, items)
            if self._store.references(image_id):
                return items
        elif _in_one_repository(names):
            self._check(image_id, _Blockers(stopped=not force, names=False))
            for known in names:
                self._untag(image_id, known, items)
        self._delete(image_id, items, force, prune_parents, quiet=reference is not None)
        return items

    def prune(self, dangling_only: bool, accept: Callable[[Image], bool]) -> list[dict[str, str]]:
        """Remove every image without users (and, if dangling_only, without a tag) that accept() takes."""
        items: list[dict[str, str]] = []
        for image in self._store.all():
            if self._users(image.id) or not accept(image) or (dangling_only and image.repo_tags):
                continue
            names = self._store.references(image.id)
            try:
                for name in names:
                    items += self.remove(name.familiar, force=False, prune_parents=True)
                if not names and self._store.exists(image.id):
                    self._delete(image.id, items, False, True, quiet=False)
            except SeomError:
                continue  # in use after all: it stays
        return items

    def _untag(self, image_id: str, reference: Reference, items: list[dict[str, str]]) -> None:
        self._store.untag(reference)
        items.append({"Untagged": reference.familiar})
        self._publish("untag", image_id, image_id)

    def _untag_lonely_digests(self, image_id: str, removed: Reference, items: list[dict[str, str]]) -> None:
        """With the last tag of a repository, its digests go too."""
        if removed.digest:
            return
        same = [name for name in self._store.references(image_id) if name.repository == removed.repository]
        if all(name.digest for name in same):
            for name in same:
                self._untag(image_id, name, items)

    def _delete(
        self, image_id: str, items: list[dict[str, str]], force: bool, prune_parents: bool, quiet: bool
    ) -> None:
        """Remove the image itself, then the parents that nobody names or needs.

        quiet: a name was removed already, so an image that must stay is no error.
        """
        try:
            self._check(image_id, _Blockers(stopped=not force, names=not force))
        except DeleteConflict as conflict:
            dangling = not self._store.references(image_id) and not self._store.children(image_id)
            if quiet and (not dangling or conflict.used):
                return
            raise
        for name in self._store.references(image_id):
            self._untag(image_id, name, items)
        image = self._store.get(image_id)
        self._store.remove(image_id, keep_for_containers=bool(self._users(image_id)))
        self._publish("delete", image_id, image_id)
        items.append({"Deleted": image_id})
        items += [{"Deleted": chain_id} for chain_id in self._unused_chains(image)]
        if prune_parents and image.parent and self._store.exists(image.parent):
            self._delete(image.parent, items, False, True, quiet=True)

    def _check(self, image_id: str, blockers: _Blockers) -> None:
        """Raise DeleteConflict when the image must stay."""
        if self._store.children(image_id):
            raise DeleteConflict(image_id, "image has dependent child images", hard=True, used=False)
        users = self._users(image_id)
        for user in users:
            if user.running:
                reason = f"image is being used by running container {short(user.id)}"
                raise DeleteConflict(image_id, reason, hard=True, used=True)
        if self._store.is_held(image_id):
            raise DeleteConflict(image_id, "image is being used right now", hard=True, used=True)
        if blockers.names and self._store.references(image_id):
            reason = "image is referenced in multiple repositories"
            raise DeleteConflict(image_id, reason, hard=False, used=False)
        if blockers.stopped and users:
            reason = f"image is being used by stopped container {short(users[0].id)}"
            raise DeleteConflict(image_id, reason, hard=False, used=True)

    def _unused_chains(self, removed: Image) -> list[str]:
        """The layers that went with an image, topmost first, named as Docker names them."""
        lists = self._store.diff_id_lists().values()
        still = {chain for diff_ids in lists for chain in chain_ids(diff_ids)}
        return [chain for chain in reversed(chain_ids(removed.diff_ids)) if chain not in still]


def chain_ids(diff_ids: Sequence[str]) -> list[str]:
    """The ChainID of each layer, lowest first; see the OCI image specification, config.md."""
    chains: list[str] = []
    for diff_id in diff_ids:
        text = f"{chains[-1]} {diff_id}".encode() if chains else b""
        chains.append(f"sha256:{hashlib.sha256(text).hexdigest()}" if text else diff_id)
    return chains


def short(identifier: str) -> str:
    """The twelve digits by which users know an id."""
    return identifier.removeprefix("sha256:")[:12]


def _in_one_repository(names: Sequence[Reference]) -> bool:
    """Whether an image has at most one tag, and all its names are of one repository."""
    tags = [name for name in names if not name.digest]
    return len(tags) <= 1 and len({name.repository for name in names}) <= 1
