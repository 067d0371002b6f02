"""Models by their names: what comes with them, and one sentence for whatever is none."""

from __future__ import annotations

import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from outstride.bench import targets
from outstride.bench.contenders import CONTENDERS
from outstride.bench.work import Work, check, residual, tensors
from outstride.errors import ArgumentError, UnsupportedError
from tests import ROOT
from tests.tolerance import assert_same_bits

ZOO = ROOT / "bench" / "models.py"
FROM_LIBRARIES = {"resnet50", "mobilenetv2", "efficientnet_b0", "convnext_tiny", "smp_unet"}
FILE = '''
import torch
from torch import nn
made = nn.Conv1d(1, 1, 1)
def net():
    """A net that somebody published.

    More of it."""
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()), torch.randn(2, 3, 9, 8)
def bare(): return nn.Conv2d(3, 4, 3)
def lacking(): import no_such_library
def listed(): return nn.Conv2d(3, 4, 3), [1, 2]
def three(): return 1, 2, 3
def sizes(width): return nn.Conv2d(3, width, 3)
def _hidden(): return nn.Conv2d(3, 4, 3)
'''


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("targets") / "some_models.py"
    path.write_text(FILE)
    return path


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("programs") / "net.pt2"
    torch.manual_seed(3)
    model = nn.Sequential(nn.Conv1d(2, 3, 3), nn.BatchNorm1d(3), nn.ReLU()).eval()
    torch.export.save(torch.export.export(model, (torch.randn(1, 2, 12),)), path)
    return path


def test_a_callable_gives_a_model_alone_or_with_its_input(file: Path) -> None:
    model, x = targets.build(f"{file}:net")
    assert isinstance(model, nn.Sequential)
    assert x is not None
    assert x.shape == (2, 3, 9, 8)
    assert targets.build(f"{file}:bare")[1] is None
    assert isinstance(targets.build(f"{file}:made")[0], nn.Conv1d)
    assert isinstance(targets.build("torch.nn:Identity")[0], nn.Identity)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("lacking", "raised ModuleNotFoundError: No module named 'no_such_library'"),
        ("absent", "raised AttributeError"),
        ("listed", "one tensor, its input: .* returned list"),
        ("three", "must return a torch module: .* returned tuple"),
        ("sizes", "raised TypeError"),
    ],
)
def test_what_is_no_model_is_said_in_one_sentence(file: Path, name: str, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        targets.build(f"{file}:{name}")


def test_public_functions_without_arguments_are_the_models_of_a_file(file: Path) -> None:
    found = targets.factories(str(file))
    assert list(found) == ["net", "bare", "lacking", "listed", "three"]
    assert found["net"] == "A net that somebody published."
    for where, message in (("no/such.py", "FileNotFoundError"), ("no_such_module", "ModuleNotFoundError")):
        with pytest.raises(ArgumentError, match=rf"'models' must be a Python file.*{message}"):
            targets.factories(where)
    with pytest.raises(ArgumentError, match="'models' must hold functions without arguments"):
        targets.factories("outstride.errors")


def test_work_takes_the_input_that_comes_or_the_shape_that_is_asked_for(file: Path) -> None:
    own = Work({"model": f"{file}:net"}, "float32", False)
    assert own.input.shape == (2, 3, 9, 8)
    assert not own.module.training
    weight = own.module.get_parameter("0.weight")
    own.let_go()
    again = own.module.get_parameter("0.weight")
    assert again is not weight
    assert_same_bits(again, weight)
    assert own.weight_bytes() == 4 * (4 * 3 * 9 + 4 + 4 * 4) + 8  # and the count of batches
    asked = Work({"model": f"{file}:net", "shape": [1, 3, 5, 5]}, "float64", True)
    assert (asked.input.shape, asked.input.dtype, asked.module.training) == (
        (1, 3, 5, 5),
        torch.float64,
        True,
    )
    with pytest.raises(ArgumentError, match="'--size' must be given for a model that comes without an input"):
        Work({"model": f"{file}:bare"}, "float32", False)


def test_a_saved_program_is_a_model_with_its_input(program: Path) -> None:
    source = {"model": str(program)}
    check(source, "float32", False)
    work = Work(source, "float32", False)
    exact = work.reference()
    assert exact[0].shape == (1, 3, 10)
    (form,) = CONTENDERS["torch"].forms(work, 1)
    assert residual(form.read(form.run()), exact) < 1e-5
    with pytest.raises(UnsupportedError, match="a saved program has none"):
        next(CONTENDERS["outstride"].forms(work, 1))
    with pytest.raises(ArgumentError, match="'--training' must be left out for a saved program"):
        Work(source, "float32", True)


def test_what_is_no_saved_program_is_refused_in_a_sentence_alone(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    other, archive = tmp_path / "other.pt2", tmp_path / "archive.pt2"
    other.write_text("no program")
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr("something", "else")
    for path in (other, archive, tmp_path / "absent.pt2"):
        with pytest.raises(
            ArgumentError, match=r"must be a program that torch\.export\.save wrote"
        ) as caught:
            targets.build(str(path))
        assert "above" not in str(caught.value)
    assert capfd.readouterr().err == ""


class _Sum(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x + y


def test_a_program_of_two_inputs_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "sum.pt2"
    torch.export.save(torch.export.export(_Sum(), (torch.ones(2), torch.ones(2))), path)
    with pytest.raises(ArgumentError, match=r"must take one tensor: .* takes Tensor, Tensor"):
        targets.build(str(path))


def test_all_tensors_of_a_result_are_compared() -> None:
    a, b, c = torch.ones(1), torch.ones(2), torch.ones(3)
    assert tensors(a) == (a,)
    assert tensors({"out": a, "more": [b, (c,)]}) == (a, b, c)
    nothing: list[object] = [3, [], {"out": None}]
    for wrong in nothing:
        with pytest.raises(ArgumentError, match="'MODEL' must return tensors: got"):
            tensors(wrong)


def test_the_models_of_the_repository_say_where_they_are_from() -> None:
    found = targets.factories(str(ZOO))
    assert len(found) == 16
    assert set(found) >= FROM_LIBRARIES
    assert all("https://" in about for about in found.values())


@pytest.mark.parametrize("name", sorted(set(targets.factories(str(ZOO))) - FROM_LIBRARIES))
def test_the_models_of_the_repository_take_their_inputs(name: str) -> None:
    """On a device that computes shapes alone."""
    with torch.device("meta"):
        model, x = targets.build(f"{ZOO}:{name}")
    assert x is not None
    assert x.device.type == "meta"
    with torch.no_grad():
        y = model.eval()(x)
    scale = {"fsrcnn": 2, "srvgg": 4, "vae_decoder": 8, "dcgan": 64}.get(name, 1)
    if name in ("hifigan", "bigvgan"):
        scale = 256
    assert y.shape[2:] == tuple(scale * size for size in x.shape[2:])


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(FROM_LIBRARIES))
def test_the_models_of_libraries_are_there_where_those_are(name: str) -> None:
    if find_spec("timm" if name != "smp_unet" else "segmentation_models_pytorch") is None:
        with pytest.raises(ArgumentError, match="raised ModuleNotFoundError"):
            targets.build(f"{ZOO}:{name}")
        return
    model, x = targets.build(f"{ZOO}:{name}")
    assert x is not None
    with torch.no_grad():
        assert model.eval()(x[..., :64, :64]).shape[0] == 1


@pytest.mark.slow
def test_timm_knows_names_and_sizes() -> None:
    pytest.importorskip("timm")
    model, x = targets.build("timm:resnet18")
    assert isinstance(model, nn.Module)
    assert x is not None
    assert x.shape == (1, 3, 224, 224)
    with pytest.raises(ArgumentError, match=r"a name that timm knows: got 'resnt18'; legal: timm:resnet18"):
        targets.build("timm:resnt18")
