// Where grids lie on the canvas: beside each other, or below each other where that leaves larger cells.

const GAP = 58, LABEL = 30, LETTER = 7.2, FOOT = 6

// Cells are as wide as their grid's longest number needs.
const boxes = (grid, cell) => grid.columns * cell * grid.ratio
const wide = (grid, cell) => Math.max(boxes(grid, cell), grid.title.length * LETTER)

// Grids stand beside each other; one of a larger row than the grid before stands below it, in the same column.
function columnsOf(grids) {
  const columns = []
  grids.forEach((grid, g) => {
    const last = columns.at(-1)
    if (last && grid.row > last.at(-1).grid.row) last.push({ grid, g })
    else columns.push([{ grid, g }])
  })
  return columns
}

function across(grids, cell) {
  const columns = columnsOf(grids), gap = Math.max(22, Math.min(GAP, cell * 1.2)), places = []
  const heights = []
  for (const grid of grids) heights[grid.row] = Math.max(heights[grid.row] ?? 0, grid.rows * cell + LABEL)
  for (let r = 0; r < heights.length; r++) heights[r] ??= 0
  const tops = heights.map((_, r) => heights.slice(0, r).reduce((sum, one) => sum + one + FOOT, 0))
  const height = tops.at(-1) + heights.at(-1) + FOOT
  let x = 0
  for (const column of columns) {
    for (const { grid, g } of column) {
      const spare = heights.length === 1 ? (heights[0] - LABEL - grid.rows * cell) / 2 : 0
      places[g] = { x, y: tops[grid.row] + LABEL + spare }
    }
    x += Math.max(...column.map(({ grid }) => wide(grid, cell))) + gap
  }
  return { width: x - gap, height, places }
}

function below(grids, cell) {
  const width = Math.max(...grids.map(grid => wide(grid, cell)))
  let y = 0
  const places = grids.map(grid => {
    const at = { x: (width - boxes(grid, cell)) / 2, y: y + LABEL }
    y += LABEL + grid.rows * cell + 14
    return at
  })
  return { width, height: y - 14 + FOOT, places }
}

function largest(way, grids, width, height, most) {
  for (let cell = most; cell > 6; cell -= 1) {
    const found = way(grids, cell)
    if (found.width <= width && found.height <= height) return cell
  }
  return 6
}

// Frames whose grids are alike share their cells' size; what has more grids finds room in the same height.
export function arrange(first, grids, width, height, most) {
  const flat = one => one.every(grid => grid.rows === 1)
  const beside = largest(across, first, width, height, most), stacked = largest(below, first, width, height * 1.2, most)
  const way = (flat(first) ? stacked >= beside * .8 : stacked > beside * 1.25) ? below : across
  const tall = way(first, way === below ? stacked : beside).height
  const same = shape(grids) === shape(first)
  const cell = same ? (way === below ? stacked : beside) : largest(way, grids, width, Math.max(tall, 150), most)
  const found = way(grids, cell)
  const left = (width - found.width) / 2, total = Math.max(tall, found.height)
  return { cell, height: total, places: found.places.map((at, g) => ({ x: at.x + left, y: at.y + (total - found.height) / 2, wide: cell * grids[g].ratio })) }
}

export const shape = grids => grids.map(grid => `${grid.rows}x${grid.columns}x${grid.ratio}+${grid.row}`).join()

export function boxAround(cells, slot, cell) {
  const rows = cells.map(i => Math.floor(i / slot.columns)), columns = cells.map(i => i % slot.columns)
  const top = Math.min(...rows), left = Math.min(...columns)
  return { x: slot.x + left * slot.wide, y: slot.y + top * cell, w: (Math.max(...columns) - left + 1) * slot.wide, h: (Math.max(...rows) - top + 1) * cell }
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
