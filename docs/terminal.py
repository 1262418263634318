#!/usr/bin/env python3
"""Runs a program on a terminal of its own and draws the last screen as an SVG.

    python3 docs/terminal.py OUT.svg [--columns 100] [--rows 40] -- PROGRAM ARGUMENTS...

The standard library is all it needs. Understood are the sequences that xgbrun writes: carriage
return, line feed, cursor up, erasing to the end of line and screen, and colours of 256 and of 24
bits.
"""

import argparse
import fcntl
import html
import os
import pty
import re
import struct
import sys
import termios

FOREGROUND, BACKGROUND = "#d8dee9", "#16181d"
FONT = "ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace"
WIDE, HIGH, SIZE, EDGE = 8.4, 18, 14, 14
TOKEN = re.compile(
    r"\x1b\[([?0-9;]*)([A-Za-z])|\x1b.|([\x00-\x1f\x7f])|([^\x00-\x1f\x7f\x1b]+)", re.S
)
PLAIN = (None, None, False)


def palette(n):
    """The colour of number `n` of 256, as xterm has it."""
    if n >= 232:
        return (8 + 10 * (n - 232),) * 3
    if n >= 16:
        return tuple(
            0 if c == 0 else 55 + 40 * c for c in ((n - 16) // 36, (n - 16) // 6 % 6, (n - 16) % 6)
        )
    return tuple(
        (170 if n < 8 else 255) * (n >> bit & 1) + (85 if n > 7 and not n >> bit & 1 else 0)
        for bit in range(3)
    )


class Screen:
    """Lines of (character, style); all that scrolled by is kept."""

    def __init__(self, columns, rows):
        self.columns, self.rows = columns, rows
        self.lines, self.row, self.column, self.style = [[]], 0, 0, PLAIN

    def write(self, text):
        for parameters, letter, control, plain in TOKEN.findall(text):
            if plain:
                for character in plain:
                    self.put(character)
            elif control == "\r":
                self.column = 0
            elif control == "\n":
                self.feed()
            elif letter and not parameters.startswith("?"):
                self.sequence(letter, [int(n or 0) for n in parameters.split(";")])

    def feed(self):
        self.row += 1
        if self.row == len(self.lines):
            self.lines.append([])

    def put(self, character):
        if self.column == self.columns:
            self.column = 0
            self.feed()
        line = self.lines[self.row]
        line.extend([(" ", PLAIN)] * (self.column + 1 - len(line)))
        line[self.column] = (character, self.style)
        self.column += 1

    def sequence(self, letter, numbers):
        if letter == "A":
            top = max(0, len(self.lines) - self.rows)
            self.row = max(top, self.row - max(1, numbers[0]))
        elif letter in "KJ" and numbers[0] == 0:
            del self.lines[self.row][self.column :]
            if letter == "J":
                del self.lines[self.row + 1 :]
        elif letter == "m":
            self.color(numbers)

    def color(self, numbers):
        foreground, background, dim = self.style
        while numbers:
            n = numbers.pop(0)
            if n == 0:
                foreground, background, dim = PLAIN
            elif n == 2:
                dim = True
            elif n in (38, 48) and numbers:
                kind = numbers.pop(0)
                if kind == 5:
                    value = palette(numbers.pop(0))
                else:
                    value = tuple(numbers.pop(0) for _ in range(3))
                foreground, background = (value, background) if n == 38 else (foreground, value)
        self.style = (foreground, background, dim)


def runs(line):
    """Neighbours of one style: column, text, style."""
    start = 0
    while start < len(line):
        end = start
        while end < len(line) and line[end][1] == line[start][1]:
            end += 1
        yield start, "".join(character for character, _ in line[start:end]), line[start][1]
        start = end


def svg(screen):
    lines = [line for line in screen.lines]
    while lines and not any(c != " " or style[1] for c, style in lines[-1]):
        lines.pop()
    lines = lines[-screen.rows :]
    width, height = 2 * EDGE + WIDE * screen.columns, 2 * EDGE + HIGH * len(lines)
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" '
        f'width="{width:g}" height="{height:g}">',
        f'<rect width="{width:g}" height="{height:g}" rx="6" fill="{BACKGROUND}"/>',
        f'<g font-family="{FONT}" font-size="{SIZE}" fill="{FOREGROUND}">',
    ]
    for row, line in enumerate(lines):
        top = EDGE + HIGH * row
        for column, text, (foreground, background, dim) in runs(line):
            left, wide = EDGE + WIDE * column, WIDE * len(text)
            if background:
                color = "#%02x%02x%02x" % background
                out.append(
                    f'<rect x="{left:g}" y="{top:g}" width="{wide + 0.3:g}" '
                    f'height="{HIGH + 0.3:g}" fill="{color}"/>'
                )
            color = ' fill="#%02x%02x%02x"' % foreground if foreground else ""
            faint = ' opacity="0.45"' if dim else ""
            # Viewers differ in what they make of several spaces, so that a text has none.
            for part in re.finditer(r"\S+(?: \S+)*", text):
                place = f'x="{left + WIDE * part.start():g}" y="{top + 13.5:g}"'
                length = f'textLength="{WIDE * len(part[0]):g}" lengthAdjust="spacingAndGlyphs"'
                out.append(f"<text {place} {length}{color}{faint}>{html.escape(part[0])}</text>")
    return "\n".join(out + ["</g>", "</svg>", ""])


def record(command, columns, rows):
    """Exit code of `command`, and the screen it left."""
    child, terminal = pty.fork()
    if child == 0:
        # The parent may not have set the size yet, so the child sets it itself.
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        os.environ.update(TERM="xterm-256color", COLORTERM="truecolor")
        os.environ.pop("NO_COLOR", None)
        os.execvp(command[0], command)
    screen, held = Screen(columns, rows), b""
    while True:
        try:
            part = os.read(terminal, 65536)
        except OSError:
            part = b""
        if not part:
            break
        held += part
        # What is not whole yet, a sequence or a character of several bytes, waits for the rest.
        end = held.rfind(b"\n") + 1
        screen.write(held[:end].decode(errors="replace"))
        held = held[end:]
    screen.write(held.decode(errors="replace"))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), screen


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", help="the SVG to write")
    parser.add_argument("--columns", type=int, default=100)
    parser.add_argument("--rows", type=int, default=40)
    parser.add_argument("command", nargs="+", help="program and arguments, after --")
    args = parser.parse_args()
    code, screen = record(args.command, args.columns, args.rows)
    with open(args.out, "w", encoding="utf-8") as file:
        file.write(svg(screen))
    sys.exit(code)


if __name__ == "__main__":
    main()
