// The parameters: a slider and a field for each; every change is a question to Python.

import { h } from './dom.js'
import { word } from './words.js'

const KINDS = ['conv', 'conv_transpose', 'max_pool', 'avg_pool']
const RANGES = {
  size: [1, 12], kernel_size: [1, 7], stride: [1, 5], padding: [0, 6], output_padding: [0, 4], dilation: [1, 4],
  in_channels: [1, 64], out_channels: [1, 64], groups: [1, 16],
}
const SHOWN = {
  conv: ['kernel_size', 'stride', 'padding', 'dilation', 'padding_mode'],
  conv_transpose: ['kernel_size', 'stride', 'padding', 'output_padding', 'dilation'],
  max_pool: ['kernel_size', 'stride', 'padding', 'dilation'],
  avg_pool: ['kernel_size', 'stride', 'padding'],
}
const CHANNELS = ['in_channels', 'out_channels', 'groups']
const MODES = ['zeros', 'reflect', 'replicate', 'circular']
const NEW = { kernel_size: '3', stride: '1', padding: '0', output_padding: '0', dilation: '1', in_channels: '1', out_channels: '1', groups: '1', padding_mode: 'zeros', bias: 'True' }

export class Controls {
  constructor(root, onchange) {
    this.root = root; this.onchange = onchange; this.fields = null; this.size = ''; this.sides = false
    this.body = h('div')
    root.append(this.body)
  }

  show(fields, size) {
    const same = this.fields && this.shape(fields) === this.shape(this.fields) && !this.wants
    this.fields = { ...fields }; this.size = size
    if (same) this.refresh()
    else this.build()
  }

  shape(fields) { return `${fields.kind} ${fields.nd} ${sidesOf(fields) !== null}` }

  // Only values move while somebody drags: the element under the pointer stays.
  refresh() {
    for (const [name, { slider, field }] of Object.entries(this.rows)) {
      const value = this.valueOf(name)
      if (document.activeElement !== field) field.value = value
      if (slider && document.activeElement !== slider) slider.value = firstNumber(value)
    }
    this.body.querySelectorAll('.wrong').forEach(row => row.classList.remove('wrong'))
  }

  blame(name) {
    this.body.querySelectorAll('.wrong').forEach(row => row.classList.remove('wrong'))
    this.rows?.[name === 'input_size' ? 'size' : name]?.row.classList.add('wrong')
  }

  valueOf(name) {
    if (name === 'size') return this.size
    if (name === 'low' || name === 'high') return String((sidesOf(this.fields) ?? [firstNumber(this.fields.padding), firstNumber(this.fields.padding)])[name === 'low' ? 0 : 1])
    return this.fields[name] ?? ''
  }

  set(name, value) {
    if (name === 'size') this.size = value
    else if (name === 'low' || name === 'high') {
      const [low, high] = sidesOf(this.fields) ?? [firstNumber(this.fields.padding), firstNumber(this.fields.padding)]
      const pair = name === 'low' ? [value, high] : [low, value]
      this.fields.padding = `(${Array(this.fields.nd).fill(`(${pair.join(', ')})`).join(', ')},)`
    } else this.fields[name] = value
    this.onchange(this.fields, this.size)
  }

  rekind(changes) {
    const known = { ...NEW, ...this.fields, ...changes }
    if (changes.nd) {
      for (const name of ['kernel_size', 'stride', 'padding', 'dilation', 'output_padding']) if (/[(,]/.test(known[name] ?? '')) known[name] = String(firstNumber(known[name]))
      this.size = String(firstNumber(this.size))
    }
    if (known.kind.endsWith('pool') && !this.fields.kind.endsWith('pool')) known.stride = known.kernel_size
    this.onchange(known, this.size)
  }

  build() {
    const { kind, nd } = this.fields
    this.wants = false
    this.rows = {}
    const choice = (names, now, act, label, kinds = '') => h('div', { className: `choice ${kinds}`, role: 'group', 'aria-label': label },
      names.map(([name, text]) => h('button', { type: 'button', 'aria-pressed': String(name === now), onclick: () => act(name) }, text)))
    const split = this.sides || sidesOf(this.fields) !== null
    const parts = SHOWN[kind].flatMap(name => name === 'padding' && split ? ['low', 'high'] : [name])
    const focused = document.activeElement?.dataset?.name
    this.body.replaceChildren(...[
      choice(KINDS.map(name => [name, word(name)]), kind, name => this.rekind({ kind: name }), word('kind'), 'kinds'),
      choice([1, 2, 3].map(n => [n, word(`${n}d`)]), nd, n => this.rekind({ nd: n }), word('axes')),
      h('div', { className: 'group' }, h('h3', {}, word('input')), this.row('size')),
      h('div', { className: 'group' }, h('h3', {}, word('layer group')), parts.map(name => this.row(name))),
      kind.startsWith('conv') && h('div', { className: 'group' }, h('h3', {}, word('channels')), CHANNELS.map(name => this.row(name)),
        h('label', { className: 'check' }, h('input', { type: 'checkbox', checked: this.fields.bias !== 'False', onchange: event => this.set('bias', event.target.checked ? 'True' : 'False') }), 'bias')),
      kind.endsWith('pool') && h('div', { className: 'group' }, ['ceil_mode', 'count_include_pad'].filter(name => name in this.fields).map(name =>
        h('label', { className: 'check' }, h('input', { type: 'checkbox', checked: this.fields[name] === 'True', onchange: event => this.set(name, event.target.checked ? 'True' : 'False') }), name))),
    ].filter(Boolean))
    if (focused) this.body.querySelector(`[data-name="${focused}"]`)?.focus()
  }

  row(name) {
    const label = { size: word('input size'), low: word('padding low'), high: word('padding high') }[name] ?? name
    if (name === 'padding_mode') {
      const field = h('select', { id: `f-${name}`, 'data-name': name, onchange: event => this.set(name, event.target.value) }, MODES.map(mode => h('option', { value: mode, selected: mode === this.fields[name] }, mode)))
      const row = h('div', { className: 'row' }, h('label', { htmlFor: `f-${name}` }, label), field)
      this.rows[name] = { row, field }
      return row
    }
    const [least, most] = RANGES[name === 'low' || name === 'high' ? 'padding' : name]
    const value = this.valueOf(name)
    const slider = h('input', { type: 'range', min: least, max: most, value: firstNumber(value), 'aria-label': label, 'data-name': `${name}-slider`, oninput: () => { field.value = slider.value; this.set(name, slider.value) } })
    const field = h('input', { type: 'text', id: `f-${name}`, value, spellcheck: false, autocomplete: 'off', 'data-name': name, title: word('field hint'), oninput: () => { if (field.value.trim()) { slider.value = firstNumber(field.value); this.set(name, field.value.trim()) } } })
    const side = name === 'padding' || name === 'low' ? h('button', { type: 'button', className: 'side', onclick: () => this.resplit() }, word(name === 'low' ? 'together' : 'per side')) : null
    const row = h('div', { className: 'row' }, h('label', { htmlFor: `f-${name}` }, label, side), slider, field)
    this.rows[name] = { row, slider, field }
    return row
  }

  resplit() {
    this.sides = !(this.sides || sidesOf(this.fields) !== null)
    if (!this.sides && sidesOf(this.fields) !== null) { this.wants = true; this.set('padding', String(sidesOf(this.fields)[0])) } else this.build()
  }
}

const firstNumber = text => Number(/\d+/.exec(text ?? '')?.[0] ?? 0)

// The two paddings of a text such as ((1, 0), (1, 0)); null where both sides have one.
function sidesOf(fields) {
  const pair = /\(\s*(\d+)\s*,\s*(\d+)\s*\)/.exec(String(fields.padding ?? ''))
  return pair && String(fields.padding).startsWith('((') ? [Number(pair[1]), Number(pair[2])] : null
}
