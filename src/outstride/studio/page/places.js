// Where grids lie on the canvas: beside each other, or below each other where that leaves larger cells.

const GAP = 58, LABEL = 30, LETTER = 7.2, MOST = 64, FOOT = 6

function across(grids, cell) {
  const widths = grids.map(grid => Math.max(grid.columns * cell, grid.title.length * LETTER))
  const height = Math.max(...grids.map(grid => grid.rows)) * cell + LABEL + FOOT
  const gap = Math.max(22, Math.min(GAP, cell * 1.2))
  const width = widths.reduce((sum, one) => sum + one, 0) + gap * (grids.length - 1)
  let x = 0
  const places = grids.map((grid, g) => {
    const at = { x, y: LABEL + (height - LABEL - FOOT - grid.rows * cell) / 2 }
    x += widths[g] + gap
    return at
  })
  return { width, height, places }
}

function below(grids, cell) {
  const width = Math.max(...grids.map(grid => Math.max(grid.columns * cell, grid.title.length * LETTER)))
  let y = 0
  const places = grids.map(grid => {
    const at = { x: (width - grid.columns * cell) / 2, y: y + LABEL }
    y += LABEL + grid.rows * cell + 14
    return at
  })
  return { width, height: y - 14 + FOOT, places }
}

function largest(way, grids, width, height) {
  for (let cell = MOST; cell > 6; cell -= 1) {
    const found = way(grids, cell)
    if (found.width <= width && found.height <= height) return cell
  }
  return 6
}

// Frames whose grids are alike share their cells' size; what has more grids finds room in the same height.
export function arrange(first, grids, width, height) {
  const flat = one => one.every(grid => grid.rows === 1)
  const beside = largest(across, first, width, height), stacked = largest(below, first, width, height * 1.2)
  const way = (flat(first) ? stacked >= beside * .8 : stacked > beside * 1.25) ? below : across
  const tall = way(first, way === below ? stacked : beside).height
  const same = shape(grids) === shape(first)
  const cell = same ? (way === below ? stacked : beside) : largest(way, grids, width, Math.max(tall, 150))
  const found = way(grids, cell)
  const left = (width - found.width) / 2, total = Math.max(tall, found.height)
  return { cell, height: total, places: found.places.map(at => ({ x: at.x + left, y: at.y + (total - found.height) / 2 })) }
}

const shape = grids => grids.map(grid => `${grid.rows}x${grid.columns}`).join()

export function boxAround(cells, slot, cell) {
  const rows = cells.map(i => Math.floor(i / slot.columns)), columns = cells.map(i => i % slot.columns)
  const top = Math.min(...rows), left = Math.min(...columns)
  return { x: slot.x + left * cell, y: slot.y + top * cell, w: (Math.max(...columns) - left + 1) * cell, h: (Math.max(...rows) - top + 1) * cell }
}

// The convex outline of two boxes.
export function hull(one, other) {
  const points = [one, other].flatMap(b => [[b.x, b.y], [b.x + b.w, b.y], [b.x + b.w, b.y + b.h], [b.x, b.y + b.h]]).sort((a, b) => a[0] - b[0] || a[1] - b[1])
  const turn = (o, a, b) => (a[0] - o[0]) * (b[1] - o[1]) - (a[1] - o[1]) * (b[0] - o[0])
  const half = row => {
    const made = []
    for (const point of row) {
      while (made.length > 1 && turn(made.at(-2), made.at(-1), point) <= 0) made.pop()
      made.push(point)
    }
    return made.slice(0, -1)
  }
  return [...half(points), ...half([...points].reverse())]
}
