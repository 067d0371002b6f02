// Elements made in one line each; text is always text, never markup.

const SVG = 'http://www.w3.org/2000/svg'

function filled(made, properties, children) {
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue
    if (name.startsWith('on')) made.addEventListener(name.slice(2), value)
    else if (name in made && !(made instanceof SVGElement) && !name.startsWith('aria')) made[name] = value
    else made.setAttribute(name, value)
  }
  made.append(...children.flat(9).filter(child => child !== null && child !== undefined && child !== false))
  return made
}

export const h = (tag, properties = {}, ...children) => filled(document.createElement(tag), properties, children)
export const s = (tag, properties = {}, ...children) => filled(document.createElementNS(SVG, tag), properties, children)

export const icon = path => s('svg', { viewBox: '0 0 16 16', 'aria-hidden': 'true' }, s('path', { d: path }))

export const ICONS = {
  first: 'M3 3h2v10H3zM13 3v10L6 8z', back: 'M11 3v10L4 8z', on: 'M5 3v10l7-5z', last: 'M11 3h2v10h-2zM3 3v10l7-5z',
  play: 'M4 2v12l10-6z', pause: 'M4 2h3v12H4zM9 2h3v12H9z', alone: 'M2 2h5v2H4v3H2zM9 2h5v5h-2V4H9zM2 9h2v3h3v2H2zM12 9h2v5H9v-2h3z',
}

// Whatever moves in the reader's place may be unwanted.
export const still = () => matchMedia('(prefers-reduced-motion: reduce)').matches
