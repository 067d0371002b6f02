// The picture: one scene of a layer, frame by frame; what moves, what lights up, what can be typed into.

import { h, s, icon, ICONS, still } from './dom.js'
import { arrange, boxAround, hull, shape } from './places.js'
import { caption, titled, word } from './words.js'
import { refused, told } from './sentences.js'

const SPEEDS = { slow: 1600, normal: 850, fast: 330 }
const GLIDE = 240, NARROW = 500
// The largest cell, and what stands around the canvas where the stage alone fills the screen.
const MOST_CELL = 64, MOST_CELL_ALONE = 120, AROUND = 350

export class Stage {
  constructor(root, { onview, onstep, onedit, ontake }) {
    this.tell = { onview, onstep, onedit, ontake }
    this.scene = null; this.step = 0; this.timer = null; this.speed = 'normal'; this.shapes = ''
    this.views = h('div', { className: 'choice views', role: 'tablist', 'aria-label': word('views') })
    this.title = h('div', { className: 'title' })
    this.call = h('code', { className: 'call' })
    this.sizes = h('div', { className: 'sizes' })
    this.canvas = s('svg', { class: 'canvas', role: 'group' })
    this.said = h('p', { className: 'said', 'aria-live': 'off' })
    this.notes = h('p', { className: 'notes', hidden: true })
    this.about = h('p', { className: 'about' })
    this.why = h('div', { className: 'why', hidden: true })
    const button = (name, act, kind = '') => h('button', { type: 'button', className: kind, title: word(name), 'aria-label': word(name), onclick: act }, icon(ICONS[name]))
    this.playing = button('play', () => this.toggle(), 'play')
    this.scrubber = h('input', { type: 'range', min: 0, max: 0, value: 0, 'aria-label': word('step'), oninput: () => { this.stop(); this.go(+this.scrubber.value) } })
    this.count = h('span', { className: 'count' })
    this.pace = h('select', { 'aria-label': word('speed'), onchange: () => { this.speed = this.pace.value; if (this.timer) { this.stop(); this.play() } } },
      Object.keys(SPEEDS).map(name => h('option', { value: name, selected: name === 'normal' }, word(name))))
    this.transport = h('div', { className: 'transport' },
      button('first', () => { this.stop(); this.go(0) }), button('back', () => { this.stop(); this.move(-1) }), this.playing,
      button('on', () => { this.stop(); this.move(1) }), this.scrubber, this.count, this.pace)
    this.picture = h('div', { className: 'picture' }, h('div', { className: 'flow' }, this.title, this.call, this.sizes), this.about, this.canvas, this.why, this.said, this.transport, this.notes)
    this.hint = h('p', { className: 'hint' }, word('hint'))
    this.modes = h('div', { className: 'choice modes', role: 'group', 'aria-label': word('modes') })
    this.heads = h('div', { className: 'heads' }, this.modes, this.views)
    root.append(this.heads, this.picture, this.hint)
    this.root = root
    this.listen()
    new ResizeObserver(() => this.redraw()).observe(this.picture)
  }

  // Numbers are this stage's own; other ways of seeing the layer stand in its place.
  turn(modes, now, onmode) {
    this.modes.hidden = modes.length < 2
    this.modes.replaceChildren(...modes.map(name => h('button', { type: 'button', 'aria-pressed': String(name === now), onclick: () => onmode(name) }, word(`mode ${name}`))))
    const mine = now === 'numbers'
    if (!mine) this.stop()
    this.views.hidden = !mine || !this.scene
    this.picture.hidden = !mine
    this.hint.hidden = !mine || !this.scene
  }

  // A new answer: the same view and step as before where they still exist.
  show(answer, step) {
    this.root.classList.remove('stale')
    this.answer = answer
    const scene = answer.scene
    const held = this.views.contains(document.activeElement)
    this.views.replaceChildren(...answer.views.map(name => h('button', {
      type: 'button', role: 'tab', 'aria-selected': String(name === scene.name), onclick: () => { if (name !== this.scene?.name) { this.stop(); this.tell.onview(name) } },
      onkeydown: event => this.along(event),
    }, word(`view ${name}`, name))))
    if (held) this.views.querySelector('[aria-selected=true]')?.focus()
    this.sizes.replaceChildren(h('b', { className: 'in' }, answer.size.replaceAll('x', ' × ')), '→', h('b', { className: 'out' }, answer.output.replaceAll('x', ' × ')))
    this.call.textContent = answer.layer
    const none = !scene
    for (const part of [this.canvas, this.transport, this.said, this.views, this.hint, this.about]) part.toggleAttribute('hidden', none)
    this.why.hidden = !none
    if (none) this.why.replaceChildren(h('p', {}, refused(answer.why_not)), ...(answer.ways ?? []).map(way => h('button', { type: 'button', className: 'chip', onclick: () => this.tell.ontake(way) }, `${word('follow it')} ${way.size.replaceAll('x', ' × ')}`)))
    this.title.textContent = none ? word('sizes only') : ''
    if (none) { this.scene = null; this.notes.hidden = true; this.stop(); return }
    if (this.scene?.name !== scene.name) this.stop()
    this.scene = prepared(scene)
    this.title.textContent = word(`title ${scene.title}`, scene.title)
    this.canvas.setAttribute('aria-label', this.title.textContent)
    this.about.textContent = word(`about ${scene.title}`, word(`about ${scene.name}`, ''))
    this.about.hidden = !this.about.textContent
    this.scrubber.max = scene.frames.length - 1
    this.notes.hidden = !scene.notes.length
    this.notes.textContent = scene.notes.map(told).join(' ')
    this.canvas.classList.toggle('matrix', scene.name === 'matrix')
    this.shapes = ''
    this.go(Math.min(step ?? 0, scene.frames.length - 1), false)
    if (this.refocus) this.hold(...this.refocus)
    this.refocus = null
  }

  // From tab to tab by arrows, as in every list of tabs.
  along(event) {
    const by = { ArrowLeft: 'previousSibling', ArrowRight: 'nextSibling' }[event.key]
    if (!by) return
    event.preventDefault()
    event.target[by]?.focus()
  }

  // The keyboard stays where it was, without a word on the cell: the caption says what became of it.
  hold(g, i) {
    const slot = this.slots[g]
    if (!slot) return
    slot.cursor = i
    this.quiet = true
    slot.group.focus({ preventScroll: true })
    this.quiet = false
  }

  stale() { this.stop(); this.root.classList.add('stale') }

  get last() { return this.scene ? this.scene.frames.length - 1 : 0 }

  go(step, glide = true) {
    if (!this.scene) return
    this.step = Math.max(0, Math.min(step, this.last))
    this.scrubber.value = this.step
    this.scrubber.setAttribute('aria-valuetext', this.scene.frames[this.step].caption)
    this.count.textContent = `${this.step + 1} / ${this.last + 1}`
    this.draw(this.step, glide)
    this.speak(this.scene.frames[this.step].caption)
    this.tell.onstep(this.step)
  }

  move(by) { this.go((this.step + by + this.last + 1) % (this.last + 1)) }

  toggle() { this.timer ? this.stop() : this.play() }

  play(once = false) {
    if (!this.scene) return
    if (this.step === this.last) this.go(0)
    this.timer = setInterval(() => {
      if (this.step === this.last) { if (once || still()) return this.stop(); this.go(0) } else this.go(this.step + 1)
    }, SPEEDS[this.speed])
    this.face('pause')
  }

  stop() { clearInterval(this.timer); this.timer = null; this.face('play') }

  face(name) {
    this.playing.replaceChildren(icon(ICONS[name]))
    this.playing.setAttribute('aria-label', word(name)); this.playing.title = word(name)
  }

  speak(text) {
    const shown = caption(text)
    const cut = shown.lastIndexOf('= ')
    const wanted = cut > 0 && /^= [-\d.e, ]+$/.test(shown.slice(cut))
    this.said.replaceChildren(...(wanted ? [shown.slice(0, cut + 2), h('b', {}, shown.slice(cut + 2))] : [shown]))
  }

  redraw() { if (this.scene && this.picture.isConnected) { this.shapes = ''; this.draw(this.step, false) } }

  // One frame: cells are kept from frame to frame, so that only what changes is touched.
  draw(step, glide) {
    const frame = this.scene.frames[step]
    const shapes = shape(frame.grids)
    if (shapes !== this.shapes) { this.build(step); this.shapes = shapes; glide = false }
    const seen = this.drawn[step] ?? frame
    frame.grids.forEach((grid, g) => {
      const slot = this.slots[g]
      slot.name.textContent = titled(grid.title)
      slot.group.setAttribute('aria-label', `${titled(grid.title)}, ${grid.rows} × ${grid.columns}`)
      for (let i = 0; i < grid.text.length; i++) this.paint(slot.cells[i], grid, i, frame)
    })
    this.mark(seen, glide)
  }

  paint(cell, grid, i, frame) {
    const letter = grid.mark[i], now = letter === 'a' || letter === 'r'
    const phase = this.scene.phaseOf(grid, i)
    const kinds = ['cell']
    if (phase) kinds.push('phased', `p${phase}`, now || frame.final ? 'full' : 'pale')
    else if (letter === 'a') {
      kinds.push('on', `of-${grid.role}`)
      if (grid.inside && !grid.inside[i]) kinds.push('zero')
    } else if (letter === 'r') kinds.push('made', `of-${grid.role}`)
    else kinds.push(`of-${letter === 'b' ? 'b' : grid.role}`)
    if (grid.text[i] === '') kinds.push('void')
    if (grid.numbering && grid.numbering.of !== 'output' && grid.numbering.cells[i] >= 0) kinds.push('can-edit')
    const name = kinds.join(' ')
    if (cell.kinds !== name) { cell.kinds = name; cell.group.setAttribute('class', name) }
    if (cell.shown !== grid.text[i]) {
      cell.shown = grid.text[i]
      cell.text.textContent = grid.text[i]
      cell.text.setAttribute('font-size', Math.min(this.cell * .38, this.cell * grid.ratio * 1.5 / Math.max(grid.text[i].length, 1)))
    }
    const weight = frame.weights?.[grid.slot]?.[i] ?? ''
    if (cell.weighed !== weight) { cell.weighed = weight; cell.weight.textContent = weight && this.cell > 36 ? `×${weight}` : '' }
  }

  build(step) {
    const frame = this.scene.frames[step]
    const width = Math.max(this.picture.clientWidth - 2 * parseFloat(getComputedStyle(this.picture).paddingLeft), 200)
    const alone = document.body.classList.contains('alone'), tall = frame.grids.some(grid => grid.row)
    const room = alone ? innerHeight - AROUND : Math.min(innerHeight * (tall ? .72 : .5), 700) * (tall && innerWidth < NARROW ? 1.5 : 1)
    const found = arrange(this.scene.frames[0].grids, frame.grids, width, Math.max(room, 300), alone ? MOST_CELL_ALONE : MOST_CELL)
    this.cell = found.cell
    this.canvas.setAttribute('viewBox', `0 0 ${width} ${found.height}`)
    this.canvas.style.setProperty('height', `${found.height}px`)
    this.beams = s('g', { 'aria-hidden': 'true' })
    this.marks = s('g', { 'aria-hidden': 'true' })
    this.now = null
    const edge = Math.min(6, found.cell * .14), gap = found.cell > 22 ? 1.5 : .6
    this.slots = frame.grids.map((grid, g) => {
      const at = found.places[g]
      const cells = grid.text.map((_, i) => {
        const x = at.x + (i % grid.columns) * at.wide, y = at.y + Math.floor(i / grid.columns) * found.cell
        const text = s('text', { x: x + at.wide / 2, y: y + found.cell / 2 })
        const weight = s('text', { class: 'weight', x: x + at.wide - found.cell * .26, y: y + found.cell * .82, 'font-size': found.cell * .23 })
        const group = s('g', { class: 'cell', 'data-at': `${g},${i}` },
          s('rect', { x: x + gap, y: y + gap, width: at.wide - 2 * gap, height: found.cell - 2 * gap, rx: edge }), text, weight)
        if (found.cell < 17) text.setAttribute('display', 'none')
        return { group, text, weight, x, y }
      })
      const name = s('text', { class: 'grid-title', x: at.x, y: at.y - 10 })
      const group = s('g', { class: 'grid', tabindex: '0', role: 'group', 'data-grid': g }, cells.map(cell => cell.group))
      return { ...at, cells, name, group, rows: grid.rows, columns: grid.columns }
    })
    this.drawn = {}
    this.canvas.replaceChildren(this.beams, ...this.slots.flatMap(slot => [slot.name, slot.group]), this.marks)
  }

  // Outlines of what is read and made, and the beam between them; they glide from one frame to the next.
  mark(frame, glide) {
    const wanted = this.outlines(frame)
    cancelAnimationFrame(this.gliding)
    const from = this.now
    if (!glide || still() || !from || from.length !== wanted.length) { this.now = wanted; this.stroke(wanted); return }
    const begun = performance.now()
    const tick = time => {
      const t = Math.min((time - begun) / GLIDE, 1), eased = t < .5 ? 2 * t * t : 1 - (2 - 2 * t) ** 2 / 2
      this.now = wanted.map((box, i) => Object.fromEntries(Object.entries(box).map(([key, value]) => [key, typeof value === 'number' ? from[i][key] + (value - from[i][key]) * eased : value])))
      this.stroke(this.now)
      if (t < 1) this.gliding = requestAnimationFrame(tick)
    }
    this.gliding = requestAnimationFrame(tick)
  }

  outlines(frame) {
    const boxes = []
    frame.grids.forEach((grid, g) => {
      const at = [...grid.mark].flatMap((letter, i) => letter === 'a' || letter === 'r' ? [i] : [])
      const made = [...grid.mark].flatMap((letter, i) => letter === 'r' ? [i] : [])
      if (!at.length || at.length === grid.mark.length && grid.mark.length > 1 && frame.final) return
      boxes.push({ ...boxAround(grid.role === 'o' && made.length ? made : at, this.slots[g], this.cell), made: made.length > 0, role: grid.role })
    })
    const aim = boxes.findLast(box => box.made) ?? (boxes.length > 1 ? boxes.at(-1) : null)
    boxes.forEach(box => { box.aim = box === aim })
    return boxes
  }

  stroke(boxes) {
    const round = Math.min(7, this.cell * .16)
    this.marks.replaceChildren(...boxes.map(box => s('rect', { class: 'frame-mark', x: box.x, y: box.y, width: box.w, height: box.h, rx: round })))
    const aim = boxes.find(box => box.aim)
    const source = boxes.find(box => !box.aim)
    if (!aim || !source) { this.beams.replaceChildren(); return }
    const points = hull(source, aim).map(point => point.join()).join(' ')
    this.beams.replaceChildren(s('polygon', { class: 'beam', points }), s('polygon', { class: 'beam-edge', points }))
  }

  // Hover, focus and touch: a cell shows its formula and lights what it reads, or what reads it.
  listen() {
    const at = event => event.target.closest?.('[data-at]')?.dataset.at.split(',').map(Number)
    this.canvas.addEventListener('pointerover', event => { const place = at(event); if (place) this.peek(...place) })
    this.canvas.addEventListener('pointerleave', () => this.unpeek())
    this.canvas.addEventListener('click', event => { const place = at(event); if (place) this.choose(...place) })
    this.canvas.addEventListener('focusin', event => { const g = event.target.dataset?.grid; if (g !== undefined && !this.quiet && event.target.matches(':focus-visible')) this.point(+g, this.slots[g].cursor ?? 0) })
    this.canvas.addEventListener('focusout', () => this.unpeek())
    this.canvas.addEventListener('keydown', event => {
      const g = event.target.dataset?.grid
      if (g === undefined) return
      const slot = this.slots[g], cursor = slot.cursor ?? 0
      const by = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -slot.columns, ArrowDown: slot.columns }[event.key]
      if (by !== undefined) {
        event.preventDefault(); event.stopPropagation()
        const next = cursor + by
        if (next >= 0 && next < slot.cells.length) this.point(+g, next)
      } else if (event.key === 'Enter') { event.preventDefault(); event.stopPropagation(); this.choose(+g, cursor) }
    })
  }

  point(g, i) {
    this.slots[g].cursor = i
    this.peek(g, i)
    this.slots[g].cells[i].group.classList.add('cursor')
    document.getElementById('said').textContent = this.said.textContent
  }

  // What lights up with a cell: its formula's terms where it is an output, else its partners in the frames.
  peek(g, i) {
    if (!this.scene || this.timer) return
    this.unpeek(false)
    this.peeked = true
    const grid = this.scene.frames[this.step].grids[g]
    if (!grid || i >= grid.text.length) return
    const known = grid.numbering && grid.numbering.cells[i] >= 0 ? { of: grid.numbering.of, number: grid.numbering.cells[i] } : null
    const made = this.scene.madeIn(g, i, grid) ?? (grid.title === 'matrix' ? Math.floor(i / grid.columns) : undefined)
    if (made !== undefined && this.sameShapes(made)) {
      this.draw(made, false)
      this.speak(this.scene.frames[made].caption)
    } else if (known?.of === 'output' && this.answer.readings[known.number]) this.readOf(known.number)
    else if (made === undefined) this.lightPartners(g, i, grid, known)
    this.slots[g].cells[i].group.classList.add('lit')
  }

  sameShapes(step) { return shape(this.scene.frames[step].grids) === this.shapes }

  readOf(number) {
    const reading = this.answer.readings[number]
    this.speak(reading.formula)
    const grids = this.scene.frames[this.step].grids
    grids.forEach((grid, g) => {
      if (!grid.numbering) return
      grid.numbering.cells.forEach((cell, i) => {
        const term = cell >= 0 && reading.terms.find(([tap, input]) => (grid.numbering.of === 'kernel' ? tap === cell && input >= 0 : grid.numbering.of === 'input' && input === cell))
        if (!term) return
        const shown = this.slots[g].cells[i]
        shown.group.classList.add('lit')
        if (grid.numbering.of === 'input' && this.cell > 36) { shown.weighed = null; shown.weight.textContent = `×${this.scene.kernelText(term[0]) ?? ''}` }
      })
    })
  }

  lightPartners(g, i, grid, known) {
    const partners = this.scene.partnersOf(g, i)
    partners.forEach(([slot, cell]) => this.slots[slot]?.cells[cell]?.group.classList.add('lit'))
    if (known && known.of !== 'output') this.readersOf(known)
    const name = known ? `${known.of === 'kernel' ? 'w' : 'x'}[${this.placeOf(known, grid)}] = ${grid.text[i]}` : grid.text[i]
    this.speak(name && `${titled(grid.title)}: ${name}`)
  }

  // Every output whose formula has this number of the input or this kernel element.
  readersOf(known) {
    const grids = this.scene.frames[this.step].grids
    grids.forEach((grid, g) => {
      if (grid.numbering?.of !== 'output') return
      grid.numbering.cells.forEach((cell, i) => {
        const reading = cell >= 0 && this.answer.readings[cell]
        if (reading && reading.terms.some(([tap, input]) => input >= 0 && (known.of === 'kernel' ? tap : input) === known.number)) this.slots[g].cells[i].group.classList.add('lit')
      })
    })
  }

  placeOf(known, grid) {
    const sizes = known.of === 'input' ? this.answer.sizes.map(one => one.input) : [grid.rows * 1e6, grid.rows, grid.columns].slice(3 - this.answer.sizes.length)
    let rest = known.number
    return sizes.reduceRight((place, size) => { place.unshift(rest % size); rest = Math.floor(rest / size); return place }, []).join(', ')
  }

  unpeek(back = true) {
    if (!this.peeked || !this.scene) return
    this.peeked = false
    this.canvas.querySelectorAll('.lit, .cursor').forEach(cell => cell.classList.remove('lit', 'cursor'))
    this.slots.forEach(slot => slot.cells.forEach(cell => { cell.kinds = null; cell.weighed = null }))
    this.draw(this.step, false)
    if (back) this.speak(this.scene.frames[this.step].caption)
  }

  // A click: a number opens to be typed into, an output brings its frame.
  choose(g, i) {
    const grid = this.scene.frames[this.step].grids[g]
    const cell = grid.numbering?.cells[i] ?? -1
    if (cell >= 0 && grid.numbering.of !== 'output') return this.edit(g, i, grid.numbering.of, cell)
    const made = this.scene.madeIn(g, i, grid)
    if (made !== undefined) { this.stop(); this.go(made) }
  }

  edit(g, i, of, number) {
    this.stop()
    const cell = this.slots[g].cells[i]
    const box = cell.group.getBoundingClientRect(), around = this.picture.getBoundingClientRect()
    const field = h('input', { className: 'edit', value: this.answer.numbers[of][number], inputMode: 'decimal', 'aria-label': `${of} ${number}` })
    for (const [name, value] of [['left', box.left - around.left], ['top', box.top - around.top], ['width', Math.max(box.width, 44)], ['height', box.height]]) field.style.setProperty(name, `${value}px`)
    let over = false
    const close = keep => {
      if (over) return
      over = true
      const typed = Number(field.value.trim().replace(',', '.').replace('−', '-'))
      const text = field.value.trim(), byKey = document.activeElement === field
      field.remove()
      if (keep && text !== '' && Number.isFinite(typed) && typed !== this.answer.numbers[of][number]) {
        this.refocus = byKey ? [g, i] : null
        this.tell.onedit(of, number, typed)
      } else if (byKey) this.hold(g, i)
    }
    field.addEventListener('keydown', event => { event.stopPropagation(); if (event.key === 'Enter') close(true); if (event.key === 'Escape') close(false) })
    field.addEventListener('blur', () => close(true))
    this.picture.append(field)
    field.focus(); field.select()
  }
}

// A scene's tables put back into its frames, with what a hover needs to know.
function prepared(scene) {
  const frames = scene.frames.map((frame, f) => {
    const grids = frame.grids.map((grid, slot) => ({
      ...grid, slot, text: scene.texts[grid.text], numbering: scene.numbering[grid.title],
      ...(grid.role === 'a' ? { role: 'i', mark: 'i'.repeat(grid.rows * grid.columns) } : { mark: scene.marks[grid.mark] }),
      ...(grid.role === 'b' ? { role: 'k', mark: scene.marks[grid.mark].replaceAll('b', 'k') } : {}),
      ...(grid.role === 'r' ? { role: grid.title.includes('kernel') ? 'k' : 'i', mark: scene.marks[grid.mark].replaceAll('r', 'o') } : {}),
    }))
    grids.forEach(grid => { if (grid.role === 'i' && grid.numbering) grid.inside = grid.numbering.cells.map(cell => cell >= 0) })
    return { ...frame, grids, final: f === scene.frames.length - 1, weights: ['window', 'zeros'].includes(scene.name) ? weighed(grids) : undefined }
  })
  const ratios = new Map(), sized = grid => `${grid.slot} ${grid.rows}x${grid.columns}`
  for (const grid of frames.flatMap(frame => frame.grids)) ratios.set(sized(grid), Math.max(ratios.get(sized(grid)) ?? 1, ...grid.text.map(text => text.length * .28)))
  for (const grid of frames.flatMap(frame => frame.grids)) grid.ratio = ratios.get(sized(grid))
  const key = grid => `${grid.slot}|${grid.title}|${grid.rows}x${grid.columns}`
  const made = new Map(), active = new Map(), phases = new Map()
  frames.forEach((frame, f) => frame.grids.forEach((grid, g) => {
    const alone = [...grid.mark].filter(letter => letter === 'r').length === 1
    ;[...grid.mark].forEach((letter, i) => {
      if (letter === 'r' && alone && (grid.role === 'o' || scene.name === 'gradient')) made.set(`${key(grid)}|${i}`, f)
      else if (letter === 'a') (active.get(`${g}|${i}`) ?? active.set(`${g}|${i}`, []).get(`${g}|${i}`)).push(f)
      else if (letter >= '0' && letter <= '9') phases.set(`${g}|${i}`, letter)
    })
  }))
  const kernels = frames.flatMap(frame => frame.grids).filter(grid => grid.numbering?.of === 'kernel')
  return {
    ...scene, frames,
    phaseOf: (grid, i) => phases.get(`${grid.slot}|${i}`),
    madeIn: (g, i, grid) => made.get(`${key(grid)}|${i}`),
    kernelText: tap => kernels.map(grid => grid.text[grid.numbering.cells.indexOf(tap)]).find(text => text !== undefined),
    // With an input or kernel cell the outputs of its frames, with an output the inputs of its frames.
    partnersOf(g, i) {
      const found = new Map()
      for (const f of active.get(`${g}|${i}`) ?? []) frames[f].grids.forEach((grid, slot) => {
        if (slot === g) return
        const stamping = grid.role === 'i' && scene.name !== 'matrix' && frames[f].grids[g].role === 'o'
        ;[...grid.mark].forEach((letter, cell) => { if (letter === 'r' || (letter === 'a' && stamping)) found.set(`${slot},${cell}`, [slot, cell]) })
      })
      return [...found.values()]
    },
  }
}

// The weight that each cell under the window is multiplied by: both are in the order of rows.
function weighed(grids) {
  const kernels = grids.filter(grid => grid.role === 'k').flatMap(grid => grid.text)
  const under = grids.filter(grid => grid.role === 'i').flatMap(grid => [...grid.mark].flatMap((letter, i) => letter === 'a' ? [[grid.slot, i]] : []))
  if (!kernels.length || under.length !== kernels.length) return undefined
  const found = {}
  under.forEach(([slot, i], n) => { (found[slot] ??= {})[i] = kernels[n] })
  return found
}
