// The whole state in the link, after the #, so that a copied address shows the same.

import { carried } from './ask.js'

const KEYS = ['layer', 'size', 'view', 'step', 'tab', 'x', 'w', 'b', 'lang', 'light', 'mode', 'kernel', 'cure', 'at', 'node', 'place', 'input', 'show']

export function readLink() {
  const found = new URLSearchParams(location.hash.slice(1))
  return Object.fromEntries(KEYS.filter(key => found.has(key)).map(key => [key, found.get(key)]))
}

export function writeLink(state) {
  if (carried) return  // a notebook's cell has no address
  const words = new URLSearchParams()
  for (const key of KEYS) if (state[key] !== undefined && state[key] !== null && state[key] !== '') words.set(key, state[key])
  history.replaceState(null, '', `#${words}`)
}
