// A model as one picture: every tensor a plate, in the order in which they are made; what a place reads lights up.

import { h, s, still } from './dom.js'
import { ask } from './ask.js'
import { word } from './words.js'
import { told } from './sentences.js'

// Between plates, above and below a row of them, their longest side, and letters that can still be read.
const GAP = 16, TOP = 62, LABELS = 96, TALL = 150, LEAST_LETTER = 7, LETTER = 11
// Parts of the model are named when its layers cannot be: their letters' size, and width.
const PART_LETTER = 13, PART_WIDTH = 7.4

export class Model {
  constructor(root, { state, onstate }) {
    this.state = state; this.onstate = onstate
    this.title = h('div', { className: 'title' })
    this.said = h('p', { className: 'said' })
    this.canvas = s('svg', { class: 'network', role: 'group', tabindex: '0', 'aria-label': word('model picture') })
    this.facts = h('div')
    this.size = h('input', { type: 'range', min: 1, max: 512, value: 224, 'aria-label': word('input size'), oninput: () => { this.sized.value = this.size.value; this.fit() } })
    this.sized = h('input', { type: 'text', id: 'model-size', 'aria-label': word('input size'), title: word('field hint'), oninput: () => { this.size.value = Number(/\d+/.exec(this.sized.value)?.[0] ?? 1); this.fit() } })
    this.fits = h('p', { className: 'fits', role: 'status' })
    this.findings = h('div')
    this.names = h('datalist', { id: 'model-layers' })
    this.sought = h('input', { type: 'search', id: 'model-layer', placeholder: word('find layer'), 'aria-label': word('find layer'), oninput: () => this.seek(this.sought.value), onchange: () => this.seek(this.sought.value) })
    this.sought.setAttribute('list', 'model-layers')
    const button = (name, by) => h('button', { type: 'button', className: 'plain', onclick: () => this.zoom(by), 'aria-label': word(name), title: word(name) }, by > 1 ? '−' : '+')
    this.card = h('div', { className: 'picture', hidden: true },
      h('div', { className: 'flow' }, this.title, h('div', { className: 'chips' }, this.sought, this.names, button('nearer', .7), button('farther', 1.4), h('button', { type: 'button', className: 'plain', onclick: () => this.home() }, word('whole model')))),
      this.canvas, this.said, h('div', { className: 'spread' }, h('div', {}, h('h3', {}, word('model sizes')), h('div', { className: 'sizing' }, this.size, this.sized), this.fits, this.findings), this.facts))
    root.append(this.card)
    this.listen()
  }

  async show(on) {
    this.card.hidden = !on
    if (!on || this.asked) return
    this.asked = true
    this.said.textContent = word('wait')
    try { this.found = await ask('model', {}) } catch (error) { this.said.textContent = error.message; return }
    if (!this.card.hidden) this.draw()
    else this.asked = false
  }

  draw() {
    const { nodes, name, shape } = this.found
    this.title.textContent = name
    this.said.textContent = word('model hint')
    const most = Math.max(...nodes.flatMap(node => node.shape.slice(2)), 2)
    const long = n => 10 + TALL * Math.log2(n + 1) / Math.log2(most + 1)
    const known = new Map(nodes.map(node => [node.index, node]))
    const chains = this.found.chains.map(chain => ({ chain, parts: chain.map(index => known.get(index)) }))
    const marked = new Map(this.found.findings.flatMap(one => one.places.map(([, node]) => [node, one.bad])).sort((a, b) => a[1] - b[1]))
    // Rows like those of a text, as many as fill the canvas.
    const sizes = chains.map(({ parts }) => { const n = parts[0].shape.slice(2); return { tall: n.length > 1 ? long(n.at(-2)) : 16, wide: n.length ? long(n.at(-1)) * .8 : 14 } })
    const tallest = Math.max(...sizes.map(one => one.tall)), ROW = TOP + tallest + LABELS
    const total = sizes.reduce((sum, one) => sum + one.wide + GAP, 0), box = this.canvas.getBoundingClientRect()
    const rows = Math.max(1, Math.round(Math.sqrt(total * box.height / (box.width * ROW)))), limit = total / rows
    let x = 30, row = 0
    this.wide = 0
    this.plates = new Map()
    chains.forEach(({ chain, parts }, n) => {
      if (x > limit && row < rows - 1) { x = 30; row += 1 }
      const { tall, wide } = sizes[n]
      const plate = { ...parts[0], chain, parts, n, row, x, y: row * ROW + TOP + (tallest - tall) / 2, w: wide, h: tall, places: parts[0].shape.slice(2) }
      chain.forEach(index => this.plates.set(index, plate))
      x += wide + GAP
      this.wide = Math.max(this.wide, x)
    })
    const order = chains.map(({ chain }) => this.plates.get(chain[0]))
    let lane = 0
    const arcs = order.flatMap(plate => plate.sources.map(source => {
      const from = this.plates.get(source)
      if (!from) return null
      const far = plate.n - from.n, x0 = from.x + from.w, x1 = plate.x, y0 = from.y + from.h / 2, y1 = plate.y + plate.h / 2
      if (plate.row !== from.row) { const mid = plate.row * ROW + 4 - (far === 1 ? 0 : 5 + 6 * (lane++ % 6)); return s('path', { class: far === 1 ? 'edge' : 'edge far', d: `M${x0} ${y0}C${x0 + 40} ${y0} ${x0 + 40} ${mid} ${x0} ${mid}L${x1} ${mid}C${x1 - 30} ${mid} ${x1 - 30} ${y1} ${x1} ${y1}` }) }
      if (far === 1) return s('path', { class: 'edge', d: `M${x0} ${y0}L${x1} ${y1}` })
      const up = plate.row * ROW + Math.max(TOP - 20 - far * 5, 4), a = from.x + from.w / 2, b = plate.x + plate.w / 2
      return s('path', { class: 'edge far', d: `M${a} ${from.y}C${a} ${up} ${b} ${up} ${b} ${plate.y}` })
    }))
    this.groups = new Map(order.map(plate => {
      const lit = s('rect', { class: 'lit', visibility: 'hidden', rx: 1.5 })
      const label = plate.layer || plate.kind, under = plate.row * ROW + TOP + tallest + 14, bad = plate.chain.map(index => marked.get(index)).filter(one => one !== undefined)
      const group = s('g', { class: `plate ${plate.family}`, 'data-node': plate.index }, s('rect', { class: 'body', x: plate.x, y: plate.y, width: plate.w, height: plate.h, rx: 3 }), lit, bad.length > 0 && s('circle', { class: bad.includes(true) ? 'finding bad' : 'finding', cx: plate.x + plate.w, cy: plate.y, r: bad.includes(true) ? 6.5 : 4 }),
        s('text', { class: 'label', x: plate.x + plate.w / 2 - 4, y: under, transform: `rotate(32 ${plate.x + plate.w / 2 - 4} ${under})` }, label),
        s('title', {}, `${plate.parts.map(part => part.layer || part.kind).join(', ')}\n${plate.kind} ${plate.shape.join(' × ')}`))
      return [plate.index, { group, lit, plate }]
    }))
    this.canvas.replaceChildren(...arcs.filter(Boolean), ...[...this.groups.values()].map(one => one.group), )
    this.wide += 60; this.high = (row + 1) * ROW
    this.canvas.append(...parts(order, plate => plate.row * ROW + TOP + tallest, box.width, Math.min(box.width / this.wide, box.height / this.high)))
    this.home()
    this.names.replaceChildren(...order.flatMap(plate => plate.parts).filter(part => part.layer).map(part => h('option', { value: part.layer })))
    this.size.max = Math.max(512, shape.at(-1) * 2); this.size.value = shape.at(-1)
    this.sized.value = this.state().input || shape.slice(2).join('x')
    this.fit()
    this.tell()
    const seen = order.filter(plate => plate.places.length && Math.max(...plate.places) > 1), last = seen[Math.floor(seen.length * .55)] ?? order[0]
    const kept = this.plates.get(Number(this.state().node || NaN)), places = (this.state().place ?? '').split(',').map(Number)
    if (kept && places.length === kept.places.length && places.every((at, axis) => at >= 0 && at < kept.places[axis])) this.point(Number(this.state().node), places)
    else this.middle(last)
  }

  // The link names another place of the model, or the canvas has another size.
  adopt() { if (this.found && !this.card.hidden) this.draw() }

  redraw() { this.adopt() }

  // What was found, with its places: a click leads there.
  tell() {
    const { findings } = this.found
    const place = ([name, node]) => h('button', { type: 'button', className: 'chip', onclick: () => this.visit(node) }, name)
    this.findings.replaceChildren(...(findings.length ? [h('h3', {}, word('model findings')), h('ul', { className: 'merits' }, findings.map(one => h('li', {},
      h('span', { className: one.bad ? 'no' : 'so', role: 'img', 'aria-label': word(one.bad ? 'bad' : 'so') }, one.bad ? '✗' : '·'),
      h('div', {}, h('div', { className: 'chips' }, one.places.slice(0, 5).map(place), one.places.length > 5 && h('details', {}, h('summary', {}, `+ ${one.places.length - 5}`), h('div', { className: 'chips' }, one.places.slice(5).map(place)))), h('span', {}, told(one.text)),
        one.helps.length > 0 && h('details', {}, h('summary', {}, word('cures')), h('ul', { className: 'helps' }, one.helps.map(help => h('li', {}, told(help)))))))))] : []))
  }

  visit(node) {
    const plate = this.plates.get(node)
    this.middle(plate)
    this.canvas.scrollIntoView({ block: 'nearest' })
    const w = Math.min(this.view.w, 700), high = w * this.high / this.wide
    this.look({ x: plate.x + (plate.w - w) / 2, y: plate.y + (plate.h + LABELS - high) / 2, w, h: high })
  }

  seek(name) {
    const found = this.found?.nodes.find(node => node.layer && node.layer === name.trim())
    if (found) this.visit(found.index)
  }

  middle(plate) { this.point(plate.index, plate.places.map(n => Math.floor(n / 2))) }

  // The view box is where the reader stands: it glides there.
  home() { this.look({ x: 0, y: 0, w: this.wide, h: this.high }) }

  look(goal) {
    cancelAnimationFrame(this.gliding)
    const from = this.view ?? goal, begun = performance.now()
    const tick = time => {
      const t = still() ? 1 : Math.min((time - begun) / 260, 1), e = t * (2 - t)
      this.view = Object.fromEntries(Object.entries(goal).map(([key, value]) => [key, from[key] + (value - from[key]) * e]))
      const { x, y, w, h: high } = this.view
      this.canvas.setAttribute('viewBox', `${x} ${y} ${w} ${high}`)
      const box = this.canvas.getBoundingClientRect(), scale = Math.min(box.width / w, box.height / high)
      this.canvas.classList.toggle('near', scale > 1.2)
      this.canvas.classList.toggle('far', scale * LETTER < LEAST_LETTER)
      this.canvas.style.setProperty('--letter', `${PART_LETTER / scale}px`)
      if (t < 1) this.gliding = requestAnimationFrame(tick)
    }
    this.gliding = requestAnimationFrame(tick)
  }

  zoom(by, at = [.5, .5]) {
    const { x, y, w, h: high } = this.view
    const to = Math.max(160, Math.min(w * by, this.wide * 1.2)), scale = to / w
    this.look({ x: x + (w - to) * at[0], y: y + (high - high * scale) * at[1], w: to, h: high * scale })
  }

  listen() {
    this.canvas.addEventListener('wheel', event => {
      event.preventDefault()
      const box = this.canvas.getBoundingClientRect()
      this.zoom(event.deltaY > 0 ? 1.25 : .8, [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height])
    }, { passive: false })
    let held = null
    this.canvas.addEventListener('pointerdown', event => { held = { x: event.clientX, y: event.clientY, view: this.view, moved: false } })
    addEventListener('pointerup', () => { held = null })
    this.canvas.addEventListener('pointermove', event => {
      if (!held?.view || !event.buttons) return
      const box = this.canvas.getBoundingClientRect(), scale = Math.max(this.view.w / box.width, this.view.h / box.height)
      if (Math.hypot(event.clientX - held.x, event.clientY - held.y) > 4) held.moved = true
      if (held.moved) { cancelAnimationFrame(this.gliding); this.view = { ...held.view, x: held.view.x - (event.clientX - held.x) * scale, y: held.view.y - (event.clientY - held.y) * scale }; this.canvas.setAttribute('viewBox', `${this.view.x} ${this.view.y} ${this.view.w} ${this.view.h}`) }
      this.dragged = held.moved
    })
    this.canvas.addEventListener('click', event => {
      if (this.dragged) { this.dragged = false; return }
      const group = event.target.closest('[data-node]')
      if (!group) return
      const plate = this.plates.get(Number(group.dataset.node)), box = group.querySelector('.body').getBoundingClientRect()
      const part = [(event.clientY - box.top) / box.height, (event.clientX - box.left) / box.width]
      this.point(plate.index, plate.places.map((n, axis) => Math.max(0, Math.min(n - 1, Math.floor(part[axis + 2 - plate.places.length] * n || 0)))))
    })
    this.canvas.addEventListener('keydown', event => {
      const order = [...(this.groups?.keys() ?? [])], by = { ArrowLeft: -1, ArrowRight: 1 }[event.key]
      if (event.key === '+' || event.key === '-') { event.preventDefault(); this.zoom(event.key === '+' ? .7 : 1.4) }
      const turn = { ArrowLeft: [-1, -1], ArrowRight: [-1, 1], ArrowUp: [-2, -1], ArrowDown: [-2, 1] }[event.key]
      if (!turn || !order.length || (!event.shiftKey && !by)) return
      event.preventDefault(); event.stopPropagation()
      const plate = this.plates.get(this.cursor)
      if (!event.shiftKey) { this.follow(this.plates.get(order[Math.max(0, Math.min(order.length - 1, order.indexOf(plate.index) + by))])); return }
      const axis = plate.places.length + turn[0]
      if (axis >= 0) this.point(plate.index, this.place.map((place, n) => n === axis ? Math.max(0, Math.min(plate.places[n] - 1, place + turn[1])) : place))
    })
  }

  // By keys from tensor to tensor: the picture comes along.
  follow(plate) {
    this.middle(plate)
    const { x, y, w, h: high } = this.view
    if (plate.x < x || plate.y < y || plate.x + plate.w > x + w || plate.y + plate.h > y + high) this.look({ x: plate.x + (plate.w - w) / 2, y: plate.y + (plate.h - high) / 2, w, h: high })
  }

  async point(node, at) {
    this.cursor = node; this.place = at
    const mine = this.pointing = {}
    let found
    try { found = await ask('field', { node, at }) } catch (error) { this.said.textContent = error.message; return }
    if (mine !== this.pointing) return
    for (const { group, lit, plate } of this.groups.values()) {
      const box = found.boxes[plate.index]
      group.classList.toggle('off', !box)
      group.classList.toggle('now', plate.chain.includes(node))
      if (!box || !plate.places.length) { lit.setAttribute('visibility', 'hidden'); continue }
      const [rows, columns] = box.length > 1 ? box.slice(-2) : [[0, 1], box[0]]
      const [high, wide] = plate.places.length > 1 ? plate.places.slice(-2) : [1, plate.places[0]]
      const least = 2.5, w = Math.max(least, plate.w * (columns[1] - columns[0]) / wide), tall = Math.max(least, plate.h * (rows[1] - rows[0]) / high)
      lit.setAttribute('x', Math.min(plate.x + plate.w * columns[0] / wide, plate.x + plate.w - w)); lit.setAttribute('y', Math.min(plate.y + plate.h * rows[0] / high, plate.y + plate.h - tall))
      lit.setAttribute('width', w); lit.setAttribute('height', tall); lit.setAttribute('visibility', 'visible')
    }
    const plate = this.plates.get(node), also = found.through.length ? `; ${word('all through')} ${found.through.join(', ')}${found.more ? ` + ${found.more}` : ''}` : ''
    this.said.replaceChildren(h('b', {}, plate.layer || plate.kind), ` [${at.join(', ')}] ${word('reads of the input')} ${told(found.reads) || word('nothing')}${also}`)
    const table = rows => h('table', { className: 'table' }, h('tbody', {}, rows.map(([name, text]) => h('tr', {}, h('th', {}, word(`fact ${name}`, name)), h('td', {}, told(text))))))
    this.facts.replaceChildren(h('h3', {}, plate.layer || plate.kind), table([['operators', plate.parts.map(part => part.layer && part !== plate ? `${part.layer} (${part.kind})` : part.kind).join(', ')], ['output', plate.shape.join(' × ')], ...plate.facts]), h('h3', {}, this.found.name), table(this.found.summary))
    this.onstate?.({ node: String(node), place: at.join() })
  }

  async fit() {
    const mine = this.fitting = {}
    try {
      const { said } = await ask('fit', { size: this.sized.value })
      if (mine === this.fitting) this.fits.replaceChildren(...[...new Set(said)].flatMap((line, i) => i ? [h('br'), told(line)] : [told(line)]))
    } catch (error) { if (mine === this.fitting) this.fits.textContent = error.message }
    if (mine === this.fitting) this.onstate?.({ input: this.sized.value === this.found.shape.slice(2).join('x') ? '' : this.sized.value })
  }
}

// Runs of layers below one name, of as deep a name as there is room for.
function parts(order, under, width, scale) {
  const names = order.map(plate => plate.parts.find(part => part.layer)?.layer ?? '')
  names.forEach((name, n) => { if (!name && n) names[n] = names[n - 1] })
  let runs = []
  for (let depth = 1; depth < 6; depth++) {
    const found = []
    order.forEach((plate, n) => {
      const name = names[n].split('.').slice(0, depth).join('.'), last = found.at(-1)
      if (last && last.name === name && last.row === plate.row) last.end = plate.x + plate.w
      else found.push({ name, row: plate.row, start: plate.x, end: plate.x + plate.w, y: under(plate) })
    })
    if (runs.length && found.reduce((sum, run) => sum + run.name.length * PART_WIDTH, 0) > width * (order.at(-1).row + 1)) break
    runs = found
  }
  const fits = ({ name, row, start, end }, next) => Math.max(end, next?.row === row ? next.start : width / scale) - start > name.length * PART_WIDTH / scale
  return runs.flatMap((run, n) => run.name ? [s('g', { class: 'part', 'aria-hidden': 'true' }, s('path', { d: `M${run.start} ${run.y + 10}v8H${run.end}v-8` }), fits(run, runs[n + 1]) && s('text', { x: run.start, y: run.y + 24 }, run.name))] : [])
}
