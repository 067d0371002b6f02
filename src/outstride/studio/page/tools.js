// The bar's buttons: copy the link, save a picture, the language, the light.

import { h, s } from './dom.js'
import { word } from './words.js'
import { copy } from './answers.js'
import { carried, save, keep } from './ask.js'

const LINES = {
  share: 'M6.5 9.5l3-3M7 4.5l1-1a3 3 0 014.5 4.5l-1 1M9 11.5l-1 1A3 3 0 013.5 8l1-1',
  light: 'M8 2.5a5.5 5.5 0 100 11zM8 2.5a5.5 5.5 0 010 11',
  save: 'M8 2.5v7.5M5 7l3 3 3-3M3 13h10',
  language: 'M2.5 8h11M8 2.5c-4 3.5-4 7.5 0 11M8 2.5c4 3.5 4 7.5 0 11M8 2.5a5.5 5.5 0 100 11 5.5 5.5 0 000-11',
}
const drawn = name => s('svg', { viewBox: '0 0 16 16', 'aria-hidden': 'true', fill: 'none', stroke: 'currentColor', 'stroke-width': 1.4, 'stroke-linecap': 'round' }, s('path', { d: LINES[name] }))

export class Tools {
  constructor(root, act) {
    this.root = root; this.act = act
    this.build()
  }

  build() {
    const button = (name, onclick) => h('button', { type: 'button', className: 'tool', id: `tool-${name}`, title: word(name), 'aria-label': word(name), onclick }, drawn(name), h('span', {}, word(name === 'light' ? '' : name, '')))
    this.root.replaceChildren(
      ...(carried ? [] : [button('share', event => copy(location.href, event.currentTarget.querySelector('span')))]),
      this.menu(),
      button('language', () => { this.act.onlanguage(); this.build() }),
      button('light', () => this.act.onlight()),
    )
  }

  // What the stage shows as a file: made by Python, but for the frame as it is seen, and for print.
  menu() {
    const { mode } = this.act.state()
    const item = (name, act) => h('button', { type: 'button', onclick: () => { box.open = false; act() } }, word(name))
    const file = format => item(`save ${format}`, async () => {
      const { layer, size, view } = this.act.state()
      const numbers = this.act.numbers()
      try { await save({ layer, size, view, format, numbers }) } catch (error) { alert(error.message) }
    })
    const box = h('details', { className: 'menu' }, h('summary', { className: 'tool', id: 'tool-save', title: word('save'), 'aria-label': word('save') }, drawn('save'), h('span', {}, word('save'))),
      h('div', {}, ...(mode === 'numbers' ? [file('svg'), file('gif'), file('png'), file('html')] : []), mode === 'picture' ? item('save output', () => this.output()) : item(mode === 'model' ? 'save model' : 'save frame', () => this.frame(mode)), item('save pdf', () => print())))
    box.addEventListener('keydown', event => { if (event.key === 'Escape') { box.open = false; box.querySelector('summary').focus() } })
    box.addEventListener('focusout', event => { if (!box.contains(event.relatedTarget)) box.open = false })
    return box
  }

  // What the layer made of the photograph.
  output() {
    const { found } = this.act.shown()
    if (!found) return
    const bytes = Uint8Array.from(atob(found.output.png.split(',')[1]), letter => letter.charCodeAt(0))
    keep(new Blob([bytes], { type: 'image/png' }), 'outstride-output.png')
  }

  // The picture with the colours that it has now, as a file of its own.
  frame(mode) {
    const shown = this.act.shown().canvas
    const copied = shown.cloneNode(true)
    const KEPT = ['display', 'fill', 'stroke', 'stroke-width', 'opacity', 'fill-opacity', 'font', 'text-anchor', 'dominant-baseline']
    const all = [...shown.querySelectorAll('*')], twins = [...copied.querySelectorAll('*')]
    all.forEach((one, i) => { const style = getComputedStyle(one); for (const name of KEPT) twins[i].style.setProperty(name, style.getPropertyValue(name)) })
    copied.setAttribute('xmlns', 'http://www.w3.org/2000/svg')
    copied.removeAttribute('class')
    keep(new Blob([new XMLSerializer().serializeToString(copied)], { type: 'image/svg+xml' }), mode === 'model' ? 'outstride-model.svg' : 'outstride-frame.svg')
  }
}
