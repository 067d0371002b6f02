// The whole state in the link, after the #, so that a copied address shows the same.

const KEYS = ['layer', 'size', 'view', 'step', 'tab', 'x', 'w', 'b', 'lang', 'light', 'mode']

export function readLink() {
  const found = new URLSearchParams(location.hash.slice(1))
  return Object.fromEntries(KEYS.filter(key => found.has(key)).map(key => [key, found.get(key)]))
}

export function writeLink(state) {
  const words = new URLSearchParams()
  for (const key of KEYS) if (state[key] !== undefined && state[key] !== null && state[key] !== '') words.set(key, state[key])
  history.replaceState(null, '', `#${words}`)
}
