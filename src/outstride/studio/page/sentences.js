// Python's sentences in Chinese: what a layer does well or not, why a question was refused, and what is told
// of models, plans, other spellings and ways out. Names in quotes, numbers and layers stay; a sentence that no
// line knows stays as it is.

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
  [/uneven: stride (\d+) and dilation (\d+) share (\d+): /g, '不均匀：步幅 $1 与膨胀 $2 有公因数 $3，'], [/uneven: (\d+) does not divide (\d+): /g, '不均匀：$1 不整除 $2，'],
  [/the (\d+) (outputs|inputs) of a period have ([\d, ]+\d|\d+ to \d+) taps/g, (_, n, of, taps) => `一个周期的 ${n} 个${of === 'outputs' ? '输出' : '输入'}各有 ${taps.replace(' to ', ' 至 ')} 个核元素`],
  [/(\d+) of (\d+) outputs hold the bias alone/g, '每 $2 个输出有 $1 个只含偏置'], [/(\d+) of (\d+) inputs are never read/g, '每 $2 个输入有 $1 个从未被读取'],
  [/stamps of (\d+) overlap by (\d+)/g, '长 $1 的印重叠 $2'], [/windows of (\d+) overlap by (\d+)/g, '长 $1 的窗口重叠 $2'],
  [/stamps of (\d+) lie side by side at stride (\d+)/g, '长 $1 的印以步幅 $2 并列'], [/windows of (\d+) lie side by side at stride (\d+)/g, '长 $1 的窗口以步幅 $2 并列'],
  [/: nothing blends across them/g, '：接缝两侧互不融合'], [/none at stride 1/g, '步幅 1，没有接缝'],
  [/(\d+) inputs are never read/g, '$1 个输入从未被读取'], [/(\d+) outputs read no input/g, '$1 个输出不读取任何输入'], [/ and (?=\d)/g, '，'], [/none idle/g, '没有闲置'], [/\bnone(?=;|$)/g, '无'],
  [/comparisons or additions/g, '次比较或加法'], [/multiply-adds/g, '次乘加'],
  [/ for each input pixel/g, '，每个输入像素'], [/ for each output pixel/g, '，每个输出像素'], [/ and pair of channels$/, '、每对通道'], [/ for each pair of channels$/, '，每对通道'], [/ for each channel$/, '，每个通道'],
]
const REFUSALS = [
  [/ \(did you mean (\w+)\?\)/, '（是否指 $1？）'], [/ must be one number, or one for each axis: got /, ' 必须是一个数，或每个轴一个：得到 '], [/ must be a plain value: got /, ' 必须是普通的值：得到 '], [/; legal: a number, a tuple, a string, True, False or None$/, '；合法：数、元组、字符串、True、False 或 None'], [/ must be a text: got /, ' 必须是文本：得到 '], [/; legal: at most (\d+) letters$/, '；合法：至多 $1 个字符'],
  [/ must be large enough on every axis for (.+): got /, ' 在每个轴上对 $1 必须足够大：得到 '], [/ must be smaller than ('\w+') or ('\w+') on every axis: got /, ' 在每个轴上必须小于 $1 或 $2：得到 '],
  [/ must be divisible by ('\w+'): got /, ' 必须能被 $1 整除：得到 '], [/ must be at most half the window on every axis, or a window could see padding only: got /, ' 在每个轴上至多为窗口的一半，否则窗口可能只看到填充：得到 '],
  [/ must be at least (\d+): got /, ' 至少为 $1：得到 '], [/ must be an integer: got /, ' 必须是整数：得到 '], [/ must have one entry per axis: got /, ' 每个轴必须有一个值：得到 '], [/ must be one of its names: got /, ' 必须是已知的名称：得到 '],
  [/ must be given: got none/, ' 必须给出：得到空值'], [/ must be given: got /, ' 必须给出：得到 '], [/ must be one layer, written as a call: got /, ' 必须是写成调用形式的一个层：得到 '], [/ must name a convolution or pooling layer: got /, ' 必须是卷积层或池化层：得到 '],
  [/ must be whole numbers joined by x: got /, ' 必须是以 x 相连的整数：得到 '], [/ must have one positive number for each of (\d+) axes: got /, ' 的 $1 个轴各须有一个正数：得到 '], [/ must be small enough to be followed: got /, ' 必须小到能逐步看清：得到 '],
  [/ must be a picture that can be read: got /, ' 必须是可读取的图片：得到 '], [/ must be a convolution, a pooling layer, or a transposed convolution that is padded with zeros: got /, ' 必须是卷积、池化，或以零填充的转置卷积：得到 '],
  [/^(\w+) has no argument ('\w+')/, "$1 没有参数 $2"], [/ \(an output of (-?\d+)\)/, '（输出为 $1）'], [/ \(a border of (\d+) with (.+?)\)(?=;)/, '（$2，边界为 $1）'], [/ on axis (\d+) of (\w+=\(.*?\))/, '，位于 $2 的轴 $1'], [/ with /, '，其中 '], [/ for (\d+) axes/, '，共 $1 个轴'],
  [/; legal: at most /, '；合法：至多 '], [/; legal: an integer or (\d+) of them$/, '；合法：一个整数或 $1 个'], [/; legal: (\S+(?:, \S+)*) or (?!more)/, '；合法：$1 或 '], [/; legal: /, '；合法：'], [/ or more$/, ' 或更大'],
  [/^a question must be one JSON object$/, '问题必须是一个 JSON 对象'], [/^this machine has not the memory for these sizes$/, '本机内存不足以处理这些尺寸'],
  [/^this question could not be answered \((\w+)\); the terminal says more$/, '无法回答此问题（$1）；详情见终端'], [/^the studio does not answer: was it stopped in the terminal\?$/, 'studio 没有回应：是否已在终端中停止？'],
]

const TOLD = [
  // A model: where its layers look, what it takes, what is found.
  [/^(length|depth|height|width) (\d+): taken as it is$/, (_, axis, n) => `${AXES[axis]} ${n}：可直接接受`], [/^(length|depth|height|width)(?=[ :])/, axis => AXES[axis]], [/: pad (\d+) at the high side/, '：在高侧填充 $1'], [/ or crop (\d+)$/, '，或裁去 $1'], [/: crop (\d+)$/, '：裁去 $1'], [/: no size near it is taken$/, '：附近没有可接受的尺寸'],
  [/\((\d+) to (\d+)\)/g, '（$1 至 $2）'], [/^stride (\S+), reads (.+), offset (\S+)$/, '步幅 $1，读取 $2，偏移 $3'], [/(?<=读取 .*) or /g, ' 或 '], [/^every output reads all of it$/, '每个输出读取整幅图像'], [/^served$/, '由本引擎计算'],
  [/^(\d+) layers? that works? element by element \(to_dict\(\) has them\)$/, '$1 个逐元素的层（见 to_dict()）'], [/multiply-adds: products of two elements that exist, no padding$/, '次乘加：只计真实存在的元素之积，不计填充'], [/ at the fullest moment, weights not counted$/, '（占用最多时，不含权重）'],
  [/^an output reads everything$/, '每个输出读取全部'], [/^no position is left in the output$/, '输出中不再有位置'], [/^an output reads (\S+)(?: to (\d+))? pixels/, (_, least, most) => `每个输出读取 ${least}${most ? ` 至 ${most}` : ''} 个像素`], [/, and besides, everything/, '，此外还读取全部'], [/; stride (\S+), middle (\S+) pixels beside a plain rescaling$/, '；步幅 $1，中心与单纯缩放相差 $2 像素'],
  [/runs at any from (\d+)/, '从 $1 起任意尺寸可用'], [/runs at n = (.+) mod (\d+), from (\d+)/, '可用尺寸：n 除以 $2 余 $1，从 $3 起'], [/runs at /, '可用尺寸：'], [/; an image of (\d+): pad (\d+)/, '；尺寸 $1：填充 $2'], [/ and keep the first (\d+) outputs/, '，保留前 $1 个输出'], [/, or crop (\d+)/, '，或裁去 $1'], [/none gives size \/ stride outputs/, '没有尺寸给出 尺寸 / 步幅 个输出'], [/returned whole, an output for every (\S+) pixels?, at any from (\d+)/, '每 $1 像素一个输出，从 $2 起任意尺寸完整返回'], [/returned whole, an output for every (?:(\S+) )?pixels?, at /, (_, n) => `每${n ? ` ${n} ` : '个'}像素一个输出，完整返回的尺寸：`], [/any from (\d+)/, '从 $1 起任意'], [/n = (.+) mod (\d+), from (\d+)/, 'n 除以 $2 余 $1，从 $3 起'],
  [/^none is enough: a layer looks at the whole image$/, '多少都不够：有一层读取整幅图像'], [/^none is enough: /, '多少都不够：'], [/^(\S+) pixels before and (\S+) behind a tile, which begins at a multiple of (\d+)$/, '分块前 $1、后 $2 像素，分块从 $3 的倍数开始'], [/^(.+?): (\S+ pixels before and .+)$/, '$1：$2'], [/ pixels before and (\S+) behind a tile, which begins at a multiple of (\d+)$/, ' 像素（前）、$1 像素（后），分块从 $2 的倍数开始'],
  [/normalises with the statistics of all positions \(instance norm, or batch norm that trains\)/, '用所有位置的统计量归一化（实例归一化，或训练中的批归一化）'], [/normalises with the statistics of all positions \(group norm\)/, '用所有位置的统计量归一化（组归一化）'], [/takes the mean over all positions/, '对所有位置取平均'], [/circular padding reads the far side of the image/, '循环填充读取图像的另一侧'], [/a roll brings the far side of the image to this one/, '滚动把图像另一侧移到这一侧'], [/inputs of different stride or centre meet/, '步幅或中心不同的输入相遇'], [/ and (\d+) more(?=:)/, ' 及另外 $1 个'],
  [/^serves (\d+) of (\d+) convolutions$/, '计算 $2 个卷积中的 $1 个'], [/^the model looks at numbers to decide what to do; the figures are those for zeros$/, '模型依输入的数值决定做什么；这里是输入为零时的结果'],
  // Patterns and ways out.
  [/^uneven overlap, evened out by the weights/, '重叠不均匀，但权重使其均匀'], [/^uneven overlap/, '重叠不均匀'], [/^uneven weights/, '权重不均匀'], [/^(\d+%) holes/, '$1 空洞'], [/ \((output|gradient)(?:, ripple (\S+?))?\): /, (_, of, ripple) => `（${of === 'output' ? '输出' : '梯度'}${ripple ? `，波纹 ${ripple}` : ''}）：`],
  [/\(layer\) is (?=\w)/, '(layer) 得到 '], [/, then equalize_/, '，再 equalize_'], [/ \((weights|same function|same sizes|filter)(?:; )?/, (_, kind) => `（${WAYS[kind]}；`], [/weights change by (\S+?%)/, '权重改变 $1'], [/，?,? ?ripple then ([^),]+)/, '，波纹变为 $1'], [/；，/, '；'], [/(（(?:改权重|函数不变|尺寸不变|滤波)；.*?)；?\)$/, '$1）'], [/（([^（）]+)；）$/, '（$1）'], [/^same sizes$/, '尺寸不变'], [/^same function$/, '函数不变'],
  // Other spellings.
  [/^every argument is one of torch's own$/, '所有参数都是 torch 自有的'], [/^torch's layers take one padding for both sides/, 'torch 的层两侧只能用同一填充'], [/^torch pads a maximum by at most half of kernel_size, dilation left aside/, 'torch 的最大池化填充至多为 kernel_size 的一半（不计膨胀）'], [/, and padding beforehand moves the limit of ceil_mode$/, '，而预先填充会改变 ceil_mode 的界限'], [/^torch's AvgPool3d wants an input of at least the kernel without its padding$/, 'torch 的 AvgPool3d 要求输入在不计填充时不小于核'],
  [/^no padding is padding="valid"$/, '无填充即 padding="valid"'], [/^padding="same" pads as much on the low side$/, 'padding="same" 在低侧填充相同'], [/^padding="same" crops as much on the low side$/, 'padding="same" 在低侧裁去相同'], [/^Keras takes no numbers for padding, so the zeros are a layer of their own/, 'Keras 的填充不接受数值，因此补零单独成一层'], [/^Keras takes no numbers for padding, so the crop is a layer of its own/, 'Keras 的填充不接受数值，因此裁剪单独成一层'], [/; padding="same" would put (.+) on the low side$/, '；padding="same" 会在低侧放 $1'], [/; padding="same" would crop (.+) on the low side$/, '；padding="same" 会在低侧裁去 $1'],
  [/^Keras has no layer with both a stride and a dilation above 1$/, 'Keras 没有步幅与膨胀同时大于 1 的层'], [/^Keras pools without dilation$/, 'Keras 的池化没有膨胀'], [/^Keras has no ceil_mode, and rounding down gives another size$/, 'Keras 没有 ceil_mode，向下取整给出另一尺寸'], [/^Keras pads a maximum by "same" alone, which would put (.+) on the low side; zeros put before it would be taken for values$/, 'Keras 的最大池化只能用 "same" 填充，会在低侧放 $1；预先补的零会被当作数值'], [/^Keras's transposed layers have no groups$/, 'Keras 的转置层没有分组'], [/^Keras's output_padding must be smaller than strides$/, 'Keras 的 output_padding 必须小于步幅'], [/^Keras has the same output_padding$/, 'Keras 有相同的 output_padding'],
  [/^pads have two sides and are numbers$/, 'pads 有两侧且为数值'], [/^the definition in plain loops, one channel$/, '用普通循环写出的定义，单通道'],
  // Notes of the solver and of the picture.
  [/^(\d+) \/ (\d+) is no whole number, so no layer has this ratio for every size: each gives (.+) and a constant\.$/, '$1 / $2 不是整数，没有一层对任意尺寸都有此比例：每层给出 $3 再加一个常数。'], [/^At an odd stride no kernel of two strides is centred: (.+) has no whole padding\. Three strides \((\d+)\) are, or one \((\d+)\), which leaves seams\.$/, '步幅为奇数时，长为两个步幅的核不居中：$1 没有整数填充。三个步幅（$2）居中；一个步幅（$3）也居中，但留下接缝。'],
  [/^Each axis has answers of its own, but no parameters serve all of them: isotropic=False\.$/, '各轴各有解，但没有参数适用于所有轴：isotropic=False。'], [/^a scale of (.+) needs stride (\S+)\.$/, '倍数 $1 需要步幅 $2。'], [/^(.+) at stride (\S+), the nearest within the bounds, needs (.+); they have windows up to (\d+), paddings (\d+) to (\d+)\./, '$1 在范围内最近的步幅 $2 时需要 $3；范围内窗口至多 $4，填充 $5 至 $6。'], [/ A chain of two layers has the ratio for every size: scales (\S+) and (\S+)\.$/, '两层相连对任意尺寸都有此比例：倍数 $1 与 $2。'],
  [/^Of the channels the first of the input and the first of the output are shown, channel 0 of (\d+) and channel 0 of (\d+)/, '只显示输入与输出的第一个通道：$1 个中的通道 0 与 $2 个中的通道 0'], [/; the layer sums over (\d+)\.$/, '；该层对 $1 个求和。'], [/^Grey cells are minus infinity: they never win\.$/, '灰格为负无穷：从不胜出。'], [/^Empty cells do not count\.$/, '空格不计入。'],
  // A plan and a race.
  [/ by conv_transpose/, '，由 conv_transpose'], [/ by conv(?=$|,)/, '，由 conv'], [/(\d+) products for the (\d+) of (\d+) outputs(,?) ?/, '以 $1 次乘法代替 $3 个输出的 $2 次，'], [/，round off (\S+) times as much as direct ones$/, '，舍入误差是直接计算的 $1 倍'], [/，(\S+) of their rounding error$/, '，舍入误差为其 $1'], [/，save too little$/, '，节省太少'], [/，are too many$/, '，乘法太多'], [/its sums cost more than they save below (\d+) (channels|outputs): it has (\d+)$/, (_, least, of, has) => `少于 ${least} 个${of === 'channels' ? '通道' : '输出'}时求和的代价大于节省：这里有 ${has} 个`], [/its sums cost more than they save for (\d+) channels of (\d+) outputs$/, '$2 个输出、$1 个通道时求和的代价大于节省'],
  [/algorithm='direct' was asked for$/, "要求了 algorithm='direct'"], [/float64 stays direct$/, 'float64 保持直接计算'], [/some outputs have no tap$/, '有的输出没有核元素'], [/an even kernel of stride 1 unfolds maps of one position$/, '步幅 1 的偶数核展开单个位置的图'], [/outputs that share products lie as far apart as its taps$/, '共享乘积的输出与其核元素相隔一样远'], [/its taps reach (\d+) inputs far, more than (\d+)$/, '其核元素跨 $1 个输入，多于 $2'], [/the taps of axis (\d+) share no inputs: its stride is (\d+)$/, '轴 $1 的核元素不共享输入：步幅为 $2'], [/a cell of axis (\d+) takes more than (\d+) steps$/, '轴 $1 的一个单元多于 $2 步'],
  [/^(\d+) products of a cell, each of one plane of sums of inputs/, '每个单元 $1 次乘法，各用一个输入之和的平面'], [/K = (\d+) channels \+ (\d+) additions$/, 'K = $1 个通道 + $2 次加法'],
  [/times the sum of the absolute terms; K = (\d+) channels x (\d+) taps$/, '乘以各项绝对值之和；K = $1 个通道 x $2 个核元素'], [/times the same sums of absolute values; /, '乘以同样求和的绝对值；'], [/ on at least (\S+ MB)/, '，至少读写 $1'], [/ \(phases sharing taps x taps\)/, '（共用核元素的相位 x 核元素）'], [/; (\d+) channels summed in blocks of (\d+)$/, '；$1 个通道每 $2 个一块求和'], [/; (\d+) channels summed one by one$/, '；$1 个通道逐个求和'],
  [/ outputs x (\d+) pixels(?: of (\d+) rows)?/, (_, pixels, rows) => ` 个输出 x ${rows ? `${rows} 行的 ` : ''}${pixels} 个像素`], [/: inputs in lanes, weights broadcast/, '：输入在向量中，权重广播'], [/: weights in lanes, inputs broadcast/, '：权重在向量中，输入广播'], [/: inputs and weights in lanes/, '：输入与权重都在向量中'], [/, a matrix product, for there is one input position/, '：只有一个输入位置，是矩阵乘积'], [/, by nontemporal stores/, '，绕过缓存写出'], [/, stored by the tiles as they are summed/, '，各块求和时即写出'], [/, on the (.+) positions of the (output|input) that are used/, (_, size, side) => `，只用${side === 'output' ? '输出' : '输入'}的 ${size} 个位置`],
  [/; (\S+) of its lanes are lost to edges$/, '；其中 $1 因边界而闲置'], [/ cells \(images, depth, height, width\)(.*) a task/, ' 个单元（图像、深、高、宽）$1一个任务'], [/ KB of packed input, (\d+) pass\(es\) over the channels/, ' KB 打包的输入，遍历通道 $1 次'], [/; (\d+) lines of the next are prefetched before each tile$/, '；每块之前预取下一条的 $1 行'], [/^none: the input is read where it lies$/, '无：就地读取输入'], [/^(\d+) on (\d+) of (\d+) threads$/, '$1 个，用 $3 个线程中的 $2 个'], [/ million cycles a thread/, ' 百万周期（每线程）'], [/, as (.+) states$/, '（据 $1）'], [/; this system states no clock rate$/, '；本系统未给出时钟频率'], [/(?<= ms) on (\d+) threads?$/, '，$1 个线程'],
  [/^(\S+) times as fast as torch$/, '速度是 torch 的 $1 倍'], [/^torch is (\S+) times as fast here$/, '此处 torch 的速度是本引擎的 $1 倍'], [/^medians of (\d+) rounds on one thread, processes of their own in turn/, '单线程、各自进程轮流运行 $1 轮的中位数'], [/; largest error (\S+) of the float64 result$/, '；与 float64 结果的最大误差 $1'],
]
const AXES = { length: '长', depth: '深', height: '高', width: '宽' }
const WAYS = { weights: '改权重', 'same function': '函数不变', 'same sizes': '尺寸不变', filter: '滤波' }

export const told = text => through(text, TOLD)
export const reasoned = text => through(text, MERITS)
export const refused = text => through(text, REFUSALS)
