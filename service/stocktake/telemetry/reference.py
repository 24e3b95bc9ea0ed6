"""Writes the table of docs/metrics.md from the catalogue, with the names each receiver shows."""

from __future__ import annotations

from collections.abc import Iterator

from opentelemetry.exporter.prometheus._mapping import map_unit, sanitize_full_name

from stocktake.telemetry.instruments import ATTRIBUTES, CATALOGUE, Declaration, Instrument

_COUNTERS = (Instrument.COUNTER, Instrument.OBSERVABLE_COUNTER)


def prometheus_name(declaration: Declaration) -> str:
    """The name in Prometheus: dots become underscores, the unit and `_total` are appended, `{thing}` is dropped."""
    name = sanitize_full_name(declaration.name)
    unit = map_unit(declaration.unit)
    if unit and not name.endswith(f"_{unit}"):
        name = f"{name}_{unit}"
    return f"{name}_total" if declaration.instrument in _COUNTERS else name


def samples(declaration: Declaration) -> tuple[str, ...]:
    """The names of the samples a scrape holds."""
    name = prometheus_name(declaration)
    if declaration.instrument is Instrument.HISTOGRAM:
        return (f"{name}_bucket", f"{name}_sum", f"{name}_count")
    return (name,)


def rows() -> Iterator[str]:
    """The instruments, a row each."""
    yield "| Name (OTLP, Azure Monitor) | Prometheus | Kind | Unit | Attributes | What it tells |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for one in CATALOGUE:
        attributes = ", ".join(f"`{name}`" for name in one.attributes) or "none"
        yield (
            f"| `{one.name}` | `{prometheus_name(one)}` | {one.instrument} | `{one.unit}` | {attributes} "
            f"| {one.description} |"
        )


def attribute_rows() -> Iterator[str]:
    """The attributes, a row each."""
    yield "| Attribute | Meaning | Values |"
    yield "| --- | --- | --- |"
    for one in ATTRIBUTES.values():
        values = "not a closed list" if one.values is None else ", ".join(f"`{value}`" for value in sorted(one.values))
        yield f"| `{one.name}` | {one.meaning} | {values} |"


def page() -> str:
    """Both tables, as they stand between the markers of docs/metrics.md."""
    return "\n".join(["## Instruments", "", *rows(), "", "## Attributes", "", *attribute_rows(), ""])
