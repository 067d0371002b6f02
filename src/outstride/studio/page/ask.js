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

export const begin = async () => read(await fetch('start'))
