// Python's sentences in Chinese: what a layer does well or not, and why a question was refused. Names in
// quotes, numbers and layers stay; a sentence that no line knows stays as it is.

import { through } from './words.js'

const MERITS = [
  [/\baxes ([\d, ]+): /g, '轴 $1：'], [/\baxis (\d+): /g, '轴 $1：'],
  [/, no window beginning in the high padding/g, '，窗口不从高侧填充开始'],
  [/: exact for every size that (.+) divides$/, '：对 $1 整除的任意尺寸精确'], [/: exact for every size$/, '：对任意尺寸精确'],
  [/: right for this size, no scale \((.*)\)$/, '：仅此尺寸正确，不是固定倍数（$1）'], [/, no rest/g, '，无余数'], [/, (\d+) is ([+-]\d+)/g, '，$1 相差 $2'],
  [/the middle stays the middle: /g, '中心不动：'],
  [/moved by (\S+) pixel of the output to the low side: /g, '向低侧移动 $1 个输出像素：'], [/moved by (\S+) pixel of the output to the high side: /g, '向高侧移动 $1 个输出像素：'],
  [/looks (\S+) pixel of the input to the low side: /g, '向低侧偏看 $1 个输入像素：'], [/looks (\S+) pixel of the input to the high side: /g, '向高侧偏看 $1 个输入像素：'],
  [/-remainder/g, '-余数'],
  [/\beven: (\d+) of (\d+) taps for each output at stride 1/g, '均匀：步幅 1，每个输出用到 $2 个核元素中的 $1 个'],
  [/\beven: (\d+) divides (\d+), (\d+) of (\d+) taps for each output/g, '均匀：$1 整除 $2，每个输出用到 $4 个核元素中的 $3 个'],
  [/\beven: (\d+) divides (\d+), (\d+) of (\d+) taps for each input/g, '均匀：$1 整除 $2，每个输入用到 $4 个核元素中的 $3 个'],
  [/uneven: stride (\d+) and dilation (\d+) share (\d+), /g, '不均匀：步幅 $1 与膨胀 $2 有公因数 $3，'], [/uneven: (\d+) does not divide (\d+), /g, '不均匀：$1 不整除 $2，'],
  [/([\d, ]+|\d+ to \d+) taps for the (\d+) outputs of a period/g, '一个周期的 $2 个输出各有 $1 个核元素'], [/([\d, ]+|\d+ to \d+) taps for the (\d+) inputs of a period/g, '一个周期的 $2 个输入各有 $1 个核元素'],
  [/(\d+) of (\d+) outputs hold the bias alone/g, '每 $2 个输出有 $1 个只含偏置'], [/(\d+) of (\d+) inputs are never read/g, '每 $2 个输入有 $1 个从未被读取'],
  [/stamps of (\d+) overlap by (\d+)/g, '长 $1 的印重叠 $2'], [/windows of (\d+) overlap by (\d+)/g, '长 $1 的窗口重叠 $2'],
  [/stamps of (\d+) lie side by side at stride (\d+)/g, '长 $1 的印以步幅 $2 并列'], [/windows of (\d+) lie side by side at stride (\d+)/g, '长 $1 的窗口以步幅 $2 并列'],
  [/: nothing blends across them/g, '：接缝两侧互不融合'], [/none at stride 1/g, '步幅 1，没有接缝'],
  [/(\d+) inputs are never read/g, '$1 个输入从未被读取'], [/(\d+) outputs read no input/g, '$1 个输出不读取任何输入'], [/ and (?=\d)/g, '，'], [/none idle/g, '没有闲置'], [/\bnone(?=;|$)/g, '无'],
  [/comparisons or additions/g, '次比较或加法'], [/multiply-adds/g, '次乘加'],
  [/ for each input pixel/g, '，每个输入像素'], [/ for each output pixel/g, '，每个输出像素'], [/ and pair of channels$/, '、每对通道'], [/ for each pair of channels$/, '，每对通道'], [/ for each channel$/, '，每个通道'],
]
const REFUSALS = [
  [/ must be large enough on every axis for (.+): got /, ' 在每个轴上对 $1 必须足够大：得到 '], [/ must be smaller than ('\w+') or ('\w+') on every axis: got /, ' 在每个轴上必须小于 $1 或 $2：得到 '],
  [/ must be divisible by ('\w+'): got /, ' 必须能被 $1 整除：得到 '], [/ must be at most half the window on every axis, or a window could see padding only: got /, ' 在每个轴上至多为窗口的一半，否则窗口可能只看到填充：得到 '],
  [/ must be at least (\d+): got /, ' 至少为 $1：得到 '], [/ must be an integer: got /, ' 必须是整数：得到 '], [/ must have one entry per axis: got /, ' 每个轴必须有一个值：得到 '], [/ must be one of its names: got /, ' 必须是已知的名称：得到 '],
  [/ must be given: got none/, ' 必须给出：得到空值'], [/ must be given: got /, ' 必须给出：得到 '], [/ must be one layer, written as a call: got /, ' 必须是写成调用形式的一个层：得到 '], [/ must name a convolution or pooling layer: got /, ' 必须是卷积层或池化层：得到 '],
  [/ must be whole numbers joined by x: got /, ' 必须是以 x 相连的整数：得到 '], [/ must have one positive number for each of (\d+) axes: got /, ' 的 $1 个轴各须有一个正数：得到 '], [/ must be small enough to be followed: got /, ' 必须小到能逐步看清：得到 '],
  [/ must be a picture that can be read: got /, ' 必须是可读取的图片：得到 '], [/ must be a convolution, a pooling layer, or a transposed convolution that is padded with zeros: got /, ' 必须是卷积、池化，或以零填充的转置卷积：得到 '],
  [/^(\w+) has no argument ('\w+')/, "$1 没有参数 $2"], [/ \(an output of (-?\d+)\)/, '（输出为 $1）'], [/ \(a border of (\d+) with (.+?)\)(?=;)/, '（$2，边界为 $1）'], [/ on axis (\d+) of (\w+=\(.*?\))/, '，位于 $2 的轴 $1'], [/ with /, '，其中 '], [/ for (\d+) axes/, '，共 $1 个轴'],
  [/; legal: at most /, '；合法：至多 '], [/; legal: an integer or (\d+) of them$/, '；合法：一个整数或 $1 个'], [/; legal: /, '；合法：'], [/ or more$/, ' 或更大'],
  [/^a question must be one JSON object$/, '问题必须是一个 JSON 对象'], [/^this machine has not the memory for these sizes$/, '本机内存不足以处理这些尺寸'],
  [/^this question could not be answered \((\w+)\); the terminal says more$/, '无法回答此问题（$1）；详情见终端'], [/^the studio does not answer: was it stopped in the terminal\?$/, 'studio 没有回应：是否已在终端中停止？'],
]

export const reasoned = text => through(text, MERITS)
export const refused = text => through(text, REFUSALS)
