"""Classify text with convolutions: which part of Python's standard library does a docstring come from?

    python examples/text_cnn.py --out pictures

The network is the tutorial's, SAME pooling as TensorFlow has it included: words are embedded, a kernel as
wide as the embedding slides over them, its answers are pooled, a second kernel as wide as the filters slides
over those, and the largest answer over the whole text decides. The text is the documentation of the installed
standard library (no download): the 15 packages with the most docstrings are the classes, and a quarter of the
docstrings is held out. A minute or two.
"""

from __future__ import annotations

import ast
import re
import sysconfig
import warnings
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.svm import LinearSVC
from torch import Tensor

from outstride import nn
from training import Training, arguments, begin, save

STEPS, QUICK = 2000, 8
CLASSES, LENGTH, BATCH = 15, 100, 64
# What is no documentation of one package, or is not installed everywhere.
LEFT_OUT = {"test", "tests", "idle_test", "site-packages", "idlelib", "lib2to3", "turtledemo", "ensurepip"}
Text = tuple[str, ...]


class TextCNN(torch.nn.Module):
    """Words (N, LENGTH) -> scores (N, classes)."""

    def __init__(
        self, words: int, classes: int, embedding: int = 48, filters: int = 64, window: int = 4
    ) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(words, embedding)
        self.first = nn.Conv2d(1, filters, kernel_size=(window, embedding), padding="valid")
        self.pool = nn.MaxPool2d((4, 1), stride=(2, 1), padding="same")
        self.second = nn.Conv2d(1, filters, kernel_size=(window, filters), padding="valid")
        self.dropout = torch.nn.Dropout(0.3)
        self.scores = torch.nn.Linear(filters, classes)

    def forward(self, words: Tensor) -> Tensor:
        x = self.dropout(self.embedding(words)).unsqueeze(1)  # (N, 1, LENGTH, embedding)
        x = self.pool(self.first(x).relu())  # (N, filters, places, 1)
        x = x.transpose(1, 3)  # (N, 1, places, filters): the channels become the width
        x = self.second(x).squeeze(3).amax(2)  # the largest over all places
        scores: Tensor = self.scores(self.dropout(x))
        return scores

    @torch.no_grad()
    def predict(self, words: Tensor) -> dict[str, Tensor]:
        """The class of each text and the probability of every class."""
        self.eval()
        probabilities = self(words).softmax(1)
        return {"class": probabilities.argmax(1), "prob": probabilities}


@dataclass(frozen=True)
class Corpus:
    """Texts, the numbers of their classes, and the classes' names."""

    texts: list[Text]
    labels: list[int]
    names: list[str]

    def split(self, share: float, seed: int) -> tuple[list[int], list[int]]:
        """Numbers of the texts to learn from and of those that are held out."""
        order = np.random.default_rng(seed).permutation(len(self.texts)).tolist()
        cut = round(len(order) * (1 - share))
        return order[:cut], order[cut:]


def corpus(root: Path) -> Corpus:
    """The docstrings below a folder, by the package at its top; the same words are taken once only."""
    found: dict[str, list[Text]] = defaultdict(list)
    seen: set[Text] = set()
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).parts
        if LEFT_OUT & set(parts):
            continue
        for text in _docstrings(path):
            if len(text) >= 6 and text not in seen:
                seen.add(text)
                found[parts[0].removesuffix(".py").lstrip("_")].append(text)
    largest = sorted(found, key=lambda name: -len(found[name]))[:CLASSES]
    pairs = [(text, label) for label, name in enumerate(largest) for text in found[name]]
    return Corpus([text for text, _ in pairs], [label for _, label in pairs], largest)


def _docstrings(path: Path) -> list[Text]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # old code has escapes that Python warns of
        try:
            tree = ast.parse(path.read_text(encoding="utf-8"))
        except (SyntaxError, UnicodeDecodeError, ValueError):
            return []  # a file that is there to test the parser
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    texts = [ast.get_docstring(node) or "" for node in ast.walk(tree) if isinstance(node, kinds)]
    return [tuple(re.findall(r"[a-z_]+", text.lower())) for text in texts]


class Vocabulary:
    """The words that occur twice or more in what is learned from; 0 is no word, 1 any other."""

    def __init__(self, texts: list[Text]) -> None:
        counts = Counter(word for text in texts for word in text)
        kept = [word for word, count in counts.most_common() if count > 1]
        self.numbers = {word: number for number, word in enumerate(kept, 2)}

    def __len__(self) -> int:
        return len(self.numbers) + 2

    def encode(self, texts: list[Text]) -> Tensor:
        """(N, LENGTH): longer texts are cut, shorter ones filled up."""
        rows = [[self.numbers.get(word, 1) for word in text[:LENGTH]] for text in texts]
        return torch.tensor([row + [0] * (LENGTH - len(row)) for row in rows])


def linear_baseline(learned: list[Text], labels: list[int], unseen: list[Text], truth: list[int]) -> float:
    """Held-out accuracy of a linear classifier on weighted word counts (TF-IDF)."""
    counter = TfidfVectorizer(analyzer=lambda text: text, sublinear_tf=True, min_df=2)
    linear = LinearSVC(random_state=0).fit(counter.fit_transform(learned), labels)
    return float(linear.score(counter.transform(unseen), truth))


def train(
    model: TextCNN, words: Tensor, labels: Tensor, steps: int, seed: int, training: Training
) -> list[float]:
    """Softmax cross-entropy, Adam."""
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    slower = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    generator = torch.Generator().manual_seed(seed)

    def step(_: int) -> float:
        chosen = torch.randint(len(words), (BATCH,), generator=generator)
        loss = F.cross_entropy(model(words[chosen]), labels[chosen])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        slower.step()
        return loss.item()

    return training.run("docstrings", steps, step)


def picture(predicted: Tensor, truth: Tensor, names: list[str], losses: list[float], title: str) -> Figure:
    """Which package is taken for which, and the descent."""
    table = torch.zeros(len(names), len(names))
    table.index_put_((truth, predicted), torch.ones(len(truth)), accumulate=True)
    figure = Figure(figsize=(13, 6), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.imshow(table / table.sum(1, keepdim=True).clamp_min(1), cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(table.int().numpy()):
        if count:
            ink = "white" if count > table[row].sum() / 2 else "black"
            left.text(column, row, str(count), ha="center", va="center", fontsize=7, color=ink)
    left.set_xticks(range(len(names)), names, rotation=60, ha="right")
    left.set_yticks(range(len(names)), names)
    left.set_xlabel("predicted")
    left.set_ylabel("held-out docstrings of")
    left.set_title(title)
    right.plot(losses, lw=0.6)
    right.set_xlabel("step")
    right.set_ylabel("cross-entropy")
    return figure


def main() -> None:
    """Read, train, compare, predict, draw."""
    given = arguments("Classify the standard library's docstrings with convolutions.", STEPS, QUICK)
    torch.manual_seed(given.seed)
    found = corpus(Path(sysconfig.get_paths()["stdlib"]))
    learned, unseen = found.split(0.25, given.seed)
    texts, labels = [found.texts[i] for i in learned], [found.labels[i] for i in learned]
    held, truth = [found.texts[i] for i in unseen], [found.labels[i] for i in unseen]
    print(f"{len(texts)} docstrings to learn from, {len(held)} held out, of {', '.join(found.names)}")
    vocabulary, training = Vocabulary(texts), Training()
    model = TextCNN(len(vocabulary), len(found.names))
    words = vocabulary.encode(texts)
    losses = train(model, words, torch.tensor(labels), given.steps, given.seed, training)
    answer = model.predict(vocabulary.encode(held))
    right = float((answer["class"] == torch.tensor(truth)).float().mean())
    most = Counter(labels).most_common(1)[0][0]
    print(f"held-out accuracy: {right:.1%}")
    print(f"  always {found.names[most]}: {truth.count(most) / len(truth):.1%}")
    print(f"  linear, on word counts: {linear_baseline(texts, labels, held, truth):.1%}")
    for number in range(3):
        top = answer["prob"][number].topk(3)
        guesses = ", ".join(f"{found.names[i]} {p:.0%}" for p, i in zip(top.values, top.indices, strict=True))
        print(f'"{" ".join(held[number][:9])} ..." of {found.names[truth[number]]}: {guesses}')
    title = f"right {right:.1%} of {len(truth)}"
    save(
        picture(answer["class"], torch.tensor(truth), found.names, losses, title), given.out / "text_cnn.png"
    )
    training.exit()


if __name__ == "__main__":
    begin(main)
