// The page's words in two languages; formulas, names of parameters and errors stay as Python writes them.

const EN = {
  skip: 'To the picture', layer: 'Layer, as PyTorch writes it', examples: 'Examples', parameters: 'Parameters', picture: 'The layer at work', answers: 'Answers',
  views: 'views', 'view window': 'Window', 'view stamps': 'Stamps', 'view zeros': 'Zeros between', 'view matrix': 'Matrix', 'view short': 'Shared products', 'view phases': 'Phases', 'view gradient': 'Gradient', 'view channels': 'Channels', 'view pair': 'Side by side', 'view unpool': 'Unpooling',
  first: 'To the start (Home)', back: 'One step back (←)', play: 'Play (space)', pause: 'Pause (space)', on: 'One step on (→)', last: 'To the end', step: 'Step', speed: 'Speed', slow: 'slow', normal: 'normal', fast: 'fast',
  hint: '← → step · space plays · f fills the screen · point at a cell to see its formula · click a number of the input or kernel to change it',
  alone: 'The picture alone, on the whole screen (f)', 'follow it': 'follow it at', 'save output': 'PNG of the output', 'save model': 'SVG of the model',
  'about window': 'Each output is a weighted sum: the kernel lies on the input, each of its numbers is multiplied by the one below it, and all are added. From output to output the window moves by the stride.',
  'about stamps': 'Each input multiplies the whole kernel and stamps it onto the output, from input to input moved by the stride. Where stamps overlap they add up; padding crops the rim.',
  'about zeros': 'The same output by an ordinary convolution: put stride − 1 zeros between the inputs and slide the kernel, turned round, by one. Simple to define, but most products are by zero.',
  'about A sparse matrix': 'Every output is a row of numbers times all inputs: the kernel where it reads, zeros elsewhere. So the layer is one matrix, written out here.',
  'about A sparse matrix, that of the convolution turned over': 'Written out as a matrix, rows and columns of the convolution of the same kernel have changed places: the matrix is transposed. Hence the name.',
  'about short': 'Neighbouring outputs read overlapping inputs. Sums of inputs times sums of kernel elements serve several of them, so that fewer multiplications give the same numbers.',
  'about phases': 'Outputs that lie a stride apart read the same kernel elements: they are a phase, and each phase is a small convolution of its own. No zero is ever multiplied. Where phases have unequally many elements, equal weights leave a checkerboard.',
  'about The way back: gradients of input and kernel': 'The way back: what an input is told is a sum over all outputs that read it, so a convolution goes back as a transposed one, and a transposed one as a convolution.',
  'about pair': 'The same windows, used both ways: the convolution reads them to make the small one, the transposed one stamps them to make the large one. Sizes change places; the numbers do not come back, it is no inverse.',
  'about channels': 'An output channel has a kernel for each input channel of its group, and adds up what they make.',
  'about The largest number under the window': 'Nothing is multiplied and nothing learned: of each window the largest number stays.', 'about The average of what is under the window': 'Every number under the window counts alike: it is a convolution by equal weights.',
  'sizes only': 'Sizes only', conv: 'Convolution', conv_transpose: 'Transposed', max_pool: 'Max pool', avg_pool: 'Average pool', kind: 'kind', axes: 'Axes', '1d': '1-d', '2d': '2-d', '3d': '3-d',
  input: 'Input', 'layer group': 'Layer', channels: 'Channels', 'input size': 'input size', 'padding low': 'padding, low side', 'padding high': 'padding, high side', 'per side': 'per side', together: 'both sides',
  'field hint': 'one number, or one for each axis: 3, 5',
  'tab sizes': 'Sizes', 'tab solver': 'Solver', 'tab pattern': 'Pattern', 'tab speed': 'Speed', 'tab code': 'Code',
  'output size': 'Output size', height: 'height', width: 'width', depth: 'depth', length: 'length',
  letters: 'i input, k kernel, s stride, d dilation, p₀ and p₁ the padding of the two sides', 'letters transposed': 'i input, k kernel, s stride, d dilation, e output_padding, p₀ and p₁ the padding of the two sides',
  merits: 'What this layer does well, and what not', 'merit sizes': 'Sizes', 'merit centre': 'Centre', 'merit overlap': 'Overlap', 'merit seams': 'Seams', 'merit cost': 'Cost', 'merit holes': 'Holes', 'merit borders': 'Borders',
  good: 'good', bad: 'bad', so: 'a figure', from: 'from size', to: 'to size', 'or scale': 'or scale', solve: 'Solve', any: 'any', 'solver says': 'Every layer that gives these sizes, the best first. Click one to see it.',
  'layers found': 'layers, the best first', 'no layer': 'No layer within the usual bounds.', 'every size': 'every size', centred: 'centred', even: 'even', uneven: 'uneven', overlap: 'overlap', holes: 'holes', 'multiply-adds': 'multiply-adds',
  wait: 'A moment …', 'overlap output': 'Kernel elements that meet each output', 'overlap gradient': 'Gradients that meet each input', 'overlap says': 'Where this is uneven, equal weights leave a checkerboard.',
  ripple: 'Ripple of these weights', 'ripple says': 'of what a constant becomes is pattern', 'ripple example': 'A constant 1 after this kernel, one period. Type other weights in the picture to see it change.',
  'phases and fields': 'Phases and what they read', 'outputs at': 'outputs', taps: 'taps', 'inputs read': 'read inputs', cures: 'Ways out',
  race: 'Race against torch here', racing: 'Racing …', predicted: 'predicted for this machine', 'no plan': 'The engine plans convolutions; pooling is torch\'s.', copy: 'Copy', copied: 'Copied',
  share: 'Copy link', light: 'Light or dark', language: '中文', save: 'Save', 'save svg': 'Moving SVG', 'save gif': 'Moving GIF', 'save png': 'PNG of the last steps', 'save html': 'Page for slides (HTML)', 'save frame': 'SVG of this frame', 'save pdf': 'Print or PDF', 'link copied': 'Link copied', nearest: 'nearest legal:',
  'model picture': 'the model, tensor by tensor: arrows go from one to the next', 'model hint': 'Click a place of a tensor: what it reads lights up, back to the input. Wheel or + and − zoom, dragging moves, arrows go on, with Shift inside a tensor.', nearer: 'Nearer', farther: 'Farther', 'whole model': 'The whole model', 'model sizes': 'Sizes that it takes', 'reads of the input': 'reads of the input:', nothing: 'nothing', 'model findings': 'What was found, and where', 'find layer': 'find a layer …', 'all through': 'and all of it through',
  modes: 'What to see', 'mode numbers': 'Numbers', 'mode picture': 'Picture', 'mode model': 'Model', 'picture title': 'A photograph through this layer', 'kernel of the picture': 'kernel', 'learned kernels': 'learned by', upload: 'Your own picture …', shipped: 'The shipped one', cure: 'cure the pattern (equalize_)',
  'picture hint': 'Point at a picture: the lenses look at one place, and its output pixel is shown in numbers. Shift and arrows move far.', 'pixel keys': 'output: arrows move from pixel to pixel', 'grey is zero': 'grey is 0', 'pattern share': 'pattern in this picture', rows: 'rows', columns: 'columns', 'lines have': 'lines, times their neighbours:',
  'photo input': 'input', 'photo output': 'output', 'photo nearest': 'nearest', 'photo bilinear': 'bilinear', 'photo spectrum': 'spectrum', 'kernel typed': 'as typed', 'kernel linear': 'linear', 'kernel equal': 'all equal', 'kernel blur': 'blur', 'kernel edges': 'edges', 'kernel outline': 'outline', 'kernel sharpen': 'sharpen', 'kernel emboss': 'emboss', 'kernel random': 'random',
  'example': 'Examples',
}

const ZH = {
  skip: '跳到图示', layer: '层（PyTorch 写法）', examples: '示例', parameters: '参数', picture: '层的工作过程', answers: '解答',
  views: '视图', 'view window': '滑动窗口', 'view stamps': '盖印', 'view zeros': '插零', 'view matrix': '矩阵', 'view short': '共享乘积', 'view phases': '相位', 'view gradient': '梯度', 'view channels': '通道', 'view pair': '并排', 'view unpool': '反池化',
  first: '回到开头 (Home)', back: '上一步 (←)', play: '播放 (空格)', pause: '暂停 (空格)', on: '下一步 (→)', last: '到末尾', step: '步', speed: '速度', slow: '慢', normal: '正常', fast: '快',
  hint: '← → 单步 · 空格播放 · f 全屏 · 指向单元格查看公式 · 点击输入或卷积核中的数字可修改',
  alone: '仅显示图示，全屏 (f)', 'follow it': '改用可逐步看清的尺寸', 'save output': '输出 PNG', 'save model': '模型 SVG',
  'about window': '每个输出是加权和：卷积核盖在输入上，每个数与其下的数相乘后全部相加。从一个输出到下一个，窗口移动一个步幅。',
  'about stamps': '每个输入乘以整个卷积核，盖印到输出上；从一个输入到下一个，印移动一个步幅。重叠处相加，填充裁去边缘。',
  'about zeros': '用普通卷积得到同样的输出：在输入之间插入 步幅 − 1 个零，把卷积核翻转后逐格滑动。定义简单，但大多数乘积都是乘零。',
  'about A sparse matrix': '每个输出是一行数与全部输入之积：读取处为卷积核，其余为零。因此该层就是一个矩阵，这里写出了全部。',
  'about A sparse matrix, that of the convolution turned over': '写成矩阵，同一卷积核的卷积矩阵行列互换：矩阵被转置，名称由此而来。',
  'about short': '相邻输出读取的输入有重叠。输入之和乘以核元素之和可供多个输出使用，于是更少的乘法得到同样的数。',
  'about phases': '相隔一个步幅的输出用同样的核元素：它们是一个相位，每个相位是一个小卷积，从不乘零。各相位的核元素数不等时，相同的权重会留下棋盘纹。',
  'about The way back: gradients of input and kernel': '反向：输入得到的是所有读取它的输出之和，因此卷积的反向是转置卷积，转置卷积的反向是卷积。',
  'about pair': '同样的窗口，两个方向：卷积读取窗口得到小图，转置卷积盖印得到大图。尺寸互换，但数值不会复原：它不是逆运算。',
  'about channels': '每个输出通道对本组的每个输入通道各有一个卷积核，并把结果相加。',
  'about The largest number under the window': '不乘也不学：每个窗口留下最大的数。', 'about The average of what is under the window': '窗口下的数同等计入：即权重相等的卷积。',
  'sizes only': '仅尺寸', conv: '卷积', conv_transpose: '转置卷积', max_pool: '最大池化', avg_pool: '平均池化', kind: '类型', axes: '维数', '1d': '一维', '2d': '二维', '3d': '三维',
  input: '输入', 'layer group': '层', channels: '通道', 'input size': '输入尺寸', 'padding low': 'padding 低侧', 'padding high': 'padding 高侧', 'per side': '分侧', together: '两侧相同',
  'field hint': '一个数，或每个轴一个：3, 5',
  'tab sizes': '尺寸', 'tab solver': '求解', 'tab pattern': '棋盘纹', 'tab speed': '速度', 'tab code': '代码',
  'output size': '输出尺寸', height: '高', width: '宽', depth: '深', length: '长',
  letters: 'i 输入，k 卷积核，s 步幅，d 膨胀，p₀ 与 p₁ 为两侧填充', 'letters transposed': 'i 输入，k 卷积核，s 步幅，d 膨胀，e 为 output_padding，p₀ 与 p₁ 为两侧填充',
  merits: '该层的优点与不足', 'merit sizes': '尺寸', 'merit centre': '中心', 'merit overlap': '重叠', 'merit seams': '接缝', 'merit cost': '代价', 'merit holes': '空洞', 'merit borders': '边界',
  good: '好', bad: '不好', so: '数值', from: '输入尺寸', to: '输出尺寸', 'or scale': '或倍数', solve: '求解', any: '任意', 'solver says': '所有给出这些尺寸的层，最好的在前。点击即可查看。',
  'layers found': '个层，最好的在前', 'no layer': '常用范围内没有这样的层。', 'every size': '任意尺寸', centred: '居中', even: '均匀', uneven: '不均匀', overlap: '重叠', holes: '空洞', 'multiply-adds': '次乘加',
  wait: '请稍候……', 'overlap output': '每个输出遇到的核元素数', 'overlap gradient': '每个输入收到的梯度数', 'overlap says': '不均匀处，相同的权重会留下棋盘纹。',
  ripple: '这些权重的波纹', 'ripple says': '：常数输入的响应中图案所占比例', 'ripple example': '常数 1 经过该卷积核后的一个周期。在图中修改权重即可看到变化。',
  'phases and fields': '相位及其读取范围', 'outputs at': '输出', taps: '核元素', 'inputs read': '读取的输入', cures: '解决办法',
  race: '在本机与 torch 比速度', racing: '比赛中……', predicted: '本机预测', 'no plan': '引擎只规划卷积；池化由 torch 计算。', copy: '复制', copied: '已复制',
  share: '复制链接', light: '明暗', language: 'English', save: '保存', 'save svg': '动态 SVG', 'save gif': '动态 GIF', 'save png': '末步 PNG', 'save html': '幻灯片用网页 (HTML)', 'save frame': '当前帧 SVG', 'save pdf': '打印或 PDF', 'link copied': '链接已复制', nearest: '最近的合法值：',
  'model picture': '模型，逐个张量：方向键前后移动', 'model hint': '点击张量中的一处：它读取的部分一直亮到输入。滚轮或 + − 缩放，拖动移动。', nearer: '放大', farther: '缩小', 'whole model': '整个模型', 'model sizes': '可接受的尺寸', 'reads of the input': '读取输入的', nothing: '无', 'model findings': '发现的问题及位置', 'find layer': '查找层……', 'all through': '并通过以下各层读取全部：',
  'fact operators': '算子', 'fact output': '输出', 'fact kind': '类型', 'fact multiply-adds': '乘加次数', 'fact parameters': '参数', 'fact length': '长', 'fact depth': '深', 'fact height': '高', 'fact width': '宽', 'fact whole image': '整幅图像', 'fact misaligned': '未对齐', 'fact wraps around': '循环', 'fact not understood': '未能理解', 'fact engine': '引擎', 'fact predicted': '预测', 'fact left out': '略去', 'fact work': '计算量', 'fact memory': '内存', 'fact field': '感受野', 'fact sizes': '尺寸', 'fact halo': '边缘', 'fact note': '注',
  'fact result': '结果', 'fact algorithm': '算法', 'fact bound': '误差界', 'fact phases': '相位', 'fact register tile': '寄存器块', 'fact box': '块', 'fact strip': '条带', 'fact tasks': '任务', 'fact kernel': '内核', 'fact declines': '不计算',
  modes: '看什么', 'mode numbers': '数字', 'mode picture': '图片', 'mode model': '模型', 'picture title': '照片经过这一层', 'kernel of the picture': '卷积核', 'learned kernels': '学到的卷积核：', upload: '你的图片……', shipped: '自带照片', cure: '消除棋盘纹 (equalize_)',
  'picture hint': '指向图片：所有放大镜看同一处，并以数字显示输出像素。Shift 加方向键移动更远。', 'pixel keys': '输出：方向键逐像素移动', 'grey is zero': '灰色为 0', 'pattern share': '图中的图案', rows: '行', columns: '列', 'lines have': '谱线为邻近的',
  'photo input': '输入', 'photo output': '输出', 'photo nearest': '最近邻', 'photo bilinear': '双线性', 'photo spectrum': '频谱', 'kernel typed': '键入的', 'kernel linear': '线性', 'kernel equal': '全相等', 'kernel blur': '模糊', 'kernel edges': '边缘', 'kernel outline': '轮廓', 'kernel sharpen': '锐化', 'kernel emboss': '浮雕', 'kernel random': '随机',
  'example': '示例',
  'title The kernel slides over the input': '卷积核在输入上滑动', 'title Each input stamps the kernel': '每个输入盖印一次卷积核', 'title A convolution over zeros in between': '在插零的输入上做卷积',
  'title A sparse matrix': '稀疏矩阵', 'title A sparse matrix, that of the convolution turned over': '稀疏矩阵：卷积矩阵的转置', 'title Neighbouring outputs share products': '相邻输出共享乘积',
  'title Each phase is a convolution by its own taps': '每个相位是用自己的核元素做的卷积', 'title The way back: gradients of input and kernel': '反向：输入与卷积核的梯度', 'title A convolution and its transposed one, side by side': '卷积与其转置并排',
  'title The largest number under the window': '窗口下的最大值', 'title The average of what is under the window': '窗口下的平均值', 'title Every channel at once': '所有通道一起', 'title Each group of channels by itself': '每组通道各自计算',
  'title The way back: only the largest gets a gradient': '反向：只有最大者得到梯度', 'title The way back: equal parts': '反向：平均分配', 'title Unpooling puts each maximum back where it was': '反池化：把每个最大值放回原处', 'title A sparse matrix, which the input chooses': '由输入选择的稀疏矩阵',
}

const GRIDS = [
  ['the convolution reads, padded', '卷积读取（已填充）'], ['the convolution reads', '卷积读取'], ['and writes', '并写出'], ['the transposed one stamps', '转置卷积盖印'], ['for its input', '对应它的输入'], ['largest', '最大值'], ['indices', '下标'], ['unpooled', '反池化结果'],
  [/^kernel of output (\d+)$/, '输出 $1 的卷积核'], [/^kernel (\d+), channel (\d+)$/, '卷积核 $1，通道 $2'], [/^sum, channel (\d+)$/, '通道 $1 之和'], [/^(.+) times kernel (\d+), (\d+)$/, '$1 乘卷积核 $2, $3'],
  ['gradient of the output', '输出的梯度'], ['gradient of the input', '输入的梯度'], ['gradient of the kernel', '卷积核的梯度'],
  ['input, zeros between and around', '输入，其间与四周为零'], ['input, zeros around', '输入，四周为零'], ['input, zeros between', '输入，其间为零'], [/^kernel (\d+), (\d+)$/, '卷积核 $1, $2'], ['input, padded', '输入（已填充）'], ['kernel, turned round', '翻转的卷积核'], ['stamps', '各次盖印'], ['stamps so far', '已盖的印'], ['stamps added up', '印的总和'],
  ['sums of inputs', '输入之和'], ['sums of the kernel', '卷积核之和'], ['products', '乘积'], [/^(.+) times the kernel$/, '$1 乘卷积核'], ['matrix', '矩阵'], ['kernel', '卷积核'], ['output', '输出'], ['input', '输入'],
]
const CAPTIONS = [
  [/^phase (\d+) of (\d+): /, '相位 $1（共 $2）：'], [/(^|：)no tap reaches output (.+): (.+)$/, '$1没有核元素到达输出 $2：$3'],
  [/^gradient (.+) = (.+): (.+) times the kernel is added to the input's, (.+) times what it read to the kernel's$/, '梯度 $1 = $2：卷积核的 $3 倍加到输入的梯度，所读内容的 $4 倍加到卷积核的梯度'],
  [/^input (.+): the kernel times the window is its gradient, (.+); (.+) times the window is added to the kernel's$/, '输入 $1：卷积核乘窗口是它的梯度 $2；窗口的 $3 倍加到卷积核的梯度'],
  [/^gradient (.+) = (.+) goes to (.+) at (.+), which won$/, '梯度 $1 = $2 归于胜出的 $3，位于 $4'], [/^gradient (.+) = (.+) gives (.+) to each that was read$/, '梯度 $1 = $2 给每个被读取者 $3'],
  [/^output (.+) = (.+) was input (.+), counted row by row: it goes back there, all else is 0$/, '输出 $1 = $2 是第 $3 个输入（逐行计数）：放回原处，其余为 0'],
  [/^output (.+) of channel (\d+) = /, '通道 $2 的输出 $1 = '], [/^input (.+) of channel (\d+) = (.+) stamps on every output channel$/, '通道 $2 的输入 $1 = $3 盖印到每个输出通道'], [/^input (.+) of channel (\d+) = (.+) stamps on the output channels of its group$/, '通道 $2 的输入 $1 = $3 盖印到本组的输出通道'],
  [/^(.+): the same window is read on the way down and stamped on the way up$/, '$1：向下时读取的窗口，正是向上时盖印的窗口'], ['the way back is the transposed layer', '反向就是转置层'], ['the way back is the convolution', '反向就是卷积'],
  ['what lies on the padding is dropped', '落在填充上的被丢弃'], ['what lies on the padding is added to the inputs that it repeats', '落在填充上的加到它所重复的输入'], [/the bias gets the sum (\S+)/, '偏置得到总和 $1'], [/, and the padding cropped/, '，再裁去填充'], 
  [/(^|：)outputs? /, '$1输出 '], [/([:：]) ?nothing = /, '$1 无 = '], [/^input (.+) = (.+) stamps at (.+)$/, '输入 $1 = $2，印在 $3'], [/^row (\d+): /, '第 $1 行：'], ['the stamps added up', '所有的印相加'], ['the padding crops what lies outside of the output', '填充裁去输出之外的部分'],
  [/the bias (\S+) is added/, '加上偏置 $1'], [/(\d+) products instead of (\d+)/, '用 $1 次乘法代替 $2 次'], [/(\d+) products?$/, '$1 次乘法'], [/(\d+) products?(?=[;,])/, '$1 次乘法'], [/(\d+) taps each/, '每相 $1 个核元素'], [/(\d+) to (\d+) taps/, '$1 到 $2 个核元素'],
  ['; no zero is multiplied', '；不乘任何零'], [/ phases, /, ' 个相位，'], [/^phase \((.+)\): (\d+) outputs, each a sum over (.+) taps$/, '相位 ($1)：$2 个输出，各为 $3 个核元素之和'], [/^phase \((.+)\): no tap reaches its (\d+) outputs, which hold the bias alone$/, '相位 ($1)：没有核元素到达这 $2 个输出，只有偏置'],
]

let now = EN
export function speak(language) {
  now = language === 'zh' ? ZH : EN
  document.documentElement.lang = language === 'zh' ? 'zh' : 'en'
  document.querySelectorAll('[data-word]').forEach(one => { one.textContent = word(one.dataset.word) })
}
export const word = (name, otherwise) => now[name] ?? (otherwise !== undefined ? otherwise.replace(/^title /, '') : EN[name]) ?? name
export const through = (text, table) => now === EN ? text : table.reduce((said, [from, to]) => said.replace(from, to), text)
export const caption = text => through(text, CAPTIONS)
// Slices and channels keep their numbers, the rest of a title is looked up.
export const titled = text => {
  if (now !== ZH) return text
  const part = /^(.+), (slice|channel) (\d+)$/.exec(text)
  const found = GRIDS.find(([from]) => from instanceof RegExp ? from.test(text) : from === text)
  if (found) return text.replace(...found)
  return part ? `${titled(part[1])}，${part[2] === 'slice' ? '切片' : '通道'} ${part[3]}` : text
}
