"""Draws architecture.svg, the folders and who imports whom, from the imports of today: python docs/draw_architecture.py

An arrow that follows from two others is left out, and so are those to the ground, which everything may import.
Files that come or go inside a folder change nothing; a first import between two folders does.
"""

from __future__ import annotations

import ast
import html
from collections import defaultdict
from functools import cache
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).parents[1]
OUT = ROOT / "docs" / "architecture.svg"
GROUND, ML = "core/*.py", "core/ml"
WORDS = {
    "app.py": "the server's door",
    "core/__main__.py": "the command line",
    "pages/*.py": "a page per story",
    "pages/parts": "what serves one page",
    "pages/shared": "what serves several",
    "core/api": "routes of its own",
    "core/share": "exports, reports",
    "core/evaluate": "metrics, calibration",
    "core/explain": "maps, trust, inside",
    "core/label": "map, clusters, lessons",
    "core/train": "start, plan, finder",
    "core/review": "predict, queue",
    "core/people": "accounts, sessions",
    ML: "the only PyTorch",
    "core/data": "images, labels, SQL",
    "core/catalog": "networks, methods",
    "core/runs": "run folders, processes",
}
WIDE, HIGH, GAP, PITCH, THIN, MARGIN = 172, 44, 22, 82, 16, 36  # px: a box, between boxes, between rows, a passing arrow, the edge
STYLE = """
.ground, .box { fill: #ffffff; stroke: #8aa09e; } .page { fill: #e3f1ef; stroke: #0f8f83; } .door { fill: #eceff1; stroke: #66757a; }
.ml { fill: #fdeadb; stroke: #d9742b; } .asks { fill: #d9742b; } .ground { fill: #f0f3f3; }
.paper { fill: #fafcfc; } .arrow { fill: none; stroke: #6b7f7d; stroke-width: 1.4; } .named { stroke-dasharray: 5 4; } .up { stroke: #c62828; }
#tip path { fill: #6b7f7d; } text { font: 12px system-ui, sans-serif; fill: #4d5d5b; text-anchor: middle; }
.name { font-weight: 600; font-size: 14px; fill: #16302d; } .left { text-anchor: start; }
@media (prefers-color-scheme: dark) {
.box { fill: #1d2928; stroke: #5f7674; } .page { fill: #12342f; stroke: #3fb5a8; } .door { fill: #262d30; stroke: #7f9096; }
.ml { fill: #3d2614; stroke: #e8935a; } .asks { fill: #e8935a; } .ground { fill: #1a2120; stroke: #5f7674; }
.paper { fill: #121918; } .arrow { stroke: #8fa5a2; } .up { stroke: #ff7961; }
#tip path { fill: #8fa5a2; } text { fill: #b4c4c2; } .name { fill: #e8f1f0; }
}"""

Arrows = set[tuple[str, str]]


@cache
def area(module: str) -> str:
    """The box of a module or path: its folder below core or pages, a door, or the files that lie directly in one of the two."""
    top, *rest = module.split(".")
    if not rest:
        return "app.py"
    if (ROOT / top / rest[0]).is_dir():
        return f"{top}/{rest[0]}"
    return "core/__main__.py" if rest[0] == "__main__" else f"{top}/*.py"


def read() -> tuple[list[str], Arrows, Arrows]:
    """The areas, and between them the imports and what is only named: "core.ml.infer", "pages/main.py"."""
    paths = [ROOT / "app.py", *(ROOT / "core").rglob("*.py"), *(ROOT / "pages").rglob("*.py")]
    trees = {".".join(p.relative_to(ROOT).with_suffix("").parts): ast.parse(p.read_text("utf-8")) for p in paths if p.stat().st_size}
    imported, named = {("core.__main__", m) for m in trees if m.endswith(".commands")}, set()  # which it finds by their name
    for module, tree in trees.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                imported |= {(module, alias.name) for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                imported |= {(module, f"{node.module}.{alias.name}") for alias in node.names}
            elif isinstance(node, ast.Call):
                texts = [a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
                named |= {(module, t.removesuffix(".py").replace("/", ".")) for t in texts}

    def between(found: Arrows) -> Arrows:
        ours = {(area(a), area(b)) for a, b in found if b.startswith(("core.", "pages."))}
        return {(a, b) for a, b in ours if a != b and b in areas}

    areas = sorted({area(m) for m in trees if not m.endswith("__init__")})
    imports = between(imported)
    foreign = {(a, b) for a, b in imports if b == ML}  # inside a function, in a process of its own: a test holds that
    return areas, imports - foreign, (between({(a, b) for a, b in named if b in trees}) | foreign) - (imports - foreign)


def levels(areas: list[str], arrows: Arrows) -> tuple[dict[str, int], Arrows]:
    """How many arrows each area stands above the lowest, and the arrows that would close a circle."""
    level: dict[str, int] = {}
    up: Arrows = set()

    def visit(one: str, above: tuple[str, ...]) -> int:
        if one not in level:
            below = [b for a, b in sorted(arrows) if a == one]
            up.update((one, b) for b in below if b in (*above, one))
            level[one] = max((visit(b, (*above, one)) + 1 for b in below if b not in (*above, one)), default=0)
        return level[one]

    for one in areas:
        visit(one, ())
    return level, up


def needed(arrows: Arrows) -> Arrows:
    """The arrows without those that follow from others (transitive reduction)."""
    after = defaultdict(set)
    for a, b in arrows:
        after[a].add(b)

    def reach(one: str, seen: set[str]) -> set[str]:
        for b in after[one] - seen:
            seen.add(b)
            reach(b, seen)
        return seen

    return {(a, b) for a, b in arrows if not any(b in reach(c, set()) for c in after[a] - {b})}


def rows_of(level: dict[str, int], arrows: Arrows) -> tuple[list[list[str]], list[list[str]]]:
    """Rows from the top, and each arrow as its stops; where it passes a row, a stop of its own keeps boxes out of its way."""
    top = max(level.values())
    rows: list[list[str]] = [[] for _ in range(top + 1)]
    for one in sorted(level):
        rows[top - level[one]].append(one)
    ways = []
    for a, b in sorted(arrows):
        stops = [f"{a} > {b} @{n}" for n in range(level[a] - 1, level[b], -1)]
        for n, stop in enumerate(stops, 1):
            rows[top - level[a] + n].append(stop)
        ways.append([a, *stops, b])
    return rows, ways


def place(rows: list[list[str]], ways: list[list[str]]) -> dict[str, float]:
    """The middle of each stop: rows are ordered and moved towards their neighbours, downwards and upwards in turn."""
    near = defaultdict(list)
    for way in ways:
        for a, b in pairwise(way):
            near[a].append(b)
            near[b].append(a)
    best: tuple[float, dict[str, float]] | None = None
    at = {one: float(i) * WIDE for row in rows for i, one in enumerate(row)}
    for turn in range(60):
        for row in rows if turn % 2 else rows[::-1]:
            want = {one: sum(at[n] for n in near[one]) / len(near[one]) if near[one] else at[one] for one in row}
            if turn < 40:
                row.sort(key=lambda one: (want[one], one))
            spread(row, want, at)
        crossed = cost(rows, ways, at)
        if turn >= 40 and (best is None or crossed < best[0]):
            best = crossed, dict(at)
    assert best is not None
    return best[1]


def width(one: str) -> int:
    return THIN if "@" in one else WIDE


def spread(row: list[str], want: dict[str, float], at: dict[str, float]) -> None:
    """Puts a row as near as it can be to where it wants to be, without overlap: the mean of packing from the left and from the right."""
    apart = [(width(a) + width(b)) / 2 + GAP for a, b in pairwise(row)]
    right, left = [want[one] for one in row], [want[one] for one in row]
    for i, gap in enumerate(apart):
        right[i + 1] = max(right[i + 1], right[i] + gap)
    for i, gap in reversed([*enumerate(apart)]):
        left[i] = min(left[i], left[i + 1] - gap)
    at.update({one: (a + b) / 2 for one, a, b in zip(row, left, right, strict=True)})


def cost(rows: list[list[str]], ways: list[list[str]], at: dict[str, float]) -> float:
    """Crossings first, then how far arrows lean."""
    number = {one: i for i, row in enumerate(rows) for one in row}
    steps = [(number[a], at[a], at[b]) for way in ways for a, b in pairwise(way)]
    crossings = sum(n == m and (a - c) * (b - d) < 0 for i, (n, a, b) in enumerate(steps) for m, c, d in steps[:i])
    return 1e5 * crossings + sum(abs(a - b) for _, a, b in steps)


def draw(areas: list[str], imports: Arrows, named: Arrows) -> str:
    areas = [area for area in areas if area != GROUND]
    asks = {a for a, b in named if b == ML}
    arrows = {(a, b) for a, b in imports | {(a, b) for a, b in named if b != ML} if b != GROUND}
    level, up = levels(areas, arrows)
    rows, ways = rows_of(level, needed(arrows - up))
    at = place(rows, ways)
    shift = MARGIN - min(at[one] - width(one) / 2 for one in at)
    x = {one: round(middle + shift) for one, middle in at.items()}
    y = {one: MARGIN + HIGH // 2 + i * PITCH for i, row in enumerate(rows) for one in row}
    wide = max(x[one] + width(one) // 2 for one in x) + MARGIN
    ground = MARGIN + len(rows) * PITCH
    high = ground + HIGH + 54
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {high}" width="{wide}" height="{high}" role="img">',
        f"<title>Loupe's folders and who imports whom</title><style>{STYLE}</style>",
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
        '<path d="M0 0.8 L8 4 L0 7.2 z"/></marker></defs>',
        f'<rect class="paper" width="{wide}" height="{high}" rx="12"/>',
    ]
    ends = {one: sorted((w for w in ways if w[-1] == one), key=lambda w: x[w[-2]]) for one in areas}
    starts = {one: sorted((w for w in ways if w[0] == one), key=lambda w: x[w[1]]) for one in areas}

    def port(way: list[str], ports: list[list[str]], one: str) -> float:
        return x[one] + (ports.index(way) - (len(ports) - 1) / 2) * min(22, (WIDE - 40) / len(ports))

    for way in ways:
        points = [(port(way, starts[way[0]], way[0]), y[way[0]] + HIGH / 2)]
        for stop in way[1:-1]:
            points += [(x[stop], y[stop] - HIGH / 2), (x[stop], y[stop] + HIGH / 2)]
        points.append((port(way, ends[way[-1]], way[-1]), y[way[-1]] - HIGH / 2 - 1))
        path = f"M{points[0][0]:g} {points[0][1]:g}"
        for (left, above), (right, below) in pairwise(points):
            half = (above + below) / 2
            path += f" L{right:g} {below:g}" if left == right else f" C{left:g} {half:g} {right:g} {half:g} {right:g} {below:g}"
        kind = " named" if (way[0], way[-1]) in named else ""
        parts.append(f'<path class="arrow{kind}" d="{path}" marker-end="url(#tip)"/>')
    for a, b in sorted(up):
        parts.append(f'<path class="arrow up" d="M{x[a]} {y[a]} L{x[b]} {y[b]}" marker-end="url(#tip)"/>')
    for one in areas:
        kind = "ml" if one == ML else "page" if one.startswith("pages") else "door" if one.endswith(".py") else "box"
        tells = "imports " + (", ".join(sorted(b for a, b in imports if a == one)) or "nothing of Loupe")
        left, above = x[one] - WIDE / 2, y[one] - HIGH / 2
        parts.append(
            f'<g><title>{html.escape(f"{one} {tells}")}</title><rect class="{kind}" x="{left:g}" y="{above:g}" width="{WIDE}" height="{HIGH}" rx="8"/>'
            f'<text class="name" x="{x[one]}" y="{y[one] - 3}">{one}</text><text x="{x[one]}" y="{y[one] + 14}">{html.escape(WORDS.get(one, ""))}</text>'
            + (f'<circle class="asks" cx="{left + WIDE - 11:g}" cy="{above + 11:g}" r="4.5"/>' if one in asks else "")
            + "</g>"
        )
    files = " ".join(sorted(p.stem for p in (ROOT / "core").glob("*.py") if not p.stem.startswith("__")))
    parts += [
        f'<rect class="ground" x="{MARGIN}" y="{ground}" width="{wide - 2 * MARGIN}" height="{HIGH}" rx="8"/>',
        f'<text class="name" x="{wide // 2}" y="{ground + 19}">{GROUND}: {files}</text>',
        f'<text x="{wide // 2}" y="{ground + 36}">the ground: everything may import it, and these arrows are not drawn</text>',
        f'<circle class="asks" cx="{MARGIN + 6}" cy="{high - 30}" r="4.5"/>',
        f'<text class="left" x="{MARGIN + 18}" y="{high - 26}">asks core/ml by name: it answers in another process.'
        "   Dashed: run by Streamlit, not imported.   An arrow that follows from others is left out.</text>",
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    OUT.write_text(draw(*read()), encoding="utf-8")
