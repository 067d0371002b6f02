"""Scenes with buttons and keys to go through them step by step: HTML that needs no server and no kernel.

Pointing at a cell that one step alone uses or makes shows that step. Where scripts do not run, as in a
notebook that nobody trusts, every view is shown and moves by itself.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape

from outstride.explanation.drawing import CELL, Cell, Layout
from outstride.explanation.scene import Scene
from outstride.explanation.svg import dark, motion_rules, svg

_STYLE = (
    ".outstride{font-family:system-ui,sans-serif;font-size:14px;line-height:1.4;color:#222;max-width:100%}"
    ".outstride figure{margin:.5em 0 1.2em;max-width:100%}"
    ".outstride figure:focus-visible{outline:2px solid #2a6fb0;outline-offset:4px}"
    ".outstride figcaption{font-weight:600;font-style:normal;text-align:left;margin:0 0 .3em;color:inherit}"
    ".outstride figure{overflow-x:auto}.outstride svg{max-width:100%;height:auto;display:block}"
    ".outstride .o-paper{fill:none}"
    ".outstride [hidden]{display:none!important}"
    ".outstride .o-tabs,.outstride .o-bar{display:flex;flex-wrap:wrap;gap:.4em;align-items:center}"
    ".outstride button{font:inherit;color:inherit;background:#eef1f4;border:1px solid #767c84;"
    "border-radius:5px;padding:.25em .7em;cursor:pointer}"
    ".outstride .o-play{min-width:4.5em}"
    ".outstride button[aria-selected=true]{background:#1f5f99;border-color:#1f5f99;color:#fff}"
    ".outstride button:focus-visible,.outstride input:focus-visible{outline:2px solid #2a6fb0;"
    "outline-offset:2px}"
    ".outstride input{flex:1 1 8em;max-width:22em;accent-color:#1f5f99}"
    ".outstride .o-count{font-variant-numeric:tabular-nums;white-space:nowrap}"
    ".outstride .o-said{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%);"
    "white-space:nowrap;margin:0}"
)

_DARK = "color:#e9eaec"
_DARK_BUTTONS = "background:#2b2e34;border-color:#868d96"

_SCRIPT = """
(() => {
  const dark = element => {
    for (let at = element; at; at = at.parentElement) {
      const parts = (getComputedStyle(at).backgroundColor.match(/[\\d.]+/g) || []).map(Number)
      if (parts.length >= 3 && !(parts.length > 3 && parts[3] === 0))
        return parts[0] * .3 + parts[1] * .59 + parts[2] * .11 < 128
    }
    return matchMedia('(prefers-color-scheme: dark)').matches
  }
  const still = matchMedia('(prefers-reduced-motion: reduce)').matches
  for (const root of document.querySelectorAll('.outstride:not([data-ready])')) {
    root.dataset.ready = ''
    root.dataset.theme = dark(root.parentElement) ? 'dark' : 'light'
    const figures = [...root.querySelectorAll('figure')], tabs = [...root.querySelectorAll('[role=tab]')]
    const players = figures.map(figure => {
      const frames = [...figure.querySelectorAll('g.frame')], find = name => figure.querySelector(name)
      const captions = JSON.parse(figure.dataset.captions), slider = find('input'), play = find('.o-play')
      const said = find('.o-said'), picture = find('svg'), cells = JSON.parse(figure.dataset.cells)
      let timer = null
      const show = n => {
        slider.value = n
        slider.setAttribute('aria-valuetext', `${n + 1} / ${frames.length}: ${captions[n]}`)
        find('.o-count').textContent = `${n + 1} / ${frames.length}`
        frames.forEach((frame, i) => frame.setAttribute('visibility', i === n ? 'visible' : 'hidden'))
        if (!timer) said.textContent = captions[n]
      }
      const step = by => show((+slider.value + by + frames.length) % frames.length)
      const stop = () => { clearInterval(timer); timer = null; play.textContent = 'play' }
      const start = () => {
        if (timer || frames.length < 2) return
        timer = setInterval(() => figure.isConnected ? step(1) : stop(), +root.dataset.milliseconds)
        play.textContent = 'stop'
      }
      const moves = {ArrowLeft: () => step(-1), ArrowRight: () => step(1), Home: () => show(0),
        End: () => show(frames.length - 1)}
      find('.o-back').onclick = () => { stop(); step(-1) }
      find('.o-on').onclick = () => { stop(); step(1) }
      slider.oninput = () => { stop(); show(+slider.value) }
      play.onclick = () => timer ? stop() : start()
      const pointed = event => {
        const toPicture = picture.getScreenCTM().inverse()
        const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(toPicture)
        const within = (place, from, size) => place >= from && place < from + size
        const under = ([x, y]) => within(at.x, x, cells.width) && within(at.y, y, cells.height)
        const cell = cells.steps.find(under)
        return cell ? cell[2] : null
      }
      picture.onpointermove = event => {
        const n = timer ? null : pointed(event)
        picture.style.cursor = n === null ? '' : 'pointer'
        if (n !== null && event.pointerType === 'mouse') show(n)
      }
      picture.onclick = event => {
        const n = pointed(event)
        if (n === null) return
        stop()
        show(n)
      }
      figure.onkeydown = event => {
        if (event.ctrlKey || event.altKey || event.metaKey) return
        const space = event.key === ' ' && event.target === figure
        if (!space && !(event.key in moves)) return
        event.preventDefault()
        event.stopPropagation()
        if (space) return play.onclick()
        stop()
        moves[event.key]()
      }
      figure.tabIndex = 0
      find('.o-bar').hidden = false
      show(0)
      return {start, stop}
    })
    const choose = n => {
      figures.forEach((figure, i) => { figure.hidden = i !== n })
      tabs.forEach((tab, i) => {
        tab.setAttribute('aria-selected', i === n)
        tab.tabIndex = i === n ? 0 : -1
      })
      players.forEach((player, i) => { if (i !== n) player.stop() })
    }
    tabs.forEach((tab, n) => {
      tab.onclick = () => choose(n)
      tab.onkeydown = event => {
        const by = {ArrowRight: 1, ArrowLeft: -1}[event.key]
        if (!by) return
        event.preventDefault()
        event.stopPropagation()
        const next = (n + by + tabs.length) % tabs.length
        choose(next)
        tabs[next].focus()
      }
    })
    if (tabs.length > 1) root.querySelector('[role=tablist]').hidden = false
    choose(0)
    if ('autoplay' in root.dataset && !still) players[0].start()
  }
})()
"""


def player(heading: str, scenes: Sequence[Scene], seconds: float = 1.0, autoplay: bool = False) -> str:
    """A piece of HTML: the views as tabs, and of the chosen one its steps."""
    tabs = "".join(f"<button type='button' role='tab'>{escape(scene.name)}</button>" for scene in scenes)
    figures = "".join(_figure(scene, seconds) for scene in scenes)
    start = " data-autoplay" if autoplay else ""
    return (
        f"<div class='outstride' role='group' aria-label='{escape(heading)}' "
        f"data-milliseconds='{round(1000 * seconds)}'{start}><style>{_rules(scenes, seconds)}</style>"
        f"<div class='o-tabs' role='tablist' aria-label='views' hidden>{tabs}</div>"
        f"{figures}<script>{_SCRIPT}</script></div>"
    )


def _cells(scene: Scene) -> dict[str, object]:
    """Where the cells lie that one step alone uses or makes, and which step that is."""
    layout, steps = Layout(scene), dict[tuple[int, int], list[int]]()
    for step, frame in enumerate(scene.frames):
        for part in layout.parts(frame):
            if isinstance(part, Cell) and part.role in ("active", "result"):
                steps.setdefault((part.x, part.y), []).append(step)
    alone = [(x, y, found[0]) for (x, y), found in steps.items() if len(found) == 1]
    return {"width": layout.cell, "height": CELL, "steps": alone}


def _rules(scenes: Sequence[Scene], seconds: float) -> str:
    """How it looks; dark where the reader wants it, until the script has seen what the page is like."""
    wanted, found = ".outstride:not([data-theme=light])", ".outstride[data-theme=dark]"
    themes = [
        f"{where}{{{_DARK}}}{where} button:not([aria-selected=true]){{{_DARK_BUTTONS}}}{dark(f'{where} ')}"
        for where in (wanted, found)
    ]
    moving = "".join(
        motion_rules(count, seconds, f".outstride:not([data-ready]) .o-frames{count} ")
        for count in sorted({len(scene.frames) for scene in scenes})
        if count > 1
    )
    return f"{_STYLE}@media(prefers-color-scheme:dark){{{themes[0]}}}{themes[1]}{moving}"


def _figure(scene: Scene, seconds: float) -> str:
    last = len(scene.frames) - 1
    captions = escape(json.dumps([frame.caption for frame in scene.frames], ensure_ascii=False))
    cells = escape(json.dumps(_cells(scene), separators=(",", ":")))
    return (
        f"<figure class='o-frames{last + 1}' data-captions='{captions}' data-cells='{cells}'>"
        f"<figcaption>{escape(scene.title)}</figcaption>"
        f"{svg(scene, seconds, styled=False)}<div class='o-bar' hidden>"
        "<button type='button' class='o-back'>back</button>"
        "<button type='button' class='o-play'>play</button>"
        "<button type='button' class='o-on'>next</button>"
        f"<input type='range' min='0' max='{last}' value='{last}' aria-label='step'>"
        "<span class='o-count'></span></div><p class='o-said' aria-live='polite'></p></figure>"
    )
