"""Draws the newest kept results as PNG: added time, throughput and CPU by load, and the curves.

    make bench-plots        (python bench/plot.py [--results bench/results] [--images docs/images])

Matplotlib is no dependency of the project: ``make bench-plots`` puts it beside the virtual environment.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from machine import RESULTS
from matplotlib.figure import Figure

IMAGES: Final = Path(__file__).parents[1] / "docs" / "images"
DATE: Final = "[0-9]" * 4 + "-[0-9][0-9]-[0-9][0-9]-"
COLOURS: Final = {"direct": "#8c8c8c", "turnstream": "#1f6feb", "litellm": "#d1762b"}
DIRECT: Final = "direct"
# On a logarithmic axis nothing can be nothing.
LEAST_MS: Final = 0.1
WIDTH_PX: Final = 1_200
DPI: Final = 120
# The key in the results, what it is, and the name of the picture.
GROUPED: Final[tuple[tuple[str, str, str], ...]] = (
    ("added_p50_ms", "added time to first token, p50 (ms)", "added-p50"),
    ("added_p99_ms", "added time to first token, p99 (ms)", "added-p99"),
    ("tokens_per_s", "tokens a second", "tokens"),
)


def newest(folder: Path, bench: str) -> dict[str, Any] | None:
    """The newest kept result of a benchmark, with its machine."""
    kept = sorted(folder.glob(f"{DATE}{bench}.json"))
    if not kept:
        return None
    found: dict[str, Any] = json.loads(kept[-1].read_text())
    return found


def sides_of(results: dict[str, Any]) -> list[str]:
    """The names of the sides, in their order."""
    first = next(iter(results.values()))
    return [name for name, row in first.items() if isinstance(row, dict) and "ttft_p50_ms" in row]


def caption(kept: dict[str, Any]) -> str:
    """What it was measured on."""
    machine = kept["machine"]
    return f"{machine['cores']} cores, {machine['cpu']}, everything on this one machine"


def bars(kept: dict[str, Any], figure: tuple[str, str, str], axes: Any) -> None:
    """One group of bars for each load, one bar for each side."""
    key, label, _ = figure
    results = kept["results"]
    names = [name for name in sides_of(results) if not (key.startswith("added") and name == DIRECT)]
    width = 0.8 / len(names)
    for number, name in enumerate(names):
        values = [max(LEAST_MS, row[name][key]) for row in results.values()]
        drawn = axes.bar([place + number * width for place in range(len(values))], values, width, label=name)
        for bar in drawn:
            bar.set_color(COLOURS.get(name))
        axes.bar_label(drawn, labels=[f"{value:,.0f}" if value >= 10 else f"{value:.1f}" for value in values])
    axes.set_yscale("log")
    axes.set_ylabel(label)
    axes.set_xticks([place + width * (len(names) - 1) / 2 for place in range(len(results))], list(results))
    axes.set_xlabel("clients")
    axes.legend()


def cpu(kept: dict[str, Any], axes: Any) -> None:
    """CPU of a token by process, stacked, ours and the servers'."""
    results = {name: row for name, row in kept["results"].items() if not name.startswith("1 ")}
    parts: dict[str, list[float]] = {}
    for row in results.values():
        for part, cost in (row["cpu_us_per_token"] | row["servers_cpu_us_per_token"]).items():
            parts.setdefault(part, []).append(cost)
    bottom = [0.0] * len(results)
    for part, costs in parts.items():
        axes.bar(list(results), costs, bottom=bottom, label=part)
        bottom = [before + cost for before, cost in zip(bottom, costs, strict=True)]
    axes.set_ylabel("CPU of a token (us)")
    axes.legend()


def curves(kept: dict[str, Any], axes: Any) -> None:
    """Added p99 by the number of clients."""
    results = kept["results"]
    for name in sides_of(results):
        if name == DIRECT:
            continue
        points = [(int(streams), row[name]["added_p99_ms"]) for streams, row in results.items() if name in row]
        xs, ys = zip(*points, strict=True)
        axes.plot(xs, [max(LEAST_MS, y) for y in ys], marker="o", label=name, color=COLOURS.get(name))
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xlabel("paced streams")
    axes.set_ylabel("added time to first token, p99 (ms)")
    axes.legend()


def held(kept: dict[str, Any], axes: Any) -> None:
    """The share of the offered tokens that came."""
    results = kept["results"]
    for name in sides_of(results):
        points = [(int(streams), 100 * row[name]["held"]) for streams, row in results.items() if name in row]
        xs, ys = zip(*points, strict=True)
        axes.plot(xs, ys, marker="o", label=name, color=COLOURS.get(name))
    axes.set_xscale("log", base=2)
    axes.set_xlabel("paced streams")
    axes.set_ylabel("tokens that came, of those offered (%)")
    axes.legend()


def draw(kept: dict[str, Any], path: Path, paint: Callable[[Any], None]) -> None:
    """One picture."""
    picture = Figure(figsize=(WIDTH_PX / DPI, WIDTH_PX / DPI / 2), layout="tight")
    axes = picture.add_subplot()
    paint(axes)
    axes.grid(visible=True, axis="y", alpha=0.3)
    axes.set_title(caption(kept), fontsize=9, color="#666666")
    # Without matplotlib's version in it, the same results give the same file.
    picture.savefig(path, dpi=DPI, metadata={"Software": None})
    print(f"drew {path}")


def main() -> None:
    """Draw what there are results for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--images", type=Path, default=IMAGES)
    options = parser.parse_args()
    options.images.mkdir(parents=True, exist_ok=True)
    if kept := newest(options.results, "end-to-end-openai"):
        for figure in GROUPED:
            draw(kept, options.images / f"bench-{figure[2]}.png", lambda axes, one=figure, of=kept: bars(of, one, axes))
        draw(kept, options.images / "bench-cpu.png", lambda axes, of=kept: cpu(of, axes))
    if kept := newest(options.results, "end-to-end-openai-curve"):
        draw(kept, options.images / "bench-curve.png", lambda axes, of=kept: curves(of, axes))
        draw(kept, options.images / "bench-held.png", lambda axes, of=kept: held(of, axes))


if __name__ == "__main__":
    main()
