// A photograph through the layer: before and after, beside interpolation, its spectrum, and one pixel in numbers.

import { h, s } from './dom.js'
import { ask } from './ask.js'
import { word } from './words.js'

const LENS = 9, ZOOM = 12

export class Picture {
  constructor(root, { onstate, learned, ontake }) {
    this.learned = learned; this.take = ontake; this.shelf = h('div', { className: 'chips shelf', role: 'group', 'aria-label': word('learned kernels'), hidden: true })
    this.onstate = onstate; this.kernel = ''; this.cure = false; this.name = ''; this.asked = 0
    this.title = h('div', { className: 'title' }, word('picture title'))
    this.kernels = h('div', { className: 'chips', role: 'group', 'aria-label': word('kernel of the picture') })
    this.file = h('input', { type: 'file', accept: 'image/*', className: 'hidden', id: 'upload', onchange: () => this.send(this.file.files[0]) })
    this.curing = h('input', { type: 'checkbox', id: 'cure', onchange: () => { this.cure = this.curing.checked; this.ask(); this.keep() } })
    this.cureRow = h('label', { className: 'check', htmlFor: 'cure' }, this.curing, word('cure'))
    this.row = h('div', { className: 'photos' })
    this.said = h('p', { className: 'said' })
    this.numbers = s('svg', { class: 'pixel', role: 'img' })
    this.card = h('div', { className: 'picture', hidden: true },
      h('div', { className: 'flow' }, this.title, h('div', { className: 'chips' },
        h('button', { type: 'button', className: 'plain', onclick: () => this.file.click() }, word('upload')), h('label', { className: 'hidden', htmlFor: 'upload' }, word('upload')), this.file,
        h('button', { type: 'button', className: 'plain', onclick: () => { this.name = ''; this.ask() } }, word('shipped')))),
      h('div', { className: 'flow' }, this.kernels, this.cureRow), this.shelf, this.row, this.said, h('p', { className: 'hint' }, word('picture hint')))
    root.append(this.card)
    this.card.addEventListener('dragover', event => event.preventDefault())
    this.card.addEventListener('drop', event => { event.preventDefault(); this.send(event.dataTransfer.files[0]) })
  }

  // The state that a link has: kernel, cure and the place that is looked at.
  adopt({ kernel, cure, at }) {
    this.kernel = kernel; this.cure = cure === '1'
    const place = at.split(',').map(Number)
    if (place.length === 2 && place.every(part => part >= 0 && part <= 1)) this.at = place
    this.question = ''
  }

  keep() { this.onstate({ kernel: this.kernel, cure: this.cure ? '1' : '', at: this.at.map(part => Math.round(part * 1e4) / 1e4).join() }) }

  show(on, layer, numbers) {
    this.card.hidden = !on
    if (on && this.learned) this.stock()
    const question = JSON.stringify([layer, numbers])
    if (on && question !== this.question) { this.question = question; this.layer = layer; this.typed = numbers; this.ask() }
  }

  // The kernels that the command's model has learned, once they are to be seen.
  async stock() {
    const name = this.learned
    this.learned = ''
    try {
      const { layer, kernels } = await ask('learned', {})
      this.shelf.replaceChildren(h('span', { className: 'quiet' }, `${word('learned kernels')} ${name}`), ...kernels.map((one, n) => h('button', {
        type: 'button', className: 'kernel', title: `${name} [${n}]`, 'aria-label': `${name} [${n}]`, onclick: () => { this.asked += 1; this.kernel = 'typed'; this.take(layer, one.numbers) },
      }, h('img', { src: one.png, alt: '' }))))
      this.shelf.hidden = false
    } catch (error) { this.said.textContent = error.message }
  }

  send(file) {
    if (!file) return
    const reader = new FileReader()
    reader.addEventListener('load', () => this.ask(reader.result))
    reader.readAsDataURL(file)
  }

  about() { return { layer: this.layer, kernel: this.kernel, cure: this.cure, picture: this.name, numbers: { kernel: this.typed ?? null } } }

  async ask(file) {
    const mine = ++this.asked
    let found
    try { found = await ask('picture', { ...this.about(), ...(file ? { file } : {}) }) } catch (error) {
      if (mine !== this.asked) return
      if (/'kernel'/.test(error.message) && this.kernel) { this.kernel = ''; this.ask(file); return }
      this.said.textContent = error.message
      this.row.classList.add('dim')
      return
    }
    if (mine !== this.asked) return
    this.name = found.picture; this.kernel = found.kernel; this.found = found
    this.row.classList.remove('dim')
    this.draw()
  }

  draw() {
    const { found } = this
    this.kernels.replaceChildren(...found.kernels.map(name => h('button', { type: 'button', className: 'chip', 'aria-pressed': String(name === found.kernel), onclick: () => { this.kernel = name; this.ask(); this.keep() } }, word(`kernel ${name}`, name))))
    this.cureRow.hidden = !found.can_cure
    this.curing.checked = found.cured
    this.photos = [found.input, found.output, ...found.others].map(one => this.photo(one))
    const figures = [...this.photos.map(one => one.figure), ...(found.spectrum ? [spectrum(found.spectrum)] : [])]
    figures.forEach(one => one.style.setProperty('width', `${Math.max(found.input.width, found.output.width)}px`))
    this.row.replaceChildren(...figures, this.numbers)
    const said = [found.signed && word('grey is zero'), found.spectrum && `${word('ripple')}: ${found.ripple}`, found.spectrum && `${word('pattern share')}: ${found.spectrum.share}`, found.credit]
    this.said.textContent = said.filter(Boolean).join(' · ')
    this.at ??= [.42, .5]
    this.point(...this.at)
  }

  photo(one) {
    const image = h('img', { src: one.png, alt: `${word(`photo ${one.name}`)}, ${one.height} × ${one.width}`, draggable: false })
    const lens = h('div', { className: 'lens', 'aria-hidden': 'true' }), mark = h('div', { className: 'mark', 'aria-hidden': 'true' })
    lens.style.setProperty('background-image', `url("${one.png}")`)
    lens.style.setProperty('background-size', `${one.width * ZOOM}px ${one.height * ZOOM}px`)
    const frame = h('div', { className: 'photo', tabindex: one.name === 'output' ? '0' : null, role: one.name === 'output' ? 'group' : null, 'aria-label': one.name === 'output' ? word('pixel keys') : null }, image, mark)
    const move = event => { const box = image.getBoundingClientRect(); this.point((event.clientY - box.top) / box.height, (event.clientX - box.left) / box.width) }
    frame.addEventListener('pointermove', move)
    frame.addEventListener('pointerdown', event => { move(event); this.keep() })
    frame.addEventListener('keydown', event => {
      const by = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key]
      if (!by) return
      event.preventDefault(); event.stopPropagation()
      const far = event.shiftKey ? 10 : 1
      this.point(this.at[0] + by[0] * far / one.height, this.at[1] + by[1] * far / one.width)
      this.keep()
    })
    const figure = h('figure', {}, frame, lens, h('figcaption', {}, h('b', {}, word(`photo ${one.name}`)), ` ${one.height} × ${one.width}`))
    return { ...one, figure, lens, mark }
  }

  // All lenses look at the same place; the output's pixel there is asked for in numbers.
  point(y, x) {
    this.at = [Math.max(0, Math.min(y, .9999)), Math.max(0, Math.min(x, .9999))]
    for (const one of this.photos) {
      const row = Math.floor(this.at[0] * one.height), column = Math.floor(this.at[1] * one.width)
      const half = (LENS - 1) / 2 * ZOOM
      one.lens.style.setProperty('background-position', `${half - column * ZOOM}px ${half - row * ZOOM}px`)
      one.mark.style.setProperty('left', `${100 * (column + .5) / one.width}%`)
      one.mark.style.setProperty('top', `${100 * (row + .5) / one.height}%`)
    }
    const { height, width } = this.found.output
    this.wanted = [Math.floor(this.at[0] * height), Math.floor(this.at[1] * width)]
    this.pixel()
  }

  async pixel() {
    if (this.busy) return
    this.busy = true
    const at = this.wanted
    try { this.count(await ask('pixel', { ...this.about(), at })) } catch { this.numbers.replaceChildren() }
    this.busy = false
    if (at !== this.wanted) this.pixel()
  }

  count({ cells, value, at }) {
    if (!cells.length) { this.numbers.replaceChildren(); return }
    const rows = [...new Set(cells.map(one => one.row))].sort((a, b) => a - b), columns = [...new Set(cells.map(one => one.column))].sort((a, b) => a - b)
    const size = Math.max(26, Math.min(52, 420 / columns.length, 300 / rows.length)), top = 24
    const drawn = cells.map(one => {
      const x = columns.indexOf(one.column) * size, y = top + rows.indexOf(one.row) * size, ink = one.shade > .55 ? '#111' : '#fff'
      return s('g', {}, s('rect', { x: x + 1, y: y + 1, width: size - 2, height: size - 2, rx: 4, fill: `rgb(${one.grey} ${one.grey} ${one.grey})` }),
        s('text', { x: x + size / 2, y: y + size * .42, 'font-size': size * .3, fill: ink }, one.grey), one.weight && s('text', { x: x + size / 2, y: y + size * .76, 'font-size': size * .22, fill: ink }, `×${one.weight}`))
    })
    const left = columns.length * size + 46, middle = top + rows.length * size / 2, shade = Math.max(0, Math.min(255, Math.round(Number(value))))
    const height = Math.max(top + rows.length * size + 4, middle + 56), width = Math.max(left + 110, 250)
    this.numbers.setAttribute('viewBox', `0 0 ${width} ${height}`)
    this.numbers.setAttribute('width', width); this.numbers.setAttribute('height', height)
    this.numbers.setAttribute('aria-label', `${word('photo output')} [${at}] = ${value}`)
    this.numbers.replaceChildren(s('text', { class: 'grid-title', x: 0, y: 12 }, `${word('photo input')}, ${word('rows')} ${spanned(rows)}, ${word('columns')} ${spanned(columns)}`), ...drawn.map(one => one),
      s('text', { class: 'sign', x: left - 23, y: middle, 'font-size': 24 }, '→'), s('rect', { x: left, y: middle - 30, width: 96, height: 60, rx: 7, fill: `rgb(${shade} ${shade} ${shade})`, stroke: 'var(--output-deep)', 'stroke-width': 3 }),
      s('text', { x: left + 48, y: middle, 'font-size': 20, fill: shade > 140 ? '#111' : '#fff' }, value), s('text', { class: 'grid-title end', x: left + 48, y: middle + 46 }, `${word('photo output')} [${at.join(', ')}]`))
  }
}

const spanned = places => places.length > 1 ? `${places[0]}–${places.at(-1)}` : places[0]

// Power over frequencies, low ones in the middle, with rings where the stride's lines are.
function spectrum({ png, width, height, lines, ratio }) {
  const rings = (lines[0].length ? [0, ...lines[0]] : [0]).flatMap(y => [0, ...lines[1]].map(x => [y, x])).filter(([y, x]) => y || x)
  const drawn = s('svg', { viewBox: `0 0 ${width} ${height}`, class: 'rings', 'aria-hidden': 'true' }, rings.map(([y, x]) => s('circle', { cx: Math.max(7, Math.min(width - 7, width * (.5 + x))), cy: Math.max(7, Math.min(height - 7, height * (.5 + y))), r: width / 32 })))
  return h('figure', {}, h('div', { className: 'photo' }, h('img', { src: png, alt: word('photo spectrum') }), drawn), h('figcaption', {}, h('b', {}, word('photo spectrum')), ` ${word('lines have')} ${ratio}×`))
}
