"""How long changes took on their way while things were broken, drawn as SVG. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from math import log10
from statistics import median, quantiles

from tests.chaos.figures import Delivery
from tests.chaos.journal import Record

WIDTH, LEFT, RIGHT, TOP, HEIGHT = 1000, 210, 20, 64, 300
ROW = 17
#: From the fastest to the slowest that is drawn.
FASTEST_SECONDS, SLOWEST_SECONDS = 0.01, 100.0
TICKS = {0.01: "10 ms", 0.1: "100 ms", 1.0: "1 s", 10.0: "10 s", 100.0: "100 s"}
STEP_SECONDS = 1.0
STYLE = """
    .ground { fill: #fbfaf7 } .grid { stroke: #d8d3c8 } .band { fill: #b45309; fill-opacity: .1 }
    .fault { fill: #b45309 } .lost { stroke: #c1121f } .dots { stroke: #2d6a4f }
    .dots, .lost { stroke-width: 3; stroke-linecap: round; stroke-opacity: .7 }
    .median, .slow { fill: none; stroke: #22222a; stroke-width: 1.6 }
    .slow { stroke-dasharray: 4 3 } .title { font-size: 15px }
    text { font: 12.5px system-ui, sans-serif; fill: #22222a }
    .end { text-anchor: end } .middle { text-anchor: middle }
    @media (prefers-color-scheme: dark) {
      .ground { fill: #1d1f24 } .grid { stroke: #3c4049 } .band { fill: #f0a04b; fill-opacity: .13 }
      .fault { fill: #f0a04b } .dots { stroke: #74c69d } .lost { stroke: #ff6b6b }
      .median, .slow { stroke: #eceef2 } text { fill: #eceef2 }
    }"""


def picture(title: str, found: Sequence[Delivery], faults: Sequence[Record], began: float) -> str:
    """Return the drawing; times are counted from ``began``."""
    names = sorted({fault["fault"] for fault in faults})
    known = [one for one in found if one.learned is not None]
    times = [one.committed for one in found] + [fault["t"] for fault in faults]
    scale = _Scale(began, max(times, default=began + 1))
    bottom = TOP + HEIGHT
    height = bottom + 42 + ROW * len(names) + 14
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">',
        f"<title>{escape(title)}</title><style>{STYLE}\n</style>",
        f'<rect class="ground" width="{WIDTH}" height="{height}" rx="6"/>',
        f'<text class="title" x="{LEFT}" y="26">{escape(title)}</text>',
        f'<text x="{LEFT}" y="46">Commit to delivery, by the time of the commit. Each dot: one '
        "change and one subscription. Line: median; dashed: 99 %.</text>",
        *_axes(scale),
        *_faults(scale, faults, names),
        _dots("dots", ((scale.x(one.committed), scale.y(one.seconds)) for one in known)),
        _dots("lost", ((scale.x(one.committed), TOP) for one in found if one.learned is None)),
        *_lines(scale, known),
        "</svg>",
    ]
    return "\n".join(part for part in parts if part) + "\n"


class _Scale:
    """From times and durations to places in the drawing."""

    def __init__(self, began: float, ended: float) -> None:
        self.began = began
        self.seconds = max(ended - began, STEP_SECONDS)

    def x(self, time: float) -> float:
        share = min(max((time - self.began) / self.seconds, 0.0), 1.0)
        return round(LEFT + (WIDTH - LEFT - RIGHT) * share, 1)

    def y(self, seconds: float) -> float:
        shown = min(max(seconds, FASTEST_SECONDS), SLOWEST_SECONDS)
        share = log10(shown / FASTEST_SECONDS) / log10(SLOWEST_SECONDS / FASTEST_SECONDS)
        return round(TOP + HEIGHT * (1 - share), 1)


def _axes(scale: _Scale) -> list[str]:
    parts = []
    for seconds, label in TICKS.items():
        y = scale.y(seconds)
        parts.append(f'<path class="grid" d="M{LEFT} {y}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text class="end" x="{LEFT - 8}" y="{y + 4}">{label}</text>')
    step = next(step for step in (5, 10, 30, 60, 300, 3600) if scale.seconds / step <= 16)
    for second in range(0, int(scale.seconds) + 1, step):
        x = scale.x(scale.began + second)
        parts.append(
            f'<text class="middle" x="{x}" y="{TOP + HEIGHT + 20}">{second} s</text>',
        )
    return parts


def _faults(scale: _Scale, faults: Iterable[Record], names: list[str]) -> list[str]:
    """Draw each fault as a band and, below, as a bar in the row of its name."""
    first = TOP + HEIGHT + 42
    parts = [
        f'<text class="end" x="{LEFT - 8}" y="{first + ROW * row}">{escape(name)}</text>'
        for row, name in enumerate(names)
    ]
    for fault in faults:
        x = scale.x(fault["began"])
        width = round(max(scale.x(fault["t"]) - x, 1.5), 1)
        y = first + ROW * names.index(fault["fault"]) - 10
        name = escape(fault["fault"])
        parts += [
            f'<rect class="band" x="{x}" y="{TOP}" width="{width}" height="{y - TOP}">'
            f"<title>{name}</title></rect>",
            f'<rect class="fault" x="{x}" y="{y}" width="{width}" height="{ROW - 5}"/>',
        ]
    return parts


def _dots(name: str, places: Iterable[tuple[float, float]]) -> str:
    """Draw all dots as one path, which is small; those in the same place are one."""
    drawn = "".join(f"M{x:g} {y:g}h0" for x, y in sorted(set(places)))
    return f'<path class="{name}" d="{drawn}"/>' if drawn else ""


def _lines(scale: _Scale, known: Iterable[Delivery]) -> list[str]:
    steps: dict[int, list[float]] = {}
    for one in known:
        step = int((one.committed - scale.began) / STEP_SECONDS)
        steps.setdefault(step, []).append(one.seconds)
    medians, slow = [], []
    for step, values in sorted(steps.items()):
        x = scale.x(scale.began + (step + 0.5) * STEP_SECONDS)
        medians.append(f"{x:g} {scale.y(median(values)):g}")
        last = quantiles(values, n=100, method="inclusive")[98] if len(values) > 1 else values[0]
        slow.append(f"{x:g} {scale.y(last):g}")
    lines = {"median": medians, "slow": slow}
    return [f'<path class="{name}" d="M{"L".join(at)}"/>' for name, at in lines.items() if at]
