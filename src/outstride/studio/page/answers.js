// What stands beside the picture: sizes, the solver, patterns, speed, other spellings.

import { h } from './dom.js'
import { ask } from './ask.js'
import { word } from './words.js'
import { reasoned, told } from './sentences.js'
import { overlapMap } from './maps.js'

export const TABS = ['sizes', 'solver', 'pattern', 'speed', 'code']

export class Answers {
  constructor(root, { onapply, ontab }) {
    this.tell = { onapply, ontab }; this.tab = 'sizes'; this.answer = null
    this.tabs = h('div', { className: 'tabs', role: 'tablist', 'aria-label': word('answers') })
    this.panel = h('div', { className: 'panel', role: 'tabpanel', tabindex: '0', id: 'panel' })
    root.append(this.tabs, this.panel)
    this.tabs.append(...TABS.map(name => h('button', { type: 'button', role: 'tab', id: `tab-${name}`, 'aria-controls': 'panel', onclick: () => this.turn(name), onkeydown: event => this.key(event, name) }, word(`tab ${name}`))))
  }

  key(event, name) {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key]
    if (!by) return
    event.preventDefault()
    const next = TABS[(TABS.indexOf(name) + by + TABS.length) % TABS.length]
    this.turn(next)
    document.getElementById(`tab-${next}`).focus()
  }

  turn(name) { this.tab = TABS.includes(name) ? name : 'sizes'; this.tell.ontab(this.tab); this.draw() }

  show(answer) {
    this.answer = answer
    this.draw()
  }

  draw() {
    this.tabs.querySelectorAll('button').forEach(tab => {
      const now = tab.id === `tab-${this.tab}`
      tab.setAttribute('aria-selected', String(now)); tab.tabIndex = now ? 0 : -1
    })
    this.panel.setAttribute('aria-labelledby', `tab-${this.tab}`)
    if (!this.answer) return
    const asked = `${this.tab} ${this.answer.layer} ${this.answer.size} ${document.documentElement.lang} ${this.tab === 'sizes' || this.tab === 'code' ? '' : 'kept'} ${JSON.stringify(this.answer.numbers?.kernel)}`
    if (asked === this.drawn) return
    this.drawn = asked
    this[`_${this.tab}`]()
  }

  // A panel that Python has to be asked for: what comes too late is dropped.
  async fill(name, question, draw) {
    const mine = this.drawn
    try {
      const found = await ask(name, question)
      if (mine === this.drawn) draw(found)
    } catch (error) {
      if (mine === this.drawn) draw(null, error.message)
    }
  }

  _sizes() {
    const { sizes, merits } = this.answer
    const groups = sizes.every(one => one.filled === sizes[0].filled) ? [sizes[0]] : sizes
    this.panel.replaceChildren(h('div', { className: 'spread' }, h('div', {},
      h('h3', {}, word('output size')),
      ...groups.map(one => h('div', { className: 'formula' }, groups.length > 1 && h('b', {}, `${word(one.axis)}: `), h('div', { className: 'letters' }, one.formula), h('div', { className: 'filled' }, one.filled))),
      h('p', { className: 'quiet' }, word(this.answer.fields.kind === 'conv_transpose' ? 'letters transposed' : 'letters'))),
    h('div', {}, h('h3', {}, word('merits')), h('ul', { className: 'merits' }, merits.map(merit)))))
  }

  _solver() {
    const { fields, size, output } = this.answer
    const input = h('input', { type: 'text', value: size, id: 'from' }), goal = h('input', { type: 'text', value: output, id: 'to' })
    const scale = h('input', { type: 'text', value: '', placeholder: '2', id: 'scale' })
    const kind = h('select', { id: 'solve-kind' }, ['', 'conv', 'conv_transpose', 'max_pool', 'avg_pool'].map(name => h('option', { value: name, selected: name === fields.kind }, name ? word(name) : word('any'))))
    const list = h('div')
    const find = () => this.fill('solve', { input_size: input.value, output_size: goal.value, scale: scale.value.trim(), kind: kind.value, nd: fields.nd, in_channels: Number(fields.in_channels) || null, out_channels: Number(fields.out_channels) || null }, (found, failed) => {
      list.replaceChildren(...(failed ? [h('p', { className: 'quiet' }, failed)] : this.solutions(found)))
    })
    const form = h('form', { className: 'asked', onsubmit: event => { event.preventDefault(); find() } },
      h('label', {}, word('from'), input), h('label', {}, word('to'), goal), h('label', {}, word('or scale'), scale), h('label', {}, word('kind'), kind), h('button', { className: 'main' }, word('solve')))
    this.panel.replaceChildren(h('p', { className: 'quiet' }, word('solver says')), form, list)
    find()
  }

  solutions(found) {
    return [
      h('p', { className: 'quiet' }, found.count ? `${found.count} ${word('layers found')}` : word('no layer')), ...found.notes.map(note => h('p', {}, told(note))),
      h('ul', { className: 'found' }, found.solutions.map(one => {
        const here = one.layer === this.answer.layer
        const tag = (good, text) => h('span', { className: good === null ? '' : good ? 'yes' : 'no' }, `${good === null ? '·' : good ? '✓' : '✗'} ${text}`)
        return h('li', {}, h('button', { type: 'button', 'aria-current': String(here), onclick: () => this.tell.onapply(one.layer, one.input_size?.join('x')) },
          h('code', {}, one.layer), h('span', { className: 'tags' },
            tag(one.exact_for_every_size, word('every size')), tag(one.shift.every(by => by === '0'), word('centred')), tag(one.even, word('even')),
            tag(one.holes ? false : one.overlaps, word(one.holes ? 'holes' : 'overlap')), h('span', {}, `${one.multiply_adds.toLocaleString('en')} ${word('multiply-adds')}`))))
      })),
    ]
  }

  _pattern() {
    this.panel.replaceChildren(h('p', { className: 'quiet' }, word('wait')))
    this.fill('pattern', { layer: this.answer.layer, size: this.answer.size, numbers: { kernel: this.answer.numbers?.kernel ?? null } }, (found, failed) => {
      if (failed) { this.panel.replaceChildren(h('p', { className: 'quiet' }, failed)); return }
      const columns = [[
        h('h3', {}, word(found.of === 'output' ? 'overlap output' : 'overlap gradient')),
        h('p', {}, h('span', { className: `badge ${found.even ? 'yes' : 'no'}` }, word(found.even ? 'even' : 'uneven')), ' ', found.holes ? h('span', { className: 'badge no' }, `${word('holes')} ${found.holes_said}`) : null),
        overlapMap(found.map),
        h('p', { className: 'quiet' }, word('overlap says')),
      ], [
        ...(found.ripple ? [h('h3', {}, word('ripple')), h('p', {}, h('span', { className: 'big' }, found.ripple.said), ' ', h('span', { className: 'quiet' }, word('ripple says'))), overlapMap(found.ripple.map), found.ripple.of_example && h('p', { className: 'quiet' }, word('ripple example'))] : []),
      ], [
        h('h3', {}, word('phases and fields')),
        h('table', { className: 'table' }, h('tbody', {}, h('tr', {}, h('th', {}, word('outputs at')), h('th', {}, word('taps')), h('th', {}, word('inputs read'))), found.phases.map(one => h('tr', {}, h('td', { className: 'code' }, one.outputs), h('td', { className: 'code' }, one.taps), h('td', { className: 'code' }, one.reads))))),
        ...(found.suggestions.length ? [h('h3', {}, word('cures')), h('ul', { className: 'found' }, found.suggestions.map(one => h('li', {}, one.layer ? h('button', { type: 'button', onclick: () => this.tell.onapply(one.layer) }, h('code', {}, one.layer), h('span', { className: 'tags' }, told(one.text))) : h('p', {}, told(one.text)))))] : []),
      ]]
      this.panel.replaceChildren(h('div', { className: 'spread' }, columns.filter(column => column.length).map(column => h('div', {}, column.filter(Boolean)))))
    })
  }

  _speed() {
    const { fields, layer, size } = this.answer
    const nd = fields.nd
    const conv = fields.kind.startsWith('conv')
    if (!conv) { this.panel.replaceChildren(h('p', { className: 'quiet' }, word('no plan'))); return }
    const given = { size: h('input', { type: 'text', value: this.speedSize?.split('x').length === nd ? this.speedSize : Array(nd).fill(nd === 1 ? 4096 : nd === 2 ? 56 : 16).join('x') }),
      in_channels: h('input', { type: 'text', value: Number(fields.in_channels) > 1 ? fields.in_channels : 64 }), out_channels: h('input', { type: 'text', value: Number(fields.out_channels) > 1 ? fields.out_channels : 64 }) }
    const lines = h('div'), bars = h('div')
    const question = () => ({ layer, size: given.size.value, in_channels: Number(given.in_channels.value) || 0, out_channels: Number(given.out_channels.value) || 0 })
    const plan = () => { this.speedSize = given.size.value; bars.replaceChildren(); this.fill('plan', question(), (found, failed) => lines.replaceChildren(...(failed ? [h('p', { className: 'quiet' }, failed)] : planned(found).filter(Boolean)))) }
    const race = h('button', { className: 'main', type: 'button', onclick: () => {
      race.disabled = true; race.textContent = word('racing')
      this.fill('race', question(), (found, failed) => { race.disabled = false; race.textContent = word('race'); bars.replaceChildren(failed ? h('p', {}, failed) : raced(found)) })
    } }, word('race'))
    this.panel.replaceChildren(
      h('form', { className: 'asked', onsubmit: event => { event.preventDefault(); plan() }, onchange: plan }, h('label', {}, word('input size'), given.size), h('label', {}, 'in_channels', given.in_channels), h('label', {}, 'out_channels', given.out_channels)),
      h('p', {}, race), bars, lines)
    plan()
    void size
  }

  _code() {
    this.panel.replaceChildren(h('div', { className: 'spread codes' }, this.answer.writings.map(one => h('div', { className: 'listing' }, h('h3', {}, one.name),
      one.text && h('button', { type: 'button', className: 'plain copy', onclick: event => copy(one.text, event.target) }, word('copy')),
      one.text && h('pre', { tabindex: '0' }, one.text), h('p', { className: 'quiet' }, told(one.note))))))
  }
}

const merit = ({ topic, good, text }) => h('li', {}, h('span', { className: good === null ? 'so' : good ? 'yes' : 'no', 'aria-label': word(good === null ? 'so' : good ? 'good' : 'bad'), role: 'img' }, good === null ? '·' : good ? '✓' : '✗'), h('div', {}, h('b', {}, word(`merit ${topic}`, topic)), ' ', h('span', {}, reasoned(text))))

const planned = found => [
  found.predicted && h('p', {}, h('span', { className: 'big' }, told(found.predicted)), ' ', h('span', { className: 'quiet' }, word('predicted'))),
  h('table', { className: 'table' }, h('tbody', {}, found.lines.map(([name, text]) => h('tr', {}, h('th', {}, word(`fact ${name}`, name)), h('td', {}, told(text)))))),
]

const raced = found => h('div', {}, h('div', { className: 'bars' }, found.rows.map(row => {
  const fill = h('div', { className: 'fill' })
  fill.style.setProperty('width', `${row.share}%`)
  return h('div', { className: `bar-row ${row.ours ? 'ours' : ''}` }, h('span', {}, row.name), h('div', { className: 'track' }, fill), h('span', { className: 'code' }, row.said))
})), h('p', {}, h('b', {}, told(found.verdict))), h('p', { className: 'quiet' }, told(found.note)))

export async function copy(text, button) {
  const before = button.textContent
  try { await navigator.clipboard.writeText(text) } catch {
    const area = h('textarea', { value: text }); document.body.append(area); area.select(); document.execCommand('copy'); area.remove()
  }
  button.textContent = word('copied')
  setTimeout(() => { button.textContent = before }, 1200)
}
