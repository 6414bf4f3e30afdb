#!/usr/bin/env python3
"""Draws docs/images/demo.svg: what `tollhouse demo` shows in a terminal after some seconds.

Needs pyte (pip install pyte) and a release build: docs/images/demo.py > docs/images/demo.svg
"""

import fcntl
import html
import os
import pty
import select
import struct
import sys
import termios
import time

import pyte

COLUMNS, ROWS, SECONDS = 90, 23, 40
CELL_WIDTH, LINE_HEIGHT, MARGIN = 8.4, 18, 14
PROGRAM = "target/release/tollhouse"
BACKGROUND, TEXT, DIM = "#11151c", "#d7dde6", "#8792a2"
COLOURS = {"red": "#f47067", "green": "#6bc46d", "brown": "#daaa3f", "cyan": "#56c8d8"}


def record():
    """The screen of the demo, as pyte sees it."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ["TERM"] = "xterm-256color"
        os.execv(PROGRAM, [PROGRAM, "demo"])
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    screen = pyte.Screen(COLUMNS, ROWS)
    stream = pyte.ByteStream(screen)
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        if select.select([terminal], [], [], 0.2)[0]:
            # pyte knows no dim text (SGR 2): blink (SGR 5), which the demo never uses, stands for it.
            stream.feed(os.read(terminal, 65536).replace(b"\x1b[2m", b"\x1b[5m"))
    shot = [[screen.buffer[row][column] for column in range(COLUMNS)] for row in range(ROWS)]
    os.write(terminal, b"q")
    try:
        while os.read(terminal, 65536):
            pass
    except OSError:
        pass
    os.waitpid(pid, 0)
    return shot


def runs(line):
    """Neighbouring cells of one look, without blank ends: (first column, text, cell)."""
    start = 0
    for column in range(1, len(line) + 1):
        if column == len(line) or look(line[column]) != look(line[start]):
            text = "".join(cell.data for cell in line[start:column])
            first = start + len(text) - len(text.lstrip())
            if text.strip():
                yield first, text.strip(), line[start]
            start = column


def look(cell):
    return cell.fg, cell.bold, cell.blink


def draw(shot):
    width, height = COLUMNS * CELL_WIDTH + 2 * MARGIN, ROWS * LINE_HEIGHT + 2 * MARGIN
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" font-size="14" '
        f'font-family="ui-monospace, SFMono-Regular, Menlo, Consolas, DejaVu Sans Mono, monospace">'
    )
    yield f'<rect width="100%" height="100%" rx="8" fill="{BACKGROUND}"/>'
    for row, line in enumerate(shot):
        for column, text, cell in runs(line):
            fill = DIM if cell.blink else COLOURS.get(cell.fg, TEXT)
            weight = ' font-weight="bold"' if cell.bold else ""
            x, y = MARGIN + column * CELL_WIDTH, MARGIN + row * LINE_HEIGHT + 14
            # The length pins the grid, whatever font the reader has.
            yield (
                f'<text x="{x:.1f}" y="{y}" fill="{fill}"{weight} xml:space="preserve" '
                f'textLength="{len(text) * CELL_WIDTH:.1f}">{html.escape(text)}</text>'
            )
    yield "</svg>"


sys.stdout.write("\n".join(draw(record())) + "\n")
