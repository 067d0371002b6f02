// Questions to Python. Everything that is computed is computed there.

import { refused } from './sentences.js'

const http = (path, question) => fetch(path, question && { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(question) })

// In a notebook the page lies in a frame, and the widget around it carries questions to the kernel; it
// answers as fetch does.
export const carried = window.frameElement?.studio
const send = carried ?? http

async function told(path, question) {
  let response
  try { response = await send(path, question) } catch {
    throw new Error(refused('the studio does not answer: was it stopped in the terminal?'))
  }
  if (response.ok) return response
  let answer = {}
  try { answer = await response.json() } catch { /* no JSON: the status says it */ }
  throw new Error(answer.error ? refused(answer.error) : `the studio answered ${response.status}`)
}

export const begin = async () => (await told('start')).json()
export const ask = async (name, question) => (await told(`ask/${name}`, question)).json()

// A file that Python made, kept by the browser under the name that Python gave it.
export const save = async question => keep(await (await told('save', question)).blob(), `outstride-${question.view}.${question.format}`)

export function keep(blob, name) {
  const link = Object.assign(document.createElement('a'), { href: URL.createObjectURL(blob), download: name })
  document.body.append(link)
  link.click()
  link.remove()
  setTimeout(() => URL.revokeObjectURL(link.href), 5000)
}
