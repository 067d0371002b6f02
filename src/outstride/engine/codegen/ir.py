"""A small writer of LLVM IR text: typed values, structured loops, mutable variables.

The writer emits text and nothing else. Python integers stand for i64 constants and fold, so that the code
which uses it reads like the loop nest that it describes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

I64 = "i64"
PTR = "ptr"


@dataclass(frozen=True)
class Value:
    """An SSA value: its name in the text and its LLVM type."""

    name: str
    type: str


Operand = Value | int


def vector_type(lanes: int, element: str) -> str:
    """The LLVM type of `lanes` elements; a single lane is the element itself."""
    return f"<{lanes} x {element}>" if lanes > 1 else element


class Function:
    """One LLVM function under construction."""

    def __init__(
        self, name: str, parameters: Sequence[tuple[str, str]], *, internal: bool = False, rare: bool = False
    ) -> None:
        """`internal`: only its module calls it; `rare`: it runs so seldom that its speed does not matter."""
        self.name = name
        self.rare = rare
        self.parameters = [Value(f"%{n}", t) for n, t in parameters]
        self.internal = internal
        self._entry: list[str] = []
        self._lines: list[str] = []
        self._count = 0
        self.declarations: set[str] = set()

    # -- text ------------------------------------------------------------------------------------------------
    def text(self) -> str:
        """The function's definition as LLVM IR text."""
        heads = ", ".join(f"{p.type}{' noalias' if p.type == PTR else ''} {p.name}" for p in self.parameters)
        linkage = "internal " if self.internal else ""
        body = "\n".join(["entry:", *self._entry, "  br label %start", "start:", *self._lines, "  ret void"])
        return f"define {linkage}void @{self.name}({heads}) #{int(self.rare)} {{\n{body}\n}}\n"

    def _fresh(self) -> str:
        self._count += 1
        return f"%v{self._count}"

    def _label(self, stem: str) -> str:
        self._count += 1
        return f"{stem}{self._count}"

    def emit(self, type_: str, instruction: str) -> Value:
        """Append an instruction that yields a value of `type_`."""
        name = self._fresh()
        self._lines.append(f"  {name} = {instruction}")
        return Value(name, type_)

    def effect(self, instruction: str) -> None:
        """Append an instruction that yields nothing."""
        self._lines.append(f"  {instruction}")

    def call(self, result: str, name: str, *arguments: Value | str) -> Value:
        """Call an intrinsic, declaring it once a module."""
        types = [a.type if isinstance(a, Value) else a.rsplit(" ", 1)[0] for a in arguments]
        self.declarations.add(f"declare {result} @{name}({', '.join(types)})")
        words = ", ".join(f"{a.type} {a.name}" if isinstance(a, Value) else a for a in arguments)
        if result == "void":
            self.effect(f"call void @{name}({words})")
            return Value("", "void")
        return self.emit(result, f"call {result} @{name}({words})")

    def load_first(self, type_: str, base: Value, index: int) -> Value:
        """Entry `index` of a table of 8-byte entries, loaded before all else; `base` is a parameter."""
        pointer, name = self._fresh(), self._fresh()
        self._entry.append(f"  {pointer} = getelementptr inbounds i64, ptr {base.name}, i64 {index}")
        self._entry.append(f"  {name} = load {type_}, ptr {pointer}, align 8")
        return Value(name, type_)

    def prefetch(self, pointer: Value, *, write: bool = False) -> None:
        """Prefetch the cache line at an address that will be read or written soon; any address will do."""
        self.call("void", "llvm.prefetch.p0", pointer, f"i32 {int(write)}", "i32 3", "i32 1")

    def run(self, function: str | Value, *arguments: Operand) -> None:
        """Call a function of the module, by name or through a pointer; integers are i64."""
        target = f"@{function}" if isinstance(function, str) else function.name
        words = ", ".join(f"{a.type if isinstance(a, Value) else I64} {self.ref(a)}" for a in arguments)
        self.effect(f"call void {target}({words})")

    # -- integers --------------------------------------------------------------------------------------------
    @staticmethod
    def ref(x: Operand) -> str:
        """The operand as it stands in the text."""
        return str(x) if isinstance(x, int) else x.name

    def _binary(self, opcode: str, a: Operand, b: Operand) -> Value:
        return self.emit(I64, f"{opcode} i64 {self.ref(a)}, {self.ref(b)}")

    def add(self, a: Operand, b: Operand) -> Operand:
        """a + b."""
        if isinstance(a, int) and isinstance(b, int):
            return a + b
        if b == 0:
            return a
        return b if a == 0 else self._binary("add nsw", a, b)

    def sub(self, a: Operand, b: Operand) -> Operand:
        """a - b."""
        if isinstance(a, int) and isinstance(b, int):
            return a - b
        return a if b == 0 else self._binary("sub nsw", a, b)

    def mul(self, a: Operand, b: Operand) -> Operand:
        """a * b."""
        if isinstance(a, int) and isinstance(b, int):
            return a * b
        if a == 0 or b == 0:
            return 0
        if b == 1:
            return a
        return b if a == 1 else self._binary("mul nsw", a, b)

    def div(self, a: Operand, b: Operand) -> Operand:
        """a // b for a >= 0, b > 0."""
        if isinstance(a, int) and isinstance(b, int):
            return a // b
        return a if b == 1 else self._binary("udiv", a, b)

    def rem(self, a: Operand, b: Operand) -> Operand:
        """a % b for a >= 0, b > 0."""
        if isinstance(a, int) and isinstance(b, int):
            return a % b
        return 0 if b == 1 else self._binary("urem", a, b)

    def minimum(self, a: Operand, b: Operand) -> Operand:
        """min(a, b), signed."""
        if isinstance(a, int) and isinstance(b, int):
            return min(a, b)
        return self.call(I64, "llvm.smin.i64", self.i64(a), self.i64(b))

    def maximum(self, a: Operand, b: Operand) -> Operand:
        """max(a, b), signed."""
        if isinstance(a, int) and isinstance(b, int):
            return max(a, b)
        return self.call(I64, "llvm.smax.i64", self.i64(a), self.i64(b))

    def i64(self, a: Operand) -> Value:
        """The operand as a value of type i64."""
        return Value(str(a), I64) if isinstance(a, int) else a

    def compare(self, predicate: str, a: Operand, b: Operand) -> Value:
        """An i1: `predicate` is slt, sle, eq, ne, sge, sgt, ult."""
        return self.emit("i1", f"icmp {predicate} i64 {self.ref(a)}, {self.ref(b)}")

    def select(self, condition: Value, a: Operand, b: Operand) -> Value:
        """A if condition else b (of one type; integers are i64)."""
        type_ = a.type if isinstance(a, Value) else I64
        return self.emit(type_, f"select i1 {condition.name}, {type_} {self.ref(a)}, {type_} {self.ref(b)}")

    def both(self, a: Value, b: Value) -> Value:
        """A and b, of conditions."""
        return self.emit("i1", f"and i1 {a.name}, {b.name}")

    def negate(self, condition: Value) -> Value:
        """Not `condition`."""
        return self.emit("i1", f"xor i1 {condition.name}, true")

    def word(self, condition: Value) -> Value:
        """A condition as an i64: 1 or 0."""
        return self.emit(I64, f"zext i1 {condition.name} to i64")

    def i32(self, a: Operand) -> Value:
        """The low half of an i64."""
        return self.emit("i32", f"trunc i64 {self.ref(a)} to i32")

    def ceil_div(self, a: Operand, b: Operand) -> Operand:
        """ceil(a / b) for a >= 0, b > 0."""
        return self.div(self.add(a, self.sub(b, 1)), b)

    # -- memory ----------------------------------------------------------------------------------------------
    def at(self, pointer: Value, index: Operand, element: str) -> Value:
        """&pointer[index] of elements of the given type."""
        if index == 0:
            return pointer
        return self.emit(PTR, f"getelementptr {element}, ptr {pointer.name}, i64 {self.ref(index)}")

    def load(self, type_: str, pointer: Value, align: int) -> Value:
        """Load a value of `type_`."""
        return self.emit(type_, f"load {type_}, ptr {pointer.name}, align {align}")

    def store(self, value: Value, pointer: Value, align: int, *, nontemporal: bool = False) -> None:
        """Store a value; with `nontemporal` straight to memory, for which it is aligned to its size."""
        hint = ", !nontemporal !0" if nontemporal else ""
        self.effect(f"store {value.type} {value.name}, ptr {pointer.name}, align {align}{hint}")

    def bytes_to_multiple(self, pointer: Value, size: int) -> Value:
        """Bytes from an address to the next multiple of a power of two."""
        address = self.emit(I64, f"ptrtoint ptr {pointer.name} to i64")
        return self.emit(I64, f"and i64 {self.ref(self.sub(0, address))}, {size - 1}")

    def load_i64(self, pointer: Value, index: Operand) -> Value:
        """Entry `index` of an array of i64."""
        return self.load(I64, self.at(pointer, index, I64), 8)

    def load_i32(self, pointer: Value, index: Operand) -> Value:
        """Entry `index` of an array of i32, sign-extended."""
        word = self.load("i32", self.at(pointer, index, "i32"), 4)
        return self.emit(I64, f"sext i32 {word.name} to i64")

    # -- variables -------------------------------------------------------------------------------------------
    def variable(self, type_: str, initial: Value | None = None) -> Value:
        """A mutable variable: its address; the optimiser turns it into a register."""
        name = f"%m{len(self._entry)}"
        self._entry.append(f"  {name} = alloca {type_}, align 64")
        address = Value(name, PTR)
        if initial is not None:
            self.set(address, initial)
        return address

    def get(self, address: Value, type_: str) -> Value:
        """Read a variable."""
        return self.emit(type_, f"load {type_}, ptr {address.name}")

    def set(self, address: Value, value: Value) -> None:
        """Write a variable."""
        self.effect(f"store {value.type} {value.name}, ptr {address.name}")

    # -- control ---------------------------------------------------------------------------------------------
    def _start(self, label: str) -> None:
        self._lines.append(f"{label}:")

    @contextmanager
    def loop(self, start: Operand, stop: Operand, step: Operand = 1) -> Iterator[Value]:
        """`for i in range(start, stop, step)`."""
        head, body, latch, done = (self._label(s) for s in ("head", "body", "latch", "done"))
        before = self._label("before")
        self.effect(f"br label %{before}")
        self._start(before)
        self.effect(f"br label %{head}")
        self._start(head)
        index = self._fresh()
        following = self._fresh()
        self.effect(f"{index} = phi i64 [ {self.ref(start)}, %{before} ], [ {following}, %{latch} ]")
        go = self.compare("slt", Value(index, I64), stop)
        self.effect(f"br i1 {go.name}, label %{body}, label %{done}")
        self._start(body)
        yield Value(index, I64)
        self.effect(f"br label %{latch}")
        self._start(latch)
        self.effect(f"{following} = add nsw i64 {index}, {self.ref(step)}")
        self.effect(f"br label %{head}")
        self._start(done)

    @contextmanager
    def when(self, condition: Value) -> Iterator[None]:
        """`if condition:`."""
        then, after = self._label("then"), self._label("after")
        self.effect(f"br i1 {condition.name}, label %{then}, label %{after}")
        self._start(then)
        yield
        self.effect(f"br label %{after}")
        self._start(after)

    def cases(self, number: Operand, count: int) -> Iterator[int]:
        """`match number:`: what the caller writes for each number from 0 up runs for that number."""
        labels = [self._label("case") for _ in range(count)]
        after = self._label("after")
        table = " ".join(f"i64 {i}, label %{label}" for i, label in enumerate(labels))
        self.effect(f"switch i64 {self.ref(number)}, label %{after} [ {table} ]")
        for i, label in enumerate(labels):
            self._start(label)
            yield i
            self.effect(f"br label %{after}")
        self._start(after)

    @contextmanager
    def forever(self) -> Iterator[str]:
        """`while True:`; yields the label that leaves the loop."""
        body, done = self._label("body"), self._label("done")
        self.effect(f"br label %{body}")
        self._start(body)
        yield done
        self.effect(f"br label %{body}")
        self._start(done)

    def leave_when(self, condition: Value, done: str) -> None:
        """`if condition: break`."""
        on = self._label("on")
        self.effect(f"br i1 {condition.name}, label %{done}, label %{on}")
        self._start(on)


def module(functions: Sequence[Function], heading: str) -> str:
    """The module's text: heading as comments, declarations, definitions."""
    declarations = sorted(set().union(*(f.declarations for f in functions)))
    comments = "".join(f"; {line}\n" for line in heading.splitlines())
    vectors = 'nounwind "min-legal-vector-width"="512" "prefer-vector-width"="512"'
    attributes = f"attributes #0 = {{ {vectors} }}\nattributes #1 = {{ {vectors} noinline optnone }}\n"
    metadata = "!0 = !{i32 1}\n"  # what `!nontemporal` asks for
    return comments + "\n".join([*declarations, "", *(f.text() for f in functions), attributes, metadata])
