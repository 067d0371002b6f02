// The page: one state, kept in the link; what is typed, set, clicked or pasted asks Python for a new answer.

import { h, icon, ICONS, still } from './dom.js'
import { ask, begin } from './ask.js'
import { readLink, writeLink } from './link.js'
import { speak, word } from './words.js'
import { refused as inWords } from './sentences.js'
import { Controls } from './controls.js'
import { Stage } from './stage.js'
import { Answers, TABS } from './answers.js'
import { Tools } from './tools.js'
import { Picture } from './picture.js'
import { Model } from './model.js'

const FIRST = 'ConvTranspose2d(1, 1, 3, stride=2, padding=1)'
const EXAMPLES = [
  ['3×3, stride 2, transposed', '转置，3×3，步幅 2', FIRST, ''], ['3×3, padding 1', '3×3，填充 1', 'Conv2d(1, 1, 3, padding=1)', '5'], ['3×3, stride 2', '3×3，步幅 2', 'Conv2d(1, 1, 3, stride=2, padding=1)', '7'],
  ['dilation 2', '膨胀 2', 'Conv2d(1, 1, 3, dilation=2)', '7'], ['DCGAN: 4×4, stride 2', 'DCGAN：4×4，步幅 2', 'ConvTranspose2d(1, 1, 4, stride=2, padding=1)', '3'], ['U-Net: 2×2, stride 2', 'U-Net：2×2，步幅 2', 'ConvTranspose2d(1, 1, 2, stride=2)', '3'],
  ['checkerboard: 5×5, stride 3', '棋盘纹：5×5，步幅 3', 'ConvTranspose2d(1, 1, 5, stride=3)', '3'], ['holes: 2×2, stride 3', '空洞：2×2，步幅 3', 'ConvTranspose2d(1, 1, 2, stride=3)', '3'], ['output_padding 1', 'output_padding 1', 'ConvTranspose2d(1, 1, 3, stride=2, padding=1, output_padding=1)', '3'],
  ['transposed, dilation 2', '转置，膨胀 2', 'ConvTranspose2d(1, 1, 3, dilation=2)', '3'], ['circular padding', '循环填充', "Conv2d(1, 1, 3, padding=1, padding_mode='circular')", '4'], ['three channels to two', '三个通道到两个', 'Conv2d(3, 2, 3, padding=1)', '3'], ['depthwise: two groups', '逐通道：两组', 'Conv2d(2, 2, 3, padding=1, groups=2)', '3'], ['1-d, stride 2', '一维，步幅 2', 'Conv1d(1, 1, 3, stride=2, padding=1)', '8'],
  ['1-d, transposed (HiFi-GAN)', '一维转置（HiFi-GAN）', 'ConvTranspose1d(1, 1, 4, stride=2, padding=1)', '5'], ['causal: padding (2, 0)', '因果：填充 (2, 0)', 'Conv1d(1, 1, 3, padding=((2, 0),))', '7'], ['3-d, transposed (nnU-Net)', '三维转置（nnU-Net）', 'ConvTranspose3d(1, 1, 2, stride=2)', '2'], ['max pooling', '最大池化', 'MaxPool2d(2)', '4'], ['average pooling', '平均池化', 'AvgPool2d(3, stride=2, padding=1)', '5'],
]

const FRESH = { layer: FIRST, size: '', view: '', step: '', tab: 'sizes', x: '', w: '', b: '', lang: '', light: '', mode: 'numbers', kernel: '', cure: '', at: '', node: '', place: '', input: '', show: '' }
const PATIENCE = 900
const state = { ...FRESH }
let controls, stage, answers, photographs, model, alone, tools, modelled = '', learned = '', asked = 0, known = null

const typed = document.getElementById('layer')
const refusal = document.getElementById('refusal')
const numbers = text => text ? text.split(',').map(Number) : undefined

const edited = () => ({ input: numbers(state.x), kernel: numbers(state.w), bias: state.b === '' ? undefined : Number(state.b) })

// Ask for a layer and show it; an answer that was overtaken is dropped.
async function show(question, { step = stage.step, fill = true, patience = 0 } = {}) {
  const mine = ++asked
  let answer
  try {
    answer = await ask('layer', { ...question, size: question.size ?? state.size, view: state.view, numbers: edited() })
  } catch (error) { if (mine === asked) refuse(error.message, []); return }
  if (mine !== asked) return
  if (answer.refused) {
    if (patience) await new Promise(done => setTimeout(done, patience))
    if (mine === asked) refuse(inWords(answer.refused), answer.offers)
    return
  }
  refusal.hidden = true
  typed.removeAttribute('aria-invalid')
  known = answer
  state.layer = answer.layer; state.size = answer.size
  if (answer.numbers) {
    if (state.x && numbers(state.x).length !== answer.numbers.input.length) state.x = ''
    if (state.w && numbers(state.w).length !== answer.numbers.kernel.length) state.w = ''
  }
  if (fill || document.activeElement !== typed) typed.value = answer.layer
  controls.show(answer.fields, answer.size)
  state.view = answer.scene?.name ?? state.view
  stage.show(answer, step)
  turn(state.mode)
  answers.show(answer)
  save()
}

let refused = null

function refuse(sentence, ways) {
  refused = [sentence, ways]
  stage.stale()
  typed.setAttribute('aria-invalid', 'true')
  controls.blame(/'(\w+)'/.exec(sentence)?.[1])
  refusal.hidden = false
  refusal.replaceChildren(h('p', {}, sentence), ways.length ? h('div', { className: 'ways' }, word('nearest'), ways.map(way =>
    h('button', { type: 'button', className: 'chip', onclick: () => show({ layer: way.layer, size: way.size ?? state.size }) }, way.label))) : '')
}

// Numbers or a photograph: the layer stays.
function turn(mode) {
  const modes = ['numbers', ...(known.fields.nd === 2 ? ['picture'] : []), ...(modelled ? ['model'] : [])]
  const before = state.mode
  state.mode = modes.includes(mode) ? mode : 'numbers'
  if (state.mode !== before) tools.build()
  stage.turn(modes, state.mode, name => { turn(name); save() })
  photographs.show(state.mode === 'picture', known.layer, numbers(state.w))
  model.show(state.mode === 'model')
  document.body.classList.toggle('whole', state.mode === 'model')
}

// The stage alone, for a lecture hall; the whole screen where the browser gives it.
function present(on, ask = true) {
  if (on === document.body.classList.contains('alone')) return
  state.show = on ? 'stage' : ''
  document.body.classList.toggle('alone', on)
  alone.setAttribute('aria-pressed', String(on))
  const screen = document.documentElement
  if (ask && on) screen.requestFullscreen?.().catch(() => {})
  else if (ask && document.fullscreenElement) document.exitFullscreen().catch(() => {})
  stage.redraw()
  model.redraw()
  save()
}

// What another way of seeing the layer wants to find again.
function keep(changes) { Object.assign(state, changes); save() }

function save() { state.step = stage.step || ''; writeLink(state) }

function edit(of, number, value) {
  const row = [...known.numbers[of]]
  row[number] = value
  state[of === 'input' ? 'x' : 'w'] = row.join()
  show({ layer: state.layer })
}

// A learned kernel, with the layer that has it: its numbers become the reader's.
function take(layer, row) {
  Object.assign(state, { x: '', b: '', w: row.join() })
  show({ layer, size: '' }, { step: 0 })
}

// Words were made in the old language: the parts are made anew, the state stays.
function build() {
  for (const id of ['controls', 'stage', 'answers']) document.querySelectorAll(`#${id} > :not(h2)`).forEach(one => one.remove())
  controls = new Controls(document.getElementById('controls'), (fields, size) => show({ fields, size }))
  stage = new Stage(document.getElementById('stage'), { onview: view => { state.view = view; show({ layer: state.layer }, { step: 0 }).then(() => { if (!still()) stage.play(true) }) }, onstep: save, onedit: edit, ontake: way => show({ layer: way.layer, size: way.size }, { step: 0 }) })
  photographs = new Picture(document.getElementById('stage'), { learned, ontake: take, onstate: keep })
  photographs.adopt(state)
  model = new Model(document.getElementById('stage'), { state: () => state, onstate: keep })
  answers = new Answers(document.getElementById('answers'), {
    onapply: (layer, size) => { state.x = state.w = ''; show({ layer, size: size ?? state.size }) }, ontab: tab => { state.tab = tab; save() },
  })
  alone = h('button', { type: 'button', className: 'plain alone-button', 'aria-pressed': String(document.body.classList.contains('alone')), title: word('alone'), 'aria-label': word('alone'), onclick: () => present(!document.body.classList.contains('alone')) }, icon(ICONS.alone))
  stage.heads.append(alone)
  answers.tab = TABS.includes(state.tab) ? state.tab : 'sizes'
  const menu = document.getElementById('examples')
  menu.replaceChildren(h('option', { value: '' }, word('examples')), ...EXAMPLES.map(([english, chinese], i) => h('option', { value: i }, document.documentElement.lang === 'zh' ? chinese : english)))
}

const language = () => state.lang || (navigator.language.startsWith('zh') ? 'zh' : 'en')

function translate(to) {
  speak(to)
  build()
  if (!known) return
  controls.show(known.fields, known.size)
  stage.show(known, Number(state.step) || 0)
  turn(state.mode)
  answers.show(known)
  save()
}

function light(name) {
  state.light = name
  document.documentElement.dataset.light = name || (matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light')
}

async function start() {
  const link = readLink()
  Object.assign(state, link)
  light(state.light)
  speak(language())
  const given = await begin().catch(() => ({}))
  const { model: named = '', learned: trained = '', ...first } = given
  modelled = named; learned = trained
  if (modelled && !link.mode) state.mode = 'model'
  if (first.layer && !link.layer) Object.assign(state, first)
  build()
  tools = new Tools(document.querySelector('.tools'), {
    state: () => state, shown: () => state.mode === 'model' ? model : state.mode === 'picture' ? photographs : stage, numbers: edited,
    onlight: () => { light(document.documentElement.dataset.light === 'dark' ? 'light' : 'dark'); save() },
    onlanguage: () => { state.lang = document.documentElement.lang === 'zh' ? 'en' : 'zh'; translate(state.lang) },
  })
  if (learned && state.w && !link.kernel) photographs.kernel = 'typed'
  const wanted = state.layer
  await show({ layer: wanted }, { step: Number(state.step) || 0 })
  if (!known) {  // a link to no layer: say why, above one that is
    const [message, ways] = refused
    await show({ layer: FIRST, size: '' }, { step: 0 })
    typed.value = wanted
    refuse(message, ways)
  }
  if (!link.step && !still() && stage.scene && state.mode === 'numbers') stage.play(true)
  present(state.show === 'stage', false)
  document.documentElement.dataset.ready = 'yes'
}

// While a call is being written it is no fault that it does not end yet.
const ends = text => text.includes('(') && text.split('(').length === text.split(')').length
typed.addEventListener('input', () => { if (typed.value.trim()) show({ layer: typed.value, size: '' }, { fill: false, step: 0, patience: ends(typed.value) ? 0 : PATIENCE }) })
document.getElementById('typed').addEventListener('submit', event => { event.preventDefault(); show({ layer: typed.value, size: '' }, { step: 0 }) })
document.getElementById('examples').addEventListener('change', event => {
  const example = EXAMPLES[event.target.value]
  event.target.value = ''
  if (example) { state.x = state.w = state.b = ''; show({ layer: example[2], size: example[3] }, { step: 0 }).then(() => { if (!still()) stage.play(true) }) }
})
addEventListener('keydown', event => {
  if (event.key === 'f' && !event.target.closest('input, select, textarea') && !event.ctrlKey && !event.metaKey && !event.altKey) { event.preventDefault(); present(!document.body.classList.contains('alone')); return }
  if (event.key === 'Escape' && document.body.classList.contains('alone')) { present(false); return }
  const held = event.target.closest('input, select, textarea, pre') || (event.key === ' ' && event.target.closest('button, summary'))
  if (held || event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || !stage?.scene || state.mode !== 'numbers') return
  const act = { ArrowLeft: () => { stage.stop(); stage.move(-1) }, ArrowRight: () => { stage.stop(); stage.move(1) }, ' ': () => stage.toggle(), Home: () => { stage.stop(); stage.go(0) }, End: () => { stage.stop(); stage.go(stage.last) } }[event.key]
  if (act) { event.preventDefault(); act() }
})
addEventListener('fullscreenchange', () => { if (!document.fullscreenElement) present(false, false) })
// Another link of this page, typed or followed: what it leaves out is as at first.
addEventListener('hashchange', async () => {
  Object.assign(state, FRESH, readLink())
  const step = Number(state.step) || 0
  document.documentElement.dataset.ready = 'no'
  light(state.light)
  if (language() !== document.documentElement.lang) { speak(language()); build() }  // the layer before is not shown anew
  photographs.adopt(state); model.adopt()
  answers.tab = TABS.includes(state.tab) ? state.tab : 'sizes'
  await show({ layer: state.layer }, { step })
  tools.build()
  present(state.show === 'stage', false)
  document.documentElement.dataset.ready = 'yes'
})
start()
