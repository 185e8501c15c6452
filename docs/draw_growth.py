"""Draws growth.svg, what more images cost, and writes the same figures as the table of scale.md, from scale.json: python docs/draw_growth.py

The figures are measured by `python -m tests.benchmarks.scaling --sizes 1000 10000`, which keeps each size beside those measured before.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
KEPT, OUT, PAGE = HERE / "scale.json", HERE / "growth.svg", HERE / "scale.md"
BEGIN, END = "<!-- growth: begin -->", "<!-- growth: end -->"
WORDS = {
    "import": "import",
    "epoch": "a ConvNet: pixels, one epoch, judging",
    "features": "a frozen EfficientNet-Lite0: features, one epoch",
    "frozen": "the same again, with the features that are kept",
    "evaluate": "evaluation of three runs",
    "page": "counts and first page of the grid",
}
MARKS = {  # told apart without colour, too; around (0, 0)
    "import": "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0z",
    "epoch": "M-4 -4h8v8h-8z",
    "features": "M0 -5L5 4H-5z",
    "frozen": "M0 -5.5L5.5 0L0 5.5L-5.5 0z",
    "evaluate": "M0 5L5 -4H-5z",
    "page": "M-4.5 -1.5h3v-3h3v3h3v3h-3v3h-3v-3h-3z",
}
WIDE, HIGH = 340, 300  # px, of each of the two charts
LEFT, TOP, BETWEEN = 64, 52, 96
STYLE = """
.paper { fill: #fafcfc; } .axis { stroke: #8aa09e; } .grid { stroke: #e2e9e8; } .same { stroke: #8aa09e; stroke-dasharray: 2 4; }
.line { fill: none; stroke-width: 2; } text { font: 12px system-ui, sans-serif; fill: #4d5d5b; text-anchor: middle; }
.end { text-anchor: end; } .start { text-anchor: start; } .title { font-weight: 600; font-size: 14px; fill: #16302d; }
.import { stroke: #0072b2; fill: #0072b2; } .epoch { stroke: #d55e00; fill: #d55e00; } .features { stroke: #009e73; fill: #009e73; }
.frozen { stroke: #b86a97; fill: #b86a97; } .evaluate { stroke: #c98a00; fill: #c98a00; } .page { stroke: #6b7f7d; fill: #6b7f7d; }
@media (prefers-color-scheme: dark) {
.paper { fill: #121918; } .axis, .same { stroke: #5f7674; } .grid { stroke: #26322f; } text { fill: #b4c4c2; } .title { fill: #e8f1f0; }
.import { stroke: #56b4e9; fill: #56b4e9; } .epoch { stroke: #eb8f4f; fill: #eb8f4f; } .features { stroke: #4fc3a1; fill: #4fc3a1; }
.frozen { stroke: #e3aecb; fill: #e3aecb; } .evaluate { stroke: #f2c05c; fill: #f2c05c; } .page { stroke: #b0bfbd; fill: #b0bfbd; }
}
.line.import, .line.epoch, .line.features, .line.frozen, .line.evaluate, .line.page { fill: none; }"""

Found = dict[int, dict[str, Any]]  # of each number of pictures: at, load, steps: {step: [seconds, MB of its own, MB with mapped files]}


def read() -> Found:
    return {int(n): facts for n, facts in json.loads(KEPT.read_text(encoding="utf-8")).items()}


def loads(facts: dict[str, Any]) -> str:
    return " to ".join(f"{one:g}" for one in facts["load"])


def seconds(value: float) -> str:
    return f"{value:.2f} s" if value < 1 else f"{value:,.1f} s"


# Picture ----------------------------------------------------------------------------------------------------------------------


def chart(found: Found, left: int, title: str, unit: str, part: int, low: float, high: float) -> list[str]:
    """Both axes in powers of ten; part: which figure of a step."""
    first, last = math.floor(math.log10(min(found))), math.ceil(math.log10(max(found)))

    def across(n: float) -> float:
        return round(left + WIDE * (math.log10(n) - first) / (last - first), 1)

    def up(value: float) -> float:
        return round(TOP + HIGH * (math.log10(high) - math.log10(value)) / (math.log10(high) - math.log10(low)), 1)

    lines = [f'<text class="title start" x="{left}" y="{TOP - 24}">{title}</text>']
    for power in range(round(math.log10(low)), round(math.log10(high)) + 1):
        y, words = up(10.0**power), f"{10.0**power:,g}"
        lines.append(f'<line class="grid" x1="{left}" x2="{left + WIDE}" y1="{y}" y2="{y}"/>')
        lines.append(f'<text class="end" x="{left - 8}" y="{y + 4}">{words}</text>')
    for power in range(first, last + 1):
        x = across(10**power)
        lines.append(f'<line class="grid" x1="{x}" x2="{x}" y1="{TOP}" y2="{TOP + HIGH}"/>')
        lines.append(f'<text x="{x}" y="{TOP + HIGH + 18}">{10**power:,}</text>')
    lines.append(f'<path class="axis" fill="none" d="M{left} {TOP}V{TOP + HIGH}H{left + WIDE}"/>')
    lines.append(f'<text x="{left + WIDE / 2}" y="{TOP + HIGH + 38}">pictures (n)</text>')
    lines.append(f'<text transform="translate({left - 48} {TOP + HIGH / 2}) rotate(-90)">{unit}</text>')
    if part == 0:  # how steep proportional growth is
        n = min(10.0**last, 10.0**first * high)
        lines.append(f'<line class="same" x1="{left}" y1="{up(1)}" x2="{across(n)}" y2="{up(n / 10**first)}"/>')
    for step in WORDS:
        points = [(n, facts["steps"][step][part]) for n, facts in found.items() if step in facts["steps"]]
        if points:
            lines.append(f'<path class="line {step}" d="M{" L".join(f"{across(n)} {up(value)}" for n, value in points)}"/>')
        for n, value in points:
            said = seconds(value) if part == 0 else f"{value:,} MB"
            place = f'transform="translate({across(n)} {up(value)})"'
            lines.append(f'<path class="{step}" {place} d="{MARKS[step]}"><title>{WORDS[step]}, n = {n:,}: {said}</title></path>')
    return lines


def draw(found: Found) -> str:
    wide, rows = 2 * (LEFT + WIDE) + BETWEEN - 36, (len(WORDS) + 1) // 2
    high = TOP + HIGH + 66 + 22 * (rows + 2)
    lines = chart(found, LEFT + 8, "Time", "seconds", 0, 0.01, 1000)
    lines += chart(found, LEFT + WIDE + BETWEEN, "Memory of its own, at most", "MB", 1, 10, 10_000)
    for i, (step, words) in enumerate(WORDS.items()):
        x, y = LEFT + 8 + (WIDE + BETWEEN - 8) * (i // rows), TOP + HIGH + 66 + 22 * (i % rows)
        lines.append(f'<path class="{step}" transform="translate({x} {y})" d="{MARKS[step]}"/>')
        lines.append(f'<text class="start" x="{x + 14}" y="{y + 4}">{words}</text>')
    y = TOP + HIGH + 66 + 22 * rows
    lines.append(f'<line class="same" x1="{LEFT - 2}" x2="{LEFT + 18}" y1="{y}" y2="{y}"/>')
    lines.append(f'<text class="start" x="{LEFT + 22}" y="{y + 4}">as steep as growth in proportion</text>')
    machine = next(iter(found.values()))["machine"]
    load = max(max(facts["load"]) for facts in found.values())
    words = f"Pictures of 32 × 32, each step once, in a process of its own; {machine['cores']} cores of {machine['processor']}, load up to {load:g}"
    lines.append(f'<text class="start" x="{LEFT - 2}" y="{y + 26}">{words}</text>')
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {high}" width="{wide}" height="{high}" role="img">'
    title = "<title>Time and memory of each step at each number of pictures</title>"
    paper = f'<rect class="paper" width="{wide}" height="{high}" rx="12"/>'
    return "\n".join([head, title, f"<style>{STYLE}\n</style>", paper, *lines, "</svg>\n"])


# Table ------------------------------------------------------------------------------------------------------------------------


def table(found: Found) -> list[str]:
    lines = [f"| step | {' | '.join(f'{n:,} pictures' for n in found)} |", "|---" * (len(found) + 1) + "|"]
    for step, words in WORDS.items():
        cells = []
        for facts in found.values():
            took, own, whole = facts["steps"].get(step, (None, 0, 0))
            cells.append("not run" if took is None else f"{seconds(took)}, {own:,} MB ({whole:,})")
        lines.append(f"| {words} | {' | '.join(cells)} |")
    lines.append(f"| load of the machine | {' | '.join(map(loads, found.values()))} |")
    return lines


def written(text: str, found: Found) -> str:
    """The page with the table of these figures in it."""
    before, _, rest = text.partition(BEGIN)
    return "\n".join([before + BEGIN, "", *table(found), "", END + rest.partition(END)[2]])


def main() -> None:
    found = read()
    OUT.write_text(draw(found), encoding="utf-8")
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8"), found), encoding="utf-8")


if __name__ == "__main__":
    main()
