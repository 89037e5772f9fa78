"""The table of `benchmarks.gpu` as Markdown. It is a file of its own, because the measurement does not depend on it."""

from typing import Any


def table(results: dict[str, Any]) -> str:
    """The rows as Markdown."""
    lines = [
        f"{results['gpu']}, PyTorch {results['torch']}, timm {results['timm']}.",
        "",
        "| model | images | precision | layout | classes | images/s | GiB | timm, images/s | ours / timm |",
        "| --- | --- | --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in results["rows"]:
        theirs = row.get("timm_images_per_second")
        layout = "channels last" if row["channels_last"] else "channels first"
        cells = [
            row["model"],
            f"{row['batch']} × {row['side']} px",
            row["precision"] + (", compiled" if row["compile"] else ""),
            layout,
            f"{row['classes']:,}",
            f"{row['images_per_second']:,.0f}",
            f"{row['memory']:.1f}",
            f"{theirs:,.0f}" if theirs else "–",
            f"{row['images_per_second'] / theirs:.2f}" if theirs else "–",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
