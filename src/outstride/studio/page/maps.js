// Small maps of numbers: how often each place is met, what a constant becomes.

import { s } from './dom.js'
import { titled } from './words.js'

export function overlapMap({ rows, columns, text, shade, title }) {
  const cell = Math.max(9, Math.min(34, 320 / columns, 240 / rows))
  const map = s('svg', { class: 'map', viewBox: `0 0 ${columns * cell} ${rows * cell}`, width: columns * cell, height: rows * cell, role: 'img', 'aria-label': titled(title) })
  text.forEach((label, i) => {
    const x = (i % columns) * cell, y = Math.floor(i / columns) * cell
    const box = s('rect', { x: x + .6, y: y + .6, width: cell - 1.2, height: cell - 1.2, rx: Math.min(4, cell / 6), fill: 'var(--output-deep)', 'fill-opacity': .08 + .92 * shade[i] })
    map.append(box)
    if (cell > 16) map.append(s('text', { x: x + cell / 2, y: y + cell / 2, fill: shade[i] > .5 ? 'var(--on-deep)' : 'var(--ink)' }, label))
  })
  return map
}
