"""Lists a workspace's kinds from the resource manager, by the plan (azureml_plan), and asks for single assets by key.

What a missing item means is decided nowhere here but in `confirm`: it is absent when the service says so of it, and the
workspace itself answers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import msgspec

from stocktake.core.assets import Kind, Scope, ScopeState
from stocktake.core.errors import SourceError, Trouble
from stocktake.sources import arm_errors
from stocktake.sources.arm import Arm
from stocktake.sources.azureml_absence import says_absent
from stocktake.sources.azureml_keys import item, latest_version, parent_and_name
from stocktake.sources.azureml_plan import (
    BY_KIND,
    CHILDREN,
    STORAGE,
    STORAGE_PARTS,
    WORKSPACE,
    Place,
    Row,
    soft_deleted,
)
from stocktake.sources.http import Answer
from stocktake.sources.protocol import Item, Listing, Page

#: Containers in a row whose versions could not be read, after which the rest would only fail too.
_IN_A_ROW = 5
#: What may be wrong with one container and leaves the others readable.
_ONE_OF_MANY = frozenset({Trouble.NOT_FOUND, Trouble.SHAPE, Trouble.SERVER, Trouble.TRUNCATED, Trouble.DEPENDENCY})
#: A page of items that were asked for one by one: what is on it was so between the first request and the last answer.
_BY_NAME = 20


@dataclass(slots=True)
class Parents:
    """The containers, or endpoints, that a pass has listed."""

    names: dict[str, str | None] = field(default_factory=dict)  # name -> latest version, where there is such a thing
    whole: bool = False  # whether that is all of them
    error: SourceError | None = None  # why not


#: A workspace that is not there, where nobody tells whether it can be brought back: the list of the deleted is not
#: offered here, or not to us.
GONE = "Gone"


def may_be_taken_up(row: Row) -> bool:
    """Whether a listing that was cut can go on later: one list whose names nobody else is asked by, or one for each of
    others. The rest is short."""
    return row.per is not None or (len(row.lists) == 1 and row.kind not in CHILDREN)


class ArmLists:
    """The lists of one workspace."""

    def __init__(self, arm: Arm, place: Place, now: Callable[[], datetime]) -> None:
        self.place = place
        self.storage_id: str | None = None  # known once the workspace was read
        self._arm = arm
        self._now = now
        self._parents: dict[Kind, Parents] = {}

    def parents(self, kind: Kind) -> Parents:
        """What this pass has listed of a kind that others belong to."""
        return self._parents.setdefault(kind, Parents())

    def workspace(self, *, accept: frozenset[int] = frozenset()) -> Answer:
        """The workspace itself."""
        return self._arm.get(self.place.scope, WORKSPACE.version, accept=accept)

    def how_gone(self, answer: Answer) -> str:
        """Tell a workspace that is deleted from one that was never where we look, or that we may not see.

        The resource manager judges rights first: who may not read gets 403, whether the workspace is there or not. So
        ResourceNotFound is said to somebody who may. The group or the subscription not being there is no such word.
        """
        if "ResourceNotFound" not in arm_errors.codes(answer):
            raise arm_errors.explain(answer)
        path = soft_deleted(self.place.subscription)
        where = self.place.scope.casefold()
        name = where.rpartition("/providers/")[2]
        elsewhere = False
        try:
            for page in self._arm.pages(path, "2024-04-01"):
                for raw in page.items:
                    one = str(_named.decode(raw).id).casefold().replace("deletedworkspaces", "workspaces")
                    if one == where:
                        return "SoftDeleted"
                    # A name is unique in its group alone, and this one's group is not told.
                    elsewhere = elsewhere or (one.endswith(name) and "/resourcegroups/" not in one)
        except (SourceError, msgspec.DecodeError):
            return GONE
        return GONE if elsewhere else "Deleted"

    def listing(self, row: Row, start: str | None = None) -> Listing:
        """The scope of a kind that is listed completely, or from where it was cut (of the kinds of which
        `may_be_taken_up` says so)."""
        if row.kind is Kind.STORAGE_ACCOUNT:
            pages = self._storage()
        elif row.per is not None:
            pages = self._of_each(row, self.parents(row.per).names, start)
        else:
            pages = self._listed(row, start)
        return Listing(scope=Scope(kind=row.kind), pages=pages, taken_up=start is not None, below=row.per)

    def some(self, row: Row, parents: Sequence[str]) -> Listing:
        """The scope of what belongs to some parents; nothing is promised about the others."""
        pages = self._each(row, parents)
        return Listing(scope=Scope(kind=row.kind, covers=()), pages=pages, promise=ScopeState.INCREMENTAL)

    def by_name(self, row: Row, names: Sequence[str]) -> Iterator[Page]:
        """Items that are asked for one by one. One that is not there is left out: it was somebody's mistake, or ours.
        One that cannot be read is a problem, and the others are read.

        A body without properties is how the resource manager shows the steps of a pipeline (recorded): no root job.
        """
        failed = 0
        for start in range(0, len(names), _BY_NAME):
            items, problems = list[Item](), list[str]()
            requested, answered, error = self._now(), None, None
            for name in names[start : start + _BY_NAME]:
                try:
                    answer = self._arm.get(self._item_path(row, name), row.version, accept=frozenset({404}))
                    answered = answer.answered_at
                    body = answer.json() if answer.status != 404 else None
                    if isinstance(body, dict) and "properties" in body:
                        items.append(item(row.kind, answer.body))
                    failed = 0
                except SourceError as exc:
                    failed += 1
                    if exc.trouble not in _ONE_OF_MANY or failed == _IN_A_ROW:
                        error = exc
                        break
                    problems.append(f"{row.kind} {name}: {exc.what}")
            yield Page(items=items, requested_at=requested, answered_at=answered or self._now(), problems=problems)
            if error is not None:
                raise error

    def confirm(self, kind: Kind, keys: Sequence[str]) -> Iterator[tuple[str, Item | None]]:
        """Ask for assets by key; what cannot be told is left out. Raises SourceError where asking on is of no use."""
        row = BY_KIND[kind]
        if not row.item and kind is not Kind.STORAGE_ACCOUNT:
            yield from self._confirm_by_list(row, keys)
            return
        alive: bool | None = None
        there = list[str]()
        for key in keys:
            if parent_and_name(kind, key) is None:
                continue
            try:
                found = self._one(row, key)
            except SourceError as exc:
                if exc.trouble not in (Trouble.PERMISSION, Trouble.NOT_FOUND, Trouble.SHAPE):
                    raise
                continue
            if isinstance(found, Item) and row.lists_otherwise:
                there.append(key)
            elif isinstance(found, Item):
                yield key, found
            elif says_absent(kind, found):
                alive = self._alive() if alive is None else alive
                if alive:
                    yield key, None
        if there:
            yield from self._as_listed(row, frozenset(there))

    def _as_listed(self, row: Row, keys: frozenset[str]) -> Iterator[tuple[str, Item | None]]:
        """What is there, as its list shows it: in the words of a GET it would look changed. One that the list does not
        show although it is there is left out: it can only be carried."""
        parents = sorted({(parent_and_name(row.kind, key) or ("", key))[0] for key in keys})
        for parent in parents:
            for page in self._pages(row, self.place.path(row.lists[0], parent=parent)):
                yield from ((one.key, one) for one in page.items if one.key in keys)

    def _item_path(self, row: Row, key: str) -> str:
        parent, name = parent_and_name(row.kind, key) or ("", key)
        return self.place.path(row.item, parent=parent, key=name)

    def _one(self, row: Row, key: str) -> Item | Answer:
        """One item by key, or the 404 that came instead."""
        if row.kind is Kind.STORAGE_ACCOUNT:
            found = [one for page in self._storage() for one in page.items]
            if [one.key for one in found] == [key]:
                return found[0]
            raise SourceError(
                Trouble.NOT_FOUND,
                "the workspace has another storage account now",
                next_step="Nothing needs to be done.",
            )
        answer = self._arm.get(self._item_path(row, key), row.version, accept=frozenset({404}))
        return answer if answer.status == 404 else item(row.kind, answer.body)

    def _alive(self) -> bool:
        """Whether the workspace itself answers: then a 404 is about the asset."""
        try:
            return self.workspace().status == 200
        except SourceError:
            return False

    def _confirm_by_list(self, row: Row, keys: Sequence[str]) -> Iterator[tuple[str, Item | None]]:
        """Kinds that cannot be asked for one by one: the list is read again, and absent is what a whole one lacks."""
        found: dict[str, Item] = {}
        whole = True
        for page in self._listed(row):
            found |= {one.key: one for one in page.items}
            whole = whole and not page.problems
        for key in keys:
            if key in found:
                yield key, found[key]
            elif whole:
                yield key, None

    def _listed(self, row: Row, start: str | None = None) -> Iterator[Page]:
        """Every page of a kind's lists, remembering the names that others are asked for by."""
        cuttable = may_be_taken_up(row)
        parents = self._parents[row.kind] = Parents()
        whole = True
        try:
            for template in row.lists:
                for page in self._pages(row, self.place.path(template), start):
                    if row.kind in CHILDREN:
                        parents.names |= {one.key: latest_version(one.raw) for one in page.items}
                    whole = whole and not page.problems
                    yield page if cuttable else replace(page, onward=None)
        except SourceError as exc:
            parents.error = exc
            raise
        parents.whole = whole

    def _of_each(self, row: Row, names: Iterable[str], start: str | None) -> Iterator[Page]:
        """What belongs to every parent, one after the other in the order of their names, or from `start` on; an error
        at the end where not every parent is known. Then it cannot be taken up either: those that are not known may
        come before the place."""
        assert row.per is not None
        parents = self.parents(row.per)
        due = sorted(name for name in names if start is None or name >= start)
        yield from self._each(row, due, cuttable=parents.whole)
        if not parents.whole:
            raise SourceError(
                parents.error.trouble if parents.error is not None else Trouble.TRUNCATED,
                f"not every {row.per} could be listed, so {row.kind} of the others was not looked at",
                next_step=f"See what is wrong with the scope of {row.per}; the next scan tries again.",
            )

    def _each(self, row: Row, names: Iterable[str], *, cuttable: bool = False) -> Iterator[Page]:
        """What belongs to each of some parents. One that cannot be read is a problem, and the others are read."""
        failed = 0
        for name in names:
            try:
                for page in self._pages(row, self.place.path(row.lists[0], parent=name)):
                    yield replace(page, onward=name if cuttable else None)  # cut in the middle, it is read once more
                failed = 0
            except SourceError as exc:
                failed += 1
                if exc.trouble not in _ONE_OF_MANY or failed == _IN_A_ROW:
                    raise
                yield Page(items=[], requested_at=self._now(), problems=[f"{row.per} {name}: {exc.what}"])

    def _pages(self, row: Row, path: str, start: str | None = None) -> Iterator[Page]:
        for page in self._arm.pages(path, row.version, row.params, start=start):
            items, problems = list[Item](), list(page.problems)
            for raw in page.items:
                try:
                    items.append(item(row.kind, raw))
                except SourceError as exc:
                    problems.append(exc.what)
            yield Page(
                items=items,
                requested_at=page.requested_at,
                answered_at=page.answered_at,
                problems=problems,
                onward=page.onward,
            )

    def _storage(self) -> Iterator[Page]:
        """The storage account that the workspace names, with what lies below it. A part that answers 404 is not set."""
        if self.storage_id is None:
            raise SourceError(
                Trouble.NOT_FOUND,
                "the workspace names no storage account, or could not be read",
                next_step="See what is wrong with the scope of the workspace.",
            )
        account = self._arm.get(self.storage_id, STORAGE.version)
        parts = [b'"account":' + account.body]
        for name, below in STORAGE_PARTS.items():
            answer = self._arm.get(self.storage_id + below, STORAGE.version, accept=frozenset({404}))
            if answer.status != 404:
                answer.require_json()
                parts.append(b'"%s":%s' % (name.encode(), answer.body))
        key = item(Kind.STORAGE_ACCOUNT, account.body).key
        yield Page(
            items=[Item(key, b"{" + b",".join(parts) + b"}")],
            requested_at=account.requested_at,
            answered_at=account.answered_at,
        )


class _Named(msgspec.Struct):
    id: Any = None


_named = msgspec.json.Decoder(_Named)
