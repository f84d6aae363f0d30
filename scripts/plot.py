"""Draws lines as SVG, for scripts/bench: axes, grid, one line a series with its name at its end. Nothing but text is needed."""

import math

WIDTH, HEIGHT = 720, 400
LEFT, RIGHT, TOP, BOTTOM = 80, 150, 40, 60
COLOURS = ["#0b6e4f", "#c0392b", "#7f8c8d", "#2c3e90", "#b7791f", "#6b3fa0"]


class Axis:
    """Maps values to pixels; logarithmic with ticks at 1, 2 and 5 of each decade, or from 0 with round ticks."""

    def __init__(self, values, first, last, logarithmic):
        self.first, self.last, self.logarithmic = first, last, logarithmic
        if logarithmic:
            low, high = min(values), max(values)
            self.ticks = [factor * 10.0 ** power for power in range(-3, 10) for factor in (1, 2, 5)
                          if low * 0.999 <= factor * 10.0 ** power <= high * 1.001]
            self.low, self.high = math.log10(low * 0.9), math.log10(high * 1.1)
        else:
            high = max(values) * 1.08
            step = 10 ** math.floor(math.log10(high))
            step = next(step * factor for factor in (0.1, 0.2, 0.5, 1) if high / (step * factor) <= 8)
            self.ticks = [step * number for number in range(int(high / step) + 1)]
            self.low, self.high = 0, high

    def at(self, value):
        value = math.log10(value) if self.logarithmic else value
        return self.first + (self.last - self.first) * (value - self.low) / (self.high - self.low)


def short(value):
    """A tick's label: 250000 is 250k."""
    for unit, suffix in ((1e6, "M"), (1e3, "k")):
        if value >= unit:
            return f"{value / unit:g}{suffix}"
    return f"{value:g}"


def lines(title, x_name, y_name, series, log_x=False, log_y=False):
    """The SVG of several series: (name, [(x, y), ...])."""
    points = [point for _, line in series for point in line]
    x = Axis([point[0] for point in points], LEFT, WIDTH - RIGHT, log_x)
    y = Axis([point[1] for point in points], HEIGHT - BOTTOM, TOP, log_y)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">',
           f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
           f'<text x="{LEFT}" y="22" font-size="14">{title}</text>']
    for tick in x.ticks:
        at = x.at(tick)
        out.append(f'<line x1="{at:.1f}" y1="{TOP}" x2="{at:.1f}" y2="{HEIGHT - BOTTOM}" stroke="#ddd"/>')
        out.append(f'<text x="{at:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{short(tick)}</text>')
    for tick in y.ticks:
        at = y.at(tick)
        out.append(f'<line x1="{LEFT}" y1="{at:.1f}" x2="{WIDTH - RIGHT}" y2="{at:.1f}" stroke="#ddd"/>')
        out.append(f'<text x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{short(tick)}</text>')
    middle = (TOP + HEIGHT - BOTTOM) / 2
    out.append(f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 16}" text-anchor="middle">{x_name}</text>')
    out.append(f'<text x="20" y="{middle}" text-anchor="middle" transform="rotate(-90 20 {middle})">{y_name}</text>')
    taken = []
    for (name, line), colour in zip(series, COLOURS):
        path = " ".join(f"{x.at(a):.1f},{y.at(b):.1f}" for a, b in line)
        out.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        out += [f'<circle cx="{x.at(a):.1f}" cy="{y.at(b):.1f}" r="3" fill="{colour}"/>' for a, b in line]
        # Names stand at the lines' ends, at least a line of text apart.
        at = y.at(line[-1][1]) + 4
        while any(abs(at - other) < 14 for other in taken):
            at += 2
        taken.append(at)
        out.append(f'<text x="{WIDTH - RIGHT + 8}" y="{at:.1f}" fill="{colour}">{name}</text>')
    return "\n".join(out + ["</svg>"]) + "\n"
