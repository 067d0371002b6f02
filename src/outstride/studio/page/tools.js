// The bar's buttons: copy the link, save a picture, the language, the light.

import { h, s } from './dom.js'
import { word } from './words.js'
import { copy } from './answers.js'

const LINES = {
  share: 'M6.5 9.5l3-3M7 4.5l1-1a3 3 0 014.5 4.5l-1 1M9 11.5l-1 1A3 3 0 013.5 8l1-1',
  light: 'M8 2.5a5.5 5.5 0 100 11zM8 2.5a5.5 5.5 0 010 11',
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
      button('share', event => copy(location.href, event.currentTarget.querySelector('span'))),
      button('language', () => { this.act.onlanguage(); this.build() }),
      button('light', () => this.act.onlight()),
    )
  }
}
