"""Aliases where versions of MLflow disagree (mlflow#16734): what search shows, what get shows, what we knew.

An alias that only one of them shows is kept and reported as a problem, which makes the scope partial; it counts as
removed only when both lack it. Model versions take their aliases from their registered models, read in the same pass:
model-versions/search shows none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace

from stocktake.core.errors import SourceError
from stocktake.sources.mlflow_documents import parse_aliases
from stocktake.sources.mlflow_pages import encode
from stocktake.sources.mlflow_values import as_object, decode, text
from stocktake.sources.protocol import Item, Page

#: How many models without aliases are asked about by get, to learn whether search leaves aliases out altogether.
_PROBES = 3


class Aliases:
    """The aliases of one pass. `known` are those published before it."""

    def __init__(self, get: Callable[[str], Item | None], known: Mapping[str, Mapping[str, str]]) -> None:
        self._get = get
        self._known = known
        self._read: dict[str, dict[str, str]] = {}  # model -> alias -> version
        self._probes = _PROBES
        self._distrusted = False

    def models(self, pages: Iterable[Page]) -> Iterator[Page]:
        """Pages of registered models, with aliases that search left out put back."""
        for page in pages:
            items, problems = [], list(page.problems)
            for item in page.items:
                try:
                    items.append(self._model(item, problems))
                except SourceError as exc:
                    items.append(item)
                    problems.append(exc.what)
            yield replace(page, items=items, problems=problems)

    def _model(self, item: Item, problems: list[str]) -> Item:
        model = as_object(decode(item.raw), "registered_model")
        shown = parse_aliases(model)
        doubtful = bool(self._known.get(item.key, {}).keys() - shown.keys()) or self._distrusted
        if not shown and not doubtful and self._probes:
            self._probes -= 1
            doubtful = True
        if doubtful:
            got = self._ask(item.key, problems)
            hidden = {alias: version for alias, version in got.items() if alias not in shown}
            if hidden:
                self._distrusted = self._distrusted or not shown
                problems.append(
                    f"aliases of {item.key} are shown by registered-models/get but not by search: {len(hidden)}"
                )
                shown |= hidden
                item = Item(item.key, encode(model | {"aliases": _listed(shown)}))
        self._read[item.key] = shown
        return item

    def _ask(self, name: str, problems: list[str]) -> Mapping[str, str]:
        try:
            found = self._get(name)
        except SourceError as exc:
            problems.append(f"aliases of {name} could not be asked for: {exc.what}")
            return self._known.get(name, {})
        return parse_aliases(as_object(decode(found.raw), "registered_model")) if found is not None else {}

    def versions(self, pages: Iterable[Page]) -> Iterator[Page]:
        """Pages of model versions, each with the aliases that point to it."""
        for page in pages:
            items, problems = [], list(page.problems)
            for item in page.items:
                try:
                    items.append(self._version(item, problems))
                except SourceError as exc:
                    items.append(item)
                    problems.append(exc.what)
            yield replace(page, items=items, problems=problems)

    def _version(self, item: Item, problems: list[str]) -> Item:
        name, _, number = item.key.rpartition("/")
        aliases = self._read.get(name)
        if aliases is None and name in self._known:
            problems.append(f"aliases of {item.key} are carried forward: its registered model was not read")
        believed = self._known.get(name, {}) if aliases is None else aliases
        pointing = {alias for alias, version in believed.items() if version == number}
        if not pointing and b'"aliases"' not in item.raw:
            return item
        version = as_object(decode(item.raw), "model_version")
        own = version.get("aliases") or []
        shown = {text(alias) or "" for alias in own} if isinstance(own, list) else set()
        if aliases is not None and (only := shown - aliases.keys()):
            problems.append(f"aliases of {item.key} are shown by its version but not by its model: {len(only)}")
        # an alias that the model says points elsewhere has moved between the two searches: the model's word counts
        moved = {alias for alias in shown if aliases is not None and aliases.get(alias, number) != number}
        return Item(item.key, encode(version | {"aliases": sorted((pointing | shown) - moved)}))


def _listed(aliases: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"alias": alias, "version": version} for alias, version in sorted(aliases.items())]
