"""Bars as SVG, for the evaluation."""
import math
from html import escape

# Okabe and Ito's palette, as `avec bench plot` uses it.
COLOURS = ("#E69F00", "#0072B2", "#CC79A7", "#009E73", "#56B4E9", "#D55E00")
LEFT, RIGHT, TOP, WIDTH, BAR = 150, 80, 62, 760, 15


def text(x, y, words, anchor="start", size=12):
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}">{escape(words)}</text>'


def box(x, y, width, colour, words):
    return (f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 0.5):.1f}" height="{BAR - 3}" fill="{colour}">'
            f"<title>{escape(words)}</title></rect>")


def page(title, height, content, legend):
    x, marks = LEFT, []
    for colour, words in legend:
        marks += [box(x, 34, 12, colour, words), text(x + 17, 44, words)]
        x += 32 + 7 * len(words)
    return "\n".join([f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" fill="#222">',
                      f'<rect width="{WIDTH}" height="{height}" fill="white"/>', text(LEFT, 20, title, size=15), *marks, *content, "</svg>"]) + "\n"


def short(value):
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def ticks(low, high):
    return [10.0 ** power for power in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)]


def grouped(title, groups, mark, mark_name):
    """A group of bars for each (name, [(label, value)]), on a logarithmic axis, with a line at `mark`."""
    values = [value for _, bars in groups for _, value in bars] + [mark, 1]
    marks = ticks(min(values) * 0.9, max(values) * 1.1)
    low, high = math.log10(marks[0]), math.log10(marks[-1])

    def at(value):
        return LEFT + (math.log10(value) - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    labels = list(dict.fromkeys(label for _, bars in groups for label, _ in bars))
    y, content = TOP, []
    for name, bars in groups:
        content.append(text(LEFT - 8, y + BAR * len(bars) / 2 + 3, name, "end"))
        for label, value in bars:
            content += [box(at(marks[0]), y, at(value) - at(marks[0]), COLOURS[labels.index(label)], f"{name}, {label}: {short(value)}"),
                        text(at(value) + 4, y + BAR - 5, short(value), size=11)]
            y += BAR
        y += 9
    lines = [f'<line x1="{at(tick):.1f}" y1="{TOP - 6}" x2="{at(tick):.1f}" y2="{y}" stroke="#ccc"/>' + text(at(tick), y + 16, f"{tick:g}", "middle", 11)
             for tick in marks]
    lines.append(f'<line x1="{at(mark):.1f}" y1="{TOP - 6}" x2="{at(mark):.1f}" y2="{y}" stroke="#D55E00" stroke-dasharray="4 3"/>'
                 + text(at(mark), y + 30, f"{mark_name}: {mark:g}", "middle", 11))
    return page(title, y + 40, lines + content, [(COLOURS[i], label) for i, label in enumerate(labels)])


def stacked(title, groups):
    """A bar of parts for each (name, [(part, milliseconds)]), each as shares of its whole."""
    parts = [part for part, _ in groups[0][1]]
    y, content = TOP, []
    for name, values in groups:
        whole, x = sum(value for _, value in values) or 1, LEFT
        content.append(text(LEFT - 8, y + BAR - 5, name, "end"))
        for i, (part, value) in enumerate(values):
            width = value / whole * (WIDTH - LEFT - RIGHT)
            if width > 0:
                content.append(box(x, y, width, COLOURS[i], f"{name}, {part}: {short(value)} ms"))
            x += width
        content.append(text(x + 6, y + BAR - 5, f"{short(whole)} ms", size=11))
        y += BAR + 9
    return page(title, y + 6, content, [(COLOURS[i], part) for i, part in enumerate(parts)])
