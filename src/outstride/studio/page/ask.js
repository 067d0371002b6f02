// Questions to Python. Everything that is computed is computed there.

async function read(response) {
  let answer = {}
  try { answer = await response.json() } catch { /* no JSON: the status says it */ }
  if (!response.ok) throw new Error(answer.error ?? `the studio answered ${response.status}`)
  return answer
}

export async function ask(name, question) {
  let response
  try {
    response = await fetch(`ask/${name}`, {
      method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(question),
    })
  } catch {
    throw new Error('the studio does not answer: was it stopped in the terminal?')
  }
  return read(response)
}

// A file that Python made, kept by the browser under the name that Python gave it.
export async function save(question) {
  const response = await fetch('save', { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(question) })
  if (!response.ok) return read(response)
  keep(await response.blob(), `outstride-${question.view}.${question.format}`)
}

export function keep(blob, name) {
  const link = Object.assign(document.createElement('a'), { href: URL.createObjectURL(blob), download: name })
  document.body.append(link)
  link.click()
  link.remove()
  setTimeout(() => URL.revokeObjectURL(link.href), 5000)
}

export const begin = async () => read(await fetch('start'))
