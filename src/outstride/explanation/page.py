"""Scenes as one page that works from a file: each with buttons to go through it step by step."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from outstride.explanation.scene import Scene
from outstride.explanation.svg import svg

_STYLE = (
    "body{font-family:system-ui,sans-serif;max-width:70em;margin:2em auto;padding:0 1em;color:#222}"
    "figure{margin:1em 0;overflow-x:auto}button{font-size:1em;margin-right:.3em}"
    "input{vertical-align:middle;width:20em}code{background:#f2f2f2;padding:.1em .3em}"
)
_SCRIPT = """
for (const figure of document.querySelectorAll('figure')) {
  const frames = [...figure.querySelectorAll('g.frame')], slider = figure.querySelector('input')
  const play = figure.querySelector('.play')
  let timer = null
  const show = n => {
    slider.value = n
    frames.forEach((frame, i) => frame.setAttribute('visibility', i === n ? 'visible' : 'hidden'))
  }
  const step = by => show((+slider.value + by + frames.length) % frames.length)
  const stop = () => { clearInterval(timer); timer = null; play.textContent = 'play' }
  figure.querySelector('.back').onclick = () => { stop(); step(-1) }
  figure.querySelector('.on').onclick = () => { stop(); step(1) }
  slider.oninput = () => { stop(); show(+slider.value) }
  play.onclick = () => {
    if (timer) return stop()
    timer = setInterval(() => step(1), MILLISECONDS)
    play.textContent = 'stop'
  }
  show(0)
}
"""


def page(heading: str, scenes: Sequence[Scene], seconds: float = 1.0) -> str:
    """A whole HTML document."""
    parts = []
    for scene in scenes:
        last = len(scene.frames) - 1
        controls = (
            "<button class='back'>back</button><button class='play'>play</button>"
            "<button class='on'>on</button>"
            f"<input type='range' min='0' max='{last}' value='0' aria-label='step'>"
        )
        picture = svg(scene, moving=False)
        parts.append(f"<h2>{escape(scene.title)}</h2><figure>{picture}<div>{controls}</div></figure>")
    script = _SCRIPT.replace("MILLISECONDS", str(round(1000 * seconds)))
    return (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
        f"<title>{escape(heading)}</title><style>{_STYLE}</style></head><body>"
        f"<h1><code>{escape(heading)}</code></h1>{''.join(parts)}<script>{script}</script></body></html>"
    )
