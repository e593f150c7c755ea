"""PromQL as a tree (promql-parser): which metrics an expression reads, by which labels, and through which functions."""

from collections.abc import Iterator
from typing import NamedTuple

import promql_parser as promql

# What Grafana puts in before it asks.
_GRAFANA = {"$__rate_interval": "5m", "$__interval": "1m", "$__range": "1h"}


class Read(NamedTuple):
    """One metric as it is read: labels that are matched, or that it is grouped by; the functions around it, innermost first."""

    metric: str
    labels: frozenset[str]
    functions: tuple[str, ...]


def reads(expression: str) -> list[Read]:
    """Raises ValueError when it is no PromQL."""
    for name, value in _GRAFANA.items():
        expression = expression.replace(name, value)
    return list(_reads(promql.parse(expression), frozenset(), ()))


def _reads(node: object, labels: frozenset[str], functions: tuple[str, ...]) -> Iterator[Read]:
    match node:
        case promql.VectorSelector():
            matched = frozenset(matcher.name for matcher in node.matchers.matchers)
            yield Read(node.name, labels | matched, functions)
        case promql.MatrixSelector():
            yield from _reads(node.vector_selector, labels, functions)
        case promql.Call():
            for argument in node.args:
                yield from _reads(argument, labels, (node.func.name, *functions))
        case promql.AggregateExpr():
            grouped = frozenset(node.modifier.labels) if node.modifier is not None else frozenset()
            yield from _reads(node.expr, labels | grouped, functions)
        case promql.BinaryExpr():
            yield from _reads(node.lhs, labels, functions)
            yield from _reads(node.rhs, labels, functions)
        case promql.ParenExpr() | promql.UnaryExpr() | promql.SubqueryExpr():
            yield from _reads(node.expr, labels, functions)
        case promql.NumberLiteral() | promql.StringLiteral():
            return
        case _:
            raise ValueError(f"what is {type(node).__name__}?")
