// The page in a cell of a notebook: a document of its own in a frame, whose questions go to the kernel.

const PATIENCE = 6000

// One document: styles and the icon inside it, modules under names that a map leads to.
function written({ files, urls }) {
  const map = JSON.stringify({ imports: urls })
  return files['index.html']
    .replace(/<link rel="icon".*/, '<base href="about:srcdoc">')
    .replace(/<link rel="stylesheet".*/, () => `<style>${files['studio.css']}</style>`)
    .replace(/<script type="module".*/, () => `<script type="importmap">${map}</script><script type="module">import 'studio.js'</script>`)
    .replace('src="mark.svg"', () => `src="data:image/svg+xml,${encodeURIComponent(files['mark.svg'])}"`)
}

// Modules as addresses; what they name './other.js' they name 'other.js' here, as the map does.
function addressed(files) {
  const modules = Object.keys(files).filter(name => name.endsWith('.js'))
  return Object.fromEntries(modules.map(name => {
    const text = files[name].replace(/from '\.\//g, "from '")
    return [name, URL.createObjectURL(new Blob([text], { type: 'text/javascript' }))]
  }))
}

// Questions by number, each until its answer comes.
function channel(model) {
  const waiting = new Map(), mine = Math.random().toString(36).slice(2)
  const heard = ({ id, status, media_type }, buffers) => {
    waiting.get(id)?.(new Response(buffers[0], { status, headers: { 'Content-Type': media_type } }))
    waiting.delete(id)
  }
  model.on('msg:custom', heard)
  const send = (path, question) => new Promise(done => {
    const id = `${mine}-${waiting.count = (waiting.count ?? 0) + 1}`
    waiting.set(id, done)
    model.send({ id, path, question: question ?? {} })
  })
  return { send, close: () => model.off('msg:custom', heard) }
}

function render({ model, el }) {
  const files = model.get('files'), urls = addressed(files), { send, close } = channel(model)
  const frame = document.createElement('iframe')
  Object.assign(frame, { title: 'outstride studio', studio: send, allow: 'clipboard-write; fullscreen' })
  Object.assign(frame.style, { width: '100%', border: '0', display: 'block' })
  el.append(frame)
  const show = (text, height) => { frame.style.height = height; frame.srcdoc = text }
  // Without a kernel nobody answers: then what moves by itself is shown.
  const still = setTimeout(() => show(model.get('still'), '480px'), PATIENCE)
  send('start').then(() => { clearTimeout(still); show(written({ files, urls }), model.get('height')) }, () => {})
  return () => { clearTimeout(still); close(); Object.values(urls).forEach(URL.revokeObjectURL) }
}

export default { render }
