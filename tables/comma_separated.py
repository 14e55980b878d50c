"""A Report as CSV."""

import csv
import io
from typing import Any

from metrics import METRICS
from tables.rows import Report, Row, Table

PLACE = ("dataset", "scale", "protocol", "kind", "method", "reduced", "reasons", "source")
# What begins so is computed by spreadsheets.
FORMULAS = ("=", "+", "@", "-", "\t", "\r")
FACTS = ("scenes", "seeds", "iterations", "training_seconds", "parameters", "device", "results")


def comma_separated(report: Report) -> str:
    """Every row of every table, ours and published, as CSV with numbers in full.

    `reduced` is 1 or 0; difference_* is ours less published, empty where the two are not comparable.
    """
    numbers = [f"{kind}{metric}" for kind in ("", "spread_", "published_", "difference_") for metric in METRICS]
    text = io.StringIO()
    writer = csv.DictWriter(text, [*PLACE, *numbers, *FACTS], lineterminator="\n")
    writer.writeheader()
    for table in report.tables:
        writer.writerows(_harmless(_ours(row, table, report)) for row in table.rows)
        for theirs, rows in table.not_comparable():
            for method, printed in rows.items():
                kind = {"kind": "published, not comparable", "method": method, "source": theirs.source}
                writer.writerow(_harmless({**_place(table), **kind, **dict(zip(theirs.columns, printed, strict=True))}))
    return text.getvalue()


def _harmless(row: dict[str, Any]) -> dict[str, Any]:
    """A row whose texts no spreadsheet takes for formulas; names come from foreign files."""
    return {k: f"'{v}" if isinstance(v, str) and v.startswith(FORMULAS) else v for k, v in row.items()}


def _place(table: Table) -> dict[str, Any]:
    return {"dataset": table.dataset, "scale": table.scale, "protocol": table.protocol}


def _ours(row: Row, table: Table, report: Report) -> dict[str, Any]:
    source, theirs = table.counterpart(row) or ("", {})
    return {
        **_place(table),
        "kind": "ours",
        "method": row.label,
        "reduced": int(row.is_reduced),
        "reasons": "; ".join(row.reasons),
        "source": source,
        **{metric: row.mean(metric) for metric in METRICS},
        **{f"spread_{metric}": row.spread(metric) for metric in METRICS},
        **{f"published_{metric}": number for metric, number in theirs.items()},
        **{f"difference_{metric}": table.difference(row, metric) for metric in METRICS},
        "scenes": len(row.scenes),
        "seeds": " ".join(map(str, row.seeds)),
        "iterations": row.iterations,
        "training_seconds": row.seconds,
        "parameters": row.parameters,
        "device": ", ".join(row.devices),
        "results": " ".join(report.below(result.path) for result in row.results),
    }
