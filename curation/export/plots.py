"""Plots of the data card as plain SVG: no renderer, no fonts, and the same bytes for the same figures."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 640, 240, 56, 36, 28
_COLORS = ("#9aa5b1", "#1f6f8b")


def histogram(
    edges: tuple[float, float], series: Sequence[tuple[str, Sequence[float]]], *, title: str, unit: str
) -> str:
    """Outlines of distributions over the same bins.

    Args:
        edges: lower edge of the first bin and upper edge of the last one.
        series: a name and the share of each bin; all of the same length.
        title: heading of the plot.
        unit: what stands under the axis.
    """
    top = max((max(shares, default=0.0) for _, shares in series), default=0.0) or 1.0
    parts = [_frame(title)]
    for number, (name, shares) in enumerate(series):
        color = _COLORS[number % len(_COLORS)]
        points = _steps(shares, top)
        parts.append(f'<polyline fill="none" stroke="{color}" stroke-width="2" points="{points}"/>')
        y = _TOP + 14 * (number + 1)
        parts.append(f'<text x="{_WIDTH - 8}" y="{y}" text-anchor="end" fill="{color}">{escape(name)}</text>')
    low, high = edges
    for place in range(5):
        x = _LEFT + (_WIDTH - _LEFT - 8) * place / 4
        value = low + (high - low) * place / 4
        parts.append(f'<text x="{x:.1f}" y="{_HEIGHT - _BOTTOM + 14}" text-anchor="middle">{value:.3g}</text>')
    if low < 0 < high:
        x = _LEFT + (_WIDTH - _LEFT - 8) * -low / (high - low)
        parts.append(f'<path d="M{x:.1f} {_TOP}V{_HEIGHT - _BOTTOM}" stroke="#c0392b" stroke-dasharray="4 3"/>')
    parts.append(f'<text x="{_WIDTH / 2}" y="{_HEIGHT - 6}" text-anchor="middle">{escape(unit)}</text>')
    return "\n".join([*parts, "</svg>", ""])


def bars(rows: Sequence[tuple[str, int]], *, title: str) -> str:
    """One horizontal bar a row, with its count."""
    height = _TOP + 22 * max(len(rows), 1) + 10
    top = max((count for _, count in rows), default=0) or 1
    parts = [_frame(title, height=height, has_axis=False)]
    for number, (name, count) in enumerate(rows):
        y = _TOP + 22 * number
        width = (_WIDTH - 300) * count / top
        parts.append(f'<text x="200" y="{y + 14}" text-anchor="end">{escape(name)}</text>')
        parts.append(f'<rect x="208" y="{y + 3}" width="{width:.1f}" height="14" fill="{_COLORS[1]}"/>')
        parts.append(f'<text x="{214 + width:.1f}" y="{y + 14}">{count:,}</text>')
    return "\n".join([*parts, "</svg>", ""])


def _frame(title: str, *, height: int = _HEIGHT, has_axis: bool = True) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" font-family="sans-serif"'
        f' font-size="11"><rect width="100%" height="100%" fill="white"/>'
        f'<text x="8" y="16" font-size="13">{escape(title)}</text>'
    )
    axis = f'<path d="M{_LEFT} {_HEIGHT - _BOTTOM}H{_WIDTH - 8}" stroke="#333"/>' if has_axis else ""
    return head + axis


def _steps(shares: Sequence[float], top: float) -> str:
    """Corners of the outline of a histogram."""
    span, base = (_WIDTH - _LEFT - 8) / max(len(shares), 1), _HEIGHT - _BOTTOM
    corners = [(float(_LEFT), float(base))]
    for number, share in enumerate(shares):
        y = base - (base - _TOP) * share / top
        corners += [(_LEFT + span * number, y), (_LEFT + span * (number + 1), y)]
    corners.append((float(_WIDTH - 8), float(base)))
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in corners)
